"""Messages between a live run and its child processes.

The children read sources and write sinks. Times are seconds of `time.monotonic()`, which all processes of a machine
share. Stamps are seconds of the source's own clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from rtface.concurrency.shared_frames import FrameLayout
from rtface.config.options import EncodeOptions
from rtface.errors import RtfaceError
from rtface.frame import Color, Display, Quantisers
from rtface.live.protocols import EndpointState, SoundFormat, VideoFormat
from rtface.media.files.workfile import Target
from rtface.media.marks.changed_frames import ChangedFrames
from rtface.media.marks.provenance import Change

# -- sources: the run sends a SourceRequest, the worker responds with a SourceMessage -------------------------------


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """Asks a read worker to open a source. When sent again, it changes `resting` or ends `held`.

    Attributes:
        kind: "camera", "stream", "file", or "microphone".
        name: number, name or path of a device, URL, or path of a file. May contain secrets.
        size: width and height requested from a camera; None for a size suitable for calls.
        fps: frames a second requested from a camera.
        seek: seconds to skip at the start of a film.
        variant: variant of an HLS list to read (``--variant``).
        format: FFmpeg's name of the device's input format; "" for that of the platform.
        video, sound: whether video and sound are requested.
        buffer: seconds of a network stream's jitter buffer; None to adapt it to the jitter.
        sound_format: format of the sound to send; None for one that suits the source.
        resting: whether no output has a viewer; if so, the source sends only an occasional frame.
        held: whether a film, or a stream that is recorded whole, pauses after its first frame until outputs are open.
        loop: whether a film restarts at its end.
        live: whether an earlier connection was a live stream; the source then counts as one even if data arrives fast.
        whole: whether no frame may be dropped, because all outputs are files.
    """

    kind: str
    name: str = field(repr=False)
    size: tuple[int, int] | None = None
    fps: Fraction | None = None
    seek: float = 0.0
    variant: str = "best"
    format: str = ""
    video: bool = True
    sound: bool = True
    buffer: float | None = 0.0
    sound_format: SoundFormat | None = None
    resting: bool = False
    loop: bool = False
    held: bool = False
    live: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class SourceOpened:
    """Reports that the source is open.

    Attributes:
        described: codec, rate and sound, without the source's name and the frames' size: "mjpeg, 30 fps".
        rate: nominal frames a second; 0 without video.
        notes: differences from the request.
        sound: format of the source's sound; None if there is none yet.
        film: whether the source has an end.
        label: name that a device reports; "" for other sources.
    """

    described: str
    rate: Fraction
    notes: tuple[str, ...]
    sound: SoundFormat | None
    film: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class VideoFrameReady:
    """Reports a decoded frame in shared memory.

    Attributes:
        slot: number of the slot in the frame ring.
        layout: layout of the frame in the slot.
        stamp: presentation time; None if the source has no clock, or uses the monotonic clock (see `captured`).
        captured: time when the frame became available: a camera driver's timestamp, or the due time of the packet that
            completed the frame (its arrival plus the jitter buffer's delay).
        color, display: colour and orientation of the frame.
        quantisers: how coarsely the frame was quantised, if known.
    """

    slot: int
    layout: FrameLayout
    stamp: float | None
    captured: float
    color: Color
    display: Display
    quantisers: Quantisers | None = None


@dataclass(frozen=True, slots=True)
class SoundPacketReady:
    """A frame of AAC with its ADTS header. `stamp` and `captured` are as in `VideoFrameReady`."""

    data: bytes
    stamp: float | None
    captured: float
    duration: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Reports a read worker's state, four times a second even without data.

    Attributes:
        quiet: seconds since the source last delivered data.
        counts: counts since opening, by name in the run's statistics: "bytes", "dropped:source" (frames replaced by
            newer ones), "frames_corrupt" (damaged, shown or not), "frames_missing" (never arrived),
            "packets_undecoded", "sounds_undecoded".
        buffer: delay in seconds that the jitter buffer adds at present.
        backlog: seconds by which delivery lags the source's clock, minus the smallest lag since opening.
        notes: conversions that the source's frames need, one line each.
        over: whether a film has reached its end.
    """

    quiet: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    buffer: float = 0.0
    backlog: float = 0.0
    notes: tuple[str, ...] = ()
    over: bool = False


SourceMessage = SourceOpened | VideoFrameReady | SoundPacketReady | Heartbeat | RtfaceError
"""An `RtfaceError` contains the reason why the source cannot be opened."""


# -- sinks: the run sends a job, then WriteFrame and SoundPacket; the worker responds with SinkOpened or an error -----


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Asks a worker to encode and publish a stream.

    Attributes:
        url: address, including secrets.
        video: format of the frames.
        sound: format of the sound; None without sound.
        options: encoder options: bitrate, preset, encode.
        patient: whether to retry when the first connection fails.
    """

    url: str
    video: VideoFormat
    sound: SoundFormat | None
    options: EncodeOptions
    patient: bool = False


@dataclass(frozen=True, slots=True)
class RecordJob:
    """Asks a worker to encode a recording into a file.

    Attributes:
        work: file to write.
        target: final name of the file.
        container: FFmpeg's name of the container.
        video: format of the frames.
        sound: format of the sound; None without sound.
        options: encoder options: codec, crf, preset.
        metadata: tags to write.
    """

    work: Path
    target: Target
    container: str
    video: VideoFormat
    sound: SoundFormat | None
    options: EncodeOptions
    metadata: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class WriteFrame:
    """A frame in shared memory. `time` is its time in the output in seconds; `change` describes how it was changed."""

    time: float
    slot: int
    layout: FrameLayout
    change: Change = Change.NOTHING


@dataclass(frozen=True, slots=True)
class SinkOpened:
    """Reports that the sink is open. Contains the encoder's name, and differences from the request."""

    encoder: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinkReport:
    """State and counters of a sink; the fields are those of `rtface.live.protocols.EndpointHealth`.

    Attributes:
        viewers: number of connected viewers if the sink is a server; otherwise None.
        dropped: dropped frames, by cause.
    """

    state: EndpointState
    detail: str = ""
    bytes: int = 0
    reopened: int = 0
    viewers: int | None = None
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def after(self, earlier: SinkReport) -> SinkReport:
        """Returns the report with the counts of an earlier child added."""
        return replace(
            self,
            bytes=earlier.bytes + self.bytes,
            reopened=earlier.reopened + self.reopened,
            frames=earlier.frames + self.frames,
            dropped=earlier.dropped + self.dropped,
        )


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """Reports the end of a recording. The recording is complete if `why` is empty. `path` is the complete or partial
    file; None without a file. `changed` lists the changes of each frame."""

    path: str | None
    why: str
    changed: ChangedFrames = field(default_factory=ChangedFrames)
