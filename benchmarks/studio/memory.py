"""Memory of a studio in which somebody wipes at random times of a film, minute by minute.

    python -m benchmarks.studio.memory FILM [--minutes 60] [--pause 0.3]

Each step asks the server for the input, the enhanced frame and the map of what was invented at another time, with
another strength or engine, as the page does. Prints a line for each minute, then JSON: frames that were shown, and the
memory in use (MB) at the end of each minute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

from benchmarks.studio.clients import memory_mb
from benchmarks.studio.live import Client
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer

ENGINES = ("rtface-m", "rtface-s", "rtface-m-vivid")


def wiped(client: Client, film: Path, minutes: float, pause: float) -> dict[str, object]:
    """Wipes for so long; frames that were shown, and memory."""
    opened = client.json("POST", "/api/films", {"path": str(film)})
    draw, held, shown, began = random.Random(7), list[int](), 0, time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        settings = quote(json.dumps({"engine": draw.choices(ENGINES, (6, 3, 1))[0], "strength": draw.random()}))
        at = round(draw.uniform(0, opened["duration_s"] - 0.5), 3)
        for layer in ("after", "before", draw.choice(("after", "invented"))):
            query = f"time={at}&side=1280&layer={layer}&settings={settings}"
            with client.open("GET", f"/api/films/{opened['id']}/frame?{query}") as answer:
                answer.read()
            shown += 1
        if time.monotonic() - began > 60 * (len(held) + 1):
            held.append(memory_mb())
            print(f"minute {len(held)}: {held[-1]} MB, {shown} frames", flush=True)
        time.sleep(pause)
    return {"frames": shown, "memory_mb": held}


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RTFACE_DATA"] = str(Path(folder) / "data")
        server = StudioServer(Studio(AllowedFolders([asked.film.resolve().parent]), Path(folder)), port=0)
        stop, ready = threading.Event(), threading.Event()
        serving = threading.Thread(target=server.run, args=(stop, ready.set))
        serving.start()
        ready.wait()
        try:
            print(json.dumps(wiped(Client(server), asked.film.resolve(), asked.minutes, asked.pause)))
        finally:
            stop.set()
            serving.join()


if __name__ == "__main__":
    main()
