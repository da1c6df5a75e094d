"""Defines how frames arrive at the enhancement."""

from __future__ import annotations

from enum import Enum, auto


class Mode(Enum):
    """Determines for which engines frames wait, and whether runs look ahead.

    FILM: waits for every engine, and delays frames until the next keyframe is available.
    CALL: waits for every engine; each frame is returned before the next one arrives.
    LIVE: waits for the light engine only; outputs of the heavy one are used when they arrive.
    """

    FILM = auto()
    CALL = auto()
    LIVE = auto()
