"""Messages between a live run and its child processes, which read sources and write sinks.

Times are seconds of `time.monotonic()`, which all processes of a machine share. Stamps are seconds of the
source's own clock.
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

# -- sources: the run sends a SourceRequest, the worker answers with a SourceMessage ---------------------------------


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """Request to a read worker: the source to open. Sent again, it changes `resting`, and ends `held`.

    Attributes:
        kind: "camera", "stream", "file", or "microphone".
        name: number, name or path of a device, URL, or path of a file. Holds secrets.
        size: width and height asked of a camera, None for what suits a call.
        fps: frames a second asked of a camera.
        seek: seconds of a film to skip.
        variant: which of an HLS or DASH list is read (``--variant``).
        format: FFmpeg's name of the device's format in place of the platform's own, "" for that.
        video, sound: whether video and sound are wanted.
        buffer: seconds of a network stream's jitter buffer, None for as long as its jitter needs.
        sound_format: of the sound that is sent, None for what suits the source.
        resting: whether no output has a viewer; it gives a frame now and then.
        held: whether a film, or what is recorded whole, waits behind its first frame: outputs are not there yet.
        loop: whether a film begins again at its end.
        live: whether it was a stream before, and is none the less for coming fast.
        whole: whether no frame may be dropped, as all outputs are files.
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
    """The source is open.

    Attributes:
        described: codec, rate and sound, without the source's name and the frames' size: "mjpeg, 30 fps".
        rate: nominal frames a second; 0 without video.
        notes: differences from what was asked for.
        sound: format of the sound that comes with it, None where there is none yet.
        film: whether it has an end.
        label: the name a device gives itself, "" for other sources.
    """

    described: str
    rate: Fraction
    notes: tuple[str, ...]
    sound: SoundFormat | None
    film: bool
    label: str = ""


@dataclass(frozen=True, slots=True)
class VideoFrameReady:
    """A decoded frame lies in shared memory.

    Attributes:
        slot, layout: place and layout in the frame ring.
        stamp: presentation time; None where the source has no clock, or its clock is the monotonic one.
        captured: when the frame became available: a camera driver's own time; else when the packet was due
            that let the decoder give the frame, which is its arrival plus the jitter buffer's delay.
        color, display: how to read it.
        quantisers: how coarsely it was quantised, where that is known.
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
    """A frame of AAC with its ADTS header; `stamp` and `captured` as of `VideoFrameReady`."""

    data: bytes
    stamp: float | None
    captured: float
    duration: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """State of a read worker, sent four times a second even while the source gives nothing.

    Attributes:
        quiet: seconds since the source last gave data.
        counts: since it opened, by name of the run's statistics: "bytes", "dropped:source" (frames, because newer ones
            were there), "frames_corrupt" (damaged, whether they were shown or not), "frames_missing" (they did not
            come), "packets_undecoded", "sounds_undecoded".
        buffer: seconds that the jitter buffer adds now.
        backlog: seconds by which what was delivered is behind its own clock, against the best since the opening.
        notes: conversions that its frames need, a line each.
        over: whether a film came to its end.
    """

    quiet: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    buffer: float = 0.0
    backlog: float = 0.0
    notes: tuple[str, ...] = ()
    over: bool = False


SourceMessage = SourceOpened | VideoFrameReady | SoundPacketReady | Heartbeat | RtfaceError
"""An error says why the source cannot be opened."""


# -- sinks: the run sends a job, then WriteFrame and SoundPacket; the worker answers with SinkOpened or an error -------


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Job of a stream's worker: encode and publish.

    Attributes:
        url: with its secrets.
        video: format of the frames.
        sound: format of the sound, None for none.
        options: of the encoder: bitrate, preset, encode.
        patient: whether to retry when the first connection fails.
    """

    url: str
    video: VideoFormat
    sound: SoundFormat | None
    options: EncodeOptions
    patient: bool = False


@dataclass(frozen=True, slots=True)
class RecordJob:
    """Job of a recording's worker: encode into a file.

    Attributes:
        work: the file to write.
        target: the file's final name.
        container: FFmpeg's name of the container.
        video: format of the frames.
        sound: format of the sound, None for none.
        options: of the encoder: codec, crf, preset.
        metadata: tags of the film.
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
    """A frame in shared memory, to be shown at `time` seconds of the run; `change`: what was changed on it."""

    time: float
    slot: int
    layout: FrameLayout
    change: Change = Change.NOTHING


@dataclass(frozen=True, slots=True)
class SinkOpened:
    """The sink is open: the encoder's name, and differences from what was asked for."""

    encoder: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinkReport:
    """State and counters of a sink; the fields are those of `rtface.live.protocols.EndpointHealth`.

    Attributes:
        viewers: of a server of ours, how many are connected; None elsewhere.
        dropped: frames given up, by cause.
    """

    state: EndpointState
    detail: str = ""
    bytes: int = 0
    reopened: int = 0
    viewers: int | None = None
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def after(self, before: SinkReport) -> SinkReport:
        """The report with the counts of a child before added."""
        return replace(
            self,
            bytes=before.bytes + self.bytes,
            reopened=before.reopened + self.reopened,
            frames=before.frames + self.frames,
            dropped=before.dropped + self.dropped,
        )


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """The recording is over: complete where `why` is empty; `path` is the file that is left, None for none, and
    `changed` what was changed on which frames."""

    path: str | None
    why: str
    changed: ChangedFrames = field(default_factory=ChangedFrames)
