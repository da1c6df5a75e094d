"""Queries of Linux video devices and of the processes that use them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

DEVICES, CLASS, MODULE, PROC = Path("/dev"), Path("/sys/class/video4linux"), Path("/sys/module"), Path("/proc")

QUERYCAP, STREAMON = 0x80685600, 0x40045612
CAPTURE, OUTPUT = 1, 2
"""Bits of what a device can do; V4L2's numbers of its two kinds of stream too."""
LOOPBACK = "v4l2 loopback"
"""The name of v4l2loopback's driver."""

CREATE = "sudo modprobe v4l2loopback devices=1 video_nr=10 exclusive_caps=1 card_label=rtface"
RELOAD = f"sudo modprobe -r v4l2loopback && {CREATE}"
APT = "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)"
INSTALL = "install v4l2loopback-dkms and your kernel's headers"
ELSEWHERE = "video devices of this kind exist on Linux only"
ADD = "sudo usermod -aG video $USER"
JOIN = f"{ADD}, then log in again"


@dataclass(frozen=True, slots=True)
class DeviceCapability:
    """Answer of VIDIOC_QUERYCAP.

    Attributes:
        driver, label, bus: names; programs show the label.
        bits: `CAPTURE`, `OUTPUT` and many more.
    """

    driver: str
    label: str
    bus: str
    bits: int

    @property
    def is_loopback(self) -> bool:
        return self.driver == LOOPBACK

    @property
    def captures(self) -> bool:
        """Frames can be read from it; of a loopback device: there is a writer."""
        return bool(self.bits & CAPTURE)

    @property
    def outputs(self) -> bool:
        """Frames can be written to it; with exclusive_caps=1: there is no writer."""
        return bool(self.bits & OUTPUT)


@dataclass(frozen=True, slots=True)
class DeviceUser:
    """A process that holds a device open.

    Attributes:
        pid: its number.
        name: of its program.
        writes: it can only write: a writer for certain. Others may be either.
    """

    pid: int
    name: str
    writes: bool

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def open_device(node: Path | str, access: int = os.O_RDWR) -> int:
    """Opens a video device without waiting for it; OSError where that fails."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, ELSEWHERE, str(node))
    return os.open(node, access | os.O_NONBLOCK | os.O_CLOEXEC)


@contextlib.contextmanager
def opened(node: Path | str) -> Generator[int]:
    """A device as of `open_device`, for a block."""
    fd = open_device(node)
    try:
        yield fd
    finally:
        os.close(fd)


def ioctl(fd: int, request: int, data: bytes | bytearray) -> bytes:
    """The ioctl's answer; OSError as the driver gives it."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, ELSEWHERE)
    import fcntl

    return fcntl.ioctl(fd, request, bytes(data))


def lock(fd: int) -> None:
    """Locks an open device until it is closed; OSError where another process has locked it."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, ELSEWHERE)
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_event(fd: int, seconds: float) -> bool:
    """True if an event of an open device comes within that time."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, ELSEWHERE)
    import select

    waiting = select.poll()
    waiting.register(fd, select.POLLPRI)
    return bool(waiting.poll(1000 * seconds))


def read_text(path: Path, otherwise: str = "") -> str:
    """What a file of the kernel says; `otherwise` where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return otherwise


def nodes() -> list[Path]:
    """All video devices by number; empty where there are none."""
    found = [path for path in DEVICES.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]))


def label(node: Path) -> str:
    """The name that programs show; read without opening the device. Empty where it is not known."""
    return read_text(CLASS / node.name / "name")


def capability(fd: int) -> DeviceCapability:
    """Capabilities of an open device; OSError (ENOTTY and others) where it is no video device."""
    *texts, _, all_bits, bits = struct.unpack_from("=16s32s32sIII", ioctl(fd, QUERYCAP, bytes(104)))
    driver, label, bus = (text.split(b"\0")[0].decode(errors="replace") for text in texts)
    return DeviceCapability(driver, label, bus, bits if all_bits & 0x80000000 else all_bits)


def query(node: Path) -> DeviceCapability:
    """Capabilities of a device by its path; OSError where it cannot be opened."""
    with opened(node) as fd:
        return capability(fd)


def repair(node: Path) -> bool:
    """Gives a v4l2loopback 0.12 device its output side back, which it forgets when a program that wrote without having
    asked to stream closes it. Only for a device that has neither side; True where it worked.

    To have asked to stream marks an opener as the writer, and the writer's close restores the device. That the asking
    itself is refused (EINVAL) is normal when nothing was written.
    """
    with contextlib.suppress(OSError):
        with opened(node) as fd, contextlib.suppress(OSError):
            ioctl(fd, STREAMON, struct.pack("i", OUTPUT))
        return query(node).outputs
    return False


def users(node: Path) -> list[DeviceUser]:
    """Other processes that hold a device open, as far as this one may see: those of the same user, all for root."""
    return [user for user, path in _open_files() if path == str(node)]


def _open_files() -> Iterator[tuple[DeviceUser, str]]:
    """What other processes have open of the video devices, with each device's path."""
    prefix = str(DEVICES / "video")
    try:
        processes = [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - no Path for each
    except OSError:
        return
    for pid in processes:
        if pid == os.getpid():
            continue
        folder = f"{PROC}/{pid}/fd"
        try:
            numbers = os.listdir(folder)  # noqa: PTH208
        except OSError:
            continue  # it ended, or is another user's
        for number in numbers:
            with contextlib.suppress(OSError):
                if (path := os.readlink(f"{folder}/{number}")).startswith(prefix):  # noqa: PTH115
                    yield DeviceUser(pid, read_text(PROC / str(pid) / "comm") or "?", _only_writes(pid, number)), path


def _only_writes(pid: int, number: str) -> bool:
    flags = re.search(r"^flags:\s*([0-7]+)", read_text(PROC / str(pid) / "fdinfo" / number), re.MULTILINE)
    return flags is not None and int(flags[1], 8) & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY


def locker(fd: int) -> int | None:
    """The process that holds the lock (flock) on an open file, None where it is not known."""
    inode = os.fstat(fd).st_ino
    found = (
        re.search(rf" FLOCK .* (\d+) [0-9a-f]+:[0-9a-f]+:{inode} ", line)
        for line in read_text(PROC / "locks").splitlines()
    )
    return next((int(match[1]) for match in found if match), None)


def loopback_version() -> str:
    """v4l2loopback's, "" where the module is not loaded. It says its version since 0.13."""
    if not (MODULE / "v4l2loopback").is_dir():
        return ""
    return read_text(MODULE / "v4l2loopback" / "version", "0.12 or older")


def mixes(can: DeviceCapability) -> bool:
    """True if a loopback device shows both sides for good (exclusive_caps=0). An exclusive one of 0.12 does so only
    while a program reads it that its writer has left."""
    if not (can.captures and can.outputs):
        return False
    number = re.search(r"-(\d+)$", can.bus)
    if not loopback_version().startswith("0.12") or number is None:
        return True
    flags, place = read_text(MODULE / "v4l2loopback" / "parameters" / "exclusive_caps").split(","), int(number[1])
    return flags[place : place + 1] != ["Y"]


def loopback_opens() -> int | None:
    """How often all loopback devices together are open in all processes of all users, None where that is not known."""
    try:
        return int((MODULE / "v4l2loopback" / "refcnt").read_text())
    except (OSError, ValueError):
        return None


def readers(node: Path, own: int) -> bool:
    """True if a process other than this one has a loopback device open: True, too, when it cannot be excluded.

    Args:
        node: the device.
        own: how often this process has loopback devices open.
    """
    opens = loopback_opens()
    if opens is not None and opens <= own:
        return False  # the usual case, and cheap
    labels = {str(path) for path in nodes() if is_loopback(path)}
    held = [path for _, path in _open_files() if path in labels]
    if str(node) in held or opens is None:
        return str(node) in held
    return len(held) < opens - own  # held by a process that this one may not see


def is_loopback(node: Path) -> bool:
    """True if a device is v4l2loopback's; found out without opening it."""
    with contextlib.suppress(OSError):
        target = (CLASS / node.name).resolve(strict=True)
        return "/virtual/video4linux/" in f"{target}" and (target / "max_openers").exists()
    return False


def why(error: OSError) -> str:
    """What the kernel said, in words of the field."""
    return {errno.ENOENT: "it is not there", errno.ENODEV: "it is gone", errno.ENXIO: "it is gone"}.get(
        error.errno or 0, error.strerror or str(error)
    )
