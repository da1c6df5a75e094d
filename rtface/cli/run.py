"""``rtface run``: enhances the faces of films, stills, cameras and streams."""

from __future__ import annotations

import functools
import operator
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli import early_checks, live
from rtface.cli.command import Json, command, explain
from rtface.cli.console import Console, discard_output, print_json
from rtface.cli.film_jobs import FarmAddress, Job, OutputDir, Restart, Workers, output_folder, plan_jobs
from rtface.cli.signals import INTERRUPTED, StopRequest
from rtface.config.addresses import live_scope
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import OPTIONS, WHAT_IS_LIVE, Options, OutputOptions, Scope, check_scope
from rtface.errors import Interrupted, UsageError
from rtface.jobs.run import Resumable
from rtface.pipeline.progress import ProgressLine
from rtface.util.text import counted

if TYPE_CHECKING:
    from rtface.report import Report


def run_jobs(
    jobs: list[Job],
    options: Options,
    console: Console,
    stop: StopRequest,
    *,
    skip: bool,
    json: bool,
    resumable: Resumable,
) -> int:
    """Runs all jobs and returns the exit code. A failed job does not stop the remaining ones."""
    from rtface.jobs.run import run_film
    from rtface.stats import Stats

    codes: list[int] = []
    skipped = 0
    for job in jobs:
        if skip and job.output.is_file() and not options.overwrite:  # a folder of stills continues by itself
            skipped += 1
            console.log(f"{job.output} exists: skipped (--overwrite replaces it)")
            if json:
                _log({"input": str(job.input), "output": str(job.output), "status": "skipped"})
            continue
        try:
            report = run_film(
                job.input,
                job.named,
                options,
                resumable,
                stats=Stats(),
                stop=stop.event,
                progress=ProgressLine(console, job.input.name),
                building=console.building,
                notify=console.log,
            )
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - explain writes it; the next input follows
            codes.append(explain(error, console, signum=stop.signum))
            if json:
                _log(
                    {
                        "input": str(job.input),
                        "output": str(job.output),
                        "status": "failed",
                        "error": " ".join(str(error).split()),
                        "partial": getattr(error, "partial", None),
                        "resume_at_s": getattr(error, "resume_at", None),
                    }
                )
            if isinstance(error, (Interrupted, KeyboardInterrupt)):
                break
            continue
        codes.append(0)
        _show_done(job, report, options, console)
        report_table = {"status": "planned" if options.dry_run else "done", **report.to_dict()}
        console.event("report", **report_table)
        if json:
            _log(report_table)
    if len(jobs) > 1:
        failed = sum(1 for code in codes if code)
        not_started = len(jobs) - len(codes) - skipped
        console.log(
            f"{codes.count(0)} done, {skipped} skipped, {failed} failed"
            + (f", {not_started} not started" if not_started else ""),
            "error" if failed else "info",
        )
    interrupted = [code for code in codes if code > INTERRUPTED]
    return interrupted[0] if interrupted else codes[0] if len(jobs) == 1 and codes else int(any(codes))


def _log(value: object) -> None:
    """Prints a line of JSON. A closed stdout does not end the run."""
    try:
        print_json(value)
    except OSError:
        discard_output(sys.stdout)


def _show_done(job: Job, report: Report, options: OutputOptions, console: Console) -> None:
    for note in report.notes:
        console.log(note)
    if options.dry_run:
        console.log(f"{job.output} was not written (--dry-run)")
        return
    speed = f"{report.fps:.1f} fps" if report.frames_out > 1 else f"{report.seconds:.1f} s"
    copied = f"{report.packets_copied} copied, " if report.packets_copied else ""
    console.log(
        f"{job.output}: {counted(report.frames_out)}, {report.frames_with_faces} with faces, "
        f"{report.frames_corrected} corrected, {copied}{speed}, {report.engine} on {report.device}"
    )
    for path in (options.compare, options.report, options.map_file):
        if path is not None:
            console.log(f"{path} written")


@command(*OPTIONS)
def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            show_default=False,
            help=(
                "Films, stills or folders of stills, and the file or folder to write; its extension chooses the "
                "format: mp4, mkv, mov, webm, png, jpg, tiff; a folder/ receives a film's frames. Live: camera:0 or "
                "a stream's URL, and vcam:, a URL or a file."
            ),
        ),
    ],
    output_dir: OutputDir = None,
    workers: Workers = None,
    restart: Restart = False,
    farm: FarmAddress = None,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Enhance the faces of films, stills, cameras and streams. Outside the faces, a lossless output has the samples of
    the input; a lossy encoder changes the whole frame a little."""
    options = loaded.options
    resumable = Resumable(workers, restart, farm)
    ends = live.live_ends(paths) if output_dir is None else None
    if ends is not None:
        if resumable.given:
            raise UsageError(
                "{option} has no effect here: it is for films; leave it out; {advice}",
                code="films_only",
                option=resumable.given,
                advice=WHAT_IS_LIVE,
            )
        check_scope(loaded.given, options, live_scope(*ends, options) | Scope.CONSOLE)
        raise typer.Exit(live.run_live_job(*ends, options, console, stop, json=json))
    jobs = plan_jobs(paths, output_dir, options)
    # Rejects live options before anything heavy is imported.
    check_scope(loaded.given, options, Scope.FILM | Scope.SEQUENCE | Scope.ENCODED | Scope.STILLS)
    early_checks.check_names(options)
    early_checks.check_inputs([job.input for job in jobs])
    if not options.dry_run and workers in (None, "1") and farm is None:  # otherwise this process runs no engine
        from rtface.pipeline.runtime import open_ahead
        from rtface.pipeline.threads import Threads

        open_ahead(options, Threads.for_film(options.threads).engines)
    from rtface.pipeline.plan import scope_of

    check_scope(
        loaded.given, options, functools.reduce(operator.or_, (scope_of(one.input, one.named, options) for one in jobs))
    )
    with output_folder(output_dir, keep=not options.dry_run):
        code = run_jobs(jobs, options, console, stop, skip=output_dir is not None, json=json, resumable=resumable)
    raise typer.Exit(code)
