"""Removes a film's fading, with one smooth, rising curve per channel.

Every step is bit-identical on all machines, so that `rtface verify` can repeat the removal on the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtface.device.cpu.crop import full_range
from rtface.device.cpu.view import native_image
from rtface.frame import Color, FadingCurve, Float32, Frame
from rtface.geometry.color_curves import code_range, without_fading, ycbcr_from_rgb
from rtface.geometry.planes import Layout, Role, Samples, layout, planes
from rtface.protocols import Item

_CHROMA: tuple[Role, ...] = ("u", "v")
_STEPS, _ROWS = (1 << 16) - 1, 64  # intervals of a curve's table; luma rows per block


def unfaded(frame: Frame, curve: FadingCurve) -> Frame:
    """Removes the fading from a frame in place, in its own format. No other code may use the frame.

    Returns gray frames unchanged, because they have no dyes.

    Raises:
        InputError: the pixel format cannot be converted.
    """
    image = native_image(frame.image)
    form = layout(image.format.name)
    assert form is not None
    if form.kind == "gray":
        return frame
    source = None if frame.source is None else unfaded(frame.source, curve)
    frame = replace(frame, image=image, filtered=True, source=source)
    frame.make_writable()
    tables = [_table(*channel) for channel in curve]
    for parity in (None,) if frame.display.fields == "progressive" else (0, 1):
        views = planes(frame.image, form, parity)
        for row in range(0, next(iter(views.values())).shape[0], _ROWS):
            _unfade_rows(views, row, form, frame.color, tables)
    return frame


def all_unfaded(items: Iterable[Item], curve: FadingCurve | None) -> Iterator[Item]:
    """Yields a film's items, and corrects the fading of its frames. Raises like `unfaded`."""
    for item in items:
        yield unfaded(item, curve) if curve is not None and isinstance(item, Frame) else item


@lru_cache(maxsize=16)
def _table(power: float, gain: float) -> Float32:
    """Tabulates a curve at `_STEPS` + 1 values."""
    curve = without_fading(np.linspace(0.0, 1.0, _STEPS + 1), power, gain)
    return (np.rint(curve * (1 << 22)) / (1 << 22)).astype(np.float32)


def _apply_curve(table: Float32, values: Float32) -> Float32:
    """Maps values through a curve. Values outside 0…1 keep their distance from the nearer end of the range."""
    inside: Float32 = np.clip(values, 0, 1, dtype=np.float32)
    return np.asarray(table[np.rint(inside * np.float32(_STEPS)).astype(np.int32)] + (values - inside), np.float32)


def _unfade_rows(views: dict[Role, Samples], row: int, form: Layout, color: Color, tables: list[Float32]) -> None:
    full = full_range(form, color)

    def part(role: Role) -> Samples:
        down = form.role_subsampling(role)[1]
        return views[role][row // down : -(-(row + _ROWS) // down)]

    def read(role: Role) -> Float32:
        legal = code_range(form.bits, full, chroma=role in ("u", "v"))
        codes = (part(role) >> form.shift).astype(np.float32)
        return (codes - np.float32(legal.offset)) / np.float32(legal.scale)

    def write(role: Role, values: Float32) -> None:
        legal = code_range(form.bits, full, chroma=role in ("u", "v"))
        codes = np.rint(values * np.float32(legal.scale) + np.float32(legal.offset))
        target: NDArray[Any] = part(role)
        target[...] = np.clip(codes, 0, (1 << form.bits) - 1).astype(np.uint16) << form.shift

    if form.kind == "rgb":
        roles: tuple[Role, ...] = ("r", "g", "b")
        for role, table in zip(roles, tables, strict=True):
            write(role, _apply_curve(table, read(role)))
        return
    to_rgb, from_rgb = np.linalg.inv(ycbcr_from_rgb(color.matrix)).round(12), ycbcr_from_rgb(color.matrix)
    luma = read("y")
    across, down = form.subsampling
    height, width = luma.shape
    u, v = (np.repeat(np.repeat(read(role), down, 0), across, 1)[:height, :width] for role in _CHROMA)
    rgb = [_apply_curve(table, _sum(weights, (luma, u, v))) for table, weights in zip(tables, to_rgb, strict=True)]
    write("y", _sum(from_rgb[0], rgb))
    for role, weights in zip(_CHROMA, from_rgb[1:], strict=True):
        write(role, _mean(_sum(weights, rgb), down, across))


def _sum(weights: Any, parts: Any) -> Float32:
    a, b, c = (np.float32(weight) * part for weight, part in zip(weights, parts, strict=True))
    return a + b + c


def _mean(values: Float32, down: int, across: int) -> Float32:
    """Averages the samples that share one chroma sample."""
    height, width = values.shape
    values = np.pad(values, ((0, -height % down), (0, -width % across)), mode="edge")
    parts = [values[y::down, x::across] for y in range(down) for x in range(across)]
    return sum(parts[1:], parts[0]) * np.float32(1 / len(parts))
