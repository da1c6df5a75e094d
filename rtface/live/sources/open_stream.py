"""Opens streams and films for a live run, with one-line error messages."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from rtface.config.addresses import LIVE_SCHEMES
from rtface.errors import InputError, InputMissing
from rtface.live.messages import SourceRequest
from rtface.live.sources.srt import SrtConnection
from rtface.media.read.container import (
    NETWORK,
    NO_TIMES,
    choose_video,
    is_silent,
    open_container,
    rate_of,
)
from rtface.media.read.pipe import PipeReader, is_pipe
from rtface.media.read.variants import kept_streams
from rtface.redaction import shown
from rtface.util.av_input import open_input

# Without "nobuffer", which would discard the packets read during opening, including the first I-frame.
_QUICK = {"analyzeduration": "1000000"}
# Time limit in microseconds for a response; `ReadProcess` has a time limit, too. FFmpeg may take twice as long, and
# then returns a last buffered packet. RTMP must never get the option "timeout", because it makes FFmpeg a server.
_TIMEOUT_US = "5000000"
_OPTIONS: dict[str, dict[str, str]] = {
    # The header contains the frame rate. So no frames are counted, and the stream is open after its first I-frame.
    "rtmp": {
        "analyzeduration": "3000000",
        "fpsprobesize": "3",
        "probesize": "131072",
        "rw_timeout": _TIMEOUT_US,
        "rtmp_live": "live",
    },
    "rtsp": _QUICK | {"rtsp_transport": "tcp", "timeout": _TIMEOUT_US},
    "udp": _QUICK | {"probesize": "500000", "overrun_nonfatal": "1", "timeout": _TIMEOUT_US},
    "tcp": _QUICK | {"probesize": "500000", "rw_timeout": _TIMEOUT_US},
    "srt": _QUICK | {"probesize": "500000"},
    "rtp": _QUICK,
    "http": _QUICK | {"rw_timeout": "10000000", "formatprobesize": "65536", "fpsprobesize": "3", "http_multiple": "0"},
}
# Options of a pipe: analyses half a second by timestamps.
_PIPE = {"analyzeduration": "500000", "fpsprobesize": "3", "formatprobesize": "65536"}
# Microseconds of a second analysis, if the first one finds only sound (RTMP does not announce video before its I-frame)
# or a film's sound starts later.
_LONGER_US = "6000000"
# Errors of hosts that accept RTSP only within HTTP, as some cameras and proxies do.
_NOT_RTSP = (av.InvalidDataError, av.EOFError, ConnectionResetError)
# Frames a second for a source without a plausible rate.
_RATE = Fraction(30)


@dataclass(slots=True)
class OpenedInput:
    """An opened source.

    Attributes:
        container: PyAV's container.
        video, sound: requested streams; None if the source does not have them.
        rate: nominal frames a second.
        by_arrival: whether frames arrive in real time; other sources are paced by their timestamps.
        probed: whether the arrival of packets may prove `by_arrival` wrong.
        timed: whether the format has times; frames of other formats are stamped on arrival.
        pieces: whether the source arrives in segments, like a playlist.
        film: whether the source has an end, and can be reopened at any position.
        monotonic: whether timestamps should be on the monotonic clock.
        notes: differences from the request.
        label: name that a device reports.
    """

    container: InputContainer
    video: VideoStream | None
    sound: AudioStream | None
    rate: Fraction = _RATE
    by_arrival: bool = True
    probed: bool = False
    timed: bool = True
    pieces: bool = False
    film: bool = False
    monotonic: bool = False
    notes: list[str] = field(default_factory=list[str])
    label: str = ""

    @property
    def played(self) -> bool:
        """True if the source waits for its reader and has an end."""
        return self.film or not (self.by_arrival or self.pieces)

    @property
    def alone(self) -> bool:
        """True if each frame can be decoded without other frames."""
        return self.video is not None and self.video.codec_context.codec.intra_only

    @property
    def described(self) -> str:
        """Description without the size, which may change: "h264, 30 fps, sound aac"."""
        parts: list[str] = []
        if self.video is not None:
            context = self.video.codec_context
            kind = context.pix_fmt or "" if context.codec.name == "rawvideo" else context.codec.canonical_name
            parts += [kind, f"{float(self.rate):.4g} fps"]
        if self.sound is not None:
            parts.append(f"sound {self.sound.codec_context.codec.canonical_name}")
        return ", ".join(parts)


def open_stream(request: SourceRequest) -> OpenedInput:
    """Opens a stream or a film. This may block, so call it in a process that can be killed.

    Raises:
        InputMissing, InputError, MissingComponent: the source does not exist, or cannot be used.
    """
    if request.kind != "file":
        opened = _open_url(request)
    elif is_pipe(request.name):
        reader = PipeReader(request.name, Event())
        opened = _select(open_container(request.name, reader, _PIPE), request, live=True, probed=True)
    else:
        opened = _select(open_container(request.name), request, live=False)
    if opened.film and request.seek:
        with suppress(av.FFmpegError):  # if seeking fails, reading starts at the beginning
            opened.container.seek(round(request.seek * 1e6))
    return opened


def _open_url(request: SourceRequest) -> OpenedInput:
    scheme = urlsplit(request.name.partition("?")[0]).scheme.lower()
    options = {"protocol_whitelist": NETWORK} | _OPTIONS.get(scheme, _OPTIONS.get(scheme.removesuffix("s"), {}))
    source: str | SrtConnection = request.name
    if scheme == "srt":
        source = SrtConnection(request.name, sending=False)
    try:
        container = open_input(source, container_options=options, format="mpegts" if scheme == "srt" else None)
        film = container.size > 0 and container.format.name != "hls"
        if (film and any(map(is_silent, container.streams.audio))) or (
            request.video and scheme.startswith("rtmp") and not container.streams.video
        ):
            container.close()
            container = open_input(source, options=options | {"analyzeduration": _LONGER_US})
    except av.FFmpegError as error:
        with suppress(av.FFmpegError):
            if scheme == "rtsp" and isinstance(error, _NOT_RTSP):
                return _select(open_input(source, options=options | {"rtsp_transport": "http"}), request, live=True)
        raise _refusal(request.name, error) from None
    # A source that is not a playlist, and whose length the server does not report, is not seekable and has no end yet.
    # For endless motion JPEG, cameras report an arbitrary length. Senders of other schemes may send as fast as they are
    # read.
    always_live, endless = scheme in LIVE_SCHEMES, container.size <= 0 or container.format.name == "mpjpeg"
    return _select(container, request, live=always_live or endless, probed=not always_live)


def _select(container: InputContainer, request: SourceRequest, *, live: bool, probed: bool = False) -> OpenedInput:
    """Selects the requested streams of a container. `live` means that data arrives in real time, except segments."""
    name, video, notes, streams = shown(request.name), None, list[str](), list(container.streams)
    if request.video:
        video, note = choose_video(container, name, variant=request.variant)
        streams = kept_streams(container, video)
        if getattr(note, "code", "") == "variant_read":  # other notes are about copied videos; here, none are copied
            notes = [str(note).removeprefix(f"{name}: ")]
        context = video.codec_context
        # Frame threads would delay the output, because each of them keeps a frame.
        context.thread_type, context.thread_count = "SLICE", 2
    sound = None
    if request.sound:
        usable = (s for s in streams if isinstance(s, AudioStream) and s.codec_context and s.codec_context.sample_rate)
        sound = next(usable, None)
    for stream in container.streams:  # otherwise all are fetched, and a damaged caption would end the run
        stream.discard = Discard.default if stream in (video, sound) else Discard.all
    if video is None and sound is None:
        raise InputError("{name}: has no sound", code="stream_no_sound", name=name)
    rate = plausible(*rate_of(video)) if video is not None else Fraction(0)
    pieces, timed = container.format.name == "hls", not container.format.flags & NO_TIMES
    live = live and not pieces
    film, probed = not live and (not pieces or bool(container.duration)), live and (probed or not timed)
    return OpenedInput(container, video, sound, rate, live, probed, timed, pieces, film, notes=notes)


def plausible(rate: Fraction, trusted: bool) -> Fraction:
    """Corrects a stream's frame rate. An impossible rate, such as a time base, becomes the default. A rate that was
    counted from a few frames is rounded to the nominal rate."""
    if not trusted or not 1 <= rate <= 240:
        return _RATE
    integer_rate = Fraction(round(rate))
    ntsc_rate = integer_rate * 1000 / 1001
    if abs(rate - ntsc_rate) <= ntsc_rate / 5000:
        return ntsc_rate
    return integer_rate if abs(rate - integer_rate) <= integer_rate / 50 else rate


def _refusal(url: str, error: av.FFmpegError) -> InputError:
    """Explains why a stream could not be opened."""
    name, parts = shown(url), urlsplit(url)
    why: Any = error.strerror
    if isinstance(error, av.ConnectionRefusedError):
        return InputMissing(
            "{name}: nothing is listening there; start the server, or check host and port",
            code="stream_closed_host",
            name=name,
        )
    if isinstance(error, av.HTTPNotFoundError | av.HTTPForbiddenError | av.HTTPUnauthorizedError):
        return InputMissing(
            "{name}: the server rejects the request ({why}); check the address, user and password",
            code="stream_login",
            name=name,
            why=why,
        )
    if isinstance(error, av.ProtocolNotFoundError):
        return InputError(
            "{name}: {scheme} is not supported; use rtmp, rtsp, http, udp, tcp or srt",
            code="stream_scheme",
            name=name,
            scheme=parts.scheme,
        )
    if isinstance(error, av.InvalidDataError):
        return InputError(
            "{name}: it does not send a readable stream; check the address", code="stream_unknown", name=name
        )
    return InputError(
        "{name}: cannot be opened ({why}); check host and port, and that a stream is published there",
        code="stream_unopened",
        name=name,
        why=why,
    )
