"""Views and layers that the decoder passes over are said."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest

from rtface.media.formats import matroska, mp4
from rtface.media.read.not_shown import unread_header
from rtface.media.read.source import FileSource
from tests.media.conftest import make_film, passthrough
from tests.media.encoded import rewritten
from tests.util.mutations import spoilt


@pytest.mark.parametrize(
    ("codec", "unit", "said"),
    [
        ("libx264", "7400808088", "a second view (MVC)"),
        ("libx264", "7480808088", "a finer layer (SVC)"),
        ("libx265", "02090088", "a second view, a finer layer or transparency (MV-HEVC, SHVC)"),
        ("libx264", "060180", None),
        ("libx265", "4e01a5041122334480", None),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_what_lies_in_further_layers_is_said(
    tmp_path: Path, codec: str, unit: str, said: str | None, suffix: str
) -> None:
    # Of one or two frames, x265 gives random decoding times, which MP4 does not take.
    layer, plain = bytes.fromhex(unit), make_film(tmp_path / f"plain{suffix}", codec=codec, frames=4)
    start = len(layer).to_bytes(4, "big") if suffix == ".mp4" else b"\0\0\0\1"
    film = rewritten(plain, tmp_path / f"film{suffix}", lambda _, data: data + start + layer)
    source = FileSource(film, threads=1)
    source.close()
    found = [line.removeprefix("its first packets contain ").split(", which")[0] for line in source.info.lost_parts]
    assert found == ([said] if said else [])
    assert bool(said) == any(
        "cannot be decoded" in line for line in passthrough(film, tmp_path / "o.mkv").video.warnings
    )


@pytest.mark.parametrize("cut", [0, 8])
def test_borders_that_a_container_hides_are_said(tmp_path: Path, cut: int) -> None:
    films = [make_film(tmp_path / f"film{suffix}", frames=2, size=(64, 48)) for suffix in (".mkv", ".mov")]
    clap = struct.pack(">4IiIiI", 64 - cut, 1, 48, 1, 0, 1, 0, 1)
    with films[0].open("r+b") as mkv, films[1].open("r+b") as mov:
        matroska.note_picture(mkv, 0, (64, 48), None, projection=matroska.element(0x54BB, bytes([cut])))
        mp4.note_picture(mov, 0, (64, 48), boxes=mp4.box(b"clap", clap))
    for film in films:
        source = FileSource(film, threads=1)
        source.close()
        assert any("crops the frames" in line for line in source.info.lost_parts) is bool(cut)


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_a_damaged_header_ends_no_run(tmp_path: Path, suffix: str) -> None:
    film, damaged = make_film(tmp_path / f"film{suffix}", frames=2), tmp_path / f"damaged{suffix}"
    with av.open(film) as box:
        for data in spoilt(film.read_bytes(), 1500):
            damaged.write_bytes(data)
            unread_header(damaged, box, box.streams.video[0])


def test_a_region_of_a_language_is_said(tmp_path: Path) -> None:
    film = make_film(
        tmp_path / "film.mkv", frames=2, extra=lambda box: box.streams.video[0].metadata.update(language="pt-BR")
    )
    film.write_bytes(film.read_bytes().replace(b"\x22\xb5\x9c\x85pt-BR", b"\x22\xb5\x9d\x85pt-BR"))
    source = FileSource(film, threads=1)
    source.close()
    assert any("pt-BR" in line for line in source.info.lost_parts)
