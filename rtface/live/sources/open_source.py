"""Creates sources of a live run: for frames with their sound, or for separate sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from rtface.config.addresses import LiveAddress
from rtface.frame import Frame
from rtface.live.messages import SourceRequest
from rtface.live.protocols import EndpointHealth, LiveSource, SoundFormat, SoundPacket, SoundSource
from rtface.live.sources.reconnecting_source import ReconnectingSource
from rtface.redaction import is_url, shown
from rtface.stats import Stats


def open_live_source(
    address: LiveAddress,
    *,
    size: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    sound: bool = True,
    buffer: float | None = 0.0,
    loop: bool = False,
    whole: bool = False,
    stats: Stats | None = None,
) -> LiveSource:
    """Creates the source for a camera, stream or film without opening it.

    Args:
        address: address of kind "camera", "stream" or "file".
        size, fps: size and rate requested from a camera.
        sound: whether the source's own sound is requested.
        buffer: seconds of a stream's jitter buffer; None adapts it to the jitter.
        loop: whether a film restarts at its end.
        whole: whether no frame of a stream may be dropped, because all outputs are files.
        stats: receives ``dropped:source``, ``packets_lost`` and ``frames_corrupt``.
    """
    numbered = address.kind == "camera" and not address.name.startswith("/dev/")
    return ReconnectingSource(
        SourceRequest(
            address.kind,
            address.name,
            size,
            fps,
            variant=address.variant,
            sound=sound,
            buffer=buffer,
            loop=loop,
            whole=whole,
        ),
        f"camera {address.name or 0}" if numbered else str(address),
        stats=stats or Stats(),
    )


def open_sound_source(name: str, *, stats: Stats | None = None, format: str = "") -> SoundSource | None:
    """Creates the source for ``--audio``; None for "none".

    Args:
        name: a microphone's number or name, "default", a URL, "silent" or "none".
        stats: receives ``packets_lost``.
        format: FFmpeg's name of the device's input format; "" for that of the platform.
    """
    if name == "none":
        return None
    if name == "silent":
        return SilentSource()
    kind, title = ("stream", shown(name)) if is_url(name) else ("microphone", f"microphone {name or 'default'}")
    return ReconnectingSource(SourceRequest(kind, name, format=format, video=False), title, stats=stats or Stats())


class SilentSource:
    """Provides silence, for services that reject a stream without sound. Delivers no packets, because
    `rtface.live.sound_gap_filler.SoundGapFiller` produces the silence."""

    described, sound_format = "silence", SoundFormat()

    def __init__(self) -> None:
        self.health, self.notes = EndpointHealth("live"), list[str]()

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        """Does nothing, because there are no frames and packets."""

    def close(self) -> None:
        self.health = self.health.turned("closed", "")
