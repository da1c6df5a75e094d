"""Publishes frames that carry the time, with sound, in real time: ``publish.py URL FORMAT [KEY=VALUE…]``.

Every frame has the monotonic clock's milliseconds in its first rows, a bit a block (`read_stamp`), and flashes in the
first tenth of each second of that clock, in which the sound has its tone. Where the server goes away, it tries again.
"""

from __future__ import annotations

import math
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS, BLOCK = 40, 8
WIDTH = BITS * BLOCK


def write_stamp(luma: np.ndarray, milliseconds: int) -> None:
    """Black and white blocks in rows 0…7, from the highest bit; the frame is 320 wide at least."""
    bits = [milliseconds >> (BITS - 1 - i) & 1 for i in range(BITS)]
    luma[:BLOCK, :WIDTH] = np.repeat(np.where(bits, 225, 25).astype(np.uint8), BLOCK)


def read_stamp(image: av.VideoFrame) -> float:
    """Seconds of the monotonic clock when a frame was made."""
    luma = image.to_ndarray(format="gray8")[2:6, :WIDTH].astype(float).mean(axis=0)
    bits = luma.reshape(BITS, BLOCK)[:, 2:6].mean(axis=1) > 125
    return int("".join("1" if bit else "0" for bit in bits), 2) / 1000


def stamped_image(width: int, height: int, now: float) -> av.VideoFrame:
    """A gradient with the time in it."""
    image = av.VideoFrame(width, height, "yuv420p")
    rows = [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size) for p in image.planes]
    flash = now % 1 < 0.1
    rows[0][:] = np.linspace(60, 120, rows[0].shape[1]).astype(np.uint8) + (90 if flash else 0)
    rows[1][:] = 110
    rows[2][:] = np.linspace(100, 160, rows[2].shape[0]).astype(np.uint8)[:, None]
    write_stamp(rows[0], round(now * 1000))
    return image


def tone(start: float, samples: int, rate: int) -> np.ndarray:
    """Mono float samples from a time of the clock on: 1 kHz in the first tenth of each second."""
    times = start + np.arange(samples) / rate
    return (0.4 * np.sin(2 * math.pi * 1000 * times) * (times % 1 < 0.1)).astype(np.float32)


def publish(url: str, kind: str, options: dict[str, str]) -> None:
    """One connection, until it breaks or `seconds` are over."""
    width, height = (int(n) for n in options.get("size", "640x360").split("x"))
    fps, gop = int(options.get("fps", "25")), int(options.get("gop", "25"))
    until = time.monotonic() + float(options.get("seconds", "inf"))
    rate = 48_000
    muxer = {k[2:]: v for k, v in options.items() if k.startswith("o:")}
    with av.open(url, "w", format=kind, options=muxer) as box:
        video: Any = box.add_stream(options.get("codec", "libx264"), rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = gop, 0
        if "codec" not in options:
            video.options = {"preset": "ultrafast", "tune": "zerolatency"}
        video.codec_context.time_base = Fraction(1, 1000)
        audio: Any = None
        if options.get("sound", "aac") != "none":
            audio = box.add_stream(options.get("sound", "aac"), rate=rate)
            audio.codec_context.layout = "mono"
        began = time.monotonic()
        frames = heard = 0
        while (now := time.monotonic()) < until:
            due = began + frames / fps
            if now < due:
                time.sleep(due - now)
            image = stamped_image(width, height, due)
            image.pts, image.time_base = round((due - began) * 1000), Fraction(1, 1000)
            for packet in video.encode(image):
                box.mux(packet)
            frames += 1
            size = 1024
            while audio is not None and heard + size <= (time.monotonic() - began) * rate:
                sound = av.AudioFrame.from_ndarray(tone(began + heard / rate, size, rate)[None], "fltp", "mono")
                sound.sample_rate, sound.pts, sound.time_base = rate, heard, Fraction(1, rate)
                if audio.codec_context.format.name != "fltp":
                    sound = av.AudioResampler(audio.codec_context.format.name, "mono", rate).resample(sound)[0]
                for packet in audio.encode(sound):
                    box.mux(packet)
                heard += size


def film(path: Path, seconds: float, **options: str) -> Path:
    """A film whose frames carry the times at which they were made."""
    publish(str(path), path.suffix[1:].replace("mkv", "matroska"), {"seconds": str(seconds), "fps": "20", **options})
    return path


def main() -> None:
    url, kind, *rest = sys.argv[1:]
    options = dict(part.split("=", 1) for part in rest)
    while True:
        try:
            publish(url, kind, options)
            return
        except (av.FFmpegError, OSError):
            time.sleep(0.2)


if __name__ == "__main__":
    main()
