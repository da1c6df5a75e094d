"""Checks an output: signature and hashes, and by the input that nothing outside the named areas was changed."""

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
from rtface.trust.checked import Checked, Doing
from rtface.trust.credentials import Credentials, read_anchors, read_credentials
from rtface.trust.frame_comparison import FrameComparison
from rtface.trust.packet_hashes import compare_packets, hash_packets
from rtface.trust.sidecar import AREAS, read_sidecar, sidecar_path, signed_bytes
from rtface.trust.signing import signer_of
from rtface.util.foreign import fits
from rtface.util.parse import format_time
from rtface.util.text import counted

Answer = Literal["same", "differs", "not checked"]
_SAME_S = 0.004  # by which containers round the time of a frame


@dataclass(slots=True)
class Verified(Checked):
    """What `verify` found: a line for each proof, problem, gap and note.

    Attributes:
        output: as given.
        sidecar: whether the output has the bytes that its manifest names, and the manifest is as it was signed.
        credentials: whether the content credentials in it are valid, and the content as it was signed.
        input: whether everything outside the areas that were changed is the input's.
    """

    output: str = ""
    sidecar: Answer = "not checked"
    credentials: Answer = "not checked"
    input: Answer = "not checked"

    @property
    def differs(self) -> bool:
        """Whether anything is not as it should be."""
        return "differs" in (self.sidecar, self.credentials, self.input)

    @property
    def same(self) -> bool:
        """Whether everything that was to be compared was, and is as it should be."""
        return "same" in (self.sidecar, self.credentials, self.input) and not self.differs and not self.gaps

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        return {**asdict(self), "same": self.same}

    def add(self, checked: Checked) -> Answer:
        """Adds the findings of a check; how it ended."""
        for kind in ("problems", "proofs", "gaps", "notes"):
            getattr(self, kind).extend(getattr(checked, kind))
        return "differs" if checked.problems else "same" if checked.proofs and not checked.gaps else "not checked"


def verify(
    output: Path,
    *,
    input: Path | None = None,
    trust: Path | None = None,
    doing: Doing | None = None,
    stop: threading.Event | None = None,
) -> Verified:
    """Checks a film, still or folder of stills by its manifest: the sidecar next to it, or the credentials in it.

    Args:
        output: what is checked.
        input: what the output was made of, to be compared with it.
        trust: certificates (PEM) that vouch for signers.
        doing: receives progress.
        stop: ends the work with `Interrupted` when set.

    Raises:
        UsageError: there is no manifest, or no certificate in `trust`.
        InputMissing, InputError: output, input or manifest cannot be read.
    """
    for path in filter(None, (output, input)):
        if not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=path)

    def step(what: str, done: float) -> None:
        if stop is not None and stop.is_set():
            raise Interrupted
        if doing is not None:
            doing(what, done)

    found, anchors = Verified(output=str(output)), None if trust is None else read_anchors(trust)
    credentials = _check_credentials(found, output, anchors)
    sidecar, values = sidecar_path(output), None
    if sidecar.is_file():
        values, checked = read_sidecar(sidecar), Checked()
        _check_files(checked, output, values["output"], step)
        _check_signature(checked, values, anchors, inside=credentials is not None)
        found.sidecar = found.add(checked)
    elif credentials is not None and credentials.valid and fits(credentials.said, AREAS):
        values = credentials.said
    if values is None and credentials is None and not found.notes:
        raise UsageError(
            "{output}: has no manifest {name} and no credentials, so nothing says what was changed; give --sidecar or "
            "--sign to the next run",
            code="manifest_none",
            output=output,
            name=sidecar.name,
        )
    if input is not None and values is None:
        found.gaps.append("nothing in it says what was changed, so it is not compared with the input")
    elif input is not None and values is not None:
        checked = Checked()
        _check_files(checked, input, values["input"], step)
        _compare(checked, output, input, values, step)
        found.input = found.add(checked)
    return found


def _check_credentials(found: Verified, output: Path, anchors: str | None) -> Credentials | None:
    try:
        credentials = read_credentials(output, anchors)
    except MissingComponent as error:
        found.notes.append(f"its credentials are not checked: {error}")
        return None
    if credentials is not None:
        fit = credentials.valid and (anchors is None or credentials.trusted)
        lines = credentials.lines()
        found.credentials = found.add(Checked(proofs=lines) if fit else Checked(problems=lines[:1]))
    return credentials


def _check_signature(checked: Checked, values: dict[str, Any], anchors: str | None, *, inside: bool) -> None:
    if "signature" not in values:
        if not inside and (anchors is not None or values.get("signed")):
            checked.problems.append("the sidecar has no signature: it never had one, or it was cut out")
        return
    try:
        signer = signer_of(values["signature"], signed_bytes(values), anchors)
    except MissingComponent as error:
        checked.notes.append(f"the sidecar's signature is not checked: {error}")
        return
    if signer is None:
        checked.problems.append("the sidecar was changed after it was signed")
        return
    name, trusted = signer
    if anchors is not None and not trusted:
        checked.problems.append(f"the sidecar is signed by {name}, for whom no certificate of --trust vouches")
    else:
        checked.proofs.append(
            f"the sidecar is as {name} signed it" + "; whether that name is true is not checked" * (not trusted)
        )


def _check_files(found: Checked, path: Path, said: dict[str, Any], doing: Doing) -> None:
    """Compares the SHA-256 of a file, or of the files in a folder, with those that a manifest names."""
    if "files" not in said and "sha256" not in said:
        return  # a pipe, a camera
    listed = {one["name"]: one["sha256"] for one in said.get("files", ())} or {path.name: said.get("sha256")}
    there = {file.name: file for file in (list_images(path) if path.is_dir() else [path])}
    tick = share_of_bytes(sum(file.stat().st_size for file in there.values()), doing)
    problems = [f"{name}: is missing" for name in listed if name not in there]
    for name, file in there.items():
        if name not in listed:
            problems.append(f"{name}: was added, the manifest does not name it")
        elif sha256_of(file, tick=tick) != listed[name]:
            problems.append(f"{name}: its bytes are not those that the manifest names (SHA-256)")
    found.problems += problems
    if not problems:
        found.proofs.append(f"{path.name}: the bytes that the manifest names ({counted(len(listed), 'file')}, SHA-256)")


def _compare(found: Checked, output: Path, input: Path, values: dict[str, Any], doing: Doing) -> None:
    """Compares an output with its input."""
    frames = FrameComparison(
        {name: areas if isinstance(areas, str) else [tuple(box) for box in areas] for name, areas in values["changed"]},
        values.get("whole", ""),
        lossless=values["output"]["lossless"],
    )
    if output.is_dir() != input.is_dir():
        found.gaps.append("one is a folder of stills and the other a film: their frames are not compared")
    elif output.is_dir() or (is_image(output) and is_image(input)):
        _compare_stills(found, frames, output, input, values.get("options", {}).get("scale"), doing)
    else:
        _compare_films(found, frames, output, input, values, doing)
    frames.end(found)


def _compare_stills(
    found: Checked, frames: FrameComparison, output: Path, input: Path, scale: str | None, doing: Doing
) -> None:
    enlarger, pairs = Enlarger(scale), [(output, input)]
    if output.is_dir():
        sources, made = {path.stem: path for path in list_images(input)}, list_images(output)
        pairs = [(path, sources[path.stem]) for path in made if path.stem in sources]
        if alone := {path.stem for path in made} ^ sources.keys():
            found.gaps.append(f"{counted(len(alone), 'still')} of one folder only, such as {min(alone)}: not compared")
    for number, (path, source) in enumerate(pairs):
        doing("comparison", number / len(pairs))
        try:
            new, old = read_image(path).frame, read_image(source).frame
        except InputError as error:
            found.gaps.append(f"{path.name} is not compared: {error}")
            continue
        if (new.display.quarter_turns, new.display.mirror) != (old.display.quarter_turns, old.display.mirror):
            found.gaps.append(f"{path.name}: was turned upright; its samples are not compared")
        else:
            frames.frame(path.name, new, enlarger(old))


def _compare_films(
    found: Checked, frames: FrameComparison, output: Path, input: Path, values: dict[str, Any], doing: Doing
) -> None:
    said, options = values["input"], values.get("options", {})
    start, end, variant = said.get("start_s"), said.get("end_s"), options.get("variant", "best")
    chosen = {"scale": options.get("scale"), "chosen": options.get("fields"), "variant": variant}
    with closing(FileSource(output)) as made, closing(FileSource(input, start=start, end=end, **chosen)) as source:
        length, cut = made.info.duration_s, (source.info.start, source.info.end)
        if cut != (None, None):
            last = "its end" if end is None else format_time(end)
            found.notes.append(
                f"the part of {input.name} that the run read is compared: {format_time(start or 0.0)} to {last}"
            )
        begins: tuple[float, float] | None = None
        pictures = ((item for item in film if isinstance(item, Frame)) for film in (made, source))
        for number, (new, old) in enumerate(zip_longest(*pictures)):
            if new is None or old is None:
                which = "fewer" if new is None else "more"
                found.problems.append(f"it has {which} frames than {input.name}, from frame {number} on")
                break
            begins = begins or (new.time, old.time)
            if abs((new.time - begins[0]) - (old.time - begins[1])) > _SAME_S:
                found.problems.append(f"frame {number} has another time than in {input.name}")
                break
            copied = any(first <= number <= last for first, last in values.get("copied", ()))
            frames.frame(number, new, old, copied=copied)
            doing("comparison", min(1.0, (new.time - begins[0]) / (length or inf)))
    own, theirs = hash_packets(output, doing=doing), hash_packets(input, doing=doing, variant=variant)
    compare_packets(found, own[1:], theirs[1:], begins or (0.0, 0.0), cut, options.get("drop", ()))
