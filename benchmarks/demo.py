"""Makes a clip like a bad video call, and enhances it. ``make run`` without INPUT uses it.

The face is scikit-image's public-domain portrait of the astronaut Eileen Collins (NASA). The face moves and comes
nearer. The film is then degraded as by a call: reduced, given sensor noise, coded at a low bit rate, and enlarged.
"""

from __future__ import annotations

import argparse
import io
import math
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtface.errors import MissingComponent, RtfaceError
from rtface.frame import Bytes
from rtface.util.install import extra_line

WIDTH, HEIGHT, FPS, SECONDS = 1280, 720, 30, 7.0
CALL_WIDTH, CALL_HEIGHT, CALL_BITRATE = 640, 360, 200_000
NOISE = 3.0
FACE = 223.0, 118.0  # the face's centre in the portrait of 512×512 pixels


def portrait() -> Bytes:
    """Returns the portrait, RGB uint8 512×512×3. Raises MissingComponent without scikit-image."""
    try:
        from skimage import data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingComponent(
            "the demo needs the portrait in scikit-image: {repair}", code="demo_portrait", repair=extra_line("demo")
        ) from error
    return np.ascontiguousarray(data.astronaut(), np.uint8)


def clean_frames(face: Bytes) -> Iterator[Bytes]:
    """Yields the camera's frames before any loss, RGB uint8 360×640×3."""
    for i in range(round(SECONDS * FPS)):
        phase = 2 * math.pi * (i / FPS) / SECONDS
        x, y = WIDTH * (0.5 + 0.10 * math.sin(phase)), HEIGHT * (0.44 + 0.04 * math.sin(2 * phase))
        tilt, size = (
            0.07 * math.sin(2 * math.pi * i / FPS / SECONDS + 1.0),
            CALL_WIDTH / WIDTH * (2.25 - 0.55 * math.cos(phase)),
        )
        cos, sin = size * math.cos(tilt), size * math.sin(tilt)
        left, top = CALL_WIDTH / WIDTH * x, CALL_WIDTH / WIDTH * y
        matrix = np.array(
            [
                [cos, -sin, left - cos * FACE[0] + sin * FACE[1]],
                [sin, cos, top - sin * FACE[0] - cos * FACE[1]],
            ]
        )
        warped = cv2.warpAffine(
            face, matrix, (CALL_WIDTH, CALL_HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        yield np.asarray(warped, np.uint8)


def call() -> Iterator[av.VideoFrame]:
    """Yields the frames as received: 720p, after sensor noise and a codec at 360p."""
    rng = np.random.default_rng(7)
    wire = io.BytesIO()
    with av.open(wire, "w", format="matroska") as sent:
        stream = sent.add_stream("libx264", FPS, options={"preset": "veryfast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = CALL_WIDTH, CALL_HEIGHT, "yuv420p"
        stream.bit_rate = CALL_BITRATE
        for clean in clean_frames(portrait()):
            noisy = clean + NOISE * rng.standard_normal(clean.shape, np.float32)
            sent.mux(stream.encode(av.VideoFrame.from_ndarray(np.clip(noisy, 0, 255).astype(np.uint8), "rgb24")))
        sent.mux(stream.encode(None))
    wire.seek(0)
    with av.open(wire, "r") as received:
        for frame in received.decode(video=0):
            yield frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation="BILINEAR")


def make_clip(path: Path) -> None:
    """Writes the clip: H.264 720p, 7 s."""
    with av.open(str(path), "w") as film:
        film.metadata["comment"] = "Portrait: NASA, public domain, by scikit-image; motion and damage are synthetic"
        video = film.add_stream("libx264", FPS, options={"preset": "veryfast", "crf": "18"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i, frame in enumerate(call()):
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            frame.pict_type = 0
            film.mux(video.encode(frame))
        film.mux(video.encode(None))


def main() -> int:
    """Runs the demo: ``python -m benchmarks.demo FOLDER [options of rtface run]``. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo",
        description=(__doc__ or "").split("\n")[0],
        epilog="Everything after FOLDER goes to 'rtface run'.",
    )
    parser.add_argument("folder", type=Path)
    arguments, options = parser.parse_known_args()
    folder: Path = arguments.folder
    clip, enhanced = folder / "demo.mp4", folder / "demo-enhanced.mp4"
    comparison = folder / "demo-before-after.mp4"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _print(f"making {clip}: a portrait that moves and comes nearer, through a bad video call")
        make_clip(clip)
        outputs = "--compare", str(comparison), "--report", str(folder / "report.json"), "--overwrite"
        command = ["run", str(clip), str(enhanced), *outputs, *options]
        _print(shlex.join([str(Path(sys.executable).with_name("rtface")), *command]))
        if code := subprocess.run([sys.executable, "-P", "-m", "rtface", *command], check=False).returncode:
            return code
    except (RtfaceError, OSError) as error:
        _print(f"error: {error}")
        return 1
    _print(f"{enhanced} and {comparison} show the result, and {folder / 'report.json'} has the figures")
    _print(
        "next: 'make app' opens the studio; 'make shell' opens a shell in which rtface works as in the documentation"
    )
    return 0


def _print(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
