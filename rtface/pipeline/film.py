"""Enhances a film or folder: opens source and sinks, and runs the chain.

A run that ends early leaves a playable part.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from rtface.config.options import Options
from rtface.media.read.source import FileSource
from rtface.media.stills.folder_sink import FolderSink
from rtface.media.stills.images import SequenceSource
from rtface.media.write.file_sink import CompanionSink, FileSink
from rtface.pipeline.build import film_networks, open_film, still_encoder
from rtface.pipeline.compare import FURTHER
from rtface.pipeline.dry_run import describe_plan
from rtface.pipeline.fading import with_curve
from rtface.pipeline.film_chain import FilmChain
from rtface.pipeline.film_plan import FilmPlan, plan_film
from rtface.pipeline.film_writer import FilmWriter
from rtface.pipeline.finish import carry_out
from rtface.pipeline.plan import RunPlan, plan_run
from rtface.pipeline.progress import Show
from rtface.pipeline.runtime import BuildProgress
from rtface.pipeline.stills import StillsPlan, plan_stills, run_stills
from rtface.protocols import Sink
from rtface.report import Report
from rtface.stats import Stats
from rtface.trust.sidecar import OutputDetails
from rtface.util.urls import Address


def run_file(
    input: Path | Address,
    output: Path | str,
    options: Options,
    *,
    stats: Stats | None = None,
    progress: Show | None = None,
    stop: threading.Event | None = None,
    building: BuildProgress | None = None,
) -> Report:
    """Enhances the faces of one film, still or folder.

    Args:
        input: anything that PyAV opens (`Address`), a still, or a folder of stills.
        output: file or folder. A file's extension determines its kind; a name that ends in a slash means a folder.
        options: see `rtface.Options`.
        stats: receives counters, stage times and warnings; None for a new `Stats`.
        progress: called after every frame.
        stop: event that ends the run. The finished part remains as a playable file with "partial" in its name.
        building: called while engines are built for a GPU, with the name of the step and the share done (0…1).

    Raises:
        UsageError, InputError, OutputError, MissingComponent, EngineError: see `rtface.errors`.
        Interrupted: `stop` was set, or Ctrl-C was pressed; contains the partial file and the time at which to resume.
    """
    stats, stop = stats or Stats(), stop or threading.Event()
    if options.dry_run:
        planned, film = plan_file(input, output, options, stats=stats, stop=stop)
        return _dry_run(planned, with_curve(film, stop=stop) if isinstance(film, FilmPlan) else film, stats)
    plan = plan_run(input, output, options)

    def make(report: Report) -> OutputDetails:
        if plan.stills:
            return run_stills(plan, report, stats=stats, progress=progress, stop=stop, building=building)
        return _run_film(plan, report, stats, progress, stop, building)

    return carry_out(plan, make, stats, stop=stop, on_progress=building)


def plan_file(
    input: Path | Address,
    output: Path | str,
    options: Options,
    *,
    stats: Stats | None = None,
    stop: threading.Event | None = None,
) -> tuple[RunPlan, FilmPlan | StillsPlan]:
    """Plans a run and its film or stills. The plan lacks the curve against fading, because a search for it takes time
    (`with_curve`). Arguments, checks and errors are those of `run_file`."""
    plan, stats = plan_run(input, output, options), stats or Stats()
    if plan.stills:
        return plan, plan_stills(plan, stats)
    with ExitStack() as stack:
        return plan, plan_film(plan, _open(plan, stats, stop or threading.Event(), stack))


def _open(plan: RunPlan, stats: Stats, stop: threading.Event, stack: ExitStack) -> FileSource | SequenceSource:
    return open_film(
        plan.input,
        plan.options,
        plan.threads,
        stats,
        stop,
        stack,
        hold=not plan.folder,
        on_gpu=not plan.folder and not plan.on_host,
    )


def _dry_run(plan: RunPlan, film: FilmPlan | StillsPlan, stats: Stats) -> Report:
    """Returns the report of a run that is only planned."""
    report = plan.report()
    report.plan = {
        **plan.to_dict(),
        **film.to_dict(),
        "notes": list(film.notes),
        "warnings": list(plan.warnings.values()),
    }
    for key, line in plan.warnings.items():
        stats.warn(key, line)
    if not isinstance(film, FilmPlan):
        report.notes += [*film.notes, *(f"{source} → {target}" for source, target in film.pairs)]
    else:
        film.describe(report)
        # In a real run, the sink gives this warning.
        warnings = [film.folder.warning] if film.folder is not None and film.folder.warning else []
        if film.streams is not None:
            warnings += [*film.streams.warnings, *film.streams.video.warnings]
        report.notes += warnings
        report.plan["warnings"] += warnings
        report.notes += describe_plan(film.info, film.streams, plan.options)
    report.fill(stats)
    return report


def _run_film(
    plan: RunPlan,
    report: Report,
    stats: Stats,
    progress: Show | None,
    stop: threading.Event,
    building: BuildProgress | None,
) -> OutputDetails:
    """Enhances a film into a film or into a folder of stills."""
    started = perf_counter()
    with ExitStack() as stack:
        # The film is opened while engine and tracker load, which takes 0.3 s.
        networks = stack.enter_context(ExitStack())
        loading = stack.enter_context(ThreadPoolExecutor(1)).submit(film_networks, plan, stats, networks, building)
        source = _open(plan, stats, stop, stack)
        film = with_curve(plan_film(plan, source), stats, stop)
        film.describe(report)
        steps = FilmChain(plan, film, loading.result(), stats, stack)
        report.engine, report.device = steps.runtime.engines.described
        sink, details = _open_sink(plan, film, source, report, stats)
        run = FilmWriter(source, sink, stop, progress, started)
        try:
            run.write(steps.frames(run.times.noted(source), stop=stop.is_set))
        finally:
            report.frames_out = run.frames
            report.decoder = source.info.decoder
            report.tracks = steps.tracks.reports(float(film.info.clock_start))
            report.fps = round(run.frames / run.writing_s, 2) if run.writing_s else 0.0
            report.first_frame_s = round(run.first_frame_s, 3) if run.first_frame_s is not None else None
    return details


def _open_sink(
    plan: RunPlan, film: FilmPlan, source: FileSource | SequenceSource, report: Report, stats: Stats
) -> tuple[Sink, OutputDetails]:
    """Opens the sinks of a film and its additional films. Also returns details of the output."""
    details = OutputDetails(plan=film.to_dict(), unfaded=film.curve is not None)
    video, threads = film.video, plan.threads.encode
    details.lossless = video is not None and video.lossless and not video.convert
    stills = still_encoder(film, source, report.engine)
    sink: Sink
    if stills is not None:
        assert film.folder is not None
        if film.folder.warning:
            stats.warn("codec", film.folder.warning)
        sink = folder = FolderSink(plan.outputs["film"], stills, stats=stats)
        details.changed, details.names = folder.changed, folder.names
    else:
        assert film.streams is not None
        film.streams.metadata.update(plan.tags(report.engine))
        sink = file_sink = FileSink(film.streams, stats=stats, threads=threads)
        details.changed, details.copied = file_sink.changed, file_sink.copied
    if "comparison" in film.further:
        film.further["comparison"].metadata.update(plan.tags(report.engine))
    if film.further:
        sink = CompanionSink(sink, [(extra_plan, FURTHER[name]) for name, extra_plan in film.further.items()], threads)
    return sink, details
