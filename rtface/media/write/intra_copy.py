"""Configures intra encoders to match copied frames, with one header and FourCC."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from os.path import commonprefix
from pathlib import Path
from typing import Any

import av
import numpy as np

from rtface.errors import Message
from rtface.media.formats.image_header import Tables, quantisation_tables, segments, size_of
from rtface.media.formats.jpeg import encode_jpeg, tables_of_quality
from rtface.media.formats.pixel_format import pixel_format_info
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.mini_gops import mini_gops
from rtface.media.write.encoders import VideoPlan, new_context, open_encoder
from rtface.util.av_arrays import plane_rows

_INPUT_FORMATS = ("mov,", "matroska,", "avi", "mxf", "dv")
# Encoder and output containers, by FFmpeg's name of the codec.
_CODECS = {
    "prores": ("prores_ks", ("mov", "matroska")),
    "dnxhd": ("dnxhd", ("mov",)),
    "ffv1": ("ffv1", ("matroska",)),
    "mjpeg": ("mjpeg", ("mov", "matroska")),
    "dvvideo": ("dvvideo", ("mov",)),
}
# Bit rates in Mbit/s, by which FFmpeg selects a DNxHD profile.
_DNX_RATES = (36, 45, 60, 75, 80, 84, 85, 90, 100, 110, 115, 120, 145, 175, 180, 185, 220, 240, 290, 350, 365, 390, 440)
# Encoder options in FFV1's header, in its order. They are chosen one by one; all sets in _FFV1_LAST are tried.
_FFV1 = {
    "coder": ("rice", "range_def", "range_tab"),
    "slices": tuple(map(str, sorted({v * h for v in range(1, 9) for h in range(v, 2 * v + 1)}))),
}
_FFV1_LAST = [{"context": c, "slicecrc": crc, "g": g} for c in "01" for crc in "10" for g in "12"]
_FFV1_HEADERLESS = {"level": "1", "slices": "1", "slicecrc": "0", "g": "1"}  # for films without a separate header
# FFmpeg decodes ProRes 4:4:4 to more bits than its encoder accepts.
_ENCODABLE = {"yuv444p12le": "yuv444p10le", "yuva444p12le": "yuva444p10le"}
_QUALITY = 95  # quality of a JPEG if the input's is unknown
_JFIF_BYTES = 20  # bytes of a JPEG's first marker and JFIF segment
_DV_BLOCK, _DV_PICTURE = 80, 4


@dataclass(frozen=True, slots=True)
class IntraCopy:
    """The settings for copying intra-coded frames of the input.

    Attributes:
        path: path of the input.
        codec: name of the encoder, as for ``--codec``.
        pix_fmt: pixel format of the encoder's input.
        options: options of the encoder.
        delay, partly: as in `rtface.media.write.packet_copy.GroupCopy`.
    """

    path: Path
    codec: str
    pix_fmt: str
    options: Mapping[str, str]
    delay = 0
    partly: Message | None = None

    def opened(self, video: VideoPlan, source: bytes) -> av.VideoCodecContext | JpegEncoder:
        """Opens a zero-delay encoder for a frame. `source` is the frame's packet in the input."""
        if self.codec == "mjpeg":
            return JpegEncoder(quantisation_tables(source) or tables_of_quality(_QUALITY))
        return opened_intra(video)

    def framed(self, data: bytes, source: bytes) -> bytes:
        """Returns an encoded frame with metadata and sound of the input's packet."""
        if self.codec == "mjpeg":
            input_segments = [(kind, body) for kind, body in segments(source) if 0xE0 <= kind <= 0xEF or kind == 0xFE]
            head = b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in input_segments)
            return data[:2] + head + data[_JFIF_BYTES:]
        if self.codec == "dvvideo" and len(source) == len(data):  # keeps sound, timecode and date
            encoded, out = (np.frombuffer(one, np.uint8).reshape(-1, _DV_BLOCK) for one in (data, bytearray(source)))
            picture = out[:, 0] >> 5 == _DV_PICTURE
            out[picture, 3:] = encoded[picture, 3:]
            return out.tobytes()
        return data


class JpegEncoder:
    """Encodes JPEGs with given quantisation tables, behind the interface of FFmpeg's encoders."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def encode(self, image: av.VideoFrame | None) -> list[av.Packet[Any]]:
        """Returns the packet of a frame; an empty list for None."""
        if image is None:
            return []
        planes = [plane_rows(plane)[: plane.height, : plane.width] for plane in image.planes]
        packet = av.Packet(encode_jpeg(planes, pixel_format_info(image.format.name).sampling, self._tables))
        packet.pts, packet.duration, packet.is_keyframe = image.pts, image.duration, True
        return [packet]


def find_intra(info: MediaInfo, path: Path, format: str, header: bytes) -> IntraCopy | Message | None:
    """Returns settings for copying packets, like `find_copy`. Returns None for unsupported codecs and containers."""
    encoder, into = _CODECS.get(info.codec, ("", ()))
    if not info.format.startswith(_INPUT_FORMATS) or format not in into:
        return None
    first = next((bytes(gop.packets[0]) for gop in mini_gops(path, info.start)), b"")
    fields = info.display.fields if info.interlaced else "progressive"
    pix_fmt = _ENCODABLE.get(info.pix_fmt, info.pix_fmt) if encoder == "prores_ks" else info.pix_fmt
    video = VideoPlan(
        encoder, pix_fmt, info.width, info.height, info.rate, info.time_base, info.tags, info.aspect, fields=fields
    )
    for options in _candidates(video, info, header):
        if _matches(replace(video, options=options), first, header):
            return IntraCopy(path, encoder, pix_fmt, options)
    return Message("FFmpeg has no encoder that writes frames like those of the input", code="copy_unlike")


def _candidates(video: VideoPlan, info: MediaInfo, header: bytes) -> Iterator[dict[str, str]]:
    if video.encoder == "ffv1":
        yield from _ffv1_options(video, header)
    elif info.coding.name == "DNxHD":
        yield from ({"profile": "dnxhd", "b": f"{rate}M"} for rate in _DNX_RATES)
    else:
        yield {"profile": info.coding.profile} if info.coding.profile else {}


def _ffv1_options(video: VideoPlan, header: bytes) -> Iterator[dict[str, str]]:
    """Yields options whose headers come closest to the input's."""
    if not header:
        yield _FFV1_HEADERLESS
        return
    options = {"level": "3"}
    for name, values in _FFV1.items():
        headers = dict.fromkeys(values, b"")
        for value in values:
            with suppress(av.FFmpegError, ValueError, NotImplementedError):  # some values do not open
                opened = opened_intra(replace(video, options={**options, name: value}))
                headers[value] = bytes(opened.extradata or b"")
        options[name] = max(headers, key=lambda value: len(commonprefix((headers[value], header))))  # noqa: RUF071
    yield from ({**options, **combination} for combination in _FFV1_LAST)


def _matches(video: VideoPlan, first: bytes, header: bytes) -> bool:
    """Tells whether an encoder's frames match the input's in format. Compares only the first frame of each."""
    if video.encoder == "mjpeg":
        return video.pix_fmt.startswith("yuvj") and size_of(first) == (video.width, video.height)
    image = av.VideoFrame(video.width, video.height, video.pix_fmt)
    for plane in image.planes:
        plane.update(bytes(plane.buffer_size))
    image.pts, image.time_base = 0, video.time_base
    try:
        context = opened_intra(video)
        encoded = b"".join(bytes(packet) for packet in [*context.encode(image), *context.encode(None)])
    except (av.FFmpegError, ValueError, NotImplementedError):
        return False
    if video.encoder == "ffv1":
        return bytes(context.extradata or b"") == header
    if video.encoder == "dvvideo":
        return len(encoded) == len(first)
    if len(first) < 44:  # too short for a frame
        return False
    if video.encoder == "dnxhd":
        return encoded[40:44] == first[40:44]  # the compression ID
    encoded_flags, flags = encoded[20], first[20]  # chroma format, and whether the frame is interlaced
    return encoded_flags >> 6 == flags >> 6 and bool(encoded_flags & 12) == bool(flags & 12)


def opened_intra(video: VideoPlan) -> av.VideoCodecContext:
    """Opens a zero-delay encoder."""
    context = new_context(video)
    context.thread_type = "SLICE"
    open_encoder(context)
    return context
