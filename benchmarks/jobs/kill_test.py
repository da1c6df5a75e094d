"""Repeatedly kills a process of a job at a random time.

    python -m benchmarks.jobs.kill_test FILM --kills 100 [--workers 2] [--length 2] [--seconds 5]

The next call has to finish the film. The film is processed without a tracker into FFV1, and its output must be
bit-identical to that of an uninterrupted run. With `--workers N`, the killed process is the command or one of its
workers; if a worker dies, the command continues by itself. Kills after the end of the process do not count. Prints a
line of JSON for each kill, and a summary. The exit code is 1 if a film was unfinished or differed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av

OPTIONS = {"tracker": "none", "codec": "ffv1"}


def content(path: Path) -> list[str]:
    """Hashes each stream. Uses times and samples of frames, or times and bytes of packets."""
    with av.open(str(path)) as film:
        digests = [hashlib.sha256() for _ in film.streams]
        for packet in film.demux():
            digest = digests[packet.stream_index]
            if packet.stream.type == "video":
                for frame in packet.decode():
                    digest.update(f"{frame.pts * frame.time_base}".encode() + frame.to_ndarray().tobytes())
            elif packet.size:
                digest.update(f"{packet.pts} {packet.dts}".encode() + bytes(packet))
    return [digest.hexdigest() for digest in digests]


def call(film: Path, output: Path, workers: int, length: str) -> subprocess.Popen[bytes]:
    """Starts a job, or continues it."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.jobs.kill_test", "--run", str(film), str(output), str(workers), length],
        stderr=subprocess.PIPE,
    )


def children(process: int) -> list[int]:
    """Lists the child processes of a process."""
    child_ids: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        child_ids += map(int, task.read_text().split())
    return child_ids


def kill_once(
    film: Path, folder: Path, workers: int, length: str, seconds: float, expected: list[str]
) -> dict[str, object]:
    """Kills one call at a random time, then finishes the film."""
    output = folder / "out.mkv"
    output.unlink(missing_ok=True)
    process = call(film, output, workers, length)
    time.sleep(random.uniform(0.3, seconds))
    try:
        victims = [process.pid, *children(process.pid)] if workers > 1 else [process.pid]
    except OSError:
        victims = [process.pid]
    victim = random.choice(victims)
    alive = process.poll() is None
    if alive and victim == process.pid:
        process.kill()
    elif alive:
        subprocess.run(["kill", "-9", str(victim)], check=False, stderr=subprocess.DEVNULL)
    process.communicate()
    job_folder = folder / "out.mkv.rtface"
    segments_before = len(list(job_folder.glob("segments/*.json")))
    planned = (job_folder / "plan.json").exists()
    joining = (job_folder / "join.json").exists()
    restarted = time.monotonic()
    second_process = call(film, output, workers, length) if planned or not output.exists() else None
    error = second_process.communicate()[1] if second_process else b""
    is_identical = output.exists() and content(output) == expected
    leftover_files = sorted(p.name for p in folder.iterdir() if p.name not in ("out.mkv", "out.mkv.rtface.json"))
    return {
        "ok": is_identical and not leftover_files and not (second_process and second_process.returncode),
        "alive": alive,
        "phase": "a worker"
        if victim != process.pid
        else "joining"
        if joining
        else "working"
        if planned
        else "planning",
        "finished": segments_before,
        "seconds_again": round(time.monotonic() - restarted, 2),
        "left": leftover_files,
        "error": error.decode(errors="replace")[-300:] if second_process and second_process.returncode else "",
    }


def run(film: str, output: str, workers: str, length: str) -> None:
    """Runs the job in a process that may be killed."""
    from rtface.config.options import Options
    from rtface.jobs.job import FilmJob

    job = FilmJob.open(Path(film), Path(output), Options(**OPTIONS), length=Fraction(length))
    assert isinstance(job, FilmJob), job
    job.run(workers=int(workers))


def main() -> None:
    """Runs the test."""
    if sys.argv[1:2] == ["--run"]:
        run(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--length", default="2")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    phases: Counter[str] = Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        from rtface.config.options import Options
        from rtface.pipeline.film import run_file

        run_file(arguments.film, folder / "one.mkv", Options(**OPTIONS))
        expected = content(folder / "one.mkv")
        (folder / "one.mkv").unlink()
        number = 0
        while number < arguments.kills:
            result = kill_once(arguments.film, folder, arguments.workers, arguments.length, arguments.seconds, expected)
            phases[str(result["phase"]) if result["alive"] else "too late"] += 1
            number += bool(result["alive"])
            failed += not result["ok"]
            print(json.dumps({"kill": number, **result}), flush=True)
    print(json.dumps({"kills": arguments.kills, "failed": failed, "phases": phases}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
