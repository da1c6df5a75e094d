"""Frames that weave two fields: recognised, told from textures and stripes, and corrected without stronger combs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.frame import Frame
from rtface.media.read import combs
from rtface.media.read.combs import ChosenFields, hold_combs, luma_of
from rtface.media.read.faults import Faults
from rtface.media.read.source import FileSource
from rtface.pipeline.analysis import analyze_file
from rtface.stats import Stats
from tests.media.encoded import interlaced_film
from tests.pipeline.run_media import write_film

HEIGHT, WIDTH = 240, 320


def moment(time: int) -> np.ndarray:
    """Smooth noise that moves by 4 columns."""
    rough = np.random.default_rng(1).random((HEIGHT, 640))
    for axis in (0, 1, 1) * 6:
        rough = (np.roll(rough, 1, axis) + 2 * rough + np.roll(rough, -1, axis)) / 4
    rough = 128 + 40 * (rough - 0.5) / rough.std()
    return np.rint(rough[:, 4 * time : 4 * time + WIDTH].clip(0, 255)).astype(np.uint8)


def woven(earlier: int, later: int, order: str) -> np.ndarray:
    """A frame of two fields, one later than the other."""
    frame, rows = moment(later), slice(order == "bff", None, 2)
    frame[rows] = moment(earlier)[rows]
    return frame


def stripes(time: int, rows: int) -> np.ndarray:
    """What moves behind dark lines that stand still."""
    lit = 1.0 - 0.5 * (np.arange(HEIGHT)[:, None] // rows % 2)
    return (moment(2 * time) * lit).astype(np.uint8)


def read(path: Path, pictures: Iterable[np.ndarray], **options: Any) -> tuple[list[Frame], FileSource, Stats]:
    """The frames of such a film in H.264, flagged as whole."""
    write_film(path, (np.repeat(one[..., None], 3, 2) for one in pictures), codec="libx264", options={"crf": "20"})
    source = FileSource(path, chosen="auto", stats=(stats := Stats()), **options)
    return [item for item in source if isinstance(item, Frame)], source, stats


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_combed_frames_are_recognised_with_their_order(tmp_path: Path, order: str) -> None:
    frames, source, stats = read(tmp_path / "in.mp4", (woven(2 * t, 2 * t + 1, order) for t in range(10)))
    assert [frame.display.fields for frame in frames[1:]] == [order] * 9
    assert all(frame.combed is not None for frame in frames[1:])
    assert not source.info.interlaced and source.info.display.fields == "progressive"  # the output keeps its flag
    said = stats.warned()[0]
    assert "100 % of its frames" in said and f"--fields {order}" in said


def test_telecined_film_is_combed_by_its_share(tmp_path: Path) -> None:
    pulled = [(0, 0), (1, 1), (1, 2), (2, 3), (3, 3)]
    pairs = [(2 * (a + 4 * k), 2 * (b + 4 * k)) for k in range(4) for a, b in pulled]
    frames, _, stats = read(tmp_path / "in.mp4", (woven(a, b, "tff") for a, b in pairs))
    assert [frame.display.fields == "tff" for frame in frames[1:]] == [a != b for a, b in pairs[1:]]
    share = re.search(r"(\d+) % of its frames", stats.warned()[0])
    assert share is not None and 37 <= int(share[1]) <= 47  # of those of which it can be told


def test_combs_are_no_motion_blur(tmp_path: Path) -> None:
    """Of frames of two times; the first one is measured before it can be told."""
    picture = pytest.importorskip("skimage.data").astronaut()
    given = tmp_path / "in.mp4"
    moving = [picture[:240, 4 * t : 4 * t + 320].copy() for t in range(24)]
    for frame, other in zip(moving[::2], moving[1::2], strict=True):
        frame[1::2] = other[1::2]
    write_film(given, moving[::2], codec="libx264", options={"crf": "16"})
    (face,) = analyze_file(given, Options(), persons=False)
    assert face.analysis["motion_blur"] < 0.02


@pytest.mark.parametrize("rows", [1, 2, 3, HEIGHT])
def test_whole_frames_and_stripes_are_not_combed(tmp_path: Path, rows: int) -> None:
    frames, _, stats = read(tmp_path / "in.mp4", (stripes(t, rows) for t in range(10)))
    assert {frame.display.fields for frame in frames} == {"progressive"} and not stats.warned()


def image(luma: np.ndarray, form: str) -> av.VideoFrame:
    """A picture of this brightness."""
    made = av.VideoFrame(luma.shape[1], luma.shape[0], form)
    plane = luma_of(made)
    assert plane is not None
    plane[...] = luma
    return made


def told(frame: av.VideoFrame, fields: ChosenFields) -> str:
    return fields.with_fields(Frame(frame, 0, Fraction(1))).display.fields


def test_green_alone_is_not_held() -> None:
    for form in ("yuv420p", "gbrp"):
        fields = ChosenFields("auto", enlarged=False, faults=Faults(""))
        frames = [image(woven(2 * time, 2 * time + 1, "tff"), form) for time in range(2)]
        last = [fields.with_fields(Frame(one, 0, Fraction(1))) for one in frames][1]
        assert last.display.fields == "tff" and (last.combed is None) == (form == "gbrp")


def test_after_many_whole_frames_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, fields, compare = set[int](), ChosenFields("auto", enlarged=False, faults=Faults("")), cv2.matchTemplate
    said, now = list[str](), 0

    def counted(whole: Any, part: Any, by: int) -> Any:
        looked.add(now)
        return compare(whole, part, by)

    monkeypatch.setattr(cv2, "matchTemplate", counted)
    monkeypatch.setattr(combs, "CALM", 10)
    for now in range(60):
        said.append(told(image(woven(now, now + (now > 29), "tff"), "gray"), fields))
    assert looked > {*range(1, 10)} and 2 <= len(looked & {*range(11, 30)}) <= 3
    begins = said.index("tff")
    assert 29 < begins < 29 + 10 and {*said[:begins]} == {"progressive"} and {*said[begins:]} == {"tff"}
    assert looked > {*range(40, 60)}  # each again


@pytest.mark.parametrize("form", ["yuv420p10le", "p010le"])
def test_slight_movement_tells_nothing_in_any_format(form: str) -> None:
    fields, unit = ChosenFields("auto", enlarged=False, faults=Faults("")), 64 if form == "p010le" else 1
    pictures = [400 + woven(2 * time, 2 * time + 1, "tff").astype(np.uint16) // 32 for time in range(4)]
    assert {told(image(one * np.uint16(unit), form), fields) for one in pictures} == {"progressive"}


def test_an_enlarged_film_is_not_corrected_by_fields(tmp_path: Path) -> None:
    frames, _, stats = read(tmp_path / "in.mp4", (woven(2 * t, 2 * t + 1, "tff") for t in range(10)), scale="2")
    assert {frame.display.fields for frame in frames} == {"progressive"}
    assert "enlarging would mix" in stats.warned()[0] and "bwdif" in stats.warned()[0]


@pytest.mark.parametrize("chosen", ["tff", "bff", "none"])
def test_chosen_fields_replace_the_flag(media: Any, tmp_path: Path, chosen: str) -> None:
    flagged = interlaced_film(tmp_path / "in.mkv", [media.picture(i) for i in range(3)], "tff")
    source = FileSource(flagged, chosen=chosen)
    fields = "progressive" if chosen == "none" else chosen
    frames = [item for item in source if isinstance(item, Frame)]
    assert source.info.display.fields == fields and {frame.display.fields for frame in frames} == {fields}
    assert {frame.image.interlaced_frame for frame in frames} == {chosen != "none"}  # which encoders read
    plain = [item for item in FileSource(flagged) if isinstance(item, Frame)]
    assert [media.samples(f.image) for f in frames] == [media.samples(f.image) for f in plain]
    assert [(f.pts, f.time_base, f.duration) for f in frames] == [(f.pts, f.time_base, f.duration) for f in plain]


def test_a_correction_adds_to_no_comb() -> None:
    before = 64 + woven(0, 1, "tff") // 2
    luma = np.rint(128 + 1.3 * (before - 128.0)).astype(np.uint8)  # more contrast in each field
    wanted = luma.copy()
    hold_combs(luma, before)
    assert comb(luma) < 1.01 * comb(before) < 0.9 * comb(wanted)
    change, left = (one.astype(int) - before for one in (wanted, luma))
    assert np.all((left * change >= 0) & (np.abs(left) <= np.abs(change)))  # never more than was asked for
    assert 0.3 * np.abs(change).sum() < np.abs(left).sum() < np.abs(change).sum()


def comb(luma: np.ndarray) -> float:
    """How much rows differ from their neighbours."""
    rows = luma.astype(float)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())
