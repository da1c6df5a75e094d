"""Processes missing segments of a job, and writes one file for each.

One chain processes as many consecutive segments as possible, so that tracks, memory and treatment continue across
borders; only the encoder restarts there. A worker that starts in the middle of the film first processes the
seconds before, called the lead-in, which bring the chain into a steady state and are not written. Tracking and analysis
depend on more of the past than engines, and cost less. Faces are therefore corrected only in its last second.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

from rtface.config.options import Options
from rtface.errors import InputError, RtfaceError, log
from rtface.frame import Frame
from rtface.jobs.face_numbers import FaceNumbers, numbered
from rtface.jobs.figures import UNUSABLE, KnownFaces
from rtface.jobs.film_source import CORRECTED_LEAD_IN_S, LEAD_IN_S, UNKNOWN_LEAD_IN_S, open_from, plan_source
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import Take
from rtface.jobs.plan import JobPlan, options_of
from rtface.jobs.planning import check_video, check_worker
from rtface.jobs.run_output import RunOutput
from rtface.pipeline.build import FilmNetworks, film_networks, still_encoder
from rtface.pipeline.compare import FURTHER
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.plan import plan_frames
from rtface.pipeline.runtime import BuildProgress
from rtface.protocols import Item
from rtface.stats import Stats


@dataclass(frozen=True, slots=True)
class Step:
    """Describes the progress of a worker, after every frame.

    Attributes:
        segment: number of the current segment.
        seconds: finished part of that segment, in seconds.
        faces: number of faces on the last frame.
        frames: number of frames that this worker has written, in all segments.
    """

    segment: int
    seconds: float
    faces: int
    frames: int


class Worker:
    """Processes segments of a job in this process. It is a context manager.

    Args:
        folder, plan: folder and plan of the job.
        threads: number of CPU threads; None for all cores.
        stop: ends the work when set.
        on_step: called after every frame.
        building: called if networks are built for a GPU, before the first frame, with the step and the share done.

    Raises:
        InputError: the film of the job is missing or differs.
        UsageError: this installation differs from the one that planned the job.
    """

    def __init__(
        self,
        folder: JobFolder,
        plan: JobPlan,
        *,
        threads: int | None = None,
        stop: threading.Event | None = None,
        on_step: Callable[[Step], object] | None = None,
        building: BuildProgress | None = None,
    ) -> None:
        self._folder, self._plan = folder, plan
        self._options: Options = options_of(plan, threads=threads)
        self._stop = stop or threading.Event()
        self._on_step, self._building = on_step, building
        check_worker(plan, self._options)
        self._frames = plan_frames(plan.source, self._options)
        plan.check_film()
        self._stats = Stats()
        # The job itself reports these warnings, so its workers do not.
        self._stats.warnings |= {"combed": ""} | ({"container": plan.damage} if plan.damage else {})
        self._id = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._networks: FilmNetworks | None = None
        self._film: FilmPlan | None = None
        self._stack = ExitStack()
        self._runs = self._frames_written = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def work(self, take: Take) -> None:
        """Processes segments as long as `take` returns one.

        Raises:
            InputError: the input file changed.
            OutputError: the folder cannot be written to.
            Interrupted: `stop` was set.
        """
        while (number := take(None)) is not None:
            self._run(number, take)

    # -- one run of the chain -----------------------------------------------------------------------------------

    def _last_faces(self, number: int, base: Fraction) -> KnownFaces | None:
        """Reads the last faces of a segment from its record. Returns None without a usable record; a damaged segment is
        later made again."""
        with suppress(InputError, *UNUSABLE):
            record = self._folder.read(self._folder.record(number))
            return None if record is None else KnownFaces(record, base)
        return None

    def _run(self, first: int, take: Take) -> None:
        """Runs a chain from segment `first`, while `take` returns more segments."""
        output: RunOutput | None = None
        try:
            self._runs += 1
            run = f"{self._id}.{self._runs}"
            log.info("%s: starts at segment %d", run, first)
            networks, film = self._open_film()
            with ExitStack() as stack:
                last_faces = self._last_faces(first - 1, film.info.time_base)
                source = open_from(
                    self._plan,
                    first,
                    LEAD_IN_S if last_faces is not None else UNKNOWN_LEAD_IN_S,
                    self._frames,
                    self._stats,
                    self._stop,
                    stack,
                    fields=film.info.display.fields,
                    on_gpu=not self._frames.on_host,
                )
                steps = FilmChain(
                    self._frames,
                    film,
                    networks,
                    self._stats,
                    stack,
                    state_of=last_faces,
                    begins=float(self._plan.starts[first] - CORRECTED_LEAD_IN_S) if first else -inf,
                )
                stills = still_encoder(film, source, steps.runtime.engines.described[0])
                coding = stills or film.video
                assert coding is not None
                output = RunOutput(
                    self._folder,
                    self._plan,
                    coding,
                    film.copy,
                    steps,
                    self._stats,
                    first,
                    take,
                    run,
                    extra_outputs={name: (extra, FURTHER[name]) for name, extra in film.further.items()},
                    on_frame=self._report_step,
                    stop=self._stop,
                )
                items = iter(source)
                if first:
                    items = _mark_lead_in(items, self._plan.starts[first])
                output.write(stack.enter_context(closing(steps.frames(items, stop=self._stop.is_set))))
        except BaseException as error:
            if output is not None:
                output.abort()
            if isinstance(error, OSError) and not isinstance(error, RtfaceError):
                raise self._folder.failure(error) from error
            raise

    def _open_film(self) -> tuple[FilmNetworks, FilmPlan]:
        """Returns networks and plan of the film, opened by the first call."""
        if self._networks is None or self._film is None:
            self._film = replace(plan_source(self._frames, self._plan.run["output"]), curve=self._plan.curve)
            check_video(self._plan, self._film)
            for video in (self._film.video, *(film.video for film in self._film.further.values())):
                if video is not None:
                    video.threads = self._frames.threads.encode
            numbers = FaceNumbers(self._folder, self._plan) if self._plan.numbered else None
            self._networks = film_networks(
                self._frames, self._stats, self._stack, self._building, recognise=numbers is None
            )
            if numbers is not None:
                tracker = numbered(self._networks.tracker, numbers)
                self._networks = replace(self._networks, tracker=tracker, person_of=tracker.person_of)
        return self._networks, self._film

    def _report_step(self, segment: int, seconds: float, faces: int) -> None:
        self._frames_written += 1
        if self._on_step:
            self._on_step(Step(segment, seconds, faces, self._frames_written))


def _mark_lead_in(items: Iterator[Item], start: Fraction) -> Iterator[Item]:
    """Yields the items, after marking frames before `start` as lead-in."""
    for item in items:
        yield (replace(item, lead_in=True) if isinstance(item, Frame) and item.pts * item.time_base < start else item)
