"""What the studio's page costs a live run: processor time and dropped frames, with a viewer and without, by turns.

    python -m benchmarks.studio.live FILM [--seconds 20] [--rounds 3] [--sharp] [--moved] [--off]

FILM is played at its pace into nothing by `rtface run --control`, and a viewer reads the preview through the studio's
server as the page does while its wipe rests in the middle (`--moved`: while the wipe is moved). FILM lasts ten seconds
longer than a round. With `--off` no face is enhanced: the preview's work is the same, and the engine's time, which
differs from round to round by more than that, does not hide it. Prints JSON: processor time of the run and of the
server as a share of one core, the difference that the viewer makes, pictures a second, latency and drops. The browser
is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from rtface_studio import live_run
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer


def processor_s(pid: int) -> float:
    """Processor time of a process, seconds (Linux)."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """Asks the studio with its token."""

    def __init__(self, server: StudioServer) -> None:
        self._base, _, self._token = server.address.partition("/?token=")

    def open(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._base + path,
            method=method,
            headers={"Authorization": f"Bearer {self._token}"},
            data=None if body is None else json.dumps(body).encode(),
        )
        return urllib.request.urlopen(request, timeout=30)

    def json(self, method: str, path: str, body: Any = None) -> Any:
        with self.open(method, path, body) as answer:
            return json.load(answer)


def look(client: Client, query: str, stop: threading.Event, seen: list[int], own: list[float]) -> None:
    """Reads the preview until `stop`, and counts pictures, and the seconds of processor time that this took."""
    with client.open("GET", f"/api/live/preview?{query}") as answer:
        while not stop.is_set():
            seen[0] += answer.read1(1 << 16).count(b"Content-Length")
            own[0] = time.thread_time()


def measure(client: Client, film: Path, seconds: float, viewer: bool, query: str, off: bool) -> dict[str, float]:
    """One run of so many seconds, after two to warm up."""
    started: list[int] = []
    popen = live_run.subprocess.Popen
    live_run.subprocess.Popen = lambda *a, **k: started.append((p := popen(*a, **k)).pid) or p  # type: ignore
    try:
        client.json("POST", "/api/live/start", {"source": str(film), "output": "null:", "settings": {}})
    finally:
        live_run.subprocess.Popen = popen
    while client.json("GET", "/api/live")["state"] != "running":
        time.sleep(0.2)
    if off:
        client.json("POST", "/api/live/set", {"name": "enabled", "value": False})
    stop, seen, reader, watching = threading.Event(), [0], [0.0], None
    if viewer:
        watching = threading.Thread(target=look, args=(client, query, stop, seen, reader))
        watching.start()
    time.sleep(2.0)
    began, own, run, pictures = time.monotonic(), time.process_time() - reader[0], processor_s(started[0]), seen[0]
    time.sleep(seconds)
    passed = time.monotonic() - began
    found = {
        "run": (processor_s(started[0]) - run) / passed,
        "server": (time.process_time() - reader[0] - own) / passed,
        "pictures_s": (seen[0] - pictures) / passed,
    }
    status = client.json("GET", "/api/live")["status"]
    if status is None:
        raise SystemExit(f"{film} ended before the round did; give a longer one, or fewer --seconds")
    stop.set()
    if watching is not None:
        watching.join()
    client.json("POST", "/api/live/stop")
    return found | {"latency_p95_ms": status["latency_ms"]["p95"], "dropped": sum(status["dropped"].values())}


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sharp", action="store_true")
    parser.add_argument("--moved", action="store_true")
    parser.add_argument("--off", action="store_true")
    asked = parser.parse_args()
    query = f"sharp={int(asked.sharp)}" + ("" if asked.moved else "&from=0.46&to=0.54")
    with tempfile.TemporaryDirectory() as folder:
        server = StudioServer(Studio(AllowedFolders([asked.film.resolve().parent, Path(folder)]), Path(folder)), port=0)
        stop, ready = threading.Event(), threading.Event()
        serving = threading.Thread(target=server.run, args=(stop, ready.set))
        serving.start()
        ready.wait()
        rows: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        try:
            for number in range(2 * asked.rounds):
                viewer = number % 2 == 1
                rows[viewer].append(
                    measure(Client(server), asked.film.resolve(), asked.seconds, viewer, query, asked.off)
                )
        finally:
            stop.set()
            serving.join()
    means = {
        name: {key: round(float(np.mean([row[key] for row in rows[viewer]])), 4) for key in rows[viewer][0]}
        for name, viewer in (("without", False), ("with", True))
    }
    cost = sum(means["with"][key] - means["without"][key] for key in ("run", "server"))
    print(json.dumps(means | {"cost_of_a_core": round(cost, 4)}))


if __name__ == "__main__":
    main()
