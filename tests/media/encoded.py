"""Encoded stills and an interlaced film, made with PyAV alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rtface.media.read.frame_details import filter_for
from tests.media.conftest import make_film, picture


def interlaced_film(path: Path, frames: Sequence[av.VideoFrame], order: str = "tff") -> Path:
    """Frames in 4:2:0 as H.264 coded as fields: FFmpeg's setfield filter marks those that go in."""
    width, height = frames[0].width, frames[0].height
    with av.open(path, "w") as box:
        stream = box.add_stream("libx264", rate=25, options={"preset": "ultrafast", "flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.field_order = {"tff": 2, "bff": 3}[order]
        graph = filter_for(frames[0], "setfield", mode=order)
        for i, frame in enumerate(frames):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            graph.push(frame)
            box.mux(stream.encode(graph.pull()))
        box.mux(stream.encode(None))
    return path


def television(path: Path, orders: Sequence[str]) -> Path:
    """Frames of MPEG-2 as broadcasts have them: each progressive ("prog") or of two fields ("tff", "bff")."""
    with av.open(path, "w") as box:
        stream = box.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 480, "yuv420p"
        for i, order in enumerate(orders):
            context = av.CodecContext.create("mpeg2video", "w")
            context.width, context.height, context.pix_fmt = 64, 480, "yuv420p"
            context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
            context.options = {} if order == "prog" else {"flags": "+ildct+ilme"}
            frame = picture(i, "yuv420p", 64, 480)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            graph = filter_for(frame, "setfield", mode=order)
            graph.push(frame)
            for packet in [*context.encode(graph.pull()), *context.encode(None)]:
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 25)
                box.mux(packet)
    return path


def captioned_h264(path: Path, pairs: Sequence[bytes]) -> None:
    """A stream of H.264, a frame for each pair of bytes of CEA-608, which it carries as SEI; b"" for none."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 128, 96, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.options = {"preset": "ultrafast", "bf": "0", "tune": "zerolatency"}
    with path.open("wb") as file:
        for i, pair in enumerate(pairs):
            frame = picture(i)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            for packet in context.encode(frame):
                data = bytes(packet)
                # ITU-T T.35: country, provider, "GA94", type 3 (cc_data), one triplet, marker bits
                payload = b"\xb5\x00\x31GA94\x03" + bytes((0xC1, 0xFF, 0xFC)) + pair + b"\xff"
                sei = b"\0\0\0\1\x06\x04" + bytes((len(payload),)) + payload + b"\x80" if pair else b""
                at = _first_slice(data)
                file.write(data[:at] + sei + data[at:])


def _first_slice(data: bytes) -> int:
    at = 0
    while True:
        at = data.index(b"\0\0\1", at)
        if data[at + 3] & 31 in (1, 5):
            return at - 1 if data[at - 1 : at] == b"\0" else at
        at += 3


def coded(path: Path, kind: str = "video") -> list[bytes]:
    """The packets of the first stream of a kind."""
    with av.open(path) as box:
        return [bytes(packet) for packet in box.demux(**{kind: 0}) if packet.size]


def rewritten(source: Path, target: Path, change: Callable[[int, bytes], bytes]) -> Path:
    """The video of a film with other packets, by number and bytes of each; one without bytes is left out."""
    with av.open(source) as box, av.open(target, "w") as out:
        stream = out.add_stream_from_template(box.streams.video[0])
        for number, packet in enumerate(p for p in box.demux(video=0) if p.size):
            if data := change(number, bytes(packet)):
                own = av.Packet(data)
                own.pts, own.dts, own.time_base, own.duration = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                    packet.duration,
                )
                own.is_keyframe, own.stream = packet.is_keyframe, stream
                out.mux(own)
    return target


def torn_jpegs(source: Path, target: Path, torn: Container[int]) -> Path:
    """A film of MJPEG of which these frames end in the middle."""
    return rewritten(source, target, lambda number, data: data[: len(data) // 2] if number in torn else data)


def without_packets(source: Path, target: Path, lost: Sequence[int]) -> Path:
    """A transport stream without these of its video's packets, which begin no frame."""
    whole = source.read_bytes()
    packets = [whole[at : at + 188] for at in range(0, len(whole), 188)]
    video = [k for k, p in enumerate(packets) if (p[1] & 31) << 8 | p[2] == 256 and not p[1] & 64]
    gone = {video[k] for k in lost}
    target.write_bytes(b"".join(p for k, p in enumerate(packets) if k not in gone))
    return target


def without_frames(source: Path, target: Path, lost: Container[int], left: int = 0) -> Path:
    """A film without some packets of its video, counted as they come; or with so many bytes left of each."""
    return rewritten(source, target, lambda number, data: data[: left if number in lost else None])


def with_bytes(source: Path, target: Path, places: dict[int, int], other: bytes) -> Path:
    """A film with other bytes in some packets of its video, counted as they come, from these places in them on."""
    whole, packets = bytearray(source.read_bytes()), coded(source)
    for number, place in places.items():
        # A transport stream has headers of its own within: what is there is found by the bytes of the place.
        at = whole.index(packets[number][place : place + max(24, len(other))])
        whole[at : at + len(other)] = other
    target.write_bytes(whole)
    return target


def encoded(frame: av.VideoFrame, encoder: str, **options: str) -> bytes:
    """A frame as the file of an image encoder."""
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.options = Fraction(1, 25), options
    if encoder == "mjpeg":
        context.qmin = context.qmax = 2
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def film_with_sound(path: Path, encoder: str, layout: str, format: str = "s16") -> Path:
    """A film of four frames whose sound, 0.2 s of noise, has the speakers of `layout`."""
    with av.open(make_film(path.with_name("frames.mkv"), frames=4)) as frames, av.open(path, "w") as box:
        video, sound = box.add_stream_from_template(frames.streams.video[0]), box.add_stream(encoder, rate=48_000)
        sound.codec_context.layout, sound.codec_context.format = layout, format
        for packet in frames.demux(video=0):
            if packet.size:
                packet.stream = video
                box.mux(packet)
        rng = np.random.default_rng(1)
        noise = av.AudioFrame(format, layout, 9600)
        noise.sample_rate, noise.pts, noise.time_base = 48_000, 0, Fraction(1, 48_000)
        noise.planes[0].update(rng.integers(0, 255, noise.planes[0].buffer_size, np.uint8).tobytes())
        box.mux([*sound.encode(noise), *sound.encode(None)])
    return path
