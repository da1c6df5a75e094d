"""Brightening: the curve, every layout, and that it follows the light without pumping."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from rtface.frame import Color, Display, Face, Frame
from rtface.geometry.planes import layout, planes
from rtface.live.brighten import ARRIVED, MAX_LIFT, Brightening, BrightnessAdaptation, curve, lift_for, tables
from rtface.media.read.enlarge import Enlarger
from rtface.util.av_arrays import copy_image

LIFTS = [0.0, 0.1, 0.5, 1.0, 1.5, MAX_LIFT]
X = np.linspace(0, 1, 5001)


@pytest.mark.parametrize("lift", LIFTS)
def test_the_curve_rises_and_keeps_black_white_and_highlights(lift):
    y = curve(X, lift)
    slopes = np.diff(y) / np.diff(X)
    assert y[0] == 0
    assert y[-1] == 1
    assert slopes.min() > 0.25
    assert (y >= X).all()
    assert slopes.max() <= 1.16 * 2**lift  # noise grows no more than the light does
    assert np.diff(y)[:5].max() / np.diff(X)[0] < 1.1  # what is black stays black, noise and all
    assert slopes[-500:].min() > 0.5  # the lightest tenth keeps half of its contrast at least
    assert np.abs(np.diff(slopes)).max() < 0.05  # no edge in the curve, so none in the frame


def test_a_lift_brings_a_luma_to_its_target_and_has_an_end():
    for luma in (0.24, 0.3, 0.4):
        assert curve(np.array([luma]), lift_for(luma, 0.46))[0] == pytest.approx(0.46, abs=0.01)
    assert lift_for(0.5, 0.46) == 0
    assert lift_for(0.9, 0.46) == 0
    assert lift_for(0.0, 0.46) == lift_for(0.02, 0.46) == MAX_LIFT


def dark_frame(pix_fmt, *, level=0.2, noise=0.05, size=(98, 62), full=False, seed=0, pts=0, **more):
    """A dark frame with every code in it somewhere."""
    image = av.VideoFrame(*size, pix_fmt)
    form = layout(image.format.name)
    rng = np.random.default_rng(seed)
    for role, view in planes(image, form).items():
        top = (1 << form.bits) - 1
        if role in ("u", "v"):
            values = rng.normal(0.5, 0.1, view.shape)
        else:
            values = rng.normal(level, noise, view.shape)
            values.flat[:300] = np.linspace(0, 1, 300)
        view[...] = (np.clip(np.rint(values * top), 0, top).astype(np.uint16) << form.shift).astype(form.dtype)
    return Frame(image, pts, Fraction(1, 1_000_000), color=Color("bt601", full_range=full), **more)


def values(frame):
    form = layout(frame.image.format.name)
    return {role: view.astype(np.int64) >> form.shift for role, view in planes(frame.image, form).items()}


PLANAR = ["yuv420p", "yuvj422p", "yuv444p", "yuv420p10be", "yuva420p", "gray", "gray16be", "gbrp10le"]
PACKED = ["nv12", "nv21", "uyvy422", "p010le", "y210le", "ya8", "bgr24", "argb", "rgb48be"]


@pytest.mark.parametrize(("pix_fmt", "full"), [(name, n % 2 > 0) for n, name in enumerate(PLANAR + PACKED)])
def test_every_layout_goes_through_one_rising_table(pix_fmt, full):
    packed_pairs = pix_fmt[:4] in ("yuyv", "uyvy", "yvyu", "y210")  # these have even widths
    frame = dark_frame(pix_fmt, full=full, size=(98, 62) if full or packed_pairs else (97, 61))
    form = layout(pix_fmt)
    before = values(frame)
    others = other_bytes(frame.image, form)
    result = Brightening().apply(frame, 1.0, ())
    assert result.filtered
    after = values(result)
    black, white = (0, (1 << form.bits) - 1) if full or form.full_range else (16 << form.bits - 8, 235 << form.bits - 8)
    changed = False
    for role in before:
        pairs = np.unique(np.stack([before[role].ravel(), after[role].ravel()]), axis=1)
        middle = 1 << form.bits - 1
        if role in ("u", "v"):
            assert (np.abs(pairs[1] - middle) >= np.abs(pairs[0] - middle)).all()
            assert (np.abs(pairs[1] - middle) <= 2.2 * np.abs(pairs[0] - middle) + 1).all()
        else:
            assert len(np.unique(pairs[0])) == pairs.shape[1], "one code became two"
            assert (np.diff(pairs[1]) >= 0).all()
            assert (pairs[1] >= pairs[0]).all()
            outside = (pairs[0] <= black) | (pairs[0] >= white)
            assert np.array_equal(pairs[0][outside], pairs[1][outside])
        changed |= not np.array_equal(pairs[0], pairs[1])
    assert changed
    assert other_bytes(result.image, form) == others


def other_bytes(image, form):
    """What is in no component: alpha, as a list of byte strings."""
    found = []
    for index, plane in enumerate(image.planes):
        here = [(first, step) for p, first, step in form.components.values() if p == index]
        if not here:
            found.append(bytes(plane))
            continue
        step = max(s for _, s in here)
        if len({(first + k * s) % step for first, s in here for k in range(step // s)}) < step:
            rows = np.frombuffer(plane, form.dtype).reshape(plane.height, -1)
            used = {(first + k * s) % step for first, s in here for k in range(step // s)}
            found += [rows[:, c : image.width * step : step].tobytes() for c in range(step) if c not in used]
    return found


@pytest.mark.parametrize(
    ("pix_fmt", "level", "amount"),
    [("yuv420p", 0.2, 0.0), ("yuv420p10le", 0.2, 0.0), ("rgb24", 0.2, 0.0), ("yuv420p", 0.6, 1.0)],
)
def test_without_light_and_where_it_is_bright_nothing_changes(pix_fmt, level, amount):
    frame = dark_frame(pix_fmt, level=level)
    before = [bytes(plane) for plane in frame.image.planes]
    assert Brightening().apply(frame, amount, ()) is frame
    assert [bytes(plane) for plane in frame.image.planes] == before


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "rgb24"])
def test_an_enlarged_frame_is_brightened_as_it_was_read_too(pix_fmt):
    """The first stage, which looks at that, corrects what is shown."""
    large = Brightening().apply(Enlarger("2")(dark_frame(pix_fmt)), 1.0, ())
    means = [np.mean(frame.image.to_ndarray(format="gray")) for frame in (large, large.source)]
    assert means[0] == pytest.approx(means[1], abs=1.5)
    assert means[1] > np.mean(dark_frame(pix_fmt).image.to_ndarray(format="gray")) + 20


def test_frames_a_decoder_predicts_from_stay_untouched(tmp_path):
    path = tmp_path / "dark.mp4"
    with av.open(path, "w") as box:
        stream = box.add_stream("libx264", 30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        base = np.random.default_rng(0).integers(10, 90, (96, 160)).astype(np.uint8)
        for n in range(12):
            frame = av.VideoFrame(128, 96, "yuv420p")
            for plane, content in zip(frame.planes, (base[:, n : n + 128], 120, 130), strict=True):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = content
            box.mux(stream.encode(frame))
        box.mux(stream.encode(None))
    with av.open(path) as box:
        clean = [copy_image(image) for image in box.decode(video=0)]
    light = Brightening()
    with av.open(path) as box:
        for n, image in enumerate(box.decode(video=0)):
            lit = light.apply(Frame(image, n * 33_333, Fraction(1, 1_000_000)), 1.0, ())
            table = tables("yuv420p", False, round(light.adaptation.lift * 256) / 256)[0]
            assert light.adaptation.lift > 0.5
            assert np.array_equal(values(lit)["y"], table[values(Frame(clean[n], 0, Fraction(1)))["y"]])


def face_at(x0, y0, x1, y1):
    return Face(1, np.array([x0, y0, x1, y1], float), np.zeros((5, 2)))


@pytest.mark.parametrize("display", [Display(), Display(quarter_turns=1), Display(mirror=True)])
def test_the_face_decides_where_there_is_one(display):
    size = (200, 100)

    def made(face_level, seed=1):
        frame = dark_frame("yuv420p", level=0.6, noise=0.01, size=size, full=True, display=display, seed=seed)
        view = planes(frame.image, layout("yuv420p"))["y"]
        view[10:50, 20:60] = int(255 * face_level)
        return frame

    if display.quarter_turns:  # clockwise: stored (x, y) is shown at (100 - y, x)
        face = face_at(50, 20, 90, 60)
    elif display.mirror:
        face = face_at(140, 10, 180, 50)
    else:
        face = face_at(20, 10, 60, 50)
    frame = made(0.6)
    assert Brightening().apply(frame, 1.0, (face,)) is frame
    before = values(frame := made(0.25))
    after = values(Brightening().apply(frame, 1.0, (face,)))
    assert after["y"][30, 40] == pytest.approx(0.40 * 255, abs=4)
    assert (after["y"] >= before["y"]).all()
    frame = made(0.25)
    assert Brightening().apply(frame, 1.0, (face_at(-500, -500, -400, -400),)) is frame


def run(adaptation, pieces, fps=30, amount=1.0, start=0.0):
    """Lifts over time; pieces are (seconds, wanted, scene)."""
    found, now = [], start
    for seconds, wanted, scene in pieces:
        for _ in range(round(seconds * fps)):
            now += 1 / fps
            found.append(adaptation.update(now, wanted, scene, amount))
    return np.array(found)


@pytest.mark.parametrize("fps", [15, 60])
def test_what_passes_quickly_changes_nothing(fps):
    for seconds, wanted, scene in ((0.4, 1.58, 0.1), (2 / fps, 0.0, 0.8)):  # a hand, a flash
        lifts = run(BrightnessAdaptation(), [(3, 0.8, 0.25), (seconds, wanted, scene), (3, 0.8, 0.25)], fps)
        assert np.ptp(lifts) < 0.02
    rng = np.random.default_rng(0)
    adaptation = BrightnessAdaptation()
    wobbling = [
        adaptation.update(n / fps, 0.8 + 0.1 * np.sin(n / fps * 3) + rng.normal(0, 0.05), 0.25, 1.0)
        for n in range(10 * fps)
    ]
    assert np.ptp(wobbling[fps:]) < 0.1


@pytest.mark.parametrize("fps", [15, 60])
def test_a_lasting_change_is_followed_slowly_and_smoothly(fps):
    lifts = run(BrightnessAdaptation(), [(3, 0.2, 0.3), (10, 1.2, 0.22)], fps)
    assert np.abs(np.diff(lifts)).max() <= 0.5 / fps + 1e-9
    assert (np.diff(lifts) >= -1e-9).all()
    assert lifts[3 * fps] < 0.25
    assert lifts[-1] == pytest.approx(1.2, abs=0.03)
    # What that means for a frame: no sample moves by more than two codes from one frame to the next at 30 a second.
    tables = [255 * curve(np.arange(256) / 255, lift) for lift in lifts]
    assert max(np.abs(b - a).max() for a, b in pairwise(tables)) <= 2.0 * 30 / fps


def test_lights_on_is_followed_quickly_but_not_at_once():
    lifts = run(BrightnessAdaptation(), [(3, 1.4, 0.12), (1, 0.0, 0.5)])
    assert lifts[89] > 1.35
    assert lifts[90 + 3] > 0.8
    assert lifts[90 + 24] < 0.15
    assert np.abs(np.diff(lifts)).max() <= 6.0 / 30 + 1e-9


def test_a_cut_and_a_gap_start_anew():
    adaptation = BrightnessAdaptation()
    run(adaptation, [(2, 0.2, 0.4)])
    assert adaptation.update(2.04, 1.2, 0.1, 1.0, cut=True) == 1.2
    assert adaptation.update(9.0, 0.4, 0.3, 1.0) == 0.4
    assert adaptation.update(3.0, 0.7, 0.3, 1.0) == 0.7  # time that goes back


def test_the_amount_is_followed_within_half_a_second():
    adaptation = BrightnessAdaptation()
    run(adaptation, [(2, 1.0, 0.2)], amount=0.5)
    assert adaptation.lift == pytest.approx(0.5)
    lifts = run(adaptation, [(0.5, 1.0, 0.2)], amount=1.0, start=2.0)
    assert lifts[-1] == pytest.approx(1.0, abs=0.03)
    assert np.abs(np.diff(lifts)).max() < 0.21
    lifts = run(adaptation, [(1.0, 1.0, 0.2)], amount=0.0, start=2.5)
    assert lifts[-1] < ARRIVED


def lifts_of(faces):
    """The lift of each frame of a bright scene with a dark face, where `faces` says whether it was found."""
    light, lifts = Brightening(), []
    for n, found in enumerate(faces):
        frame = dark_frame("yuv420p", level=0.6, noise=0.01, size=(200, 100), full=True, pts=n * 33_333)
        planes(frame.image, layout("yuv420p"))["y"][10:50, 20:60] = 60
        light.apply(frame, 1.0, (face_at(20, 10, 60, 50),) if found else ())
        lifts.append(light.adaptation.lift)
    return lifts


def test_a_face_that_is_lost_for_two_seconds_is_remembered():
    lifts = lifts_of([True] * 30 + [False] * 60 + [True] * 30)
    assert lifts[0] > 0.8
    assert np.ptp(lifts) < 0.05


def test_the_first_face_is_followed_quickly():
    lifts = lifts_of([False] + [True] * 39)
    assert lifts[0] == 0
    assert lifts[18] > 0.95 * lifts[-1] > 1.0
    assert np.diff(lifts).max() < 0.21
