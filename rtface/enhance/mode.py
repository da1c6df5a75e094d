"""Defines how frames arrive at the enhancement."""

from __future__ import annotations

from enum import Enum, auto


class Mode(Enum):
    """Says which engines a frame waits for, and whether it looks ahead.

    FILM: waits for every engine, and holds frames until the next keyframe is available.
    CALL: waits for every engine; each frame is returned before the next one arrives.
    LIVE: waits for the light engine only; the heavy one answers when it can.
    """

    FILM = auto()
    CALL = auto()
    LIVE = auto()
