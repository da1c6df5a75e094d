"""What `test_source_cameras.py` runs inside a machine that has a vivid camera: prints a line of JSON for each case."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from rtface.errors import RtfaceError
from rtface.live.sources import read_process
from tests.live.watching import Watched

CAMERA = "/dev/video20"
# An emulated machine, on a busy one, takes long to start a process.
read_process.START_S, read_process.OPENING_S = 200.0, 60.0  # pyright: ignore


def control(name: str, value: int) -> None:
    subprocess.run(["v4l2-ctl", "-d", CAMERA, "-c", f"{name}={value}"], check=True, capture_output=True)


def opened(name: str, size: tuple[int, int] | None, fps: int | None, frames: int = 40) -> dict[str, Any]:
    """What is got, how fast and how late."""
    with Watched(
        f"camera:{name}" if "/" not in name else name, size=size, fps=None if fps is None else Fraction(fps)
    ) as watched:
        watched.more(frames, 60)
        form = watched.source.video_format
        last = watched.frames[-1][1].image
    came = [f.captured_at or 0 for _, f in watched.frames][5:]
    return {
        "described": watched.source.described,
        "notes": watched.source.notes,
        "took": watched.took,
        "form": [form.width, form.height, form.pix_fmt, float(form.rate)],
        "rate": (len(came) - 1) / (came[-1] - came[0]),
        "late": statistics.median(at - (f.captured_at or 0) for at, f in watched.frames),
        "pts": max(abs(f.time - (f.captured_at or 0)) for _, f in watched.frames),
        "spread": float(last.to_ndarray(format="gray8").std()),
    }


def refused(name: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        with Watched(name):
            return {"error": "none"}
    except RtfaceError as error:
        return {"error": str(error), "kind": type(error).__name__, "took": time.monotonic() - began}


def unplugged() -> dict[str, Any]:
    with Watched(CAMERA, size=(320, 180)) as watched:
        watched.more(10, 60)
        control("disconnect", 1)
        noticed = watched.state("away", 20)
        detail = watched.source.health.detail
        time.sleep(3)
        control("disconnect", 0)
        back = watched.state("live", 120)
        watched.more(10, 60)
        return {"noticed": noticed, "back": back, "detail": detail, "reopened": watched.source.health.reopened}


def bad_cable() -> dict[str, Any]:
    control("percentage_of_dropped_buffers", 50)
    try:
        with Watched(CAMERA, size=(320, 180), fps=Fraction(30)) as watched:
            watched.more(30, 60)
            return {"reopened": watched.source.health.reopened}
    finally:
        control("percentage_of_dropped_buffers", 0)


def in_use() -> dict[str, Any]:
    with Watched(CAMERA, size=(320, 180)) as watched:
        watched.more(1, 60)
        return refused(CAMERA)


def forbidden() -> dict[str, Any]:
    """As a user who may not open it; in this process, for others may not even run this Python."""
    from rtface.live.devices.capture import open_camera
    from rtface.live.messages import SourceRequest

    Path(CAMERA).chmod(0o600)
    os.setgroups([])
    os.seteuid(65534)
    try:
        open_camera(SourceRequest("camera", CAMERA))
        return {"error": "none"}
    except RtfaceError as error:
        return {"error": str(error), "kind": type(error).__name__}
    finally:
        os.seteuid(0)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: opened(CAMERA, None, None),
    "number": lambda: opened("20", (640, 360), 30),
    "name": lambda: opened("vivid", (320, 180), 15),
    "slow": lambda: opened(CAMERA, (1280, 720), 30, 15),
    "odd": lambda: opened(CAMERA, (641, 359), 10, 10),
    "missing": lambda: refused("camera:99"),
    "no such name": lambda: refused("camera:nobody"),
    "nobody writes": lambda: refused("/dev/video10"),
    "nobody writes to the open one": lambda: refused("/dev/video11"),
    "in use": in_use,
    "unplugged": unplugged,
    "bad cable": bad_cable,
    "forbidden": forbidden,
}


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/tmp")
    for case in sys.argv[1:]:
        try:
            print(json.dumps([case, CASES[case]()]), flush=True)
        except Exception as error:  # noqa: BLE001
            print(json.dumps([case, {"error": repr(error)}]), flush=True)
