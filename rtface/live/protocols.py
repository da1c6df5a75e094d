"""Formats, packets and interfaces of live sources and sinks.

Times are seconds of `time.monotonic()`, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, Protocol

from rtface.frame import Color, Frame

TIME_BASE = Fraction(1, 1_000_000)
"""Unit of `Frame.pts` in a live run: microseconds of the monotonic clock."""
EndpointState = Literal["opening", "live", "away", "closed"]


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """Size, pixel format, rate and colour of a source's or sink's frames.

    Attributes:
        width, height: size in samples.
        pix_fmt: FFmpeg's name of the pixel format.
        rate: nominal frames a second.
        color: colour of the samples.
        aspect: aspect ratio of one sample.
    """

    width: int
    height: int
    pix_fmt: str
    rate: Fraction
    color: Color
    aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """Constant rate and channels of a run's sound: AAC-LC in frames of 1024 samples.

    Attributes:
        rate: samples a second.
        channels: number of channels, 1…8.
    """

    rate: int = 48_000
    channels: int = 2


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """One frame of AAC with its ADTS header.

    Decoding can start at any packet. Every sink accepts this format.

    Attributes:
        data: header and frame.
        time: presentation time.
        duration: duration in seconds.
    """

    data: bytes
    time: float
    duration: float


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """State and counters of a source or sink.

    Attributes:
        state: "opening" until the first success; "live"; "away" while it is lost and being reopened; "closed".
        detail: fault or format, in a few words without secrets.
        since: time at which the state began.
        frames: number of frames received from the source, or accepted by the sink.
        dropped: number of these frames that were dropped before they reached the run or the peer.
        bytes: number of bytes sent to or received from a network peer; None for devices.
        reopened: number of times that the endpoint was lost and reopened.
        causes: dropped frames of an output by cause, if known: "network" was too slow, "encoder" was still busy, "away"
            while no peer was connected.
        buffer: seconds that frames wait in the source's jitter buffer, before `Frame.captured_at`.
        backlog: seconds by which a source's frames arrive later than the quickest ones since opening, because they
            wait upstream of this run.
        size: width and height of an open virtual camera; otherwise None.
    """

    state: EndpointState
    detail: str = ""
    since: float = field(default_factory=time.monotonic)
    frames: int = 0
    dropped: int = 0
    bytes: int | None = None
    reopened: int = 0
    buffer: float = 0.0
    backlog: float = 0.0
    causes: dict[str, int] = field(default_factory=dict[str, int])
    size: tuple[int, int] | None = None

    def turned(self, state: EndpointState, detail: str, now: float | None = None) -> EndpointHealth:
        """Returns a copy with another state and detail. `since` becomes `now` if the state changes."""
        began = time.monotonic() if now is None else now
        return replace(self, state=state, detail=detail, since=self.since if state == self.state else began)


@dataclass(frozen=True, slots=True)
class MediaDevice:
    """A device that a run can read, or a sink's target.

    Attributes:
        kind: type of the device.
        address: address that a user types, such as "camera:0" or "vcam:rtface".
        name: name that the device reports.
        node: path of the device; "" if it has none.
        state: "free", "in use", "no permission" or another state in a few words; "" if unknown.
        advice: remedy if the device is unusable or works badly; otherwise "".
        users: programs that have the device open, with their process IDs.
        modes: one line for each format, with its sizes.
    """

    kind: Literal["camera", "microphone", "virtual camera", "output"]
    address: str
    name: str
    node: str = ""
    state: str = ""
    advice: str = ""
    users: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()


BACKLOG_S = 1.0
"""Seconds of backlog above which a source's delay is reported."""
REST_S = 0.5
"""Seconds from one frame to the next while no output has a viewer."""


class Endpoint(Protocol):
    """Members of every source and sink of a live run. Classes that derive from this protocol, or from one below,
    inherit default implementations."""

    @property
    def described(self) -> str:
        """Device or address with its format, without secrets. Example: "camera 0 (Integrated Camera), 1280×720 mjpeg,
        30 fps"."""
        ...

    @property
    def notes(self) -> list[str]:
        """Differences from the request, one line each. Valid after opening."""
        return []

    @property
    def health(self) -> EndpointHealth:
        return EndpointHealth("live", "", 0.0)

    def close(self) -> None:
        """Closes the endpoint within a second, even if it is waiting. A sink flushes its queue. Safe to call twice."""
        ...


class SoundSource(Endpoint, Protocol):
    """Provides sound of a microphone or stream, or silence. A `LiveSource` also provides frames."""

    @property
    def sound_format(self) -> SoundFormat | None:
        """Format of all packets, even if the source's own format changes. None without sound. Valid after `start`."""
        return None

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        """Opens the source, and calls `frame` and `sound` on its own threads.

        Raises:
            InputMissing, InputError, MissingComponent: the source does not exist, or cannot be used.
        """
        ...


class LiveSource(SoundSource, Protocol):
    """Provides live frames and sound, from its own threads or process.

    `Frame.captured_at` is the time when the frame became available: captured, decoded, and out of the jitter buffer.
    `Frame.pts` counts `TIME_BASE` units on the same clock, always rises, and stays in sync with the sound of the same
    source. A lost source is reopened (until `close`); its frames may then have another size.
    """

    @property
    def video_format(self) -> VideoFormat:
        """Format of the latest frames; valid after `start`."""
        ...

    @property
    def ended(self) -> bool:
        """True after a film has played to its end. Always False for a camera or stream."""
        return False

    def hold(self, held: bool) -> None:
        """Pauses a film at its first frame until called with False. Call it before `start`. Other sources ignore it."""
        return

    def rest(self, resting: bool) -> None:
        """Tells the source whether no output has a viewer. If that saves processor time, the source then delivers a
        frame only every `REST_S` seconds; its sound stays complete."""
        return


class LiveSink(Endpoint, Protocol):
    """Writes frames and sound. `write` and `sound` never wait for a device or peer.

    The constructor gets the address, the run's options, and the run's description as the keyword `metadata`.
    """

    @classmethod
    def list(cls) -> Sequence[MediaDevice]:
        """Lists the available targets, if the sink can. ``rtface devices``, ``rtface doctor`` and the studio show
        them."""
        return ()

    @classmethod
    def why_unusable(cls) -> str | None:
        """Explains in one line why the sink is unusable, with a remedy. Returns None if it is usable."""
        return None

    @property
    def wanted(self) -> bool | None:
        """Whether the output has a viewer; None if unknown. With False, frames are not enhanced."""
        return None

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Opens the sink for a frame format and an optional sound format.

        Raises:
            OutputError, MissingComponent, UsageError: the target does not exist, is in use, or rejects the format.
        """
        ...

    def write(self, frame: Frame) -> None:
        """Writes a frame in the format passed to `open`. The caller may reuse the frame afterwards."""
        ...

    def sound(self, packet: SoundPacket) -> None:
        """Writes a packet of sound; an output without sound ignores it."""
        return
