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
    """Size, pixel format, rate and colour of the frames of a source or sink.

    Attributes:
        width, height: in samples.
        pix_fmt: FFmpeg's name.
        rate: nominal frames a second.
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
    """Rate and channels of a run's sound, from its beginning to its end: AAC-LC in frames of 1024 samples.

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
    """

    data: bytes
    time: float
    duration: float


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """State and counters of a source or sink.

    Attributes:
        state: "opening" until it was there once; "live"; "away" when it is lost and being opened again; "closed".
        detail: in a few words, without secrets: what is wrong, or what is there.
        since: when the state began.
        frames: how many came from it, or were taken by it.
        dropped: of them, those that were given up before the run or the peer had them.
        bytes: what a network peer took or gave so far, None for devices.
        reopened: how often it was lost and came back.
        causes: of an output's dropped frames, where it knows them: "network" did not take them in time, "encoder" was
            not done with those before, "away" while no one was connected.
        buffer: seconds that its frames wait in a jitter buffer, before `Frame.captured_at`.
        backlog: seconds by which a source's frames come later than at best since it was opened: they wait somewhere
            before this run has them.
        size: width and height of a virtual camera, once it is open.
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
        """It in its next state, which begins `now` unless it is the same."""
        began = time.monotonic() if now is None else now
        return replace(self, state=state, detail=detail, since=self.since if state == self.state else began)


@dataclass(frozen=True, slots=True)
class MediaDevice:
    """One device that a run can read, or one target that a sink can write to.

    Attributes:
        kind: what it is.
        address: what to type, as "camera:0", "vcam:rtface".
        name: its own.
        node: its path, "" where it has none.
        state: "free", "in use", "no permission" or another in a few words; "" where that is not known.
        advice: what to do where it cannot be used, or not well; "" where it can.
        users: who has it open: programs with their pid.
        modes: a line for each size and format.
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
"""Seconds by which a source's frames come late from which on that is said."""
REST_S = 0.5
"""Seconds from one frame to the next while no output has a viewer."""


class Endpoint(Protocol):
    """What every source and sink of a live run has. A class that derives from it, or from one of the
    protocols below, inherits the answers of the simplest one."""

    @property
    def described(self) -> str:
        """The device or address and its format, without secrets: "camera 0 (Integrated Camera),
        1280×720 mjpeg, 30 fps"."""
        ...

    @property
    def notes(self) -> list[str]:
        """What differs from what was asked for, a line each; once it is open."""
        return []

    @property
    def health(self) -> EndpointHealth:
        return EndpointHealth("live", "", 0.0)

    def close(self) -> None:
        """Ends it within a second, whatever it is waiting for; a sink gives out what it has. Safe to
        call twice."""
        ...


class SoundSource(Endpoint, Protocol):
    """Gives sound: a microphone, a stream, silence; and frames, if it is a `LiveSource`."""

    @property
    def sound_format(self) -> SoundFormat | None:
        """Format of all sound that comes, whatever the source sends; None where none can come; after `start`."""
        return None

    def start(self, frame: Callable[[Frame], None], sound: Callable[[SoundPacket], None]) -> None:
        """Opens it and begins; frames and sound go to the two, on threads of the source.

        Raises:
            InputMissing, InputError, MissingComponent: it is not there, or cannot be used.
        """
        ...


class LiveSource(SoundSource, Protocol):
    """Gives frames and sound as they come, from its own threads or process.

    `Frame.captured_at` is when the frame became available: captured, decoded from what came so far,
    and out of the jitter buffer. `Frame.pts` counts `TIME_BASE` on the same clock, rises always, and
    keeps the distance to the sound that came with it. When the source is lost it is opened again
    until `close`; what comes then may have another size.
    """

    @property
    def video_format(self) -> VideoFormat:
        """Format of the frames that came last; after `start`."""
        ...

    @property
    def ended(self) -> bool:
        """True when nothing comes any more: a film that was played to its end. Never of a camera or stream."""
        return False

    def hold(self, held: bool) -> None:
        """Before `start`: a film waits at its first frame until it is held no longer, and is then played from there.
        Other sources do not wait."""
        return

    def rest(self, resting: bool) -> None:
        """No output has a viewer, or one has again. A source that rests gives a frame every `REST_S` seconds
        where that takes less of the processor; its sound stays whole."""
        return


class LiveSink(Endpoint, Protocol):
    """Takes frames and sound. `write` and `sound` never wait for a device or peer.

    A sink is made of its address and the run's options, and of the run's description as the keyword `metadata`.
    """

    @classmethod
    def list(cls) -> Sequence[MediaDevice]:
        """The targets that are there, of a sink that can tell; for ``rtface devices``, ``rtface doctor`` and the
        studio."""
        return ()

    @classmethod
    def why_unusable(cls) -> str | None:
        """Why no run on this machine can use it, and what to do, in one line; None where one can."""
        return None

    @property
    def wanted(self) -> bool:
        """False where it is known that the output has no viewer, so that work would be in vain."""
        return True

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Makes it ready for frames of a format, and for sound of a format or none.

        Raises:
            OutputError, MissingComponent, UsageError: it is not there, is in use, or cannot take such frames.
        """
        ...

    def write(self, frame: Frame) -> None:
        """Takes a frame of the format given. It is the caller's again when this returns."""
        ...

    def sound(self, packet: SoundPacket) -> None:
        """Takes a packet of sound; an output without sound ignores it."""
        return
