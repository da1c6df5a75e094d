"""Encodes planes as JPEG with arbitrary quantisation tables.

FFmpeg's encoder has fixed tables, and OpenCV's accepts RGB only. If a decoded JPEG is encoded with its own tables and
subsampling, unchanged blocks get their original coefficients. Baseline JPEG, ITU-T T.81.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rtface.frame import Bytes
from rtface.media.formats.image_header import Tables, segments
from rtface.media.formats.image_meta import segment

Ints: TypeAlias = "NDArray[np.signedinteger[Any]]"

# Positions in a block, in zigzag order (T.81, figure A.6).
_ZIGZAG = np.array(sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
BAND_SAMPLES = 1 << 19  # samples that are processed together
_END, _SKIP = 0x00, 0xF0  # Huffman symbols: end of block, sixteen zeros


def encode_jpeg(planes: Sequence[Bytes], sampling: tuple[int, int], tables: Tables) -> bytes:
    """Encodes one gray plane, or full-range Y, Cb and Cr.

    Args:
        planes: samples, uint8; chroma planes are `sampling` times smaller.
        sampling: luma columns and luma rows for each chroma sample.
        tables: quantisation tables of luma and chroma.
    """
    height, width = planes[0].shape
    factors = [sampling, (1, 1), (1, 1)][: len(planes)] if len(planes) > 1 else [(1, 1)]
    slots = [min(number, 1) for number in range(len(planes))]
    out = [b"\xff\xd8", segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")]
    out += [segment(0xDB, bytes((slot, *tables[slot]))) for slot in sorted(set(slots))]
    parts = [bytes((n + 1, h << 4 | v, slot)) for n, ((h, v), slot) in enumerate(zip(factors, slots, strict=True))]
    out.append(segment(0xC0, struct.pack(">BHHB", 8, height, width, len(planes)) + b"".join(parts)))
    out += [segment(0xC4, body) for body in _libjpeg_tables(95)[1] if body[0] & 15 in slots]
    scan = b"".join(bytes((n + 1, slot << 4 | slot)) for n, slot in enumerate(slots))
    out.append(segment(0xDA, bytes((len(planes),)) + scan + b"\0\x3f\0"))
    packer = _Packer()
    for blocks, plane_of_block in _bands(planes, factors, [np.array(tables[slot]) for slot in slots]):
        out.append(packer.pack(blocks, plane_of_block))
    return b"".join([*out, packer.finish(), b"\xff\xd9"])


def tables_of_quality(quality: int) -> Tables:
    """Returns libjpeg's tables for a quality of 1 to 100."""
    return _libjpeg_tables(quality)[0]


def finer(a: Tables, b: Tables) -> Tables:
    """Returns the smaller of two tables' steps for each coefficient."""
    return tuple(map(min, a[0], b[0])), tuple(map(min, a[1], b[1]))


@lru_cache(maxsize=8)
def _libjpeg_tables(quality: int) -> tuple[Tables, list[bytes]]:
    """Returns libjpeg's quantisation and Huffman tables, as OpenCV writes them. T.81 annex K."""
    succeeded, data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert succeeded
    parsed = list(segments(data.tobytes()))
    luma, chroma = (tuple(body[1:]) for marker, body in parsed if marker == 0xDB)
    return (luma, chroma), [body for marker, body in parsed if marker == 0xC4]


def _bands(
    planes: Sequence[Bytes], factors: Sequence[tuple[int, int]], tables: Sequence[Ints]
) -> Iterator[tuple[Ints, Ints]]:
    """Yields quantised blocks in scan order, and the plane of each. The blocks are n×64 in zigzag order."""
    height, width = planes[0].shape
    max_h, max_v = factors[0]
    mcu_columns, mcu_rows = -(-width // (8 * max_h)), -(-height // (8 * max_v))
    band_rows = max(1, BAND_SAMPLES // (mcu_columns * 64 * max_h * max_v))
    positions = np.arange(8)
    basis = np.cos((2 * positions + 1) * positions[:, None] * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    basis = basis.astype(np.float32)
    plane_numbers = np.repeat(np.arange(len(planes)), [h * v for h, v in factors])
    for top in range(0, mcu_rows, band_rows):
        rows = min(band_rows, mcu_rows - top)
        levels: list[Ints] = []
        for plane, (h, v), table in zip(planes, factors, tables, strict=True):
            band = plane[top * 8 * v : (top + rows) * 8 * v]
            band = np.pad(band, ((0, rows * 8 * v - band.shape[0]), (0, mcu_columns * 8 * h - band.shape[1])), "edge")
            tiles = band.reshape(rows, v, 8, mcu_columns, h, 8).transpose(0, 3, 1, 4, 2, 5).astype(np.float32) - 128
            steps = np.empty(64, np.float32)
            steps[_ZIGZAG] = table
            level = np.rint((basis @ tiles @ basis.T).reshape(-1, 64) / steps).astype(np.int32)[:, _ZIGZAG]
            level[:, 1:] = level[:, 1:].clip(-1023, 1023)
            levels.append(level.reshape(rows * mcu_columns, h * v, 64))
        yield np.concatenate(levels, 1).reshape(-1, 64), np.tile(plane_numbers, rows * mcu_columns)


class _Packer:
    """Encodes blocks as one bit stream."""

    def __init__(self) -> None:
        self._codes = {body[0]: _codes(body) for body in _libjpeg_tables(95)[1]}
        self._last_dc = [0, 0, 0]  # DC coefficient of each plane's last block
        self._pending, self._pending_bits = 0, 0  # bits of an incomplete byte

    def pack(self, blocks: Ints, plane_of_block: Ints) -> bytes:
        """Returns the bytes that these blocks complete."""
        count = len(blocks)
        dc = np.empty(count, np.int64)
        for number in range(int(plane_of_block.max()) + 1):
            mask = plane_of_block == number
            values = blocks[mask, 0]
            dc[mask] = np.diff(values, prepend=self._last_dc[number])
            self._last_dc[number] = int(values[-1])
        row, column = np.nonzero(blocks[:, 1:])
        column += 1
        previous = np.where(np.diff(row, prepend=-1) == 0, np.roll(column, 1), 0)
        zeros = column - previous - 1
        values = blocks[row, column].astype(np.int64)
        skips = np.repeat(np.arange(len(row)), zeros >> 4)
        last = np.zeros(count, np.int64)
        last[row] = column
        ends = np.flatnonzero(last != 63)
        magnitudes = np.abs(np.concatenate([dc, values])).astype(np.float64)
        sizes = np.frexp(magnitudes)[1].astype(np.int64)  # in bits
        # All coded symbols: DC differences, runs of sixteen zeros, AC coefficients, ends of blocks.
        block = np.concatenate([np.arange(count), row[skips], row, ends])
        order = np.concatenate([np.zeros(count, np.int64), 2 * column[skips], 2 * column + 1, np.full(len(ends), 200)])
        table = (plane_of_block[block] > 0) + np.repeat([0, 16], [count, len(block) - count])
        symbol = np.concatenate(
            [sizes[:count], np.full(len(skips), _SKIP), (zeros & 15) << 4 | sizes[count:], np.full(len(ends), _END)]
        )
        no_extra = np.zeros(len(skips), np.int64)
        extra = np.concatenate([dc, no_extra, values, np.zeros(len(ends), np.int64)])
        extra_bits = np.concatenate([sizes[:count], no_extra, sizes[count:], np.zeros(len(ends), np.int64)])
        extra = np.where(extra < 0, extra + (1 << extra_bits) - 1, extra)
        sorting = np.argsort(block * 256 + order, kind="stable")
        word, bits = np.empty(len(block), np.int64), np.empty(len(block), np.int64)
        for kind, (code, length) in self._codes.items():
            mask = table == kind
            word[mask], bits[mask] = code[symbol[mask]], length[symbol[mask]]
        return self._put((word << extra_bits | extra)[sorting], (bits + extra_bits)[sorting])

    def finish(self) -> bytes:
        """Returns the last byte, padded with ones."""
        missing = -self._pending_bits % 8
        return self._put(np.array([(1 << missing) - 1]), np.array([missing]))

    def _put(self, word: Ints, bits: Ints) -> bytes:
        word, bits = np.concatenate([[self._pending], word]), np.concatenate([[self._pending_bits], bits])
        end = np.cumsum(bits)
        start, total = end - bits, int(end[-1])
        aligned = word.astype(np.uint64) << (64 - (start & 31) - bits).clip(0, 63).astype(np.uint64)
        aligned[bits == 0] = 0
        # No two words share a bit, so their sum equals their union, and is exact in float64.
        word_count = (total >> 5) + 2
        words = np.bincount(start >> 5, (aligned >> np.uint64(32)).astype(np.float64), word_count)
        words += np.bincount((start >> 5) + 1, (aligned & np.uint64(0xFFFFFFFF)).astype(np.float64), word_count)
        data = words.astype(">u4").tobytes()
        complete = total // 8
        self._pending_bits = total % 8
        self._pending = data[complete] >> (8 - self._pending_bits)
        return data[:complete].replace(b"\xff", b"\xff\0")


def _codes(body: bytes) -> tuple[Ints, Ints]:
    """Returns code and length of each symbol of a Huffman table. T.81, annex C."""
    code, length = np.zeros(256, np.int64), np.zeros(256, np.int64)
    value, at = 0, 17
    for bits in range(1, 17):
        for _ in range(body[bits]):
            code[body[at]], length[body[at]] = value, bits
            value, at = value + 1, at + 1
        value <<= 1
    return code, length
