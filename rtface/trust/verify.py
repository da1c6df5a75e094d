"""Checks an output against its SHA-256 manifest, its sidecar and its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rtface.errors import InputError, InputMissing, MissingComponent, UsageError
from rtface.media.files.file_hashes import read_manifest, sha256_of, share_of_bytes
from rtface.media.stills.images import list_images
from rtface.trust.check_input import check_input, check_pair
from rtface.trust.check_sidecar import Checked, check_sidecar, check_signature
from rtface.trust.checksums import FILES, Doing
from rtface.trust.credentials import (
    bytes_left_out,
    may_have_credentials,
    read_anchors,
    read_credentials,
)
from rtface.trust.sidecar import SUFFIX, read_sidecar
from rtface.util.foreign import open_regular

Answer = Literal["same", "differs", "not checked"]


@dataclass(slots=True)
class Verified:
    """What `verify` found.

    Attributes:
        output: as given.
        files: whether the bytes of its files are those of the SHA-256 manifest.
        files_checked: how many.
        sidecar: whether the output is the one that its sidecar describes.
        credentials: whether the content credentials in it are valid, and the content as it was signed.
        input: whether all that is not a correction is the input's.
        proofs: one line for everything that was shown by the sidecar or the input.
        problems: one line for each file that differs or is missing, and for what sidecar or input show to differ.
        gaps: one line for everything that was to be compared and could not be, and why.
        notes: what else was not checked, and why.
    """

    output: str
    files: Answer = "not checked"
    sidecar: Answer = "not checked"
    credentials: Answer = "not checked"
    input: Answer = "not checked"
    files_checked: int = 0
    proofs: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def differs(self) -> bool:
        """Whether anything is not as it should be."""
        return "differs" in self._answers

    @property
    def same(self) -> bool:
        """Whether everything that was to be compared was, and is as it should be."""
        return "same" in self._answers and not self.differs and not self.gaps

    @property
    def _answers(self) -> tuple[Answer, ...]:
        return self.files, self.sidecar, self.credentials, self.input

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        return {**asdict(self), "same": self.same}


def verify(
    output: Path,
    manifest: Path | None = None,
    *,
    input: Path | None = None,
    trust: Path | None = None,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> Verified:
    """Checks a film, still or folder of stills.

    Args:
        output: what is checked.
        manifest: a SHA-256 manifest or a sidecar; None for those that ``--checksums`` and
            ``--sidecar`` write.
        input: what the output was made of, to be compared with it.
        trust: certificates (PEM) that vouch for signers of credentials, and c2pa's list.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.

    Raises:
        UsageError: there is no manifest, or no certificate in `trust`.
        InputMissing, InputError: output or manifest cannot be read.
    """
    if not output.exists():
        raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=output)
    found = Verified(str(output))
    anchors = read_anchors(trust) if trust is not None else None
    _check_credentials(found, output, anchors)
    signed_inside = found.credentials != "not checked" or bool(found.gaps or found.notes)
    sums, sidecar = _manifests(
        output, manifest, needed=input is None and not found.gaps and found.credentials == "not checked"
    )
    if sums is not None:
        _check_files(found, output, sums, doing, stop)
    values = read_sidecar(sidecar, output) if sidecar is not None else None
    if values is not None:
        checked = check_sidecar(output, values, doing=doing, stop=stop)
        check_signature(checked, values, anchors, signed_inside=signed_inside)
        found.sidecar = _add(found, checked)
    elif anchors is not None and not signed_inside:
        found.gaps.append("nothing says who made it: it holds no credentials, and has no signed sidecar")
    if input is not None:
        check_pair(output, input)
        checked = check_input(output, input, values, doing=doing, stop=stop)
        found.input = _add(found, checked)
    return found


def _check_credentials(found: Verified, output: Path, anchors: str | None) -> None:
    try:
        credentials = read_credentials(output, anchors)
    except MissingComponent as error:
        if may_have_credentials(output):
            found.notes.append(f"its credentials are not checked: {error}")
        return
    if credentials is None:
        return
    if credentials.elsewhere:
        found.gaps += credentials.lines()
    elif not credentials.valid or (anchors is not None and not credentials.trusted):
        found.credentials = "differs"
        found.problems += credentials.lines()[:1]
    else:
        found.credentials = "same"
        found.proofs += credentials.lines()
        left_out = bytes_left_out(output)
        if left_out:
            found.notes.append(
                f"its credentials do not cover {left_out} bytes in boxes that players skip (free, "
                "skip), as C2PA has it; anything may be in them"
            )


def _add(found: Verified, checked: Checked) -> Answer:
    """Adds what a check found, and says how it ended."""
    found.problems += checked.problems
    found.proofs += checked.proofs
    found.gaps += checked.gaps
    found.notes += checked.notes
    return "differs" if checked.problems else "same" if checked.proofs and not checked.gaps else "not checked"


def has_manifest(output: Path) -> bool:
    """Whether there is anything next to an output to check it against."""
    return any(output.with_name(output.name + suffix).is_file() for suffix in (FILES, SUFFIX))


def _manifests(output: Path, manifest: Path | None, *, needed: bool) -> tuple[Path | None, Path | None]:
    """The SHA-256 manifest, and the sidecar."""
    output = output.resolve() if not output.name else output
    if manifest is not None:
        try:
            with open_regular(manifest) as file:
                head = file.read(20)
        except OSError as error:
            raise InputMissing(
                "{path}: cannot be read ({why}); check the name", code="unreadable", path=manifest, why=error.strerror
            ) from error
        if head.lstrip().startswith(b"{"):
            return None, manifest
        if head.startswith((b"#format: frame", b"#extradata")):
            raise UsageError(
                "{path}: is a list of frames, which FFmpeg compares: ffmpeg -noautorotate -i {output} -map 0 "
                "-map -0:t? -c copy -c:v:0 rawvideo -f framemd5 - | diff - {path}",
                code="manifest_framemd5",
                path=manifest,
                output=output,
            )
        return manifest, None
    sums, sidecar = (
        path if path.is_file() else None
        for path in (output.with_name(output.name + suffix) for suffix in (FILES, SUFFIX))
    )
    if needed and sums is sidecar is None:
        raise UsageError(
            "{output}: has no manifest {name}{files}, and no sidecar {name}{suffix}; name one "
            "with --manifest, write manifests with --write, or name the INPUT",
            code="manifest_none",
            output=output,
            name=output.name,
            files=FILES,
            suffix=SUFFIX,
        )
    return sums, sidecar


def _check_files(
    found: Verified, output: Path, manifest: Path, doing: Doing | None, stop: Callable[[], bool] | None
) -> None:
    listed = [(manifest.parent / file.name, file) for file in read_manifest(manifest)]
    known = {path.resolve() for path, _ in listed}
    own = list_images(output) if output.is_dir() else [output]
    if not any(path.resolve() in known for path in own):
        raise InputError(
            "{manifest}: does not name {output}; it is the manifest of something else",
            code="manifest_other",
            manifest=manifest,
            output=output,
        )
    tick = share_of_bytes(sum(path.stat().st_size for path, _ in listed if path.is_file()), doing)
    found.files = "same"
    for path, file in listed:
        try:
            problem = None if sha256_of(path, tick=tick, stop=stop) == file.sha256 else "its bytes differ (SHA-256)"
        except InputMissing as error:
            problem = str(error).removeprefix(f"{path}: ")
        found.files_checked += 1
        if problem:
            found.files = "differs"
            found.problems.append(f"{path}: {problem}")
    added = [path for path in own if path.resolve() not in known]
    if added:
        found.notes.append(f"{len(added)} images are not in {manifest.name}, such as {added[0].name}")
