"""Names what coded frames say by units and messages that our encoders do not write, whether FFmpeg reads them or not,
and parameter sets that the header of their container does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from rtface.media.formats.coded_headers.av1 import obus, said_by
from rtface.media.formats.coded_headers.bits import parameter_sets
from rtface.media.formats.coded_headers.units import UNITS
from rtface.trust.part_tables import CODED, ENCODERS

_T35, _TEXT = 4, 5  # messages that others registered, and that anybody writes
_SEQUENCE, _METADATA = 1, 5  # units of AV1
_CAPTIONS = b"GA94"  # behind it comes a kind


class CodedParts:
    """Takes the packets of a stream of H.264, HEVC or AV1.

    Attributes:
        found: what was found: a name, and the content of what differs between films of the same kind.
    """

    def __init__(self, codec: str, header: bytes) -> None:
        self.found = set[tuple[str, bytes]]()
        self._codec, self._header, self._units = codec, header, UNITS.get(codec)
        self._known = CODED.get(codec, set())
        self._size = self._units.length_size(header) if self._units else 0
        self._sets = frozenset[bytes]()
        if self._units is not None:
            with suppress(IndexError):  # of a record that is cut off
                self._sets = frozenset(self._units.sets_of(header))
                for unit in parameter_sets(header, self._units.record):
                    self._take(self._of_unit(unit))

    def push(self, packet: bytes) -> None:
        """Takes the next packet."""
        if self._units is not None:
            for unit in self._units.split(packet, self._size):
                self._take(self._of_unit(unit))
        elif self._codec == "av1":
            try:
                self._take(self._of_obus(packet))
            except IndexError:
                self.found.add(("av1/unit that is cut off", packet[:64]))

    def _take(self, parts: Iterator[tuple[str, bytes]]) -> None:
        self.found.update(
            (name if name.startswith("T.35") else f"{self._codec}/{name}", content)
            for name, content in parts
            if name not in self._known
        )

    def _of_unit(self, unit: bytes) -> Iterator[tuple[str, bytes]]:
        units = self._units
        if units is None or not unit:
            return
        kind = units.kind(unit)
        if layer := units.layer(unit):
            yield f"layer {layer}", b""
        elif kind in units.messages:
            for number, content in units.messages_in(unit):
                yield from _of_message(number, content)
        else:
            yield f"unit {kind}", b""
        if kind in units.sets and self._size and unit.rstrip(b"\0") not in self._sets:
            yield "parameter sets in its frames, which its header does not have", unit

    def _of_obus(self, packet: bytes) -> Iterator[tuple[str, bytes]]:
        record = self._header[:1] == b"\x81"
        said = [said_by(unit) for kind, _, unit in obus(self._header[4:] if record else b"") if kind == _SEQUENCE]
        for kind, layer, unit in obus(packet):
            if any(layer):
                yield f"layer {layer}", b""
            elif kind != _METADATA:
                yield f"unit {kind}", b""
            elif unit[:1] == b"\4":
                yield from _of_message(_T35, unit[1:])
            else:
                yield f"metadata {unit[:1].hex()}", b""
            if kind == _SEQUENCE and record:
                own = said_by(unit)
                if own[0] != self._header[1:3] or any(one != own for one in said):
                    yield "sequence header in its frames, which its header does not have", unit


def _of_message(number: int, content: bytes) -> Iterator[tuple[str, bytes]]:
    if number == _T35:
        yield f"T.35 {content[: 8 if content[3:7] == _CAPTIONS else 7].hex()}", b""
    elif number != _TEXT:
        yield f"SEI {number}", b""
    elif not ENCODERS.fullmatch(content):
        yield "SEI 5", content
