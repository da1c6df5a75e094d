"""``make run`` without INPUT: makes a clip like a bad video call, enhances it, and puts before and after side by side.

The face is scikit-image's public-domain portrait of the astronaut Eileen Collins (NASA). It moves, turns and comes
nearer; then the film goes the way of a call: made small, sensor noise, a real codec at a low rate, made large again.
"""

from __future__ import annotations

import argparse
import io
import math
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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
# Where the face is in the 512×512 portrait, and how far its bulge moves when the head turns.
FACE, FACE_SIGMA, FACE_DEPTH = (223.0, 118.0), (42.0, 56.0), 16.0


def portrait() -> Bytes:
    """The portrait, RGB uint8 512×512×3. Raises MissingComponent without scikit-image."""
    try:
        from skimage import data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingComponent(
            "the demo needs the portrait in scikit-image: {repair}", code="demo_portrait", repair=extra_line("demo")
        ) from error
    return np.ascontiguousarray(data.astronaut(), np.uint8)


@dataclass(frozen=True, slots=True)
class Pose:
    """Scale of the portrait, where the face is (x, y), turn -1…1 and tilt in radians; pixels of the 720p frame."""

    scale: float
    x: float
    y: float
    turn: float
    tilt: float

    @staticmethod
    def at(time: float) -> Pose:
        """The pose at a time in seconds; nearest in the middle of the clip, and the end meets the beginning."""
        phase = 2 * math.pi * time / SECONDS
        return Pose(
            2.25 - 0.55 * math.cos(phase),
            WIDTH * (0.5 + 0.10 * math.sin(phase)),
            HEIGHT * (0.44 + 0.04 * math.sin(2 * phase)),
            math.sin(2 * phase),
            0.07 * math.sin(phase + 1.0),
        )


def clean_frames(face: Bytes) -> Iterator[Bytes]:
    """The clean frames as the camera of the call takes them, RGB uint8 360×640×3."""
    # Around the portrait its own colours go on, out of focus.
    around = cv2.GaussianBlur(face, (0, 0), 24, borderType=cv2.BORDER_REPLICATE)
    edge = np.zeros(face.shape[:2], np.float32)
    edge[1:, 24:-24] = 1  # the portrait's lower edge is never seen, its hair is close to the upper one
    edge = cv2.GaussianBlur(edge, (0, 0), 8, borderType=cv2.BORDER_REPLICATE)
    columns, rows = np.meshgrid(
        np.arange(CALL_WIDTH, dtype=np.float32) + 0.5, np.arange(CALL_HEIGHT, dtype=np.float32) + 0.5
    )
    smaller = CALL_WIDTH / WIDTH
    for i in range(round(SECONDS * FPS)):
        pose = Pose.at(i / FPS)
        dx, dy = columns - smaller * pose.x, rows - smaller * pose.y
        # A turning plane seen in perspective, and on it the head's bulge, which moves more than the plane.
        size = smaller * pose.scale * (1 + 0.12 * pose.turn * dx / CALL_WIDTH)
        cos, sin = math.cos(pose.tilt), math.sin(pose.tilt)
        u, v = (cos * dx + sin * dy) / size, (cos * dy - sin * dx) / size
        bulge = np.exp(-0.5 * ((u / FACE_SIGMA[0]) ** 2 + (v / FACE_SIGMA[1]) ** 2))
        x = (u + FACE_DEPTH * pose.turn * bulge + (FACE[0] - 0.5)).astype(np.float32)
        y = (v + (FACE[1] - 0.5)).astype(np.float32)
        near = cv2.remap(face, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        far = cv2.remap(around, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.remap(edge, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[..., None]
        yield (far + share * (near.astype(np.float32) - far) + 0.5).astype(np.uint8)


def call() -> Iterator[av.VideoFrame]:
    """The frames as the other side of a call sees them: 720p, through sensor noise and a codec at 360p."""
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


def make_image(pair: Path, path: Path, time: float = 0.3 * SECONDS) -> None:
    """Cuts the face out of both halves of a before|after film at a time and writes them side by side."""
    pose = Pose.at(time)
    side = min(HEIGHT, 2 * round(95 * pose.scale))
    left, top = (max(0, min(int(c - side / 2), limit - side)) for c, limit in ((pose.x, WIDTH), (pose.y, HEIGHT)))
    with av.open(str(pair)) as film:
        both = next(f for f in film.decode(video=0) if f.time >= time - 0.5 / FPS).to_ndarray(format="bgr24")
    halves = [both[top : top + side, start + left : start + left + side] for start in (0, WIDTH)]
    done, data = cv2.imencode(path.suffix, np.hstack([halves[0], np.full((side, 6, 3), 255, np.uint8), halves[1]]))
    assert done
    path.write_bytes(data.tobytes())


def ended(run: subprocess.Popen[bytes]) -> int:
    """The exit code of a run, which a signal from the terminal reaches, too, and which tidies up then."""
    while True:
        with suppress(KeyboardInterrupt):
            return run.wait()


def main() -> int:
    """``python -m rtface.cli.demo FOLDER [options of rtface run]``; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m rtface.cli.demo",
        description=(__doc__ or "").split("\n")[0],
        epilog="Everything after FOLDER goes to 'rtface run'.",
    )
    parser.add_argument("folder", type=Path)
    arguments, options = parser.parse_known_args()
    folder: Path = arguments.folder
    clip, enhanced = folder / "demo.mp4", folder / "demo-enhanced.mp4"
    pair, still = folder / "demo-before-after.mp4", folder / "before-after.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _print(f"making {clip}: a portrait that moves, turns and comes nearer, through a bad video call")
        make_clip(clip)
        written = "--compare", str(pair), "--report", str(folder / "report.json"), "--overwrite"
        command = ["run", str(clip), str(enhanced), *written, *options]
        _print(shlex.join([str(Path(sys.executable).with_name("rtface")), *command]))
        if code := ended(subprocess.Popen([sys.executable, "-P", "-m", "rtface", *command])):
            return code
        make_image(pair, still)
    except (RtfaceError, OSError) as error:
        _print(f"error: {error}")
        return 1
    _print("there is now:")
    for path, what in (
        (clip, "the clip before"),
        (enhanced, "the enhanced film"),
        (pair, "before | after, a film"),
        (still, "before | after, an image"),
        (folder / "report.json", "what was done, in figures"),
    ):
        _print(f"  {path}  {what}")
    _print("next: make app opens the studio, make shell a shell in which rtface works as the pages print it")
    return 0


def _print(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
