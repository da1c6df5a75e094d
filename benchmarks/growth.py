"""Measures how much a program's memory grows with each event.

An event is a source, audio stream or viewer that disconnects and reconnects, or an item of the queue.

usage: python -m benchmarks.growth [--events 60] [--film FILM] [KIND ...]

Kinds: source (the input stream disconnects), sound (the stream of `--audio` disconnects), sink (ffmpeg as an RTMP
server ends), viewer (a viewer of the output disconnects), page (a viewer of the preview disconnects), queue (an item's
process ends at once). Figures are MB per event, from the 20th event to the last: the median of the slopes between any
two events, which is not affected by late one-time allocations. More than 0.1 is a fault. For sinks and viewers, the
memory of the writer processes is added to that of the run. Saves results/growth.json.
"""

from __future__ import annotations

import argparse
import io
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from benchmarks.common import clip, save

_FIRST_EVENT = 20
_CONNECTION_S = 1.2  # duration of each connection


def resident(process: int | str = "self", *, children: bool = False) -> float:
    """Returns a process's resident memory in MB, optionally with its children."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    memory = int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024
    if children:
        child_ids = "".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children"))
        memory += sum(resident(child) for child in child_ids.split())
    return memory


def free_port() -> int:
    """Finds an unused loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def stream(film: Path, *, sound: bool) -> bytes:
    """Returns `_CONNECTION_S` seconds of a film, or of silence, as MPEG-TS."""
    out = io.BytesIO()
    with av.open(str(film)) as reader, av.open(out, "w", format="mpegts") as writer:
        if sound:
            audio: Any = writer.add_stream("aac", rate=48_000)
            for _ in range(round(_CONNECTION_S * 48_000 / 1024)):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate = 48_000
                writer.mux(audio.encode(frame))
            writer.mux(audio.encode(None))
        else:
            source = reader.streams.video[0]
            video: Any = writer.add_stream_from_template(source)
            for packet in reader.demux(source):
                if packet.size and float(packet.dts * packet.time_base) < _CONNECTION_S:
                    packet.stream = video
                    writer.mux(packet)
    return out.getvalue()


@contextmanager
def hanging_up(data: bytes) -> Iterator[tuple[str, list[float]]]:
    """Serves data, and disconnects after each transfer. Yields the address and a list of the disconnection times."""
    server, end_times = socket.create_server(("127.0.0.1", 0)), list[float]()

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                for part in range(10):
                    try:
                        peer.sendall(data[len(data) * part // 10 : len(data) * (part + 1) // 10])
                    except OSError:
                        break
                    time.sleep(_CONNECTION_S / 10)
            end_times.append(time.monotonic())

    threading.Thread(target=serve, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}", end_times
    server.close()


@contextmanager
def live(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a live run, and terminates it after the block."""
    with subprocess.Popen([sys.executable, "-m", "rtface", "run", *arguments], stderr=subprocess.DEVNULL) as run:
        try:
            yield run
        finally:
            run.terminate()


def of_source(events: int, film: Path, *, sound: bool = False) -> list[float]:
    """Measures memory after each disconnection of the source, or of its audio."""
    with hanging_up(stream(film, sound=sound)) as (address, end_times):
        arguments = [str(film), "null:", "--loop", "--audio", address] if sound else [address, "null:"]
        with live(*arguments, "--control", str(free_port())) as run:
            return list(after(events, run, lambda n: wait_for(lambda: len(end_times) > n)))


def of_viewer(events: int, film: Path) -> list[float]:
    """Measures memory after each viewer of the output. A viewer reads at most half a megabyte."""
    port = free_port()

    def view(_: int) -> None:
        with closing_socket(port) as peer:
            for _ in range(8):
                peer.recv(1 << 16)

    with live(str(film), f"tcp://127.0.0.1:{port}?listen", "--loop") as run:
        return list(after(events, run, view, children=True))


def of_sink(events: int, film: Path) -> list[float]:
    """Measures memory after each end of the output's server."""
    address = f"rtmp://127.0.0.1:{free_port()}/live/key"

    def serve(_: int) -> None:
        fast_start = ["-analyzeduration", "100000", "-probesize", "5000"]
        options = [*fast_start, "-listen", "1", "-f", "flv", "-i", address, "-t", "0.5", "-f", "null", "-"]
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *options], stderr=subprocess.DEVNULL, timeout=60)

    server = threading.Thread(target=serve, args=(0,))
    server.start()
    time.sleep(0.5)
    with live(str(film), address, "--loop") as run:
        server.join()
        return list(after(events, run, serve, children=True))


def of_page(events: int, film: Path) -> list[float]:
    """Measures memory after each viewer of the preview."""
    port = free_port()

    def view(_: int) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=30).read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/preview.mjpeg", timeout=30) as pictures:
            pictures.read(100_000)

    with live(str(film), "null:", "--loop", "--control", str(port)) as run:
        wait_for(lambda: answers(port))
        return list(after(events, run, view))


def of_queue(events: int, film: Path) -> list[float]:
    """Measures memory after each item of a queue that this process runs."""
    from rtface.jobs.queue.api import Queue
    from rtface.jobs.queue.runner import Runner

    figures = list[float]()
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder) / "queue.db")
        for number in range(events):
            queue.add(film, Path(folder) / f"{number}.mkv")
        Runner(queue.store, target="benchmarks.growth:end_at_once", progress=lambda _: figures.append(resident())).run()
    return figures[-events:]


def end_at_once(parent: Any, start: Any) -> None:
    """Ends an item's process immediately."""
    from rtface.errors import Message
    from rtface.jobs.queue.item import Ended

    parent.send(Ended("done", Message()))


def after(
    events: int, run: subprocess.Popen[bytes], event: Callable[[int], None], *, children: bool = False
) -> Iterator[float]:
    """Yields the memory of a run after each event."""
    for number in range(events):
        event(number)
        time.sleep(0.2)
        yield resident(run.pid, children=children)


@contextmanager
def closing_socket(port: int) -> Iterator[socket.socket]:
    """Connects to a port as soon as it is listening."""
    wait_for(lambda: answers(port))
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        yield peer


def answers(port: int) -> bool:
    """Returns whether a port is listening."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(done: Callable[[], bool]) -> None:
    """Waits until `done` returns True. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


KINDS: dict[str, Callable[[int, Path], list[float]]] = {
    "source": of_source,
    "sound": lambda events, film: of_source(events, film, sound=True),
    "sink": of_sink,
    "viewer": of_viewer,
    "page": of_page,
    "queue": of_queue,
}


def main() -> None:
    """Prints and saves the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--film", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    a = parser.parse_args()
    film, result = a.film or clip(width=640, height=360, face_px=150, frames=90), dict[str, Any]()
    if unknown := set(a.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    for kind in a.kinds or KINDS:
        figures = KINDS[kind](a.events, film)
        slope = median((b - a) / (n - m) for (m, a), (n, b) in combinations(list(enumerate(figures))[_FIRST_EVENT:], 2))
        result[kind] = {"mb_each": round(slope, 3), "mb": [round(figure, 1) for figure in figures[::5]]}
        print(kind, result[kind], flush=True)
    save("growth", {"what": __doc__.splitlines()[0], "events": a.events, "kinds": result})


if __name__ == "__main__":
    main()
