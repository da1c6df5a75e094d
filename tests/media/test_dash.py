"""DASH lists: which pieces are fetched, and what the output gets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import rtface
from rtface.errors import InputError
from rtface.media.read.container import open_container
from tests.media.conftest import counting_server

_LAYOUTS = {
    "numbers": {"use_template": "1", "use_timeline": "0"},
    "timeline": {"use_template": "1", "use_timeline": "1"},
    "list": {"single_file": "1"},
}
_RATE = 48_000


def write_dash(path: Path, layout: dict[str, str]) -> None:
    """Three seconds of two sizes, and two qualities of a sound that is silent for the first second."""
    sets = {"adaptation_sets": "id=0,streams=0,1 id=1,streams=2,3", "seg_duration": "1"}
    with av.open(str(path), "w", format="dash", container_options=sets | layout) as box:
        videos: list[Any] = [box.add_stream("libx264", rate=25, options={"g": "25", "bf": "0"}) for _ in range(2)]
        sounds: list[Any] = [box.add_stream("aac", rate=_RATE) for _ in range(2)]
        for video, size, rate in zip(videos, ((192, 144), (96, 72)), (200_000, 50_000), strict=True):
            video.width, video.height, video.pix_fmt, video.bit_rate = *size, "yuv420p", rate
        for sound, rate in zip(sounds, (32_000, 96_000), strict=True):
            sound.codec_context.layout, sound.bit_rate = "mono", rate
        wave = np.sin(np.arange(3 * _RATE) * (2 * np.pi * 440 / _RATE)).astype(np.float32)
        wave[:_RATE] = 0
        for number in range(75):
            for video in videos:
                frame = av.VideoFrame.from_ndarray(np.full((video.height, video.width), 40 + number, np.uint8), "gray")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                box.mux(video.encode(frame))
            first = number * (_RATE // 25)
            for sound in sounds:
                part = np.ascontiguousarray(wave[None, first : first + _RATE // 25])
                frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = _RATE, first, Fraction(1, _RATE)
                box.mux(sound.encode(frame))
        for stream in (*videos, *sounds):
            box.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each layout; "whole" has single files that the list does not divide, as packagers write them."""
    folder = tmp_path_factory.mktemp("dash")
    for name, layout in _LAYOUTS.items():
        (folder / name).mkdir()
        write_dash(folder / name / "film.mpd", layout)
    (folder / "whole").mkdir()
    for path in (folder / "list").glob("*.mp4"):
        (folder / "whole" / path.name).write_bytes(path.read_bytes())
    text = (folder / "list" / "film.mpd").read_text()
    base = '<SegmentBase indexRange="800-900"><Initialization range="0-799"/></SegmentBase>'
    text = re.sub(r"<SegmentList.*?</SegmentList>", base, text, flags=re.DOTALL)
    (folder / "whole" / "film.mpd").write_text(text)
    text = (folder / "timeline" / "film.mpd").read_text()
    video, sound = text.split("</AdaptationSet>", 1)
    each = int(re.findall(r'<S t="0" d="(\d+)"', video)[0])
    (folder / "times").mkdir()
    for path in (folder / "timeline").iterdir():  # videos' pieces by their times, in one template of the set
        parts = re.fullmatch(r"(chunk-stream[01]-)0*(\d)(\.m4s)", path.name)
        name = f"{parts[1]}{(int(parts[2]) - 1) * each}{parts[3]}" if parts else path.name
        (folder / "times" / name).write_bytes(path.read_bytes())
    template = re.findall(r"<SegmentTemplate.*?</SegmentTemplate>", video, flags=re.DOTALL)[0]
    template = re.sub(r"<S .*/>", f'<S t="0" d="{each}" r="-1"/>', template, flags=re.DOTALL)
    video = re.sub(r"<SegmentTemplate.*?</SegmentTemplate>", "", video, flags=re.DOTALL)
    template = template.replace("$Number%05d$", "$Time$")
    (folder / "times" / "film.mpd").write_text(f"{video}{template}</AdaptationSet>{sound}")
    return folder


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """The folder's address, and how often pieces of each stream's number were fetched."""

    def stream(path: str) -> str | None:
        found = re.search(r"chunk-stream(\d)", path)
        return found[1] if found else None

    with counting_server(folder, stream) as server:
        yield server


def check_output(media, output: Path, size: tuple[int, int]) -> None:
    with av.open(str(output)) as box:
        assert [(s.width, s.height) for s in box.streams.video] == [size]
        assert len(box.streams.audio) == 1
    times = media.first_times(output)
    assert times["audio"] - times["video"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("layout", ["numbers", "timeline"])
def test_the_best_variant_alone_is_fetched_and_written(
    media, tmp_path: Path, served: tuple[str, Counter[str]], layout: str
) -> None:
    (url, fetched), output = served, tmp_path / "out.mkv"
    assert rtface.run(f"{url}/{layout}/film.mpd?token=secret", output, tracker="none").frames_out == 75
    assert fetched["0"] == 3 and fetched["1"] == 1  # of another variant the first piece, as of an HLS list
    assert fetched["2"] == 0 and fetched["3"] >= 3
    check_output(media, output, (192, 144))


@pytest.mark.parametrize("layout", ["numbers", "timeline", "times", "list", "whole"])
def test_a_variant_is_chosen_in_a_local_list(media, folder: Path, tmp_path: Path, layout: str) -> None:
    output = tmp_path / "out.mkv"
    report = rtface.run(folder / layout / "film.mpd", output, tracker="none", variant=72)
    assert report.frames_out == 75
    assert any("has 2 variants" in note for note in report.notes)
    check_output(media, output, (96, 72))


_FILM = (
    '<MPD {facts}><Period><AdaptationSet mimeType="video/mp4">{drm}<Representation id="1" bandwidth="1">'
    "<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period>{more}</MPD>"
)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"facts": 'type="dynamic"'}, "dash_live"),
        ({"drm": "<ContentProtection/>"}, "dash_encrypted"),
        ({"more": "<Period/>"}, "dash_periods"),
        ({"url": "http://127.0.0.1/film.mp4"}, "dash_damaged"),  # a local list opens no address
        ({"url": "gone.mp4"}, "dash_no_video"),
        ({"more": "<"}, "dash_damaged"),
        ({"drm": '<SegmentTemplate media="$Number$.mp4" duration="1"/>'}, "dash_damaged"),  # no end, no count
    ],
    ids=str,
)
def test_a_list_that_is_not_read(tmp_path: Path, changed: dict[str, str], code: str) -> None:
    plain = {"facts": "", "drm": "", "url": "film.mp4", "more": ""}
    (tmp_path / "film.mpd").write_text(_FILM.format(**plain | changed))
    with pytest.raises(InputError, match="DASH list cannot be read") as error:
        rtface.run(tmp_path / "film.mpd", tmp_path / "out.mkv", tracker="none")
    assert (error.value.code, error.value.values["why"]["code"]) == ("no_dash", code)


def test_a_list_of_the_network_opens_no_file(folder: Path, served: tuple[str, Counter[str]]) -> None:
    film = (folder / "list" / "film-stream0.mp4").as_uri()
    piece = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{film.replace('file://', 'file:')}\n#EXT-X-ENDLIST\n"
    for name in ("local.m3u8", "piece.mp4"):
        (folder / name).write_text(piece)
    open_container(folder / "local.m3u8").close()
    for url, why in ((film, "may not open"), ("piece.mp4", "no readable video")):
        (folder / "film.mpd").write_text(_FILM.format(facts="", drm="", url=url, more=""))
        with pytest.raises(InputError, match=why):
            open_container(f"{served[0]}/film.mpd")
