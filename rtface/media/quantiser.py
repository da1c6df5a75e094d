"""What a stream says of its quantisers, in one unit for all codecs (`rtface.frame.Quantisers`).

FFmpeg's decoders of H.264, MPEG-1, MPEG-2, MPEG-4 part 2 (with its relatives) and VP9 give them with each frame, by
block, where `export_side_data` asks for it. For JPEG they are read from the packets.

Decoders of H.264 and MPEG-4 that reorder frames export a frame when it is given out. With one thread for each frame
another thread may still be decoding it then, and a part of the map is that of an earlier frame or empty (FFmpeg 8.0).
So these decode with threads for slices only (`threads_for`), and where that would take too long, maps are not used.

Steps of a coefficient of an orthonormal transform, in code values of 8 bits, with flat matrices:

- H.264: 2^((QP - 4) / 6), where QP is without the offset of 6 for each bit above 8 that is in the exported one.
- MPEG-2 (ISO 13818-2, 7.4.2.3): the distance of two levels is 2·W·quantiser_scale / 32, in a transform that is
  orthonormal. With W = 16, which is the matrix of blocks that are not intra, that is quantiser_scale: twice the code
  where the scale is linear, an entry of table 7-6 where it is not. FFmpeg exports quantiser_scale.
- MPEG-1: 2·W·quantizer_scale / 16, with W = 16 twice the scale; FFmpeg exports twice the scale.
- MPEG-4 part 2, H.263 and relatives: 2·QP; FFmpeg exports twice QP.
- VP9, AV1: the AC quantiser of the frame's or segment's index / 8, as the transforms are 8 times an orthonormal one.
- JPEG: the steps of a table are those of an orthonormal transform; the geometric mean of the first 20 after DC in
  zigzag order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from rtface.frame import Float32, Quantisers
from rtface.media.color import side_data
from rtface.media.image_meta import quantisation_tables
from rtface.media.pixel_format import pixel_format_info
from rtface.util.av_gpu import on_gpu

# AVVideoEncParams: number of blocks, offset and bytes of their array, type, QP of the frame.
_HEAD = struct.Struct("@INNii")
_VP9, _H264, _MPEG2 = 0, 1, 2
_MACROBLOCK, _VP9_BLOCK = 16, 8
# Samples by which a map of macroblocks may be larger than the frame: coded heights of interlaced film are multiples
# of 32. A frame that a filter made larger or smaller differs by more.
_PADDING = 32
# Decoders that may export a frame before it is whole, and the samples of the largest frame for which threads for slices
# will do.
_EXPORT_EARLY = ("h264", "mpeg4")
_SLICE_SAMPLES = 1920 * 1088
# AC quantisers of VP9 and AV1 by index (AV1 specification, 7.12.2): corners of the curve, which is linear in between;
# that of 10 bits within 1 %. The one of 12 bits differs from that little where it is not next to lossless.
_AC_8 = ((0, 4), (1, 8), (95, 102), (120, 152), (137, 203), (150, 255), (160, 305), (169, 359), (176, 408), (182, 456),
         (188, 510), (193, 560), (198, 615), (202, 663), (206, 715), (210, 771), (213, 816), (216, 864), (219, 915),
         (222, 969), (225, 1026), (227, 1066), (230, 1129), (232, 1173), (234, 1219), (236, 1267), (238, 1317),
         (240, 1369), (242, 1423), (244, 1479), (246, 1537), (248, 1597), (249, 1628), (251, 1692), (252, 1725),
         (254, 1793), (255, 1828))
_AC_10 = ((0, 4), (1, 9), (3, 13), (4, 16), (5, 18), (10, 33), (16, 55), (27, 100), (88, 371), (96, 409), (121, 616),
          (139, 841), (153, 1078), (165, 1338), (179, 1727), (193, 2239), (207, 2915), (221, 3803), (235, 4972),
          (249, 6512), (255, 7312))
# Coefficients of a JPEG whose steps count, in zigzag order.
_LOW = slice(1, 21)
# Frames whose packet was read and that did not come out of the decoder yet.
_PENDING = 64
# Bytes of a JPEG that are searched for its tables.
_JPEG_HEAD = 1 << 16


def threads_for(context: VideoCodecContext) -> Literal["AUTO", "SLICE"]:
    """The type of threads with which a film is decoded: "SLICE" where its quantisers would be wrong with others."""
    small = context.width * context.height <= _SLICE_SAMPLES
    return "SLICE" if context.codec.canonical_name in _EXPORT_EARLY and small else "AUTO"


class QuantiserReader:
    """Quantisers of the frames of one decoder.

    Args:
        context: the decoder, not opened yet, with its type of threads: it is asked to export what it knows.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._codec = context.codec.canonical_name
        by_frame = ThreadType.FRAME in ThreadType(context.thread_type) and context.thread_count != 1
        if self._codec not in _EXPORT_EARLY or not by_frame:
            context.options = {**context.options, "export_side_data": "venc_params"}
        self._pending: dict[tuple[int, object], float] = {}  # steps by time and time base

    def note(self, packet: av.Packet[Any]) -> None:
        """To be called with each packet before it is decoded."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if self._codec != "mjpeg" or stamp is None:
            return
        step = _step_of_jpeg(bytes(memoryview(packet)[:_JPEG_HEAD]))
        if step is not None:
            self._pending[stamp, packet.time_base] = step
        while len(self._pending) > _PENDING:
            del self._pending[next(iter(self._pending))]

    def of(self, image: av.VideoFrame) -> Quantisers | None:
        """Those of a frame as it came out of the decoder, with its time; None where nothing is known."""
        data = None if on_gpu(image) else side_data(image, "VIDEO_ENC_PARAMS")
        if data is not None:
            return quantisers_of(data, self._codec, image.width, image.height,
                                 pixel_format_info(image.format.name).bits)
        stamp = image.dts if image.pts is None else image.pts
        step = self._pending.pop((stamp, image.time_base), None) if self._pending and stamp is not None else None
        return None if step is None else one_step(step, self._codec, image)


def one_step(step: float, codec: str, image: av.VideoFrame) -> Quantisers:
    """The same step for a whole frame."""
    return Quantisers(np.full((1, 1), step, np.float32), max(image.width, image.height), codec)


def jpeg_step(luma: Sequence[int]) -> float:
    """The step that stands for a JPEG's quantisation table, 64 steps in zigzag order."""
    return float(np.exp2(np.log2(np.array(luma[_LOW], np.float64)).mean()))


def _step_of_jpeg(data: bytes) -> float | None:
    tables = quantisation_tables(data)
    return None if tables is None else jpeg_step(tables[0])


def vpx_steps(index: NDArray[np.signedinteger[Any]], bits: int) -> Float32:
    """Steps of quantiser indices of VP9 or AV1, 0…255, in frames of `bits` bits."""
    corners = np.array(_AC_8 if bits == 8 else _AC_10, np.float64)
    unit = 8 if bits == 8 else 8 * 4
    return np.asarray(np.interp(index, corners[:, 0], corners[:, 1]) / unit, np.float32)


def quantisers_of(data: bytes, codec: str, width: int, height: int, bits: int) -> Quantisers | None:
    """What FFmpeg's side data "video encoding parameters" say; None where they are of no use.

    Args:
        data: AVVideoEncParams and its blocks.
        codec: FFmpeg's canonical name.
        width, height: of the frame, in samples.
        bits: of a sample.
    """
    if len(data) < _HEAD.size:
        return None
    count, offset, size, kind, base = _HEAD.unpack_from(data)
    if count and (size < 20 or size % 4 or offset % 4 or offset + count * size > len(data)):
        return None
    words = np.frombuffer(data, np.int32)
    blocks = words[offset // 4:offset // 4 + count * size // 4].reshape(count, size // 4) if count else None
    if kind == _VP9:
        index = np.full((1, 1), base, np.int64) if blocks is None else _painted(blocks, base, width, height)
        if index is None:
            return None
        return Quantisers(vpx_steps(index, bits), max(width, height) if blocks is None else _VP9_BLOCK, codec)
    if blocks is None or kind not in (_H264, _MPEG2):
        return None
    columns, rows = (int(v) // _MACROBLOCK + 1 for v in blocks[-1, :2])
    if columns * rows != count or not (0 <= columns * _MACROBLOCK - width < _PADDING
                                       and 0 <= rows * _MACROBLOCK - height < _PADDING):
        return None
    scale = (blocks[:, 4] + base).reshape(rows, columns)
    if kind == _H264:
        steps = np.exp2((scale - (4 + 6 * (bits - 8))).astype(np.float32) / 6)
    else:
        known = scale[scale > 0]  # a block that was lost has none
        if not known.size:
            return None
        steps = np.where(scale > 0, scale, np.median(known)).astype(np.float32)
    return Quantisers(steps, _MACROBLOCK, codec)


def _painted(blocks: NDArray[np.int32], base: int, width: int, height: int) -> NDArray[np.int64] | None:
    """VP9's indices of all blocks of 8×8, from blocks of any size."""
    columns, rows = -(-width // _VP9_BLOCK), -(-height // _VP9_BLOCK)
    x, y, across, down = (blocks[:, :4] // _VP9_BLOCK).T
    cells = across * down
    total = int(cells.sum())
    if not 0 < total <= 2 * (columns + 8) * (rows + 8) or cells.min() < 1 or across.min() < 1:
        return None
    block = np.repeat(np.arange(len(blocks)), cells)
    place = np.arange(total) - np.repeat(np.cumsum(cells) - cells, cells)
    row, column = np.divmod(place, across[block])
    row, column = row + y[block], column + x[block]
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    out = np.full((rows, columns), base, np.int64)
    out[row[inside], column[inside]] = base + blocks[block[inside], 4]
    return out
