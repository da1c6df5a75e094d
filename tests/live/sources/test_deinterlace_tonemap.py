"""Interlaced and HDR frames on their way into a live run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.geometry.color_curves import engine_curve
from rtface.live.sources.deinterlace_tonemap import HDR, INTERLACED, DeinterlaceToneMap
from tests.live.watching import Watched


def combed(number: int) -> np.ndarray:
    """An edge that moves 8 samples from field to field: 4:2:0, 320×180."""
    rows = np.full((180, 320), 40, np.uint8)
    for field in (0, 1):
        rows[field::2, 40 + 8 * (2 * number + field) :] = 200
    return np.vstack([rows, np.full((90, 320), 128, np.uint8)])


def combing(image: av.VideoFrame) -> float:
    """How far neighbouring lines differ more than next but one lines do."""
    luma = image.to_ndarray(format="gray").astype(float)
    return float(np.abs(np.diff(luma, axis=0)).mean() - np.abs(luma[2:] - luma[:-2]).mean())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 interlaced frames, 4:3."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", 25, options={"preset": "ultrafast", "x264-params": "tff=1"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 4)
        for number in range(16):
            image = av.VideoFrame.from_ndarray(combed(number % 14), "yuv420p")
            image.pts, image.time_base = number, Fraction(1, 25)
            box.mux(stream.encode(image))
        box.mux(stream.encode(None))
    return path


def test_interlaced_pictures_come_out_progressive_one_for_one(film: Path):
    with av.open(str(film)) as box:
        images = list(box.decode(video=0))
    assert all(image.interlaced_frame and combing(image) > 3 for image in images[:13])
    conform = DeinterlaceToneMap()
    out = [one for image in images for one in conform(image)]
    assert len(out) == 15 and conform.notes == [INTERLACED]
    assert [one.time for one in out] == pytest.approx([n / 25 for n in range(15)])
    assert not any(one.interlaced_frame for one in out)
    assert max(combing(one) for one in out[1:13]) < 1


def test_progressive_sdr_goes_through_untouched():
    conform, image = DeinterlaceToneMap(), av.VideoFrame.from_ndarray(combed(1), "yuv420p")
    assert list(conform(image)) == [image] and not conform.notes


@pytest.mark.parametrize(("transfer", "number"), [("pq", 16), ("hlg", 18)])
def test_hdr_becomes_sdr_by_the_engines_curve(transfer: str, number: int):
    levels = np.linspace(64, 940, 16).astype(np.uint16)
    luma = np.repeat(levels, 4)[None].repeat(32, 0)
    image = av.VideoFrame.from_ndarray(np.vstack([luma, np.full((16, 64), 512, np.uint16)]), "yuv420p10le")
    image.pts, image.time_base = 0, Fraction(1, 25)
    image.color_trc, image.color_primaries, image.colorspace, image.color_range = number, 9, 9, 1
    conform = DeinterlaceToneMap()
    (out,) = conform(image)
    assert conform.notes == [HDR] and out.format.name == "yuv420p"
    assert (int(out.colorspace), int(out.color_trc), int(out.color_primaries), int(out.color_range)) == (1, 1, 1, 1)
    planes = out.to_ndarray()
    expected = 16 + 219 * engine_curve(transfer, False).table[np.round((levels - 64.0) / 876 * 4096).astype(int)]
    assert np.abs(planes[8, 1:64:4] - expected).max() < 2.5
    assert np.abs(planes[32:].astype(int) - 128).max() <= 2  # grey stays grey


def test_an_interlaced_film_is_live_deinterlaced_and_says_so(film: Path):
    with Watched(str(film)) as watched:
        watched.until(lambda: watched.source.ended, 8)
        notes, form = watched.source.notes, watched.source.video_format
    assert [note for note in notes if INTERLACED in note] and form.aspect == Fraction(3, 4)
    assert len(watched.frames) >= 14
    assert {frame.display.fields for _, frame in watched.frames} == {"progressive"}
