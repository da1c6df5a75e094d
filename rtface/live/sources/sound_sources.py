"""Sound that does not come with the video: a microphone, a stream's sound, silence."""

from __future__ import annotations

from collections.abc import Callable

from rtface.live.messages import SourceRequest
from rtface.live.protocols import EndpointHealth, SoundFormat, SoundPacket, SoundSource
from rtface.live.sources.reconnecting_source import ReconnectingSource
from rtface.redaction import is_url, shown
from rtface.stats import Stats


def open_sound_source(name: str, *, stats: Stats | None = None, format: str = "") -> SoundSource | None:
    """What ``--audio`` names; None for "none".

    Args:
        name: a microphone's number or name, "default", a URL, "silent" or "none".
        stats: receives ``packets_lost``.
        format: FFmpeg's name of a device's format instead of the platform's own.
    """
    if name == "none":
        return None
    if name == "silent":
        return SilentSource()
    kind, title = ("stream", shown(name)) if is_url(name) else ("microphone", f"microphone {name or 'default'}")
    return SoundOnlySource(SourceRequest(kind, name, format=format, video=False), title, stats=stats or Stats())


class SoundOnlySource(ReconnectingSource):
    """A microphone, or the sound of a stream: a source without frames, as a `SoundSource`."""

    def start(self, sound: Callable[[SoundPacket], None]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().start(lambda _: None, sound)


class SilentSource:
    """Silence, for services that refuse a stream without sound. `rtface.live.sound_gap_filler.SoundGapFiller` makes it,
    as wherever a source gives no sound."""

    described, sound_format = "silence", SoundFormat()

    def __init__(self) -> None:
        self.health, self.notes = EndpointHealth("live"), list[str]()

    def start(self, sound: Callable[[SoundPacket], None]) -> None:
        """Gives nothing."""

    def close(self) -> None:
        self.health = self.health.turned("closed", "")
