"""Takes the power away from a job at random times; the next call has to finish the film.

    python -m benchmarks.jobs.power_loss FILM [--cuts 40] [--length 1] [--size 256]

The job works on an ext4 file system in an image. While it works the image is copied, which holds what a disk would have
after a power cut. The copy is mounted, which replays its journal, and the job is called again. The film is processed
without faces into FFV1 and compared with the output of a run in one piece, bit for bit. Needs root and a loop device.
A line of JSON for each cut; exit code 1 when a film was not finished, or was another.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.jobs.kill_test import OPTIONS, call, content
from rtface.config.options import Options
from rtface.pipeline.film import run_file


def mount(image: Path, place: Path) -> None:
    """Mounts an image."""
    subprocess.run(["mount", "-o", "loop", image, place], check=True)


def cut_once(
    film: Path, folder: Path, length: str, seconds: float, size: int, expected: list[str]
) -> tuple[dict[str, object], float]:
    """One call whose disk is copied at a random time, and the next call on the copy; how long the first one took."""
    image, copy, place = folder / "image", folder / "copy", folder / "disk"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount(image, place)
    try:
        shutil.copy2(film, place / film.name)
        os.sync()
        began = time.monotonic()
        process = call(place / film.name, place / "out.mkv", 1, length)
        time.sleep(random.uniform(0.1, seconds))
        shutil.copyfile(image, copy)
        process.communicate()
        took = time.monotonic() - began
    finally:
        subprocess.run(["umount", place], check=True)
    mount(copy, place)
    try:
        job, output = place / "out.mkv.rtface", place / "out.mkv"
        kept, whole = len(list(job.glob("segments/*.json"))), output.exists()
        again = call(place / film.name, output, 1, length) if not whole or (job / "plan.json").exists() else None
        error = again.communicate()[1] if again else b""
        left = sorted(
            {path.name for path in place.iterdir()} - {film.name, "out.mkv", "out.mkv.rtface.json", "lost+found"}
        )
        same = output.exists() and content(output) == expected
    finally:
        subprocess.run(["umount", place], check=True)
    good = same and not left and not (again and again.returncode)
    return {
        "ok": good,
        "kept": kept,
        "whole": whole,
        "left": left,
        "error": "" if good else error.decode(errors="replace")[-300:],
    }, took


def main() -> None:
    """Cut after cut; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--length", default="1", help="seconds of a segment")
    parser.add_argument("--size", type=int, default=256, help="of the disk, in MiB")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if sys.platform == "win32" or os.geteuid() or not Path("/dev/loop-control").exists():
        print("not tried: it needs root and loop devices")
        return
    random.seed(asked.seed)
    failed, seconds = 0, 2.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "disk").mkdir()
        run_file(asked.film, folder / "one.mkv", Options(**OPTIONS))
        expected = content(folder / "one.mkv")
        for number in range(asked.cuts):
            result, seconds = cut_once(asked.film, folder, asked.length, seconds, asked.size, expected)
            failed += not result["ok"]
            print(json.dumps({"cut": number, **result}), flush=True)
    print(json.dumps({"cuts": asked.cuts, "failed": failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
