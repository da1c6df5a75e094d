"""Overlays that stand where they are told: labels, lower thirds, the split before|after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scene import changed, drawn, frame, rgb, stages

from rtface.errors import UsageError
from rtface.stages import Run
from rtface.stages.options import Spec, make_stage


@pytest.mark.parametrize(
    ("place", "x", "y"),
    [("top-left", 0, 0), ("top", 0.5, 0), ("bottom-right", 1, 1), ("left", 0, 0.5), ("center", 0.5, 0.5)],
)
def test_a_label_stands_where_it_is_told(place: str, x: float, y: float) -> None:
    out, plain = drawn(f"label:text=AI,place={place},size=0.08,background=#0040ff")
    x0, y0, x1, y1 = changed(out, plain)
    for low, high, side, share in ((x0, x1, 640, x), (y0, y1, 360, y)):
        if share == 0.5:
            assert abs((low + high) / 2 - side / 2) <= 2
        else:
            assert abs((low if share == 0 else side - high) - 0.025 * 360) <= 3
    panel = rgb(out)[y0 + 3 : y0 + 5, (x0 + x1) // 2]
    assert (panel[:, 2] > 180).all() and (panel[:, 0] < 90).all()  # blue, also in 4:2:0


def test_a_preset_is_the_label_that_it_names() -> None:
    preset, _ = drawn("label:preset=eu-modified")
    written, _ = drawn("label:text=AI MODIFIED,place=top-right")
    moved, _ = drawn("label:preset=eu-modified,place=left")
    assert np.array_equal(rgb(preset), rgb(written)) and not np.array_equal(rgb(preset), rgb(moved))
    with pytest.raises(UsageError, match="preset"):
        make_stage(Spec.parse("label:preset=eu"))


def _shown(label: Any, *times: float, **more: object) -> list[bool]:
    """Whether the label draws on frames of these times."""
    plain = rgb(frame(0, faces=False))
    return [not np.array_equal(rgb(label(frame(round(25 * time), faces=False, **more))), plain) for time in times]


def _label(spec: str, run: Run) -> Any:
    made = make_stage(Spec.parse(spec))
    made.begin(run)
    return made


def test_a_label_stands_at_the_start_of_a_film() -> None:
    label = _label("label:seconds=2", Run(origin=1.0, begins=11.0))
    assert _shown(label, 11, 12.9, 13, 13.2, 30, 11.5) == [True, True, False, False, False, True]
    middle = _label("label:seconds=2", Run(origin=1.0, begins=11.0))  # of a job that begins here
    assert _shown(middle, 40, 41) == [False, False]
    assert _shown(_label("label", Run(begins=0.0)), 0, 5000) == [True, True]


def test_a_label_stands_again_after_every_pause_live() -> None:
    label = _label("label:seconds=2", Run(live=True, origin=99.0))
    assert _shown(label, 100, 100.5, 101.4, 102, 102.9) == [True, True, True, False, False]
    assert _shown(label, 103.8, 106, 106.9, 107.8, 108.4) == [False, True, True, True, False]


def test_every_still_has_its_label() -> None:
    assert _shown(_label("label:seconds=1", Run()), 0, 5, 9, new=True) == [True, True, True]


def test_a_label_is_away_while_the_enhancement_is_off() -> None:
    label = _label("label:preset=eu-modified,seconds=1", Run(live=True))
    assert _shown(label, 1, 1.4, 2.2) == [True, True, False]
    assert _shown(label, 3, 3.5, enhancing=False) == [False, False]
    assert _shown(label, 4, 4.5, 5.2) == [True, True, False]
    assert _shown(label, 6, enhancing=False, generated=True) == [False]
    always = _label("label", Run(live=True))
    assert _shown(always, 1, enhancing=False) == [False] and _shown(always, 2) == [True]
    assert _shown(always, 3, enhancing=False, generated=True) == [True]  # another stage made a face up
    assert _shown(_label("label:text=Studio 2", Run(live=True)), 1, enhancing=False) == [True]


def test_letters_that_the_built_in_font_lacks_come_from_another() -> None:
    try:
        out, plain = drawn("label:text=Zoë Łukasz")
    except UsageError as error:
        assert "font=FILE.ttf" in str(error)  # no other font on this machine
    else:
        assert changed(out, plain) is not None
        with pytest.raises(UsageError) as caught:
            drawn("label:text=Łukasz \ue123")
        assert "Ł" not in str(caught.value), "only what no font has is named"


def test_a_lower_third_comes_and_goes() -> None:
    run = Run(origin=100.0)
    chain, _ = stages("lower-third:title=Anna,subtitle=Pilot,start=1,end=3,fade=0.5", run=run)
    visible = {}
    for tenth in range(0, 40):
        given = frame(2500 + round(2.5 * tenth), faces=False)
        plain = rgb(frame(0, faces=False))
        visible[tenth] = np.abs(rgb(chain.process(given)) - plain).mean()
    assert visible[9] == 0 and visible[31] == 0
    assert 0 < visible[12] < visible[14] < visible[20]
    assert visible[20] == visible[22] > visible[28] > 0


def test_the_bar_of_a_lower_third_has_the_asked_colour() -> None:
    out, plain = drawn("lower-third:title=Anna,fade=0,accent=#ff0000", faces=False)
    x0, y0, _, _ = changed(out, plain)
    red = rgb(out)[y0 + 2 : y0 + 4, x0 + 1 : x0 + 3]
    assert (red[..., 0] > red[..., 1] + 60).all()


def test_a_split_shows_before_and_after() -> None:
    chain, _ = stages("split:position=0.25,before=,after=,width=0.01")
    given, untouched = frame(fmt="yuv444p"), frame(fmt="yuv444p")
    dark = np.frombuffer(given.image.planes[0], np.uint8)
    dark //= 2
    after = given.image.to_ndarray()[0].copy()
    out = chain.process(given, untouched.image).image.to_ndarray()[0]
    np.testing.assert_array_equal(out[:, :158], untouched.image.to_ndarray()[0][:, :158])
    np.testing.assert_array_equal(out[:, 163:], after[:, 163:])
    assert (out[:, 160] > 200).all()


def test_the_words_of_a_split_leave_the_corners_to_labels() -> None:
    (plain, _), (named, _) = stages("split:before=,after=,width=0"), stages("split:width=0")
    given = frame()
    out = [chain.process(frame(), given.image) for chain in (named, plain)]
    x0, _, x1, _ = changed(*out)
    assert 0.2 * 640 < x0 < 320 < x1 < 0.8 * 640


def test_a_moving_split_goes_there_and_back() -> None:
    chain, _ = stages("split:period=4,before=,after=")
    lines = []
    for pts in (0, 25, 50, 75):
        given = frame(pts, fmt="gray", faces=False)
        np.frombuffer(given.image.planes[0], np.uint8)[:] = 50
        lines.append(int(chain.process(given, given.image.reformat(format="gray")).image.to_ndarray()[9].argmax()))
    assert np.allclose(np.array(lines) / 640, [0.5, 0.85, 0.5, 0.15], atol=0.01)


def test_without_the_untouched_picture_a_split_does_nothing() -> None:
    chain, stats = stages("split")
    given = frame()
    assert changed(chain.process(given), frame()) is None and not stats.counters["stage_faults"]
