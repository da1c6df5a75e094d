"""The start timecode of films: read from containers, moved by a cut, written again."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from rtface.errors import UsageError
from rtface.media.read.source import FileSource
from rtface.media.read.start_timecode import find_timecode
from tests.media.conftest import make_film, passthrough, picture

NTSC = Fraction(30000, 1001)


def said(path: Path) -> str | None:
    timecode = FileSource(path).info.timecode
    return None if timecode is None else str(timecode)


def made(path: Path, timecode: str, **options: object) -> Path:
    return make_film(path, metadata={"timecode": timecode}, **options)


@pytest.mark.parametrize(
    ("source", "output", "timecode", "rate"),
    [
        ("in.mov", "out.mov", "01:02:03:04", 25),
        ("in.mp4", "out.mkv", "01:02:03;04", NTSC),
        ("in.mkv", "out.mp4", "23:59:59:24", 25),
        ("in.mkv", "out.webm", "00:00:10:00", 18),
        ("in.mkv", "out.mov", "10:00:00:17", 18),
        ("in.mxf", "out.mov", "10:00:00:00", 25),
    ],
)
def test_every_container_keeps_it(tmp_path: Path, source: str, output: str, timecode: str, rate: Fraction) -> None:
    codec = "mpeg2video" if source.endswith("mxf") else "libx264"
    film = made(tmp_path / source, timecode, rate=rate, codec=codec, options={} if codec == "mpeg2video" else None)
    plan = passthrough(film, tmp_path / output)
    assert str(plan.timecode) == said(film) == said(tmp_path / output) == timecode


def test_a_cut_begins_with_the_timecode_of_its_first_frame(tmp_path: Path) -> None:
    film = made(tmp_path / "in.mov", "00:00:59;28", frames=20, rate=NTSC)
    passthrough(film, tmp_path / "out.mov", start=0.1)  # the fourth frame
    assert said(tmp_path / "out.mov") == "00:01:00;03"
    passthrough(film, tmp_path / "again.mov", start=4 * 1001 / 30000)
    assert said(tmp_path / "again.mov") == "00:01:00;04"


def test_a_second_video_stream_keeps_its_own(tmp_path: Path) -> None:
    def extra(box: Any) -> Callable[[], None]:
        box.streams.video[0].metadata["timecode"] = "01:00:00:00"
        other = box.add_stream("mpeg4", rate=25)
        other.width, other.height, other.metadata["timecode"] = 64, 64, "02:00:00:00"

        def after() -> None:
            for number in range(10):
                frame = picture(number, width=64, height=64)
                frame.pts = number
                box.mux(other.encode(frame))
            box.mux(other.encode())

        return after

    film = make_film(tmp_path / "in.mov", extra=extra)
    for name, start, code in ("out.mov", None, 0), ("cut.mkv", 0.2, 5):
        passthrough(film, tmp_path / name, start=start, strict=True)
        with av.open(tmp_path / name) as box:
            said = [{k.lower(): v for k, v in (box.metadata | one.metadata).items()} for one in box.streams.video]
        assert [tags["timecode"] for tags in said] == [f"0{hour}:00:00:{code:02}" for hour in (1, 2)]


def test_the_user_sets_it_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    film = made(tmp_path / "in.mov", "01:00:00:00")
    passthrough(film, tmp_path / "out.mkv", timecode="09:59:50:00")
    assert said(tmp_path / "out.mkv") == "09:59:50:00"
    with pytest.raises(UsageError, match=r"--timecode: .*has frame 25"):
        passthrough(film, tmp_path / "x.mkv", timecode="00:00:00:25")


def test_what_cannot_hold_it_says_so(tmp_path: Path) -> None:
    plan = passthrough(made(tmp_path / "in.mov", "01:00:00:00"), tmp_path / "out.ts")
    assert any("the start timecode 01:00:00:00 is left out because MPEG-TS" in note for note in plan.notes)


def test_nonsense_in_a_tag_is_no_timecode(tmp_path: Path) -> None:
    assert find_timecode([{"timecode": "soon"}, {"TimeCode": "00:00:01:00"}], Fraction(25)) is not None
    assert find_timecode([{"timecode": "00:00:00:29"}], Fraction(25)) is None
    source = FileSource(made(tmp_path / "in.mkv", "99:99:99:99"))
    assert source.info.timecode is None
    source.close()
