"""What the header of a Matroska film says of its frames, read from its elements."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from rtface.media.formats import matroska
from rtface.media.formats.color import HdrMetadata
from rtface.media.formats.matroska import elements, level
from tests.media.conftest import decoded, make_film, passthrough

_MASTERS = {"SeekHead": 0x114D9B74, "Info": 0x1549A966, "Tracks": 0x1654AE6B, "Chapters": 0x1043A770}
_INNER = (0xAE, 0xE0, 0x55B0, 0x55D0, *_MASTERS.values())


def _said(path: Path) -> dict[int, bytes]:
    """The elements of a film's header by their ids. All checksums in it are right, and SeekHead finds the others."""
    found, places = dict[int, bytes](), dict[int, int]()
    with path.open("rb") as file:
        segment = next(body for kind, body, _ in level(file, 0) if kind == 0x18538067)
        at = segment
        for kind, body, size in level(file, segment):
            places[kind] = at - segment
            at = body + size
            if kind in _MASTERS.values():
                file.seek(body)
                data = file.read(size)
                first, _, start, end = next(elements(data, 0, len(data)))
                assert first != 0xBF or int.from_bytes(data[start:end], "little") == zlib.crc32(data[end:])
                for inner, content in _flat(data):
                    if inner == 0x4DBB:
                        (_, _, a, b), (_, _, c, d) = elements(content, 0, len(content))
                        found[int.from_bytes(content[a:b], "big") << 32] = content[c:d]
                    found.setdefault(inner, content)
    for kind in _MASTERS.values():
        if place := found.get(kind << 32):
            assert int.from_bytes(place, "big") == places[kind]
    return found


def _flat(data: bytes) -> Iterator[tuple[int, bytes]]:
    for kind, _, start, end in elements(data, 0, len(data)):
        yield kind, data[start:end]
        if kind in _INNER:
            yield from _flat(data[start:end])


@pytest.mark.parametrize(
    ("aspect", "width", "height", "unit"),
    [(Fraction(64, 45), 1024, 576, None), (Fraction(32, 27), 40, 27, 3), (Fraction(1), None, None, None)],
)
def test_the_shown_size_is_in_the_header(
    tmp_path: Path, aspect: Fraction, width: int | None, height: int | None, unit: int | None
) -> None:
    source = make_film(tmp_path / "in.mov", frames=2, size=(720, 576), aspect=aspect, codec="mpeg4")
    passthrough(source, tmp_path / "out.mkv", codec="ffv1")
    said = _said(tmp_path / "out.mkv")
    shown = [int.from_bytes(said[kind], "big") if kind in said else None for kind in (0x54B0, 0x54BA, 0x54B2)]
    assert shown == [width, height, unit]
    assert len(decoded(tmp_path / "out.mkv")) == 2
    with av.open(tmp_path / "out.mkv") as box:
        assert box.streams.video[0].sample_aspect_ratio == aspect


def test_webm_takes_few_kinds_of_stereo(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.mkv",
        frames=2,
        extra=lambda box: box.streams.video[0].metadata.update(stereo_mode="block_lr"),
    )
    assert any("stereo" in line for line in passthrough(source, tmp_path / "out.webm").video.warnings)
    assert len(decoded(tmp_path / "out.webm")) == 2


@pytest.mark.parametrize(("mode", "aspect"), [("left_right", Fraction(4)), ("top_bottom", Fraction(1))])
def test_stereo_keeps_its_shape_or_is_said(tmp_path: Path, mode: str, aspect: Fraction) -> None:
    source = make_film(
        tmp_path / "in.mkv",
        frames=2,
        aspect=aspect,
        extra=lambda box: box.streams.video[0].metadata.update(stereo_mode=mode),
    )
    assert not any("stereo" in line for line in passthrough(source, tmp_path / "out.mkv").video.warnings)
    shapes = list[Fraction]()
    for film in source, tmp_path / "out.mkv":
        with av.open(film) as box:
            shapes.append(box.streams.video[0].sample_aspect_ratio)
    assert shapes[0] == shapes[1]
    assert any("stereo" in line for line in passthrough(source, tmp_path / "out.ts").video.warnings)


def test_the_header_grows_into_the_space_before_it(tmp_path: Path) -> None:
    """Mastering metadata need more than the track has room for: Info and Tracks move to the front."""
    film = make_film(tmp_path / "film.mkv", frames=3, codec="ffv1", sound="flac")
    before = decoded(film)
    hdr = HdrMetadata(tuple(Fraction(k, 100) for k in range(1, 9)), (Fraction(1, 200), Fraction(1000)), (1000, 400))
    with film.open("rb+") as file:
        assert matroska.note_picture(file, 0, (128, 96), Fraction(1), hdr=hdr)
    said = _said(film)
    assert int.from_bytes(said[0x55BC], "big") == 1000 and 0x55D9 in said
    assert decoded(film) == before
