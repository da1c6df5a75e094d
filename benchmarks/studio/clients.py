"""What 200 pages cost a live run and each other, some of which read slowly or never.

    python -m benchmarks.studio.clients FILM [--clients 200] [--seconds 30]

FILM is played at its pace into nothing by a live run of the studio; it lasts 30 seconds longer than both
measurements. First nobody looks; then so many WebSockets are open (of six, four read, one reads a message a second,
one never reads), and four viewers of the preview that never read. Prints JSON for both: latency and drops of the run,
time of an honest request (milliseconds, 50th, 95th and 99th percentile), processor time of run and server as a share
of one core, memory of the server in MB, and messages a second of those that read. Exit code 1 where the run ended,
dropped more frames than without them, or a request had no answer.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studio.live import Client, processor_s
from rtface.media.read.source import FileSource
from rtface_studio import live_run
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer

_VIEWERS = 4


def page(server: StudioServer, path: str = "/api/events", *, socket_of_page: bool = True) -> socket.socket:
    """A connection that has asked for the events, or for another path."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    upgrade = (
        [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
        if socket_of_page
        else []
    )
    connection.sendall(
        "\r\n".join(
            [
                f"GET {path} HTTP/1.1",
                f"Host: 127.0.0.1:{server.port}",
                f"Authorization: Bearer {server.token}",
                *upgrade,
                "",
                "",
            ]
        ).encode()
    )
    return connection


def read(fast: list[socket.socket], slow: list[socket.socket], stop: threading.Event, seen: list[int]) -> None:
    """Reads until `stop`: the fast ones whenever there is something, the slow ones a little each second."""
    with selectors.DefaultSelector() as waiting:
        for connection in fast:
            connection.setblocking(False)
            waiting.register(connection, selectors.EVENT_READ)
        last = time.monotonic()
        while not stop.is_set():
            for key, _ in waiting.select(0.2):
                try:
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                except OSError:
                    data = b""
                if not data:
                    waiting.unregister(key.fileobj)
                    seen[1] += 1
                seen[0] += data.count(b'"topic"')
            if time.monotonic() - last > 1.0:
                last = time.monotonic()
                for connection in slow:
                    connection.setblocking(False)
                    try:
                        connection.recv(1500)
                    except OSError:
                        continue


def measured(client: Client, run: int, seconds: float) -> dict[str, Any]:
    """Figures of so many seconds."""
    before = client.json("GET", "/api/live")["status"]
    began, own, spent, asked = time.monotonic(), time.process_time(), processor_s(run), list[float]()
    unanswered = 0
    while time.monotonic() - began < seconds:
        at = time.perf_counter()
        try:
            client.json("GET", "/api/about")
        except OSError:
            unanswered += 1
        asked.append(1e3 * (time.perf_counter() - at))
        time.sleep(0.1)
    passed, now = time.monotonic() - began, client.json("GET", "/api/live")["status"]
    return {
        "latency_ms": now["latency_ms"],
        "frames": now["frames_out"] - before["frames_out"],
        "dropped": sum(now["dropped"].values()) - sum(before["dropped"].values()),
        "unanswered": unanswered,
        "honest_ms": [round(float(ms), 1) for ms in np.percentile(asked, (50, 95, 99))],
        "run_cores": round((processor_s(run) - spent) / passed, 3),
        "server_cores": round((time.process_time() - own) / passed, 3),
        "memory_mb": memory_mb(),
    }


def memory_mb() -> int:
    """Of this process, in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def compared(server: StudioServer, film: Path, clients: int, seconds: float) -> dict[str, Any]:
    """A live run without pages, and with them."""
    client, started = Client(server), list[int]()
    popen = live_run.subprocess.Popen
    live_run.subprocess.Popen = lambda *a, **k: started.append((p := popen(*a, **k)).pid) or p  # type: ignore
    try:
        client.json("POST", "/api/live/start", {"source": str(film), "output": "null:", "settings": {}})
    finally:
        live_run.subprocess.Popen = popen
    while client.json("GET", "/api/live")["state"] != "running":
        time.sleep(0.2)
    time.sleep(5.0)
    found: dict[str, Any] = {"without": measured(client, started[0], seconds)}
    pages = [page(server) for _ in range(clients)]
    viewers = [page(server, "/api/live/preview", socket_of_page=False) for _ in range(_VIEWERS)]
    stop, seen = threading.Event(), [0, 0]
    fast = [one for number, one in enumerate(pages) if number % 6 < 4]
    reading = threading.Thread(target=read, args=(fast, pages[4::6], stop, seen), daemon=True)
    reading.start()
    time.sleep(2.0)
    messages = seen[0]
    found["with"] = measured(client, started[0], seconds)
    found["messages_s_each"] = round((seen[0] - messages) / seconds / max(1, len(fast)), 2)
    found["disconnected"] = seen[1]
    stop.set()
    reading.join()
    for one in (*pages, *viewers):
        one.close()
    time.sleep(2.0)
    found["memory_mb_after"] = memory_mb()
    found["state"] = client.json("GET", "/api/live")["state"]
    client.json("POST", "/api/live/stop")
    return found


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    source = FileSource(asked.film)
    source.close()
    if (source.info.duration_s or 0.0) < 2 * asked.seconds + 30:
        parser.error(f"FILM must last {2 * asked.seconds + 30:g} s, so that it does not end meanwhile")
    with tempfile.TemporaryDirectory() as folder:
        server = StudioServer(Studio(AllowedFolders([asked.film.resolve().parent, Path(folder)]), Path(folder)), port=0)
        stop, ready = threading.Event(), threading.Event()
        serving = threading.Thread(target=server.run, args=(stop, ready.set))
        serving.start()
        ready.wait()
        try:
            found = compared(server, asked.film.resolve(), asked.clients, asked.seconds)
        finally:
            stop.set()
            serving.join()
    print(json.dumps(found))
    sys.exit(
        int(
            found["state"] != "running"
            or found["with"]["unanswered"] > 0
            or found["with"]["dropped"] > found["without"]["dropped"]
        )
    )


if __name__ == "__main__":
    main()
