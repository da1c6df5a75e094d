"""Joins the segments of a job to the film: their encoded frames, and all other streams from the input.

Nothing is encoded again, and sound, subtitles and other streams are never cut: they are read from the input once, as
in a run without a job. Times of presentation are those of the records; times of decoding are made for the whole film.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av

from rtface._version import __version__
from rtface.errors import InputError, Interrupted, OutputError
from rtface.jobs.figures import JobFigures
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.segment_file import SegmentFile, Times, same_header
from rtface.media.film_file import FilmFile
from rtface.media.muxer import AnyPacket
from rtface.media.provenance import describe
from rtface.media.source import FileSource
from rtface.media.stream_plan import OutputPlan
from rtface.media.workfile import Target, work_name
from rtface.options import Options
from rtface.pipeline.build import plan_film_output
from rtface.report import Report, metadata_options
from rtface.stats import Stats

# Seconds of the film that frames stay behind the other streams, as they do behind an encoder: the first packet of all
# decides by how much a container moves negative times.
_BEHIND_S = 1


class DamagedSegments(Exception):
    """Segments whose files are missing or damaged; they have to be made again."""

    def __init__(self, numbers: list[int], why: str) -> None:
        super().__init__(why)
        self.numbers = numbers


class Join:
    """Writes the output of a job whose segments are all finished.

    Args:
        folder, plan: of the job.
        target: the output, checked.
        options: of the run.
        report: is filled with the figures of all segments.
        stats: receives counters and warnings.
        stop: ends it when set.
    """

    def __init__(self, folder: JobFolder, plan: JobPlan, target: Target, options: Options, report: Report,
                 stats: Stats, stop: threading.Event) -> None:
        self._folder, self._plan, self._target = folder, plan, target
        self._options, self._report, self._stats, self._stop = options, report, stats, stop

    def run(self) -> JobFigures:
        """Joins; the output appears under its name in one step.

        Raises:
            DamagedSegments: some have to be made again.
            InputError: the film cannot be read, or segments were encoded with different headers.
            OutputError: the output cannot be written.
            Interrupted: it was stopped.
        """
        figures, delay, base, header = self._read_records()
        source = FileSource(self._plan.source, start=self._options.start, end=self._options.end, threads=1,
                            stats=Stats(), strict=self._options.strict)
        try:
            output = self._plan_output(source, figures)
            output.video.time_base = base
            film = self._open(output)
            try:
                film.corrected = figures.corrected
                self._write(film, source, delay, header)
                self._folder.write(self._folder.joining, {**self._work(film), "whole": True})
                film.finish()
            except BaseException:
                film.abort(keep_partial=False)
                raise
        except OutputError as error:
            error.args = (f"{error}; all segments stay in {self._folder.path}, and the same command joins them",)
            raise
        finally:
            source.close()
        return figures

    def _read_records(self) -> tuple[JobFigures, int, Fraction, bytes]:
        """Checks all files; the figures, frames of delay, unit of times, and the encoder's header."""
        figures, delay, damaged, why = JobFigures(), 0, list[int](), ""
        header, base, first = b"", Fraction(0), 0
        for number in range(len(self._plan)):
            self._check_stop()
            record = self._folder.read(self._folder.record(number))
            if record is None:
                damaged.append(number)
                continue
            figures.add(record)
            if record["file"] is None:
                continue
            segment = SegmentFile.of(self._folder.segments, record)
            try:
                segment.check()
            except InputError as error:
                damaged.append(number)
                why = str(error)
                continue
            if not base:
                header, base, first = segment.header, segment.base, number
            elif segment.base != base or not same_header(segment.header, header, self._plan.video["encoder"]):
                raise InputError(f"{self._folder.path}: segments {first} and {number} were encoded differently "
                                 f"(workers {self._run_of(first)} and {record['run']}); remove "
                                 f"{self._folder.record(number)}, and the same command makes it again")
            delay = max(delay, delay_of(segment.times))
        if damaged:
            raise DamagedSegments(damaged, why)
        if not base:
            raise OutputError(f"{self._target.shown}: no frame came, so nothing was written")
        return figures, delay, base, header

    def _run_of(self, number: int) -> str:
        return self._folder.read(self._folder.record(number))["run"]

    def _plan_output(self, source: FileSource, figures: JobFigures) -> OutputPlan:
        options, report = self._options, self._report
        output = plan_film_output(source.info, self._target.path, options, report, self._stats)
        output.target, report.decoder = self._target, source.info.decoder
        engine = "+".join(figures.engines)
        output.metadata.update(describe(engine, __version__, options.strength, metadata_options(options)))
        return output

    def _open(self, output: OutputPlan) -> FilmFile:
        """The film's file. Its working name is noted first, so that the next call can remove it after a crash."""
        work = work_name(self._target.path)
        self._folder.write(self._folder.joining, {"work": str(work)})
        film = FilmFile(output, self._stats, threads=1, work=work, partial=False)
        self._folder.write(self._folder.joining, self._work(film))
        return film

    def _work(self, film: FilmFile) -> dict[str, Any]:
        return {"work": str(film.work), "inode": film.work.stat().st_ino}

    def _write(self, film: FilmFile, source: FileSource, delay: int, header: bytes) -> None:
        """Frames and the packets of other streams, in the order in which a decoder would have given them."""
        packets = self._packets(film, delay)
        ready = next(packets, None)
        base, origin = film.plan.video.time_base, self._plan.origin
        for item in source.others():
            self._check_stop()
            if not isinstance(item, Fraction):
                film.take(item)
                continue
            time = item - origin - _BEHIND_S
            while ready is not None and (ready.pts or 0) * base <= time:
                film.put(ready)
                ready = next(packets, None)
        while ready is not None:
            self._check_stop()
            film.put(ready)
            ready = next(packets, None)
        own = bytes(film.streams.video.codec_context.extradata or b"")
        if not same_header(own, header, film.plan.video.encoder):
            raise InputError(f"{self._folder.path}: the segments were encoded by another build of "
                             f"{film.plan.video.encoder} than the one here; join them on a machine that made them")

    def _packets(self, film: FilmFile, delay: int) -> Iterator[AnyPacket]:
        stream, base = film.streams.video, film.plan.video.time_base
        times = DecodingTimes(delay)
        for number in range(len(self._plan)):
            record = self._folder.read(self._folder.record(number))
            if record["file"] is None:
                continue
            segment = SegmentFile.of(self._folder.segments, record)
            times.begin(segment.times)
            for pts in sorted(entry[0] for entry in segment.times):
                film.note(pts)
            for data, entry in segment.packets():
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, base
                packet.pts, packet.dts, packet.duration = entry[0], times.next(entry), entry[2]
                packet.is_keyframe = bool(entry[4])
                yield packet

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted


def delay_of(times: Iterable[Times]) -> int:
    """Frames by which decoding runs ahead of presentation: how many come before the one whose time of decoding is the
    first time of presentation, or as many as the order needs."""
    entries = list(times)
    shown = sorted(entry[0] for entry in entries)
    by_dts = next((k for k, entry in enumerate(entries) if entry[1] >= shown[0]), len(entries))
    place = {pts: k for k, pts in enumerate(shown)}
    needed = max((k - place[entry[0]] for k, entry in enumerate(entries)), default=0)
    return max(by_dts, needed, 0)


class DecodingTimes:
    """Times of decoding for a whole film: that of a frame is the time of presentation of the one `delay` frames
    before it in the order of presentation, so that they rise across every border."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._shown: deque[int] = deque()  # times of presentation, from the next to be given on
        self._ahead: list[int] | None = None  # of decoding, for the first frames
        self._last: int | None = None

    def begin(self, times: list[Times]) -> None:
        """The next segment."""
        shown = sorted(entry[0] for entry in times)
        if self._ahead is None:
            first = shown[0]
            step = max(1, (shown[-1] - first) // max(1, len(shown) - 1))
            made = [entry[1] for entry in times[:self._delay]]
            good = len(made) == self._delay and all(a < b for a, b in pairwise([*made, first]))
            self._ahead = made if good else [first - (self._delay - k) * step for k in range(self._delay)]
            self._shown.extend(self._ahead)
        self._shown.extend(shown)

    def next(self, entry: Times) -> int:
        """The time of decoding of the next frame; at most its time of presentation."""
        dts = self._shown.popleft()
        if self._last is not None:
            dts = max(dts, self._last + 1)
        self._last = dts = min(dts, entry[0]) if self._last is None else dts
        return dts
