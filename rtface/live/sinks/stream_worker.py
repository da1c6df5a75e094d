"""The half of a stream's sink that lives in a process of its own: encodes, muxes, and hands on to an outlet.

Frames come in slots of shared memory (`WriteFrame`), sound in messages (`WriteSound`). Frames that come in a burst
are encoded one after the other; none are encoded while no peer takes them.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import av

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.shared_frames import FrameLayout, FrameRing
from rtface.errors import MissingComponent, UsageError
from rtface.live.protocols import SoundFormat, SoundPacket, VideoFormat
from rtface.live.sinks.live_encoder import EncoderSettings, LiveEncoder
from rtface.live.sinks.open_transport import open_transport
from rtface.live.sinks.stream_mux import StreamMux
from rtface.live.sinks.tcp_channel import ConnectionLost
from rtface.live.sinks.transport import Transport, TransportStatus
from rtface.util.redaction import redacted

_STATUS_S = 0.25
# Seconds of pictures that may wait for the encoder: those of a live run come in a burst after a stall.
BEHIND_S = 0.15
# Seconds in which what waits may still go out at the end.
CLOSING = 0.6


@dataclass(frozen=True, slots=True)
class WriteFrame:
    """A picture in a slot, shown at `time` seconds of the run; `corrected`: whether a face was corrected on it."""

    time: float
    slot: int
    picture: FrameLayout
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class WriteSound:
    """Sound at `time` seconds of the run."""

    time: float
    sound: SoundPacket


@dataclass(frozen=True, slots=True)
class StreamJob:
    """What a stream's child is to do.

    Attributes:
        url: with its secrets.
        form: of the pictures.
        sound: form of the sound, None for none.
        encoding: of the pictures.
        patient: whether to go on trying when the first connection does not work.
    """

    url: str
    form: VideoFormat
    sound: SoundFormat | None
    encoding: EncoderSettings
    patient: bool = False


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """The process runs; from now on it counts how long the sink takes."""


@dataclass(frozen=True, slots=True)
class SinkOpened:
    """The sink is there: what encodes, and what differs from what was asked for."""

    encoder: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinkRefused:
    """The sink cannot be opened.

    Attributes:
        why: in a few words, without the address.
        kind: of error: what was asked for cannot be, something is not installed, or the output is not there.
    """

    why: str
    kind: Literal["usage", "missing", "output"] = "output"


@dataclass(frozen=True, slots=True)
class SinkReport:
    """How the sink is: that of its outlet, pictures that it encoded, and those that it gave up, by cause."""

    status: TransportStatus
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])


class StreamWriter:
    """Takes pictures and sound in the order they come, and gives bytes to an outlet.

    Args:
        encoder: for the pictures.
        outlet: started.
        sound: form of the sound, None for none.

    Attributes:
        frames: pictures encoded.
        dropped: pictures given up, by the causes of `rtface.live.protocols.EndpointHealth`.
    """

    def __init__(self, encoder: LiveEncoder, outlet: Transport, *, sound: SoundFormat | None) -> None:
        self._encoder, self._outlet = encoder, outlet
        self._mux: StreamMux | None = None
        self._generation = 0
        self._sound = sound
        self.frames = 0
        self.dropped: Counter[str] = Counter()

    def picture(self, image: Callable[[], av.VideoFrame], seconds: float) -> None:
        """Encodes and sends a picture, unless nobody takes it; `image` is asked for it only then."""
        outlet = self._outlet
        generation, key = outlet.generation, outlet.wants_key()
        if not generation or outlet.behind:
            if outlet.status.viewers != 0:  # a server of ours that nobody watches gives nothing up
                self.dropped["network" if generation else "away"] += 1
            return
        if generation != self._generation:
            self._end()
        fresh = self._mux is None
        packets = self._encoder.encode(image(), seconds, key=key or fresh)
        self.frames += 1
        for packet in packets:
            if self._mux is None and packet.is_keyframe:
                self._generation = generation
                self._mux = StreamMux(outlet.format, partial(outlet.write, generation), width=self._encoder.width,
                                      height=self._encoder.height, rate=self._encoder.rate, sound=self._sound)
            if self._mux is not None:
                self._mux.picture(packet)

    def sound(self, sound: SoundPacket, seconds: float) -> None:
        """Sends sound beside the pictures."""
        if self._mux is not None and self._generation == self._outlet.generation:
            self._mux.sound(sound, seconds)

    def close(self) -> None:
        """Hands on what waits in the container."""
        self._end()

    def _end(self) -> None:
        mux, self._mux = self._mux, None
        if mux is not None:
            mux.close()


def stream(parent: ParentProcess, job: StreamJob) -> None:
    """What the child of a `rtface.live.sinks.stream_sink.StreamSink` runs until its parent asks it to end."""
    writer: StreamWriter | None = None
    reporting = threading.Lock()  # or an older report could come after a newer

    def report() -> None:
        with reporting:
            if writer is not None:
                parent.send(SinkReport(outlet.status, writer.frames, Counter(writer.dropped)))

    parent.send(WorkerStarted())
    try:
        outlet = open_transport(job.url, report)
        encoder = LiveEncoder(job.form, job.encoding)
        outlet.start(patient=job.patient)
    except (UsageError, MissingComponent) as error:
        parent.send(SinkRefused(redacted(str(error)), "usage" if isinstance(error, UsageError) else "missing"))
        return
    except ConnectionLost as error:
        parent.send(SinkRefused(str(error)))
        return
    writer = StreamWriter(encoder, outlet, sound=job.sound)
    parent.send(SinkOpened(encoder.name, tuple(encoder.notes)))
    report()
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(_STATUS_S):
            report()

    threading.Thread(target=tick, name="rtface-report", daemon=True).start()
    assert parent.frames is not None
    take_all(parent, parent.frames, writer)
    stop.set()
    writer.close()
    outlet.close(CLOSING)
    report()


def take_all(parent: ParentProcess, frames: FrameRing, writer: StreamWriter) -> None:
    """Gives a writer what the parent sends, until it asks to end: all sound, and the pictures in order. Where the
    encoder does not keep up, the oldest picture is given up once those that wait are too far apart."""
    waiting: deque[WriteFrame] = deque()
    while True:
        message = parent.receive(0 if waiting else None)
        if message is None and not waiting:
            return
        while message is not None:
            if isinstance(message, WriteFrame):
                waiting.append(message)
                while waiting[-1].time - waiting[0].time > BEHIND_S:
                    frames.free(waiting.popleft().slot)
                    writer.dropped["encoder"] += 1
            elif isinstance(message, WriteSound):
                writer.sound(message.sound, message.time)
            message = parent.receive(0) if not parent.gone else None
        if waiting:
            _show(writer, frames, waiting.popleft())


def _show(writer: StreamWriter, frames: FrameRing, shown: WriteFrame) -> None:
    taken = False

    def image() -> av.VideoFrame:
        nonlocal taken
        taken = True
        return frames.get(shown.slot, shown.picture)

    writer.picture(image, shown.time)
    if not taken:
        frames.free(shown.slot)

