"""Makes truths at the encoded resolution: gently moving sharp portraits, and real clips.

| kind | truth |
| --- | --- |
| ``portraits`` | a 512-px photograph on a soft background, reduced by two or more; 24 frames, the last 12 are measured |
| ``clips`` | a real clip at half width and height (area averages), 40 frames; some clips are compressed or soft and thus favour smooth results |

Each frame of a portrait is resampled directly from the photograph: bicubic samples half a pixel apart are averaged over
each pixel of the frame. So the truth is as sharp as a picture reduced by area. Portraits whose fine detail in the oval
is below `MIN_SHARPNESS` are not used.
"""  # noqa: E501

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.crop_space import F32, F64, U8, oval_mask, similarity
from training.data.portraits import TUNING_PEOPLE, Face, split
from training.evaluation.clip_protocols import Clip

LUMA = np.array([0.299, 0.587, 0.114])
FACE_BOX = (0.235, 0.265, 0.765, 0.92)
"""Mean x0, y0, x1, y1 of tracked face boxes in the canonical crop, in fractions of its side."""
WIDTH = 135.0
FRAMES, WARM_UP_FRAMES = 24, 12
"""Number of frames of a portrait's film; number of unmeasured frames at its start."""
REDUCTION = 2.0
"""Minimum number of photograph pixels per pixel of the truth."""
MIN_SHARPNESS = 4.0
"""Minimum standard deviation of the truth's fine detail, code values of luma."""
EDGE_PX = 24
"""Width of the transition to the background along the photograph's border, pixels of 512."""
MIN_PX = 384


@dataclass
class Truth:
    """A sharp film.

    Attributes:
        name: name for the tables.
        frames: frames, uint8 H×W×3 RGB.
        matrices: 2×3 matrix of each frame, 512-px canonical → frame. Pixel centres are at integers.
        first: number of the first measured frame.
    """

    name: str
    frames: list[U8]
    matrices: list[F64]
    first: int = 0

    @property
    def width(self) -> float:
        """Median width of the face in pixels."""
        side = 512 * float(np.median([np.hypot(m[0, 0], m[1, 0]) for m in self.matrices]))
        return side * (FACE_BOX[2] - FACE_BOX[0])


# --- people ---


def _pictures(faces: Iterable[Face], salt: str) -> list[Face]:
    """Picks one colour picture per person, at least `MIN_PX` px. The order (by hash) is stable if people are added."""
    first: dict[str, Face] = {}
    for face in sorted((f for f in faces if f.px >= MIN_PX and not f.gray), key=lambda f: f.path.name):
        first.setdefault(face.identity, face)
    return sorted(first.values(), key=lambda f: hashlib.sha256(f"rtface-native-{salt}:{f.identity}".encode()).digest())


def people(faces: Sequence[Face], which: str) -> list[Face]:
    """Picks one picture per person in "tuning" or "set-aside". The order is fixed."""
    candidates, aside = split(list(faces))
    return _pictures(candidates, "tuning")[:TUNING_PEOPLE] if which == "tuning" else _pictures(aside, "set-aside")


# --- portraits ---


def portrait(face: Face, width: float = WIDTH, frames: int = FRAMES) -> Truth:
    """Makes a film from a photograph. ``width``: width of the face in pixels.

    Raises:
        ValueError: the photograph is too small for a reduction by about `REDUCTION`.
    """
    picture = face.load()
    side = width / (FACE_BOX[2] - FACE_BOX[0])
    if len(picture) < 0.98 * REDUCTION * side:
        raise ValueError(f"{face.path.name}: a face of {width:.0f} px needs a photograph of {REDUCTION * side:.0f} px")
    return film_of(picture, face.identity, side, frames)


def film_of(picture: U8, name: str, side: float, frames: int = FRAMES) -> Truth:
    """Makes a film of a gently moving canonical picture, uint8 S×S×3. ``side``: side of the crop in the first frame."""
    size = _round_up(1.6 * side, 64), _round_up(1.25 * side, 32)
    rng = np.random.default_rng([5, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)])
    speed, sway, pace = rng.normal(0, 0.0012, 2) * side, rng.uniform(0, 0.006) * side, rng.uniform(0.1, 0.45)
    turn, zoom, phase = rng.normal(0, 0.003), rng.normal(0, 0.0012), rng.uniform(0, 6.28, 2)
    angle = rng.normal(0, 0.04)
    small = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA)
    wall = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    truth = Truth(name, [], [], min(WARM_UP_FRAMES, frames - 1))
    for t in range(frames):
        x, y = ((size[k] - 1) / 2 + _displacement(speed[k], sway, pace, phase[k], t) for k in (0, 1))
        matrix = similarity(side / 512 * float(np.exp(zoom * t)), float(angle + turn * t), (float(x), float(y)), 512)
        truth.frames.append(resample(picture, matrix, wall))
        truth.matrices.append(matrix)
    return truth


def _displacement(speed: float, sway: float, pace: float, phase: float, t: int) -> float:
    """Returns the displacement of a coordinate at frame ``t``."""
    return float(speed * t + sway * (np.sin(pace * t + phase) - np.sin(phase)))


def _round_up(pixels: float, step: int) -> int:
    """Rounds up to a multiple of ``step``, at least 96. At some smaller sizes, x264's output is not reproducible."""
    return step * int(np.ceil(max(pixels, 96) / step))


def resample(picture: U8, matrix: F64, ground: U8) -> U8:
    """Renders a canonical picture over a background. Each pixel is a mean over its area in the picture."""
    height, width = ground.shape[:2]
    source = len(picture)
    step = 1 / float(np.hypot(matrix[0, 0], matrix[1, 0])) * source / 512  # picture pixels per frame pixel
    dense = max(1, int(np.ceil(2 * step - 0.25)))  # samples along each side of a pixel
    m = matrix.copy()  # becomes the matrix from the picture's pixels to the frame's
    m[:, 2] += (m[:, 0] + m[:, 1]) * (512 / source - 1) / 2
    m[:, :2] *= 512 / source
    m *= dense
    m[:, 2] += (dense - 1) / 2
    u, v = places(matrix, (width, height))
    alpha = np.clip(np.minimum(np.minimum(u, 511 - u), np.minimum(v, 511 - v)) / EDGE_PX, 0, 1)[..., None]
    x, y, w, h = cv2.boundingRect((alpha[..., 0] > 0).astype(np.uint8))
    m[:, 2] -= (x * dense, y * dense)
    big = cv2.warpAffine(picture, m, (w * dense, h * dense), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    face = cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32)
    out, part = ground.copy(), np.s_[y : y + h, x : x + w]
    out[part] = np.rint(face * alpha[part] + ground[part] * (1 - alpha[part]))
    return out


def places(matrix: F64, size: tuple[int, int]) -> tuple[F32, F32]:
    """Maps a frame's pixels to the 512-px canonical crop. Returns x and y, float32 H×W."""
    inv = cv2.invertAffineTransform(matrix)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    u, v = (np.float32(r[0]) * x + np.float32(r[1]) * y + np.float32(r[2]) for r in inv)
    return u, v


def oval_of(matrix: F64, size: tuple[int, int]) -> F32:
    """Warps `crop_space.oval_mask` to a frame, float32 H×W, 0…1."""
    u, v = places(matrix, size)
    return np.asarray(cv2.remap(oval_mask(512), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32)


def fine_detail(image: U8 | F32) -> F32:
    """Extracts fine detail: luma minus its Gaussian blur of one pixel, in code values."""
    luma = np.asarray(image.astype(np.float32) @ LUMA.astype(np.float32), np.float32)
    return luma - np.asarray(cv2.GaussianBlur(luma, (0, 0), 1.0), np.float32)


def sharpness(truth: Truth) -> float:
    """Measures the standard deviation of fine detail. Only reads the oval of the first measured frame."""
    image, matrix = truth.frames[truth.first], truth.matrices[truth.first]
    oval = oval_of(matrix, (image.shape[1], image.shape[0]))
    return float(np.sqrt(np.average(fine_detail(image) ** 2, weights=oval)))


# --- clips ---


def halve(clip: Clip) -> Truth:
    """Halves a real clip's frames by area."""
    height, width = (4 * (n // 4) for n in clip.clean[0].shape[:2])
    half = (width // 2, height // 2)
    small = [np.asarray(cv2.resize(f[:height, :width], half, interpolation=cv2.INTER_AREA), np.uint8)
             for f in clip.clean]  # fmt: skip
    return Truth(clip.name, small, [m / 2 - np.array([[0, 0, 0.25], [0, 0, 0.25]]) for m in clip.matrices])
