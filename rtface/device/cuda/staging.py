"""Addresses of a frame's samples in GPU memory: rectangles copied to one block, or FFmpeg's planes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from rtface.device.cuda.gpu import Memory
from rtface.frame import Box, Bytes, Frame
from rtface.geometry.planes import Layout, Role, Samples
from rtface.geometry.transforms import field_parity
from rtface.util import av_gpu

_PITCH_BYTES = 64  # alignment of the pitch of each piece
_PIECE_BYTES = 256  # alignment of the offset of each piece


def grids(form: Layout) -> list[tuple[Role, ...]]:
    """Groups components on the same grid: y, then u and v; or r, g, b."""
    return {"yuv": [("y",), ("u", "v")], "gray": [("y",)], "rgb": [("r", "g", "b")]}[form.kind]  # pyright: ignore


def plane_shape(frame: Frame, form: Layout, role: Role) -> tuple[int, int]:
    """Returns a component's height and width in samples. For a field, only its own rows count."""
    sx, sy = form.role_subsampling(role)
    height, width = -(-frame.image.height // sy), -(-frame.image.width // sx)
    parity = field_parity(frame.display, frame.field)
    return height if parity is None else (height - parity + 1) // 2, width


@dataclass(frozen=True, slots=True)
class ComponentMap:
    """Locates one component in the block. `at` is the byte offset of the plane's sample (box[0], box[1])."""

    at: int
    pitch: int
    box: Box


@dataclass(frozen=True, slots=True)
class PlaneRect:
    """A rectangle of one native plane, at byte `at` of the block. It contains rows `top` to `bottom`, bytes `left` to
    `right`. Bytes count from the first sample of the plane's first component."""

    roles: tuple[Role, ...]
    top: int
    bottom: int
    left: int
    right: int
    at: int
    pitch: int


class SampleMap:
    """Maps samples of components to addresses relative to a base address.

    Attributes:
        form: layout of the frame.
        maps: position of the samples, per component.
    """

    form: Layout
    maps: dict[Role, ComponentMap]

    def address(self, role: Role, base: int, x: int, y: int) -> int:
        """Returns the address of a plane's sample in memory at `base`."""
        component, step = self.maps[role], self.form.components[role][2]
        x0, y0, *_ = component.box
        return base + component.at + (y - y0) * component.pitch + (x - x0) * step * self.form.dtype.itemsize


@dataclass(eq=False)
class ExternalMemory(Memory):
    """GPU memory of another library. This class never frees it; `owner` keeps it alive."""

    address: int
    nbytes: int
    owner: object

    def close(self) -> None:
        """Does nothing: the owner frees the memory."""


class GpuSamples(SampleMap):
    """A frame's (or field's) samples in GPU memory owned by FFmpeg. Addresses are absolute.

    Attributes:
        memory: the memory of each plane.
    """

    def __init__(self, frame: Frame, form: Layout) -> None:
        surface = av_gpu.surface_of(frame.image)
        parity = field_parity(frame.display, frame.field)
        first_row, row_step = (0, 1) if parity is None else (parity, 2)
        self.form, self.maps = form, {}
        memory: dict[int, ExternalMemory] = {}
        for role, (plane, first, _) in form.components.items():
            start, pitch = (surface.chroma, surface.chroma_pitch) if plane else (surface.luma, surface.luma_pitch)
            height, width = plane_shape(frame, form, role)
            start += first_row * pitch
            self.maps[role] = ComponentMap(start + first * form.dtype.itemsize, row_step * pitch, (0, 0, width, height))
            memory[plane] = ExternalMemory(start, ((height - 1) * row_step + 1) * pitch, frame.image)
        self.memory = tuple(memory.values())


class StagedSamples(SampleMap):
    """Samples of a frame that are staged in one block of memory.

    Args:
        form: `planes.layout` of the frame. Words in the block are always little-endian.
        parts: one or more parts to stage. Each part is a non-empty box (x0, y0, x1, y1) per component, in samples of
            the component's plane; for a field, y counts the field's rows.

    Attributes:
        parts: the argument.
        maps: position in the block, per component.
        pieces: staged rectangle, per native plane.
        nbytes: size of the block.
    """

    def __init__(self, form: Layout, parts: Sequence[Mapping[Role, Box]]) -> None:
        self.form, self.parts = form, parts
        boxes = reduce(_bounding_boxes, parts)
        self.maps: dict[Role, ComponentMap] = {}
        self.pieces: list[PlaneRect] = []
        self.nbytes = 0
        planes: dict[int, list[Role]] = {}
        for role in boxes:
            planes.setdefault(form.components[role][0], []).append(role)
        for roles in planes.values():
            roles.sort(key=lambda role: form.components[role][1])
            spans = [self._bytes(role, roles[0], boxes[role]) for role in roles]
            left, right = min(s[0] for s in spans), max(s[1] for s in spans)
            top, bottom = min(boxes[r][1] for r in roles), max(boxes[r][3] for r in roles)
            pitch = -(-(right - left) // _PITCH_BYTES) * _PITCH_BYTES
            self.pieces.append(PlaneRect(tuple(roles), top, bottom, left, right, self.nbytes, pitch))
            for role, (start, _) in zip(roles, spans, strict=True):
                at = self.nbytes + (boxes[role][1] - top) * pitch + start - left
                self.maps[role] = ComponentMap(at, pitch, boxes[role])
            self.nbytes += -(-(bottom - top) * pitch // _PIECE_BYTES) * _PIECE_BYTES

    def _bytes(self, role: Role, lowest: Role, box: Box) -> tuple[int, int]:
        _, first, step = self.form.components[role]
        item = self.form.dtype.itemsize
        first -= self.form.components[lowest][1]
        return (first + box[0] * step) * item, (first + (box[2] - 1) * step + 1) * item

    def _cut(self, piece: PlaneRect, boxes: Mapping[Role, Box]) -> Box | None:
        """Returns the bounding box (bytes and rows) of `boxes` in a piece."""
        inside: dict[Role, Box] = {r: boxes[r] for r in piece.roles if r in boxes}
        if not inside:
            return None
        spans = [self._bytes(role, piece.roles[0], box) for role, box in inside.items()]
        return (
            min(s[0] for s in spans),
            min(b[1] for b in inside.values()),
            max(s[1] for s in spans),
            max(b[3] for b in inside.values()),
        )

    def load(self, views: Mapping[Role, Samples], block: Bytes) -> None:
        """Copies the staged samples from a frame (`planes.planes`) to a block."""
        for words, rows in self._rows(views, block, self.parts):
            words[...] = rows

    def store(self, views: Mapping[Role, Samples], block: Bytes, parts: Sequence[Mapping[Role, Box]]) -> None:
        """Copies the samples of `parts` from a block back into the frame. All parts must be staged."""
        for words, rows in self._rows(views, block, parts):
            rows[...] = words

    def _rows(
        self, views: Mapping[Role, Samples], block: Bytes, parts: Sequence[Mapping[Role, Box]]
    ) -> Iterator[tuple[Samples, Samples]]:
        """Yields each part's words in the block and in the frame."""
        word = self.form.dtype
        for piece in self.pieces:
            cuts = [cut for part in parts if (cut := self._cut(piece, part)) is not None]
            if not cuts:
                continue
            words, rows = _block_rows(piece, block), _rows_of(views[piece.roles[0]], piece.right)
            for left, top, right, bottom in cuts:
                part = words[top - piece.top : bottom - piece.top, left - piece.left : right - piece.left]
                yield part.view(word.newbyteorder("<")), rows[top:bottom, left:right].view(word)

    def spans(self, parts: Sequence[Mapping[Role, Box]]) -> list[tuple[int, int]]:
        """Returns the block's byte ranges that contain `parts`: non-overlapping offsets and lengths."""
        out: list[tuple[int, int]] = []
        for piece in self.pieces:
            for _, top, _, bottom in sorted(
                filter(None, (self._cut(piece, part) for part in parts)), key=lambda cut: cut[1]
            ):
                start, end = (piece.at + (row - piece.top) * piece.pitch for row in (top, bottom))
                if out and start <= sum(out[-1]):
                    start, end = out[-1][0], max(end, sum(out.pop()))
                out.append((start, end - start))
        return out


def _bounding_boxes(a: Mapping[Role, Box], b: Mapping[Role, Box]) -> dict[Role, Box]:
    """Returns the bounding box of two boxes, for each component."""
    return {
        role: (min(x0, b[role][0]), min(y0, b[role][1]), max(x1, b[role][2]), max(y1, b[role][3]))
        for role, (x0, y0, x1, y1) in a.items()
    }


def _rows_of(view: Samples, nbytes: int) -> Bytes:
    """Returns a writable view of the first `nbytes` bytes of each row."""
    return np.lib.stride_tricks.as_strided(view[:, :1].view(np.uint8), (view.shape[0], nbytes), (view.strides[0], 1))


def _block_rows(piece: PlaneRect, block: Bytes) -> Bytes:
    rows = piece.bottom - piece.top
    return block[piece.at : piece.at + rows * piece.pitch].reshape(rows, piece.pitch)[:, : piece.right - piece.left]
