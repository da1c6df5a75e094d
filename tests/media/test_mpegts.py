"""MPEG-TS outputs: their clock, and what they cannot hold."""

from __future__ import annotations

from pathlib import Path

from tests.media.conftest import make_film, passthrough


def test_the_title_is_said_to_be_lost(tmp_path: Path) -> None:
    film = make_film(tmp_path / "in.mkv", metadata={"title": "Evening"})
    assert any("film: title" in line for line in passthrough(film, tmp_path / "out.ts").notes)


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
