"""Turns arguments of ``rtface run`` and ``rtface queue add`` into jobs. A job is an input with its output."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rtface.config.addresses import resolve_address
from rtface.config.options import InputOptions
from rtface.errors import UsageError
from rtface.util.urls import Address, check_file_name, place

OutputDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help=("Write every INPUT into this folder under its own name; finished ones are skipped.")
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        show_default="1",
        help=("Number of processes that work on a film at the same time."),
    ),
]
Restart = Annotated[
    bool, typer.Option("--restart", help=("Start a film again, instead of continuing where the last run ended."))
]
FarmAddress = Annotated[
    str | None,
    typer.Option(
        metavar="dask://HOST:PORT",
        help=("Let workers of a Dask cluster process a film; they need its folder and INPUT under the same paths."),
    ),
]


@dataclass(frozen=True, slots=True)
class Job:
    """Holds one INPUT and its OUTPUT.

    Attributes:
        input: the film, still or folder.
        output: the file or folder to write.
        folder: whether OUTPUT ended in a slash, which makes it a folder.
    """

    input: Path | Address
    output: Path
    folder: bool = False

    @property
    def named(self) -> Path | str:
        """The output in the form that `rtface.pipeline.film.run_file` expects."""
        return f"{self.output}/" if self.folder else self.output


def plan_jobs(names: list[str], output_dir: Path | None, options: InputOptions) -> list[Job]:
    """Pairs inputs with outputs.

    Raises:
        UsageError: there is no OUTPUT, two inputs have one output, or an option allows only a single input.
    """
    paths = [place(resolve_address(name)) for name in names]
    if output_dir is None:
        if len(paths) < 2:
            raise UsageError("add an OUTPUT after {path}, or --output-dir DIR", code="output_missing", path=paths[0])
        if len(paths) > 2:
            raise UsageError(
                "{count} inputs need --output-dir DIR; OUTPUT is for a single INPUT",
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
        return [Job(source, target, folder=names[1].endswith(("/", os.sep)))]
    check_file_name(str(output_dir), "folder")
    for flag in ("compare", "report", "treatment", "shots", "invented"):
        if len(paths) > 1 and isinstance(getattr(options, flag), Path):
            hint = "--json prints one report a line" if flag == "report" else "run them one by one"
            raise UsageError(
                "--{flag} is a single file, but there are {count} inputs; {hint}",
                code="one_file_option",
                flag=flag,
                count=len(paths),
                hint=hint,
            )
    input_of: dict[Path, Path | Address] = {}
    for path in paths:
        output = output_dir / output_name(path, sequence=options.sequence)
        if output in input_of:
            raise UsageError(
                "{first} and {second} would both become {output}; write them to different folders",
                code="same_output",
                first=input_of[output],
                second=path,
                output=output,
            )
        input_of[output] = path
    from rtface.media.files.outputs import same_file

    for path in paths:
        for output in input_of:
            if same_file(path, output):
                raise UsageError(
                    "--output-dir {folder} is the folder of {path}, which would be replaced; choose another folder",
                    code="output_dir_source",
                    folder=output_dir,
                    path=path,
                )
    return [Job(path, output) for output, path in input_of.items()]


def output_name(path: Path | Address, *, sequence: bool = False) -> str:
    """Returns the file name of an input's output in ``--output-dir``."""
    if isinstance(path, Path) and path.is_dir():
        return f"{path.resolve().name}.mp4" if sequence else path.resolve().name
    from rtface.media.files.image_names import is_image
    from rtface.media.stills.images import IMAGE_KINDS
    from rtface.media.write.stream_plan import FORMATS

    if path.suffix.lower() in (FORMATS | IMAGE_KINDS):
        return path.name
    # A format that rtface cannot write becomes PNG, or Matroska, which can contain any codec.
    return path.stem + (".png" if isinstance(path, Path) and is_image(path) else ".mkv")


@contextmanager
def output_folder(path: Path | None, *, keep: bool) -> Generator[None]:
    """Creates a missing ``--output-dir``. Without `keep` (a dry run) it is removed afterwards."""
    if path is None or path.is_dir():
        yield
        return
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True)
    try:
        yield
    finally:
        for folder in created if not keep else ():
            folder.rmdir()
