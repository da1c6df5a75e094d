"""The seams of a live run. Times are seconds of `time.monotonic()`, which all processes of a machine share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, Protocol

from rtface.frame import Color, Frame

TIME_BASE = Fraction(1, 1_000_000)
"""Unit of `Frame.pts` in a live run: microseconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What the pictures of a source or sink are like.

    Attributes:
        width, height: in samples.
        pix_fmt: FFmpeg's name.
        rate: nominal pictures a second.
        color: how to read them.
        aspect: of one sample.
    """

    width: int
    height: int
    pix_fmt: str
    rate: Fraction
    color: Color
    aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """What the sound of a run is like, from its beginning to its end: AAC-LC in frames of 1024 samples.

    Attributes:
        rate: samples a second.
        channels: 1…8.
    """

    rate: int = 48_000
    channels: int = 2


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """One frame of AAC with its ADTS header: it can begin anywhere, and every sink takes it.

    Attributes:
        data: header and frame.
        time: when it is to be heard.
        duration: seconds.
        rate: samples a second.
        channels: 1…8.
    """

    data: bytes
    time: float
    duration: float
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How one end of a run is.

    Attributes:
        state: "opening" until it was there once; "live"; "away" when it is lost and being opened again; "closed".
        detail: in a few words, without secrets: what is wrong, or what is there.
        since: when the state began.
        frames: pictures that came from it, or that it took.
        dropped: of them, those that were given up on the way to or from it.
        bytes: what a network peer took or gave so far, None for devices.
        reopened: how often it was lost and came back.
        causes: of an output's dropped pictures, where it knows them: "network" did not take them in time, "encoder" was
            not done with those before, "away" while nobody was connected, "form" what could not be converted.
        buffer: seconds that its frames wait in a jitter buffer, before `Frame.captured_at`.
    """

    state: Literal["opening", "live", "away", "closed"]
    detail: str
    since: float
    frames: int = 0
    dropped: int = 0
    bytes: int | None = None
    reopened: int = 0
    buffer: float = 0.0
    causes: dict[str, int] = field(default_factory=dict[str, int])


class LiveSource(Protocol):
    """Gives pictures and sound as they come, from threads or a process of its own.

    `Frame.captured_at` is when the frame became available: captured, decoded from what came so far, and out of the
    jitter buffer. `Frame.pts` counts `TIME_BASE` on the same clock, rises always,
    and keeps the distance to the sound that came with it. When the source is lost it is opened again until `close`;
    what comes then may have another size. A class that derives from it inherits the answers of the simplest source.
    """

    @property
    def video_format(self) -> VideoFormat:
        """Of the pictures that came last; after `start`."""
        ...

    @property
    def described(self) -> str:
        """The source and what was got of it, as "camera 0 (Integrated Camera), 1280×720 mjpeg, 30 fps"."""
        ...

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each; after `start`."""
        return []

    @property
    def sound_format(self) -> SoundFormat | None:
        """Of all sound that comes, whatever the source sends; None where none can come; after `start`."""
        return None

    @property
    def ended(self) -> bool:
        """True when nothing comes any more: a film that was played to its end. Never of a camera or stream."""
        return False

    @property
    def health(self) -> EndpointHealth:
        return EndpointHealth("live", "", 0.0)

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        """Opens it and begins; pictures and sound go to the two, on threads of the source.

        Raises:
            InputMissing, InputError, MissingComponent: it is not there, or cannot be used.
        """
        ...

    def close(self) -> None:
        """Ends it within a second, whatever it is waiting for; safe to call twice."""
        ...


class SoundSource(Protocol):
    """Gives sound: a microphone, a stream, silence."""

    @property
    def described(self) -> str: ...

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each; after `start`."""
        ...

    @property
    def sound_format(self) -> SoundFormat | None:
        """As of a `LiveSource`."""
        ...

    @property
    def health(self) -> EndpointHealth: ...

    def start(self, sound: Callable[[SoundPacket], None]) -> None:
        """Opens it and begins; raises as `LiveSource.start`."""
        ...

    def close(self) -> None:
        """Ends it within a second; safe to call twice."""
        ...


class LiveSink(Protocol):
    """Takes pictures and sound. `write` and `sound` never wait for a device or peer.

    A class that derives from it inherits the answers of the simplest sink."""

    @property
    def described(self) -> str:
        """The sink, as "virtual camera rtface (/dev/video10), 1280×720"."""
        ...

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each; after `open`."""
        return []

    @property
    def health(self) -> EndpointHealth:
        return EndpointHealth("live", "", 0.0)

    @property
    def wanted(self) -> bool:
        """False where it is known that nobody looks, so that work would be in vain."""
        return True

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Makes it ready for pictures like this, and for sound like this or none.

        Raises:
            OutputError, MissingComponent, UsageError: it is not there, is in use, or cannot take such pictures.
        """
        ...

    def write(self, frame: Frame) -> None:
        """Takes a picture of the form given. It is the caller's again when this returns."""
        ...

    def sound(self, packet: SoundPacket) -> None: ...

    def close(self) -> None:
        """Gives out what it has and ends, within a second; safe to call twice."""
        ...
