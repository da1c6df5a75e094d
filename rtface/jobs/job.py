"""A film as a job: plan, workers, join, and what is left after a crash. The Python interface of `rtface.jobs`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from rtface._version import __version__
from rtface.config.options import OPTIONS, Options, Scope
from rtface.errors import InputMissing, Interrupted, Message, OutputError, RtfaceError, UsageError
from rtface.jobs.borders import SEGMENT_S
from rtface.jobs.face_numbers import FaceNumbers, find_numbers, highest_number
from rtface.jobs.figures import UNUSABLE, JobFigures
from rtface.jobs.film_source import plan_source
from rtface.jobs.folder import JobFolder, folder_of
from rtface.jobs.job_progress import JobProgress
from rtface.jobs.join import (
    DamagedSegments,
    Join,
    films_of,
    named_films,
    names_of_stills,
    note_signed,
    published,
    remove_unfinished,
)
from rtface.jobs.leases import Leases, WorkerSign
from rtface.jobs.local_workers import LocalWorkers, count_workers
from rtface.jobs.plan import JobPlan, frame_options, options_of
from rtface.jobs.planning import difference, make_plan, option_files
from rtface.jobs.status import JobStatus, read_status
from rtface.jobs.worker import Worker
from rtface.media.files import fingerprint
from rtface.media.read.combs import say_combed
from rtface.pipeline.fading import noted, with_curve
from rtface.pipeline.finish import carry_out
from rtface.pipeline.plan import FilmPlan, RunPlan, further_paths, plan_frames, plan_run
from rtface.pipeline.progress import Show
from rtface.pipeline.runtime import BuildProgress
from rtface.redaction import shown
from rtface.report import Report
from rtface.stats import Stats
from rtface.trust.sidecar import Made
from rtface.util.text import counted

if TYPE_CHECKING:
    from rtface.jobs.farms import Workers

    _Start = Callable[[], Workers]

# Seconds between two looks at what other workers have finished.
_LOOK_S = 1.0


class FilmJob:
    """A job that is planned.

    Args:
        folder: of the job, with a plan.
        options: of this call; those that change frames are the plan's.

    Attributes:
        folder, plan, options: of the job.
        resumed: segments that were finished before this object was made.

    Raises:
        InputError: there is no job, or its plan cannot be used.
    """

    def __init__(self, folder: Path | JobFolder, options: Options | None = None) -> None:
        self.folder = folder if isinstance(folder, JobFolder) else JobFolder(folder)
        self.plan = JobPlan.load(self.folder)
        self.options = options or options_of(self.plan)
        self.resumed = len(self.folder.finished())
        self._first_frame_s: float | None = None
        self._works = False  # in this process

    # -- planning -----------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        input: Path,
        output: Path | str,
        options: Options,
        *,
        folder: Path | None = None,
        restart: bool = False,
        length: Fraction = SEGMENT_S,
        stop: threading.Event | None = None,
    ) -> FilmJob | str:
        """The job that makes an output: the one that is there, or a new one.

        Args:
            input: a film, or a folder of stills that is read as one.
            output: a film, or a folder for its stills, whose name may end in a slash.
            options: of the run.
            folder: of the job; next to the output without.
            restart: remove a job that is there, and begin again.
            length: of a segment, about, in seconds.
            stop: ends the search for the curve against fading when set.

        Returns:
            The job, or one line that says why the film cannot be one.

        Raises:
            UsageError: the job that is there has other options, or another film or output; or the folder holds other
                things.
            InputError: the film cannot be read, or is another than the job's.
            OutputError: the folder cannot be made.
        """
        plan_frames(input, options, Scope.FILM | Scope.ENCODED)
        source, target = input.resolve(), Path(output).resolve()
        place = JobFolder(folder.absolute() if folder is not None else folder_of(target))
        if restart and place.path.is_dir():
            if place.planned and (held := Leases(place, "").held()):
                worker = next(iter(held.values()))[1]
                raise UsageError(
                    "{path}: worker {worker} is at work on this job; stop it before {--restart=True}",
                    code="job_at_work",
                    path=place.path,
                    worker=worker,
                )
            further = [Path(film.path) for film in further_paths(options).values()]  # the old plan may be unreadable
            remove_unfinished(place, [target, *further, *films_of(place)])
            place.remove()
        if not place.planned:
            if place.path.is_dir():
                place.make()  # raises where it holds other things
                place.remove()
            named = f"{target}{'/' if str(output).endswith(('/', os.sep)) else ''}"
            run = plan_run(source, named, options, job=True)
            place.make()
            try:
                plan = make_plan(with_curve(plan_source(run), stop=stop), length)
            except BaseException:
                place.remove()
                raise
            if isinstance(plan, str):
                place.remove()
                return plan
            if place.write(place.plan, plan.to_json(), new=True):
                place.log(f"planned by rtface {__version__}: {len(plan)} segments, {plan.duration_s:.1f} s")
        place.make_subfolders()
        _, place.agreed, _ = JobPlan.look(place)  # another user's, too, where it is what this call would plan
        job = cls(place, options)
        job._check_same(source, target)
        return job

    def _check_same(self, source: Path, target: Path) -> None:
        plan, choices = (
            self.plan,
            Message(
                "or begin again with {--restart=True} (the job is {path})", code="or_restart", path=self.folder.path
            ),
        )
        if plan.source != source:
            raise UsageError(
                "{given}: the unfinished job for this output is about {planned}; name that one, {choices}",
                code="job_other_source",
                given=source,
                planned=plan.source,
                choices=choices,
            )
        if plan.target != target:
            raise UsageError(
                "{given}: the job makes {planned}; name that one, {choices}",
                code="job_other_target",
                given=target,
                planned=plan.target,
                choices=choices,
            )
        was, now = (
            {OPTIONS[key].flag: value for key, value in values.items()}
            for values in (plan.options, frame_options(self.options))
        )
        found = difference("{}", was, now, missing="not given", when="now")
        if found is None and option_files(self.options) != plan.files:
            name = next(key for key, value in option_files(self.options).items() if value != plan.files.get(key))
            found = f"the file {getattr(self.options, name)} was changed since the job began"
        if found:
            raise UsageError(
                "{differences}; give the same options to continue, {choices}",
                code="job_other_options",
                differences=found,
                choices=choices,
            )
        fingerprint.check(plan.file, source)

    # -- running ------------------------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """What is finished, who works on what, and the time that is left."""
        return read_status(self.folder, self.plan)

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
        """Makes what is missing, joins the film, and removes the job's folder.

        Args:
            workers: processes on this machine, or "auto"; 1 works in this process.
            farm: a cluster ("dask://host:8786", of rtface-farm) whose workers do the work instead.
            stats: receives counters and warnings.
            progress: called after frames, or every second.
            stop: ends the work when set; what is finished stays.
            building: called with what is built for a GPU, and the share done (0…1).
            notify: called with lines for the user.

        Raises:
            UsageError, InputError, OutputError, MissingComponent, EngineError: see `rtface.errors`.
            Interrupted: `stop` was set, or Ctrl-C came; its message says how to continue.
        """
        stats, stop, options = stats or Stats(), stop or threading.Event(), self.options
        whole = published(self.folder, self.plan.target)  # a call was ended behind the join, or is there now
        target, held = _stamp(self.plan.target), ExitStack()
        if "join" not in Leases(self.folder, "").held():
            remove_unfinished(self.folder, self.plan.films)
        run = plan_run(
            self.plan.source,
            self.plan.output,
            options,
            job=True,
            whole=whole,
            made=named_films(self.folder, self.plan.films),
        )

        def make(report: Report) -> Made | None:
            if self.plan.damage:  # which a segment cannot tell
                stats.warn(self.plan.damage, self.plan.damage)
            film = None if whole else self._planned(run, stats)
            promised = {} if film is None else film.to_dict()
            began, before = perf_counter(), sum(self.plan.frames[number] for number in self._finished())
            try:
                try:
                    if film is None:
                        self._take_join(held, stop)
                    figures = (
                        self._figures()
                        if film is None
                        else self._make(
                            partial(Join, self.folder, self.plan, film, report, stats, stop),
                            report,
                            self._processes(workers, farm, notify),
                            progress,
                            stop,
                            building,
                            notify,
                            held,
                        )
                    )
                except InputMissing:
                    now = _stamp(self.plan.target)
                    if self.folder.leases.is_dir() or now is None or (now == target and not whole):
                        raise
                    figures = None  # another call has finished the film meanwhile
                if figures is None:
                    report.notes.append("an earlier call finished the film; its report has the figures")
                    return None
                _take_over(stats, figures.stats)
                say_combed(stats, shown(self.plan.source), enlarged=options.scale is not None)
                figures.fill(report)
                video = self.plan.video or {}
                return Made(
                    figures.changed,
                    bool(video.get("lossless")) and not video["convert"],
                    names_of_stills(self.folder),
                    promised,
                    {} if self.plan.curve is None else {"": self.plan.curve},
                    figures.copied,
                )
            except KeyboardInterrupt:
                raise self._interrupted() from None
            finally:
                report.fps = round(max(0, report.frames_out - before) / max(perf_counter() - began, 1e-3), 2)

        with held:  # another call has to wait until the film is signed and described
            try:
                report = carry_out(
                    run,
                    make,
                    stats,
                    stop=stop,
                    building=building,
                    signed=partial(note_signed, self.folder, self.plan.target),
                )
            except KeyboardInterrupt:  # also behind the join
                raise self._interrupted() from None
            self._remove()
        return report

    def _take_join(self, held: ExitStack, stop: threading.Event) -> None:
        """Takes the lease of the join, until `held` is closed; waits for a worker that has it."""
        leases = Leases(self.folder, held.enter_context(WorkerSign(self.folder)).id)
        while (epoch := leases.take("join")) is None:
            if stop.wait(_LOOK_S):
                raise Interrupted
        held.callback(leases.release, "join", epoch)

    def _planned(self, run: RunPlan, stats: Stats) -> FilmPlan:
        """What becomes of the film, before the work: files that its options name may be gone at the end of it."""
        opened = Stats(logs=False)
        film = noted(plan_source(run, stats=opened), self.plan.curve, stats)
        lines = [*opened.warned(), *(film.streams.warnings if film.streams is not None else ())]
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
        """Finds the numbers and persons of the film's faces, where options name them and no call before did.

        Args:
            progress, stop, notify: as of `run`.

        Raises:
            as `rtface.jobs.face_numbers.find_numbers`.
        """
        if not self.plan.numbered or self.complete or FaceNumbers(self.folder, self.plan).complete:
            return
        notify("tracks or persons are named: the film is searched for its faces first")
        with WorkerSign(self.folder) as sign:
            options = options_of(self.plan, threads=self.options.threads)
            find_numbers(
                self.folder,
                self.plan,
                plan_frames(self.plan.source, options, Scope.FILM),
                Leases(self.folder, sign.id),
                progress=progress,
                stop=stop or threading.Event(),
            )

    def _figures(self) -> JobFigures | None:
        """Those of all segments; None where a call was ended in removing them, or one cannot be used."""
        figures = JobFigures(highest_number(self.folder, self.plan))
        for number in range(len(self.plan)):
            record = self.folder.read(self.folder.record(number))
            if record is None:
                return None
            try:
                figures.add(record)
            except UNUSABLE:  # the film is whole without it
                return None
        return figures

    def _processes(self, workers: int | str, farm: str | None, notify: Callable[[str], object]) -> _Start | None:
        """What starts the workers that are other processes; None where this process works or only waits."""
        if farm is not None:
            from rtface.jobs.farms import farm_of

            return partial(farm_of(farm), self.folder, self.plan, farm, notify)
        count = count_workers(workers, self.plan, self.options.threads)
        self._works = count == 1
        return partial(LocalWorkers, self.folder, count, self.options.threads) if count > 1 else None

    def _make(
        self,
        join: Callable[[], Join],
        report: Report,
        start: _Start | None,
        progress: Show | None,
        stop: threading.Event,
        building: BuildProgress | None,
        notify: Callable[[str], object],
        held: ExitStack,
    ) -> JobFigures | None:
        """Works until all segments are finished, and joins them to the output and the further films; `held` gets the
        lease of the join. None where another call joined them and was ended in removing them."""
        self.find_numbers(progress, stop, notify)
        for _ in range(3):  # segments that turn out to be damaged are made again
            self._work(start, progress, stop, building)
            try:
                with ExitStack() as joining:
                    self._take_join(joining, stop)
                    report.first_frame_s = self._first_frame_s
                    figures = join().run()
                    held.push(joining.pop_all())
                    return figures
            except DamagedSegments as error:
                if published(self.folder, self.plan.target):
                    return None
                try:
                    for number in error.numbers:
                        self.folder.unlink(self.folder.record(number))
                except OSError as fault:  # also where another call removes the job now
                    raise self.folder.failure(fault) from fault
                self.folder.log(f"made again: segments {', '.join(map(str, error.numbers))}; {error}")
                count = counted(len(error.numbers), "segment has", "segments have")
                notify(f"{count} to be made again ({str(error) or 'a record is missing'})")
        raise OutputError(
            "{path}: segments are damaged again and again; check the disk",
            code="segments_damaged",
            path=self.folder.path,
        )

    def _work(
        self, start: _Start | None, progress: Show | None, stop: threading.Event, building: BuildProgress | None
    ) -> None:
        """Works until every segment is finished, by this machine or by others."""
        show = JobProgress(self.folder, self.plan, progress)
        last = -1.0
        while not self.complete:
            if self._works:
                with Worker(
                    self.folder,
                    threads=self.options.threads,
                    stop=stop,
                    on_step=show,
                    building=building,
                    on_heartbeat=show.look,
                ) as worker:
                    worker.work()
            elif start is not None:
                self._in_processes(start(), show, stop)
            if stop.is_set():
                raise Interrupted
            if not self.complete:  # others are at work on what is left
                now = monotonic()
                if now - last < _LOOK_S and stop.wait(_LOOK_S):
                    raise Interrupted
                last = now
                show.look()
        self._first_frame_s = show.first_frame_s

    def _in_processes(self, workers: Workers, show: JobProgress, stop: threading.Event) -> None:
        try:
            while workers.wait(_LOOK_S / 2):
                if stop.is_set():
                    raise Interrupted
                show.look(workers.steps.values())
        finally:
            workers.end()

    @property
    def complete(self) -> bool:
        """Whether every segment is finished."""
        return len(self._finished()) >= len(self.plan)

    def _finished(self) -> set[int]:
        return {number for number in self.folder.finished() if number < len(self.plan)}

    # -- ends ---------------------------------------------------------------------------------------------------

    def _interrupted(self) -> Interrupted:
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

    def _remove(self) -> None:
        remove_unfinished(self.folder, self.plan.films)
        self.folder.remove()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells another file of this name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _take_over(stats: Stats, other: Stats) -> None:
    """Adds the figures of all segments to those of this run."""
    counted = other.counted()
    counted["frames_out"] -= stats.counted()["frames_out"]
    for name, n in counted.items():
        stats.count(name, n)
    for name, histogram in other.snapshot().items():
        bins = {k: int(n) for k, n in enumerate(histogram.bins) if n}
        stats.merge(name, bins, histogram.total, histogram.count, histogram.max)
    for key, line in other.warnings.items():
        stats.warnings.setdefault(key, line)
