"""What a file says about itself: credentials (C2PA), XMP, IPTC, tags, and what rtface wrote."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rtface.errors import InputError, InputMissing, MissingComponent, UsageError
from rtface.media.files.image_names import is_image
from rtface.media.formats.image_meta import ImageMetadata
from rtface.media.marks.provenance import own_tags, source_type_of
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import read_image
from rtface.trust.credentials import may_have_credentials, read_credentials
from rtface.trust.sidecar import SUFFIX, read_sidecar, sidecar_path

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PREFIXES = {
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/exif/1.0/": "exif",
}
# Datasets of IPTC's Information Interchange Model, record 2.
_IPTC = {
    5: "title",
    25: "keywords",
    40: "instructions",
    55: "date created",
    80: "creator",
    90: "city",
    101: "country",
    105: "headline",
    110: "credit",
    115: "source",
    116: "copyright",
    120: "caption",
}
_TEXT_CHUNKS = (b"tEXt", b"iTXt")


@dataclass(slots=True)
class Inspected:
    """What was found; empty where a file has none of a kind.

    Attributes:
        file: as given.
        credentials: of `rtface.trust.credentials.Credentials.to_dict`, or None.
        source_type: the IPTC digital source type that tags or XMP name, or None.
        rtface: tags that rtface wrote.
        sidecar: what the sidecar next to it says: version, engines, changes; whether it is signed. None without.
        xmp, iptc, tags: names and texts.
        notes: what was not read, and why.
        lines: of the credentials, in words.
        read: whether XMP, IPTC and tags were; they are not of an image of a kind that rtface does not read.
    """

    file: str
    credentials: dict[str, Any] | None = None
    source_type: str | None = None
    rtface: dict[str, str] = field(default_factory=dict[str, str])
    sidecar: dict[str, Any] | None = None
    xmp: dict[str, str] = field(default_factory=dict[str, str])
    iptc: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    read: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def inspect_file(path: Path) -> Inspected:
    """Reads what a film, a still or a folder of stills says about itself; of a folder only its sidecar.

    Whether that is true is another question: only credentials and signed sidecars can be checked, by
    `rtface.trust.verify.verify`.

    Raises:
        InputMissing: there is no such file.
        InputError: it is no film and no image, or is damaged; or a folder without a sidecar.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputMissing("{path}: there is no such file; check the name", code="no_file", path=path)
    if path.name.endswith(SUFFIX):
        raise InputError(
            "{path}: is a sidecar; name what it is about ({name})",
            code="sidecar_itself",
            path=path,
            name=path.name.removesuffix(SUFFIX),
        )
    found = Inspected(str(path))
    try:
        credentials = read_credentials(path)
        if credentials is not None:
            found.credentials, found.lines = credentials.to_dict(), credentials.lines()
    except MissingComponent as error:
        if may_have_credentials(path):
            found.notes.append(f"its credentials cannot be read: {error}")
    packet = None
    try:
        packet = _read_still(found, path) if is_image(path) else _read_film(found, path)
    except UsageError as error:
        if error.code != "image_not_read":
            raise
        found.read = False  # it may have credentials
        found.notes.append(str(error))
    if packet:
        found.xmp = xmp_properties(packet)
        if not found.xmp:
            found.notes.append("its XMP cannot be read")
    found.rtface = own_tags(found.tags, packet)
    found.source_type = found.rtface.get("digital_source_type") or (source_type_of(packet) if packet else "") or None
    _add_sidecar(found, path)
    return found


def _read_folder(path: Path) -> Inspected:
    """What is said about a folder of stills."""
    found = Inspected(str(path))
    _add_sidecar(found, path)
    if found.sidecar is None and not found.notes:
        raise InputError(
            "{path}: is a folder, and there is no sidecar of it; name the files in it",
            code="sidecar_of_folder",
            path=path,
        )
    found.notes.append("a folder: name the files in it to see what each of them says")
    return found


def _add_sidecar(found: Inspected, path: Path) -> None:
    """Adds what the sidecar says that lies next to a file or folder."""
    sidecar = sidecar_path(path)
    if sidecar.is_file():
        try:
            values = read_sidecar(sidecar)
            found.sidecar = {key: values.get(key) for key in ("rtface", "finished", "engines", "changes")} | {
                "signed": "signature" in values
            }
        except InputError as error:
            found.notes.append(str(error))


def _read_still(found: Inspected, path: Path) -> bytes | None:
    meta: ImageMetadata = read_image(path).meta
    for kind, body in meta.png:
        if kind in _TEXT_CHUNKS:
            name, _, text = body.partition(b"\0")
            text = text.split(b"\0")[-1] if kind == b"iTXt" else text
            found.tags[name.decode("latin-1")] = text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
    found.tags |= {_TIFF_NAMES.get(number, str(number)): text for number, text in meta.tiff.items()}
    if meta.iptc:
        for name, text in iptc_datasets(meta.iptc):
            found.iptc[name] = f"{found.iptc[name]}; {text}" if name in found.iptc else text
    return meta.xmp


_TIFF_NAMES = {
    270: "description",
    271: "make",
    272: "model",
    305: "software",
    306: "date",
    315: "artist",
    33432: "copyright",
}


def _read_film(found: Inspected, path: Path) -> bytes | None:
    with closing(FileSource(path)) as source:
        found.tags = dict(source.info.metadata)
        for stream in source.info.streams:
            found.tags |= {f"stream {stream.index} {name}": text for name, text in stream.metadata.items()}
        found.notes += [note for note in source.info.notes if getattr(note, "code", "") == "variant_read"]
        return source.info.xmp


def xmp_properties(packet: bytes) -> dict[str, str]:
    """The properties of an XMP packet, by prefix and name; empty for one that cannot be read."""
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return {}
    try:
        root = ET.fromstring(packet.decode("utf-8", "replace").strip("\0 \r\n\t\ufeff"))
    except (ET.ParseError, ValueError):
        return {}
    found: dict[str, str] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        for name, text in description.attrib.items():
            if not name.startswith(f"{{{_RDF}}}"):
                found[_short(name)] = text
        for child in description:
            text = child.get(f"{{{_RDF}}}resource") or "; ".join(filter(None, (t.strip() for t in child.itertext())))
            if text:
                found[_short(child.tag)] = text
    return found


def _short(name: str) -> str:
    space, _, local = name.rpartition("}")
    prefix = _PREFIXES.get(space.lstrip("{"), "")
    return f"{prefix}:{local}" if prefix else local


def iptc_datasets(segment: bytes) -> Iterator[tuple[str, str]]:
    """Names and texts of IPTC's datasets in a JPEG's APP13 segment, as far as they can be read."""
    at = segment.find(b"8BIM")
    while at >= 0 and segment[at : at + 4] == b"8BIM" and at + 12 <= len(segment):
        kind, name = struct.unpack_from(">HB", segment, at + 4)
        body = at + 6 + (name + 2) // 2 * 2
        if body + 4 > len(segment):
            return
        (size,) = struct.unpack_from(">I", segment, body)
        if kind == 0x0404:
            yield from _datasets(segment[body + 4 : body + 4 + size])
        at = body + 4 + (size + 1) // 2 * 2


def _datasets(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", data, at + 1)
        if record == 2 and number in _IPTC and size < 0x8000:
            yield _IPTC[number], data[at + 5 : at + 5 + size].decode("utf-8", "replace")
        at += 5 + size
