"""Reads chroma location and field order of decoded frames. PyAV lacks both."""

from __future__ import annotations

import functools
import struct
from fractions import Fraction
from typing import Any, Literal, cast

import av
from av.filter import Graph

from rtface.media.formats.image_header import decodable

# Names of AVChromaLocation, by value; AV_FRAME_FLAG_INTERLACED and AV_FRAME_FLAG_TOP_FIELD_FIRST.
_LOCATIONS = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")
_INTERLACED, _TOP_FIELD_FIRST = 1 << 3, 1 << 4


def details_of(image: av.VideoFrame) -> tuple[str | None, Literal["tff", "bff"]]:
    """Returns chroma location and field order of a decoded frame.

    Both are read from FFmpeg's AVFrame. The showinfo filter logs them, but reading its log from Python can deadlock:
    FFmpeg's threads need the GIL to log, while the thread that holds the GIL waits for them, for instance to close a
    decoder. The stream's field order cannot be used, because parsers guess it, and are wrong for some H.264.

    Args:
        image: a decoded frame in host memory.

    Returns:
        FFmpeg's name for the location (None if unspecified), and the field order ("tff" also for progressive frames).
    """
    word_numbers = _find_words()
    if word_numbers is None:
        return None, "tff"
    words = _frame_words(image)
    location, flags = (words[number] for number in word_numbers)
    return (
        _LOCATIONS[location] if 0 < location < len(_LOCATIONS) else None,
        "bff" if flags & (_INTERLACED | _TOP_FIELD_FIRST) == _INTERLACED else "tff",
    )


@functools.cache
def _find_words() -> tuple[int, int] | None:
    """Finds which 32-bit words of AVFrame contain chroma location and flags.

    The structure differs between versions of FFmpeg, so this compares frames that differ only in these two properties.
    Returns None if this FFmpeg lacks the filter or encoder."""
    samples = [(1, "tff"), (3, "bff"), (6, "tff"), (2, "bff")]
    try:
        columns = list(
            zip(*(_frame_words(_make_frame(_LOCATIONS[location], order)) for location, order in samples), strict=True)
        )
    except (av.FFmpegError, ValueError):
        return None
    orders = tuple(_TOP_FIELD_FIRST if order == "tff" else 0 for _, order in samples)
    location_words = [k for k, words in enumerate(columns) if words == tuple(location for location, _ in samples)]
    flag_words = [
        k
        for k, words in enumerate(columns)
        if tuple(word & _TOP_FIELD_FIRST for word in words) == orders
        and len({word & ~_TOP_FIELD_FIRST for word in words}) == 1
    ]
    return (location_words[0], flag_words[0]) if len(location_words) == len(flag_words) == 1 else None


def _make_frame(location: str, order: str) -> av.VideoFrame:
    image = av.VideoFrame(16, 16, "yuv420p")
    graph = filter_for(image, "setparams", chroma_location=location, field_mode=order)
    graph.push(image)
    return cast(av.VideoFrame, graph.pull())


def filter_for(image: av.VideoFrame, name: str, **options: str) -> Graph:
    """Builds an FFmpeg filter for images of the same size and format."""
    graph = Graph()
    source = graph.add_buffer(
        width=image.width, height=image.height, format=image.format, time_base=image.time_base or Fraction(1, 1000)
    )
    graph.link_nodes(source, graph.add(name, **options), graph.add("buffersink")).configure()
    return graph


def _frame_words(image: av.VideoFrame) -> tuple[int, ...]:
    """Returns the 32-bit words of AVFrame. FFmpeg's encoder "wrapped_avframe" copies them into a packet."""
    encoder = av.CodecContext.create("wrapped_avframe", "w")
    encoder.width, encoder.height = image.width, image.height
    encoder.pix_fmt, encoder.time_base = image.format.name, image.time_base or Fraction(1, 1000)
    [packet] = encoder.encode(image)  # with another time base, PyAV would change the image's times
    data = bytes(packet)
    return struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])


def without_profile(packet: av.Packet[Any]) -> av.Packet[Any]:
    """Removes the colour profile from a PNG packet. PyAV 18 frees the profile's name at each access to a frame's side
    data, which crashes the process."""
    if packet.stream.codec_context.name not in ("png", "apng"):
        return packet
    bare: av.Packet[Any] = av.Packet(decodable(bytes(packet)))
    bare.stream, bare.time_base = packet.stream, packet.time_base
    bare.pts, bare.dts, bare.duration, bare.is_keyframe = packet.pts, packet.dts, packet.duration, packet.is_keyframe
    return bare
