"""Films and streams of every container once, with what cameras, editors and broadcasts put into them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.media.conftest import make_film, picture
from tests.media.corpus.files import FILES, noise
from tests.media.encoded import captioned_h264, encoded, interlaced_film

_TURNS = {
    "turned.mp4": (0, 65536, 0, -65536, 0, 0, 96 * 65536, 0, 1 << 30),
    "half.mov": (-65536, 0, 0, 0, -65536, 0, 128 * 65536, 96 * 65536, 1 << 30),
    "back.mp4": (0, -65536, 0, 65536, 0, 0, 0, 128 * 65536, 1 << 30),
    "mirror.mp4": (-65536, 0, 0, 0, 65536, 0, 128 * 65536, 0, 1 << 30),
}
_MASTER = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
_HDR = f"log-level=error:hdr10=1:master-display={_MASTER}:max-cll=1000,400"
_CODES = [bytes((code, 0x42)) for code in range(128, 133)]  # of CEA-608
_BT601 = {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 1}
_BT2020 = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
_FACTS = {"title": "Evening", "comment": "Words", "creation_time": "2020-01-02T03:04:05.000000Z"}
_PLACE = {"com.apple.quicktime.location.ISO6709": "+52.5+13.4/"}
_CHAPTERS = [(0, 200, "One"), (200, 400, "Two")]
_TEXTS = [(40, 160, "Good evening."), (200, 360, "<i>And</i> good night.")]


def _named(box: Any) -> None:
    """Names the sound, whose language is German."""
    box.streams.audio[0].metadata.update(title="Microphone (Ünal)", language="deu")
    box.streams.audio[0].disposition = Disposition.comment | Disposition.default


def _packets(kind: str, codec: str, packets: list[tuple[int, int, bytes]]) -> Callable[[Any], Callable[[], None]]:
    """Adds a stream of packets, each with its start and end in milliseconds."""

    def add(box: Any) -> Callable[[], None]:
        stream = box.add_data_stream(codec) if kind == "data" else box.add_mux_stream(codec)
        stream.time_base = Fraction(1, 1000)
        stream.metadata["language"] = "fra"

        def write() -> None:
            for start, end, data in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 1000), end - start
                packet.pts = packet.dts = start
                box.mux(packet)

        return write

    return add


_texts = _packets("subtitle", "subrip", [(start, end, text.encode()) for start, end, text in _TEXTS])
_KEY = bytes.fromhex("060e2b34020b01010e01030101000000")  # of MISB
_klv = _packets("data", "klv", [(40 * number, 40, _KEY + bytes([1, number])) for number in range(3)])


def _cover(box: Any) -> None:
    box.add_attachment("cover.jpg", "image/jpeg", encoded(picture(0, "yuvj420p", 32, 32), "mjpeg"))


def _attached(box: Any) -> None:
    _named(box)
    _cover(box)
    box.add_attachment("f.ttf", "font/ttf", b"\0\1\0\0" * 20)


def _said(**tags: str) -> Callable[[Any], None]:
    return lambda box: box.streams.video[0].metadata.update(tags)


def _fields(path: Path) -> None:
    frames = [picture(number) for number in range(6)]
    frames[0].time_base = Fraction(1, 25)
    interlaced_film(path, frames, "bff")


def _shots(path: Path) -> None:
    path.mkdir()
    for number in range(4):
        image = av.VideoFrame.from_ndarray(noise(3, np.uint16) // (number + 1), "rgb48le")
        (path / f"shot{number + 6}.png").write_bytes(encoded(image.reformat(format="rgb48be"), "png"))


def _scans(path: Path) -> None:
    path.mkdir()
    for number in range(4):
        data = bytearray(FILES["log10.dpx"]())
        data[1923] = number  # its time code
        (path / f"scan{number + 6}.dpx").write_bytes(data)


_MARKS = [(0, 400, "One"), (200, 200, "Mark"), (300, 360, "Overlap"), (360, 400, "Two")]
FILMS: dict[str, tuple[dict[str, Any] | Callable[[Path], None], str]] = {
    "h264.mp4": (
        {"sound": "aac", "options": {"bf": "2", "chroma_sample_location": "topleft"}, "extra": _named}
        | {"chapters": _CHAPTERS, "metadata": _FACTS | _PLACE, "tags": _BT601},
        ".mp4,.mov,.mkv,.webm,.ts",
    ),
    "prores.mov": (
        {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "rate": Fraction(24000, 1001), "sound": "pcm_s24le"}
        | {"extra": _said(timecode="01:00:00:02", reel_name="A001C002"), "tags": _BT601},
        ".mov,.mkv,.mxf,.mp4,.ts",
    ),
    "ffv1.mkv": (
        {"codec": "ffv1", "sound": "flac", "metadata": _FACTS, "extra": _attached, "tags": _BT601, "chapters": _MARKS},
        ".mkv,.mp4",
    ),
    "cover.mkv": ({"codec": "ffv1", "sound": "flac", "extra": _cover}, ".mkv,.mp4,.mov,.mxf"),
    "texts.mkv": ({"extra": _texts, "chapters": _CHAPTERS}, ".mkv,.mp4,.mov,.webm,.ts"),
    "hdr.mkv": (
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": _HDR}, "tags": _BT2020},
        ".mkv,.mp4,.mov,.ts,.webm,.mp4 libx264,.mkv av1,.mkv ffv1,.mov prores",
    ),
    "vp9.webm": ({"codec": "libvpx-vp9", "sound": "libopus", "tags": _BT601}, ".webm,.mkv,.mp4"),
    "av1.mkv": ({"codec": "libsvtav1", "sound": "libopus"}, ".mkv,.mp4,.mov"),
    "mpeg4.avi": ({"codec": "mpeg4", "options": {"bf": "2"}, "sound": "libmp3lame"}, ".mkv,.mp4"),
    "full-range.avi": ({"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound": "pcm_s16le"}, ".mkv,.mp4"),
    "mpeg2.ts": ({"codec": "mpeg2video", "sound": "ac3", "extra": _klv}, ".ts,.mkv,.mp4"),
    "mpeg1.mpg": ({"codec": "mpeg1video", "sound": "mp2"}, ".mkv,.ts"),
    "flv1.flv": ({"codec": "flv1", "sound": "aac"}, ".mkv,.mp4"),
    "wmv2.wmv": ({"codec": "wmv2", "sound": "libmp3lame"}, ".mkv"),
    "mpeg2.mxf": (
        {"codec": "mpeg2video", "sound": "pcm_s16le", "metadata": {"timecode": "10:00:00:05"}},
        ".mxf,.mov,.mkv,.mp4,.webm,.ts",
    ),
    **{name: ({"matrix": matrix}, ".mp4,.mov,.mkv,.ts") for name, matrix in _TURNS.items()},
    "variable.mkv": (
        {"pts_ms": [0, 33, 100, 117, 250, 251, 400, 1200, 1240, 1290], "sound": "aac", "sound_start_ms": 200},
        ".mkv,.mp4,.mov,.webm,.mxf",
    ),
    "alpha.mov": ({"codec": "qtrle", "pix_fmt": "argb"}, ".mov,.mkv,.mp4"),
    "anamorphic.mov": (
        {"codec": "dnxhd", "pix_fmt": "yuv422p", "options": {"profile": "dnxhr_sq"}, "size": (320, 180)}
        | {"aspect": Fraction(64, 45)},
        ".mov,.mkv,.mp4,.ts,.mxf,.webm,.mkv prores",
    ),
    "stereo.mkv": ({"extra": _said(stereo_mode="left_right")}, ".mkv,.mp4,.ts"),
    "fields.mp4": (_fields, ".mp4,.mov,.mkv,.ts,.mkv ffv1,.mov prores"),
    "captions.h264": (lambda path: captioned_h264(path, _CODES), ".mkv,.mp4,.ts,.mkv libx265"),
    "raw.y4m": ({"codec": "wrapped_avframe"}, ".mkv,.mp4"),
    "shots": (_shots, ".mkv,.mp4"),
    "scans": (_scans, ".mov,.mkv"),
    "hls.m3u8": ({"sound": "aac"}, ".mkv,.mp4"),
}


def write_film(name: str, path: Path) -> Path:
    """Makes a film of the corpus, or a folder of stills."""
    recipe, _ = FILMS[name]
    if callable(recipe):
        recipe(path)
    else:
        make_film(path, format="hls" if path.suffix == ".m3u8" else None, **recipe)
    return path
