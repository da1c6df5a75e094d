"""What one sees in a whole film is named, and nothing in a clean one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.analysis.whole_picture import FAULTS, PictureMeter
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Color, Display, Frame

SIDE = 320
Fault = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def scene(t: int) -> np.ndarray:
    """A moving ball on a wall with upright bars, float64, 20 to 230."""
    x = np.arange(SIDE)
    picture = 125 + 55 * np.sin(x / 25)[None] + 45 * np.sin(np.arange(SIDE) / 40)[:, None]
    picture[:, 60:66] = 20
    cv2.circle(picture, (100 + 3 * t, 160), 40, 230.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), 1.0)


def grain(picture: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, picture.shape), (0, 0), 0.9)
    return picture + 8 * noise / noise.std()


def dust(picture: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    for _ in range(3):
        x, y = rng.integers(20, SIDE - 20, 2).tolist()
        cv2.circle(picture, (x, y), 2, 10.0 if picture[y, x] > 120 else 245.0, -1)
    return picture


def scratch(picture: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    cv2.line(picture, (210 + t % 3, 0), (211 + t % 3, SIDE), 245.0, 1)
    return picture


def flicker(picture: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    return picture * rng.normal(1, 0.03)


def pale(picture: np.ndarray, t: int, rng: np.random.Generator) -> np.ndarray:
    return 75 + 0.4 * picture


MADE: dict[str, Fault] = dict(zip(FAULTS, (grain, dust, scratch, flicker, pale), strict=True))


def frames(*faults: Fault, count: int = 60, fields: bool = False, new: bool = False) -> Iterator[Frame]:
    rng = np.random.default_rng(3)
    display = Display(fields="tff" if fields else "progressive")
    for t in range(count):
        picture = scene(t)
        for fault in faults:
            picture = fault(picture, t, rng)
        if fields:  # the second field is a moment later
            picture[1::2] = scene(t + 1)[1::2] if not faults else picture[1::2]
        image = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="gray")
        yield Frame(image, t, Fraction(1, 25), 1, Color(), display, new=new)


def scores(items: Iterator[Frame]) -> dict[str, float]:
    meter = PictureMeter()
    assert len(list(meter.noted(items, CpuDevice()))) > 0
    return meter.scores


@pytest.mark.parametrize("fields", [False, True])
def test_a_clean_film_has_none_of_it(fields: bool) -> None:
    assert scores(frames(fields=fields)) == dict.fromkeys(FAULTS, 0.0)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_and_no_other(name: str) -> None:
    found = scores(frames(MADE[name]))
    assert found.pop(name) > 0.3
    assert max(found.values()) < 0.1, found


def test_an_old_film_has_all_of_it() -> None:
    found = scores(frames(pale, flicker, grain, dust, scratch))
    assert min(found.values()) > 0.2, found


def test_lamps_that_are_switched_are_no_flicker() -> None:
    assert scores(frames(lambda picture, t, _: picture * (1.0 if t % 2 else 0.6)))["flicker"] == 0.0


def test_of_stills_there_is_low_contrast_alone() -> None:
    found = scores(frames(pale, grain, dust, flicker, new=True, count=5))
    assert found.pop("low_contrast") > 0.3 and not any(found.values())


def test_frames_pass_also_where_they_cannot_be_viewed() -> None:
    class Broken(CpuDevice):
        def view(self, frame: Frame) -> object:  # type: ignore[override]
            raise ValueError("no view")

    meter = PictureMeter()
    assert len(list(meter.noted(frames(count=4), Broken()))) == 4
    assert not any(meter.scores.values())
