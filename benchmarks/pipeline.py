"""Measures the processor time of films beside a plain transcode.

usage: python -m benchmarks.pipeline [--rounds 10] [--frames 360] [--cases rtface-s,4 faces] [--old CHECKOUT]

All commands run in turns, so that each meets the same load. `--old` is a checkout whose figures come first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import clip, save, time_command

ENCODER = ["--codec", "libx264", "--preset", "veryfast", "--crf", "20"]
ONE_FACE: dict[str, Any] = {"face_px": 400}
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rtface-s": (ONE_FACE, ["--engine", "rtface-s", "--correct", "always"]),
    "rtface-m": (ONE_FACE, ["--engine", "rtface-m", "--correct", "always"]),
    "auto": (ONE_FACE, ["--correct", "auto"]),
    "never": (ONE_FACE, ["--correct", "never"]),
    "2 faces": ({"faces": 2, "face_px": 250}, ["--engine", "rtface-s", "--correct", "always"]),
    "4 faces": ({"faces": 4, "face_px": 170}, ["--engine", "rtface-s", "--correct", "always"]),
    "8 faces": ({"faces": 8, "face_px": 110}, ["--engine", "rtface-s", "--correct", "always"]),
    "1080p": ({"width": 1920, "height": 1080, "face_px": 600}, ["--engine", "rtface-s", "--correct", "always"]),
}


def run_in(checkout: Path) -> list[str]:
    """Returns the command that runs a checkout's rtface in this environment. It keeps byte code."""
    start = f"import sys; sys.path.insert(0, {str(checkout)!r}); from rtface.__main__ import main; main()"
    return [sys.executable, "-c", start, "run"]


def measure_parts() -> None:
    """Runs rtface with the arguments after `--parts`. Prints the processor seconds of networks as the last line."""
    time.perf_counter = time.thread_time  # the run's own step times become processor time
    from rtface.__main__ import main as run
    from rtface.engine.coded_network import CodedNetwork
    from rtface.engine.crop_runner import CropRunner
    from rtface.tracking.detector import Detector
    from rtface.tracking.facemesh import FaceMesh

    seconds = dict.fromkeys(("engine", "mesh", "detector", "measuring"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **more)
            finally:
                seconds[name] += time.thread_time() - start

        return call

    CropRunner.restore = timed("engine", CropRunner.restore)
    FaceMesh.read = timed("mesh", FaceMesh.read)
    Detector.detect = timed("detector", Detector.detect)
    Detector.detect_in = timed("detector", Detector.detect_in)
    CodedNetwork.__call__ = timed("measuring", CodedNetwork.__call__)  # type: ignore[method-assign]
    sys.argv[1:] = ["run", *sys.argv[sys.argv.index("--parts") + 1 :]]
    leave = os._exit

    def report(code: int) -> None:
        print(json.dumps(seconds), flush=True)
        leave(code)

    os._exit = report  # type: ignore[assignment]  # the command line ends by it
    run()


def main() -> None:
    """Runs the cases, and saves results/NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=360)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--old", type=Path)
    parser.add_argument("--name", default="pipeline")
    a = parser.parse_args()
    here = Path(__file__).parents[1]
    result: dict[str, Any] = {"what": (__doc__ or "").splitlines()[0], "frames": a.frames, "rounds": a.rounds}
    with tempfile.TemporaryDirectory() as folder:
        for name in a.cases.split(","):
            form, options = CASES[name]
            source = str(clip(frames=a.frames, **form))
            more = [*options, *ENCODER, "--overwrite", "-q", "--report", f"{folder}/report.json"]
            target = f"{folder}/out.mp4"
            commands = {"plain": [sys.executable, "-m", "benchmarks.plain_transcode", source, target]}
            if a.old:
                commands["old"] = [*run_in(a.old.resolve()), source, target, *more]
            commands["new"] = [*run_in(here), source, target, *more]
            for command in commands.values():  # fills caches of files, networks and byte code
                time_command(command)
            turns = [{key: time_command(command) for key, command in commands.items()} for _ in range(a.rounds)]
            report = json.loads(Path(f"{folder}/report.json").read_text())
            result[name] = {
                "clip": Path(source).name,
                "frames_corrected": report["frames_corrected"],
                **{f"{key}_ms": _figures([turn[key] for turn in turns], a.frames) for key in commands},
            }
            result[name]["parts_ms"] = _parts([source, target, *more], a.frames, Path(f"{folder}/report.json"))
            print(name, json.dumps(result[name]), flush=True)
    save(a.name, result)


def _figures(seconds: list[tuple[float, float]], frames: int) -> dict[str, float]:
    """Returns processor and wall time in milliseconds a frame: least and median of the turns."""
    wall, used = ([1e3 * one[k] / frames for one in seconds] for k in (0, 1))
    return {
        "least": round(min(used), 2),
        "median": round(statistics.median(used), 2),
        "wall": round(statistics.median(wall), 2),
    }


def _parts(arguments: list[str], frames: int, report: Path) -> dict[str, float]:
    """Returns the milliseconds of processor time a frame, by part. Excludes threads of x264."""
    import subprocess

    command = [sys.executable, "-m", "benchmarks.pipeline", "--parts", *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    networks = {name: 1e3 * value / frames for name, value in json.loads(out.splitlines()[-1]).items()}
    steps = json.loads(report.read_text())["stages_ms"]
    parts = {name: step["mean"] * step["count"] / frames for name, step in steps.items()}
    return {name: round(value, 2) for name, value in {**parts, **networks}.items() if value >= 0.005}


if __name__ == "__main__":
    measure_parts() if "--parts" in sys.argv else main()
