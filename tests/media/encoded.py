"""Encoded stills and an interlaced film, made with PyAV alone."""

from __future__ import annotations

from collections.abc import Container, Sequence
from fractions import Fraction
from pathlib import Path

import av


def interlaced_film(path: Path, frames: Sequence[av.VideoFrame], order: str = "tff") -> Path:
    """Frames in 4:2:0 as H.264 coded as fields: FFmpeg's setfield filter marks those that go in."""
    width, height = frames[0].width, frames[0].height
    with av.open(path, "w") as box:
        stream = box.add_stream("libx264", rate=25, options={"preset": "ultrafast", "flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.field_order = {"tff": 2, "bff": 3}[order]
        graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_buffer(width=width, height=height, format="yuv420p", time_base=Fraction(1, 25)),
            graph.add("setfield", order), graph.add("buffersink")).configure()
        for i, frame in enumerate(frames):
            frame.pts, frame.time_base = i, Fraction(1, 25)
            graph.push(frame)
            box.mux(stream.encode(graph.pull()))
        box.mux(stream.encode(None))
    return path


def torn_jpegs(source: Path, target: Path, torn: Container[int]) -> Path:
    """A film of MJPEG of which these frames end in the middle."""
    with av.open(source) as whole, av.open(target, "w") as box:
        stream = box.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.dts is None:
                continue
            data = bytes(packet)
            copy = av.Packet(data[:len(data) // 2] if number in torn else data)
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = True
            box.mux(copy)
    return target


def without_packets(source: Path, target: Path, lost: Sequence[int]) -> Path:
    """A transport stream without these of its video's packets, which begin no frame."""
    whole = source.read_bytes()
    packets = [whole[at:at + 188] for at in range(0, len(whole), 188)]
    video = [k for k, p in enumerate(packets) if (p[1] & 31) << 8 | p[2] == 256 and not p[1] & 64]
    gone = {video[k] for k in lost}
    target.write_bytes(b"".join(p for k, p in enumerate(packets) if k not in gone))
    return target


def encoded(frame: av.VideoFrame, encoder: str, **options: str) -> bytes:
    """A frame as the file of an image encoder."""
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.options = Fraction(1, 25), options
    if encoder == "mjpeg":
        context.qmin = context.qmax = 2
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])
