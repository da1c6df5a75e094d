"""Real stream servers on loopback, for tests. Outside programs are named by environment variables; without one a test
is skipped, and says which is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rtface.concurrency.threads import start_thread


def program(name: str) -> str:
    """The program that RTFACE_TEST_<NAME> names."""
    found = shutil.which(os.environ.get(f"RTFACE_TEST_{name}", ""))
    if found is None:
        pytest.skip(f"RTFACE_TEST_{name} does not name a program")
    return found


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of loopback that nothing uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program in a process group of its own, so that all of it can be killed, stopped and started again."""

    def __init__(self, command: list[str], log: Path, port: int | None = None) -> None:
        self._command, self._log, self._port = command, log, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Runs it, and waits until its port answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 15
        while self._port is not None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            if self._process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{self._command[0]} does not run: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """To all of its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def wait(self, seconds: float) -> None:
        """Until it ends by itself."""
        assert self._process is not None
        self._process.wait(seconds)

    def stall(self) -> None:
        """SIGSTOP: its connections stay, nothing comes."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)


@contextmanager
def running(process: Process) -> Iterator[Process]:
    """Started, and killed in the end."""
    process.start()
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def proxied(port: int, begin: Callable[[socket.socket], tuple[socket.socket, bytes] | None]) -> Iterator[int]:
    """Carries connections to a port of loopback, from the port that it gives.

    Args:
        begin: gives for each what is carried and what came of it already, or None and carries nothing.
    """

    def carry(source: socket.socket, target: socket.socket, first: bytes = b"") -> None:
        with suppress(OSError):
            target.sendall(first)
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def handle(peer: socket.socket) -> None:
        with suppress(OSError):
            if (begun := begin(peer)) is not None:
                far = socket.create_connection(("127.0.0.1", port))
                start_thread("back", carry, far, begun[0])
                carry(begun[0], far, begun[1])

    def accept() -> None:
        with suppress(OSError):
            while True:
                start_thread("there", handle, listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        start_thread("proxy", accept)
        yield listener.getsockname()[1]


class Nginx(Process):
    """nginx with its RTMP module: takes and gives streams at `url`."""

    def __init__(self, folder: Path) -> None:
        self.rtmp = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        modules = [Path(f"/usr/{lib}/nginx/modules/ngx_rtmp_module.so") for lib in ("lib", "lib64")]
        load = next((f"load_module {m};" for m in modules if m.exists()), "")  # else it is built in
        config = folder / "nginx.conf"
        config.write_text(f"""{load}
            daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
            events {{ worker_connections 64; }}
            rtmp {{ server {{ listen 127.0.0.1:{self.rtmp}; chunk_size 4096; ping 30s;
                application live {{ live on; record off; access_log off; wait_key on; }} }} }}
            """)
        super().__init__([program("NGINX"), "-c", str(config), "-p", str(folder)], folder / "output.log", self.rtmp)

    def url(self, name: str) -> str:
        """Of a stream."""
        return f"rtmp://127.0.0.1:{self.rtmp}/live/{name}"


class Rtsp(Process):
    """gst-rtsp-server with one stream of h264 and AAC."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "rtsp.py"
        script.write_text(_RTSP)
        super().__init__([program("GST_PYTHON"), str(script), str(self.port)], folder / "rtsp.log", self.port)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/test"


_RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch("( videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 config-interval=1"
    " audiotestsrc is-live=true ! audioconvert ! audio/x-raw,rate=48000,channels=1 ! avenc_aac"
    " ! rtpmp4gpay name=pay1 pt=97 )")
factory.set_shared(True)
server.get_mount_points().add_factory("/test", factory)
server.attach(None)
GLib.MainLoop().run()
"""


class Srt(Process):
    """srt-live-transmit between an SRT listener and a UDP port of loopback, one way or the other."""

    def __init__(self, folder: Path, *, to_udp: bool, query: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.udp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
        srt, udp = f"srt://127.0.0.1:{self.port}?mode=listener{query}", f"udp://127.0.0.1:{self.udp}"
        super().__init__(
            [program("SRT"), "-loglevel:error", *((srt, udp) if to_udp else (udp, srt))], folder / "srt.log"
        )

    @property
    def url(self) -> str:
        return f"srt://127.0.0.1:{self.port}"


class Publisher(Process):
    """`publish.py`: frames that carry the time, with sound; goes on after its server was away.

    Args:
        options: `size`, `fps`, `gop`, `seconds`, `codec`, `sound`, `o:…` for the muxer.
    """

    def __init__(self, url: str, kind: str, folder: Path, **options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("publish.py")
        super().__init__(
            [sys.executable, str(script), url, kind, *(f"{k}={v}" for k, v in options.items())],
            folder / "publisher.log",
        )
