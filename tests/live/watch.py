"""Watches a stream and notes what comes, a line of JSON each: ``watch.py URL FILE [KEY=VALUE…]``.

``video``: a packet with its frame. ``tone``: where a tone of `publish.tone` begins. ``open``: what the stream is.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import av
import numpy as np
from av.video.frame import PictureType

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.live.publish import WIDTH, read_stamp


def watch(url: str, out: TextIO, options: dict[str, str]) -> None:
    """One connection, until it ends."""

    def note(kind: str, **values: Any) -> None:
        out.write(json.dumps({"kind": kind, "at": time.monotonic(), **values}) + "\n")
        out.flush()

    note("try")
    with av.open(url, options={"analyzeduration": "3000000", "probesize": "1000000", **options}, timeout=20) as box:
        note(
            "open",
            streams=sorted(s.codec_context.name for s in box.streams),
            rates=[s.codec_context.sample_rate for s in box.streams.audio],
        )
        loud, end = True, 0.0
        for packet in box.demux():
            if packet.pts is None:
                continue
            for frame in packet.decode():
                assert frame.pts is not None
                moment = float(frame.pts * frame.time_base)
                if isinstance(frame, av.VideoFrame):
                    stamp = read_stamp(frame) if frame.width >= WIDTH else None
                    note(
                        "video",
                        pts=moment,
                        dts=packet.dts == packet.pts,
                        size=packet.size,
                        key=packet.is_keyframe,
                        stamp=stamp,
                        width=frame.width,
                        height=frame.height,
                        format=frame.format.name,
                        type=PictureType(frame.pict_type).name,
                        colour=[
                            int(frame.color_range),
                            int(frame.colorspace),
                            int(frame.color_primaries),
                            int(frame.color_trc),
                        ],
                    )
                elif isinstance(frame, av.AudioFrame):
                    # The first loud half millisecond after silence.
                    parts = np.abs(frame.to_ndarray()[0]).reshape(-1, 32).max(axis=1) > 0.25
                    first = int(np.argmax(parts))
                    if parts.any() and not loud and moment - end < 0.01:  # not where something is missing
                        note("tone", onset=moment + first * 32 / frame.sample_rate)
                    loud = bool(parts[-8:].any())
                    end = moment + frame.samples / frame.sample_rate


def main() -> None:
    url, path, *rest = sys.argv[1:]
    with Path(path).open("a") as out:
        while True:
            with suppress(av.FFmpegError, OSError, ValueError):
                watch(url, out, dict(part.split("=", 1) for part in rest))
            time.sleep(0.1)


if __name__ == "__main__":
    main()
