"""Checks an output's signature and hashes; with the input, also unchanged areas."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import Any, Literal

from rtface.errors import InputError, InputMissing, Interrupted, MissingComponent, UsageError
from rtface.frame import Frame
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import is_image, list_images
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.trust.check_result import CheckResult, OnProgress
from rtface.trust.credentials import Credentials, read_anchors, read_credentials
from rtface.trust.frame_comparison import FrameComparison
from rtface.trust.packet_hashes import compare_packets, hash_packets
from rtface.trust.sidecar import AREAS, read_sidecar, sidecar_path, signed_bytes
from rtface.trust.signing import signer_of
from rtface.util.foreign import fits
from rtface.util.parse import format_time
from rtface.util.text import counted

Answer = Literal["same", "differs", "not checked"]
_SAME_S = 0.004  # containers may round the times of frames by this much


@dataclass(slots=True)
class Verified(CheckResult):
    """Contains the result of `verify`: a line for each proof, problem, gap and note.

    Attributes:
        output: path of the output as the caller gave it.
        sidecar: whether the output's bytes match its manifest, and the manifest matches its signature.
        credentials: whether the content credentials are valid, and the content is still what was signed.
        input: whether everything outside the changed areas equals the input.
    """

    output: str = ""
    sidecar: Answer = "not checked"
    credentials: Answer = "not checked"
    input: Answer = "not checked"

    @property
    def differs(self) -> bool:
        """Whether any check failed."""
        return "differs" in (self.sidecar, self.credentials, self.input)

    @property
    def same(self) -> bool:
        """Whether all intended checks were made and passed."""
        return "same" in (self.sidecar, self.credentials, self.input) and not self.differs and not self.gaps

    def to_dict(self) -> dict[str, Any]:
        """Returns plain dictionaries, lists, numbers and strings."""
        return {**asdict(self), "same": self.same}

    def add(self, result: CheckResult) -> Answer:
        """Adds the findings of a check, and returns its answer."""
        for kind in ("problems", "proofs", "gaps", "notes"):
            getattr(self, kind).extend(getattr(result, kind))
        return "differs" if result.problems else "same" if result.proofs and not result.gaps else "not checked"


def verify(
    output: Path,
    *,
    input: Path | None = None,
    trust: Path | None = None,
    doing: OnProgress | None = None,
    stop: threading.Event | None = None,
) -> Verified:
    """Checks a film, still or folder against its manifest: the sidecar next to it, or the credentials in it.

    Args:
        output: the file or folder to check.
        input: input of the run, to be compared with the output.
        trust: certificates (PEM) that vouch for signers.
        doing: receives progress.
        stop: ends the work with `Interrupted` when set.

    Raises:
        UsageError: there is no manifest, or no certificate in `trust`.
        InputMissing, InputError: output, input or manifest cannot be read.
    """
    for path in filter(None, (output, input)):
        if not path.is_file() and not path.is_dir():  # a pipe would block
            raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=path)

    def step(what: str, done: float) -> None:
        if stop is not None and stop.is_set():
            raise Interrupted
        if doing is not None:
            doing(what, done)

    verified, anchors = Verified(output=str(output)), None if trust is None else read_anchors(trust)
    credentials = _check_credentials(verified, output, anchors)
    sidecar, values = sidecar_path(output), None
    if sidecar.is_file():
        values, result = read_sidecar(sidecar), CheckResult()
        _check_files(result, output, values["output"], step)
        _check_signature(result, values, anchors, inside=credentials is not None)
        verified.sidecar = verified.add(result)
    elif credentials is not None and credentials.valid and fits(credentials.sidecar_fields, AREAS):
        values = credentials.sidecar_fields
    if values is None and credentials is None and not verified.notes:
        raise UsageError(
            "{output}: has no manifest {name} and no credentials, so its changes are unknown; use --sidecar or --sign "
            "for the next run",
            code="manifest_none",
            output=output,
            name=sidecar.name,
        )
    if input is not None and values is None:
        verified.gaps.append("it does not record what was changed, so it is not compared with the input")
    elif input is not None and values is not None:
        result = CheckResult()
        _check_files(result, input, values["input"], step)
        _compare(result, output, input, values, step)
        verified.input = verified.add(result)
    return verified


def _check_credentials(verified: Verified, output: Path, anchors: str | None) -> Credentials | None:
    try:
        credentials = read_credentials(output, anchors)
    except MissingComponent as error:
        verified.notes.append(f"its credentials are not checked: {error}")
        return None
    if credentials is not None:
        passed = credentials.valid and (anchors is None or credentials.trusted)
        lines = credentials.lines()
        verified.credentials = verified.add(CheckResult(proofs=lines) if passed else CheckResult(problems=lines[:1]))
    return credentials


def _check_signature(result: CheckResult, values: dict[str, Any], anchors: str | None, *, inside: bool) -> None:
    if "signature" not in values:
        if not inside and (anchors is not None or values.get("signed")):
            result.problems.append("the sidecar has no signature: it never had one, or it was removed")
        return
    try:
        signer = signer_of(values["signature"], signed_bytes(values), anchors)
    except MissingComponent as error:
        result.notes.append(f"the sidecar's signature is not checked: {error}")
        return
    if signer is None:
        result.problems.append("the sidecar was changed after it was signed")
        return
    name, trusted = signer
    if anchors is not None and not trusted:
        result.problems.append(f"the sidecar is signed by {name}, for whom no certificate of --trust vouches")
    else:
        result.proofs.append(
            f"the sidecar is unchanged since {name} signed it" + "; this name is not verified" * (not trusted)
        )


def _check_files(result: CheckResult, path: Path, manifest: dict[str, Any], doing: OnProgress) -> None:
    """Compares the SHA-256 of a file or folder with a manifest."""
    if "files" not in manifest and "sha256" not in manifest:
        return  # the input was a pipe or a camera
    listed = {one["name"]: one["sha256"] for one in manifest.get("files", ())} or {path.name: manifest.get("sha256")}
    present = {file.name: file for file in (list_images(path) if path.is_dir() else [path])}
    tick = share_of_bytes(sum(file.stat().st_size for file in present.values()), doing)
    problems = [f"{name}: is missing" for name in listed if name not in present]
    for name, file in present.items():
        if name not in listed:
            problems.append(f"{name}: was added: the manifest does not list it")
        elif sha256_of(file, tick=tick) != listed[name]:
            problems.append(f"{name}: its bytes differ from the manifest (SHA-256)")
    result.problems += problems
    if not problems:
        result.proofs.append(f"{path.name}: its bytes match the manifest ({counted(len(listed), 'file')}, SHA-256)")


def _compare(result: CheckResult, output: Path, input: Path, values: dict[str, Any], doing: OnProgress) -> None:
    """Compares an output with its input."""
    frames = FrameComparison(
        {name: areas if isinstance(areas, str) else [tuple(box) for box in areas] for name, areas in values["changed"]},
        values.get("whole", ""),
        lossless=values["output"]["lossless"],
    )
    if output.is_dir() != input.is_dir():
        result.gaps.append("output and input are a folder of stills and a film: their frames are not compared")
    elif output.is_dir() or (is_image(output) and is_image(input)):
        _compare_stills(result, frames, output, input, values.get("options", {}).get("scale"), doing)
    else:
        _compare_films(result, frames, output, input, values, doing)
    frames.end(result)


def _compare_stills(
    result: CheckResult, frames: FrameComparison, output: Path, input: Path, scale: str | None, doing: OnProgress
) -> None:
    enlarger, pairs = Enlarger(scale), [(output, input)]
    if output.is_dir():
        sources, outputs = {path.stem: path for path in list_images(input)}, list_images(output)
        pairs = [(path, sources[path.stem]) for path in outputs if path.stem in sources]
        if unmatched := {path.stem for path in outputs} ^ sources.keys():
            result.gaps.append(
                f"{counted(len(unmatched), 'still')} in one folder only ({min(unmatched)}): not compared"
            )
    for number, (path, source) in enumerate(pairs):
        doing("comparison", number / len(pairs))
        try:
            new, old = read_image(path).frame, read_image(source).frame
        except InputError as error:
            result.gaps.append(f"{path.name} is not compared: {error}")
            continue
        if (new.display.quarter_turns, new.display.mirror) != (old.display.quarter_turns, old.display.mirror):
            result.gaps.append(f"{path.name}: was turned upright; its samples are not compared")
        else:
            frames.frame(path.name, new, enlarger(old))


def _compare_films(
    result: CheckResult, frames: FrameComparison, output: Path, input: Path, values: dict[str, Any], doing: OnProgress
) -> None:
    part, options = values["input"], values.get("options", {})
    start, end, variant = part.get("start_s"), part.get("end_s"), options.get("variant", "best")
    choices = {"scale": options.get("scale"), "chosen": options.get("fields"), "variant": variant}
    with closing(FileSource(output)) as target, closing(FileSource(input, start=start, end=end, **choices)) as source:
        length, cut = target.info.duration_s, (source.info.start, source.info.end)
        if cut != (None, None):
            end_text = "its end" if end is None else format_time(end)
            result.notes.append(
                f"the part of {input.name} that the run read is compared: {format_time(start or 0.0)} to {end_text}"
            )
        begins: tuple[float, float] | None = None
        pictures = ((item for item in film if isinstance(item, Frame)) for film in (target, source))
        for number, (new, old) in enumerate(zip_longest(*pictures)):
            if new is None or old is None:
                which = "fewer" if new is None else "more"
                result.problems.append(f"it has {which} frames than {input.name}, from frame {number} on")
                break
            begins = begins or (new.time, old.time)
            if abs((new.time - begins[0]) - (old.time - begins[1])) > _SAME_S:
                result.problems.append(f"frame {number} has another time than in {input.name}")
                break
            copied = any(first <= number <= last for first, last in values.get("copied", ()))
            frames.frame(number, new, old, copied=copied)
            doing("comparison", min(1.0, (new.time - begins[0]) / (length or inf)))
    packets, originals = hash_packets(output, doing=doing), hash_packets(input, doing=doing, variant=variant)
    compare_packets(result, packets[1:], originals[1:], begins or (0.0, 0.0), cut, options.get("drop", ()))
