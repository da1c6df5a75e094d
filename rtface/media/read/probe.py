"""Describes an open input by its container and first frame."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard

from rtface.errors import Message
from rtface.frame import Display, Frame
from rtface.media.formats.coding import coding_of
from rtface.media.formats.color import has_captions, hdr_of, is_transparent, tags_of, views_of
from rtface.media.formats.facts import film_tags, stream_tags
from rtface.media.read.container import (
    codec_of,
    expected_end,
    is_still,
    open_container,
    rate_of,
    time_base_of,
)
from rtface.media.read.decoder import Decoder
from rtface.media.read.frame_form import Fields
from rtface.media.read.media_info import Chapter, MediaInfo, StreamInfo
from rtface.media.read.not_shown import early_s, find_lost_parts, unread_header
from rtface.media.read.start_timecode import find_timecode
from rtface.media.read.timeline import Cut
from rtface.media.read.variants import kept_streams
from rtface.redaction import is_url, shown
from rtface.util.av_gpu import native_format, on_gpu
from rtface.util.av_input import plain_tags

# Maximum number of audio packets to read in search of each stream's first packet.
_MAX_PACKETS = 2000


def find_first_packets(info: MediaInfo) -> None:
    """Finds the first packet of every audio stream. Opens the file again."""
    audio_streams = {stream.index: stream for stream in info.streams if stream.kind == "audio"}
    if not audio_streams or is_url(info.path) or not Path(info.path).is_file():
        return
    missing, count = set(audio_streams), 0
    with suppress(av.FFmpegError), open_container(info.path) as container:
        for packet in container.demux([container.streams[index] for index in audio_streams]):
            count += 1
            if packet.size and packet.stream_index in missing:
                audio_streams[packet.stream_index].first = bytes(packet)
                missing.discard(packet.stream_index)
            if not missing or count > _MAX_PACKETS:
                return


def describe(
    path: str | os.PathLike[str],
    container: InputContainer,
    video: av.VideoStream,
    decoder: Decoder,
    first: Frame,
    cut: Cut,
    *,
    fields: Fields,
    decoded_by: str,
    notes: list[str],
) -> MediaInfo:
    """Describes an input.

    Args:
        path: path or URL as given.
        container, video: the open input.
        decoder: the decoder of the first frame.
        first: the first frame.
        cut: the part that is read.
        fields: field order of the frames.
        decoded_by, notes: `MediaInfo.decoder` and `MediaInfo.notes`.
    """
    image, decoder.form.first = decoder.form.first, None
    assert image is not None
    still, (rate, _) = is_still(container), rate_of(video)
    end, length = expected_end(container, video), None
    if end is not None:
        read_end = end if cut.end is None else min(end, cut.end)
        length = max(Fraction(0), read_end - (cut.clock_start if cut.start is None else cut.start))
    width, height = _upright_size(image, first.display)
    alpha = any(c.is_alpha for c in image.format.components)
    tags, hdr = tags_of(image, decoder.form.siting), hdr_of(image)
    early = early_s(path) if container.format.name == "hls" and container.streams.subtitles else 0.0
    streams = [
        StreamInfo(
            stream.index,
            stream.type,
            codec_of(stream),
            stream.language,
            stream.disposition,
            stream_tags(stream.metadata, container.format.name),
            stream.index == video.index,
            stream,
            decoder.covers.get(stream.index),
            early_s=early if stream.type == "subtitle" else 0.0,
        )
        for stream in kept_streams(container, video)
        if stream.type != "data" or stream.discard != Discard.all  # the texts of MP4's chapters
    ]
    metadata = film_tags(container.metadata, container.format.name)
    if dates := [date for stream in streams if (date := stream.metadata.get("creation_time"))]:
        metadata.setdefault("creation_time", min(dates))  # rtface writes no track dates, so the film gets the earliest
    xmp = metadata.pop("xmp", None) if "mp4" in container.format.name else None
    # A film whose clock starts late (a broadcast, or a part of a longer film) is moved to 0. A small offset is kept, so
    # that the pts do not change.
    origin = Fraction(0) if 0 <= cut.clock_start < 1 else cut.clock_start
    info = MediaInfo(
        path=shown(path),
        format=container.format.name,
        duration_s=None if length is None else float(length),
        width=image.width,
        height=image.height,
        display_width=width,
        display_height=height,
        rate=rate,
        time_base=time_base_of(video),
        pix_fmt=native_format(first.image),
        codec=video.codec_context.codec.canonical_name,
        color=first.color,
        display=replace(first.display, fields=fields),
        tags=tags,
        matrix=decoder.form.matrix,
        aspect=Fraction(video.sample_aspect_ratio or 0) or None,
        interlaced=fields != "progressive",
        has_audio=any(stream.kind == "audio" for stream in streams),
        transparent=is_transparent(image),
        streams=streams,
        chapters=[
            Chapter(chapter["start"] * base, chapter["end"] * base, plain_tags(chapter["metadata"]))
            for chapter in container.chapters()
            if (base := chapter["time_base"])
        ],
        metadata=metadata,
        xmp=xmp.encode() if xmp else None,
        expected_frames=1 if still else None if length is None else max(1, round(length * rate)),
        hdr=hdr,
        views=views_of(image),
        captions=has_captions(image),
        start=cut.start,
        end=cut.end,
        clock_start=cut.clock_start,
        video_start=cut.clock_start if video.start_time is None else video.start_time * time_base_of(video),
        first=first.pts * first.time_base,
        origin=origin if cut.start is None else cut.start,
        timecode=find_timecode([video.metadata, container.metadata, *(s.metadata for s in streams)], rate),
        size=None if is_url(path) else Path(path).stat().st_size,
        notes=notes,
        decoder=decoded_by,
        on_gpu=on_gpu(first.image),
        coding=coding_of(video.codec_context, decoder.head),
        lost_parts=find_lost_parts(
            video.metadata, decoder.hidden, tags, hdr, alpha=alpha, header=unread_header(path, container, video)
        ),
    )
    return enlarged(info, first, native_format(image))


def enlarged(info: MediaInfo, frame: Frame, format: str) -> MediaInfo:
    """Updates the description of an input if its frames are enlarged. `format` is the format before enlarging."""
    decoded, image = (info.width, info.height, format), frame.image
    if (image.width, image.height) == decoded[:2]:
        return info
    width, height = _upright_size(image, frame.display)
    return replace(
        info,
        width=image.width,
        height=image.height,
        display_width=width,
        display_height=height,
        aspect=info.aspect and frame.display.aspect,
        tags=replace(info.tags, matrix=int(image.colorspace)),
        decoded=decoded,
        notes=[
            *info.notes,
            Message(
                "{path}: frames of {width}×{height} are enlarged to {to_width}×{to_height} ({--scale})",
                code="enlarged",
                path=info.path,
                width=decoded[0],
                height=decoded[1],
                to_width=image.width,
                to_height=image.height,
            ),
        ],
    )


def _upright_size(image: av.VideoFrame, display: Display) -> tuple[int, int]:
    """Returns width and height as displayed, in square pixels."""
    width, height = round(image.width * float(display.aspect)), image.height
    return (height, width) if display.quarter_turns % 2 else (width, height)
