"""Peak memory of `rtface run` at 1080p, and whether it stays flat from 1,000 to 10,000 frames.

usage: python -m benchmarks.memory [--short 1000] [--long 10000] [--engine rtface-m]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from benchmarks.common import clip, save


def repeated(source: Path, times: int, target: Path) -> None:
    """The same packets again and again, so that a long film needs no long encoding."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        out = writer.add_stream_from_template(video)
        packets = [p for p in reader.demux(video) if p.size]
        length = sum(p.duration for p in packets)
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.duration) for p in packets]
        for k in range(times):
            for payload, pts, dts, key, duration in data:
                packet = av.Packet(payload)
                packet.pts, packet.dts, packet.duration = pts + k * length, dts + k * length, duration
                packet.time_base, packet.is_keyframe, packet.stream = video.time_base, key, out
                writer.mux(packet)


def main() -> None:
    """Runs both lengths in processes of their own and saves results/memory_ENGINE.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", type=int, default=1000)
    parser.add_argument("--long", type=int, default=10_000)
    parser.add_argument("--engine", default="rtface-m")
    a = parser.parse_args()
    base = clip(width=1920, height=1080, face_px=350, frames=100)
    result: dict[str, object] = {"what": __doc__.splitlines()[0], "engine": a.engine}
    with tempfile.TemporaryDirectory() as folder:
        for frames in (a.short, a.long):
            film, report = Path(folder) / f"{frames}.mkv", Path(folder) / "report.json"
            repeated(base, frames // 100, film)
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "rtface",
                    "run",
                    str(film),
                    f"{folder}/out.mkv",
                    "--codec",
                    "libx264",
                    "--preset",
                    "ultrafast",
                    "--engine",
                    a.engine,
                    "--overwrite",
                    "-q",
                    "--report",
                    str(report),
                ],
                check=True,
            )
            told = json.loads(report.read_text())
            result[str(frames)] = {k: told[k] for k in ("peak_rss_mb", "frames_out", "frames_corrected", "fps")}
    short, long = (result[str(n)]["peak_rss_mb"] for n in (a.short, a.long))  # type: ignore[index]
    result["growth"] = round(long / short - 1, 4)
    save(f"memory_{a.engine}", result)


if __name__ == "__main__":
    main()
