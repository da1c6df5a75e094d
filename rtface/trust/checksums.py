"""Manifests of an output (``--checksums``): SHA-256 of its files, and framemd5 of a film's frames and packets.

They are made of the finished file on the disk, not of what was handed to the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rtface.errors import Interrupted, Message, OutputError
from rtface.media.files.file_hashes import HashedFile, manifest_lines, name_in, sha256_of, share_of_bytes
from rtface.media.files.outputs import OutputPath
from rtface.media.files.workfile import Target, WorkFile, full, write_whole
from rtface.media.stills.images import list_images
from rtface.trust.framemd5 import hash_frames

FILES, FRAMES = ".sha256", ".framemd5"
"""Extensions of the two manifests, added to the output's name."""

Doing = Callable[[str, float], None]
"""Called with what is being done, and the share of it that is done, 0…1."""


def checksum_outputs(output: Path, *, film: bool) -> list[OutputPath]:
    """The manifests of an output, to be checked before a run: of a film the frames', and always the files'."""
    suffixes = (FRAMES, FILES) if film else (FILES,)
    return [OutputPath(output.with_name(output.name + suffix), "--checksums") for suffix in suffixes]


def write_checksums(
    output: Path,
    targets: Sequence[Target],
    *,
    more: Sequence[Path] = (),
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[str]:
    """Writes the manifests of a finished output.

    Args:
        output: the film, still or folder of stills.
        targets: the checked manifests, as `checksum_outputs` orders them.
        more: further files of the run that the SHA-256 manifest names.
        doing: receives progress.
        stop: ends the work once it is true.

    Returns:
        One line for each manifest.

    Raises:
        Interrupted, OutputError: a manifest is missing then; the message says that the output is whole, and how to
            write it.
        InputError: the output cannot be read again.
    """
    said: list[str] = []
    try:
        files = [output]
        if len(targets) > 1:
            _write_frames(output, targets[0], doing, stop)
            files.append(targets[0].path)
            said.append(f"{targets[0].path.name}: hashes of its frames and packets")
        write_file_hashes(targets[-1], [*(list_images(output) if output.is_dir() else files), *more], doing, stop)
        said.append(f"{targets[-1].path.name}: SHA-256 of its files")
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
    return said


def write_file_hashes(
    target: Target, files: Sequence[Path], doing: Doing | None, stop: Callable[[], bool] | None
) -> None:
    """Writes a SHA-256 manifest; raises as `write_checksums`, but OSError as it is."""
    tick = share_of_bytes(sum(path.stat().st_size for path in files), doing)
    lines = [HashedFile(name_in(target.path, path), sha256_of(path, tick=tick, stop=stop)) for path in files]
    write_whole(target, manifest_lines(lines))


def _write_frames(film: Path, target: Target, doing: Doing | None, stop: Callable[[], bool] | None) -> None:
    work: list[WorkFile] = []

    def begin() -> Any:
        for old in work:
            old.discard()
        work[:] = [WorkFile(target)]
        return work[0]

    try:
        try:
            hash_frames(film, begin, stop=stop, tick=(lambda done: doing("framemd5", done)) if doing else None)
        finally:
            if work and (fault := work[0].fault) is not None:  # FFmpeg tells it in its own words, or not at all
                raise fault
        work[0].publish()
    except BaseException:
        for file in work:
            file.discard()
        raise
