"""RTMP as bytes: values of AMF0, messages in chunks, tags of FLV (Adobe's RTMP 1.0, AMF0 and FLV 10.1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

CHUNK = 60_000
"""Bytes of a chunk that we send; servers take much more."""

# Kinds of message.
SET_CHUNK_SIZE, CONTROL = 1, 4
AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20
# A server that sends more in one message is none.
_LARGEST = 1 << 20
_EXTENDED = 0xFFFFFF


def encode(*values: Any) -> bytes:
    """Values in AMF0: numbers, texts, None, and objects as dicts."""
    out = bytearray()
    for value in values:
        if value is None:
            out += b"\x05"
        elif isinstance(value, (int, float)):
            out += b"\x00" + struct.pack(">d", value)
        elif isinstance(value, str):
            out += b"\x02" + _text(value)
        else:
            out += b"\x03"
            for key, inner in value.items():
                out += _text(key) + encode(inner)
            out += b"\x00\x00\x09"
    return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def decode(data: bytes) -> list[Any]:
    """The values of an AMF0 body, up to the first that is damaged or of a kind that servers do not send."""
    values: list[Any] = []
    at = 0
    try:
        while at < len(data):
            value, at = _value(data, at)
            values.append(value)
    except (struct.error, IndexError, ValueError):
        pass
    return values


def _value(data: bytes, at: int) -> tuple[Any, int]:
    kind, at = data[at], at + 1
    if kind == 0:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if kind == 1:
        return bool(data[at]), at + 1
    if kind == 2:
        return _text_at(data, at)
    if kind in (3, 8):
        at += 4 if kind == 8 else 0
        found: dict[str, Any] = {}
        while data[at : at + 3] != b"\x00\x00\x09":
            key, at = _text_at(data, at)
            found[key], at = _value(data, at)
        return found, at + 3
    if kind in (5, 6):
        return None, at
    raise ValueError(kind)


def _text_at(data: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + struct.unpack_from(">H", data, at)[0]
    return data[at + 2 : end].decode("utf-8", "replace"), end


def message(kind: int, body: bytes, *, stream: int = 0, channel: int = 3, time: int = 0, chunk: int = CHUNK) -> bytes:
    """A message in chunks.

    Args:
        kind: of message.
        stream: number of the message stream.
        channel: number of the chunk stream, 2…63.
        time: milliseconds, 32 bits.
        chunk: bytes of a chunk.
    """
    stamp = min(time, _EXTENDED)
    late = struct.pack(">I", time) if stamp == _EXTENDED else b""
    out = bytearray([channel])
    out += struct.pack(">I", stamp)[1:] + struct.pack(">I", len(body))[1:] + bytes([kind])
    out += struct.pack("<I", stream) + late
    out += body[:chunk]
    for at in range(chunk, len(body), chunk):
        out += bytes([0xC0 | channel]) + late + body[at : at + chunk]
    return bytes(out)


@dataclass(slots=True)
class _Incoming:
    """A chunk stream of the server: the header of its last message, and what came of the next."""

    time: int = 0
    size: int = 0
    kind: int = 0
    extended: bool = False
    body: bytearray = field(default_factory=bytearray)


class RtmpReader:
    """Takes the server's bytes and gives its messages."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._chunk = 128
        self._streams: dict[int, _Incoming] = {}

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and body of every message that is whole now.

        Raises:
            ValueError: this is not RTMP.
        """
        self._data += data
        while (found := self._next()) is not None:
            if found == (0, b""):
                continue
            if found[0] == SET_CHUNK_SIZE and len(found[1]) >= 4:
                self._chunk = max(1, struct.unpack(">I", found[1][:4])[0] & 0x7FFFFFFF)
            yield found

    def _next(self) -> tuple[int, bytes] | None:
        """A message, (0, b"") for a chunk that does not end one, None when more bytes are needed."""
        data = self._data
        if not data:
            return None
        form, number, at = data[0] >> 6, data[0] & 63, 1
        if number < 2:
            if len(data) < 2 + number:
                return None
            number, at = 64 + data[1] + (data[2] << 8 if number else 0), 2 + number
        size = (11, 7, 3, 0)[form]
        if len(data) < at + size:
            return None
        stream = self._streams.setdefault(number, _Incoming())
        head = bytes(data[at : at + size])
        extended = head[:3] == b"\xff\xff\xff" if size else stream.extended
        length = int.from_bytes(head[3:6], "big") if size >= 7 else stream.size
        kind = head[6] if size >= 7 else stream.kind
        at += size + (4 if extended else 0)
        if length > _LARGEST:
            raise ValueError("a message that is too large")
        part = min(self._chunk, length - len(stream.body))
        if len(data) < at + part:
            return None
        stream.extended, stream.size, stream.kind = extended, length, kind
        stream.body += data[at : at + part]
        del data[: at + part]
        if len(stream.body) < length:
            return 0, b""
        whole, stream.body = bytes(stream.body), bytearray()
        return kind, whole


class FlvTagParser:
    """Takes FLV as it is written and gives its tags, also where one file follows another."""

    _HEADER = 13  # bytes, with the size of the tag before the first

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Kind (`AUDIO`, `VIDEO`, `DATA`), milliseconds and body of every tag that is whole now.

        Raises:
            ValueError: this is not FLV.
        """
        self._data += data
        while len(self._data) >= self._HEADER:
            if bytes(self._data[:3]) == b"FLV":
                del self._data[: self._HEADER]
                continue
            kind = self._data[0] & 31
            if kind not in (AUDIO, VIDEO, DATA):
                raise ValueError("not a tag of FLV")
            size = int.from_bytes(self._data[1:4], "big")
            if len(self._data) < 11 + size + 4:
                return
            time = int.from_bytes(self._data[4:7], "big") | self._data[7] << 24
            yield kind, time, bytes(self._data[11 : 11 + size])
            del self._data[: 11 + size + 4]
