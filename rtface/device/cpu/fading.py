"""Removes a film's fading, with one smooth, rising curve per channel.

Every step is bit-identical on all machines, so that `rtface verify` can repeat the removal on the input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from rtface.device.cpu.rgb_samples import RgbSamples
from rtface.device.cpu.view import native_image
from rtface.frame import FadingCurve, Float32, Frame
from rtface.geometry.color_curves import without_fading
from rtface.geometry.planes import layout
from rtface.protocols import Item

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
        samples = RgbSamples(frame.image, frame.color, parity)
        height, width = samples.size
        for row in range(0, height, _ROWS):
            box = 0, row, width, min(row + _ROWS, height)
            curved = [_apply_curve(*pair) for pair in zip(tables, samples.read(box), strict=True)]
            samples.write(box, np.stack(curved))
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
