"""Opens streams and films for a live run, with one-line reasons where they cannot be opened."""

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
from rtface.media.read.dash import open_listed
from rtface.media.read.pipe import PipeReader, is_pipe
from rtface.media.read.variants import kept_streams
from rtface.redaction import shown
from rtface.util.av_input import open_input

# Formats whose frames come in batches, a playlist's pieces.
_PIECES = ("hls", "dash")
# Not "nobuffer": that throws away what the opening read, and with it the I-frame that it waited for.
_QUICK = {"analyzeduration": "1000000"}
# Microseconds without an answer, for what the watch over the process does not see first: FFmpeg takes up to twice as
# long, and gives a last packet that it had kept. RTMP must never get "timeout": that makes it a server.
_TIMEOUT_US = "5000000"
_OPTIONS: dict[str, dict[str, str]] = {
    # Without a count of its frames, which the stream's head names, it is open with its first I-frame.
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
# Of a pipe: half a second of it, by its own clock.
_PIPE = {"analyzeduration": "500000", "fpsprobesize": "3", "formatprobesize": "65536"}
# Microseconds of a second analysis where only sound was found (RTMP does not announce video before its I-frame), or a
# film's sound begins later.
_LONGER = "6000000"
# Answers of what lets RTSP through within HTTP only, as some cameras' own servers and proxies do.
_NOT_RTSP = (av.InvalidDataError, av.EOFError, ConnectionResetError)
# Frames a second of a source without a plausible rate.
_RATE = Fraction(30)


@dataclass(slots=True)
class OpenedInput:
    """What was opened.

    Attributes:
        container, video, sound: of PyAV; the streams that are wanted and there.
        rate: nominal frames a second.
        by_arrival: its frames come when they are made; others are read at the pace of their time stamps.
        probed: whether it may turn out, by how fast it comes, that `by_arrival` is wrong.
        timed: its format has times; frames of others are stamped when they come.
        pieces: it comes in pieces, as a playlist does.
        film: it has an end, and can be opened again at any place.
        monotonic: its clock should be the monotonic one.
        notes: what differs from what was asked for.
        label: the name a device gives itself.
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
        """Whether it waits until it is read, and ends: what has begun elsewhere does neither."""
        return self.film or not (self.by_arrival or self.pieces)

    @property
    def alone(self) -> bool:
        """Whether each frame can be decoded without others."""
        return self.video is not None and self.video.codec_context.codec.intra_only

    @property
    def described(self) -> str:
        """What was got but for the size, which may change: "h264, 30 fps, sound aac"."""
        parts: list[str] = []
        if self.video is not None:
            context = self.video.codec_context
            kind = context.pix_fmt or "" if context.codec.name == "rawvideo" else context.codec.canonical_name
            parts += [kind, f"{float(self.rate):.4g} fps"]
        if self.sound is not None:
            parts.append(f"sound {self.sound.codec_context.codec.canonical_name}")
        return ", ".join(parts)


def open_stream(request: SourceRequest) -> OpenedInput:
    """Opens a stream or a film; may take as long as it likes, in a process that can be killed.

    Raises:
        InputMissing, InputError, MissingComponent: it is not there, or cannot be used.
    """
    if request.kind != "file":
        opened = _open_url(request)
    elif is_pipe(request.name):
        reader = PipeReader(request.name, Event())
        opened = _streams(open_container(request.name, reader, _PIPE), request, live=True, probed=True)
    else:
        opened = _streams(open_container(request.name), request, live=False)
    if opened.film and request.seek:
        with suppress(av.FFmpegError):  # then it begins at its start
            opened.container.seek(round(request.seek * 1e6))
    return opened


def _open_url(request: SourceRequest) -> OpenedInput:
    scheme = urlsplit(request.name.partition("?")[0]).scheme.lower()
    options = {"protocol_whitelist": NETWORK} | _OPTIONS.get(scheme, _OPTIONS.get(scheme.removesuffix("s"), {}))
    source: str | SrtConnection = request.name
    if scheme == "srt":
        source = SrtConnection(request.name, sending=False)
    try:
        container = open_listed(source, shown(request.name), options, format="mpegts" if scheme == "srt" else None)
        film = container.size > 0 and container.format.name not in _PIECES
        if (film and any(map(is_silent, container.streams.audio))) or (
            request.video and scheme.startswith("rtmp") and not container.streams.video
        ):
            container.close()
            container = open_input(source, options=options | {"analyzeduration": _LONGER})
    except av.FFmpegError as error:
        with suppress(av.FFmpegError):
            if scheme == "rtsp" and isinstance(error, _NOT_RTSP):
                return _streams(open_input(source, options=options | {"rtsp_transport": "http"}), request, live=True)
        raise _refusal(request.name, error) from None
    # What is no playlist, and whose length the server does not know, cannot be sought in and has no end yet. Cameras
    # name some length for the endless parts of motion JPEG. Senders of other schemes may send as fast as they are read.
    sent, endless = scheme in LIVE_SCHEMES, container.size <= 0 or container.format.name == "mpjpeg"
    return _streams(container, request, live=sent or endless, probed=not sent)


def _streams(container: InputContainer, request: SourceRequest, *, live: bool, probed: bool = False) -> OpenedInput:
    """The streams of an opened container that are wanted; it is `live` unless it comes in pieces."""
    name, video, notes, streams = shown(request.name), None, list[str](), list(container.streams)
    if request.video:
        video, note = choose_video(container, name, variant=request.variant)
        streams = kept_streams(container, video)
        if getattr(note, "code", "") == "variant_read":  # of other videos none is copied here
            notes = [str(note).removeprefix(f"{name}: ")]
        context = video.codec_context
        # Frame threads are fast because they are late: each of them holds a frame back.
        context.thread_type, context.thread_count = "SLICE", 2
    sound = None
    if request.sound:
        known = (s for s in streams if isinstance(s, AudioStream) and s.codec_context and s.codec_context.sample_rate)
        sound = next(known, None)
    for stream in container.streams:  # of a list no other is fetched; a damaged caption would stop it
        stream.discard = Discard.default if stream in (video, sound) else Discard.all
    if video is None and sound is None:
        raise InputError("{name}: has no sound", code="stream_no_sound", name=name)
    rate = plausible(*rate_of(video)) if video is not None else Fraction(0)
    pieces, timed = container.format.name in _PIECES, not container.format.flags & NO_TIMES
    live = live and not pieces
    film, probed = not live and (not pieces or bool(container.duration)), live and (probed or not timed)
    return OpenedInput(container, video, sound, rate, live, probed, timed, pieces, film, notes=notes)


def plausible(rate: Fraction, known: bool) -> Fraction:
    """A stream's rate, or the usual one in place of one that no source has: some give their time base for it. What was
    counted from a few frames goes to the rate that was meant."""
    if not known or not 1 <= rate <= 240:
        return _RATE
    whole = Fraction(round(rate))
    slower = whole * 1000 / 1001
    if abs(rate - slower) <= slower / 5000:
        return slower
    return whole if abs(rate - whole) <= whole / 50 else rate


def _refusal(url: str, error: av.FFmpegError) -> InputError:
    """Why a stream did not open."""
    name, parts = shown(url), urlsplit(url)
    why: Any = error.strerror
    if isinstance(error, av.ConnectionRefusedError):
        return InputMissing(
            "{name}: nothing listens there; start the server, or check host and port",
            code="stream_closed_host",
            name=name,
        )
    if isinstance(error, av.HTTPNotFoundError | av.HTTPForbiddenError | av.HTTPUnauthorizedError):
        return InputMissing(
            "{name}: the server refuses it ({why}); check the address, user and password",
            code="stream_login",
            name=name,
            why=why,
        )
    if isinstance(error, av.ProtocolNotFoundError):
        return InputError(
            "{name}: {scheme} cannot be read here; rtmp, rtsp, http, udp, tcp and srt can",
            code="stream_scheme",
            name=name,
            scheme=parts.scheme,
        )
    if isinstance(error, av.InvalidDataError):
        return InputError(
            "{name}: what it sends is no stream that can be read; check the address", code="stream_unknown", name=name
        )
    return InputError(
        "{name}: cannot be opened ({why}); check host and port, and that something is published there",
        code="stream_unopened",
        name=name,
        why=why,
    )
