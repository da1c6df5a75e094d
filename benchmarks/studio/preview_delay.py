"""How far the studio's live preview lags behind the source: from when a frame was due until a viewer has it as JPEG.

    python -m benchmarks.studio.preview_delay [--seconds 30]

The source is the numbered clip of `benchmarks.live`, over TCP at its own pace, and the output is null:. Prints JSON:
pictures a second, and the delay of the picture after in milliseconds (50th, 95th and 99th percentile). What
`python -m benchmarks.live one` gives as `latency_ms` is the same delay for an output: the difference is what the
preview lags behind it. JPEG is decoded here, too, which takes 2 to 3 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.live.__main__ import wait_for_listener
from benchmarks.live.sender import BITS, Times, number_of, numbered
from benchmarks.studio.live import Client
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer

_PORT = 38471
_WARM_S = 5.0


def delays(client: Client, times: Times, width: int, seconds: float) -> list[float]:
    """Seconds from due to decoded of every picture after."""
    found, data = list[float](), b""
    with client.open("GET", "/api/live/preview?sharp=0") as answer:
        began = time.monotonic()
        while (now := time.monotonic()) < began + _WARM_S + seconds:
            head, mark, rest = data.partition(b"\r\n\r\n")
            length = int(head.rpartition(b"Content-Length: ")[2]) if mark else -1
            if length < 0 or len(rest) < length:
                data += answer.read1(1 << 16)
                continue
            pair = cv2.imdecode(np.frombuffer(rest[:length], np.uint8), cv2.IMREAD_GRAYSCALE)
            data = rest[length + 2 :]
            after = pair[:, pair.shape[1] // 2 :]
            number = number_of(cv2.resize(after[:32], (width, 64), interpolation=cv2.INTER_NEAREST))
            if number is not None and number < 1 << BITS and now > began + _WARM_S:
                found.append(times.latency(number, time.monotonic()))
    return found


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    path = numbered()
    with av.open(str(path)) as reader:
        count, width = reader.streams.video[0].frames, reader.streams.video[0].width
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RTFACE_DATA"] = str(Path(folder) / "data")
        times = Times(Path(folder) / "times", count)
        server = StudioServer(Studio(AllowedFolders([Path(folder)]), Path(folder)), port=0)
        stop, ready = threading.Event(), threading.Event()
        serving = threading.Thread(target=server.run, args=(stop, ready.set))
        serving.start()
        ready.wait()
        sender = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.live.sender",
                str(path),
                str(_PORT),
                str(Path(folder) / "times"),
                str(seconds + 40),
            ]
        )
        try:
            wait_for_listener(_PORT)
            client = Client(server)
            client.json(
                "POST", "/api/live/start", {"source": f"tcp://127.0.0.1:{_PORT}", "output": "null:", "settings": {}}
            )
            while client.json("GET", "/api/live")["state"] != "running":
                time.sleep(0.2)
            found = delays(client, times, width, seconds)
            latency = client.json("GET", "/api/live")["status"]["latency_ms"]
        finally:
            stop.set()
            serving.join()
            sender.kill()
            sender.wait()
    print(
        json.dumps(
            {
                "pictures_s": round(len(found) / seconds, 2),
                "delay_ms": [round(1e3 * float(ms), 1) for ms in np.percentile(found, (50, 95, 99))],
                "run_added_ms": latency,
            }
        )
    )


if __name__ == "__main__":
    main()
