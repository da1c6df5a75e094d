"""Reads a stream's quantisers in one unit for all codecs (`rtface.frame.Quantisers`).

FFmpeg's decoders of H.264, MPEG-1, MPEG-2, MPEG-4 part 2 (and relatives) and VP9 export a map of the
blocks' quantisers with each frame if `export_side_data` requests it. JPEG quantisers are read from the packets.

Decoders of H.264 and MPEG-4 that reorder frames export the map when they return a frame. With frame threads, another
thread may still be decoding that frame: a part of the map is empty, or belongs to an earlier frame (FFmpeg 8.0). So
these decoders use slice threads only (`threads_for`). If slice threads would be too slow, maps are not used.

Quantiser steps of an orthonormal transform, in 8-bit code values, with flat matrices:

- H.264: 2^((QP - 4) / 6), with QP minus 6 for each bit above 8, which the exported QP includes.
- MPEG-2 (ISO 13818-2, 7.4.2.3): 2·W·quantiser_scale / 32. With W = 16, as for inter blocks, this is just
  quantiser_scale, which FFmpeg exports. The stream contains a code instead: quantiser_scale is twice the code if the
  scale is linear, otherwise an entry of table 7-6.
- MPEG-1: 2·W·quantizer_scale / 16. With W = 16, this is twice the scale, which FFmpeg exports.
- MPEG-4 part 2, H.263 and relatives: 2·QP, which FFmpeg exports.
- VP9, AV1: 1/8 of the AC quantiser for the frame's or segment's index, because the transforms are scaled by 8.
- JPEG: the geometric mean of the first 20 entries after DC in zigzag order; tables contain orthonormal steps.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.codec.context import ThreadType
from numpy.typing import NDArray

from rtface.frame import Quantisers
from rtface.media.formats.coded_headers.steps import step_reader
from rtface.media.formats.coding import coding_of
from rtface.media.formats.color import side_data
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.formats.quantiser_tables import qp_steps, vpx_steps
from rtface.util.av_gpu import on_gpu

# AVVideoEncParams: number of blocks, offset of their array, bytes of a block, type, QP of the frame.
_HEAD = struct.Struct("@INNii")
_VP9, _H264, _MPEG2 = 0, 1, 2
_MACROBLOCK, _VP9_BLOCK, _VP9_LARGEST = 16, 8, 64
# Samples by which a macroblock map may exceed the frame, because coded heights of interlaced film are multiples of 32.
# If a filter resized the frame, the difference is larger, and the map is unusable.
_PADDING = 32
# Codecs whose decoders export maps and whose headers `step_reader` can also read.
_EXPORTING = ("h264", "mpeg4", "vp9")
# Codecs whose decoders may export a map before its frame is complete, and the largest frame, in samples, for which
# slice threads are fast enough.
_EXPORTING_EARLY = ("h264", "mpeg4")
_SLICE_SAMPLES = 1920 * 1088
# Maximum number of frames inside the decoder.
_MAX_PENDING = 64


def threads_for(context: av.VideoCodecContext) -> Literal["AUTO", "SLICE"]:
    """Returns the thread type for decoding. It is "SLICE" if reading quantisers requires that."""
    small = context.width * context.height <= _SLICE_SAMPLES
    return "SLICE" if context.codec.canonical_name in _EXPORTING_EARLY and small else "AUTO"


class QuantiserReader:
    """Reads the quantisers of the frames of one decoder.

    Args:
        context: the decoder, not opened yet, with its thread type set. The reader sets its export option.
        gpu: whether frames come from a GPU decoder, which exports nothing.
    """

    def __init__(self, context: av.VideoCodecContext, *, gpu: bool = False) -> None:
        self._codec = context.codec.canonical_name
        by_frame = ThreadType.FRAME in ThreadType(context.thread_type) and context.thread_count != 1
        exports = self._codec in _EXPORTING and not (self._codec in _EXPORTING_EARLY and by_frame)
        # The steps of a lossless film do not show an earlier lossy coding, which may have caused artefacts.
        self._lossless = coding_of(context).kind == "lossless"
        if exports or self._codec not in _EXPORTING:
            context.options = {**context.options, "export_side_data": "venc_params"}
        self._read_step = None if exports and not gpu else step_reader(self._codec, bytes(context.extradata or b""))
        self._pending: dict[int, float] = {}  # steps, keyed by timestamp
        self._base: Fraction | None = None

    def note(self, packet: av.Packet[Any]) -> None:
        """Reads the step of each packet before it is decoded."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if self._read_step is None or stamp is None or self._lossless:
            return
        step = self._read_step(memoryview(packet))
        if step is not None:
            self._pending[stamp], self._base = step, packet.time_base
        while len(self._pending) > _MAX_PENDING:  # steps of hidden or lost frames
            del self._pending[next(iter(self._pending))]

    def of(self, image: av.VideoFrame) -> Quantisers | None:
        """Returns the quantisers of a frame, or None. The frame must still have the decoder's timestamp."""
        if self._lossless:
            return None
        data = None if on_gpu(image) else side_data(image, "VIDEO_ENC_PARAMS")
        if data is not None:
            return quantisers_of(
                data, self._codec, image.width, image.height, pixel_format_info(image.format.name).bits
            )
        stamp = image.dts if image.pts is None else image.pts
        if stamp is None or (image.time_base and image.time_base != self._base):  # a filter changed the time
            return None
        step = self._pending.pop(stamp, None)
        return None if step is None else one_step(step, self._codec, image)


def one_step(step: float, codec: str, image: av.VideoFrame) -> Quantisers:
    """Returns quantisers with one step for a whole frame."""
    return Quantisers(np.full((1, 1), step, np.float32), max(image.width, image.height), codec)


def quantisers_of(data: bytes, codec: str, width: int, height: int, bits: int) -> Quantisers | None:
    """Parses FFmpeg's "video encoding parameters". Returns None if they are unusable.

    Args:
        data: AVVideoEncParams and its blocks.
        codec: FFmpeg's canonical name for the codec.
        width, height: size of the frame in samples.
        bits: bits per sample.
    """
    count, offset, size, kind, base = _HEAD.unpack_from(data)
    words = np.frombuffer(data, np.int32)
    blocks = words[offset // 4 : offset // 4 + count * size // 4].reshape(count, size // 4) if count else None
    if kind == _VP9:
        index = np.full((1, 1), base, np.int32) if blocks is None else _expand_blocks(blocks, base, width, height)
        return Quantisers(vpx_steps(index, bits), max(width, height) if blocks is None else _VP9_BLOCK, codec)
    if blocks is None or kind not in (_H264, _MPEG2):
        return None
    columns, rows = (int(v) // _MACROBLOCK + 1 for v in blocks[-1, :2])
    if columns * rows != count or not (
        0 <= columns * _MACROBLOCK - width < _PADDING and 0 <= rows * _MACROBLOCK - height < _PADDING
    ):
        return None
    scale = (blocks[:, 4] + base).reshape(rows, columns)
    if kind == _H264:
        steps = qp_steps(scale - 6 * (bits - 8))
    else:
        scales = scale[scale > 0]  # lost blocks have 0
        if not scales.size:
            return None
        steps = np.where(scale > 0, scale, np.median(scales)).astype(np.float32)
    return Quantisers(steps, _MACROBLOCK, codec)


def _expand_blocks(blocks: NDArray[np.int32], base: int, width: int, height: int) -> NDArray[np.int32]:
    """Expands VP9's quantiser indices from blocks of any size to 8×8."""
    columns, rows = -(-width // _VP9_BLOCK), -(-height // _VP9_BLOCK)
    x, y, widths, heights = np.ascontiguousarray(blocks.T[:4]) // _VP9_BLOCK
    largest = _VP9_LARGEST // _VP9_BLOCK
    out = np.full((rows + largest, columns + largest), base, np.int32)  # blocks may extend beyond the edges
    offsets, values, sizes = y * out.shape[1] + x, base + blocks[:, 4], heights * (largest + 1) + widths
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        equal = np.flatnonzero(sizes == size)
        cells = (np.arange(size // (largest + 1))[:, None] * out.shape[1] + np.arange(size % (largest + 1))).ravel()
        out.reshape(-1)[offsets[equal, None] + cells] = values[equal, None]
    return out[:rows, :columns]
