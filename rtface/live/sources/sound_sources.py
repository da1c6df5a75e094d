"""Sound that does not come with the pictures: a microphone, a stream's sound, silence."""

from __future__ import annotations

import threading
import time
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
    return SoundOnlySource(SourceRequest(kind, name, format=format, pictures=False), title, stats or Stats())


class SoundOnlySource:
    """A microphone, or the sound of a stream: a source without pictures."""

    def __init__(self, request: SourceRequest, title: str, stats: Stats) -> None:
        self._source = ReconnectingSource(request, title, stats=stats)

    @property
    def described(self) -> str:
        return self._source.described

    @property
    def notes(self) -> list[str]:
        return self._source.notes

    @property
    def sound_format(self) -> SoundFormat | None:
        return self._source.sound_format

    @property
    def health(self) -> EndpointHealth:
        return self._source.health

    def start(self, sound: Callable[[SoundPacket], None]) -> None:
        self._source.start(lambda _: None, sound)

    def close(self) -> None:
        self._source.close()


class SilentSource:
    """Silence for services that refuse a stream without sound."""

    described = "silence"
    sound_format = SoundFormat()

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._health = EndpointHealth("opening", "", time.monotonic())
        self._frames = 0
        self._thread: threading.Thread | None = None

    @property
    def notes(self) -> list[str]:
        return []

    @property
    def health(self) -> EndpointHealth:
        state = self._health
        return EndpointHealth(state.state, state.detail, state.since, self._frames)

    def start(self, sound: Callable[[SoundPacket], None]) -> None:
        from rtface.live.sources.sound_to_aac import FRAME, silent_frame

        form = self.sound_format
        data, duration = silent_frame(form), FRAME / form.rate

        def run() -> None:
            began = time.monotonic()
            while True:
                at = began + self._frames * duration
                if self._closed.wait(max(0.0, at + duration - time.monotonic())):
                    return
                sound(SoundPacket(data, at, duration, form.rate, form.channels))
                self._frames += 1

        self._thread = threading.Thread(target=run, name="rtface-silence", daemon=True)
        self._health = EndpointHealth("live", self.described, time.monotonic())
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(0.5)
        if self._health.state != "closed":
            self._health = EndpointHealth("closed", "", time.monotonic())
