"""The map of what was invented: where it is 0, what its film holds, how it is shown, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import rtface
from rtface.correct.expected_error import CALIBRATIONS, bound, check_calibrated
from rtface.engine.learned import path_of
from rtface.errors import UsageError
from rtface.frame import Display, Frame
from rtface.pipeline.invented import with_map
from tests.media.encoded import interlaced_film
from tests.persons.made import ANNA, learnt
from tests.pipeline.fakes import frame_of, portrait
from tests.pipeline.run_media import decoded, film, still, write_film


def planes_of(path: Path) -> list[list[np.ndarray]]:
    """The planes of each frame, at the size of the first."""
    out = []
    with av.open(str(path)) as box:
        for frame in box.decode(video=0):
            height, width = frame.height, frame.width
            kind = np.uint16 if max(c.bits for c in frame.format.components) > 8 else np.uint8
            parts = [np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
            out.append(
                [
                    p.repeat(-(-height // p.shape[0]), 0).repeat(-(-width // p.shape[1]), 1)[:height, :width]
                    for p in parts
                ]
            )
    return out


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as box:
        return [round(float(frame.time), 3) for frame in box.decode(video=0)]


def mapped(source: Path, **options: object) -> tuple[Path, Path, rtface.Report]:
    """A film's output and map, by the smallest engine."""
    out, made = source.with_name("out.mkv"), source.with_name("map.mkv")
    report = rtface.run(source, out, invented=made, codec="ffv1", engine="rtface-s", device="cpu", **options)
    return out, made, report


@pytest.mark.parametrize(
    ("pix_fmt", "options"),
    [("yuv422p10le", {"strength": 0.4}), ("yuv444p", {"region": "head"})],
)
def test_map_is_zero_exactly_where_nothing_changed(tmp_path: Path, pix_fmt: str, options: dict[str, object]) -> None:
    pictures = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(3)]
    source = write_film(tmp_path / "in.mkv", pictures, pix_fmt=pix_fmt, rate=10)
    out, made, _ = mapped(source, **options)
    for before, after, (values,) in zip(planes_of(source), planes_of(out), planes_of(made), strict=True):
        changed = np.any([a != b for a, b in zip(before, after, strict=True)], axis=0)
        assert changed.any()
        assert np.array_equal(values > 0, changed)


def test_map_has_what_the_first_stage_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.analysis.treatment.predicted", lambda *_: (0.0, 1.0))
    monkeypatch.setattr("rtface.analysis.treatment.first_strengths", lambda *_: (1.0, 1.0))
    source = write_film(tmp_path / "in.mkv", [portrait(shift=(0.5 * t, 0.0))[0] for t in range(3)])
    out, made, report = mapped(source)
    for before, after, (values,) in zip(planes_of(source), planes_of(out), planes_of(made), strict=True):
        changed = np.any([a != b for a, b in zip(before, after, strict=True)], axis=0)
        assert changed.any() and np.array_equal(values > 0, changed)
    assert report.frames_corrected == 3


def test_map_of_fields_covers_both(tmp_path: Path) -> None:
    pictures = [
        av.VideoFrame.from_ndarray(portrait(shift=(0.5 * t, 0.0))[0], "rgb24").reformat(format="yuv420p")
        for t in range(3)
    ]
    source = tmp_path / "in.mkv"
    interlaced_film(source, pictures)
    out, made, _ = mapped(source)
    before, after, (values,) = planes_of(source)[1], planes_of(out)[1], planes_of(made)[1]
    changed = before[0] != after[0]
    assert np.all(values[changed] > 0)
    assert (values[::2] > 0).any() and (values[1::2] > 0).any()
    assert not values[:, :60].any()


def test_map_has_the_times_of_the_output(tmp_path: Path) -> None:
    source = write_film(tmp_path / "in.mkv", [portrait()[0]] * 4, pts=[5, 6, 9, 13])
    out, made, _ = mapped(source)
    assert times_of(made) == times_of(out)
    with av.open(str(made)) as box:
        context = box.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, len(box.streams)) == ("ffv1", "gray", 1)


def test_still_has_its_map_as_a_png(tmp_path: Path) -> None:
    source, out, made = still(tmp_path / "in.png"), tmp_path / "out.png", tmp_path / "map.png"
    rtface.run(source, out, invented=made, engine="rtface-s", device="cpu")
    ((values,),) = planes_of(made)
    (before,), (after,) = decoded(source, "rgb24"), decoded(out, "rgb24")
    changed = (before != after).any(axis=2)
    assert changed.any()
    assert np.array_equal(values > 0, changed)


@pytest.mark.parametrize("turns", [1])
def test_map_is_drawn_with_a_legend(turns: int) -> None:
    def frame() -> Frame:
        return frame_of(np.full((240, 320, 3), 128, np.uint8), 0, "yuv444p", display=Display(quarter_turns=turns))

    values = np.zeros((240, 320), np.uint8)
    values[100:120, 200:210], values[100:120, 210:220] = 5, 60
    before = frame().image.to_ndarray()
    shown = with_map(replace(frame(), invented=values), "faithful").image.to_ndarray()
    legend = with_map(frame(), "faithful").image.to_ndarray()
    drawn = (legend != before).any(axis=0)
    assert drawn.any() and not drawn[90:130, 190:230].any()
    assert np.array_equal((shown != legend).any(axis=0), values > 0)
    assert shown[0, 110, 215] > shown[0, 110, 205] + 60  # a larger value is lighter
    others = {look: with_map(frame(), look).image.to_ndarray().tobytes() for look in ("faithful", "clear", "vivid")}
    assert len(set(others.values())) == 3  # the bound of 90 % is claimed by one of them


def test_shown_map_replaces_the_frames_of_the_output(tmp_path: Path) -> None:
    source, out = film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv"
    rtface.run(source, out, invented="show", codec="ffv1", engine="rtface-s", device="cpu")
    before, after = planes_of(source)[1], planes_of(out)[1]
    assert (before[0] != after[0])[150:, :100].any()  # the legend
    assert np.abs(after[0].astype(int) - before[0])[40:140, 120:200].mean() > 10


def test_bound_rises_with_error_and_contrast() -> None:
    one = np.ones((1, 1), np.float32)
    for engine in CALIBRATIONS:

        def within(expected: float, contrast: float, mean: float = 1.0, engine: str = engine) -> float:
            log = np.log(one * np.float32(expected / 255.0))
            return float(bound(engine, log, one, one * np.float32(contrast), overall=mean, scale=1.0)[0, 0])

        assert within(4, 2) < within(8, 2) < within(8, 12) < within(8, 12, 4.0)
        assert 2 < within(4, 2) < 20
    with pytest.raises(UsageError, match="use --engine rtface-s"):
        check_calibrated("gfpgan-1.4", "")


def test_another_network_is_not_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CALIBRATIONS, "rtface-s", replace(CALIBRATIONS["rtface-s"], weights="0" * 64))
    with pytest.raises(UsageError, match="this network of the engine rtface-s are unknown"):
        mapped(film(tmp_path / "in.mkv", frames=2))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_weights_of_a_person_are_not_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(path_of("anna"), ANNA)
    with pytest.raises(UsageError, match="omit --person anna or the map"):
        mapped(film(tmp_path / "in.mkv", frames=2), person=("anna",))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.usefixtures("engines")
def test_engine_that_is_never_unsure_is_refused(tmp_path: Path) -> None:
    source, out, made = film(tmp_path / "in.mkv", frames=2), tmp_path / "out.mkv", tmp_path / "map.mkv"
    with pytest.raises(UsageError, match="fake does not estimate its error"):
        rtface.run(source, out, invented=made)
    with pytest.raises(UsageError, match=r"the map of a film is Matroska; use the extension \.mkv"):
        rtface.run(source, out, invented=tmp_path / "map.mp4")
    with pytest.raises(UsageError, match="omit --keyframe"):
        rtface.run(source, out, invented=made, keyframe=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv"]
