"""Measures the latency of frames in live runs by kind of source.

usage: python -m benchmarks.live_age [--seconds 30] [--rates 5,12,30,60] [--save NAME] [CASE ...]

A case consists of a transport and a format: http-mjpeg, http-ts, http-flv, http-raw, http-buffered (MPEG-TS that
starts with two buffered seconds), http-pieces (MP4 in fragments of two seconds), rtsp, rtsp-http, udp-ts, udp-raw,
pipe-mjpeg, pipe-ts, pipe-mkv, pipe-raw. Each frame of 320×240 shows its creation time. Like a phone's camera app, the
sender skips frames while the receiver is not reading. `rtface run SOURCE tcp://…?listen --correct never --tracker none`
forwards the frames, and each frame's age is read from the output. A case passes if the median age in the last five
seconds exceeds the median age near second 5 by at most 0.1 s. Saves results/NAME.json. rtsp needs a Python with
gst-rtsp-server (RTFACE_TEST_GST_PYTHON).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import av

from benchmarks.common import save
from tests.live.publish import read_stamp, stamped_image

TRANSPORTS = {
    "http": ("mjpeg", "ts", "flv", "raw", "buffered", "pieces"),
    "rtsp": ("", "http"),
    "udp": ("ts", "raw"),
    "pipe": ("mjpeg", "ts", "mkv", "raw"),
}
FORMATS = {
    "ts": "mpegts",
    "raw": "h264",
    "mkv": "matroska",
    "buffered": "mpegts",
    "pieces": "mp4",
    "flv": "flv",
    "": "rtp",
    "http": "rtp",
}
BUFFERED_S = PIECE_S = 2
SIZE = 320, 240
BOUNDARY = b"next"
MULTIPART = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"


def send(target: Any, form: str, rate: float) -> None:
    """Sends frames when they are due, until the receiver disconnects.

    `target` is a path, an address, or an object with a `write` method.
    """
    muxes = form != "mjpeg"
    options = {"flush_packets": "1"}
    if form == "pieces":
        options["movflags"] = "frag_keyframe+empty_moov+default_base_moof"
    muxer: Any = av.open(target, "w", format=FORMATS[form], options=options) if muxes else None
    video: Any = muxer.add_stream("libx264", rate=Fraction(rate)) if muxes else av.CodecContext.create("mjpeg", "w")
    video.width, video.height, video.pix_fmt = *SIZE, "yuv420p" if muxes else "yuvj420p"
    (video.codec_context if muxes else video).time_base = Fraction(1, 1000)
    if muxes:
        video.codec_context.gop_size, video.options = (
            round(rate * PIECE_S),
            {"preset": "ultrafast", "tune": "zerolatency"},
        )
    started = time.monotonic()
    number = -round(BUFFERED_S * rate) if form == "buffered" else 0
    with suppress(OSError):
        while True:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            created = started + number / rate if number < 0 else time.monotonic()
            image = stamped_image(*SIZE, created)
            image.pts, image.time_base = round((created - started + BUFFERED_S) * 1000), Fraction(1, 1000)
            for packet in video.encode(image if muxes else image.reformat(format="yuvj420p")):
                if muxes:
                    muxer.mux(packet)
                else:
                    data = bytes(packet)
                    header = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(data))
                    target.write(header + data + b"\r\n" if isinstance(target, Body) else data)
            number = max(number + 1, int((time.monotonic() - started) * rate) + 1) if number >= 0 else number + 1


class Body:
    """The body of an HTTP response."""

    def __init__(self, file: Any) -> None:
        self.write = file.write


def serve(port: int, form: str, rate: float) -> None:
    """Runs an HTTP server whose responses do not declare their length."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", MULTIPART if form == "mjpeg" else "application/octet-stream")
            self.end_headers()
            send(Body(self.wfile), form, rate)

        def log_message(self, format: str, *args: object) -> None:
            return

    ThreadingHTTPServer(("127.0.0.1", port), Camera).serve_forever()


RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch("( udpsrc port=" + sys.argv[2] +
    " caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=H264"
    " ! rtph264depay ! h264parse config-interval=1 ! rtph264pay name=pay0 pt=96 config-interval=1 )")
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
GLib.MainLoop().run()
"""
# A proxy that forwards HTTP only. RTSP is tunnelled through HTTP to pass such proxies.
PROXY = """
import socket, sys, threading
def forward(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(2)
        except OSError: pass
def serve(near):
    first = near.recv(65536)
    if first.split(b" ")[0] not in (b"GET", b"POST"):
        near.sendall(b"HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        near.close(); return
    far = socket.create_connection(("127.0.0.1", int(sys.argv[2]))); far.sendall(first)
    threading.Thread(target=forward, args=(far, near), daemon=True).start(); forward(near, far)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def free_port() -> int:
    """Finds an unused loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def run_sender(transport: str, form: str, rate: float, folder: str) -> Iterator[str]:
    """Runs a sender in separate processes and yields its address."""
    port, processes = free_port(), list[subprocess.Popen[bytes]]()

    def start(*command: str) -> None:
        processes.append(subprocess.Popen([*command], stderr=subprocess.DEVNULL))

    sender = (sys.executable, "-m", "benchmarks.live_age", "--send")
    url = {"http": f"http://127.0.0.1:{port}/video", "udp": f"udp://127.0.0.1:{port}", "pipe": f"{folder}/pipe"}.get(
        transport, f"rtsp://127.0.0.1:{port}/live"
    )
    try:
        if transport == "pipe":
            os.mkfifo(url)
        if transport == "rtsp":
            python, rtp, rtsp = os.environ.get("RTFACE_TEST_GST_PYTHON", "/usr/bin/python3"), free_port(), free_port()
            start(*sender, f"rtp://127.0.0.1:{rtp}", form, str(rate))
            start(python, "-c", RTSP, str(rtsp if form == "http" else port), str(rtp))
            if form == "http":
                start(sys.executable, "-c", PROXY, str(port), str(rtsp))
        else:
            start(*sender, url + ("?pkt_size=1316" if transport == "udp" else ""), form, str(rate))
        time.sleep(2.5)
        yield url
    finally:
        for process in processes:
            process.kill()
            process.wait()


def receive_frames(port: int, seconds: float) -> list[tuple[float, float]]:
    """Receives frames. Returns each frame's arrival, in seconds after the first frame, and age in seconds."""
    deadline, film = time.monotonic() + 40, None
    options = {"fflags": "nobuffer", "probesize": "50000", "analyzeduration": "200000", "fpsprobesize": "0"}
    while film is None:
        try:
            film = av.open(f"tcp://127.0.0.1:{port}", options=options, timeout=15)
        except (av.FFmpegError, OSError):
            if time.monotonic() > deadline:
                return []
            time.sleep(0.2)
    arrivals = list[tuple[float, float]]()
    first_arrival = None
    with suppress(av.FFmpegError):
        for image in film.decode(video=0):
            now = time.monotonic()
            first_arrival = first_arrival or now
            arrivals.append((now - first_arrival, now - read_stamp(image)))
            if now - first_arrival > seconds:
                break
    return arrivals


def measure_case(case: str, rate: float, seconds: float) -> dict[str, Any]:
    """Measures the ages of one case at one rate."""
    transport, _, form = case.partition("-")
    with tempfile.TemporaryDirectory() as folder, run_sender(transport, form, rate, folder) as url:
        port = free_port()
        command = [sys.executable, "-m", "rtface", "run", url, f"tcp://127.0.0.1:{port}?listen"]
        run = subprocess.Popen(
            [*command, "--correct", "never", "--tracker", "none"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        samples = receive_frames(port, seconds)
        run.send_signal(2)
        messages = "".join(run.communicate(timeout=20)).strip().splitlines()
    samples = [(at, age) for at, age in samples if 0 <= age < 120]
    early = [age for at, age in samples if 4 <= at < 6]
    late = [age for at, age in samples if at >= seconds - 5]
    result: dict[str, Any] = {"case": case, "rate": rate, "message": messages[-1:], "load": os.getloadavg()[0]}
    if early and late:
        growth = median(late) - median(early)
        count = len({round(at - age, 3) for at, age in samples})
        result |= {"at_5_s": round(median(early), 3), "at_end_s": round(median(late), 3), "max_s": round(max(late), 3)}
        result |= {"growth_s": round(growth, 3), "passed": growth <= 0.1, "fps": round(count / samples[-1][0], 1)}
    print(result, flush=True)
    return result


def main() -> None:
    """Measures the cases, or runs the sender of one case (``--send``)."""
    if sys.argv[1:2] == ["--send"]:
        url, form, rate = sys.argv[2:]
        if url.startswith("http"):
            serve(int(url.split(":")[2].split("/")[0]), form, float(rate))
        elif form == "mjpeg":
            with Path(url).open("wb", buffering=0) as pipe:
                send(pipe, form, float(rate))
        else:
            send(url, form, float(rate))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    all_cases = [f"{transport}-{form}".strip("-") for transport, forms in TRANSPORTS.items() for form in forms]
    parser.add_argument("cases", nargs="*", default=all_cases)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rates", default="5,12,30,60")
    parser.add_argument("--save", default="live_age")
    arguments = parser.parse_args()
    rates = [float(rate) for rate in arguments.rates.split(",")]
    results = [measure_case(case, rate, arguments.seconds) for case in arguments.cases for rate in rates]
    save(arguments.save, {"seconds": arguments.seconds, "results": results})


if __name__ == "__main__":
    main()
