"""Transcodes a video stream with PyAV alone, as a baseline.

usage: plain_transcode.py INPUT OUTPUT [CODEC PRESET CRF]
"""

from __future__ import annotations

import sys

import av


def main(source: str, target: str, codec: str = "libx264", preset: str = "veryfast", crf: str = "20") -> None:
    """Decodes, encodes and muxes."""
    sys.setswitchinterval(0.0005)  # the same interval as in rtface's command line
    with av.open(source) as reader, av.open(target, "w") as writer:
        stream = reader.streams.video[0]
        stream.thread_type = "AUTO"
        out = writer.add_stream(codec, rate=stream.average_rate, options={"preset": preset, "crf": crf})
        out.width, out.height, out.pix_fmt = stream.width, stream.height, stream.pix_fmt
        out.time_base = stream.time_base
        for frame in reader.decode(stream):
            frame.pict_type = 0
            writer.mux(out.encode(frame))
        writer.mux(out.encode(None))


if __name__ == "__main__":
    main(*sys.argv[1:])
