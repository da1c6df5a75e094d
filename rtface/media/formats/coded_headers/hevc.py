"""Reads the QP of HEVC slices. ITU-T H.265, 7.3.2.2, 7.3.2.3, 7.3.4, 7.3.6 and 7.3.7."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rtface.media.formats.coded_headers.bits import Bits, unescaped

_B, _P = 0, 1
# `renumbered` adds this to the IDs of picture parameter sets only.
PICTURE = 15
_SPS_ID_BIT = 104  # bit offset of the ID in a sequence parameter set


@dataclass(slots=True)
class _Sequence:
    separate: bool = False
    chroma: bool = True
    order_bits: int = 4
    sao: bool = False
    reference_sets: list[list[tuple[int, bool]]] = field(default_factory=list[list[tuple[int, bool]]])
    long_term: list[bool] | None = None
    motion_prediction: bool = False


@dataclass(slots=True)
class _Picture:
    sequence: int
    output_flag: bool
    extra_bits: int
    cabac_init: bool
    references: tuple[int, int]
    qp: int
    weighted: tuple[bool, bool]
    bypass: bool
    modified: bool


class HevcSlices:
    """Reads NAL units in stream order.

    Attributes:
        sequences: sequence parameter sets by ID.
        pictures: picture parameter sets by ID.
        kind: type of the last slice: "P", "B" or "I".
        parity: None, because HEVC encodes each field as a frame.
    """

    parity: int | None = None

    def __init__(self) -> None:
        self.sequences: dict[int, _Sequence] = {}
        self.pictures: dict[int, _Picture] = {}
        self.kind = "I"

    @property
    def lossless(self) -> bool:
        """Tells whether a parameter set lets blocks bypass the quantiser."""
        return any(picture.bypass for picture in self.pictures.values())

    def read(self, unit: bytes) -> int | None:
        """Returns the QP of a frame's first slice, on the 8-bit scale. Returns None for other NAL units.

        Raises:
            IndexError, ValueError, KeyError: the unit is damaged, or refers to a parameter set that did not arrive.
        """
        kind = unit[0] >> 1 & 63
        if unit[0] & 1 or unit[1] >> 3:  # the unit belongs to another layer
            return None
        bits = Bits(unescaped(unit)[2:])
        if kind == 33:
            self.sequences.update([_read_sequence(bits)])
        elif kind == 34:
            self.pictures.update([_read_picture(bits)])
        elif kind < 10 or 16 <= kind <= 21:
            return self._slice(bits, kind)
        return None

    def _slice(self, bits: Bits, kind: int) -> int | None:
        if not bits.take(1):
            return None
        bits.take(kind >= 16)
        picture = self.pictures[bits.golomb()]
        sequence = self.sequences[picture.sequence]
        bits.take(picture.extra_bits)
        slice_type = bits.count(2)
        self.kind = "BPI"[slice_type]
        bits.take(picture.output_flag + 2 * sequence.separate)
        reference_count, has_motion = 0, False
        if kind not in (19, 20):
            reference_count, has_motion = self._read_references(bits, sequence)
        if sequence.sao:
            bits.take(1 + sequence.chroma)
        if slice_type in (_B, _P):
            self._skip_prediction(bits, picture, sequence, slice_type == _B, reference_count, has_motion)
        return picture.qp + bits.signed()

    def _read_references(self, bits: Bits, sequence: _Sequence) -> tuple[int, bool]:
        """Returns the number of usable references, and whether one predicts motion vectors."""
        bits.take(sequence.order_bits)
        set_count = len(sequence.reference_sets)
        if bits.take(1):
            references = sequence.reference_sets[bits.take((set_count - 1).bit_length() if set_count > 1 else 0)]
        else:
            references = _read_set(bits, sequence.reference_sets, last=True)
        usable = sum(flag for _, flag in references)
        long_term = sequence.long_term
        if long_term is not None:
            from_sequence = bits.count(33) if long_term else 0
            for index in range(from_sequence + bits.count(33)):
                if index < from_sequence:
                    usable += long_term[bits.take((len(long_term) - 1).bit_length())]
                else:
                    bits.take(sequence.order_bits)
                    usable += bits.take(1)
                bits.skip_golomb(bits.take(1))
        return usable, sequence.motion_prediction and bool(bits.take(1))

    @staticmethod
    def _skip_prediction(
        bits: Bits, picture: _Picture, sequence: _Sequence, both_lists: bool, usable: int, motion: bool
    ) -> None:
        counts = picture.references[: 1 + both_lists]
        if bits.take(1):
            counts = tuple(1 + bits.count(15) for _ in counts)
        if picture.modified and usable > 1:
            for count in counts:
                bits.take((usable - 1).bit_length() * count if bits.take(1) else 0)
        bits.take(both_lists + picture.cabac_init)
        if motion:
            in_first_list = not both_lists or bits.take(1)
            bits.skip_golomb(counts[0 if in_first_list else 1] > 1)
        if picture.weighted[both_lists]:
            bits.skip_golomb(1 + sequence.chroma)
            for count in counts:
                luma = [bits.take(1) for _ in range(count)]
                chroma = [bits.take(1) for _ in range(count)] if sequence.chroma else []
                bits.skip_golomb(2 * sum(luma) + 4 * sum(chroma))
        bits.golomb()


def renumbered(unit: bytes, number: int) -> bytes:
    """Replaces parameter set ID 0 in a NAL unit by `number` (0…15). A picture parameter set's ID becomes
    `number` + 15: its code is 8 bits longer than that of 0, so the rest of a slice moves by exactly one byte.

    Raises:
        ValueError: an ID is not 0, or the stream has layers.
    """
    kind, data = unit[0] >> 1 & 63, unescaped(unit)[2:]
    if kind > 34 or kind == 32:
        return unit[:2] + bytes((unit[2] & 15 | number << 4,)) + unit[3:] if kind == 32 else unit
    code, shifted = (f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}" for value in (number, number + PICTURE))
    used = len(data) if kind > 32 else 2
    binary = f"{int.from_bytes(data[:used], 'big'):0{8 * used}b}"
    at, code = {33: (_SPS_ID_BIT, code), 34: (0, shifted + code)}.get(kind, (2 if 16 <= kind <= 23 else 1, shifted))
    zero_code = "11" if kind == 34 else "1"
    if not binary.startswith(zero_code, at) or (kind == 33 and data[0] & 14):
        raise ValueError(kind)
    binary = binary[:at] + code + binary[at + len(zero_code) :]
    if kind == 33:
        binary = f"{number:04b}{binary[4:]}"
    if kind > 32:
        binary = binary.rstrip("0")
        binary += "0" * (-len(binary) % 8)
    data = int(binary, 2).to_bytes(len(binary) // 8, "big") + data[used:]
    return unit[:2] + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


def _read_set(bits: Bits, sets: list[list[tuple[int, bool]]], *, last: bool = False) -> list[tuple[int, bool]]:
    """Reads a reference picture set: the distance of each reference in time, and whether the frame uses it. Earlier
    references come first, then later ones; each group is sorted from near to far."""
    if sets and bits.take(1):
        steps_back = 1 + bits.count(len(sets) - 1) if last else 1
        sign = bits.take(1)
        shift = (1 + bits.golomb()) * (1 - 2 * sign)
        references: list[tuple[int, bool]] = []
        for distance, _ in [*sets[-steps_back], (0, False)]:
            is_used = bool(bits.take(1))
            if (is_used or bits.take(1)) and distance + shift:
                references.append((distance + shift, is_used))
        return sorted(references, key=lambda entry: (entry[0] > 0, abs(entry[0])))
    counts = bits.count(16), bits.count(16)
    out: list[tuple[int, bool]] = []
    for count, sign in zip(counts, (-1, 1), strict=True):
        distance = 0
        for _ in range(count):
            distance += sign * (1 + bits.golomb())
            out.append((distance, bool(bits.take(1))))
    return out


def _read_sequence(bits: Bits) -> tuple[int, _Sequence]:
    sequence = _Sequence()
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # skips the profile, tier and level as well
    layer_flags = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in layer_flags:
        bits.take(88 * profile + 8 * level)
    number, chroma_format = bits.count(15), bits.count(3)
    sequence.separate = chroma_format == 3 and bool(bits.take(1))
    sequence.chroma = chroma_format > 0 and not sequence.separate
    bits.skip_golomb(2)
    bits.skip_golomb(4 * bits.take(1))
    bits.skip_golomb(2)
    sequence.order_bits = 4 + bits.count(12)
    bits.skip_golomb(3 * (layers + 1 if bits.take(1) else 1))
    bits.skip_golomb(6)
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.take(1)
    sequence.sao = bool(bits.take(1))
    if bits.take(1):
        bits.take(8)
        bits.skip_golomb(2)
        bits.take(1)
    for _ in range(bits.count(64)):
        sequence.reference_sets.append(_read_set(bits, sequence.reference_sets))
    if bits.take(1):
        sequence.long_term = []
        for _ in range(bits.count(32)):
            bits.take(sequence.order_bits)
            sequence.long_term.append(bool(bits.take(1)))
    sequence.motion_prediction = bool(bits.take(1))
    return number, sequence


def _skip_scaling_lists(bits: Bits) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            bits.skip_golomb((min(64, 16 << 2 * size) + (size > 1)) if bits.take(1) else 1)


def _read_picture(bits: Bits) -> tuple[int, _Picture]:
    number, sequence = bits.count(63), bits.count(15)
    _, output_flag, extra, _, cabac_init = (bits.take(count) for count in (1, 1, 3, 1, 1))
    references = 1 + bits.count(14), 1 + bits.count(14)
    qp = 26 + bits.signed()
    bits.take(2)
    bits.skip_golomb(bits.take(1))
    bits.skip_golomb(2)
    bits.take(1)
    weighted, bypass = (bool(bits.take(1)), bool(bits.take(1))), bool(bits.take(1))
    if bits.take(2) & 2:  # tiles
        columns, rows = bits.count(31), bits.count(31)
        bits.skip_golomb(0 if bits.take(1) else columns + rows)
        bits.take(1)
    bits.take(1)
    if bits.take(1):  # deblocking
        bits.take(1)
        bits.skip_golomb(0 if bits.take(1) else 2)
    if bits.take(1):
        _skip_scaling_lists(bits)
    return number, _Picture(
        sequence, bool(output_flag), extra, bool(cabac_init), references, qp, weighted, bypass, bool(bits.take(1))
    )
