"""Implements ``null:``, which discards frames, for measurements and previews."""

from __future__ import annotations

from dataclasses import replace

from rtface.frame import Frame
from rtface.live.protocols import EndpointHealth, LiveSink, SoundFormat, VideoFormat


class NullSink(LiveSink):
    """Discards frames."""

    def __init__(self, *_: object, **__: object) -> None:
        self._health = EndpointHealth("live", "discards all frames")

    @property
    def described(self) -> str:
        return "null:"

    @property
    def health(self) -> EndpointHealth:
        return self._health

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Opens nothing."""

    def write(self, frame: Frame) -> None:
        """Counts a frame."""
        self._health = replace(self._health, frames=self._health.frames + 1)

    def close(self) -> None:
        self._health = self._health.turned("closed", "")
