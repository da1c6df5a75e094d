"""Shares memory for frames between two processes: a few slots, one writer, one reader.

The memory is anonymous, so nothing is left behind after a crash: it is an unlinked file or, on Windows, a section that
is freed with its last handle. Unused pages cost nothing, so slots may be as large as the largest accepted frame.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rtface.errors import UsageError

if TYPE_CHECKING:
    import av

    from rtface.frame import Bytes

_HEADER = mmap.PAGESIZE
_FREE, _TAKEN = 0, 1


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Size, format and colour of a frame in a slot.

    Attributes:
        width, height: size in samples.
        pix_fmt: FFmpeg's name of the pixel format.
        strides: bytes per row of each plane.
        tags: colour range, matrix, primaries and transfer as FFmpeg's enum values.
        pict_type: FFmpeg's AVPictureType; 0 if unknown.
    """

    width: int
    height: int
    pix_fmt: str
    strides: tuple[int, ...]
    tags: tuple[int, int, int, int] = (0, 2, 2, 2)
    pict_type: int = 0

    @staticmethod
    def of(image: av.VideoFrame) -> FrameLayout:
        """Returns the layout of a frame in host memory."""
        return FrameLayout(
            image.width,
            image.height,
            image.format.name,
            tuple(p.line_size for p in image.planes),
            (int(image.color_range), int(image.colorspace), int(image.color_primaries), int(image.color_trc)),
            int(image.pict_type),
        )


class FrameRing:
    """A ring of slots for frames. One process writes, the other reads.

    Args:
        slots: maximum number of frames in transit, 1…64.
        bytes: size of the largest frame in bytes.
        handle: `handle` of the other process's ring, whose memory this ring maps; None allocates new memory.
    """

    def __init__(self, slots: int, bytes: int, handle: int | str | None = None) -> None:
        self.slots = slots
        self.bytes = -(-bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._lock = threading.Lock()  # serialises threads; also a memory barrier between samples and slot state
        self._next = 0
        size = _HEADER + slots * self.bytes
        self._file: int | None = None
        if sys.platform == "win32":
            self.handle: int | str = handle or f"rtface-{secrets.token_hex(16)}"
            self._memory = mmap.mmap(-1, size, tagname=str(self.handle))
        else:
            self._file = _create_unlinked(size) if handle is None else int(handle)
            self.handle = self._file
            self._memory = mmap.mmap(self._file, size)

    def put(self, image: av.VideoFrame) -> int | None:
        """Copies a frame's planes into a free slot. Returns the slot's number; None if all slots are taken.

        Raises:
            UsageError: the frame is larger than a slot.
        """
        from rtface.util.av_arrays import plane_rows

        planes = [plane_rows(p) for p in image.planes]
        if sum(p.size for p in planes) > self.bytes:
            raise UsageError(
                "a frame of {width}×{height} in {name} is too large: a slot holds {mebibytes} MiB",
                code="frame_too_large",
                width=image.width,
                height=image.height,
                name=image.format.name,
                mebibytes=self.bytes >> 20,
            )
        with self._lock:
            slot = next(
                (s for s in (*range(self._next, self.slots), *range(self._next)) if self._memory[s] == _FREE), None
            )
            if slot is None:
                return None
            self._memory[slot] = _TAKEN
            self._next = (slot + 1) % self.slots
        offset = _HEADER + slot * self.bytes
        for plane in planes:
            self._view(offset, plane.shape)[:] = plane
            offset += plane.size
        return slot

    def get(self, slot: int, layout: FrameLayout) -> av.VideoFrame:
        """Returns a copy of a slot's frame, and frees the slot."""
        import av

        from rtface.util.av_arrays import plane_rows

        try:
            image = av.VideoFrame(layout.width, layout.height, layout.pix_fmt)
            offset = _HEADER + slot * self.bytes
            for stride, plane in zip(layout.strides, image.planes, strict=True):
                rows = plane_rows(plane)
                row_bytes = min(stride, rows.shape[1])
                rows[:, :row_bytes] = self._view(offset, (rows.shape[0], stride))[:, :row_bytes]
                offset += rows.shape[0] * stride
        finally:
            self.free(slot)
        image.color_range, image.colorspace, image.color_primaries, image.color_trc = layout.tags
        image.pict_type = layout.pict_type
        return image

    def free(self, slot: int) -> None:
        """Frees a slot without reading it."""
        with self._lock:
            self._memory[slot] = _FREE

    def close(self) -> None:
        """Frees the memory now, or when the last copy in progress ends. Safe to call twice."""
        with self._lock:
            with suppress(BufferError):  # the memory is freed when the copy in progress ends
                self._memory.close()
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _view(self, offset: int, shape: tuple[int, ...]) -> Bytes:
        import numpy as np

        return np.ndarray(shape, np.uint8, self._memory, offset)


def _create_unlinked(size: int) -> int:
    """Creates an unlinked file of `size` bytes. Unwritten pages use no space."""
    if sys.platform == "linux":
        file = os.memfd_create("rtface-frames")
    else:
        file, path = tempfile.mkstemp("rtface-frames")
        Path(path).unlink()
    os.ftruncate(file, size)
    return file
