"""Compares the time of `rtface run` with a plain transcode. Runs complete processes in pairs, with equal settings.

usage: python -m benchmarks.transcode [--pairs 5] [--preset veryfast] [--input CLIP] [--engines rtface-s,rtface-m]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import av

from benchmarks.common import clip, median_ratio, save, time_command


def main() -> None:
    """Runs the pairs, and saves results/transcode_PRESET.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--input", type=Path)
    parser.add_argument("--engines", default="rtface-s,rtface-m")
    parser.add_argument("--name")
    a = parser.parse_args()
    source = a.input or clip()
    with av.open(str(source)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    result: dict[str, object] = {
        "what": __doc__.splitlines()[0],
        "clip": source.name,
        "frames": frames,
        "codec": f"libx264 {a.preset} crf 20",
        "pairs": a.pairs,
    }
    with tempfile.TemporaryDirectory() as folder:
        transcode_command = [
            sys.executable,
            "-m",
            "benchmarks.plain_transcode",
            str(source),
            f"{folder}/plain.mp4",
            "libx264",
            a.preset,
            "20",
        ]
        for engine in a.engines.split(","):
            rtface_command = [
                sys.executable,
                "-m",
                "rtface",
                "run",
                str(source),
                f"{folder}/ours.mp4",
                "--engine",
                engine,
                "--codec",
                "libx264",
                "--preset",
                a.preset,
                "--crf",
                "20",
                "--overwrite",
                "-q",
                "--report",
                f"{folder}/report.json",
            ]
            time_command(transcode_command), time_command(rtface_command)  # warms up file cache and engine
            pairs = [(time_command(rtface_command), time_command(transcode_command)) for _ in range(a.pairs)]
            report = json.loads(Path(f"{folder}/report.json").read_text())
            seconds, transcode_seconds = [p[0][0] for p in pairs], [p[1][0] for p in pairs]
            result[engine] = {
                "wall_ratio": median_ratio(seconds, transcode_seconds),
                "cpu_ratio": median_ratio([p[0][1] for p in pairs], [p[1][1] for p in pairs]),
                "wall_s": [round(w, 2) for w in seconds],
                "plain_wall_s": [round(w, 2) for w in transcode_seconds],
                "added_ms_per_frame": median_ratio(
                    [1e3 * (w - b) for w, b in zip(seconds, transcode_seconds, strict=True)], [frames] * len(seconds)
                ),
                "frames_corrected": report["frames_corrected"],
                "latency_ms": report["latency_ms"],
                "stages_ms": report["stages_ms"],
                "first_frame_s": report["first_frame_s"],
                "peak_rss_mb": report["peak_rss_mb"],
            }
    save(a.name or f"transcode_{a.preset}", result)


if __name__ == "__main__":
    main()
