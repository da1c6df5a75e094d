"""Describes the icon's state, text and menu for any desktop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from rtface.frame import Bytes

IconState = Literal["working", "off", "asleep", "failed"]

_COLOURS: dict[IconState, tuple[int, int, int]] = {
    "working": (46, 160, 90),
    "off": (128, 128, 128),
    "asleep": (90, 110, 150),
    "failed": (200, 60, 50),
}


@dataclass(frozen=True, slots=True)
class MenuItem:
    """An entry of the menu.

    Attributes:
        label: text of the entry.
        action: called on a thread when the entry is chosen; None if the entry cannot be chosen.
        checked: whether the entry is ticked; None if the entry cannot be ticked.
    """

    label: str
    action: Callable[[], None] | None = None
    checked: bool | None = None


@dataclass(frozen=True, slots=True)
class TrayView:
    """The icon's content at one time.

    Attributes:
        state: determines the colour of the icon.
        title: one line that is shown as the icon's tooltip and at the top of the menu.
        items: menu entries below the title; a click on the icon chooses the first entry.
    """

    state: IconState
    title: str
    items: tuple[MenuItem, ...]


class TrayIcon(Protocol):
    """An icon in a desktop's tray."""

    def run(self, stop: threading.Event) -> None:
        """Shows the icon until `stop` is set."""
        ...

    def show(self, view: TrayView) -> None:
        """Shows another view. May be called from any thread, even before `run`."""
        ...


def draw_icon(state: IconState, size: int = 32) -> Bytes:
    """Draws a face in a circle of the state's colour. Returns RGBA with straight alpha, (`size`, `size`, 4) uint8."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size

    def disc(centre_x: float, centre_y: float, radius: float) -> Bytes:
        return np.clip((radius - np.hypot(x - centre_x, y - centre_y)) * size + 0.5, 0.0, 1.0)

    mouth = np.clip(0.035 * size - np.abs(np.hypot(x - 0.5, y - 0.5) - 0.23) * size + 0.5, 0.0, 1.0) * (y > 0.58)
    features = np.maximum.reduce([disc(0.36, 0.42, 0.065), disc(0.64, 0.42, 0.065), mouth])
    colour = np.asarray(_COLOURS[state], np.float64)
    image = np.empty((size, size, 4), np.uint8)
    image[..., :3] = np.round(colour + (255.0 - colour) * features[..., None])
    image[..., 3] = np.round(255.0 * disc(0.5, 0.5, 0.46))
    return image
