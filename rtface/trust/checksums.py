"""Manifest of an output (``--checksums``): SHA-256 of its files, as they lie on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rtface.errors import Interrupted, Message, OutputError
from rtface.media.files.file_hashes import HashedFile, manifest_lines, name_in, sha256_of, share_of_bytes
from rtface.media.files.outputs import OutputPath
from rtface.media.files.workfile import Target, full, write_whole
from rtface.media.stills.images import list_images

FILES = ".sha256"
"""Extension of the manifest, added to the output's name."""

Doing = Callable[[str, float], None]
"""Called with what is being done, and the share of it that is done, 0…1."""


def checksum_output(output: Path) -> OutputPath:
    """Where the manifest of an output goes, to be checked before a run."""
    return OutputPath(output.with_name(output.name + FILES), "--checksums")


def write_checksums(
    output: Path,
    target: Target,
    *,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> str:
    """Writes the manifest of a finished output.

    Args:
        output: the film, still or folder of stills.
        target: the checked `checksum_output`.
        doing: receives progress.
        stop: ends the work once it is true.

    Returns:
        A line that says so.

    Raises:
        Interrupted, OutputError: the message says that the output is whole, and how to write the manifest.
        InputError: the output cannot be read again.
    """
    try:
        write_file_hashes(target, list_images(output) if output.is_dir() else [output], doing, stop)
    except Interrupted as error:
        error.message = Message(
            f"interrupted; {output} is whole, its checksums are not written: rtface verify --write {output} writes them"
        )
        raise
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            "the checksums of {output} cannot be written ({why}); the output itself is whole: rtface verify "
            "--write {output} writes them",
            code="checksums_unwritten",
            output=output,
            why=full(error) or error.strerror,
        ) from error
    return f"{target.path.name}: SHA-256 of its files"


def write_file_hashes(
    target: Target, files: Sequence[Path], doing: Doing | None, stop: Callable[[], bool] | None
) -> None:
    """Writes a SHA-256 manifest; raises as `write_checksums`, but OSError as it is."""
    tick = share_of_bytes(sum(path.stat().st_size for path in files), doing)
    lines = [HashedFile(name_in(target.path, path), sha256_of(path, tick=tick, stop=stop)) for path in files]
    write_whole(target, manifest_lines(lines))
