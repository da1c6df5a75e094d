"""Converts native planes to RGB at crop resolution: low-pass, warp, convert."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.frame import Box, Bytes, Color, Display, Float, Float32
from rtface.geometry.color_curves import code_range, curve_of, ycbcr_from_rgb
from rtface.geometry.planes import Layout, Role, Samples
from rtface.geometry.transforms import (
    Field,
    bounds,
    clip_box,
    compose,
    footprint,
    invert,
    plane_matrix,
    scaling,
    to_cv2,
    translation,
)

HALF_BELOW = 0.7  # footprint below which chroma is first sampled at half the target's size
BLUR_FROM = 1.08  # residual shrink below which bilinear sampling alone is clean enough


def smoothing(shrink: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float]]:
    """Returns the filters for a shrink in x and y: area factors, Gaussian size (1, 1: none) and sigmas."""
    nx, ny = max(1, int(shrink[0] + 0.05)), max(1, int(shrink[1] + 0.05))
    residual = (shrink[0] / nx, shrink[1] / ny)
    if max(residual) <= BLUR_FROM:
        return (nx, ny), (1, 1), (0.0, 0.0)
    # The variance of a box of `residual` samples minus the variance of a box of one sample.
    sx, sy = (float(np.sqrt(max(r * r - 1.0, 0.0) / 4.0)) for r in residual)
    size = [1 if s < 0.2 else 3 if s < 0.6 else 5 for s in (sx, sy)]
    return (nx, ny), (size[0], size[1]), (max(sx, 0.01), max(sy, 0.01))


def lowpass(image: Samples, shrink: tuple[float, float], *, border: int) -> tuple[Samples, Float]:
    """Filters an image before it shrinks by `shrink`.

    Whole factors of `shrink` (source samples per target sample) are area-averaged, and the remainder (below 2) is
    blurred, because `warpAffine` has no area filter.

    Returns:
        The filtered image, reduced by the whole factors, and the matrix from its coordinates to the input's
        coordinates (corner convention).
    """
    (nx, ny), size, sigma = smoothing(shrink)
    if nx > 1 or ny > 1:
        h, w = image.shape[:2]
        if w % nx or h % ny:
            image = cv2.copyMakeBorder(image, 0, -h % ny, 0, -w % nx, border)
            h, w = image.shape[:2]
        image = cv2.resize(image, (w // nx, h // ny), interpolation=cv2.INTER_AREA)
    if size != (1, 1):
        image = cv2.GaussianBlur(image, size, sigma[0], sigmaY=sigma[1], borderType=border)
    return image, scaling(nx, ny)


def halved(shrink: tuple[float, float], size: tuple[int, int]) -> bool:
    """Returns True if chroma is first sampled at half size. Magnified chroma has no detail to lose."""
    return max(shrink) < HALF_BELOW and size[0] % 2 == 0 and size[1] % 2 == 0


@lru_cache(maxsize=16)
def _sampling(
    matrix: bytes, shape: tuple[int, ...], size: tuple[int, int], chroma: bool
) -> tuple[Box, tuple[float, float], Float, tuple[int, int]]:
    """Returns what `sample` needs for a plane. Cached, because u and v share it.

    Returns:
        The box that is read, the footprint, and the warp's matrix (for cv2) and size.
    """
    forward = np.frombuffer(matrix).reshape(2, 3)
    back = invert(forward)
    shrink = footprint(back)
    height, width = shape
    box = bounds(back, (0, 0, size[0], size[1]), margin=2.0 * max(1.0, *shrink) + 1.0)
    x0, y0, x1, y1 = clip_box(box, width, height)
    # A region entirely outside the plane shows the nearest edge.
    x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    forward = compose(forward, translation(x0, y0), scaling(*smoothing(shrink)[0]))
    if chroma and halved(shrink, size):  # costs a quarter
        forward, size = compose(scaling(0.5, 0.5), forward), (size[0] // 2, size[1] // 2)
    return (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)), shrink, to_cv2(forward), size


def sample(plane: Samples, matrix: Float, size: tuple[int, int], shift: int = 0, *, chroma: bool = False) -> Samples:
    """Resamples one component through `matrix` to size (w, h). Edges replicate.

    `matrix` is plane → target (corner convention). Returns h×w code values, shifted down: uint8, or float32 above 8
    bits.
    """
    (x0, y0, x1, y1), shrink, forward, warped_size = _sampling(matrix.tobytes(), plane.shape, size, chroma)
    image = plane[y0:y1, x0:x1]
    if image.strides[1] != image.itemsize or not image.dtype.isnative:
        image = np.ascontiguousarray(image, plane.dtype.newbyteorder("="))
    if shift:
        image = image >> shift
    if image.dtype != np.uint8:
        image = image.astype(np.float32)  # exact, and OpenCV filters float three times as fast as 16 bits
    image, _ = lowpass(image, shrink, border=cv2.BORDER_REPLICATE)
    out: Any = cv2.warpAffine(image, forward, warped_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out if warped_size == size else cv2.resize(out, size, interpolation=cv2.INTER_LINEAR)


def full_range(form: Layout, color: Color) -> bool:
    """Returns True if the pixel format or the stream has full range. Black is then code 0."""
    return form.full_range or color.full_range


def from_planes(
    form: Layout, color: Color, size: tuple[int, int], display: Display, field: Field | None
) -> dict[Role, Float]:
    """Returns each component's matrix from sample to display coordinates."""
    return {
        role: invert(
            plane_matrix(size, display, subsampling=form.role_subsampling(role), siting=color.siting, field=field)
        )
        for role in form.components
    }


@lru_cache(maxsize=64)
def rgb_rows(
    kind: str, bits: int, full: bool, matrix: str, white: float
) -> tuple[tuple[float, float, float, float], ...]:
    """Returns the matrix from y, u, v codes to RGB, by rows. The last column is an offset; white maps to `white`."""
    luma = code_range(bits, full, chroma=False)
    if kind != "yuv":
        return ((white / luma.scale, 0.0, 0.0, -white * luma.offset / luma.scale),) * 3
    chroma = code_range(bits, full, chroma=True)
    back = white * np.linalg.inv(ycbcr_from_rgb(matrix))
    factors = back / np.array([luma.scale, chroma.scale, chroma.scale])
    zeros = -factors @ np.array([luma.offset, chroma.offset, chroma.offset])
    return tuple((float(f[0]), float(f[1]), float(f[2]), float(z)) for f, z in zip(factors, zeros, strict=True))


def sample_planes(
    views: dict[Role, Samples],
    form: Layout,
    color: Color,
    places: dict[Role, Float],
    matrix: Float,
    size: tuple[int, int],
    *,
    white: float = 1.0,
    depth: int = cv2.CV_32F,
) -> Samples:
    """Resamples a region to R'G'B' planes. HDR values stay as coded.

    Args:
        views: `planes()` of the frame or field.
        form, color: layout and colour tags of the views.
        places: `from_planes()` of the frame or field.
        matrix: 2×3, display → region.
        size: (w, h) of the region.
        white: the value of white.
        depth: cv2.CV_32F, or cv2.CV_8U (rounded and clipped).

    Returns:
        3×h×w float32 or uint8; float values are not clipped.
    """
    out = np.empty((3, size[1], size[0]), np.uint8 if depth == cv2.CV_8U else np.float32)
    samples = {
        role: sample(view, compose(matrix, places[role]), size, form.shift, chroma=role in ("u", "v"))
        for role, view in views.items()
    }
    rows = rgb_rows(form.kind, form.bits, full_range(form, color), color.matrix, white)
    for k, (ky, ku, kv, zero) in enumerate(rows):
        if form.kind != "yuv":
            plane = samples["y"] if form.kind == "gray" else samples["rgb"[k]]  # pyright: ignore[reportArgumentType]
            cv2.addWeighted(plane, ky, plane, 0.0, zero, dst=out[k], dtype=depth)
        elif abs(ku) < 1e-9 or abs(kv) < 1e-9:
            other, factor = ("v", kv) if abs(ku) < 1e-9 else ("u", ku)
            cv2.addWeighted(samples["y"], ky, samples[other], factor, zero, dst=out[k], dtype=depth)
        else:
            part = cv2.addWeighted(samples["y"], ky, samples["u"], ku, zero, dtype=cv2.CV_32F)
            cv2.addWeighted(part, 1.0, samples["v"], kv, 0.0, dst=out[k], dtype=depth)
    return out


def sample_rgb(
    views: dict[Role, Samples],
    form: Layout,
    color: Color,
    places: dict[Role, Float],
    matrix: Float,
    size: tuple[int, int],
    *,
    native: bool = False,
) -> Float32:
    """Resamples a region to an engine's RGB (float32 3×h×w, 0…1). With `native`, HDR values stay as coded."""
    out = sample_planes(views, form, color, places, matrix, size)
    curve = None if native else curve_of(color)
    if curve is not None:
        return curve.forward(out)
    return np.clip(out, 0.0, 1.0, out=out)


def sample_bytes(
    views: dict[Role, Samples],
    form: Layout,
    color: Color,
    places: dict[Role, Float],
    matrix: Float,
    size: tuple[int, int],
) -> Bytes:
    """Resamples a region to an engine's RGB (uint8 h×w×3)."""
    if curve_of(color) is not None:
        rgb = sample_rgb(views, form, color, places, matrix, size) * np.float32(255.0) + np.float32(0.5)
        return np.ascontiguousarray(rgb.transpose(1, 2, 0).astype(np.uint8))
    rgb = sample_planes(views, form, color, places, matrix, size, white=255.0, depth=cv2.CV_8U)
    out: Any = cv2.merge([rgb[0], rgb[1], rgb[2]])
    return out
