"""Provides the benchmarks' reference clips, machine description and result files.

Timings vary between sessions, so each benchmark measures baseline and subject alternately, and reports ratios.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

RESULTS = Path(__file__).parent / "results"
CACHE = Path(__file__).parent.parent / "out" / "bench"


def machine() -> dict[str, Any]:
    """Returns date, processor, cores, and relevant versions."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass  # systems other than Linux report only the platform's name
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": load,
        "python": platform.python_version(),
        "versions": {p: version(p) for p in ("rtface", "av", "openvino", "opencv-python-headless", "numpy")},
    }


def save(name: str, result: dict[str, Any]) -> None:
    """Writes benchmarks/results/NAME.json, and prints its content."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **result}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Returns minimum, p50, p95, p99 and maximum in milliseconds."""
    ms = np.asarray(seconds) * 1e3
    return {
        "min": round(float(ms.min()), 3),
        "p50": round(float(np.percentile(ms, 50)), 3),
        "p95": round(float(np.percentile(ms, 95)), 3),
        "p99": round(float(np.percentile(ms, 99)), 3),
        "max": round(float(ms.max()), 3),
    }


def median_ratio(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Computes the pairwise ratios a/b: min, median, max."""
    r = np.asarray(a) / np.asarray(b)
    return {"min": round(float(r.min()), 3), "median": round(float(np.median(r)), 3), "max": round(float(r.max()), 3)}


def clip(
    *,
    width: int = 1280,
    height: int = 720,
    face_px: int = 250,
    faces: int = 1,
    frames: int = 300,
    rate: int = 30,
    clean: bool = False,
) -> Path:
    """Creates a cached clip of `faces` moving copies of scikit-image's public-domain portrait.

    Unless `clean`, the clip is degraded like a call: half size, sensor noise, x264 at crf 31. It is then
    enlarged again.
    """
    path = CACHE / f"{width}x{height}_{faces}x{face_px}px_{frames}f_{rate}fps_{'clean' if clean else 'call'}.mp4"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    pictures = _moving_portraits(width, height, face_px, faces, frames)
    working = path.with_suffix(".making.mp4")
    if not clean:
        call = path.with_suffix(".call.mp4")
        half = (width // 2 // 2 * 2, height // 2 // 2 * 2)
        rng = np.random.default_rng(1)
        noise = rng.normal(0, 3, (8, half[1], half[0], 3)).astype(np.float32)
        _encode(
            call,
            (
                np.clip(cv2.resize(p, half, interpolation=cv2.INTER_AREA) + noise[t % 8], 0, 255).astype(np.uint8)
                for t, p in enumerate(pictures)
            ),
            rate,
            {"preset": "veryfast", "tune": "zerolatency", "crf": "31"},
        )
        with av.open(str(call)) as reader:
            _encode(
                working,
                (
                    cv2.resize(f.to_ndarray(format="rgb24"), (width, height), interpolation=cv2.INTER_CUBIC)
                    for f in reader.decode(video=0)
                ),
                rate,
                {"preset": "veryfast", "crf": "20"},
            )
        call.unlink()
    else:
        _encode(working, pictures, rate, {"preset": "veryfast", "crf": "16"})
    working.replace(path)
    return path


def _moving_portraits(width: int, height: int, face_px: int, faces: int, frames: int) -> Iterator[np.ndarray]:
    from skimage import data

    portrait = data.astronaut()
    scale = face_px / 105.0  # the portrait's face box is about 105 px wide
    rng = np.random.default_rng(1)
    backdrop = cv2.resize(
        rng.integers(40, 160, (9, 16, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    for t in range(frames):
        picture = backdrop.copy()
        for k in range(faces):
            centre = (
                width * (k + 1) / (faces + 1) + 30 * np.sin(t / 17 + k),
                height * 0.5 + 18 * np.cos(t / 23 + 2 * k),
            )
            zoom = scale * (1 + 0.05 * np.sin(t / 31 + k))
            matrix = cv2.getRotationMatrix2D((223.0, 120.0), 4 * np.sin(t / 19 + k), zoom)
            matrix[:, 2] += (centre[0] - 223.0, centre[1] - 120.0)
            # Each copy of the portrait has its own column.
            left, right = int(width * (k + 0.5) / (faces + 1)), int(width * (k + 1.5) / (faces + 1))
            layer = cv2.warpAffine(
                portrait, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            picture[:, left:right] = layer[:, left:right]
        yield picture


def _encode(path: Path, pictures: Iterable[np.ndarray], rate: int, options: dict[str, str]) -> None:
    stream = None
    with av.open(str(path), "w") as out:
        for t, picture in enumerate(pictures):
            if stream is None:
                stream = out.add_stream("libx264", rate=rate, options=options)
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = t, Fraction(1, rate)
            out.mux(stream.encode(frame))
        if stream is not None:
            out.mux(stream.encode(None))


def time_command(command: Sequence[str]) -> tuple[float, float]:
    """Measures wall and CPU seconds of a process. If it fails, exits with its output."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
