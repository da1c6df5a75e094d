"""Degrades single images: camera noise, blur, low light, JPEG, pixelation, tape.

Images are uint8 H×W×3 RGB. Random values come from the ``rng`` argument.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.crop_space import F32, U8

Rng = np.random.Generator
_BANK: dict[int, F32] = {}


def _bank(blur: int) -> F32:
    """Returns noise of variance 1: white, or blurred as in cameras. ``blur``: σ of the blur in thirds of a pixel."""
    if blur not in _BANK:
        z = np.random.default_rng(9 + blur).standard_normal((1400, 1600, 3)).astype(np.float32)
        if blur:
            z = cv2.GaussianBlur(z, (0, 0), blur / 3.0)
            z /= z.std()
        _BANK[blur] = z.astype(np.float32)
    return _BANK[blur]


def rounded(picture: F32) -> U8:
    """Rounds and clips float32 code values to uint8."""
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def noise(image: U8, sigma: float, rng: Rng, blur: int = 0, gray: float = 0.0) -> U8:
    """Adds noise of ``sigma`` code values. ``gray`` (0..1): share of the variance that is common to all channels."""
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
    """Blurs with a disc of ``radius`` pixels."""
    k = int(np.ceil(radius)) * 2 + 1
    y, x = np.mgrid[:k, :k] - k // 2
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101), np.uint8)


def gaussian_kernel(across: float, along: float, angle: float, side: int = 21) -> F32:
    """Returns a Gaussian kernel, float32 ``side``×``side``, with sum 1. The standard deviations are ``across`` and
    ``along`` in pixels, rotated by ``angle`` radians. The kernel is truncated, as usual in blind face restoration (Wang
    et al. 2021, "GFP-GAN"); therefore, a σ of 10 acts like 5.6."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def motion_blur(image: U8, length: float, angle: float) -> U8:
    """Blurs like straight motion by ``length`` pixels at ``angle`` radians."""
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
    """Darkens by ``gain`` < 1, adds noise, and brightens again in 8 bits."""
    dark = noise(np.asarray(cv2.convertScaleAbs(image, alpha=gain), np.uint8), sigma, rng, blur=int(rng.integers(0, 3)))
    return np.asarray(cv2.convertScaleAbs(dark, alpha=1 / gain), np.uint8)


def jpeg(image: U8, quality: int, full_chroma: bool = False) -> U8:
    """Encodes an image as JPEG and decodes it."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_chroma:
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    ok, data = cv2.imencode(".jpg", image, flags)
    if not ok:
        raise RuntimeError("JPEG encoding failed")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def rescale(image: U8, factor: float, rng: Rng) -> tuple[U8, int]:
    """Shrinks by ``factor`` > 1 with a random filter. Returns the picture, and an interpolation to enlarge it again."""
    h, w = image.shape[:2]
    down = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(4))]
    small = cv2.resize(image, (max(8, round(w / factor)), max(8, round(h / factor))), interpolation=down)
    up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[int(rng.integers(4))]
    return np.asarray(small, np.uint8), up


def _luma_and_chroma(image: U8) -> tuple[F32, F32]:
    """Splits a picture into luma, H×W, and chroma around 0, H×W×2: float32 code values."""
    ycc = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb), np.float32) * 255
    return ycc[..., 0], np.ascontiguousarray(ycc[..., 1:] - 127.5)


def _to_rgb(y: F32, chroma: F32) -> U8:
    ycc = np.dstack([y, chroma + np.float32(127.5)]).astype(np.float32) / 255
    return rounded(np.asarray(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB), np.float32) * 255)


def chroma_bleed(image: U8, width: float, delay: float, noise: float, rng: Rng) -> U8:
    """Degrades chroma like VHS. It stores about 50 samples per line (0.5 MHz).

    Blurs each line by a Gaussian of ``width`` pixels, delays it by ``delay`` pixels, averages two lines, and adds
    ``noise`` code values of noise that changes slowly along a line.
    """
    h, w = image.shape[:2]
    y, chroma = _luma_and_chroma(image)
    reach = int(np.ceil(3 * width + delay))
    kernel = np.exp(-0.5 * ((np.arange(-reach, reach + 1) + delay) / width) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    lines = np.array([0.5, 0.5, 0], np.float32)
    chroma = np.asarray(cv2.sepFilter2D(chroma, -1, kernel, lines, borderType=cv2.BORDER_REPLICATE), np.float32)
    if noise > 0:
        z = rng.standard_normal((h, max(2, w // 24), 2), np.float32)
        chroma = chroma + np.float32(noise) * cv2.resize(z, (w, h), interpolation=cv2.INTER_LINEAR)
    return _to_rgb(y, chroma)


def ringing(image: U8, width: float, overshoot: float, distance: float) -> U8:
    """Degrades luma like tape. Blurs each line by a Gaussian of ``width`` pixels. After each edge, luma overshoots by a
    share ``overshoot`` of the step for ``distance`` pixels, then undershoots by 0.4 of this share."""
    y, chroma = _luma_and_chroma(image)
    x = np.arange(-int(3 * width + 2 * distance + 1), int(3 * width + 2 * distance + 1) + 1)
    g = [np.exp(-0.5 * ((x + k * distance) / width) ** 2) for k in range(3)]
    g = [k / k.sum() for k in g]
    kernel = g[0] + overshoot * (g[0] - g[1]) - 0.4 * overshoot * (g[1] - g[2])
    one = np.ones(1, np.float32)
    y = np.asarray(cv2.sepFilter2D(y, -1, kernel.astype(np.float32), one, borderType=cv2.BORDER_REPLICATE), np.float32)
    return _to_rgb(y, chroma)


def line_jitter(image: U8, amount: float, rng: Rng) -> U8:
    """Shifts lines by about ``amount`` pixels like an unsteady tape. Neighbouring lines have similar shifts."""
    h, w = image.shape[:2]
    z = cv2.GaussianBlur(rng.standard_normal((h, 1)), (1, 0), sigmaX=1, sigmaY=3.0) * 3 + rng.normal(0, 0.25, (h, 1))
    x = np.arange(w, dtype=np.float32)[None] + np.float32(amount) * np.asarray(z, np.float32).reshape(h, 1)
    y = np.repeat(np.arange(h, dtype=np.float32)[:, None], w, 1)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def still(image: U8, rng: Rng, strength: float = 1.0) -> U8:
    """Applies random blur, rescaling, noise, JPEG (sometimes twice) and pixelation.

    ``strength`` scales the sizes of the effects: 1 suits a 512-px crop, 0.5 a 256-px crop.
    """
    h, w = image.shape[:2]
    out = image
    if rng.random() < 0.08:  # pixelation
        factor = rng.uniform(3, 10) * strength
        small = cv2.resize(out, (max(8, round(w / factor)), max(8, round(h / factor))), interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST), np.uint8)
        return jpeg(out, int(rng.integers(60, 97)))
    r = rng.random()
    if r < 0.25:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), max(0.3, rng.uniform(0.4, 4.0) * strength)), np.uint8)
    elif r < 0.40:
        out = defocus(out, max(0.6, rng.uniform(1.0, 6.0) * strength))
    elif r < 0.55:
        out = motion_blur(out, max(1.5, rng.uniform(3, 16) * strength), rng.uniform(0, np.pi))
    interpolation = cv2.INTER_CUBIC
    if rng.random() < 0.75:
        out, interpolation = rescale(out, max(1.0, float(np.exp(rng.uniform(0, np.log(6)))) * strength), rng)
    if rng.random() < 0.12:
        out = low_light(out, rng.uniform(0.15, 0.6), rng.uniform(0.5, 2.0), rng)
    if rng.random() < 0.7:
        out = noise(out, rng.uniform(0.5, 12) if rng.random() < 0.5 else rng.uniform(0.5, 4), rng,
                    int(rng.integers(0, 4)), rng.uniform(0, 1))  # fmt: skip
    if rng.random() < 0.8:
        out = jpeg(out, int(rng.integers(18, 92)), rng.random() < 0.2)
    if out.shape[:2] != (h, w):
        out = np.asarray(cv2.resize(out, (w, h), interpolation=interpolation), np.uint8)
    if rng.random() < 0.2:
        out = jpeg(out, int(rng.integers(40, 95)))
    return out
