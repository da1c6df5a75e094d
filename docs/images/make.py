"""Makes README's pictures of a call, a film and a photograph: ``make image``.

All show scikit-image's portrait of the astronaut Eileen Collins (NASA, public domain).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

import rtface
from benchmarks.demo import clean_frames, portrait
from rtface.frame import Bytes

HERE = Path(__file__).parent
SIDE = 360
"""Pixels of each half."""


def side_by_side(before: Bytes, after: Bytes, box: tuple[int, int, int]) -> Bytes:
    """Joins the same square of two images side by side.

    Args:
        before, after: RGB uint8 H×W×3 of one size.
        box: left, top and side in pixels.
    """
    left, top, side = box
    halves = [image[top : top + side, left : left + side] for image in (before, after)]
    return np.hstack([cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for half in halves])


def save(name: str, image: Bytes) -> None:
    """Writes an RGB image as JPEG."""
    cv2.imwrite(str(HERE / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def frames(path: Path) -> Iterator[Bytes]:
    """Yields the frames of a film as RGB uint8 H×W×3."""
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def make_call(folder: Path) -> None:
    """Animates three seconds of the call, ten frames a second."""
    pairs = list(zip(frames(folder / "demo.mp4"), frames(folder / "demo-enhanced.mp4"), strict=True))[60:150:3]
    with av.open(str(HERE / "call.webp"), "w", options={"loop": "0"}) as out:
        stream = out.add_stream("libwebp_anim", rate=10, options={"quality": "70", "compression_level": "6"})
        stream.width, stream.height, stream.pix_fmt = 2 * SIDE, SIDE, "yuv420p"
        for n, (before, after) in enumerate(pairs):
            image = av.VideoFrame.from_ndarray(side_by_side(before, after, (410, 60, 500)), "rgb24")
            image.pts, image.time_base = n, Fraction(1, 10)
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))


def make_film(folder: Path) -> None:
    """Shows a frame of a gray, soft and grainy film."""
    draw, old, better = np.random.default_rng(3), folder / "old.mp4", folder / "old-enhanced.mp4"
    with av.open(str(old), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "26"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for n, clean in enumerate(clean_frames(portrait())):
            if n == 40:
                break
            gray = cv2.GaussianBlur(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), (0, 0), 1.3).astype(np.float32)
            gray += cv2.GaussianBlur(draw.normal(0, 14, gray.shape).astype(np.float32), (0, 0), 0.7)
            picture = np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, 2)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    rtface.run(old, better, overwrite=True)
    pair = [list(frames(path))[30] for path in (old, better)]
    save("film.jpg", side_by_side(pair[0], pair[1], (200, 30, 240)))


def make_photograph(folder: Path) -> None:
    """Shows a small, soft photograph, enhanced to twice the size."""
    small, better = folder / "small.jpg", folder / "small-enhanced.png"
    soft = cv2.resize(cv2.GaussianBlur(portrait(), (0, 0), 1.5), (288, 288), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(small), soft[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 55])
    rtface.run(small, better, scale="2", overwrite=True)
    after = cv2.imread(str(better))[..., ::-1]
    before = cv2.resize(cv2.imread(str(small)), after.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., ::-1]
    save("photograph.jpg", side_by_side(before, after, (140, 20, 230)))


if __name__ == "__main__":
    out = Path(sys.argv[1])
    make_call(out)
    make_film(out)
    make_photograph(out)
