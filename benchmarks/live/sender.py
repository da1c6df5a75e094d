"""Simulates a network camera: sends a clip in real time, with numbered frames.

    python -m benchmarks.live.sender CLIP PORT TIMES SECONDS

Sends MPEG-TS to the client of PORT on loopback. A frame's due time is the time at which it should be sent. The file
TIMES contains the last due time of each frame of the clip (float64 seconds of `time.monotonic()`). A receiver that is
too slow delays the frames, as a bad connection does, but not their due times.
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
"""A frame's number is drawn in its first rows: one square per bit, highest bit first, then one white square."""


def create_numbered_clip(rate: int = 30, **options: int) -> Path:
    """Creates a `benchmarks.common.clip` with numbered frames, encoded as by a camera."""
    source = clip(rate=rate, **options)
    path = CACHE / f"numbered_{source.name}"
    if path.exists():
        return path
    working = path.with_suffix(".making.mp4")
    with av.open(str(source)) as reader, av.open(str(working), "w") as out:
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
            for position in range(BITS + 1):
                white = position == BITS or number >> (BITS - 1 - position) & 1
                luma[:SIDE, position * SIDE : (position + 1) * SIDE] = 235 if white else 16
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, rate), av.video.frame.PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    working.replace(path)
    return path


def number_of(luma: np.ndarray) -> int | None:
    """Reads a frame's number from one channel (uint8 h×w). Returns None if the frame has no number."""
    is_white = luma[SIDE // 2, SIDE // 2 : (BITS + 1) * SIDE : SIDE] > 126
    return sum(int(bit) << (BITS - 1 - k) for k, bit in enumerate(is_white[:BITS])) if is_white[BITS] else None


class Times:
    """Each frame's last due time, in a file that processes share."""

    def __init__(self, path: Path, count: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(8 * count))
        self.due = np.memmap(path, np.float64, "r+", shape=(count,))

    def latency(self, number: int, now: float) -> float:
        """Returns the seconds since the last due time of a frame."""
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
        started = time.monotonic() + 0.1
        for number in range(round(seconds * rate)):
            packet, due_time = packets[number % len(packets)], started + float(number * step)
            if (wait := due_time - time.monotonic()) > 0:
                time.sleep(wait)
            due[number % len(packets)] = due_time
            copy = av.Packet(bytes(packet))
            copy.stream, copy.time_base, copy.is_keyframe = target, base, packet.is_keyframe
            copy.pts = copy.dts = round(number * step / base)
            try:
                out.mux(copy)
            except (OSError, av.FFmpegError):
                return  # the receiver disconnected


if __name__ == "__main__":
    main()
