"""Reads a file's provenance information: credentials (C2PA), rtface's tags, sidecar."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtface.errors import InputError, InputMissing, MissingComponent, UsageError
from rtface.media.files.image_names import is_image
from rtface.media.marks.provenance import own_tags
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.trust.credentials import read_credentials
from rtface.trust.sidecar import read_sidecar, sidecar_path

_TEXT_CHUNKS = (b"tEXt", b"iTXt")


@dataclass(slots=True)
class Inspected:
    """Contains a file's provenance information. Fields without information are empty.

    Attributes:
        file: path of the file as the caller gave it.
        credentials: result of `rtface.trust.credentials.Credentials.to_dict`, or None.
        source_type: the IPTC digital source type in tags or XMP, or None.
        rtface: tags that rtface wrote.
        sidecar: version, engines and changes in the sidecar next to the file, and whether it is signed; or None.
        notes: parts that were not read, and why.
        lines: description of the credentials for users.
    """

    file: str
    credentials: dict[str, Any] | None = None
    source_type: str | None = None
    rtface: dict[str, str] = field(default_factory=dict[str, str])
    sidecar: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)


def inspect_file(path: Path) -> Inspected:
    """Reads the provenance information of a film, still or folder. For a folder, only the sidecar is read.

    This proves nothing: only credentials and signed sidecars can be checked, by `rtface.trust.verify.verify`.

    Raises:
        InputMissing: there is no such file.
        InputError: the file is neither a film nor a supported image, or is damaged.
    """
    if not path.exists():
        raise InputMissing("{path}: there is no such file; check the name", code="no_file", path=path)
    info, sidecar = Inspected(str(path)), sidecar_path(path)
    if sidecar.is_file():
        try:
            values = read_sidecar(sidecar)
            info.sidecar = {key: values.get(key) for key in ("rtface", "finished", "engines", "changes")}
            info.sidecar["signed"] = "signature" in values
        except InputError as error:
            info.notes.append(str(error))
    if path.is_dir():
        info.notes.append("a folder: inspect the files in it to see their own information")
        return info
    try:
        if (credentials := read_credentials(path)) is not None:
            info.credentials, info.lines = credentials.to_dict(), credentials.lines()
    except MissingComponent as error:
        info.notes.append(f"its credentials cannot be read: {error}")
    try:
        tags, packet = _still_tags(path) if is_image(path) else _film_tags(info, path)
    except UsageError as error:  # not a fault of the command: this kind of image is unsupported
        raise InputError(error.message) from error
    info.rtface = own_tags(tags, packet)
    info.source_type = info.rtface.get("digital_source_type")
    return info


def _still_tags(path: Path) -> tuple[dict[str, str], bytes | None]:
    """Returns the texts that rtface writes into stills, and the XMP packet."""
    meta = read_image(path).meta
    tags = dict[str, str]()
    for kind, body in meta.png:
        if kind in _TEXT_CHUNKS:
            name, _, text = body.partition(b"\0")
            tags[name.decode("latin-1")] = text.split(b"\0")[-1].decode("utf-8", "replace")
    return tags, meta.xmp


def _film_tags(info: Inspected, path: Path) -> tuple[dict[str, str], bytes | None]:
    with closing(FileSource(path)) as source:
        info.notes += [note for note in source.info.notes if getattr(note, "code", "") == "variant_read"]
        return dict(source.info.metadata), source.info.xmp
