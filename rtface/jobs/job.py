"""Processes a film as a job: plan, workers, join, resumption after crashes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import perf_counter

from rtface.config.options import OPTIONS, Options
from rtface.errors import Interrupted, OutputError, RtfaceError, UsageError
from rtface.jobs.borders import SEGMENT_S
from rtface.jobs.face_numbers import FaceNumbers, find_numbers
from rtface.jobs.film_source import plan_source
from rtface.jobs.folder import JobFolder, folder_of
from rtface.jobs.join import Join, named_films, note_signed, remove_unfinished
from rtface.jobs.local_workers import JobProgress, make_segments
from rtface.jobs.plan import JobPlan, frame_options, options_of
from rtface.jobs.planning import difference, make_plan, option_files
from rtface.media.read.combs import warn_if_combed
from rtface.pipeline.fading import add_curve, with_curve
from rtface.pipeline.film_plan import FilmPlan
from rtface.pipeline.finish import carry_out
from rtface.pipeline.plan import RunPlan, plan_frames, plan_run
from rtface.pipeline.progress import Show
from rtface.pipeline.runtime import BuildProgress
from rtface.redaction import shown
from rtface.report import Report
from rtface.stats import Stats
from rtface.trust.sidecar import OutputDetails
from rtface.util.text import counted


class FilmJob:
    """Runs a planned job.

    Args:
        folder: folder of the job, with a plan.
        options: options of this call; options that change frames come from the plan instead.

    Attributes:
        folder, plan, options: folder, plan and options of the job.
        finished_earlier: number of segments that an earlier call finished.

    Raises:
        InputError: there is no job, or its plan cannot be used.
    """

    def __init__(self, folder: JobFolder, options: Options | None = None) -> None:
        self.folder = folder
        self.plan = JobPlan.load(self.folder)
        self.options = options or options_of(self.plan)
        self.finished_earlier = len(self.folder.finished())

    @classmethod
    def open(
        cls,
        input: Path,
        output: Path | str,
        options: Options,
        *,
        restart: bool = False,
        length: Fraction = SEGMENT_S,
        stop: threading.Event | None = None,
    ) -> FilmJob | str:
        """Returns the existing job of an output, or plans a new one.

        Args:
            input: a film, or a folder of stills that is read as one.
            output: a film, or a folder for stills (the name may end in a slash).
            options: options of the run.
            restart: whether to remove an existing job and start a new one.
            length: approximate length of a segment in seconds.
            stop: when set, ends the estimation of the curve that corrects faded colours.

        Returns:
            The job, or one line with the reason why the film cannot be processed as a job.

        Raises:
            UsageError: the existing job has other options, or another film or output.
            InputError: the film cannot be read, or is not the film of the job.
            OutputError: the job's folder cannot be created.
        """
        plan_frames(input, options)
        source, target = input.resolve(), Path(output).resolve()
        job_folder = JobFolder(folder_of(target))
        if restart and job_folder.path.is_dir():
            if job_folder.planned:
                job_folder.lock().close()  # raises an error if another process is working on the job
            films = [target]
            with suppress(RtfaceError):
                films += JobPlan.load(job_folder).films
            remove_unfinished(films)
            job_folder.remove()
        if not job_folder.planned:
            job_folder.remove()  # left by a call that was killed before it wrote a plan
            output_name = f"{target}{'/' if str(output).endswith(('/', os.sep)) else ''}"
            run = plan_run(source, output_name, options, job=True)
            job_folder.make()
            try:
                plan = make_plan(with_curve(plan_source(run), stop=stop), length)
            except BaseException:
                job_folder.remove()
                raise
            if isinstance(plan, str):
                job_folder.remove()
                return plan
            job_folder.write(job_folder.plan, plan.to_json(), new=True)
        job_folder.make()
        job = cls(job_folder, options)
        job._check_unchanged(source, target)
        return job

    def _check_unchanged(self, source: Path, target: Path) -> None:
        """Raises UsageError if this call differs from the job's plan."""
        plan, options = self.plan, self.options
        planned, current = (
            {OPTIONS[key].flag: value for key, value in values.items()}
            for values in (plan.options, frame_options(options))
        )
        planned |= {"INPUT": str(plan.source), "OUTPUT": str(plan.target)} | plan.files
        current |= {"INPUT": str(source), "OUTPUT": str(target)} | option_files(options)
        differences = difference(planned, current, missing="not given", when="now")
        if differences:
            raise UsageError(
                "{differences}; give the same value to continue, or begin again with {--restart=True} (job: {path})",
                code="job_other",
                differences=differences,
                path=self.folder.path,
            )
        plan.check_film()

    def run(
        self,
        *,
        workers: int | str = 1,
        farm: str | None = None,
        stats: Stats | None = None,
        progress: Show | None = None,
        stop: threading.Event | None = None,
        building: BuildProgress | None = None,
        notify: Callable[[str], object] = lambda _: None,
    ) -> Report:
        """Makes missing segments, joins the film, and removes the job's folder.

        Args:
            workers: number of processes on this machine, or "auto"; with 1, this process does the work.
            farm: address of a cluster that does the work instead, such as "dask://host:8786" (needs rtface-farm).
            stats: receives counters and warnings.
            progress: called after each frame, or every second if other processes do the work.
            stop: when set, ends the work; finished segments are kept.
            building: called during slow steps such as a build for a GPU, with the step's name and the share done (0…1).
            notify: called with lines for the user.

        Raises:
            UsageError, InputError, OutputError, MissingComponent, EngineError: see `rtface.errors`.
            Interrupted: `stop` was set, or Ctrl-C was pressed; the message says how to continue.
        """
        with self.folder.lock() as lock:
            try:
                report = self._run(
                    workers, farm, stats or Stats(), progress, stop or threading.Event(), building, notify
                )
            except KeyboardInterrupt:
                raise self._interruption() from None
            if sys.platform == "win32":
                lock.close()  # Windows cannot remove an open file
            self.folder.remove()
        return report

    def _run(
        self,
        workers: int | str,
        farm: str | None,
        stats: Stats,
        progress: Show | None,
        stop: threading.Event,
        building: BuildProgress | None,
        notify: Callable[[str], object],
    ) -> Report:
        remove_unfinished(self.plan.films)
        self.folder.remove_unfinished()
        finished_films = named_films(self.folder, self.plan.films)
        run = plan_run(self.plan.source, self.plan.run["output"], self.options, job=True, finished=finished_films)

        def make(report: Report) -> OutputDetails:
            """Makes all segments, and joins them into the output and additional films."""
            if self.plan.damage:  # segments do not record this
                stats.warn(self.plan.damage, self.plan.damage)
            film = self._plan_film(run, stats)
            planned_film = film.to_dict()
            join = Join(self.folder, self.plan, film, report, stats, stop)
            start, frames_before = perf_counter(), sum(self.plan.frames[number] for number in self._finished_segments())
            try:
                self.find_numbers(progress, stop, notify)
                for _ in range(3):  # segments that turn out to be damaged are made again
                    if not self.complete:
                        show = JobProgress(self.folder, self.plan, progress)
                        make_segments(
                            self.folder,
                            self.plan,
                            workers,
                            farm,
                            self.options.threads,
                            show,
                            stop=stop,
                            building=building,
                            notify=notify,
                        )
                        report.first_frame_s = show.first_frame_s
                    totals, damaged, why = join.read()
                    if not damaged:
                        break
                    self.folder.forget(damaged)
                    count = counted(len(damaged), "segment has", "segments have")
                    notify(f"{count} to be made again ({why})")
                else:
                    raise OutputError(
                        "{path}: segments keep getting damaged; check the disk",
                        code="segments_damaged",
                        path=self.folder.path,
                    )
                join.write(totals)
                totals.fill(report, stats)
                warn_if_combed(stats, shown(self.plan.source), enlarged=self.options.scale is not None)
                video = self.plan.video or {}
                return OutputDetails(
                    totals.changed,
                    bool(video.get("lossless")) and not video["convert"],
                    join.names,
                    planned_film,
                    self.plan.curve is not None,
                    totals.copied,
                )
            except KeyboardInterrupt:
                raise self._interruption() from None
            finally:
                report.fps = round(max(0, report.frames_out - frames_before) / max(perf_counter() - start, 1e-3), 2)

        on_signed = partial(note_signed, self.folder, self.plan.target)
        return carry_out(run, make, stats, stop=stop, on_progress=building, on_signed=on_signed)

    def _plan_film(self, run: RunPlan, stats: Stats) -> FilmPlan:
        """Plans the film up front. Files that the options name may be gone later."""
        source_stats = Stats(logs=False)
        film = add_curve(plan_source(run, stats=source_stats), self.plan.curve, stats)
        lines = [*source_stats.warned(), *(film.streams.warnings if film.streams is not None else ())]
        lines += [film.folder.warning] if film.folder is not None and film.folder.warning else []
        for line in lines:
            stats.warn(line, line)
        return film

    def find_numbers(
        self,
        progress: Show | None = None,
        stop: threading.Event | None = None,
        notify: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Numbers the film's faces and persons if options name them. Does nothing if an earlier call has done this.

        Args:
            progress, stop, notify: see `run`.

        Raises:
            see `rtface.jobs.face_numbers.find_numbers`.
        """
        if not self.plan.numbered or self.complete or FaceNumbers(self.folder, self.plan).complete:
            return
        notify("options name tracks or persons: rtface first searches the film for faces")
        frames = plan_frames(self.plan.source, options_of(self.plan, threads=self.options.threads))
        find_numbers(self.folder, self.plan, frames, progress=progress, stop=stop or threading.Event())

    @property
    def complete(self) -> bool:
        """Whether all segments are finished."""
        return len(self._finished_segments()) >= len(self.plan)

    def _finished_segments(self) -> set[int]:
        return {number for number in self.folder.finished() if number < len(self.plan)}

    def _interruption(self) -> Interrupted:
        done = 0
        with suppress(RtfaceError):
            done = len(self.folder.finished())
        return Interrupted(
            "interrupted; {done} of {count} segments are done and stay in {folder}; the same command continues",
            code="interrupted_segments",
            done=done,
            count=len(self.plan),
            folder=self.folder.path,
        )
