"""What a process that reads a camera, stream or microphone tells the run. Times are of `time.monotonic()`, which all
processes of a machine share; stamps are seconds of the source's own clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from rtface.concurrency.shared_frames import FrameLayout
from rtface.frame import Color, Display
from rtface.live.protocols import SoundFormat

SOUND_BEGAN = "its sound has begun"
"""Why a reader gives up a stream whose sound it could not know when it opened it: another opening can."""


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What to open.

    Attributes:
        kind: "camera", "stream", "file", or "microphone".
        name: number, name or path of a device, URL, or path. Holds secrets.
        size: width and height asked of a camera, None for what suits a call.
        fps: pictures a second asked of a camera.
        seek: seconds of a film to leave out.
        format: FFmpeg's name of the device's format instead of the platform's own, "" for that.
        pictures, sound: what is wanted of it.
        buffer: seconds of a network stream's jitter buffer, None for as long as its jitter needs.
        sound_form: of the sound that is given, None for what suits the source.
        again_for_sound: whether the reader ends with `SOUND_BEGAN` where sound begins after the opening.
    """

    kind: str
    name: str = field(repr=False)
    size: tuple[int, int] | None = None
    fps: Fraction | None = None
    seek: float = 0.0
    format: str = ""
    pictures: bool = True
    sound: bool = True
    buffer: float | None = 0.0
    sound_form: SoundFormat | None = None
    again_for_sound: bool = True


@dataclass(frozen=True, slots=True)
class SourceOpened:
    """It is there.

    Attributes:
        described: what was got, without the source's name and the pictures' size: "mjpeg, 30 fps".
        rate: nominal pictures a second; 0 without pictures.
        aspect: of one sample.
        notes: what differs from what was asked for.
        sound: form of the sound that comes with it, None where there is none yet.
        film: it has an end.
        label: the name a device gives itself, "" for other sources.
    """

    described: str
    rate: Fraction
    aspect: Fraction
    notes: tuple[str, ...]
    sound: SoundFormat | None
    film: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class VideoFrameReady:
    """A picture.

    Attributes:
        slot, picture: where it lies in the ring.
        stamp: presentation time, None where the source's clock is the monotonic one, or it has none.
        captured: when it was there: the driver's time of a camera; else when the packet was due that let the decoder
            give it, which is its arrival and the jitter buffer's delay.
        color, display: how to read it.
    """

    slot: int
    picture: FrameLayout
    stamp: float | None
    captured: float
    color: Color
    display: Display


@dataclass(frozen=True, slots=True)
class SoundPacketReady:
    """A frame of AAC with its ADTS header; `stamp` and `captured` as of a picture."""

    data: bytes
    stamp: float | None
    captured: float
    duration: float
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Comes several times a second, whatever else does.

    Attributes:
        quiet: seconds since the source last gave anything.
        bytes: what it gave.
        dropped: pictures that were given up since it opened, because later ones were there.
        errors: packets that could not be decoded.
        buffer: seconds that the jitter buffer adds now.
    """

    quiet: float
    bytes: int
    dropped: int
    errors: int
    buffer: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceRefused:
    """It could not be opened: `kind` names the error of `rtface.errors`, `text` is its message."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class SourceNote:
    """What was found out about the pictures, and is done about it."""

    text: str


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The end of a film."""


SourceMessage = SourceOpened | SourceNote | VideoFrameReady | SoundPacketReady | Heartbeat | SourceRefused | EndOfStream
