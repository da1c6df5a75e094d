"""Metadata that says how an image or film was changed, under the names that other programs read.

What a file says follows from what was done on its frames (`Change`), and from what the input says of itself. The IPTC
digital source type (https://cv.iptc.org/newscodes/digitalsourcetype/) is the strongest that is true: "composite with
trained algorithmic media" where a face was corrected, "trained algorithmic media" where a face was generated,
"algorithmically enhanced" where only filters acted that are no networks, else that of the input. Films carry it as
container tags, MP4 and MOV also as an XMP packet; images as text chunks and XMP. Where nothing was changed, a file
says what its input said, and nothing of rtface.

Containers write tags with their header, before the work. Until a film is complete its header therefore says the
most that may be found true (`header_tags`); `rtface.media.marks.tags.rewrite` puts in what was (`true_tags`).
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
# Terms by how much they say was made by a machine; all others are of something captured or made by people.
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
_ROOM = 16  # bytes: free space in MP4 takes at least 8
_SOURCE, _OPTIONS = "digital_source_type", "rtface_options"
NAMES = frozenset({"enhanced_by", "rtface_engine", "rtface_strength", _OPTIONS, _SOURCE})
"""Names of the tags that rtface writes, in lower case."""
_XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # ISO 16684-1: the box that holds XMP in MP4 and MOV
_PREFIXES = {"CreatorTool": "xmp", "DigitalSourceType": "Iptc4xmpExt"}  # of the properties that rtface writes
_PREFIX = rb"[A-Za-z][\w.-]*"
# A property as an attribute, an empty element with a resource, or an element with a text.
_PROPERTY = (
    rb"\s" + _PREFIX + rb":%s\s*=\s*(?:\"([^\"]*)\"|'([^']*)')",
    rb"<" + _PREFIX + rb":%s\s+rdf:resource\s*=\s*[\"']([^\"']*)[\"']\s*/>",
    rb"<(" + _PREFIX + rb":%s)\b[^>]*(?<!/)>(.*?)</\1\s*>",
)


class Change(IntFlag):
    """What was changed on the frames of an output.

    Attributes:
        NOTHING: every sample is the input's, but for the encoder.
        DRAWN: something was drawn or hidden by a stage.
        FILTERED: a filter that is no network changed light, colour or the dots of a print.
        CORRECTED: a face was corrected.
        GENERATED: a face that does not exist was put in the place of another one.
    """

    NOTHING = 0
    DRAWN = 1
    FILTERED = 2
    CORRECTED = 4
    GENERATED = 8

    @classmethod
    def of(cls, frame: Frame) -> Change:
        """What was changed on a frame."""
        change = cls.NOTHING
        if frame.touched and not (frame.corrected or frame.filtered):
            change |= cls.DRAWN
        if frame.filtered:
            change |= cls.FILTERED
        if frame.corrected:
            change |= cls.CORRECTED
        return change | (cls.GENERATED if frame.generated else cls.NOTHING)

    @property
    def names(self) -> list[str]:
        """The kinds in it, in lower case."""
        return [kind.name.lower() for kind in Change if kind and kind in self and kind.name]


def describe(engine: str, version: str, strength: float, options: Mapping[str, object] | None = None) -> dict[str, str]:
    """Tags for an output in which a face was corrected.

    Args:
        engine: name of the engine, with its version where it has one.
        version: of rtface.
        strength: 0…1.
        options: further choices worth keeping; values that are None are left out.

    Returns:
        Tag names and texts: enhanced_by, rtface_engine, rtface_strength, rtface_options (where any), and
        digital_source_type, the IPTC term as a URL.
    """
    tags = {
        "enhanced_by": f"rtface {version}",
        "rtface_engine": engine,
        "rtface_strength": f"{strength:g}",
        _SOURCE: DIGITAL_SOURCE_TYPE,
    }
    chosen = {k: v for k, v in (options or {}).items() if v is not None}
    if chosen:
        tags[_OPTIONS] = " ".join(f"{k}={v}" for k, v in sorted(chosen.items()))
    return tags


def true_tags(tags: Mapping[str, str], change: Change, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """What an output says of itself.

    Args:
        tags: of `describe`; none where the output is to say nothing new.
        change: what was done.
        own: what the input says, under the names in `NAMES`.

    Returns:
        Tags whose names are in `NAMES`.
    """
    said = dict(own or {})
    if not tags:
        return said
    if change & Change.CORRECTED:
        said = dict(tags)
    elif change:
        said["enhanced_by"] = tags["enhanced_by"]
        if re.search(r"\b(stages|scale)=|\bcolour=restore", tags.get(_OPTIONS, "")):
            said[_OPTIONS] = tags[_OPTIONS]
    new = (
        GENERATED
        if change & Change.GENERATED
        else tags.get(_SOURCE, DIGITAL_SOURCE_TYPE)
        if change & Change.CORRECTED
        else ENHANCED
        if change & Change.FILTERED
        else ""
    )
    old = (own or {}).get(_SOURCE, "")
    if new or old:
        said[_SOURCE] = old if old and _strength(old) >= _strength(new) else new
    return said


def _strength(source: str) -> int:
    """How much a digital source type (URL, or term with any prefix) says was made by a machine; -1 for none."""
    return _STRENGTHS.get(re.split(r"[/:#]", source.strip())[-1], 0) if source else -1


def made_by_machine(own: Mapping[str, str]) -> dict[str, str]:
    """The digital source type among what an input says of itself, where it says that a machine made or changed it."""
    source = own.get(_SOURCE, "")
    return {_SOURCE: source} if _strength(source) > 0 else {}


def own_tags(metadata: Mapping[str, str], packet: bytes | None = None) -> dict[str, str]:
    """What a file says of itself under the names in `NAMES`.

    Args:
        metadata: its tags, by any spelling of their names, MXF's with FFmpeg's prefix.
        packet: its XMP; the source type there counts where no tag says one.
    """
    own = {
        name: text for key, text in metadata.items() if (name := key.lower().removeprefix("comment_")) in NAMES and text
    }
    if _SOURCE not in own and packet and (source := source_type_of(packet)):
        own[_SOURCE] = source
    return own


def header_tags(tags: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Tags that a film's header says until the film is complete: that faces were corrected, with spaces that leave
    room for what the input says of itself."""
    if not tags:
        return dict(own)
    most = dict(own) | true_tags(tags, Change.CORRECTED, own)
    room = {name: most[name] + " " * len(text.encode()) for name, text in own.items()}
    return most | room | ({_SOURCE: room.get(_SOURCE, most[_SOURCE]) + " " * _ROOM} if own else {})


# -- XMP --------------------------------------------------------------------------------------------------------------


def source_type_of(packet: bytes) -> str:
    """The digital source type that an XMP packet names; empty for none."""
    for pattern in _PROPERTY:
        if found := re.search(pattern % b"DigitalSourceType", packet, re.DOTALL):
            return unescape(next(filter(None, reversed(found.groups())), b"").decode("utf-8", "replace")).strip()
    return ""


def xmp(tags: Mapping[str, str], existing: bytes | None = None) -> bytes:
    """An XMP packet (ISO 16684-1) with the tool and, where the tags name one, the source type.

    What an `existing` packet says otherwise is kept.
    """
    tool = tags.get("enhanced_by", "rtface")
    if "rtface_engine" in tags:
        tool += f", engine {tags['rtface_engine']}, strength {tags.get('rtface_strength', '')}"
    properties = {"CreatorTool": tool} | ({"DigitalSourceType": tags[_SOURCE]} if _SOURCE in tags else {})
    said = (
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
        return existing.replace(end, said + end, 1)
    return (
        (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        ).encode()
        + said
        + (b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>')
    )


def append_xmp_box(file: BinaryIO, packet: bytes) -> None:
    """Adds a box with an XMP packet to the end of a finished MP4 or MOV file."""
    file.seek(0, 2)
    file.write(struct.pack(">I4s16s", 24 + len(packet), b"uuid", _XMP_UUID) + packet)
