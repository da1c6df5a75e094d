"""Reads a stream's quantisers in one unit for all codecs (`rtface.frame.Quantisers`).

FFmpeg's decoders of H.264, MPEG-1, MPEG-2, MPEG-4 part 2 (and relatives) and VP9 export a map of quantisers by block
with each frame if `export_side_data` requests it. JPEG quantisers are read from the packets.

Decoders of H.264 and MPEG-4 that reorder frames export the map when they return a frame. With frame threads, another
thread may still be decoding that frame: a part of the map is empty, or belongs to an earlier frame (FFmpeg 8.0). So
these decoders use slice threads only (`threads_for`). If slice threads would be too slow, maps are not used.

Quantiser steps of an orthonormal transform, in 8-bit code values, with flat matrices:

- H.264: 2^((QP - 4) / 6), with QP minus 6 for each bit above 8, which the exported QP includes.
- MPEG-2 (ISO 13818-2, 7.4.2.3): 2·W·quantiser_scale / 32. With W = 16, the matrix of inter blocks, this is just
  quantiser_scale, which FFmpeg exports. The stream codes it: quantiser_scale is twice the code if the scale is linear,
  else an entry of table 7-6.
- MPEG-1: 2·W·quantizer_scale / 16. With W = 16, this is twice the scale, which FFmpeg exports.
- MPEG-4 part 2, H.263 and relatives: 2·QP, which FFmpeg exports.
- VP9, AV1: 1/8 of the AC quantiser for the frame's or segment's index, because the transforms are scaled by 8.
- JPEG: the geometric mean of the first 20 entries after DC in zigzag order; tables state orthonormal steps.
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
# If a filter resized the frame, the difference is larger.
_PADDING = 32
# Codecs whose decoders export maps and whose headers `step_reader` can also read.
_EXPORT = ("h264", "mpeg4", "vp9")
# Codecs whose decoders may export a map before its frame is complete, and the largest frame, in samples, for which
# slice threads are fast enough.
_EXPORT_EARLY = ("h264", "mpeg4")
_SLICE_SAMPLES = 1920 * 1088
# Maximum number of frames inside the decoder.
_PENDING = 64


def threads_for(context: av.VideoCodecContext) -> Literal["AUTO", "SLICE"]:
    """Returns the thread type for decoding. It is "SLICE" if reading quantisers requires that."""
    small = context.width * context.height <= _SLICE_SAMPLES
    return "SLICE" if context.codec.canonical_name in _EXPORT_EARLY and small else "AUTO"


class QuantiserReader:
    """Reads the quantisers of the frames of one decoder.

    Args:
        context: the decoder, not opened yet, with its thread type set. The reader sets its export option.
        gpu: whether frames come from a GPU decoder, which exports nothing.
    """

    def __init__(self, context: av.VideoCodecContext, *, gpu: bool = False) -> None:
        self._codec = context.codec.canonical_name
        by_frame = ThreadType.FRAME in ThreadType(context.thread_type) and context.thread_count != 1
        exports = self._codec in _EXPORT and not (self._codec in _EXPORT_EARLY and by_frame)
        # The steps of a lossless film say nothing about an earlier lossy coding that may have caused artefacts.
        self._silent = coding_of(context).kind == "lossless"
        if exports or self._codec not in _EXPORT:
            context.options = {**context.options, "export_side_data": "venc_params"}
        self._step = None if exports and not gpu else step_reader(self._codec, bytes(context.extradata or b""))
        self._pending: dict[int, float] = {}  # steps by time
        self._base: Fraction | None = None

    def note(self, packet: av.Packet[Any]) -> None:
        """Reads the step of each packet before it is decoded."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if self._step is None or stamp is None or self._silent:
            return
        step = self._step(memoryview(packet))
        if step is not None:
            self._pending[stamp], self._base = step, packet.time_base
        while len(self._pending) > _PENDING:  # hidden or lost frames
            del self._pending[next(iter(self._pending))]

    def of(self, image: av.VideoFrame) -> Quantisers | None:
        """Returns the quantisers of a frame, or None. The frame must still have the decoder's timestamp."""
        if self._silent:
            return None
        data = None if on_gpu(image) else side_data(image, "VIDEO_ENC_PARAMS")
        if data is not None:
            return quantisers_of(
                data, self._codec, image.width, image.height, pixel_format_info(image.format.name).bits
            )
        stamp = image.dts if image.pts is None else image.pts
        if stamp is None or (image.time_base and image.time_base != self._base):  # a filter changed its time
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
        codec: FFmpeg's canonical name of the codec.
        width, height: size of the frame in samples.
        bits: bits per sample.
    """
    count, offset, size, kind, base = _HEAD.unpack_from(data)
    words = np.frombuffer(data, np.int32)
    blocks = words[offset // 4 : offset // 4 + count * size // 4].reshape(count, size // 4) if count else None
    if kind == _VP9:
        index = np.full((1, 1), base, np.int32) if blocks is None else _painted(blocks, base, width, height)
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


def _painted(blocks: NDArray[np.int32], base: int, width: int, height: int) -> NDArray[np.int32]:
    """Expands VP9's indices from blocks of any size to blocks of 8×8."""
    columns, rows = -(-width // _VP9_BLOCK), -(-height // _VP9_BLOCK)
    x, y, across, down = np.ascontiguousarray(blocks.T[:4]) // _VP9_BLOCK
    most = _VP9_LARGEST // _VP9_BLOCK
    out = np.full((rows + most, columns + most), base, np.int32)  # blocks may extend beyond the edges
    first, value, size = y * out.shape[1] + x, base + blocks[:, 4], down * (most + 1) + across
    for kind in np.flatnonzero(np.bincount(size)).tolist():
        same = np.flatnonzero(size == kind)
        cells = (np.arange(kind // (most + 1))[:, None] * out.shape[1] + np.arange(kind % (most + 1))).ravel()
        out.reshape(-1)[first[same, None] + cells] = value[same, None]
    return out[:rows, :columns]
