"""Describes changes to images and films in tags that other programs read.

The tags follow from the changes to the frames (`Change`), and from the input's own tags. The IPTC digital source type
(https://cv.iptc.org/newscodes/digitalsourcetype/) is the strongest term that applies: "composite with trained
algorithmic media" if a face was corrected or damage filled, "trained algorithmic media" if a face was generated,
"algorithmically enhanced" if only filters without a network were used, otherwise the input's own term. Films contain it
in container tags, MP4 and MOV also in XMP; images contain it in text chunks and XMP. An unchanged output keeps its
input's tags.

Containers write tags with their header, before the first frame. Until a film is complete, its header therefore contains
the strongest tags that may apply (`header_tags`); then `rtface.media.marks.tags.rewrite` replaces them by the
correct ones (`true_tags`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from enum import IntFlag
from html import escape, unescape
from typing import BinaryIO

from rtface.frame import Frame

_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DIGITAL_SOURCE_TYPE = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"
ENHANCED = f"{_TERMS}algorithmicallyEnhanced"
GENERATED = f"{_TERMS}trainedAlgorithmicMedia"
# Terms, ranked by the share of machine work; all other terms denote captured or human-made content.
_STRENGTHS = {
    "algorithmicallyEnhanced": 1,
    "compositeSynthetic": 2,
    "algorithmicMedia": 2,
    "dataDrivenMedia": 2,
    "virtualRecording": 2,
    "compositeWithTrainedAlgorithmicMedia": 3,
    "trainedAlgorithmicData": 4,
    "trainedAlgorithmicMedia": 4,
}
_ROOM_BYTES = 16  # reserved space; a free box in MP4 has at least 8 bytes
_SOURCE, _OPTIONS, FILLED = "digital_source_type", "rtface_options", "rtface_filled"
NAMES = frozenset({"enhanced_by", "rtface_engine", "rtface_strength", _OPTIONS, _SOURCE, FILLED})
"""Names of the tags that rtface writes, in lower case."""
_XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # ISO 16684-1: the box that contains XMP in MP4 and MOV
_PREFIXES = {"CreatorTool": "xmp", "DigitalSourceType": "Iptc4xmpExt"}  # prefixes of the properties that rtface writes
_PREFIX = rb"[A-Za-z][\w.-]*"
# Patterns of a property as an attribute, an empty element with a resource, or an element with a text.
_PROPERTY = (
    rb"\s" + _PREFIX + rb":%s\s*=\s*(?:\"([^\"]*)\"|'([^']*)')",
    rb"<" + _PREFIX + rb":%s\s+rdf:resource\s*=\s*[\"']([^\"']*)[\"']\s*/>",
    rb"<(" + _PREFIX + rb":%s)\b[^>]*(?<!/)>(.*?)</\1\s*>",
)


class Change(IntFlag):
    """Kinds of changes to the frames of an output.

    Attributes:
        NOTHING: every sample is the input's, except for coding.
        DRAWN: a stage drew or hid something.
        FILTERED: a filter without a network changed light, colour or printing dots.
        CORRECTED: a face was corrected.
        GENERATED: a generated face replaced another one.
        FILLED: damage was filled, in faces by a network.
    """

    NOTHING = 0
    DRAWN = 1
    FILTERED = 2
    CORRECTED = 4
    GENERATED = 8
    FILLED = 16

    @classmethod
    def of(cls, frame: Frame) -> Change:
        """Returns the kinds of changes to a frame."""
        change = cls.NOTHING
        if frame.touched and not (frame.corrected or frame.filtered or frame.filled is not None):
            change |= cls.DRAWN
        if frame.filled is not None:
            change |= cls.FILLED
        if frame.filtered:
            change |= cls.FILTERED
        if frame.corrected:
            change |= cls.CORRECTED
        return change | (cls.GENERATED if frame.generated else cls.NOTHING)

    @property
    def names(self) -> list[str]:
        """The names of these kinds, in lower case."""
        return [kind.name.lower() for kind in Change if kind and kind in self and kind.name]


def describe(engine: str, version: str, strength: float, options: Mapping[str, object] | None = None) -> dict[str, str]:
    """Returns tags for an output in which a face was corrected.

    Args:
        engine: name of the engine, with its version if it has one.
        version: version of rtface.
        strength: strength of the correction, 0…1.
        options: additional settings to record; values that are None are left out.

    Returns:
        Tag names and texts: enhanced_by, rtface_engine, rtface_strength, rtface_options (if any), and
            digital_source_type, the IPTC term as a URL.
    """
    tags = {
        "enhanced_by": f"rtface {version}",
        "rtface_engine": engine,
        "rtface_strength": f"{strength:g}",
        _SOURCE: DIGITAL_SOURCE_TYPE,
    }
    recorded = {k: v for k, v in (options or {}).items() if v is not None}
    if recorded:
        tags[_OPTIONS] = " ".join(f"{k}={v}" for k, v in sorted(recorded.items()))
    return tags


def true_tags(tags: Mapping[str, str], change: Change, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the provenance tags of a finished output.

    Args:
        tags: tags from `describe`; empty if the output adds none.
        change: kinds of changes made.
        inherited: the input's tags with names in `NAMES`.

    Returns:
        Tags whose names are in `NAMES`.
    """
    result = dict(inherited or {})
    if not tags:
        return result
    if change & Change.CORRECTED:
        result = dict(tags)
    elif change:
        result["enhanced_by"] = tags["enhanced_by"]
        if re.search(r"\b(stages|scale)=|\bcolour=restore", tags.get(_OPTIONS, "")):
            result[_OPTIONS] = tags[_OPTIONS]
        if FILLED in tags:
            result[FILLED] = tags[FILLED]
    new = (
        GENERATED
        if change & Change.GENERATED
        else tags.get(_SOURCE, DIGITAL_SOURCE_TYPE)
        if change & Change.CORRECTED
        else DIGITAL_SOURCE_TYPE
        if change & Change.FILLED
        else ENHANCED
        if change & Change.FILTERED
        else ""
    )
    old = (inherited or {}).get(_SOURCE, "")
    if new or old:
        result[_SOURCE] = old if old and _strength(old) >= _strength(new) else new
    return result


def _strength(source: str) -> int:
    """Returns a digital source type's rank in `_STRENGTHS`; -1 for none. Accepts URLs, and terms with any prefix."""
    return _STRENGTHS.get(re.split(r"[/:#]", source.strip())[-1], 0) if source else -1


def made_by_machine(inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns an input's digital source type if it denotes machine work."""
    source = inherited.get(_SOURCE, "")
    return {_SOURCE: source} if _strength(source) > 0 else {}


def own_tags(metadata: Mapping[str, str], packet: bytes | None = None) -> dict[str, str]:
    """Returns a file's provenance tags: those with names in `NAMES`.

    Args:
        metadata: tags of the file, with names in any case; in MXF, FFmpeg adds a prefix to them.
        packet: XMP of the file; its source type is used if no tag has one.
    """
    tags = {
        name: text for key, text in metadata.items() if (name := key.lower().removeprefix("comment_")) in NAMES and text
    }
    if _SOURCE not in tags and packet and (source := source_type_of(packet)):
        tags[_SOURCE] = source
    return tags


def header_tags(tags: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags for an unfinished film's header. They state that faces were corrected; spaces reserve room
    for the input's tags."""
    if not tags:
        return dict(inherited)
    claimed = dict(inherited) | true_tags(tags, Change.CORRECTED, inherited)
    room = {name: claimed[name] + " " * len(text.encode()) for name, text in inherited.items()}
    return claimed | room | ({_SOURCE: room.get(_SOURCE, claimed[_SOURCE]) + " " * _ROOM_BYTES} if inherited else {})


# -- XMP --------------------------------------------------------------------------------------------------------------


def source_type_of(packet: bytes) -> str:
    """Returns the digital source type of an XMP packet. Returns "" if there is none."""
    for pattern in _PROPERTY:
        if match := re.search(pattern % b"DigitalSourceType", packet, re.DOTALL):
            return unescape(next(filter(None, reversed(match.groups())), b"").decode("utf-8", "replace")).strip()
    return ""


def xmp(tags: Mapping[str, str], existing: bytes | None = None) -> bytes:
    """Returns an XMP packet with the tool and any source type. ISO 16684-1.

    Other properties of an `existing` packet are kept.
    """
    tool = tags.get("enhanced_by", "rtface")
    if "rtface_engine" in tags:
        tool += f", engine {tags['rtface_engine']}, strength {tags.get('rtface_strength', '')}"
    properties = {"CreatorTool": tool} | ({"DigitalSourceType": tags[_SOURCE]} if _SOURCE in tags else {})
    description = (
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        + "".join(f' {_PREFIXES[name]}:{name}="{escape(text, quote=True)}"' for name, text in properties.items())
        + "/>"
    ).encode()
    end = b"</rdf:RDF>"
    if existing and end in existing:
        for name in properties:
            for pattern in _PROPERTY:
                existing = re.sub(pattern % name.encode(), b"", existing, flags=re.DOTALL)
        return existing.replace(end, description + end, 1)
    return (
        (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        ).encode()
        + description
        + (b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>')
    )


def append_xmp_box(file: BinaryIO, packet: bytes) -> None:
    """Appends an XMP box to a finished MP4 or MOV file."""
    file.seek(0, 2)
    file.write(struct.pack(">I4s16s", 24 + len(packet), b"uuid", _XMP_UUID) + packet)
