"""Reads quantiser steps of packets, and counts missing frames before them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from rtface.media.formats.coded_headers.av1 import Av1Frames
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.formats.coded_headers.units import UNITS
from rtface.media.formats.coded_headers.vp8 import Vp8Frames
from rtface.media.formats.image_header import quantisation_tables
from rtface.media.formats.quantiser_tables import jpeg_step, qp_steps, vp8_table, vpx_steps

# Bytes of a packet that are searched for the first slice or JPEG tables; bytes of a NAL unit that contain its header.
_HEAD_BYTES, _UNIT_BYTES = 1 << 16, 1 << 10
_LOWEST_QP, _HIGHEST_QP = -48, 51


def step_reader(codec: str, extradata: bytes) -> Callable[[memoryview], float | None] | None:
    """Returns a function that reads the step of a packet's shown frame. The function expects packets in stream
    order, returns None for damaged ones, and raises no errors. There is no function for unsupported codecs."""
    if codec in ("h264", "hevc"):
        return partial(_read_safely, _Slices(codec, extradata).read)
    if codec == "mjpeg":
        return _read_jpeg
    if codec == "vp8":
        return partial(_read_safely, partial(_read_vp8, Vp8Frames()))
    if codec == "av1":
        frames = Av1Frames()
        if extradata[:1] == b"\x81":  # an av1C record: 4 bytes, then sequence headers
            _read_safely(partial(_read_av1, frames), memoryview(extradata)[4:])
        return partial(_read_safely, partial(_read_av1, frames))
    return None


def gap_reader(codec: str, extradata: bytes) -> Callable[[memoryview], int | None] | None:
    """Returns a function that counts reference frames missing before a packet.

    The function expects packets in stream order, and returns None if no frame can be read. Only H.264 has a function.
    """
    if codec != "h264":
        return None
    reader = _Slices(codec, extradata)
    slices = reader.slices
    assert isinstance(slices, H264Slices)

    def read(data: memoryview) -> int | None:
        slices.missing = 0
        return None if _read_safely(reader.read, data) is None else slices.missing

    return read


def _read_safely(read: Callable[[memoryview], float | None], data: memoryview) -> float | None:
    try:
        return read(data)
    except (IndexError, KeyError, ValueError, struct.error):
        return None


class _Slices:
    """Reads H.264 or HEVC slices. Parameter sets come from extradata or packets."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._unit_types = UNITS[codec]
        self.slices, self._length_size = self._unit_types.primed(extradata), self._unit_types.length_size(extradata)

    def read(self, data: memoryview) -> float | None:
        head = bytes(data[:_HEAD_BYTES])
        for unit in self._unit_types.split(head, self._length_size):
            qp = self.slices.read(unit[:_UNIT_BYTES]) if len(unit) > 1 else None
            if qp is not None:
                return float(qp_steps(np.array(qp))) if _LOWEST_QP <= qp <= _HIGHEST_QP else None
        return None


def _read_jpeg(data: memoryview) -> float | None:
    tables = quantisation_tables(bytes(data[:_HEAD_BYTES]))
    return None if tables is None else jpeg_step(tables[0])


def _read_vp8(frames: Vp8Frames, data: memoryview) -> float:
    indices, shares = np.array(frames.read(bytes(data[:_UNIT_BYTES]))).T
    return float(np.exp2(np.average(np.log2(vp8_table()[indices.astype(int)]), weights=shares)))


def _read_av1(frames: Av1Frames, data: memoryview) -> float | None:
    index = frames.read(bytes(data))
    return None if index is None else float(vpx_steps(np.array(index), frames.bits))
