"""Writes each segment's file and record. It ends a worker's chain."""

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
from rtface.media.stills.still_encoder import StillEncoder
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
        coding: how frames are encoded, as a film or as stills.
        copy: plan for copied packets; None if all frames are encoded.
        steps: steps of the chain.
        stats: statistics of the worker.
        first: number of the first segment.
        take: assigns the next segment to this worker.
        run: name of this run of the chain, in which tracks keep their numbers.
        further: plans of the further films by name, and functions that make their frames.
        on_frame: called after every frame with segment, finished seconds of it, and number of faces.
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
        further: Mapping[str, tuple[OutputPlan, FurtherFrames]],
        on_frame: Callable[[int, float, int], object],
        stop: threading.Event,
    ) -> None:
        self._folder, self._plan = folder, plan
        self._coding, self._copy = coding, copy
        self._runtime, self._stats, self._take_next, self._run = steps.runtime, stats, take, run
        self._on_frame, self._stop = on_frame, stop
        self._number = self._first = first
        self._base, self._firsts = Fraction(0), list[int]()  # unit of pts, and each segment's first pts
        self._starts_s = [float(start) for start in plan.starts]
        self._finishing: Future[None] | None = None
        self._figures = SegmentFigures(stats, steps.tracks, float(plan.begins))
        self._further = further
        self._writers: dict[str, SegmentWriter] = {}  # by name of the further film, "" for the output
        self._began = monotonic()

    def write(self, items: Iterable[Item]) -> None:
        """Writes the frames; the join adds packets of other streams later.

        Raises:
            Interrupted: `stop` was set.
            OutputError: the folder cannot be written to, or the encoder refuses.
            InputError: the film was replaced meanwhile.
        """
        for item in items:
            if self._stop.is_set():
                raise Interrupted
            if not isinstance(item, Frame):
                continue
            if item.time_base != self._base:
                self._base, self._firsts = item.time_base, self._plan.first_pts(item.time_base)
            number = max(0, bisect_right(self._firsts, item.pts) - 1)
            if number < self._first:
                self._figures.lead_in(item)
                continue
            while self._number < number:
                if not self._next():
                    self._wait()
                    return
            self._take(item)
            self._on_frame(number, item.time - self._starts_s[number], len(item.faces))
        if self._stop.is_set():
            raise Interrupted
        while self._next():  # segments after the last frame are empty
            pass
        self._wait()

    def abort(self) -> None:
        """Ends early and removes unfinished files. A segment is still finished if all its frames were encoded."""
        with suppress(RtfaceError, OSError):
            self._wait()
        _discard(self._writers.values())
        self._writers = {}

    def _take(self, frame: Frame) -> None:
        with self._errors(self._number):
            if not self._writers:
                self._open(frame)
            for name, writer in self._writers.items():
                with self._stats.time(name or "encode"):
                    writer.write(self._further[name][1](frame) if name else frame)
        self._stats.count("frames_out")
        self._figures.add(frame)

    def _open(self, frame: Frame) -> None:
        """Begins the files of the segment, with this frame."""
        plan, path = self._plan, self._folder.segments / f"{self._number:05}-{secrets.token_hex(3)}.video"
        if isinstance(self._coding, StillEncoder):
            encoder = StillPackets(self._coding, frame.time_base, str(plan.target))
        elif self._copy is not None:
            encoder = CopyEncoder(self._copy, self._coding, plan.starts[self._number], plan.origin, self._stats)
        else:
            encoder = FilmPackets(self._coding, plan.run["container"], plan.origin, self._stats, str(path))
        for name, (film, _) in self._further.items():
            packets = FilmPackets(film.video, film.format, plan.origin, Stats(), str(path))
            self._writers[name] = SegmentWriter(path.with_suffix(f".{name}"), packets)
        self._writers[""] = SegmentWriter(path, encoder)

    def _next(self) -> bool:
        """Finishes the segment in a thread and takes the next. Returns False if none is left for this worker."""
        record: dict[str, Any] = {
            "segment": self._number,
            "run": self._run,
            "seconds": round(monotonic() - self._began, 3),
        }
        record["engine"], record["device"] = self._runtime.engines.described
        following = self._number + 1
        record |= self._figures.take(
            float(self._firsts[following] * self._base) if following < len(self._firsts) else inf
        )
        self._wait()
        self._finishing = call_in_thread("finish", self._finish, self._number, record, self._writers)
        self._writers = {}
        self._began = monotonic()
        self._number += 1
        return self._number < len(self._plan) and self._take_next(self._number) is not None

    def _finish(self, number: int, record: dict[str, Any], writers: Mapping[str, SegmentWriter]) -> None:
        """Ends the encoders of a segment, and writes its record."""
        try:
            with self._errors(number):
                parts = {name: one.finish() for name, one in writers.items()}
            record |= parts.pop("", {"file": None, "frames": 0, "packets": []}) | parts
            self._plan.check_film()
            # Meanwhile the folder may have been removed, and may belong to another job.
            plan = self._folder.read(self._folder.plan)
            finished = (
                plan is not None
                and plan["job"]["id"] == self._plan.id
                and self._folder.write(self._folder.record(number), record, new=True)
            )
        except BaseException:
            _discard(writers.values())
            raise
        if not finished:  # the job is gone, or a replacement of this worker was faster
            for one in writers.values():
                one.path.unlink(missing_ok=True)

    def _wait(self) -> None:
        """Waits for the segment that is being finished, and raises its error."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            finishing.result()

    @contextmanager
    def _errors(self, number: int) -> Generator[None]:
        """Turns errors of encoder and disk into errors that users understand."""
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
