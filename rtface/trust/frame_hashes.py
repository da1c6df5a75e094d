"""Hashes of a film's decoded frames, as FFmpeg's framemd5 has them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from fractions import Fraction

import av
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

from rtface.errors import InputError, Interrupted
from rtface.media.read.container import choose_video, clock_start_of, open_container, time_base_of
from rtface.redaction import shown

_BASE = Fraction(1, 1_000_000)


def frame_hashes(
    film: str | os.PathLike[str],
    *,
    tick: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[Fraction, list[tuple[int, str]]]:
    """Hashes the decoded frames of a film's first video stream.

    Args:
        tick: called with the share of the film that is done, 0…1.
        stop: ends the work with `Interrupted` once it is true.

    Returns:
        Seconds of one unit of time, and for each frame its time from the beginning and the MD5 of its raw video.

    Raises:
        InputError: the film cannot be read, or a part of it cannot be decoded.
    """
    name, rows = shown(film), list[tuple[int, str]]()
    with open_container(film) as source:
        video, _ = choose_video(source, name)
        video.thread_type = "AUTO"
        if not video.codec_context.pix_fmt:
            raise InputError(
                "{name}: no frame of it can be decoded; the file is damaged", code="film_damaged", name=name
            )
        raw = _raw(video.codec_context)
        start, clock, length = clock_start_of(source), time_base_of(video), Fraction(source.duration or 0, 1_000_000)
        try:
            for packet in source.demux(video):
                if stop is not None and stop():
                    raise Interrupted
                for image in video.decode(packet):
                    time = Fraction(image.pts or 0) * clock - start
                    if tick is not None and length > 0:
                        tick(min(1.0, float(time / length)))
                    image.pts, image.time_base = round(time / _BASE), _BASE
                    rows += [(image.pts, hashlib.md5(bytes(one)).hexdigest()) for one in raw.encode(image)]
        except av.FFmpegError as error:
            raise InputError(
                "{name}: could not be decoded to its end ({why}); the file is damaged",
                code="decode_end",
                name=name,
                why=error.strerror,
            ) from error
    return _BASE, rows


def _raw(source: VideoCodecContext) -> VideoCodecContext:
    encoder = CodecContext.create("rawvideo", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = source.width, source.height, source.pix_fmt
    encoder.time_base = _BASE
    return encoder
