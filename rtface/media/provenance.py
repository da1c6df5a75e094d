"""Metadata that says how an image or film was enhanced, under the names that other programs read.

An output in which a face was corrected says that parts of it were generated: the IPTC digital source type "composite
with trained algorithmic media" (https://cv.iptc.org/newscodes/digitalsourcetype/), and which engine did it. Films carry
it as container tags, MP4 and MOV also as an XMP packet; images as text chunks and XMP. An output without a corrected
face says nothing of that.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from html import escape
from typing import BinaryIO

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # ISO 16684-1: the box that holds XMP in MP4 and MOV


def describe(engine: str, version: str, strength: float, options: Mapping[str, object] | None = None) -> dict[str, str]:
    """Tags for an enhanced output.

    Args:
        engine: name of the engine, with its version where it has one.
        version: of rtface.
        strength: 0…1.
        options: further choices worth keeping; values that are None are left out.

    Returns:
        Tag names and texts: enhanced_by, rtface_engine, rtface_strength, rtface_options (where any), and
        digital_source_type, the IPTC term as a URL.
    """
    tags = {"enhanced_by": f"rtface {version}", "rtface_engine": engine, "rtface_strength": f"{strength:g}",
            "digital_source_type": DIGITAL_SOURCE_TYPE}
    chosen = {k: v for k, v in (options or {}).items() if v is not None}
    if chosen:
        tags["rtface_options"] = " ".join(f"{k}={v}" for k, v in sorted(chosen.items()))
    return tags


def without_correction(tags: Mapping[str, str]) -> dict[str, str]:
    """What stays true of `describe`'s tags where no face was corrected: what stages drew, if there were any."""
    if "stages=" not in tags.get("rtface_options", ""):
        return {}
    return {name: text for name, text in tags.items() if name in ("enhanced_by", "rtface_options")}


def xmp(tags: Mapping[str, str], existing: bytes | None = None) -> bytes:
    """An XMP packet (ISO 16684-1) with the source type and the tool; what an `existing` packet says is kept."""
    tool = escape(f"{tags.get('enhanced_by', 'rtface')}, engine {tags.get('rtface_engine', '')}, "
                  f"strength {tags.get('rtface_strength', '')}", quote=True)
    kind = escape(tags.get("digital_source_type", DIGITAL_SOURCE_TYPE), quote=True)
    said = ('<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
            ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
            f' xmp:CreatorTool="{tool}" Iptc4xmpExt:DigitalSourceType="{kind}"/>').encode()
    end = b"</rdf:RDF>"
    if existing and end in existing:
        for name in (rb"xmp:CreatorTool", rb"Iptc4xmpExt:DigitalSourceType"):  # written again below
            existing = re.sub(rb"\s" + name + rb'="[^"]*"', b"", existing)
            existing = re.sub(rb"<" + name + rb">.*?</" + name + rb">", b"", existing, flags=re.DOTALL)
        return existing.replace(end, said + end, 1)
    return ('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">').encode() + said + (
                b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>')


def append_xmp_box(file: BinaryIO, tags: Mapping[str, str]) -> None:
    """Adds the XMP box to the end of a finished MP4 or MOV file."""
    body = xmp(tags)
    file.seek(0, 2)
    file.write(struct.pack(">I4s16s", 24 + len(body), b"uuid", _XMP_UUID) + body)
