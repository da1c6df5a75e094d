"""How stereo and spherical pictures are noted: FFmpeg's side data, and what Matroska and MP4 hold of it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from rtface.media.formats.matroska import element
from rtface.media.formats.mp4 import box

_PROJECTION, _KIND, _DATA, _POSE = 0x7670, 0x7671, 0x7672, (0x7673, 0x7674, 0x7675)
_SIDES = {3: "block", 4: "checkerboard", 6: "row_interleaved", 7: "col_interleaved"}
_MODES = {
    **{(0, 0): "mono", (1, 0): "left_right", (1, 1): "right_left", (2, 0): "top_bottom", (2, 1): "bottom_top"},
    **{(layout, k): f"{name}_{side}" for layout, name in _SIDES.items() for k, side in enumerate(("lr", "rl"))},
}
"""Matroska's by FFmpeg's number of the layout, and whether the views are exchanged."""
_ST3D = {"mono": 0, "top_bottom": 1, "left_right": 2}
_HELD = {
    "matroska": [*_MODES.values(), "anaglyph_cyan_red", "anaglyph_green_magenta"],
    "webm": [*_MODES.values()][:5],
    "mp4": [*_ST3D],
    "mov": [*_ST3D],
}
_CUBE, _TILE = 1, 2  # FFmpeg's numbers; 0 is the whole sphere

Views = Mapping[str, str]
"""As `rtface.media.formats.color.views_of` gives them."""


def stereo_of(views: Views, tags: Mapping[str, str] = {}) -> str:
    """How two pictures lie in a frame, in Matroska's words: "mono" where it is one; "" where nothing says it."""
    if "STEREO3D" not in views:
        return tags.get("stereo_mode", "")
    return tags.get("stereo_mode") or _MODES.get(struct.unpack("=2i", bytes.fromhex(views["STEREO3D"])), "other")


def is_held(mode: str, format: str) -> bool:
    """Whether a container has a place for what `stereo_of` gives."""
    return mode in _HELD.get(format, ())


def has_sphere(views: Views) -> bool:
    """Whether Matroska and MP4 have a place for the sphere that pictures show."""
    return "SPHERICAL" in views and _sphere(views)[0] <= _TILE


def _sphere(views: Views) -> tuple[int, ...]:
    """Projection, yaw, pitch and roll, and what is missing at the left, top, right and bottom."""
    return struct.unpack_from("=4i4I", bytes.fromhex(views["SPHERICAL"]))


def projection(views: Views) -> bytes:
    """Matroska's element of a track's video; nothing where there is no sphere."""
    if not has_sphere(views):
        return b""
    kind, *turns, left, top, right, bottom = _sphere(views)
    data = {_CUBE: bytes(12), _TILE: struct.pack(">5I", 0, top, bottom, left, right)}.get(kind)
    said = element(_KIND, bytes([2 if kind == _CUBE else 1])) + (element(_DATA, data) if data else b"")
    for name, turn in zip(_POSE, turns, strict=True):
        said += element(name, struct.pack(">f", turn / 65536)) if turn else b""
    return element(_PROJECTION, said)


def sample_boxes(views: Views) -> bytes:
    """MP4's boxes of a picture's description (st3d, sv3d); nothing where there is nothing to say."""
    mode = stereo_of(views)
    boxes = box(b"st3d", bytes([0, 0, 0, 0, _ST3D[mode]])) if mode in _ST3D else b""
    if not has_sphere(views):
        return boxes
    kind, *turns, left, top, right, bottom = _sphere(views)
    shape = struct.pack(">5I", 0, top, bottom, left, right)
    inner = box(b"prhd", struct.pack(">4i", 0, *turns))
    inner += box(b"cbmp", bytes(12)) if kind == _CUBE else box(b"equi", shape)
    return boxes + box(b"sv3d", box(b"svhd", b"\0\0\0\0rtface\0") + box(b"proj", inner))
