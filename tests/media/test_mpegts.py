"""What the tables of an MPEG-TS say of its programmes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from rtface.media.formats import mpegts
from rtface.media.read.source import FileSource
from tests.media.conftest import make_film, passthrough


@pytest.mark.parametrize("suffix", [".ts", ".m2ts", ".mkv"])
def test_the_name_of_the_service_stays(tmp_path: Path, suffix: str) -> None:
    tags = {"service_name": "Küste", "service_provider": "Sender"}
    source = make_film(tmp_path / "in.ts", metadata=tags, format="mpegts")
    target = tmp_path / f"out{suffix}"
    assert not passthrough(source, target, strict=True).notes
    with contextlib.closing(FileSource(target)) as made:
        assert {name.lower(): text for name, text in made.info.metadata.items()}.items() >= tags.items()


def test_what_ffmpeg_calls_a_service_itself_is_no_tag(tmp_path: Path) -> None:
    with contextlib.closing(FileSource(make_film(tmp_path / "in.ts", format="mpegts"))) as film:
        assert not film.info.metadata and not film.info.unkept


def _time(data: bytes) -> int:
    """Of a PES packet, 33 bits (H.222.0, 2.4.3.7)."""
    return (data[0] >> 1 & 7) << 30 | data[1] << 22 | data[2] >> 1 << 15 | data[3] << 7 | data[4] >> 1


def test_the_clock_is_ahead_of_the_frames(tmp_path: Path) -> None:
    """Else data comes late, and GStreamer does not seek where sound begins before the picture."""
    target, ahead = tmp_path / "out.ts", list[int]()
    passthrough(make_film(tmp_path / "in.mkv"), target)
    data = target.read_bytes()
    for packet in (data[at : at + 188] for at in range(0, len(data), 188)):
        body = packet[5 + packet[4] :]
        if packet[1] & 0x40 and packet[3] & 0x20 and packet[5] & 0x10 and body[3] >> 4 == 0xE:  # a clock, a frame
            clock = int.from_bytes(packet[6:11], "big") >> 7
            ahead.append(_time(body[14:19] if body[7] & 0x40 else body[9:14]) - clock)
    assert ahead and min(ahead) > 0.5 * 90000


def _packets(pid: int, section: bytes) -> bytes:
    """A section, after half of another one, over as many packets of a Blu-ray film as it needs."""
    section, packets = b"\x03" + bytes([6]) * 3 + section, b""
    for part in range(0, len(section), 184):
        flags = 0x40 if not part else 0
        body = section[part : part + 184].ljust(184, b"\xff")
        packets += bytes(4) + bytes([0x47, flags | pid >> 8, pid & 0xFF, 0x10]) + body
    return packets


def _table(kind: int, number: int, body: bytes) -> bytes:
    size = 9 + len(body)
    return bytes([kind, 0xB0 | size >> 8, size & 0xFF]) + number.to_bytes(2, "big") + b"\xc1\0\0" + body + bytes(4)


def _service(number: int, provider: bytes, name: bytes) -> bytes:
    said = bytes([1, len(provider)]) + provider + bytes([len(name)]) + name
    said = bytes([0x48, len(said)]) + said
    return number.to_bytes(2, "big") + b"\xfc\x80" + bytes([len(said)]) + said


def test_programmes_that_become_one_are_said() -> None:
    services = [_service(n, b"Long" * 20, name) for n, name in ((1, b"First"), (2, b"\x05Zw\xf6lf"), (3, b"Third"))]
    data = (
        _packets(0, _table(0, 1, b"".join(bytes([0, n, 0xE1, n]) for n in (1, 2, 3))))
        + b"".join(
            _packets(0x100 + n, _table(2, n, b"\xe0\x10\xf0\0" + bytes([2, 0xE2, n, 0xF0, 0]))) for n in (1, 2, 3)
        )
        + _packets(17, _table(0x42, 1, b"\0\x01\xff" + b"".join(services)))
        + _packets(0x1FFF, b"") * 4
    )
    header = mpegts.read_header(io.BytesIO(data), 0x202, [0x201, 0x202])  # nothing of the third was recorded
    assert header.tags == {"service_name": "Zwölf", "service_provider": "Long" * 20}
    assert [(line.code, line.values["count"]) for line in header.losses] == [("programmes_joined", 2)]
    assert not mpegts.read_header(io.BytesIO(data), 0x202, [0x202]).losses
