"""Joins the segments of a job, and adds the input's other streams.

Nothing is encoded again. Sound, subtitles and other streams are never cut: they are read from the input in one pass, as
in a run without a job. Presentation times come from the records; decoding times are computed for the whole film.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtface.errors import InputError, InputMissing, Interrupted, Message, OutputError
from rtface.jobs.face_numbers import FaceNumbers
from rtface.jobs.figures import UNUSABLE, JobFigures
from rtface.jobs.film_source import open_whole
from rtface.jobs.folder import JobFolder
from rtface.jobs.pieces import Pieces
from rtface.jobs.plan import JobPlan
from rtface.media.files import fingerprint
from rtface.media.read.source import FileSource
from rtface.media.stills.folder_sink import FolderSink, StillEncoder
from rtface.media.stills.images import SequenceSource
from rtface.media.write.film_file import FilmFile
from rtface.media.write.stream_plan import OutputPlan
from rtface.pipeline.compare import FURTHER
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.plan import RunPlan
from rtface.report import Report
from rtface.stats import Stats

# Seconds by which frames are written later than the other streams, as if an encoder delayed them. This matters because
# the very first packet determines by how much a container shifts negative times.
_DELAY_S = 1


class Join:
    """Writes the films of a job whose segments are all finished.

    Args:
        folder, plan: folder and plan of the job.
        film: plan of the film, made before the run.
        report: receives the figures of all segments.
        stats: receives counters and warnings.
        stop: ends the join when set.

    Attributes:
        names: file names of the written stills, in order.
    """

    def __init__(
        self, folder: JobFolder, plan: JobPlan, film: FilmPlan, report: Report, stats: Stats, stop: threading.Event
    ) -> None:
        run = film.frames
        assert isinstance(run, RunPlan)
        self._folder, self._plan, self._film = folder, plan, film
        self._target = run.outputs["film"]
        self._report, self._stats, self._stop = report, stats, stop
        self._paths = [target.path for name, target in run.outputs.items() if name in ("film", *FURTHER)]
        self.names: list[str] = []

    def write(self, figures: JobFigures) -> None:
        """Joins the films. Each appears under its name in one step, the output last.

        Args:
            figures: figures from `read`.

        Raises:
            InputError: the film cannot be read.
            OutputError: the output cannot be written.
            Interrupted: the join was stopped.
        """
        remove_unfinished(self._paths)
        self._plan.check_film()
        with closing(open_whole(self._film.frames, hold=self._film.folder is None)) as source:
            try:
                self._join(source, figures)
            except BaseException as error:
                remove_unfinished(self._paths)
                if isinstance(error, OutputError):
                    error.message += Message(
                        "; all segments stay in {folder}; fix the cause, then the same command joins them",
                        code="segments_stay",
                        folder=self._folder.path,
                    )
                raise

    def _join(self, source: FileSource | SequenceSource, figures: JobFigures) -> None:
        self._film.describe(self._report)
        self._report.decoder = source.info.decoder
        fingerprints = dict[str, Any]()
        with ExitStack() as stack:
            output_film = (
                self._write_stills(source, stack) if self._film.folder else self._write(source, figures, stack)
            )
            films: dict[str, FilmFile | FolderSink] = {"": output_film}
            for name, plan in self._film.further.items():
                if name == "comparison":
                    plan.metadata.update(self._film.frames.tags("+".join(figures.engines)))
                films[name] = film = self._open(plan, self._pieces[name], Stats(), stack)
                film.changed.change = figures.changed.change
                for packet in self._pieces[name].packets(film, self._records()):
                    self._check_stop()
                    film.put(packet)
                self._pieces[name].check_header(film)
            for path, film in zip(self._paths, films.values(), strict=True):
                film.complete()
                fingerprints[str(path)] = None if isinstance(film, FolderSink) else fingerprint.fingerprint(film.work)
            self._folder.write(self._folder.joining, fingerprints)  # before any film gets its final name
            for film in reversed(films.values()):  # the output gets its name last
                film.finish()

    def read(self) -> tuple[JobFigures, list[int], str]:
        """Checks all segment files. Returns the figures, the numbers of segments to make again, and the reason.

        Raises:
            InputError: the disk fails, or the segments' headers differ.
            OutputError: there is no frame.
            Interrupted: the check was stopped.
        """
        folder, further = self._folder, self._plan.run["further"]
        self._frames = Pieces(folder, (self._plan.video or {}).get("encoder", ""))
        self._pieces = {name: Pieces(folder, film["encoder"], name) for name, film in further.items()}
        numbered = FaceNumbers(self._folder, self._plan).highest
        figures, damaged, why = JobFigures(numbered, float(self._plan.begins)), list[int](), ""
        all_pieces = [self._frames, *self._pieces.values()]
        for number in range(len(self._plan)):
            self._check_stop()
            try:
                record = self._folder.read(self._folder.record(number)) or {}
                figures.add(record)
                if (number, record["counters"]["frames_out"]) != (record["segment"], record["frames"]):
                    raise ValueError("it belongs to another segment, or its frame counts differ")
                for pieces in all_pieces if record["frames"] else ():
                    pieces.file(record).check()
            except InputError as error:
                if isinstance(error.__cause__, OSError) and not isinstance(error, InputMissing):
                    raise  # the disk fails; the file itself may be intact
                damaged.append(number)
                why = str(error)
            except UNUSABLE as error:
                damaged.append(number)
                why = f"{self._folder.record(number)}: is missing or cannot be used ({error!r})"
            else:
                for pieces in all_pieces if record["frames"] else ():
                    pieces.add(number, record)
        if not damaged and not self._frames.base:
            raise OutputError(
                "{path}: no frames arrived, so nothing was written", code="film_no_frame", path=self._target.shown
            )
        return figures, damaged, why

    def _open(self, output: OutputPlan, pieces: Pieces, stats: Stats, films: ExitStack) -> FilmFile:
        """Opens the file into which a film is written."""
        output.video.time_base = pieces.base
        film = FilmFile(output, stats, threads=1, work=_work_path(output.target.path), partial=False)
        films.callback(film.abort, keep_partial=False)
        return film

    def _write(self, source: FileSource | SequenceSource, figures: JobFigures, films: ExitStack) -> FilmFile:
        """Writes frames and the packets of other streams, interleaved by time."""
        output = self._film.streams
        assert output is not None
        output.reopened(source.info)
        output.metadata.update(self._film.frames.tags("+".join(figures.engines)))
        film = self._open(output, self._frames, self._stats, films)
        film.changed = figures.changed
        packets = self._frames.packets(film, self._records())
        packet = next(packets, None)
        base, origin = film.plan.video.time_base, self._plan.origin
        for item in source.others():
            self._check_stop()
            if not isinstance(item, Fraction):
                film.take(item)
                continue
            time = item - origin - _DELAY_S
            while packet is not None and (packet.pts or 0) * base <= time:
                film.put(packet)
                packet = next(packets, None)
        while packet is not None:
            self._check_stop()
            film.put(packet)
            packet = next(packets, None)
        self._frames.check_header(film)
        return film

    def _write_stills(self, source: FileSource | SequenceSource, films: ExitStack) -> FolderSink:
        """Writes the stills of a folder. Unchanged stills are copied from the input."""
        work, scans = _work_path(self._target.path), source if isinstance(source, SequenceSource) else None
        stills = StillEncoder(source.info, self._plan.run["folder"] or "", scans)
        sink = FolderSink(self._target, stills, stats=self._stats, work=work, partial=False)
        films.callback(sink.abort, keep_partial=False)
        for record in self._records():
            for data, (pts, *_) in self._frames.file(record).packets():
                self._check_stop()
                sink.put(data or None, pts)
        self.names = sink.names
        return sink

    def _records(self) -> Iterator[dict[str, Any]]:
        """Yields the records of all segments that have frames."""
        for number in range(len(self._plan)):
            record = self._folder.read(self._folder.record(number))
            if record["frames"]:
                yield record

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted


def note_signed(folder: JobFolder, output: Path) -> None:
    """Records a signed output's fingerprint, by which the next call recognises it."""
    folder.write(folder.joining, (folder.read(folder.joining) or {}) | {str(output): fingerprint.fingerprint(output)})


def named_films(folder: JobFolder, films: Iterable[Path]) -> set[Path]:
    """Returns the films that a killed join had already renamed. A folder of stills counts as soon as the join may have
    started to publish it. For films, contents are compared, because inode numbers are reused."""
    fingerprints, published = folder.read(folder.joining) or {}, set[Path]()
    for path in (path.resolve() for path in films):
        if str(path) in fingerprints and os.path.lexists(path):
            recorded = fingerprints[str(path)]
            if path.is_dir() if recorded is None else fingerprint.same(recorded, path):
                published.add(path)
    return published


def remove_unfinished(films: Iterable[Path]) -> None:
    """Removes the working files that a killed join left behind."""
    for work in (_work_path(path.resolve()) for path in films):
        shutil.rmtree(work, ignore_errors=True)  # a folder of stills
        with suppress(OSError):
            work.unlink(missing_ok=True)


def _work_path(path: Path) -> Path:
    """Returns a film's path during a join. It is always the same, so that the next call finds the file."""
    return path.with_name(f".{path.stem}.joining{path.suffix}")
