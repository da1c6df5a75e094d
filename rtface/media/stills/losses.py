"""Describes the parts of a still that its output does not keep."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rtface.media.formats.color import is_transparent
from rtface.media.formats.image_meta import PNG_TEXTS, SAYS_NOTHING
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.formats.tiff_tags import read_directory
from rtface.media.stills.image_read import Still

_SAMPLES = {"jpeg": 8, "webp": 8, "bmp": 8, "dpx": 16}
_OPAQUE = ("jpeg", "bmp", "dpx")
_HOLDS = {
    "png": ("colour profile", "EXIF", "XMP", "text chunks", "comment", "resolution", "colour space"),
    "jpeg": ("colour profile", "EXIF", "XMP", "Photoshop resources (IPTC)", "comment", "resolution"),
    "tiff": ("colour profile", "EXIF", "XMP", "Photoshop resources (IPTC)", "resolution"),
    "webp": ("colour profile", "EXIF", "XMP"),
    "bmp": ("resolution",),
}
DAMAGED = "a part of its image is missing or damaged"
_USUAL = (72, 96)  # samples per inch that programs write by default
_NAMED = 5  # number of lost parts to list
# PNG chunks for display: first those that a profile overrides, with the values of sRGB; then the others.
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
_COLOURS = (b"cICP", b"mDCV", b"cLLI")
_SEGMENT = 65_000  # largest EXIF or XMP of a JPEG in bytes


def losses(still: Still, kind: str) -> list[str]:
    """Lists what a still loses in an output. `kind` is a kind of `ImagePlan`."""
    lines = [f"{still.more}, and only its first image is read and written"] if still.more else []
    lines += [*(still.damaged * (DAMAGED,)), *still.changed]
    if kind == still.kind and kind in ("dpx", "exr"):  # copies the file, with changed samples
        return lines
    image = still.frame.image
    bits, most = pixel_format_info(image.format.name).bits, _SAMPLES.get(kind, 16)
    if most < bits <= 16:
        lines.append(f"{bits} bits a sample become {most}")
    if kind in _OPAQUE and is_transparent(image):
        lines.append("its transparency is left out")
    if without := [what for what in _carried(still, kind) if what not in _HOLDS.get(kind, ())]:
        lines.append(f"the {kind.upper()} does not keep its {', '.join(without)}")
    if unkept := still.meta.unkept:
        lines.append(f"{', '.join(unkept[:_NAMED])}{' …' if unkept[_NAMED:] else ''}: not kept")
    return lines


def _carried(still: Still, kind: str) -> Iterator[str]:
    """Yields metadata of a still that its output may not store."""
    meta, short = still.meta, kind == "jpeg"
    if meta.icc:
        yield "gray colour profile" if kind == "webp" and meta.icc[16:20] == b"GRAY" else "colour profile"
    if meta.exif and read_directory(meta.exif).keys() - SAYS_NOTHING:
        yield "long EXIF" if short and len(meta.exif) >= _SEGMENT else "EXIF"
    if meta.xmp:
        yield "long XMP" if short and len(meta.xmp) >= _SEGMENT else "XMP"
    if meta.more_xmp and not short:
        yield "second part of XMP"
    if meta.iptc:
        yield "Photoshop resources (IPTC)"
    if meta.comments:
        yield "comment"
    curves = any(meta.icc is None and body != _SRGB[name] for name, body in meta.png if name in _SRGB)
    if kind != still.kind and (curves or any(name in _COLOURS for name, _ in meta.png)):
        yield "colour space"
    texts = {body.split(b"\0", 1)[0] for name, body in meta.png if name in PNG_TEXTS}
    if texts - {b"XML:com.adobe.xmp"}:
        yield "text chunks"
    odd = meta.resolution and any(round(each) not in _USUAL for each in meta.resolution)
    if odd and not (kind == "webp" and 282 in read_directory(meta.exif or b"")):
        yield "resolution"
