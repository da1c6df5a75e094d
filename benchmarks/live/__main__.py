"""Measures the latency of live runs.

usage: python -m benchmarks.live [--seconds 60] [--engine NAME] [CASE ...]

Cases: one (one face), four (four faces), large (two faces, 1080p), loaded (one face, while another process keeps a core
busy), slow (one face; --engine must select an engine that is too slow).

The source is a clip of 30 frames per second (720p except in large), sent in real time over TCP. Each frame contains its
number, so latency is measured from the time at which the frame is due until the sink receives the frame. It includes
network, decoding and tracking. Saves results/live_CASE.json.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from benchmarks.common import save
from benchmarks.live.sender import create_numbered_clip

BURN = "while True: pass"
CLIPS: dict[str, dict[str, int]] = {
    "four": {"faces": 4, "face_px": 170},
    "large": {"faces": 2, "width": 1920, "height": 1080},
}


def measure_run(path: Path, seconds: float, *arguments: str, tree: Path | None = None) -> dict[str, Any]:
    """Measures a live run on a clip. `tree` is a folder with another version of rtface and the benchmarks."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with av.open(str(path)) as reader:
        count = reader.streams.video[0].frames
    with tempfile.TemporaryDirectory() as folder:
        times_file = str(Path(folder) / "times")
        Path(times_file).write_bytes(bytes(8 * count))
        sender = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.live.sender", str(path), str(port), times_file, str(seconds + 30)]
        )
        try:
            wait_for_listener(port)
            process = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.live.ours",
                    f"tcp://127.0.0.1:{port}",
                    times_file,
                    str(count),
                    str(seconds),
                    *arguments,
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd=tree,
            )
        finally:
            sender.kill()
            sender.wait()
    if process.returncode or not process.stdout:
        sys.exit(f"the run ended with {process.returncode}:\n{process.stderr[-2000:]}")
    print(process.stderr[-4000:], end="", file=sys.stderr)
    result = json.loads(process.stdout.splitlines()[-1])
    print({k: v for k, v in result.items() if k != "stages_ms"}, flush=True)
    return result


def wait_for_listener(port: int) -> None:
    """Waits until the sender is listening. Does not connect, because the sender accepts only one connection."""
    for _ in range(200):
        listening = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").exists() else ""
        if f"0100007F:{port:04X} 00000000:0000 0A" in listening:
            return
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.05)"], check=True)
    sys.exit("the sender is not listening")


@contextmanager
def keep_core_busy() -> Iterator[None]:
    """Runs a process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Runs the cases, and saves the result of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["one", "four", "loaded"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--engine", default="default")
    a = parser.parse_args()
    for case in a.cases:
        path = create_numbered_clip(**CLIPS.get(case, {}))
        result: dict[str, Any] = {"case": case, "seconds": a.seconds}
        if case == "loaded":
            with keep_core_busy():
                result["rtface"] = measure_run(path, a.seconds, a.engine)
        else:
            result["rtface"] = measure_run(path, a.seconds, a.engine)
        save(f"live_{case}", result)


if __name__ == "__main__":
    main()
