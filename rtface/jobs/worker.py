"""A worker of a job: runs the chain of a film over segments that are missing, and writes a file for each.

One chain goes over as many segments as follow each other, so that tracks, memory and treatment do not break at a
border; only the encoder begins again there. Where a worker begins in the middle of the film, it processes some seconds
before (the lead-in), which settle the chain's state and are not written. Tracking and analysis remember more than
engines, and cost less: faces are corrected in the last second of the lead-in only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from rtface.concurrency.threads import call_in_thread
from rtface.config.options import Options, Scope
from rtface.errors import InputError, Interrupted, RtfaceError, UsageError
from rtface.frame import Frame
from rtface.jobs import faces_ahead
from rtface.jobs.face_numbers import NumberedTracker, find_numbers
from rtface.jobs.figures import KnownFaces
from rtface.jobs.film_source import CORRECTED_LEAD_IN_S, LEAD_IN_S, UNKNOWN_LEAD_IN_S, open_from, plan_source
from rtface.jobs.folder import JobFolder
from rtface.jobs.leases import Leases, WorkerSign
from rtface.jobs.plan import JobPlan, options_of
from rtface.jobs.planning import WorkerRefused, check_video, check_worker
from rtface.jobs.run_output import RunOutput
from rtface.jobs.time_left import Pace, choose
from rtface.media.files import fingerprint
from rtface.media.read.source import FileSource
from rtface.media.stills.images import SequenceSource
from rtface.media.write.file_sink import FurtherFrames
from rtface.media.write.invented import map_frame
from rtface.pipeline.build import FilmNetworks, film_networks, still_encoder
from rtface.pipeline.compare import KeptPairs
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.plan import FilmPlan, plan_frames
from rtface.pipeline.runtime import BuildProgress
from rtface.protocols import Item
from rtface.stats import Stats

__all__ = ["Outcome", "Step", "Worker", "WorkerRefused", "do_segment"]


class Outcome(Enum):
    """What `do_segment` did."""

    DONE = "done"
    ALREADY = "finished before"
    BUSY = "another worker has it"


@dataclass(frozen=True, slots=True)
class Step:
    """Where a worker is: told after every frame.

    Attributes:
        segment: in work.
        seconds: of it that are done.
        faces: on the last frame.
        frames: this worker has written, all segments together.
    """

    segment: int
    seconds: float
    faces: int
    frames: int


def do_segment(
    folder: Path | JobFolder,
    number: int,
    *,
    threads: int | None = None,
    stop: threading.Event | None = None,
    on_step: Callable[[Step], object] | None = None,
) -> Outcome:
    """Makes one segment of a job; safe to call again, and at the same time from several machines.

    Args:
        folder: of the job.
        number: of the segment, from 0 on.
        threads: CPU threads, None for all cores.
        stop: ends the work when set.
        on_step: called after every frame.

    Raises:
        UsageError: there is no such segment, another user planned the job and this one did not agree
            (`JobFolder.agreed`), or this installation differs from the one that planned it.
        InputError: there is no job, or its film is missing or another.
        OutputError: the folder cannot be written to.
        Interrupted: `stop` was set.
    """
    folder = folder if isinstance(folder, JobFolder) else JobFolder(folder)
    with Worker(folder, threads=threads, stop=stop, on_step=on_step) as worker:
        return worker.do(number)


class Worker:
    """Works on the segments of a job, in the process that makes it; a context that shows its heartbeat meanwhile.

    Args:
        folder: of the job.
        threads: CPU threads, None for all cores.
        stop: ends the work when set.
        on_step: called after every frame.
        building: called with what is built for a GPU before the first frame, and the share done (0…1).
        on_heartbeat: called with every heartbeat, on its thread.

    Attributes:
        done: numbers of the segments that it finished.

    Raises:
        InputError: there is no job, or its film is missing or another.
        UsageError: this installation differs from the one that planned the job.
    """

    def __init__(
        self,
        folder: JobFolder,
        *,
        threads: int | None = None,
        stop: threading.Event | None = None,
        on_step: Callable[[Step], object] | None = None,
        building: BuildProgress | None = None,
        on_heartbeat: Callable[[], object] | None = None,
    ) -> None:
        self._folder, self._plan = folder, JobPlan.load(folder)
        self._options: Options = options_of(self._plan, threads=threads)
        self._stop = stop or threading.Event()
        self._on_step, self._building = on_step, building
        check_worker(self._plan, self._options)
        self._frames = plan_frames(self._plan.source, self._options, Scope.FILM)
        fingerprint.check(self._plan.file, self._plan.source)
        self._stats = Stats()
        # The job says it.
        self._stats.warnings |= {"combed": ""} | ({"container": self._plan.damage} if self._plan.damage else {})
        self._sign = WorkerSign(folder, on_heartbeat=on_heartbeat)
        self._leases = Leases(folder, self._sign.id)
        self._networks: FilmNetworks | None = None
        self._film: FilmPlan | None = None
        self._stack = ExitStack()
        self._runs = 0
        self._written = 0
        self._pace = Pace()
        self._from: float | None = None  # time of the first frame
        self._at: int | None = None  # the segment in work
        self._made_s = 0.0  # seconds of the segments that were finished when it began
        self._output: RunOutput | None = None
        self._sampling: Future[None] | None = None
        self.done: list[int] = []

    def __enter__(self) -> Worker:
        self._sign.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._stack.close()
        finally:
            self._sign.__exit__(*error)

    def do(self, number: int) -> Outcome:
        """Makes one segment; see `do_segment`."""
        if not 0 <= number < len(self._plan):
            raise UsageError(
                "{path}: has segments 0 to {count}, and no segment {number}",
                code="segment_none",
                path=self._folder.path,
                count=len(self._plan) - 1,
                number=number,
            )
        if number in self._folder.finished():
            return Outcome.ALREADY
        epoch = self._leases.take(_name(number))
        if epoch is None:
            return Outcome.BUSY
        if number in self._folder.finished():
            self._leases.release(_name(number), epoch)
            return Outcome.ALREADY
        self._run(number, epoch, lambda _: None)
        return Outcome.DONE

    def work(self) -> bool:
        """Makes segments as long as one is free; whether all of the film are finished then. Raises as `do_segment`."""
        while True:
            if self._stop.is_set():
                raise Interrupted
            finished, leased = self._folder.finished(), {int(n) for n in self._leases.held() if n.isdigit()}
            if len(finished) >= len(self._plan):
                return True
            number = choose(len(self._plan), finished, leased)
            if number is None:
                return False
            epoch = self._claim(number)
            if epoch is not None:
                self._run(number, epoch, self._claim)

    # -- one run of the chain -----------------------------------------------------------------------------------

    def _record(self, number: int) -> Mapping[str, Any] | None:
        """The record of a segment; None where there is none, or one that cannot be used and is made again in the
        end."""
        with suppress(InputError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            record = self._folder.read(self._folder.record(number))
            if record is not None:
                KnownFaces(record, Fraction(1))
                return record
        return None

    def _claim(self, number: int) -> int | None:
        """Takes a segment that is not finished; its epoch, or None where another has it."""
        if number in self._folder.finished():
            return None
        epoch = self._leases.take(_name(number))
        if epoch is not None and number in self._folder.finished():
            self._leases.release(_name(number), epoch)
            return None
        return epoch

    def _run(self, first: int, epoch: int, claim: Callable[[int], int | None]) -> None:
        """Runs a chain from a segment on, as far as `claim` gives the next."""
        output: RunOutput | None = None
        try:
            if self._stop.is_set():
                raise Interrupted
            self._runs += 1
            run = f"{self._sign.id}.{self._runs}"
            self._folder.log(f"{run}: begins at segment {first}")
            self._sample()
            networks, film = self._opened()
            with ExitStack() as stack:
                before = self._record(first - 1)
                source = self._source(first, before is not None, film, stack)
                steps = FilmChain(
                    self._frames,
                    film,
                    networks,
                    self._stats,
                    stack,
                    known=KnownFaces(before, source.info.time_base) if first and before else None,
                    begins=float(self._plan.starts[first] - CORRECTED_LEAD_IN_S) if first else -inf,
                )
                stills = still_encoder(film, source, steps.runtime.engines.described[0])
                coding = stills or film.video
                assert coding is not None
                pairs = KeptPairs() if "comparison" in film.further else None
                made: dict[str, FurtherFrames] = {"map": map_frame, **({"comparison": pairs.of} if pairs else {})}
                output = self._output = RunOutput(
                    self._folder,
                    self._plan,
                    coding,
                    film.copy,
                    steps,
                    self._stats,
                    self._leases,
                    first,
                    epoch,
                    claim,
                    run,
                    further={name: (further, made[name]) for name, further in film.further.items()},
                    on_frame=self._note,
                    stopped=self._stop.is_set,
                )
                items = iter(source)
                if first:
                    items = _marked(items, self._plan.starts[first])
                output.write(
                    stack.enter_context(
                        closing(
                            steps.frames(
                                items,
                                stop=self._stop.is_set,
                                comparison=pairs.comparison if pairs else None,
                            )
                        )
                    )
                )
        except BaseException as error:
            if output is None:
                self._leases.release(_name(first), epoch)
            else:
                output.abort()
            if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
                raise Interrupted from None
            self._folder.log(f"{self._sign.id}: {' '.join(str(error).split()) or type(error).__name__}")
            if isinstance(error, OSError) and not isinstance(error, RtfaceError):
                raise self._folder.failure(error) from error
            raise
        finally:
            self.done, self._output = self._made(), None

    def _opened(self) -> tuple[FilmNetworks, FilmPlan]:
        """Tracker, engines, and the plan of the film."""
        if self._networks is None or self._film is None:
            self._film = replace(plan_source(self._frames, self._plan.output), curve=self._plan.curve)
            check_video(self._plan, self._film)
            for video in (self._film.video, *(film.video for film in self._film.further.values())):
                if video is not None:
                    video.threads = self._frames.threads.encode
            numbers = None
            if self._plan.numbered:
                numbers = find_numbers(self._folder, self._plan, self._frames, self._leases, stop=self._stop)
            self._networks = film_networks(
                self._frames, self._stats, self._stack, self._building, recognise=numbers is None
            )
            if numbers is not None:
                tracker = NumberedTracker(self._networks.tracker, numbers)
                self._networks = replace(self._networks, tracker=tracker, person_of=tracker.person_of)
        return self._networks, self._film

    def _sample(self) -> None:
        """Samples the film for faces on a thread, unless another worker did or does so."""
        if self._sampling is not None or not faces_ahead.wanted(self._folder, self._plan, self._options):
            return
        epoch = self._leases.take("faces")
        if epoch is not None:
            over = threading.Event()
            self._sampling = call_in_thread(
                "faces", faces_ahead.sample, self._folder, self._plan, self._options, self._options.variant, over.wait
            )
            self._stack.callback(self._leases.release, "faces", epoch)
            self._stack.callback(self._sampling.exception)
            self._stack.callback(over.set)

    def _source(self, first: int, known: bool, film: FilmPlan, stack: ExitStack) -> FileSource | SequenceSource:
        """The film from the lead-in of a segment on; `known`: the treatment of its faces is."""
        return open_from(
            self._plan,
            first,
            LEAD_IN_S if known else UNKNOWN_LEAD_IN_S,
            self._frames,
            self._stats,
            self._stop,
            stack,
            fields=film.info.display.fields,
            on_gpu=not self._frames.on_host,
        )

    def _made(self) -> list[int]:
        return [*self.done, *(self._output.done if self._output is not None else ())]

    def _note(self, segment: int, seconds: float, faces: int) -> None:
        self._written += 1
        self._pace.add(faces)
        now = monotonic()
        if self._from is None:
            self._from = now
        if segment != self._at:
            self._at, self._made_s = segment, sum(map(self._plan.seconds, self._made()))
        done = seconds + self._made_s
        self._sign.state = {
            "segment": segment,
            "seconds": round(seconds, 2),
            "frames": self._written,
            "pace": self._pace.rows,
            "speed": round(done / (now - self._from), 4) if now > self._from else None,
        }
        if self._on_step:
            self._on_step(Step(segment, seconds, faces, self._written))


def _marked(items: Iterator[Item], start: Fraction) -> Iterator[Item]:
    """The items; frames before a segment are its lead-in."""
    for item in items:
        yield (replace(item, lead_in=True) if isinstance(item, Frame) and item.pts * item.time_base < start else item)


def _name(number: int) -> str:
    return f"{number:05}"
