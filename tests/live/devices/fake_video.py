"""A kernel's video devices in a folder: files that answer V4L2's ioctls as v4l2loopback and a camera do."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from pathlib import Path

from rtface.live.devices import v4l2
from rtface.live.sinks import v4l2_loopback


@dataclass
class FakeDevice:
    """What the driver knows. `stubborn`: the repair does not help; `streams`: a writer of 0.14 is at work; `held`: the
    width, height and format that a reader holds it at; `offered`: format, size and frames a second of a camera."""

    driver: str = "v4l2 loopback"
    captures: bool = False
    outputs: bool = True
    stubborn: bool = False
    streams: bool = False
    held: tuple[int, int, bytes] | None = None
    rate: tuple[int, int] = (0, 0)
    offered: tuple[tuple[str, tuple[int, int], int], ...] = ()

    def enumerate(self, kind: int, answer: bytearray) -> None:
        """Writes the format, size or rate of the index asked for into an answer."""
        index, code = struct.unpack_from("I4s", answer)
        offered = [mode for mode in self.offered if mode[0].encode() == code]
        if kind == 2:  # ENUM_FMT
            found = [(44, "4s", name.encode()) for name in dict.fromkeys(mode[0] for mode in self.offered)]
        elif kind == 74:  # ENUM_FRAMESIZES
            found = [(8, "III", 1, *size) for _, size, _ in offered]
        else:  # ENUM_FRAMEINTERVALS
            asked = struct.unpack_from("II", answer, 8)
            found = [(16, "III", 1, 1, rate) for _, size, rate in offered if size == asked]
        if index >= len(found):
            raise OSError(errno.EINVAL, "Invalid argument")
        at, form, *values = found[index]
        struct.pack_into(form, answer, at, *values)


class FakeVideo:
    """Devices by path; `new`: v4l2loopback 0.15, which tells of readers (`usage`)."""

    def __init__(self, folder: Path, monkeypatch, *, new: bool = False) -> None:
        self.folder, self.new, self.devices, self.usage = folder, new, {}, []
        for name in ("dev", "class", "proc", "module", "sys/devices/virtual/video4linux", "sys/devices/usb"):
            (folder / name).mkdir(parents=True)
        for name, path in (("DEVICES", "dev"), ("CLASS", "class"), ("PROC", "proc"), ("MODULE", "module")):
            monkeypatch.setattr(v4l2, name, folder / path)
        monkeypatch.setattr(v4l2, "ioctl", self.ioctl)

    def module(self, *, opens: int = 1, version: str = "", exclusive: str = "Y,Y,N") -> None:
        """v4l2loopback is loaded."""
        folder = self.folder / "module" / "v4l2loopback"
        (folder / "parameters").mkdir(parents=True, exist_ok=True)
        (folder / "refcnt").write_text(f"{opens}\n")
        (folder / "parameters" / "exclusive_caps").write_text(exclusive + "\n")
        if version:
            (folder / "version").write_text(version + "\n")

    def add(self, number: int, label: str, **what: object) -> Path:
        """A device; a camera where its driver is not v4l2loopback's."""
        device = FakeDevice(**what)
        path = self.folder / "dev" / f"video{number}"
        path.touch()
        own = device.driver == "v4l2 loopback"
        real = self.folder / "sys/devices" / ("virtual/video4linux" if own else "usb") / path.name
        real.mkdir()
        (real / "name").write_text(label + "\n")
        if own:
            (real / "max_openers").write_text("10\n")
        (self.folder / "class" / path.name).symlink_to(real)
        self.devices[str(path)] = device
        return path

    def process(self, pid: int, name: str, path: Path) -> None:
        """Another program that has a device open."""
        folder = self.folder / "proc" / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
        (folder / "fd" / "7").symlink_to(path)

    def ioctl(self, fd: int, request: int, data: bytes) -> bytes:
        """What the driver answers."""
        path = str(Path(f"/proc/self/fd/{fd}").readlink())
        device = self.devices.get(path)
        if device is None:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        answer = bytearray(data)
        kind = request & 0xFF
        if request == v4l2.QUERYCAP:
            bits = device.captures * v4l2.CAPTURE | device.outputs * v4l2.OUTPUT | 0x05200000
            number = list(self.devices).index(path)
            struct.pack_into(
                "16s32s32sIII",
                answer,
                0,
                device.driver.encode(),
                b"card",
                f"platform:v4l2loopback-{number:03}".encode(),
                0,
                bits | 0x80000000,
                bits,
            )
        elif kind in (2, 74, 75):
            device.enumerate(kind, answer)
        elif kind == 5:  # S_FMT
            if device.streams:
                raise OSError(errno.EBUSY, "Device or resource busy")
            if device.held:
                struct.pack_into("II4s", answer, 8, *device.held)
        elif kind == 22:  # S_PARM
            device.rate = struct.unpack_from("II", data, 12)
        elif request == v4l2_loopback.STREAMON:
            if self.new:
                raise OSError(errno.EINVAL, "Invalid argument")
            if not device.captures and not device.outputs:
                device.outputs = not device.stubborn
                raise OSError(errno.EINVAL, "Invalid argument")
        elif kind == 90 and self.new:  # SUBSCRIBE_EVENT
            assert struct.unpack_from("III", data) == (0x10E00001, 0, 1)
        elif kind == 89 and self.usage:  # DQEVENT
            struct.pack_into("I", answer, 8, self.usage.pop(0))
        else:
            raise OSError(errno.EINVAL, "Invalid argument")
        return bytes(answer)
