"""What a live run does with pictures besides faces: light, stages, a preview."""

from __future__ import annotations

import av

from rtface.config import Options
from rtface.frame import Face, Frame
from rtface.stats import Stats


class LiveExtras:
    """See `rtface.live.loop.Extras`."""

    def __init__(self, options: Options, stats: Stats) -> None:
        self._stats = stats

    @property
    def wants_before(self) -> bool:
        """Whether a stage or somebody at the preview wants the picture as it came, too."""
        return False

    def lit(self, frame: Frame, amount: float, faces: tuple[Face, ...]) -> Frame:
        """The picture lightened."""
        return frame

    def done(self, frame: Frame, before: av.VideoFrame | None) -> Frame:
        """The picture with everything drawn on it, and shown to who looks at the preview."""
        return frame

    def close(self) -> None:
        """Releases the stages."""
