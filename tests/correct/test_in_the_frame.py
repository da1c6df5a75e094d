"""What the corrected frame shows, measured on its own planes: grain, chroma, seam, untouched rest."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from rtface.correct import CorrectionState, ShapingOptions
from rtface.correct.mask import face_mask
from rtface.device.cpu.device import CpuDevice
from rtface.frame import Color, Frame
from rtface.geometry.transforms import FFHQ_512
from tests.correct.whole_crop import shape
from tests.device.corrections import composite

POINTS = np.array([(204.10, 101.68), (246.99, 103.90), (223.59, 131.79), (202.59, 139.46), (244.68, 140.88)])


def luma(image: av.VideoFrame) -> np.ndarray:
    plane = image.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : image.width].astype(np.float32)


def frame_of(rgb: np.ndarray, pts: int) -> Frame:
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    image = image.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
    image.pts = pts
    return Frame(image, pts, Fraction(1, 25), color=Color("bt601"))


@pytest.fixture(scope="module")
def portrait():
    """`portrait(scale)`: the head as RGB uint8, its fine texture smoothed away, and the five points in it."""
    picture = pytest.importorskip("skimage.data").astronaut()[:260, 90:360]

    def make(scale: float) -> tuple[np.ndarray, np.ndarray]:
        big = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return cv2.bilateralFilter(big, 9, 25, 5), (POINTS - (90, 0)) * scale

    return make


def grain_level(plane: np.ndarray, box: tuple[float, float, float, float], scale: float) -> float:
    x0, y0, x1, y1 = (round(v * scale) for v in box)
    high = plane - cv2.GaussianBlur(plane, (5, 5), 1.0)
    return float(np.median(np.abs(high[y0:y1, x0:x1]))) / 0.6745


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("size", [256, 512])
def test_a_grainy_film_keeps_its_grain_on_the_face(scale, size, portrait):
    """The engine takes all grain away; in the frame the cheek ends within 0.7…1.3 of what it and the wall had."""
    clean, points = portrait(scale)
    matrix, _ = cv2.estimateAffinePartial2D(points, FFHQ_512 * size / 512)
    device = CpuDevice()
    ratio = {}
    for mode in ("match", "none"):
        state = CorrectionState()
        for k in range(3):
            noise = np.random.default_rng(k).normal(0, 6, clean.shape[:2])[..., None]
            frame = frame_of(np.clip(clean + noise, 0, 255).astype(np.uint8), k)
            r = device.cut(frame_of(clean, k), [(matrix, size)])[0].pixels[0]
            c = device.cut(frame, [(matrix, size)])[0].pixels[0]
            before = luma(frame.image).copy()
            d, mask = shape(
                r,
                c,
                face_mask(size),
                state,
                ShapingOptions(grain=mode),
                time=k / 25,
                seed=k,
                scale=float(np.hypot(*matrix[:, 0])),
            )
            after = luma(composite(device, frame, d[None], mask[None], matrix[None]).image)
        cheek = (100, 113, 114, 127)
        ratio[mode] = grain_level(after, cheek, scale) / grain_level(before, cheek, scale)
        beside = grain_level(after, cheek, scale) / grain_level(before, (222, 130, 250, 165), scale)
        assert mode == "none" or 0.7 < beside < 1.3
    assert 0.7 < ratio["match"] < 1.3
    assert ratio["match"] > ratio["none"]


def test_a_warm_bright_engine_shifts_no_colour_and_has_no_seam(portrait):
    clean, points = portrait(2.0)
    size = 256
    matrix, _ = cv2.estimateAffinePartial2D(points, FFHQ_512 * size / 512)
    device = CpuDevice()
    frame = frame_of(clean, 0)
    c = device.cut(frame, [(matrix, size)])[0].pixels[0]
    r = c + np.array([0.10, 0.05, -0.04], np.float32)[:, None, None]
    before = [np.frombuffer(p, np.uint8).reshape(p.height, -1).astype(int) for p in frame.image.planes]
    d, mask = shape(r, c, face_mask(size), CorrectionState(), ShapingOptions(grain="none"), time=0.0)
    out = composite(device, frame, d[None], mask[None], matrix[None])
    after = [np.frombuffer(p, np.uint8).reshape(p.height, -1).astype(int) for p in out.image.planes]
    moved = [a - b for a, b in zip(after, before, strict=True)]
    for chroma in moved[1:]:
        touched = chroma[100:150, 100:140]
        assert abs(touched.mean()) < 0.7, "codes; a whole one is never reached"
    assert 1 < moved[0][200:300, 210:290].mean() < 6, "luma rises by less than the limit of 6/255"
    smooth = cv2.blur(moved[0].astype(np.float32), (5, 5))  # dither out
    assert max(np.abs(np.diff(smooth, axis=k)).max() for k in (0, 1)) < 0.8
    assert not moved[0][:80].any() and not moved[0][:, :120].any()
