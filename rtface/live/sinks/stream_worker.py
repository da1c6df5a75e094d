"""Encodes, muxes and sends a stream in a child process.

Frames arrive in slots of shared memory (`WriteFrame`), sound in messages (`SoundPacket`). Frames of a burst are encoded
one after the other. No frames are encoded while no peer accepts data.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty
from urllib.parse import parse_qs, urlsplit

import av

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.shared_frames import FrameRing
from rtface.concurrency.threads import start_thread
from rtface.errors import MissingComponent, OutputError, UsageError
from rtface.live.messages import SinkOpened, SinkReport, StreamJob, WriteFrame
from rtface.live.protocols import SoundFormat, SoundPacket
from rtface.live.sinks.live_encoder import LiveEncoder
from rtface.live.sinks.rtmp import RtmpLink, checked_url
from rtface.live.sinks.srt_link import SrtLink
from rtface.live.sinks.stream_mux import StreamMux
from rtface.live.sinks.tcp_channel import ConnectionLost
from rtface.live.sinks.transports import ListenTransport, Reports, ServerTransport, Transport

_STATUS_S = 0.25
# Seconds of frames that may wait for the encoder, because frames arrive in a burst after a stall.
BEHIND_S = 0.15
# Time limit for sending the remaining bytes at the end.
CLOSING_S = 0.6


class StreamWriter:
    """Encodes and muxes frames and sound for a transport.

    Args:
        encoder: encoder of the frames.
        transport: a started transport.
        sound: format of the sound; None without sound.

    Attributes:
        frames: number of encoded frames.
        dropped: dropped frames, by the causes of `rtface.live.protocols.EndpointHealth`.
    """

    def __init__(self, encoder: LiveEncoder, transport: Transport, *, sound: SoundFormat | None) -> None:
        self._encoder, self._transport = encoder, transport
        self._mux: StreamMux | None = None
        self._generation = 0
        self._sound = sound
        self.frames = 0
        self.dropped: Counter[str] = Counter()

    def write_frame(self, image: Callable[[], av.VideoFrame], seconds: float) -> bool:
        """Encodes and sends a frame if a peer accepts data. Calls `image` only then. Returns whether it did."""
        transport = self._transport
        generation, key = transport.generation, transport.wants_key()
        if not generation or transport.behind:
            if transport.status.viewers != 0:  # without viewers, a server's frames do not count as dropped
                self.dropped["network" if generation else "away"] += 1
            return False
        if generation != self._generation:
            self.close()
        new_container = self._mux is None
        packets = self._encoder.encode(image(), seconds, key=key or new_container)
        self.frames += 1
        for packet in packets:
            if self._mux is None and packet.is_keyframe:
                self._generation = generation
                self._mux = StreamMux(transport, generation, self._encoder, self._sound)
            if self._mux is not None:
                self._mux.write_frame(packet)
        return True

    def sound(self, sound: SoundPacket, seconds: float) -> None:
        """Sends a packet of sound."""
        if self._mux is not None and self._generation == self._transport.generation:
            self._mux.sound(sound, seconds)

    def close(self) -> None:
        """Flushes the container."""
        mux, self._mux = self._mux, None
        if mux is not None:
            mux.close()


def open_transport(url: str, reports: Reports, bitrate: int) -> Transport:
    """Creates the transport for a URL without starting it.

    Args:
        url: address, including secrets.
        reports: receives the transport's status, as in `Transport`.
        bitrate: bits a second.

    Raises:
        UsageError: streams cannot be sent to this address.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in ("rtmp", "rtmps"):
        return ServerTransport("flv", partial(RtmpLink, checked_url(url), bitrate), reports)
    query = parse_qs(url.partition("?")[2], keep_blank_values=True)
    if scheme == "srt":
        return ServerTransport("mpegts", partial(SrtLink, url), reports, listens=query.get("mode") == ["listener"])
    if scheme != "tcp" or query.get("listen", ["0"]) == ["0"]:
        raise UsageError("add ?listen to the address, because rtface waits for viewers to connect", code="tcp_listen")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None:
        raise UsageError("the address needs a port: {scheme}://HOST:PORT", code="port_missing", scheme=scheme)
    return ListenTransport((parts.hostname or "127.0.0.1", port), reports)


def stream(parent: ParentProcess, job: StreamJob) -> None:
    """Runs in the child process of a `StreamSink`: publishes until the parent asks it to end."""
    reports = Reports()
    try:
        encoder = LiveEncoder(job.video, job.options)
        transport = open_transport(job.url, reports, encoder.bitrate)
        transport.start(patient=job.patient)
    except (UsageError, MissingComponent) as error:
        parent.send(error)
        return
    except ConnectionLost as error:
        parent.send(OutputError(error.args[0]))
        return
    writer = StreamWriter(encoder, transport, sound=job.sound)
    parent.send(SinkOpened(encoder.name, tuple(encoder.notes)))
    reporting = start_thread("report", report, parent, writer, transport, reports)
    assert parent.frames is not None
    take_all(parent, parent.frames, writer)
    writer.close()
    transport.close(CLOSING_S)
    reports.put(None)
    reporting.join()


def report(parent: ParentProcess, writer: StreamWriter, transport: Transport, reports: Reports) -> None:
    """Sends the newest status for every report, at least every `_STATUS_S`."""
    entry: object = True
    while entry is not None:
        parent.send(_current_report(writer, transport))
        with suppress(Empty):
            entry = reports.get(timeout=_STATUS_S)
    parent.send(_current_report(writer, transport))


def _current_report(writer: StreamWriter, transport: Transport) -> SinkReport:
    return replace(transport.status, frames=writer.frames, dropped=Counter(writer.dropped))


def take_all(parent: ParentProcess, frames: FrameRing, writer: StreamWriter) -> None:
    """Writes sound and frames from the parent until it asks to end. If the encoder does not keep up, drops
    the oldest frames while the waiting frames span more than `BEHIND_S`."""
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
            elif isinstance(message, SoundPacket):
                writer.sound(message, message.time)
            message = parent.receive(0) if not parent.gone else None
        if waiting:
            frame = waiting.popleft()
            if not writer.write_frame(partial(frames.get, frame.slot, frame.layout), frame.time):
                frames.free(frame.slot)
