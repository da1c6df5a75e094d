"""Simulates a network camera: sends a clip in real time, with numbered frames.

    python -m benchmarks.live.sender CLIP PORT TIMES SECONDS

Sends MPEG-TS to the client of PORT on loopback. Writes each frame's last due time to the file TIMES (float64 seconds of
`time.monotonic()`, one for each frame of the clip). A receiver that is too slow delays the sending, like a broken
connection, but not the due times.
"""

from __future__ import annotations

import socket
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.common import CACHE, clip

BITS, SIDE = 12, 16
"""A frame's number in its first rows: one square per bit, highest bit first, then one that is always white."""


def numbered(rate: int = 30, **what: int) -> Path:
    """Creates the clip of `benchmarks.common.clip` with numbered frames. Encodes it as a camera does."""
    plain = clip(rate=rate, **what)
    path = CACHE / f"numbered_{plain.name}"
    if path.exists():
        return path
    working = path.with_suffix(".making.mp4")
    with av.open(str(plain)) as reader, av.open(str(working), "w") as out:
        stream = out.add_stream(
            "libx264", rate=rate, options={"preset": "veryfast", "tune": "zerolatency", "crf": "21", "g": str(rate)}
        )
        stream.width, stream.height, stream.pix_fmt = (
            reader.streams.video[0].width,
            reader.streams.video[0].height,
            "yuv420p",
        )
        for number, frame in enumerate(reader.decode(video=0)):
            frame = frame.reformat(format="yuv420p")
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)
            for place in range(BITS + 1):
                white = place == BITS or number >> (BITS - 1 - place) & 1
                luma[:SIDE, place * SIDE : (place + 1) * SIDE] = 235 if white else 16
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, rate), av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    working.replace(path)
    return path


def number_of(luma: np.ndarray) -> int | None:
    """Reads a frame's number from one channel (uint8 h×w). Returns None if the frame has no number."""
    middles = luma[SIDE // 2, SIDE // 2 : (BITS + 1) * SIDE : SIDE] > 126
    return sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(middles[:BITS])) if middles[BITS] else None


class Times:
    """The last due time of each frame, shared between processes."""

    def __init__(self, path: Path, count: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * count))
        self.due = np.memmap(path, np.float64, "r+", shape=(count,))

    def latency(self, number: int, now: float) -> float:
        """Returns the seconds since a frame's last due time."""
        return now - float(self.due[number])


def main() -> None:
    """Sends the clip."""
    path, port, times, seconds = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
    with av.open(str(path)) as reader:
        stream = reader.streams.video[0]
        packets = [p for p in reader.demux(stream) if p.size]
        rate, step = stream.average_rate, Fraction(1) / stream.average_rate
        cv2.setNumThreads(1)
        due = Times(times, len(packets)).due
        with socket.create_server(("127.0.0.1", port)) as server:
            connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer = connection.makefile("wb", buffering=0)
        out = av.open(writer, "w", format="mpegts", options={"flush_packets": "1"})
        target = out.add_stream_from_template(stream)
        base = stream.time_base
        began = time.monotonic() + 0.1
        for number in range(round(seconds * rate)):
            packet, at = packets[number % len(packets)], began + float(number * step)
            if (wait := at - time.monotonic()) > 0:
                time.sleep(wait)
            due[number % len(packets)] = at
            sent = av.Packet(bytes(packet))
            sent.stream, sent.time_base, sent.is_keyframe = target, base, packet.is_keyframe
            sent.pts = sent.dts = round(number * step / base)
            try:
                out.mux(sent)
            except (OSError, av.FFmpegError):
                return  # the receiver disconnected


if __name__ == "__main__":
    main()
