"""Light: side light is evened, lamps lose their colour, and what is well lit stays as it is, on a made head."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.frame import Display, Face, Frame
from rtface.geometry.planes import layout, planes
from rtface.live.light import Light
from rtface.live.side_light import SideLight
from rtface.live.white_balance import EYES, WhiteBalance

SIZE, WIDTH, HEIGHT = (320, 240), 60.0, 80.0  # of the frame, and half axes of the head
SKIN, DARK = (0.45, 0.26, 0.19), (0.08, 0.045, 0.03)
WARM = (1.25, 1.0, 0.45)


def mesh_at(x: float, y: float) -> np.ndarray:
    """478 points on the front of an ellipsoid, with the points that light needs at their usual places."""
    n = np.arange(478)
    radius, angle = 0.95 * np.sqrt((n + 0.5) / 478), n * math.pi * (3 - math.sqrt(5))
    flat = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    flat[[234, 454, 10, 152]] = (-0.98, 0), (0.98, 0), (0, -0.98), (0, 0.98)
    for side, (outline, (middle, *rim)) in zip((-1, 1), EYES, strict=True):
        turn = np.linspace(0, 2 * math.pi, len(outline), endpoint=False)
        centre = np.array([0.4 * side, -0.2])
        flat[list(outline)] = centre + np.stack([0.22 * np.cos(turn), 0.08 * np.sin(turn)], 1)
        flat[middle] = centre
        flat[rim] = centre + np.array([(0.06, 0), (0, -0.05), (-0.06, 0), (0, 0.05)])
    depth = -np.sqrt(np.maximum(1 - (flat**2).sum(1), 0.0))
    return np.column_stack([x + WIDTH * flat[:, 0], y + HEIGHT * flat[:, 1], WIDTH * depth])


def scene(key: float = 0.0, *, skin=SKIN, lamp=(1.0, 1.0, 1.0), wall=0.3, x=160.0, pts=0, fmt="yuv420p"):
    """A head before a grey wall, lit evenly and by a lamp from the right of power `key`; its frame and face."""
    mesh = mesh_at(x, 120.0)
    columns, rows = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    a, b = (columns - x) / WIDTH, (rows - 120.0) / HEIGHT
    inside = a**2 + b**2 < 1
    lambert = np.clip(a * math.sin(1.2) + np.sqrt(np.clip(1 - a**2 - b**2, 0, 1)) * math.cos(1.2), 0, None)
    light = (1 + key * lambert) / (1 + 0.6 * key)
    linear = np.where(inside[..., None], light[..., None] * skin, wall) * lamp
    for outline, (_, *rim) in EYES:
        for points, colour in ((outline, (0.5, 0.36, 0.32)), (rim, (0.02, 0.02, 0.02))):
            patch = np.zeros(inside.shape, np.uint8)
            cv2.fillPoly(patch, [np.rint(mesh[list(points), :2] * 8).astype(np.int32)], 1, shift=3)
            linear[patch > 0] = np.array(colour) * np.array(skin).sum() / sum(SKIN) * lamp
    rgb = np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)
    image = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    if fmt != "rgb24":
        image = image.reformat(format=fmt, dst_colorspace="ITU709")
    box = np.array([x - WIDTH, 120 - HEIGHT, x + WIDTH, 120 + HEIGHT])
    return Frame(image, pts, Fraction(1, 30)), Face(1, box, mesh[[468, 473, 4, 61, 291], :2].copy(), mesh)


def rgb_of(frame: Frame) -> np.ndarray:
    return frame.image.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() / 255.0


def halves(frame: Frame, x: float = 160.0) -> tuple[float, float]:
    """Mean linear luma of the left and the right cheek."""
    luma = rgb_of(frame)[100:150] ** 2.2 @ (0.2126, 0.7152, 0.0722)
    return tuple(float(luma[:, round(x + k) - 8 : round(x + k) + 8].mean()) for k in (-35, 35))


@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuyv422", "yuv420p10le", "rgb24"])
@pytest.mark.parametrize("skin", [SKIN, DARK])
def test_side_light_is_evened_for_every_skin_and_format(fmt, skin):
    frame, face = scene(6.0, skin=skin, fmt=fmt)
    left, right = halves(frame)
    before = rgb_of(frame)
    light = SideLight()
    result = light.apply(frame, 1.0, [face])
    assert light.uneven
    assert result.filtered
    assert result.changed is None
    after = halves(result)
    assert abs(math.log2(after[1] / after[0])) < 0.45 * math.log2(right / left)
    assert np.abs(rgb_of(result) - before)[:, :60].max() < 0.02  # the wall


@pytest.mark.parametrize("display", [Display(mirror=True), Display(quarter_turns=1)])
def test_side_light_is_evened_in_display_space(display):
    frame, face = scene(6.0)
    upright = rgb_of(SideLight().apply(frame, 1.0, [face]))
    frame, _ = scene(6.0)
    shown = rgb_of(frame)
    stored = np.rot90(shown, 1) if display.quarter_turns else shown[:, ::-1]
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rint(255 * stored)).astype(np.uint8), format="rgb24")
    turned = rgb_of(SideLight().apply(Frame(image, 0, Fraction(1, 30), display=display), 1.0, [face]))
    turned = np.rot90(turned, -1) if display.quarter_turns else turned[:, ::-1]
    assert np.abs(turned[80:160, 120:200] - upright[80:160, 120:200]).mean() < 0.03
    assert np.abs(turned[80:160, 120:200] - shown[80:160, 120:200]).mean() > 0.05


@pytest.mark.parametrize(("key", "amount"), [(0.0, 1.0), (0.3, 1.0), (6.0, 0.0)])
def test_even_faces_and_no_amount_change_nothing(key, amount):
    frame, face = scene(key, wall=0.5)
    before = rgb_of(frame)
    assert Light().apply(frame, amount, [face]) is frame
    assert np.array_equal(rgb_of(frame), before)


def test_the_gain_is_steady_and_fades_where_the_face_is_lost():
    light, levels = SideLight(), []
    for n in range(40):
        frame, face = scene(6.0, x=160.0 + 0.5 * (n % 2), pts=n)
        levels.append(halves(light.apply(frame, 1.0, [face]))[0])
    assert np.abs(np.diff(np.log2(levels[1:]))).max() < 0.1
    before = halves(scene(6.0)[0])[0]
    lost = [halves(light.apply(scene(6.0, pts=40 + n)[0], 1.0, []))[0] for n in range(30)]
    assert lost[3] == pytest.approx(levels[-1], rel=0.02)  # held
    assert before < lost[11] < lost[9]
    assert lost[-1] == pytest.approx(before, rel=0.02)


def test_a_new_number_at_the_same_place_keeps_the_light():
    light = SideLight()
    for n in range(30):
        frame, face = scene(6.0, pts=n)
        before = halves(light.apply(frame, 1.0, [face]))[0]
    frame, face = scene(6.0, pts=30)
    assert halves(light.apply(frame, 1.0, [replace(face, track_id=2)]))[0] == pytest.approx(before, rel=0.02)


def test_other_codes_stay_and_the_amount_is_followed():
    light, levels = Light(), []
    for n in range(20):
        frame, face = scene(6.0, pts=n)
        luma = planes(frame.image, layout("yuv420p"))["y"]
        luma[:, :60] = 250
        changed = light.apply(frame, 0.8 if n >= 5 else 0.0, [face])
        assert (planes(changed.image, layout("yuv420p"))["y"][:, :60] == 250).all()
        levels.append(halves(changed)[0])
    assert np.abs(np.diff(np.log2(levels))).max() < 0.35 < abs(math.log2(levels[-1] / levels[0]))


def test_a_hand_the_border_and_a_turned_head_are_left_alone():
    frame, face = scene(0.0, wall=0.5)
    cv2.rectangle(picture := np.rint(255 * rgb_of(frame)).astype(np.uint8), (165, 150), (215, 200), (20, 20, 20), -1)
    frame = Frame(av.VideoFrame.from_ndarray(picture, format="rgb24"), 0, Fraction(1, 30))
    assert SideLight().apply(frame, 1.0, [face]) is frame
    frame, face = scene(0.0, wall=0.5, x=20.0)  # half of it is outside the frame
    assert SideLight().apply(frame, 1.0, [face]) is frame
    frame, face = scene(6.0)
    turned = face.mesh @ cv2.Rodrigues(np.array([0.0, 1.0, 0.0]))[0]
    turned[:, :2] += face.mesh[:, :2].mean(0) - turned[:, :2].mean(0)
    assert SideLight().apply(frame, 1.0, [Face(1, face.box, face.points, turned)]) is frame


@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuv422p10le", "rgb24"])
def test_a_lamp_loses_its_colour(fmt):
    frame, face = scene(lamp=WARM, fmt=fmt)
    before = rgb_of(frame)
    after = rgb_of(WhiteBalance().apply(frame, 1.0, [face]))
    for place in (np.s_[120, 20], np.s_[150, 160]):  # wall and skin
        truth = rgb_of(scene(fmt=fmt)[0])[place]
        blue = [np.log(one[place][2] / one[place][1]) - np.log(truth[2] / truth[1]) for one in (before, after)]
        assert abs(blue[1]) < 0.5 * abs(blue[0])
    assert after[120, 20].sum() == pytest.approx(before[120, 20].sum(), rel=0.15)


@pytest.mark.parametrize(
    "scene_of",
    [
        lambda: scene(skin=(0.4, 0.2, 0.1)),  # tanned skin, but white eyes
        lambda: scene(lamp=WARM, wall=(0.3 / 1.25, 0.3, 0.3 / 0.45)),  # a warm face, but grey surroundings
        lambda: scene(lamp=(1.05, 1.0, 0.9)),  # evening light
    ],
)
def test_colours_stay_unless_all_witnesses_agree(scene_of):
    frame, face = scene_of()
    assert WhiteBalance().apply(frame, 1.0, [face]) is frame


def test_a_new_colour_of_light_is_followed_slowly():
    balance, blues = WhiteBalance(), []
    for n in range(120):
        frame, face = scene(lamp=WARM if n >= 30 else (1, 1, 1), pts=n)
        blues.append(rgb_of(balance.apply(frame, 1.0, [face]))[120, 20, 2])
    assert np.abs(np.diff(blues[31:])).max() < 0.02
    assert blues[-1] > blues[31] + 0.1
