"""Reads the QP of H.264 slices, and detects missing frames. ITU-T H.264, 7.3.2.1, 7.3.2.2 and 7.3.3."""

from __future__ import annotations

from dataclasses import dataclass

from rtface.media.formats.coded_headers.bits import Bits, unescaped

# Profiles whose parameter sets have chroma format, bit depth and scaling lists.
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
# Maximum number of operations before an end marker.
_MAX_OPERATIONS = 66
_P, _B, _I, _SP, _SI = range(5)
# The memory management operation that resets the frame number. A gap in the numbers counts as a loss only after
# _MIN_CORRECT consecutive correct numbers, because some cameras and servers number frames arbitrarily.
_RESET, _MIN_CORRECT = 5, 8


@dataclass(slots=True)
class Sequence:
    """A sequence parameter set. `references` is the maximum number of reference frames."""

    profile: int = 0
    constraints: int = 0
    level: int = 0
    references: int = 0
    chroma: bool = True
    separate: bool = False
    bypass: bool = False
    frame_number_bits: int = 4
    order_type: int = 0
    order_bits: int = 4
    order_zero: bool = False
    gaps: bool = False
    frames_only: bool = True


@dataclass(slots=True)
class _Picture:
    sequence: int
    cabac: bool
    order_deltas: bool
    references: tuple[int, int]
    weighted: tuple[bool, bool]
    qp: int
    redundant: bool


class H264Slices:
    """Reads parameter sets and each frame's first slice, in stream order.

    Attributes:
        missing: number of reference frames that are missing before the last slice, according to its frame number.
        sequences: sequence parameter sets by ID.
        pictures: picture parameter sets by ID.
        kind: type of the last slice: "P", "B" or "I".
        parity: field of the last slice: 0 for top, 1 for bottom; None if the slice belongs to a whole frame.
    """

    def __init__(self) -> None:
        self.sequences: dict[int, Sequence] = {}
        self.pictures: dict[int, _Picture] = {}
        self._reference_number: int | None = None  # number of the last reference frame
        self._correct_numbers = 0  # number of frames with correct numbers since the last gap
        self.missing = 0
        self.kind = "I"
        self.parity: int | None = None

    @property
    def lossless(self) -> bool:
        """Tells whether a parameter set bypasses the quantiser."""
        return any(sequence.bypass for sequence in self.sequences.values())

    def read(self, unit: bytes) -> int | None:
        """Returns a slice's QP, on the 8-bit scale. Returns None for other NAL units.

        Raises:
            IndexError, ValueError, KeyError: the unit is damaged, or refers to a parameter set that did not arrive.
        """
        kind = unit[0] & 31
        if kind == 7:
            self.sequences.update([_read_sequence(unescaped(unit))])
        elif kind == 8:
            self.pictures.update([_read_picture(Bits(unescaped(unit)[1:]))])
        elif kind in (1, 2, 5):
            return self._slice(Bits(unescaped(unit)[1:]), idr=kind == 5, reference=bool(unit[0] & 0x60))
        return None

    def _slice(self, bits: Bits, *, idr: bool, reference: bool) -> int:
        bits.golomb()
        kind = bits.golomb() % 5
        self.kind = "PBIPI"[kind]
        picture = self.pictures[bits.golomb()]
        sequence = self.sequences[picture.sequence]
        bits.take(2 * sequence.separate)
        number = bits.take(sequence.frame_number_bits)
        previous, self._reference_number = self._reference_number, None
        if not idr and previous is not None and not sequence.gaps:
            self._count_missing(number, previous, sequence.frame_number_bits)
        is_field = not sequence.frames_only and bits.take(1)
        self.parity = bits.take(1) if is_field else None
        bits.skip_golomb(idr)
        has_order_delta = picture.order_deltas and not is_field
        if sequence.order_type == 0:
            bits.take(sequence.order_bits)
            bits.skip_golomb(has_order_delta)
        elif sequence.order_type == 1 and not sequence.order_zero:
            bits.skip_golomb(1 + has_order_delta)
        bits.skip_golomb(picture.redundant)
        bits.take(kind == _B)
        lists = {_P: 1, _SP: 1, _B: 2}.get(kind, 0)
        counts = picture.references[:lists]
        if lists and bits.take(1):
            counts = tuple(1 + bits.count(31) for _ in counts)
        for _ in counts:
            if bits.take(1):
                _skip_list(bits, 3, {0: 1, 1: 1, 2: 1})
        if picture.weighted[lists - 1] and lists:
            _skip_weights(bits, counts, chroma=sequence.chroma)
        if reference and idr:
            bits.take(2)
        elif reference and bits.take(1) and _RESET in _skip_list(bits, 0, {1: 1, 2: 1, 3: 2, 4: 1, 5: 0, 6: 1}):
            number = 0
        # A frame that is no reference has the number of the last reference frame plus 1.
        is_reference = reference or number == previous
        self._reference_number = number if is_reference else (number - 1) % (1 << sequence.frame_number_bits)
        bits.skip_golomb(picture.cabac and lists > 0)
        return picture.qp + bits.signed()

    def _count_missing(self, number: int, previous: int, bits: int) -> None:
        """Sets `missing` to the number of frames lost since `previous`."""
        ahead = (number - previous) % (1 << bits)
        if ahead <= 1:
            self._correct_numbers += 1
            return
        if self._correct_numbers >= _MIN_CORRECT:  # a lower number does not show how many frames are missing
            self.missing = 1 if ahead >> (bits - 1) else ahead - 1
        self._correct_numbers = 0


def _skip_list(bits: Bits, end: int, arguments: dict[int, int]) -> set[int]:
    """Skips a list of operations and their arguments up to `end`. Returns the operations."""
    operations: set[int] = set()
    for _ in range(_MAX_OPERATIONS):
        operation = bits.golomb()
        if operation == end:
            return operations
        operations.add(operation)
        bits.skip_golomb(arguments[operation])
    raise ValueError(_MAX_OPERATIONS)


def _skip_weights(bits: Bits, counts: tuple[int, ...], *, chroma: bool) -> None:
    bits.skip_golomb(1 + chroma)
    for count in counts:
        for _ in range(count):
            bits.skip_golomb(2 * bits.take(1))
            if chroma:
                bits.skip_golomb(4 * bits.take(1))


def _read_sequence(unit: bytes) -> tuple[int, Sequence]:
    bits, sequence = Bits(unit[4:]), Sequence(unit[1], unit[2], unit[3])
    number = bits.count(31)
    if unit[1] in _HIGH:
        chroma_format = bits.count(3)
        sequence.separate = chroma_format == 3 and bool(bits.take(1))
        sequence.chroma = chroma_format > 0 and not sequence.separate
        bits.skip_golomb(2)
        sequence.bypass = bool(bits.take(1))
        if bits.take(1):
            for index in range(12 if chroma_format == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    sequence.frame_number_bits = 4 + bits.count(12)
    sequence.order_type = bits.count(2)
    if sequence.order_type == 0:
        sequence.order_bits = 4 + bits.count(12)
    elif sequence.order_type == 1:
        sequence.order_zero = bool(bits.take(1))
        bits.skip_golomb(2)
        bits.skip_golomb(bits.count(255))
    sequence.references = bits.golomb()
    sequence.gaps = bool(bits.take(1))
    bits.skip_golomb(2)
    sequence.frames_only = bool(bits.take(1))
    return number, sequence


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = 8
    for _ in range(size):
        last = (last + bits.signed()) % 256
        if not last:
            return


def _read_picture(bits: Bits) -> tuple[int, _Picture]:
    number, sequence = bits.count(255), bits.count(31)
    cabac, order_deltas = bits.take(1), bits.take(1)
    if bits.golomb():
        raise ValueError("slice groups")
    references = 1 + bits.count(31), 1 + bits.count(31)
    weighted = bool(bits.take(1)), bits.take(2) == 1
    qp = 26 + bits.signed()
    bits.skip_golomb(2)
    bits.take(2)
    return number, _Picture(sequence, bool(cabac), bool(order_deltas), references, weighted, qp, bool(bits.take(1)))
