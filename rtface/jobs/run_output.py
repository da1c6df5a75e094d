"""Writes the segments' files and records, as a worker's last step."""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import inf
from time import monotonic
from typing import Any

import av

from rtface.concurrency.threads import call_in_thread
from rtface.errors import Interrupted, OutputError, RtfaceError
from rtface.frame import Frame
from rtface.jobs.figures import SegmentFigures
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import Take
from rtface.jobs.plan import JobPlan
from rtface.jobs.segment_file import FilmPackets, SegmentWriter, StillPackets
from rtface.media.stills.folder_sink import StillEncoder
from rtface.media.write.copy_encoder import CopyEncoder
from rtface.media.write.encoders import VideoPlan
from rtface.media.write.file_sink import FurtherFrames
from rtface.media.write.packet_copy import PacketCopy
from rtface.media.write.stream_plan import OutputPlan
from rtface.pipeline.film_chain import FilmChain
from rtface.protocols import Item
from rtface.stats import Stats


class RunOutput:
    """Writes the segments of one chain.

    Args:
        folder, plan: folder and plan of the job.
        coding: plan for encoding a film, or encoder of stills.
        copy: plan for copied packets; None if all frames are encoded.
        steps: steps of the chain.
        stats: statistics of the worker.
        first: number of the first segment.
        take: assigns the next segment to this worker.
        run: ID of this chain's run. Track numbers are consistent only within one run.
        extra_outputs: plan and frame function of each additional output, by name.
        on_frame: called after each frame with segment number, written seconds of the segment, and number of faces.
        stop: ends the work when set.
    """

    def __init__(
        self,
        folder: JobFolder,
        plan: JobPlan,
        coding: VideoPlan | StillEncoder,
        copy: PacketCopy | None,
        steps: FilmChain,
        stats: Stats,
        first: int,
        take: Take,
        run: str,
        *,
        extra_outputs: Mapping[str, tuple[OutputPlan, FurtherFrames]],
        on_frame: Callable[[int, float, int], object],
        stop: threading.Event,
    ) -> None:
        self._folder, self._plan = folder, plan
        self._coding, self._copy = coding, copy
        self._runtime, self._stats, self._take_next, self._run = steps.runtime, stats, take, run
        self._on_frame, self._stop = on_frame, stop
        self._number = self._first = first
        self._base, self._first_pts = Fraction(0), list[int]()  # time base of pts; first pts of each segment
        self._starts_s = [float(start) for start in plan.starts]
        self._finishing: Future[None] | None = None
        self._figures = SegmentFigures(stats, steps.tracks, float(plan.begins))
        self._extra_outputs = extra_outputs
        self._writers: dict[str, SegmentWriter] = {}  # by name of the additional output; "" for the film
        self._started = monotonic()

    def write(self, items: Iterable[Item]) -> None:
        """Writes the frames. `rtface.jobs.join` adds packets of other streams later.

        Raises:
            Interrupted: `stop` was set.
            OutputError: the folder cannot be written to, or the encoder rejects a frame.
            InputError: the input file changed during the run.
        """
        for item in items:
            if self._stop.is_set():
                raise Interrupted
            if not isinstance(item, Frame):
                continue
            if item.time_base != self._base:
                self._base, self._first_pts = item.time_base, self._plan.first_pts(item.time_base)
            number = max(0, bisect_right(self._first_pts, item.pts) - 1)
            if number < self._first:
                self._figures.lead_in(item)
                continue
            while self._number < number:
                if not self._advance():
                    self._wait()
                    return
            self._write_frame(item)
            self._on_frame(number, item.time - self._starts_s[number], len(item.faces))
        if self._stop.is_set():
            raise Interrupted
        while self._advance():  # segments after the last frame are empty
            pass
        self._wait()

    def abort(self) -> None:
        """Ends early, and removes unfinished files. A segment whose frames are all encoded is completed first."""
        with suppress(RtfaceError, OSError):
            self._wait()
        _discard(self._writers.values())
        self._writers = {}

    def _write_frame(self, frame: Frame) -> None:
        with self._errors(self._number):
            if not self._writers:
                self._open(frame)
            for name, writer in self._writers.items():
                with self._stats.time(name or "encode"):
                    writer.write(self._extra_outputs[name][1](frame) if name else frame)
        self._stats.count("frames_out")
        self._figures.add(frame)

    def _open(self, frame: Frame) -> None:
        """Opens the segment's files. `frame` is its first frame."""
        plan, path = self._plan, self._folder.segments / f"{self._number:05}-{secrets.token_hex(3)}.video"
        if isinstance(self._coding, StillEncoder):
            encoder = StillPackets(self._coding, frame.time_base, str(plan.target))
        elif self._copy is not None:
            encoder = CopyEncoder(self._copy, self._coding, plan.starts[self._number], plan.origin, self._stats)
        else:
            encoder = FilmPackets(self._coding, plan.run["container"], plan.origin, self._stats, str(path))
        for name, (film, _) in self._extra_outputs.items():
            packets = FilmPackets(film.video, film.format, plan.origin, Stats(), str(path))
            self._writers[name] = SegmentWriter(path.with_suffix(f".{name}"), packets)
        self._writers[""] = SegmentWriter(path, encoder)

    def _advance(self) -> bool:
        """Finishes the segment in a thread and requests the next. Returns False if there is none for this worker."""
        record: dict[str, Any] = {
            "segment": self._number,
            "run": self._run,
            "seconds": round(monotonic() - self._started, 3),
        }
        record["engine"], record["device"] = self._runtime.engines.described
        next_number = self._number + 1
        record |= self._figures.take(
            float(self._first_pts[next_number] * self._base) if next_number < len(self._first_pts) else inf
        )
        self._wait()
        self._finishing = call_in_thread("finish", self._finish, self._number, record, self._writers)
        self._writers = {}
        self._started = monotonic()
        self._number += 1
        return self._number < len(self._plan) and self._take_next(self._number) is not None

    def _finish(self, number: int, record: dict[str, Any], writers: Mapping[str, SegmentWriter]) -> None:
        """Ends the encoders of a segment, and writes its record."""
        try:
            with self._errors(number):
                parts = {name: writer.finish() for name, writer in writers.items()}
            record |= parts.pop("", {"file": None, "frames": 0, "packets": []}) | parts
            self._plan.check_film()
            # The folder may have been removed and reused by another job.
            plan = self._folder.read(self._folder.plan)
            is_recorded = (
                plan is not None
                and plan["job"]["id"] == self._plan.id
                and self._folder.write(self._folder.record(number), record, new=True)
            )
        except BaseException:
            _discard(writers.values())
            raise
        if not is_recorded:  # the job is gone, or another worker finished this segment first
            for writer in writers.values():
                writer.path.unlink(missing_ok=True)

    def _wait(self) -> None:
        """Waits for the segment that is being finished, and raises its error."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            finishing.result()

    @contextmanager
    def _errors(self, number: int) -> Generator[None]:
        """Converts errors of encoder and disk to errors for users."""
        try:
            yield
        except RtfaceError:
            raise
        except OSError as error:
            raise self._folder.failure(error) from error
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(
                "{path}: segment {number} cannot be encoded ({why}); choose another {--codec} and begin again "
                "with {--restart=True}",
                code="segment_encoder",
                path=self._folder.path,
                number=number,
                why=error,
            ) from error


def _discard(writers: Iterable[SegmentWriter]) -> None:
    for writer in writers:
        with suppress(OSError, av.FFmpegError, ValueError):
            writer.discard()
