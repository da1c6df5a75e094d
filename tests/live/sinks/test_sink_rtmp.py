"""RTMP as bytes, what an address means, TLS."""

from __future__ import annotations

import os
import struct

import pytest

from rtface.live.sinks import rtmp_wire as wire
from rtface.live.sinks.rtmp import RtmpAddress


def test_values_come_back_as_they_were():
    values = ["connect", 1.0, None, {"app": "live", "inner": {"a": 2.5}, "ü": "ß"}]
    assert wire.decode(wire.encode(*values)) == values
    assert wire.decode(wire.encode("x", 1.0)[:-3]) == ["x"]  # cut short
    assert wire.decode(b"\x08\0\0\0\1\0\1a\x05\0\0\x09") == [{"a": None}]


@pytest.mark.parametrize(("time", "size"), [(0, 5000), (5, 0), (0xFFFFFE, 129), (0xFFFFFF, 5000), (0x01234567, 128)])
def test_messages_are_cut_into_chunks_and_come_back(time: int, size: int):
    body = os.urandom(size)
    data = (
        wire.message(wire.SET_CHUNK_SIZE, struct.pack(">I", 200), channel=2, chunk=128)
        + wire.message(wire.VIDEO, body, stream=1, channel=6, time=time, chunk=200)
        + wire.message(wire.COMMAND, b"end", chunk=200)
    )
    for step in (1, 7, len(data)):
        reader = wire.RtmpReader()
        found = [m for at in range(0, len(data), step) for m in reader.feed(data[at : at + step])]
        assert found[1:] == [(wire.VIDEO, body), (wire.COMMAND, b"end")]


def test_chunks_of_several_streams_and_short_headers():
    first = b"\x04" + b"\0\0\1" + b"\0\0\4" + b"\x14" + b"\0\0\0\0" + b"abcd"
    shorter = b"\x44" + b"\0\0\1" + b"\0\0\2" + b"\x08" + b"ef"
    same = b"\x84" + b"\0\0\1" + b"gh" + b"\xc4" + b"ij"
    far = b"\x00\x06" + b"\0\0\1" + b"\0\0\1" + b"\x03" + b"\0\0\0\0" + b"z"
    assert list(wire.RtmpReader().feed(first + shorter + same + far)) == [
        (20, b"abcd"),
        (8, b"ef"),
        (8, b"gh"),
        (8, b"ij"),
        (3, b"z"),
    ]
    with pytest.raises(ValueError, match="too large"):
        list(wire.RtmpReader().feed(b"\x04\0\0\0\xff\xff\xff\x14\0\0\0\0"))


def tag(kind: int, time: int, body: bytes) -> bytes:
    return (
        bytes([kind])
        + len(body).to_bytes(3, "big")
        + (time & 0xFFFFFF).to_bytes(3, "big")
        + bytes([time >> 24])
        + bytes(3)
        + body
        + bytes(4)
    )


HEADER = b"FLV\x01\x05\0\0\0\x09" + bytes(4)


def test_flv_tags_also_of_a_second_file_in_one_connection():
    expected = [(18, 0, b"meta"), (9, 0x01234567, b"frame")]
    data = HEADER + b"".join(tag(*one) for one in expected)
    data += HEADER + tag(8, 5, b"sound")
    for step in (1, 13, len(data)):
        tags = wire.FlvTagParser()
        assert [t for n in range(0, len(data), step) for t in tags.feed(data[n : n + step])] == [
            *expected,
            (8, 5, b"sound"),
        ]
    with pytest.raises(ValueError, match="FLV"):
        list(wire.FlvTagParser().feed(bytes([1]) * 20))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("rtmp://h/live/key", ("h", 1935, False, "live", "key", "rtmp://h/live")),
        ("rtmp://h:99/app/room/key?a=b&c=d", ("h", 99, False, "app/room", "key?a=b&c=d", "rtmp://h:99/app/room")),
        ("RTMPS://h/rtmp/FB-1-2?s=x", ("h", 443, True, "rtmp", "FB-1-2?s=x", "rtmps://h/rtmp")),
        ("rtmp://[::1]/app/mp4:one/two", ("::1", 1935, False, "app", "mp4:one/two", "rtmp://[::1]/app")),
    ],
)
def test_what_an_address_means(url: str, place: tuple[object, ...]):
    found = RtmpAddress.of(url)
    assert (found.host, found.port, found.secure, found.app, found.key, found.address) == place
