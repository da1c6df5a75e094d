"""The branches for Windows and macOS, with stand-ins for what only those systems have."""

import contextlib
import ctypes
import io
import mmap
import os
import signal
import socket
import struct
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from rtface import __main__ as program
from rtface import report
from rtface.cli.console import Console, print_text
from rtface.cli.signals import stop_on_signals
from rtface.concurrency.scheduling import scheduling_kept
from rtface.concurrency.shared_frames import FrameLayout, FrameRing
from rtface.config.addresses import is_live, parse_address
from rtface.config.options import EncodeOptions
from rtface.config.policy import site_path
from rtface.engine.cuda.driver import driver
from rtface.errors import InputMissing, MissingComponent
from rtface.frame import Color
from rtface.live.control.keyboard import read_keys
from rtface.live.controls import LiveControls
from rtface.live.devices import capture, pipewire
from rtface.live.messages import SourceRequest
from rtface.live.protocols import VideoFormat
from rtface.live.sinks.live_encoder import LiveEncoder
from rtface.live.sinks.tcp_channel import TcpChannel
from rtface.live.sources import srt
from rtface.media.files.workfile import Target, write_whole
from rtface.media.read.pipe import is_pipe
from rtface.redaction import redacted, shown
from rtface.stages.options import Spec
from rtface.util import file_lock, files, machine
from rtface.util.text import shell_line
from rtface.web.server import listen

MAC, WINDOWS = "darwin", "win32"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pretends on Linux to be another system")


@pytest.mark.parametrize("name", [r"C:\clip.mp4", "C:/a@b/clip.mp4", r"C:\a#b?c@d.mp4", "d:clip.mkv", r"\\nas\a.mp4"])
def test_a_drive_letter_is_no_scheme(name):
    address = parse_address(name)
    assert (address.kind, address.name, str(address)) == ("file", name, name)
    assert not is_live(address, address) and shown(name) == name and redacted(f"{name}: x") == f"{name}: x"
    assert Spec.parse(f"picture:file={name}").values == {"file": name}


@pytest.mark.parametrize(("encoding", "absent"), [("cp437", False), ("cp1252", True)])  # `pythonw.exe` has no streams
def test_no_console_makes_printing_fail(encoding, absent, monkeypatch, tmp_path):
    streams = [(tmp_path / name).open("w+", encoding=encoding) for name in ("stdin", "stdout", "stderr")]
    for stream in streams:
        monkeypatch.setattr(sys, Path(stream.name).name, None if absent else stream)
    monkeypatch.setattr(program, "open", lambda fd, *_, **__: streams[fd], raising=False)
    monkeypatch.setattr(sys, "argv", ["rtface", "--version"])
    program.main()
    print_text("camera 0 → 漢")
    Console(0).log("camera 0 → 漢")
    for stream in streams[1:]:
        stream.seek(0)
        assert stream.read().endswith("camera 0 \\u2192 \\u6f22\n")


def test_a_windows_console(monkeypatch):
    monkeypatch.setattr(sys, "platform", WINDOWS)
    monkeypatch.setattr(os, "name", "nt")
    terminal = SimpleNamespace(isatty=lambda: True, closed=False)
    for environ, text in (({}, "x"), ({"WT_SESSION": "1"}, "\x1b[31mx\x1b[0m")):
        assert Console(0, terminal, environ).paint("error", "x") == text
    monkeypatch.setattr("rtface.cli.console.select.select", lambda *_: ([], [], []))  # Windows cannot ask a pipe
    Console(0, events := io.StringIO(), events=True).status("step")
    assert "step" in events.getvalue()
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGUSR1)
    assert stop.signum
    typed, controls = ["q"], LiveControls()
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop()))
    with read_keys(controls, str, terminal):
        assert controls.stop.wait(5)


@pytest.mark.parametrize(
    ("on", "kind", "name", "url", "attempts"),
    [
        (WINDOWS, "camera", "", "video=USB Webcam", 4),
        (WINDOWS, "camera", "virtual", "video=OBS Virtual Camera", 4),
        (WINDOWS, "microphone", "default", "audio=Headset", 1),
        (WINDOWS, "camera", "2", None, 0),
        (MAC, "camera", "", "0:none", 5),
        (MAC, "camera", "FaceTime", "FaceTime:none", 5),
        (MAC, "microphone", "", ":0", 1),
    ],
)
def test_devices_are_opened_by_number_or_name(on, kind, name, url, attempts, monkeypatch):
    def refuse(url, mode, format, options):
        asked.append((format, url, options))
        raise av.FFmpegError(5, "refused")

    monkeypatch.setattr(sys, "platform", on)
    asked, devices = [], {"OBS Virtual Camera": ["video"], "USB Webcam": ["video"], "Headset": ["audio"]}
    monkeypatch.setattr(av, "open", refuse)
    monkeypatch.setattr(capture, "ffmpeg_devices", devices.items)
    with pytest.raises(InputMissing, match=r"privacy|there is no camera 2|refused"):
        getattr(capture, f"open_{kind}")(SourceRequest(kind, name, (640, 480), Fraction(25)))
    assert [call[:2] for call in asked] == [("dshow" if on == WINDOWS else "avfoundation", url)] * attempts
    assert [call[2].get("video_size") for call in asked[:1] + asked[-1:]] in (["640x480", None], [None, None], [])


@pytest.mark.parametrize("on", [MAC, WINDOWS])
def test_libraries_have_the_system_s_names(on, monkeypatch):
    def create(name, mode):
        tried.append(name)
        raise ValueError if name != "libx264" else KeyError

    monkeypatch.setattr(sys, "platform", on)
    tried = []
    monkeypatch.setattr("rtface.live.sinks.live_encoder.driver.absent", lambda: "no GPU")
    monkeypatch.setattr("rtface.live.sinks.live_encoder.VideoCodecContext", SimpleNamespace(create=create))
    with pytest.raises(KeyError):
        LiveEncoder(VideoFormat(64, 48, "yuv420p", Fraction(30), Color()), EncodeOptions())
    assert tried[0] == ("h264_videotoolbox" if on == MAC else "h264_qsv") and tried[-1] == "libx264"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: open("/nonexistent"))  # noqa: PTH123, SIM115
    with pytest.raises(MissingComponent, match="libcuda" if on == MAC else "nvcuda"):
        driver.__wrapped__()
    monkeypatch.setattr(Path, "is_socket", lambda path: pytest.fail("looks for PipeWire"))
    assert not pipewire.is_running()


@pytest.mark.parametrize("on", [MAC, WINDOWS])
def test_sockets(on, monkeypatch):
    monkeypatch.setattr(sys, "platform", on)
    monkeypatch.setattr(os, "name", "posix" if on == MAC else "nt")
    with listen("127.0.0.1", 0, "--port") as listening:
        assert bool(listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) == (on == MAC)
    monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT", raising=False)
    options, addresses = [], []
    TcpChannel(SimpleNamespace(settimeout=id, setsockopt=lambda *values: options.append(values[1])))
    assert options == [socket.TCP_NODELAY, 0x201 if on == MAC else socket.SO_SNDBUF]
    library = SimpleNamespace(srt_create_socket=int, srt_setsockflag=lambda *_: 0, srt_close=int)
    library.srt_connect = lambda _, address, size: addresses.append(address)
    monkeypatch.setattr(srt, "library", lambda: library)
    with contextlib.suppress(AttributeError):  # what it does with the connection does not matter here
        srt.SrtConnection("srt://127.0.0.1:9000", sending=True)
    head = bytes([16, socket.AF_INET]) if on == MAC else struct.pack("=H", socket.AF_INET)
    assert addresses == [head + struct.pack("!H", 9000) + socket.inet_aton("127.0.0.1") + bytes(8)]


@pytest.mark.parametrize("on", [WINDOWS, MAC])
def test_frames_are_shared_by_name_or_file(on, monkeypatch):
    monkeypatch.setattr(sys, "platform", on)
    plain, tagged = mmap.mmap, {}
    named = lambda fd, size, tagname="": tagged.setdefault(tagname, plain(fd, size)) if tagname else plain(fd, size)  # noqa: E731
    monkeypatch.setattr(mmap, "mmap", named)
    monkeypatch.delattr(os, "memfd_create")
    ours, image = FrameRing(2, 1 << 16), av.VideoFrame.from_ndarray(np.full((48, 64), 7, np.uint8), "gray8")
    theirs = FrameRing(2, 1 << 16, ours.handle if on == WINDOWS else os.dup(int(ours.handle)))
    assert (theirs.get(ours.put(image), FrameLayout.of(image)).to_ndarray() == 7).all() and bool(tagged) == (
        on == WINDOWS
    )


def test_what_only_linux_tells(monkeypatch):
    linux = report.peak_rss_mb() * 1024
    monkeypatch.setattr(sys, "platform", MAC)
    monkeypatch.setattr(os, "cpu_count", lambda: 77)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("asks glibc"))
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: pytest.fail("asks Linux"))
    machine.give_memory_back()
    with scheduling_kept():
        assert machine.cores() == 77 and machine.busy_seconds() is None
    assert report.peak_rss_mb() * (1 << 20) == pytest.approx(linux, rel=0.2)  # macOS counts bytes, Linux KiB
    assert site_path() == Path("/Library/Application Support/rtface/policy.toml")


def test_files_of_windows(monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(sys, "platform", WINDOWS)
    assert shell_line(["rtface", "run", "C:\\my film.mp4"]) == 'rtface run "C:\\my film.mp4"'
    assert not is_pipe(tmp_path / "pipe") and report.peak_rss_mb() == 0.0
    folders, held, opened, rename = ["D:\\Data"], [], [], Path.rename
    registry = SimpleNamespace(HKEY_LOCAL_MACHINE=1, OpenKey=lambda key, path: contextlib.nullcontext())
    registry.QueryValueEx = lambda key, name: [folders.pop() if folders else os.stat("/nonexistent")]  # noqa: PTH116
    monkeypatch.setitem(sys.modules, "winreg", registry)
    assert site_path() == Path("D:\\Data") / "rtface" / "policy.toml" and site_path() is None

    def locking(fd, mode, size):
        if held:
            raise PermissionError
        held.append((mode, size))

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with (tmp_path / "lock").open("a+b") as file:
        assert [file_lock.try_lock(file), file_lock.try_lock(file)] == [True, False]
        assert held == [(2, 1)] and not files.lock(file.fileno())

    def watch(path, target):
        opened.extend(one for one in Path("/proc/self/fd").iterdir() if os.path.realpath(one) == str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watch)
    write_whole(Target(tmp_path / "a.png", "a.png"), b"x")
    assert (tmp_path / "a.png").read_bytes() == b"x" and not opened  # Windows cannot rename an open file
