"""How frames arrive at the enhancement."""

from __future__ import annotations

from enum import Enum, auto


class Mode(Enum):
    """What may be waited for, and whether later frames are known.

    FILM: every engine is waited for, and frames are held until the next keyframe is known.
    CALL: every engine is waited for; each frame is answered before the next one is known.
    LIVE: the light engine is waited for; the heavy one answers when it can.
    """

    FILM = auto()
    CALL = auto()
    LIVE = auto()
