"""Describes the parts of a still that its output loses."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rtface.media.formats.color import is_transparent
from rtface.media.formats.image_meta import PNG_TEXTS, SAYS_NOTHING
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.formats.tiff_tags import read_directory
from rtface.media.stills.image_read import Still

_MAX_BITS = {"jpeg": 8, "webp": 8, "bmp": 8, "dpx": 16}
_OPAQUE = ("jpeg", "bmp", "dpx")
_SUPPORTED = {
    "png": ("colour profile", "EXIF", "XMP", "text chunks", "comment", "resolution", "colour space"),
    "jpeg": ("colour profile", "EXIF", "XMP", "Photoshop resources (IPTC)", "comment", "resolution"),
    "tiff": ("colour profile", "EXIF", "XMP", "Photoshop resources (IPTC)", "resolution"),
    "webp": ("colour profile", "EXIF", "XMP"),
    "bmp": ("resolution",),
}
DAMAGED = "a part of its image is missing or damaged"
_DEFAULT_DPI = (72, 96)  # samples per inch that programs write by default
_MAX_LISTED = 5  # maximum number of lost parts to list
# PNG chunks about colours: those that a profile overrides, with sRGB's values, and those that it does not.
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
_COLOUR_CHUNKS = (b"cICP", b"mDCV", b"cLLI")
_SEGMENT = 65_000  # largest EXIF or XMP of a JPEG in bytes


def losses(still: Still, kind: str) -> list[str]:
    """Lists what a still loses in an output. `kind` is a kind of `ImagePlan`."""
    lines = [f"{still.more}, and only its first image is read and written"] if still.more else []
    lines += [*(still.damaged * (DAMAGED,)), *still.changed]
    if kind == still.kind and kind in ("dpx", "exr"):  # only changed samples are replaced in the file
        return lines
    image = still.frame.image
    bits, max_bits = pixel_format_info(image.format.name).bits, _MAX_BITS.get(kind, 16)
    if max_bits < bits <= 16:
        lines.append(f"{bits} bits a sample become {max_bits}")
    if kind in _OPAQUE and is_transparent(image):
        lines.append("its transparency is left out")
    if unsupported := [what for what in _metadata_names(still, kind) if what not in _SUPPORTED.get(kind, ())]:
        lines.append(f"the {kind.upper()} does not keep its {', '.join(unsupported)}")
    if unkept := still.meta.unkept:
        lines.append(f"{', '.join(unkept[:_MAX_LISTED])}{' …' if unkept[_MAX_LISTED:] else ''}: not kept")
    return lines


def _metadata_names(still: Still, kind: str) -> Iterator[str]:
    """Yields the names of metadata that the output may not store."""
    meta, is_jpeg = still.meta, kind == "jpeg"
    if meta.icc:
        yield "gray colour profile" if kind == "webp" and meta.icc[16:20] == b"GRAY" else "colour profile"
    if meta.exif and read_directory(meta.exif).keys() - SAYS_NOTHING:
        yield "long EXIF" if is_jpeg and len(meta.exif) >= _SEGMENT else "EXIF"
    if meta.xmp:
        yield "long XMP" if is_jpeg and len(meta.xmp) >= _SEGMENT else "XMP"
    if meta.more_xmp and not is_jpeg:
        yield "second part of XMP"
    if meta.iptc:
        yield "Photoshop resources (IPTC)"
    if meta.comments:
        yield "comment"
    has_curves = any(meta.icc is None and body != _SRGB[name] for name, body in meta.png if name in _SRGB)
    if kind != still.kind and (has_curves or any(name in _COLOUR_CHUNKS for name, _ in meta.png)):
        yield "colour space"
    texts = {body.split(b"\0", 1)[0] for name, body in meta.png if name in PNG_TEXTS}
    if texts - {b"XML:com.adobe.xmp"}:
        yield "text chunks"
    has_resolution = meta.resolution and any(round(each) not in _DEFAULT_DPI for each in meta.resolution)
    if has_resolution and not (kind == "webp" and 282 in read_directory(meta.exif or b"")):
        yield "resolution"
