"""Degradations of single pictures: noise through a simple ISP, blur, low light, JPEG, pixelation.

All take and return uint8 H×W×3 RGB, and draw from the generator they are given.
"""

from __future__ import annotations

import cv2
import numpy as np

from .space import F32, U8

Rng = np.random.Generator
_BANK: dict[int, F32] = {}


def _bank(blur: int) -> F32:
    """Unit noise; ``blur`` 0 is white, more is that many thirds of a pixel of correlation (an ISP's)."""
    if blur not in _BANK:
        z = np.random.default_rng(9 + blur).standard_normal((1400, 1600, 3)).astype(np.float32)
        if blur:
            z = cv2.GaussianBlur(z, (0, 0), blur / 3.0)
            z /= z.std()
        _BANK[blur] = z.astype(np.float32)
    return _BANK[blur]


def noise(image: U8, sigma: float, rng: Rng, blur: int = 0, gray: float = 0.0) -> U8:
    """Add noise of ``sigma`` code values; ``gray`` 0..1 is the share that is the same in all three channels."""
    if sigma <= 0:
        return image
    h, w = image.shape[:2]
    bank = _bank(blur)
    y, x = int(rng.integers(0, 1400 - h + 1)) if h <= 1400 else 0, int(rng.integers(0, 1600 - w + 1))
    z = bank[y : y + h, x : x + w]
    if gray > 0:
        z = z * np.float32(np.sqrt(1 - gray)) + z[:, :, 1:2] * np.float32(np.sqrt(gray))
    out = image.astype(np.float32)
    out += z * np.float32(sigma)
    return np.clip(np.rint(out, out=out), 0, 255, out=out).astype(np.uint8)


def defocus(image: U8, radius: float) -> U8:
    """Disc blur of ``radius`` pixels."""
    k = int(np.ceil(radius)) * 2 + 1
    y, x = np.mgrid[:k, :k] - k // 2
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101), np.uint8)


def motion_blur(image: U8, length: float, angle: float) -> U8:
    """Straight motion blur of ``length`` pixels at ``angle`` radians."""
    k = int(np.ceil(length / 2)) * 2 + 1
    kernel = np.zeros((k, k), np.float32)
    for t in np.linspace(-0.5, 0.5, 4 * k):
        x, y = k // 2 + t * length * np.cos(angle), k // 2 + t * length * np.sin(angle)
        xi, yi = min(max(int(x), 0), k - 2), min(max(int(y), 0), k - 2)
        fx, fy = x - xi, y - yi
        kernel[yi : yi + 2, xi : xi + 2] += np.outer([1 - fy, fy], [1 - fx, fx])
    kernel /= kernel.sum()
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def low_light(image: U8, gain: float, sigma: float, rng: Rng) -> U8:
    """Expose ``gain`` < 1 of the light, add the noise of that, and let the camera lift it back in 8 bit."""
    dark = noise(np.asarray(cv2.convertScaleAbs(image, alpha=gain), np.uint8), sigma, rng, blur=int(rng.integers(0, 3)))
    return np.asarray(cv2.convertScaleAbs(dark, alpha=1 / gain), np.uint8)


def jpeg(image: U8, quality: int, full_chroma: bool = False) -> U8:
    """Through a JPEG file and back."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_chroma:
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    ok, data = cv2.imencode(".jpg", image, flags)
    if not ok:
        raise RuntimeError("JPEG encoding failed")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def rescale(image: U8, factor: float, rng: Rng) -> tuple[U8, int]:
    """Shrink by ``factor`` > 1 with a filter that cameras and sites use; returns the picture and a way back up."""
    h, w = image.shape[:2]
    down = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(4))]
    small = cv2.resize(image, (max(8, round(w / factor)), max(8, round(h / factor))), interpolation=down)
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(rng.integers(4))]
    return np.asarray(small, np.uint8), up


def still(image: U8, rng: Rng, strength: float = 1.0) -> U8:
    """The mix for single pictures: blur, scale, noise, JPEG (twice at times), pixelation; any side length.

    ``strength`` scales the sizes given for a 512-px crop (use 0.5 for a 256-px one).
    """
    h, w = image.shape[:2]
    out = image
    if rng.random() < 0.08:  # pixelation
        f = rng.uniform(3, 10) * strength
        small = cv2.resize(out, (max(8, round(w / f)), max(8, round(h / f))), interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)
        return jpeg(out, int(rng.integers(60, 97)))
    r = rng.random()
    if r < 0.25:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), max(0.3, rng.uniform(0.4, 4.0) * strength)), np.uint8)
    elif r < 0.40:
        out = defocus(out, max(0.6, rng.uniform(1.0, 6.0) * strength))
    elif r < 0.55:
        out = motion_blur(out, max(1.5, rng.uniform(3, 16) * strength), rng.uniform(0, np.pi))
    up = cv2.INTER_CUBIC
    if rng.random() < 0.75:
        out, up = rescale(out, max(1.0, float(np.exp(rng.uniform(0, np.log(6)))) * strength), rng)
    if rng.random() < 0.12:
        out = low_light(out, rng.uniform(0.15, 0.6), rng.uniform(0.5, 2.0), rng)
    if rng.random() < 0.7:
        out = noise(out, rng.uniform(0.5, 12) if rng.random() < 0.5 else rng.uniform(0.5, 4), rng,
                    int(rng.integers(0, 4)), rng.uniform(0, 1))  # fmt: skip
    if rng.random() < 0.8:
        out = jpeg(out, int(rng.integers(18, 92)), rng.random() < 0.2)
    if out.shape[:2] != (h, w):
        out = np.asarray(cv2.resize(out, (w, h), interpolation=up), np.uint8)
    if rng.random() < 0.2:
        out = jpeg(out, int(rng.integers(40, 95)))
    return out


def mild(image: U8, rng: Rng, strength: float = 1.0) -> U8:
    """What a scan or a post on a site does to a good picture: a little blur, scale, noise and JPEG; any side length.

    ``strength`` scales the sizes given for a 512-px crop, as in ``still``.
    """
    h, w = image.shape[:2]
    out, up = image, cv2.INTER_CUBIC
    if rng.random() < 0.5:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), max(0.3, rng.uniform(0.3, 1.4) * strength)), np.uint8)
    if rng.random() < 0.5:
        out, up = rescale(out, max(1.0, rng.uniform(1.0, 2.0) * strength), rng)
    if rng.random() < 0.6:
        out = noise(out, rng.uniform(0.5, 3.5), rng, int(rng.integers(0, 4)), rng.uniform(0, 1))
    if out.shape[:2] != (h, w):
        out = np.asarray(cv2.resize(out, (w, h), interpolation=up), np.uint8)
    if rng.random() < 0.8:
        out = jpeg(out, int(rng.integers(60, 96)))
    return out
