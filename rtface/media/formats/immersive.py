"""Converts stereo and spherical metadata between FFmpeg's side data, Matroska and MP4."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from rtface.media.formats.matroska import element
from rtface.media.formats.mp4 import box

_PROJECTION, _KIND, _DATA, _POSE = 0x7670, 0x7671, 0x7672, (0x7673, 0x7674, 0x7675)
# Matroska's stereo modes, keyed by FFmpeg's stereo type and whether the views are swapped (1) or not (0).
_MODES = {
    **{(0, 0): "mono", (1, 0): "left_right", (1, 1): "right_left", (2, 0): "top_bottom", (2, 1): "bottom_top"},
    **{(3, 0): "block_lr", (3, 1): "block_rl", (4, 0): "checkerboard_lr", (4, 1): "checkerboard_rl"},
    **{(6, 0): "row_interleaved_lr", (6, 1): "row_interleaved_rl"},
    **{(7, 0): "col_interleaved_lr", (7, 1): "col_interleaved_rl"},
}
_ST3D = {"mono": 0, "top_bottom": 1, "left_right": 2}
_SUPPORTED = {
    "matroska": [*_MODES.values(), "anaglyph_cyan_red", "anaglyph_green_magenta"],
    "webm": [*_MODES.values()][:5],
    "mp4": [*_ST3D],
    "mov": [*_ST3D],
}
_CUBE, _TILE = 1, 2  # FFmpeg's projection types; 0 is equirectangular over the whole sphere


def stereo_mode(views: Mapping[str, str], tags: Mapping[str, str], format: str) -> str:
    """Returns Matroska's name for the arrangement of two pictures in a frame.

    A single picture is "mono". Returns "" if the layout is unknown or the container cannot store it.

    Args:
        views: side data of the frames (`rtface.media.formats.color.views_of`).
        tags: tags of the stream.
        format: FFmpeg's name for the container.
    """
    layout = struct.unpack("=2i", bytes.fromhex(views.get("STEREO3D", "ff" * 8)))
    mode = tags.get("stereo_mode") or _MODES.get(layout, "")
    return mode if mode in _SUPPORTED.get(format, ()) else ""


def sphere_of(views: Mapping[str, str]) -> tuple[int, ...]:
    """Reads spherical metadata: projection, yaw, pitch, roll, left, top, right, bottom.

    Returns an empty tuple if there is none, or if neither Matroska nor MP4 can store it.
    """
    sphere = struct.unpack_from("=4i4I", bytes.fromhex(views.get("SPHERICAL", "ff" * 32)))
    return sphere if 0 <= sphere[0] <= _TILE else ()


def projection(views: Mapping[str, str]) -> bytes:
    """Returns Matroska's Projection element of a video track; b"" without spherical metadata."""
    if not (sphere := sphere_of(views)):
        return b""
    kind, *turns, left, top, right, bottom = sphere
    data = {_CUBE: bytes(12), _TILE: struct.pack(">5I", 0, top, bottom, left, right)}.get(kind)
    pose = [(name, struct.pack(">f", turn / 65536)) for name, turn in zip(_POSE, turns, strict=True) if turn]
    parts = [(_KIND, bytes([2 if kind == _CUBE else 1])), *([(_DATA, data)] if data else ()), *pose]
    return element(_PROJECTION, b"".join(element(*part) for part in parts))


def sample_boxes(views: Mapping[str, str]) -> bytes:
    """Returns MP4's boxes for a picture's sample description (st3d, sv3d)."""
    boxes = box(b"st3d", bytes([0, 0, 0, 0, _ST3D[mode]])) if (mode := stereo_mode(views, {}, "mp4")) else b""
    if not (sphere := sphere_of(views)):
        return boxes
    kind, *turns, left, top, right, bottom = sphere
    equi = box(b"equi", struct.pack(">5I", 0, top, bottom, left, right))
    inner = box(b"prhd", struct.pack(">4i", 0, *turns)) + (box(b"cbmp", bytes(12)) if kind == _CUBE else equi)
    return boxes + box(b"sv3d", box(b"svhd", b"\0\0\0\0rtface\0") + box(b"proj", inner))
