"""Before|after pairs hold exactly the samples of both pictures, on the right side, in every kind of format."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.frame import Display, Frame
from rtface.media.files.outputs import check_target
from rtface.media.read.source import FileSource
from rtface.pipeline.compare import pair_frame, plan_pairs
from tests.pipeline.run_media import film

FORMATS = [
    "yuv420p",
    "yuv422p10le",
    "yuv444p",
    "gray",
    "gray10le",
    "nv12",
    "p010le",
    "rgb24",
    "bgra",
    "rgb48le",
    "gbrp",
    "yuva420p",
    "yuyv422",
]


def noise(fmt: str, seed: int, width: int = 64, height: int = 48) -> av.VideoFrame:
    rng = np.random.default_rng(seed)
    image = av.VideoFrame(width, height, fmt)
    for plane in image.planes:
        memory = np.frombuffer(plane, np.uint8)
        memory[:] = rng.integers(0, 4 if "10" in fmt or "48" in fmt else 256, memory.size, dtype=np.uint8)
    return image


def pair_of(before: av.VideoFrame, after: av.VideoFrame, display: Display) -> av.VideoFrame:
    pair = pair_frame(Frame(after, 7, Fraction(1, 25), display=display, before=before))
    assert pair.pts == 7
    return pair.image


@pytest.mark.parametrize("fmt", FORMATS)
def test_left_is_before_right_is_after_sample_by_sample(fmt: str) -> None:
    before, after = noise(fmt, 1), noise(fmt, 2)
    pair = pair_of(before, after, Display())
    assert (pair.width, pair.height, pair.format.name) == (128, 48, fmt)
    for i, plane in enumerate(pair.planes):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        for k, image in enumerate((before, after)):
            source = image.planes[i]
            source_rows = np.frombuffer(source, np.uint8).reshape(source.height, source.line_size)
            bits = {"nv12": 16 if i else 8, "p010le": 32 if i else 16}.get(fmt)
            packed = {"rgb24": 3, "bgra": 4, "rgb48le": 6, "yuyv422": 2}
            size = bits // 8 if bits else packed.get(fmt, 2 if "10" in fmt else 1)
            used = source.width * size
            assert np.array_equal(rows[:, k * used : (k + 1) * used], source_rows[:, :used]), (i, k)


@pytest.mark.parametrize(("turns", "mirror"), [(0, False), (1, False), (2, False), (3, False), (0, True), (1, True)])
def test_before_is_on_the_viewers_left_in_every_rotation(turns: int, mirror: bool) -> None:
    before = av.VideoFrame.from_ndarray(np.full((48, 64), 10, np.uint8), "gray")
    after = av.VideoFrame.from_ndarray(np.full((48, 64), 200, np.uint8), "gray")
    pair = pair_of(before, after, Display(quarter_turns=turns, mirror=mirror))
    seen = np.rot90(pair.to_ndarray(), -turns)
    seen = seen[:, ::-1] if mirror else seen
    half = seen.shape[1] // 2
    assert (seen[:, :half] == 10).all()
    assert (seen[:, half:] == 200).all()


@pytest.mark.parametrize(("preset", "frames"), [(None, "10"), ("slow", "10"), ("veryfast", None)])
def test_the_encoder_of_pairs_holds_few_of_them(tmp_path: Path, preset: str | None, frames: str | None) -> None:
    clip = film(tmp_path / "clip.mkv", frames=2, face=False)
    with closing(FileSource(clip)) as source:
        target = check_target(tmp_path / "pairs.mp4", inputs=[clip], overwrite=False)
        plan = plan_pairs(source.info, target, Options(preset=preset))
    assert plan.video.encoder == "libx264" and plan.video.options.get("rc-lookahead") == frames
