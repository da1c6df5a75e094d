"""Sound that does not come with the pictures: a microphone, a stream's sound, silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rtface.live.protocols import Health, Sound, SoundForm, SoundSource
from rtface.live.sources.messages import Request
from rtface.live.sources.source import Source
from rtface.stats import Stats
from rtface.util.redaction import is_url, shown


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
        return Silence()
    kind, title = ("stream", shown(name)) if is_url(name) else ("microphone", f"microphone {name or 'default'}")
    return Microphone(Request(kind, name, format=format, pictures=False), title, stats or Stats())


class Microphone:
    """A microphone, or the sound of a stream: a source without pictures."""

    def __init__(self, request: Request, title: str, stats: Stats) -> None:
        self._source = Source(request, title, stats=stats)

    @property
    def described(self) -> str:
        return self._source.described

    @property
    def notes(self) -> list[str]:
        return self._source.notes

    @property
    def sound_form(self) -> SoundForm | None:
        return self._source.sound_form

    @property
    def health(self) -> Health:
        return self._source.health

    def start(self, sound: Callable[[Sound], None]) -> None:
        self._source.start(lambda _: None, sound)

    def close(self) -> None:
        self._source.close()


class Silence:
    """Silence for services that refuse a stream without sound."""

    described = "silence"
    sound_form = SoundForm()

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._health = Health("opening", "", time.monotonic())
        self._frames = 0
        self._thread: threading.Thread | None = None

    @property
    def notes(self) -> list[str]:
        return []

    @property
    def health(self) -> Health:
        state = self._health
        return Health(state.state, state.detail, state.since, self._frames)

    def start(self, sound: Callable[[Sound], None]) -> None:
        from rtface.live.sources.sound_track import FRAME, silent_frame

        form = self.sound_form
        data, duration = silent_frame(form), FRAME / form.rate

        def run() -> None:
            began = time.monotonic()
            while True:
                at = began + self._frames * duration
                if self._closed.wait(max(0.0, at + duration - time.monotonic())):
                    return
                sound(Sound(data, at, duration, form.rate, form.channels))
                self._frames += 1

        self._thread = threading.Thread(target=run, name="rtface-silence", daemon=True)
        self._health = Health("live", self.described, time.monotonic())
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(0.5)
        if self._health.state != "closed":
            self._health = Health("closed", "", time.monotonic())
