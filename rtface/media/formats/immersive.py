"""How stereo and spherical pictures are noted: FFmpeg's side data, and what Matroska and MP4 hold of it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_LAYOUTS = {0: "mono", 1: "left_right", 2: "top_bottom", 3: "block", 4: "checkerboard", 6: "row", 7: "col"}
_EXCHANGED = {"left_right": "right_left", "top_bottom": "bottom_top", "mono": "mono"}
_INTERLEAVED = {"row": "row_interleaved", "col": "col_interleaved"}
_WEBM_STEREO = ("mono", "left_right", "right_left", "bottom_top", "top_bottom")
_ST3D = {(0, 0): 0, (2, 0): 1, (1, 0): 2}
_CUBE, _TILE = 1, 2  # FFmpeg's numbers; 0 is the whole sphere
_WRITER = b"rtface\0"

Views = Mapping[str, str]
"""As `rtface.media.formats.color.views_of` gives them."""


Sphere = tuple[int, bytes, tuple[float, ...]]
"""Of Matroska's element Projection: type, private data, and yaw, pitch and roll in degrees."""


def stereo(views: Views) -> tuple[int, int] | None:
    """The layout of two views in a frame (FFmpeg's number; 0: only one), and whether they are exchanged."""
    return struct.unpack("=2i", bytes.fromhex(views["STEREO3D"])) if "STEREO3D" in views else None


def stereo_mode(tags: Mapping[str, str], views: Views, format: str) -> str | None:
    """The tag of a stream by which Matroska's muxer notes stereo; None where the container has no place for it.

    Args:
        tags: of the stream, which may have it.
        views: of its frames.
        format: FFmpeg's name of the container.
    """
    layout, exchanged = stereo(views) or (None, 0)
    name = _LAYOUTS.get(layout, "") if layout is not None else ""
    sides = "_rl" if exchanged else "_lr"
    usual = (_EXCHANGED[name] if exchanged else name) if name in _EXCHANGED else _INTERLEAVED.get(name, name) + sides
    mode = tags.get("stereo_mode") or (usual if name else None)
    return mode if format == "matroska" or (format == "webm" and mode in _WEBM_STEREO) else None


def lost(tags: Mapping[str, str], views: Views, format: str) -> list[str]:
    """Names the kinds of side data that a container cannot note; one view in a frame is what players show anyway."""
    boxed, kinds = format in ("mp4", "mov"), list[str]()
    layout = stereo(views) or (0, 0)
    if layout[0] and not ((boxed and layout in _ST3D) or stereo_mode(tags, views, format)):
        kinds.append("STEREO3D")
    if "SPHERICAL" in views and not ((boxed or format in ("matroska", "webm")) and _sphere(views)):
        kinds.append("SPHERICAL")
    return kinds


def _sphere(views: Views) -> tuple[int, ...] | None:
    """Projection, yaw, pitch and roll, and what is missing at the left, top, right and bottom; None where neither
    container can say it."""
    if "SPHERICAL" not in views or len(data := bytes.fromhex(views["SPHERICAL"])) < 32:
        return None
    sphere = struct.unpack_from("=4i4I", data)
    return sphere if sphere[0] <= _TILE else None


def projection(views: Views) -> Sphere | None:
    """The sphere as Matroska has it; None where there is none, or it has no place for it."""
    if (sphere := _sphere(views)) is None:
        return None
    kind, *turns, left, top, right, bottom = sphere
    private = bytes(12) if kind == _CUBE else struct.pack(">5I", 0, top, bottom, left, right) * (kind == _TILE)
    return 2 if kind == _CUBE else 1, private, tuple(turn / 65536 for turn in turns)


def mp4_boxes(views: Views) -> bytes:
    """Boxes of a sample entry (st3d, sv3d)."""
    boxes, layout = b"", _ST3D.get(stereo(views) or (-1, 0))
    if layout is not None:
        boxes += _full_box(b"st3d", bytes([layout]))
    if sphere := _sphere(views):
        kind, *turns, left, top, right, bottom = sphere
        shape = (
            _full_box(b"cbmp", bytes(8))
            if kind == _CUBE
            else _full_box(b"equi", struct.pack(">4I", top, bottom, left, right))
        )
        inner = _full_box(b"prhd", struct.pack(">3i", *turns)) + shape
        boxes += _box(b"sv3d", _full_box(b"svhd", _WRITER) + _box(b"proj", inner))
    return boxes


def _full_box(kind: bytes, body: bytes) -> bytes:
    return _box(kind, bytes(4) + body)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body
