"""Processor time of a film's frames by thread, and how long the interpreter lock is held, by module.

usage: python -m benchmarks.lock [--frames 150] [--rounds 3] [--input CLIP] [--old DIR] [--x264] [--functions 15]

Every round runs a process for each checkout in turn: DIR is another checkout with its `.venv`.
Start-up, and loading of the engine, are not counted. The lock is sampled by py-spy (`pip install
py-spy`), which stops the process for each sample: its figures come from a run of their own.
On a loaded machine the lock is held for longer, by threads that wait for a core. Without py-spy there
are processor times only. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import clip, save

HERE = Path(__file__).resolve().parent
RATE = 200  # samples a second


def measure(checkout: Path, film: Path, engine: str, output: str) -> dict[str, Any]:
    """What `lock_worker` says of one run with the rtface of a checkout."""
    local = checkout / ".venv" / "bin" / "python"
    done = subprocess.run(
        [
            str(local) if local.exists() else sys.executable,
            str(HERE / "lock_worker.py"),
            str(film),
            engine,
            output,
            str(RATE if shutil.which("py-spy") else 0),
        ],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{checkout}: ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(rounds: list[dict[str, Any]], functions: int) -> dict[str, Any]:
    """Medians of the rounds, milliseconds a frame."""

    def a_frame(seconds: Callable[[dict[str, Any]], float]) -> float:
        return round(statistics.median(1e3 * seconds(r) / r["frames"] for r in rounds), 2)

    def table(of: Callable[[dict[str, Any]], Mapping[str, float]], most: int) -> dict[str, float]:
        names = {name for r in rounds for name in of(r)}
        figures = {name: a_frame(lambda r, name=name: of(r).get(name, 0.0)) for name in names}  # pyright: ignore
        return dict(sorted(figures.items(), key=lambda item: -item[1])[:most])

    result: dict[str, Any] = {
        "frames": rounds[0]["frames"],
        "processor_ms": a_frame(lambda r: r["processor_s"]),
        "threads_ms": table(lambda r: r["threads_s"], 10),
    }
    if "lock" in rounds[0]:
        result["lock_ms"] = a_frame(lambda r: sum(r["lock"]["threads_s"].values()))
        for kind, most in (("threads", 8), ("modules", 25), ("functions", functions)):
            result[f"lock_{kind}_ms"] = table(lambda r, of=kind: r["lock"][f"{of}_s"], most)  # pyright: ignore
    return result


def main() -> None:
    """Runs every case `rounds` times, by turns with an old checkout where there is one, and saves the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--engine", default="rtface-s")
    parser.add_argument("--old", type=Path)
    parser.add_argument("--x264", action="store_true", help="encode with libx264 veryfast instead of not at all")
    parser.add_argument("--functions", type=int, default=15)
    parser.add_argument("--name", default="lock")
    a = parser.parse_args()
    films = (
        {"film": a.input}
        if a.input
        else {"one face": clip(frames=a.frames), "four faces": clip(frames=a.frames, faces=4, face_px=170)}
    )
    checkouts = {"old": a.old.resolve()} if a.old else {}
    checkouts["new"] = HERE.parent
    result: dict[str, Any] = {
        "what": (__doc__ or "").splitlines()[0],
        "engine": a.engine,
        "rounds": a.rounds,
        "encoder": "libx264 veryfast" if a.x264 else "none",
    }
    with tempfile.TemporaryDirectory() as folder:
        output = f"{folder}/out.mp4" if a.x264 else "null:"
        for name, film in films.items():
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in checkouts}
            for _ in range(a.rounds):
                for side, checkout in checkouts.items():
                    found[side].append(measure(checkout, film.resolve(), a.engine, output))
            result[name] = {side: summary(rounds, a.functions) for side, rounds in found.items()}
    save(a.name, result)


if __name__ == "__main__":
    main()
