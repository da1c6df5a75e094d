"""What people say of a film and its streams goes round through the containers, or is said to be lost."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from rtface.errors import OutputError
from rtface.media.formats import matroska
from rtface.media.formats.facts import stream_tags, unheld
from rtface.media.read.source import FileSource
from rtface.media.write.stream_plan import plan_output
from tests.media.conftest import make_film, passthrough
from tests.media.test_survival import subtitles

_LANGUAGES = ["deu", "swe", "eng"]
_NAMES = ["Everything", "Microphone (Ünal)", "Game"]
_FLAGS = [Disposition.default, Disposition.comment, Disposition.hearing_impaired]
_FILM = {"title": "Evening", "comment": "kept", "com.apple.quicktime.location.ISO6709": "+52.5+13.4/"}
_HANDLER, _DATE = {"handler_name": "Desk"}, "2020-01-02T03:04:05.000000Z"


def _sounds(box: Any) -> Callable[[], None]:
    streams = [box.add_stream("pcm_s16le", rate=48_000) for _ in _NAMES]
    for stream, name, flags, language in zip(streams, _NAMES, _FLAGS, _LANGUAGES, strict=True):
        stream.metadata.update({"title": name, "language": language, **_HANDLER})
        stream.disposition = flags

    def write() -> None:
        for stream in streams:
            packet = av.Packet(bytes(19_200 * 2))
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 48_000), 0, 0
            box.mux(packet)

    return write


def _said(path: Path) -> tuple[dict[str, str], list[dict[str, str]], list[Disposition]]:
    with av.open(path) as box:
        sounds = box.streams.audio
        return dict(box.metadata), [dict(one.metadata) for one in sounds], [one.disposition for one in sounds]


def test_names_go_round_through_the_containers(tmp_path: Path) -> None:
    first = make_film(tmp_path / "a.mkv", extra=_sounds, metadata={**_FILM, "creation_time": _DATE})
    notes = [passthrough(first, tmp_path / "b.mp4").notes]
    film, sounds, flags = _said(tmp_path / "b.mp4")
    assert _FILM.items() <= film.items()
    assert [(one["name"], one["handler_name"]) for one in sounds] == [(name, "Desk") for name in _NAMES]
    assert [bool(flag & kept) for flag, kept in zip(flags, _FLAGS, strict=True)] == [True] * 3
    notes.append(passthrough(tmp_path / "b.mp4", tmp_path / "c.mov").notes)
    notes.append(passthrough(tmp_path / "c.mov", tmp_path / "d.mkv").notes)
    film, sounds, _ = _said(tmp_path / "d.mkv")
    assert [one["language"] for one in sounds] == _LANGUAGES
    assert (film["title"], film["COMMENT"], film["creation_time"]) == ("Evening", "kept", _DATE)
    assert [(one["title"], one["HANDLER_NAME"]) for one in sounds] == [(name, "Desk") for name in _NAMES]
    lost = [[line for line in lines if "details" in line] for lines in notes]
    assert [len(lines) for lines in lost] == [0, 1, 0]
    assert "2: flag comment, 3: flag hearing_impaired" in lost[1][0]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_is_off_by_default_stays_off(tmp_path: Path, suffix: str) -> None:
    def extra(box: Any) -> Callable[[], None]:
        write = _sounds(box), subtitles()(box)
        for stream, flag in zip((*box.streams.audio, *box.streams.subtitles), (0, 1, 0, 0), strict=True):
            stream.disposition = Disposition(flag)
        return lambda: [each() for each in write].clear()

    film = make_film(tmp_path / "in.mkv", frames=50, extra=extra)
    passthrough(film, out := tmp_path / f"out{suffix}", strict=True)
    with av.open(out) as box:
        others = (*box.streams.audio, *box.streams.subtitles)
        assert [one.disposition & Disposition.default for one in others] == [0, 1, 0, 0]
    with closing(FileSource(film)) as source:
        assert "2: flag default" in plan_output(source.info, tmp_path / "out.ts", drop=["subtitle"]).notes[-1]


@pytest.mark.parametrize("suffix", [".mov", ".ts"])
def test_what_a_container_cannot_hold_stops_a_strict_run(tmp_path: Path, suffix: str) -> None:
    def comment(box: Any) -> None:
        box.streams.video[0].metadata.update(comment="left camera")

    film = make_film(tmp_path / "in.mkv", extra=comment)
    source = FileSource(film)
    try:
        with pytest.raises(OutputError, match=r"0: comment.*strict"):
            plan_output(source.info, tmp_path / f"out{suffix}", strict=True)
        assert not any("details" in line for line in plan_output(source.info, tmp_path / "out.mkv", strict=True).notes)
    finally:
        source.close()


def _dated(path: Path, film: int, track: int) -> Path:
    """An MP4 whose film and track were made so many days after 2020-01-01; 0 for the film gives it no date."""
    data = make_film(path, metadata={"creation_time": _DATE}).read_bytes()
    for kind, days in ((b"mvhd", film), (b"mdhd", track)):
        at = data.index(kind) + 8
        stamp = int.from_bytes(data[at : at + 4]) + (days - 1) * 86_400 if days else 0
        data = data[:at] + stamp.to_bytes(4) + data[at + 4 :]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_date_of_tracks_alone_is_the_films(tmp_path: Path, suffix: str) -> None:
    passthrough(_dated(tmp_path / "a.mp4", 0, 1), out := tmp_path / f"b{suffix}", strict=True)
    assert _said(out)[0]["creation_time"] == _DATE
    source = FileSource(_dated(tmp_path / "c.mp4", 1, 6))
    source.close()
    with pytest.raises(OutputError, match=r"cannot hold .*0: creation_time.*left out"):
        plan_output(source.info, tmp_path / f"d{suffix}", strict=True)


def test_what_writers_note_of_themselves_is_no_loss() -> None:
    streams = [(0, {"reel_umid": "0x060A2B", "vendor_id": "[0][0][0][0]", "DURATION": "1"}, Disposition.default)]
    assert not unheld("mp4", {"major_brand": "mp42", "encoder": "Lavf"}, streams)


@pytest.mark.parametrize(
    ("language", "written"), [("en", "eng"), ("DE", "deu"), ("swe", "swe"), ("pt-BR", "pt-BR"), ("und", "und")]
)
def test_languages_have_the_letters_that_containers_hold(language: str, written: str) -> None:
    tags = stream_tags({"language": language}, "hls")
    assert tags == {"language": written}
    said = ["1: language pt-BR"] if written == "pt-BR" else []
    assert unheld("mp4", {}, [(1, tags, Disposition(0))]) == said and not unheld(
        "matroska", {}, [(1, tags, Disposition(0))]
    )


_ROUND = ("b.mp4", "c.mov", "d.mkv")


def _views(path: Path) -> dict[str, str]:
    source = FileSource(path)
    source.close()
    assert not source.info.lost_parts
    return source.info.views


@pytest.mark.parametrize(
    ("element", "sphere"),
    [
        ("7670 84 7671 81 01", (0, 0, 0, 0, 0, 0, 0, 0)),
        ("7670 92 7671 81 01 7673 84 41f00000 7675 84 c0a00000", (0, 30, 0, -5, 0, 0, 0, 0)),
        ("7670 93 7671 81 02 7672 8c 000000000000000000000000", (1, 0, 0, 0, 0, 0, 0, 0)),
        ("7670 9b 7671 81 01 7672 94 0000000000000010000000200000003000000040", (2, 0, 0, 0, 48, 16, 64, 32)),
    ],
)
def test_a_sphere_goes_round_through_the_containers(tmp_path: Path, element: str, sphere: tuple[int, ...]) -> None:
    before = make_film(tmp_path / "a.mkv", frames=2)
    with before.open("rb+") as file:
        assert matroska.note_picture(file, 0, (128, 96), Fraction(1), projection=bytes.fromhex(element))
    said = _views(before)
    kind, *turns, left, top, right, bottom = struct.unpack_from("=4i4I", bytes.fromhex(said["SPHERICAL"]))
    assert (kind, *(turn / 65536 for turn in turns), left, top, right, bottom) == sphere
    for name in _ROUND:
        assert not passthrough(before, tmp_path / name).video.warnings
        before = tmp_path / name
        assert _views(before) == said
    assert any("spherical" in line for line in passthrough(before, tmp_path / "e.ts").video.warnings)


@pytest.mark.parametrize(("active", "lines"), [("00", 0), ("08", 0), ("0a", 1)])
def test_an_active_format_that_shows_less_is_said_to_be_lost(tmp_path: Path, active: str, lines: int) -> None:
    source = FileSource(make_film(tmp_path / "in.mkv", frames=2))
    source.close()
    plan = plan_output(replace(source.info, views={"AFD": active}), tmp_path / "out.mkv")
    assert sum("AFD 10" in line for line in plan.video.warnings) == lines == len(plan.video.warnings)
