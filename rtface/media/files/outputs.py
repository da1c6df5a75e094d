"""Checks all output paths before a run: OUTPUT, comparison, report, recording."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError, Message, OptionFlag, OutputError, UsageError
from rtface.media.files.image_names import IMAGE_KINDS, list_images
from rtface.media.files.workfile import Target, work_name
from rtface.util.urls import check_file_name, check_slashes

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class OutputPath:
    """A path that a run writes.

    Attributes:
        path: the path as the user specified it.
        name: name in messages: "" for OUTPUT, otherwise the option, such as "--report".
        folder: whether the output is a folder of images.
        resumes: whether existing output comes from an earlier call of the same job. A film may then exist, and only the
            missing images are written to a folder.
        replaces: whether an existing file is replaced even without `overwrite`.
    """

    path: AnyPath
    name: str = ""
    folder: bool = False
    resumes: bool = False
    replaces: bool = False

    @property
    def message(self) -> Message:
        """The path for messages, preceded by its option."""
        path = os.fspath(self.path)
        return (
            Message("{option:{path}}", code="output_of", option=OptionFlag(self.name), path=path)
            if self.name
            else Message(path)
        )


def names_folder(output: AnyPath) -> bool:
    """Returns whether an output path means a folder: it ends in a slash, or the folder exists."""
    text = os.fspath(output)
    return text.endswith(("/", os.sep)) or Path(text).is_dir()


def check_outputs(written: Sequence[OutputPath], *, inputs: Iterable[AnyPath], overwrite: bool) -> list[Target]:
    """Checks all output paths of a run, also against each other.

    Args:
        written: the outputs. The run creates folder outputs with their parents, so other outputs may lie in these.
        inputs: input files, folders and URLs. Images in an input folder count as inputs, too.
        overwrite: whether existing files may be replaced.

    Returns:
        A target for each path, in the same order.

    Raises:
        UsageError: a path is "-" or a mistyped URL instead of a file or folder.
        OutputError: a path exists, is an input or another output (even by link), or its folder is missing or read-only.
    """
    targets: list[Target] = []
    input_paths = list(inputs)
    folders = [Path(os.path.realpath(output.path)) for output in written if output.folder]
    created = {path for folder in folders for path in (folder, *folder.parents)}
    for output in written:
        target = _check(output, input_paths, overwrite or output.replaces, created)
        for other, earlier in zip(written, targets, strict=False):
            if target.path == earlier.path or same_file(target.path, earlier.path):
                raise OutputError(
                    "{path}: is the same file as {name}; choose another name",
                    code="output_same",
                    path=output.message,
                    name=OptionFlag(other.name) if other.name else "OUTPUT",
                )
        targets.append(target)
    return targets


def check_target(output: AnyPath, *, inputs: Iterable[AnyPath], overwrite: bool) -> Target:
    """Checks one output file. See `check_outputs`."""
    return check_outputs([OutputPath(output)], inputs=inputs, overwrite=overwrite)[0]


def folder_gone(path: object, folder: Path) -> OutputError:
    """Returns the error for an output whose folder does not exist."""
    return OutputError(
        "{path}: there is no folder {folder}; create it first", code="output_folder_gone", path=path, folder=folder
    )


def _check(output: OutputPath, inputs: Sequence[AnyPath], overwrite: bool, created: set[Path]) -> Target:
    text = os.fspath(output.path)
    if text == "-":
        raise UsageError(
            "{path}: rtface writes to files, not to standard output; specify a file",
            code="output_stdout",
            path=output.message,
        )
    (check_file_name if output.name else check_slashes)(text)
    raw = Path(text)
    path = Path(os.path.realpath(raw))
    target = Target(path, output.message, overwrite)
    _check_kind(output, raw)
    for name in inputs:
        if same_file(raw, name):
            what = "folder" if output.folder else "name"
            raise OutputError(
                "{path}: is the input itself; choose another {what} for the output",
                code="output_input",
                path=output.message,
                what=what,
            )
        if not output.folder and raw.exists() and any(same_file(raw, image) for image in _images(name)):
            raise OutputError(
                "{path}: is one of the input's images; choose another name for the output",
                code="output_is_image",
                path=output.message,
            )
    if output.folder:
        _check_folder(output, path, overwrite)
        return target
    if path.parent in created and not path.parent.exists():
        return target
    if not path.parent.is_dir():
        raise folder_gone(output.message, path.parent)
    if os.path.lexists(path) and not overwrite and not output.resumes:  # also true for a circular link
        raise OutputError(
            "{path}: exists already; {--overwrite=True} replaces it once the new file is complete",
            code="output_exists",
            path=output.message,
        )
    _check_writable(output, path)
    return target


def _check_kind(output: OutputPath, raw: Path) -> None:
    try:
        mode = raw.stat().st_mode
    except OSError:
        return  # the path does not exist yet
    if stat.S_ISDIR(mode):
        if not output.folder:
            raise OutputError(
                "{path}: is a folder; specify a file in it, such as {example}",
                code="output_folder",
                path=output.message,
                example=raw / "enhanced.mp4",
            )
    elif not stat.S_ISREG(mode):
        raise OutputError(
            "{path}: is not a regular file; choose another name", code="output_special", path=output.message
        )
    elif output.folder:
        raise OutputError(
            "{path}: is a file, but a folder is needed; choose another name", code="output_is_file", path=output.message
        )


def _check_folder(output: OutputPath, path: Path, overwrite: bool) -> None:
    """Checks that a folder is new or empty. `overwrite` and `resumes` allow other folders, too."""
    if path.is_dir():
        if not overwrite and not output.resumes and any(path.iterdir()):
            raise OutputError(
                "{path}: is a folder that is not empty; choose another, or replace stills of the same name with "
                "{--overwrite=True}",
                code="output_filled",
                path=output.message,
            )
        _check_writable(output, path / "000001.png")
        return
    ancestor = path.parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    _check_writable(output, ancestor / path.name)


def _check_writable(output: OutputPath, path: Path) -> None:
    """Checks that a file can be created next to `path`."""
    probe = work_name(path)
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink(missing_ok=True)  # another run may have removed it as abandoned
    except OSError as error:
        raise OutputError(
            "{path}: the folder {folder} cannot be written to ({why}); choose another place or a shorter name, or "
            "change its permissions",
            code="output_forbidden",
            path=output.message,
            folder=path.parent,
            why=error.strerror,
        ) from error


def _images(folder: AnyPath) -> list[Path]:
    """Lists the images in an input folder. Returns none for other inputs."""
    try:
        return list_images(folder)
    except (InputError, ValueError):
        return []


def same_file(one: AnyPath, other: AnyPath) -> bool:
    """Returns whether two paths are of one file. Addresses and missing files are of none."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - URLs are not paths
    except (OSError, ValueError):
        return False


def film_folder(output: AnyPath, suffixes: Iterable[str], input: AnyPath, *, still: bool = False) -> bool:
    """Returns whether a film's OUTPUT is a folder of images.

    Args:
        output: OUTPUT as the user specified it.
        suffixes: extensions of films.
        input: the input, whose extension is proposed if OUTPUT has none.
        still: whether the input is a still.

    Raises:
        UsageError: OUTPUT is "-", or has no extension and is not a folder.
    """
    text = os.fspath(output)
    check_slashes(text)
    path, films = Path(text), set(suffixes)
    if text == "-":
        raise UsageError(
            "{path}: rtface writes to files, not to standard output; specify a file", code="output_stdout", path=text
        )
    if path.suffix.lower() in films and not text.endswith(("/", os.sep)):
        return False
    if names_folder(output):
        return True
    if not path.suffix:
        name, suffix = path.name.rstrip("."), Path(os.fspath(input)).suffix.lower()
        advice = (
            f"use {name}{suffix if suffix in IMAGE_KINDS else '.png'} for an image"
            if still
            else f"use {name}{suffix if suffix in films else '.mp4'} for a film, or {path.name}/ for a folder of stills"
        )
        raise UsageError(
            "{path}: has no extension, so it is unclear what to write; {advice}",
            code="output_extension",
            path=text,
            advice=advice,
        )
    return False
