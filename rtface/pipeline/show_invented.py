"""Draws what was invented over the output (`--invented show`), with a legend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from rtface.config.look import LOOKS
from rtface.device.cpu.view import native_image
from rtface.frame import Bytes, Frame
from rtface.geometry.transforms import compose, sample_to_display, translation
from rtface.protocols import Item
from rtface.stages.draw import Canvas, Sprite

FULL_COLOUR_VALUE = 40
"""The value, of 255, from which on the colour stays the same."""
_OPACITY = 0.8
_WHITE = (255, 255, 255, 255)


@lru_cache(maxsize=1)
def colours() -> Bytes:
    """Cividis, which people with every kind of colour vision see as one rising scale: uint8 256×3 RGB, by value."""
    steps = np.clip(np.arange(256) * 255.0 / FULL_COLOUR_VALUE, 0, 255).astype(np.uint8)[None]
    table: Any = cv2.applyColorMap(steps, cv2.COLORMAP_CIVIDIS)
    return np.ascontiguousarray(table[0, :, ::-1])


def show_invented(items: Iterable[Item], look: str) -> Iterator[Item]:
    """The items, with the map of each frame drawn over it; samples without a value stay visible."""
    for item in items:
        yield with_map(item, look) if isinstance(item, Frame) else item


def with_map(frame: Frame, look: str) -> Frame:
    """The frame with its map and the legend of a look."""
    frame = replace(frame, image=native_image(frame.image))
    canvas = Canvas(frame)
    values = frame.invented
    if values is not None and values.any():
        x, y, w, h = cv2.boundingRect(values)
        part = values[y : y + h, x : x + w]
        rgba = np.dstack([colours()[part], np.where(part > 0, np.uint8(255), np.uint8(0))])
        place = compose(sample_to_display(frame.image.width, frame.image.height, frame.display), translation(x, y))
        canvas.draw(Sprite(rgba), place, _OPACITY)
    legend = Sprite(legend_image(look))
    width, bottom = min(0.5 * canvas.width, float(legend.width)), canvas.height - 8.0
    canvas.draw(legend, (8.0, bottom - width * legend.height / legend.width, 8.0 + width, bottom))
    return replace(canvas.frame, changed=None)


@lru_cache(maxsize=len(LOOKS))
def legend_image(look: str) -> Bytes:
    """The scale: a bar of the colours, its figures below it and what they mean above; uint8 RGBA 64×384×4.

    The bound was measured under the look "faithful", and is an estimate under the others."""
    image = np.zeros((64, 384, 4), np.uint8)
    image[..., 3] = 190
    bar = colours()[np.linspace(0, FULL_COLOUR_VALUE, 360).round().astype(int)]
    image[24:40, 12:372] = np.dstack([np.tile(bar[None], (16, 1, 1)), np.full((16, 360), 255, np.uint8)])
    sure = "may be off by (of 255, 90 %)" if look == "faithful" else f"an estimate (of 255; look: {look})"
    cv2.putText(image, f"invented: {sure}", (12, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.46, _WHITE, 1, cv2.LINE_AA)
    for value in range(0, FULL_COLOUR_VALUE + 1, 10):
        text = f"{value}+" if value == FULL_COLOUR_VALUE else str(value)
        (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.46, 1)
        left = round(np.clip(12 + 360 * value / FULL_COLOUR_VALUE - wide / 2, 12, 372 - wide))
        cv2.putText(image, text, (left, 57), cv2.FONT_HERSHEY_SIMPLEX, 0.46, _WHITE, 1, cv2.LINE_AA)
    return image
