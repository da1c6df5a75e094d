"""A disk that fails, or a file that shrinks, while a film is read: an error, whichever read it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtface.errors import InputError
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.trust.packet_hashes import hash_packets
from tests.media.failing_disk import each_read


@pytest.mark.parametrize(("suffix", "for_good"), [(".mkv", False), (".mp4", True), (".ts", False), (".avi", True)])
def test_each_read_of_a_film(media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, for_good: bool):
    film = media.make_film(tmp_path / f"in{suffix}", frames=12, sound="aac", options={"qp": "4"})
    whole, _ = media.frames_of(film)
    reads = list(each_read(film, monkeypatch, lambda: media.frames_of(film), InputError, for_good=for_good))
    assert len(reads) > 2 and len(whole) == 12
    assert list(each_read(film, monkeypatch, lambda: hash_packets(film), InputError, for_good=for_good))


def test_a_film_that_shrinks(media, tmp_path: Path):
    film = media.make_film(tmp_path / "in.mkv", frames=30, options={"qp": "1"})
    with pytest.raises(InputError, match="became shorter"):
        source = FileSource(film)
        os.truncate(film, film.stat().st_size * 2 // 3)
        try:
            assert all(isinstance(item, Frame) for item in source)
        finally:
            source.close()
