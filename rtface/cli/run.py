"""``rtface run``: enhances the faces of films, stills, cameras and streams."""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtface.cli import early_checks, live
from rtface.cli.command import Json, command, explain
from rtface.cli.console import Console, discard_output, print_json, print_text
from rtface.cli.film_jobs import FarmAddress, Restart, Workers
from rtface.cli.signals import INTERRUPTED, StopRequest
from rtface.config.addresses import live_scope, resolve_address
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import OPTIONS, WHAT_IS_LIVE, InputOptions, Options, OutputOptions, Scope, check_scope
from rtface.errors import Interrupted, RtfaceError, UsageError
from rtface.jobs.run import Resumable
from rtface.pipeline.progress import ProgressLine
from rtface.util.text import counted
from rtface.util.urls import Address, check_file_name, place

if TYPE_CHECKING:
    from rtface.report import Report


@dataclass(frozen=True, slots=True)
class Job:
    """One INPUT and its OUTPUT.

    Attributes:
        input: what is read.
        output: the file or folder to write.
        folder: whether the user's OUTPUT ended in a slash, so that it is a folder.
    """

    input: Path | Address
    output: Path
    folder: bool = False

    @property
    def named(self) -> Path | str:
        """The output as `rtface.pipeline.film.run_file` takes it."""
        return f"{self.output}/" if self.folder else self.output


def plan_jobs(named: list[str], output_dir: Path | None, options: InputOptions) -> list[Job]:
    """Pairs inputs with outputs.

    Raises:
        UsageError: no OUTPUT, two inputs for one output, or an option that only makes sense for one input.
    """
    paths = [place(resolve_address(name)) for name in named]
    if output_dir is None:
        if len(paths) < 2:
            raise UsageError("give an OUTPUT after {path}, or --output-dir DIR", code="output_missing", path=paths[0])
        if len(paths) > 2:
            raise UsageError(
                "{count} inputs need --output-dir DIR; one OUTPUT takes one INPUT",
                code="output_dir_needed",
                count=len(paths) - 1,
            )
        source, target = paths
        if isinstance(target, Address):
            raise UsageError(
                "{address} cannot be written to; rtface publishes over rtmp, rtmps, udp, tcp and srt",
                code="output_scheme",
                address=target,
            )
        return [Job(source, target, folder=named[1].endswith(("/", os.sep)))]
    check_file_name(str(output_dir), "folder")
    for flag in ("compare", "report", "treatment", "shots", "invented"):
        if len(paths) > 1 and isinstance(getattr(options, flag), Path):
            hint = "--json prints one report a line" if flag == "report" else "run them one by one"
            raise UsageError(
                "--{flag} names one file and there are {count} inputs; {hint}",
                code="one_file_option",
                flag=flag,
                count=len(paths),
                hint=hint,
            )
    taken: dict[Path, Path | Address] = {}
    for path in paths:
        output = output_dir / output_name(path, sequence=options.sequence)
        if output in taken:
            raise UsageError(
                "{first} and {second} would both become {output}; run them into different folders",
                code="same_output",
                first=taken[output],
                second=path,
                output=output,
            )
        taken[output] = path
    for path in paths:
        for output in taken:
            if _same(path, output):
                raise UsageError(
                    "--output-dir {folder} is the folder of {path}, which would be its own output; name another folder",
                    code="output_dir_source",
                    folder=output_dir,
                    path=path,
                )
    return [Job(path, output) for output, path in taken.items()]


def _same(one: Path | Address, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - of addresses too, which are no paths
    except OSError:
        return False


def output_name(path: Path | Address, *, sequence: bool = False) -> str:
    """The file name of an input's output in ``--output-dir``."""
    if isinstance(path, Path) and path.is_dir():
        return f"{path.resolve().name}.mp4" if sequence else path.resolve().name
    from rtface.media.files.image_names import is_image
    from rtface.media.stills.images import IMAGE_KINDS
    from rtface.media.write.stream_plan import FORMATS

    if path.suffix.lower() in (FORMATS | IMAGE_KINDS):
        return path.name
    # A kind that cannot be written becomes PNG, or Matroska, which holds every codec.
    return path.stem + (".png" if isinstance(path, Path) and is_image(path) else ".mkv")


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
    """Runs all jobs; a failed one does not stop the rest. Gives the exit code."""
    from rtface.jobs.run import run_film
    from rtface.stats import Stats

    codes: list[int] = []
    skipped = 0
    for job in jobs:
        if skip and job.output.is_file() and not options.overwrite:  # a folder of stills resumes by itself
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
        ended = {"status": "planned" if options.dry_run else "done", **report.to_dict()}
        console.event("report", **ended)
        if json:
            _log(ended)
    if len(jobs) > 1:
        failed = sum(1 for code in codes if code)
        left = len(jobs) - len(codes) - skipped
        console.log(
            f"{codes.count(0)} done, {skipped} skipped, {failed} failed" + (f", {left} not begun" if left else ""),
            "error" if failed else "info",
        )
    interrupted = [code for code in codes if code > INTERRUPTED]
    return interrupted[0] if interrupted else codes[0] if len(jobs) == 1 and codes else int(any(codes))


def _log(value: object) -> None:
    """Prints one line of JSON; a reader of stdout that has gone does not end the run."""
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


def _explain_stage(given: list[str] | None) -> list[str] | None:
    """Handles ``--stage help`` and ``--stage NAME:help``, which need no other argument."""
    from rtface.stages.options import described

    for text in given or ():
        name, _, rest = text.partition(":")
        if rest.strip() == "help" or text == "help":
            try:
                print_text(*described(name.strip()).split("\n"))
            except RtfaceError as error:
                raise typer.Exit(explain(error, Console(0))) from None
            raise typer.Exit
    return given or None


def _engine_names(incomplete: str) -> list[str]:
    from rtface.engine.recipe import find_recipes

    return [name for name in ("auto", "default", *find_recipes()) if name.startswith(incomplete)]


RUN_FLAGS: dict[str, dict[str, Any]] = {
    "engine": {"autocompletion": _engine_names},
    "stages": {"callback": _explain_stage, "is_eager": True},
}
"""Arguments of `typer.Option` for flags of a run, for `rtface.cli.command.command`."""


@command(*OPTIONS, **RUN_FLAGS)
def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            show_default=False,
            help=(
                "Films, stills or folders of stills, and the file or folder to write; its extension tells the kind: "
                "mp4, mkv, mov, webm, png, jpg, tiff; a folder/ takes the frames of a film. "
                "Live: camera:0 or a stream's URL, and vcam:, a URL or a file."
            ),
        ),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help=("Write every INPUT into this folder under its own name; finished ones are skipped.")
        ),
    ] = None,
    workers: Workers = None,
    restart: Restart = False,
    farm: FarmAddress = None,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Enhance the faces of a film, a still, a camera or a stream. Nothing else is changed: outside the faces, a
    lossless output has the samples of the input; a lossy encoder changes the whole frame a little."""
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
    # Live options are refused before anything heavy is imported.
    check_scope(loaded.given, options, Scope.FILM | Scope.SEQUENCE | Scope.ENCODED | Scope.STILLS)
    early_checks.check_names(options)
    early_checks.check_inputs([job.input for job in jobs])
    if not options.dry_run and workers in (None, "1") and farm is None:  # else this process runs no engine
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


@contextmanager
def output_folder(path: Path | None, *, keep: bool) -> Generator[None]:
    """Makes a missing ``--output-dir``; without `keep` it is removed again, because a dry run only checks it."""
    if path is None or path.is_dir():
        yield
        return
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True)
    try:
        yield
    finally:
        for folder in made if not keep else ():
            folder.rmdir()
