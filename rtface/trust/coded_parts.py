"""Names what coded frames say by units and messages that our encoders do not write, whether FFmpeg reads them or not,
and parameter sets that the header of their container does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from rtface.media.formats.coded_headers.av1 import obus, said_by
from rtface.media.formats.coded_headers.bits import parameter_sets
from rtface.media.formats.coded_headers.units import UNITS, Units
from rtface.trust.part_tables import CODED, ENCODERS

# Messages that others registered, and that anybody writes; units of AV1.
_T35, _TEXT, _SEQUENCE, _METADATA = 4, 5, 1, 5
_OTHER = "parameter sets in its frames, which its header does not have"


class CodedParts:
    """Takes the packets of a stream.

    Args:
        codec, header: of the stream; nothing is found in others than H.264, HEVC and AV1.
        found: takes names, and the content of what differs between films of the same kind.
    """

    def __init__(self, codec: str, header: bytes, found: set[tuple[str, bytes]]) -> None:
        self._codec, self._header, self._found = codec, header, found
        units, self._sets = UNITS.get(codec), list[bytes]()
        if units:
            with suppress(IndexError):  # of a record that is cut off
                self._sets += (unit.rstrip(b"\0") for unit in parameter_sets(header, units.record))
        self._take(chain.from_iterable(self._of_unit(units, unit) for unit in self._sets) if units else ())

    def push(self, packet: bytes) -> None:
        """Takes the next packet."""
        if units := UNITS.get(self._codec):
            split = units.split(packet, units.length_size(self._header))
            self._take(chain.from_iterable(self._of_unit(units, unit) for unit in split if unit))
        elif self._codec == "av1":
            with suppress(IndexError):  # what comes behind a unit that is cut off
                self._take(self._of_obus(packet))

    def _take(self, parts: Iterable[tuple[str, bytes]]) -> None:
        for name, content in parts:
            if name not in CODED[self._codec]:
                self._found.add((name if name.startswith("T.35") else f"{self._codec}/{name}", content))

    def _of_unit(self, units: Units, unit: bytes) -> Iterator[tuple[str, bytes]]:
        kind, layer = units.kind(unit), int.from_bytes(unit[:2], "big") >> 3 & 63 if units.record == "hvc" else 0
        if kind in units.messages and not layer:
            yield from chain.from_iterable(_of_message(*each) for each in units.messages_in(unit))
        else:
            yield f"layer {layer}" if layer else f"unit {kind}", b""
        if kind in units.sets and units.length_size(self._header) and unit.rstrip(b"\0") not in self._sets:
            yield _OTHER, unit

    def _of_obus(self, packet: bytes) -> Iterator[tuple[str, bytes]]:
        record, own = self._header[:1] == b"\x81", self._header[4:]
        for kind, layer, unit in obus(packet):
            if kind == _METADATA and unit[:1] == b"\4":
                yield from _of_message(_T35, unit[1:])
            else:
                own_kind = f"metadata {unit[:1].hex()}" if kind == _METADATA else f"unit {kind}"
                yield f"layer {layer}" if any(layer) else own_kind, b""
            if kind == _SEQUENCE and record:
                headers = {said_by(one) for of, _, one in obus(own) if of == _SEQUENCE}
                if (said := said_by(unit))[0] != (self._header[1], self._header[2] & 0xF0) or headers - {said}:
                    yield _OTHER, unit


def _of_message(number: int, content: bytes) -> Iterator[tuple[str, bytes]]:
    if number == _T35:
        yield f"T.35 {content[: 8 if content[3:7] == b'GA94' else 7].hex()}", b""  # which has a kind behind it
    elif number != _TEXT:
        yield f"SEI {number}", b""
    elif not ENCODERS.fullmatch(content):
        yield "SEI 5", content
