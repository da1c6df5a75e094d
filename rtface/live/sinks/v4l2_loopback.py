"""Writes to a v4l2loopback device, not through pyvirtualcam (docs/design.md explains why)."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import struct
import sys
from fractions import Fraction
from pathlib import Path

from rtface.errors import Message, MissingComponent, OutputError, UsageError
from rtface.frame import Bytes
from rtface.live.devices import v4l2
from rtface.live.protocols import MediaDevice
from rtface.live.sinks.reader_watch import ReaderWatch

MODULES = Path("/lib/modules")
CREATE = "sudo modprobe v4l2loopback devices=1 video_nr=10 exclusive_caps=1 card_label=rtface"
RELOAD = f"sudo modprobe -r v4l2loopback && {CREATE}"
APT = "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)"

_I420 = b"YU12"

_S_FMT, _S_PARM, STREAMON = 0xC0D05605, 0xC0CC5616, 0x40045612
_FORMAT = 8  # offset of the frame's fields in struct v4l2_format


def present() -> list[MediaDevice]:
    """Lists all loopback devices with their state. Does not repair them."""
    labels = {node: v4l2.label(node) for node in _nodes()}
    names = list(labels.values())
    return [
        MediaDevice(
            "virtual camera",
            f"vcam:{label if label and names.count(label) == 1 else node}",
            label,
            str(node),
            *_state(node),
            v4l2.users(node),
        )
        for node, label in labels.items()
    ]


def _state(node: Path) -> tuple[str, str]:
    """Returns the state of a loopback device, and a remedy or ""."""
    try:
        capability = v4l2.query(node)
    except PermissionError:
        return v4l2.FORBIDDEN, v4l2.JOIN
    except OSError as error:
        return v4l2.why(error), RELOAD
    if not capability.captures and not capability.outputs:
        return (
            Message("stuck (a known fault of v4l2loopback 0.12)", code="device_stuck"),
            Message("rtface repairs it by writing to it; for other programs, run: {line}", code="stuck", line=RELOAD),
        )
    if not capability.outputs:
        return v4l2.IN_USE, Message("close that program, or choose another virtual camera", code="written_repair")
    if _several_writers(capability):
        return (
            Message("open to several writers (exclusive_caps=0): browsers may not list it", code="several_writers"),
            RELOAD,
        )
    return v4l2.FREE, ""


def why_none() -> Message | None:
    """Returns the command that creates a loopback device, in a message. None if a device exists."""
    if _nodes():
        return None
    installed = "v4l2loopback.ko" in v4l2.read_text(MODULES / platform.release() / "modules.dep")
    line = RELOAD if (v4l2.MODULE / "v4l2loopback").is_dir() else CREATE if installed else f"{APT} && {CREATE}"
    text = (
        "there is no virtual camera; create one with: {line}; for browsers and OBS, PipeWire suffices: "
        "systemctl --user start pipewire wireplumber"
    )
    return Message(text, code="loopback_none", line=line)


def find(name: str) -> list[Path]:
    """Finds the loopback devices that match a name, best first.

    Args:
        name: a label, ``/dev/videoN``, a number, or "" for any device, with those labelled "rtface" first.

    Raises:
        MissingComponent: there is no loopback device.
        UsageError: no loopback device has this name.
    """
    labels = {node: v4l2.label(node) for node in _nodes()}
    if not labels and (why := why_none()) is not None:
        raise MissingComponent(why)
    if not name and labels:
        return sorted(labels, key=lambda node: (labels[node] != "rtface", not labels[node].startswith("rtface")))
    path = v4l2.DEVICES / f"video{name}" if name.isdigit() else Path(name)
    matches = [node for node, label in labels.items() if node == path or label.casefold() == name.casefold()]
    if not matches:
        raise UsageError(
            "there is no virtual camera {name}, only {listed}",
            code="loopback_named",
            name=name,
            listed=", ".join(f"vcam:{label} ({node})" for node, label in labels.items()),
        )
    return matches


def _nodes() -> list[Path]:
    return [node for node in v4l2.nodes() if v4l2.is_loopback(node)]


def _several_writers(capability: v4l2.DeviceCapability) -> bool:
    """Tests whether a device always reports both capabilities (exclusive_caps=0). With exclusive_caps=1, a device of
    v4l2loopback 0.12 reports both only while a program still reads it after its writer has left."""
    number = re.search(r"-(\d+)$", capability.bus)
    flags = v4l2.read_text(v4l2.MODULE / "v4l2loopback" / "parameters" / "exclusive_caps").split(",")
    return capability.captures and capability.outputs and not (number and flags[int(number[1]) :][:1] == ["Y"])


def repair(node: Path) -> bool:
    """Restores the output capability of a v4l2loopback 0.12 device. Returns True on success.

    The device loses this capability when a program that wrote without a STREAMON request closes it. Call this only for
    a device that has neither capability. A STREAMON request marks an opener as the writer, whose close restores the
    device. The request itself fails (EINVAL) if nothing was written, which is expected.
    """
    with contextlib.suppress(OSError):
        with v4l2.opened(node) as fd, contextlib.suppress(OSError):
            v4l2.ioctl(fd, STREAMON, struct.pack("i", v4l2.OUTPUT))
        return v4l2.query(node).outputs
    return False


class V4l2LoopbackOutput:
    """A loopback device, open for writing and streaming to its readers.

    Attributes:
        name: label and path, such as "rtface (/dev/video10)".
        width, height: size of the frames that the device accepts: the requested size, unless a program still reads the
            device, because the driver then keeps the old size.
        notes: notes for the user, one line each.
        watch: watches for readers, like `ReaderWatch.wait`.
    """

    def __init__(self, node: Path, width: int, height: int, rate: Fraction) -> None:
        """Opens the device and sets its format.

        Raises:
            OutputError: the device cannot be used; the message contains the reason and a remedy.
        """
        self._node = node
        self.name = f"{v4l2.label(node) or 'virtual camera'} ({node})"
        self.notes: list[str] = []
        self._fd, capability = self._open()
        try:
            self._claim(capability)
            self.width, self.height = self._configure(width, height, rate)
            self.watch = ReaderWatch(node, self._fd).wait
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self) -> tuple[int, v4l2.DeviceCapability]:
        assert sys.platform == "linux"
        try:
            capability = v4l2.query(self._node)
            return os.open(self._node, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), capability
        except PermissionError:
            raise OutputError(
                "no permission to open {name}: {line}", code="virtual_camera_forbidden", name=self.name, line=v4l2.JOIN
            ) from None
        except OSError as error:
            raise OutputError(
                "{name} cannot be opened: {why}; 'rtface devices' lists all devices",
                code="loopback_unopened",
                name=self.name,
                why=v4l2.why(error),
            ) from None

    def _claim(self, capability: v4l2.DeviceCapability) -> None:
        """Locks the device. Raises OutputError if another program writes to it."""
        assert sys.platform == "linux"
        import fcntl

        if not capability.outputs and not capability.captures and not repair(self._node):
            raise OutputError(
                "{name} is stuck (a known fault of v4l2loopback 0.12); close every program that has it open, "
                "then: {command}",
                code="loopback_stuck",
                name=self.name,
                command=RELOAD,
            )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # excludes other runs of rtface
        except OSError:
            raise self._in_use() from None
        if capability.captures and not capability.outputs:
            raise self._in_use()
        if _several_writers(capability):
            self.notes.append(f"{self.name} has exclusive_caps=0: browsers may not list it; reload it with: {RELOAD}")

    def _in_use(self) -> OutputError:
        return OutputError(
            "{name} is in use by another writer{by}; close that program, or choose another virtual camera",
            code="virtual_camera_used",
            name=self.name,
            by=self._users(),
        )

    def _users(self) -> str:
        names = ", ".join(v4l2.users(self._node))
        return Message(", open in {names}", code="open_in", names=names) if names else ""

    def _configure(self, width: int, height: int, rate: Fraction) -> tuple[int, int]:
        v4l2_format = bytearray(208)
        struct.pack_into("I", v4l2_format, 0, v4l2.OUTPUT)
        struct.pack_into("II4sI", v4l2_format, _FORMAT, width, height, _I420, 1)
        stream_parameters = bytearray(204)
        struct.pack_into("IIIII", stream_parameters, 0, v4l2.OUTPUT, 0, 0, rate.denominator, rate.numerator)
        try:
            with contextlib.suppress(OSError):  # this call only informs readers of the rate
                v4l2.ioctl(self._fd, _S_PARM, stream_parameters)
            granted = v4l2.ioctl(self._fd, _S_FMT, v4l2_format)
        except OSError as error:
            if error.errno == errno.EBUSY:  # v4l2loopback 0.14 and newer reject a second writer
                raise self._in_use() from None
            raise OutputError(
                "{name} does not accept {width}×{height}: {why}",
                code="loopback_size",
                name=self.name,
                width=width,
                height=height,
                why=v4l2.why(error),
            ) from None
        got_width, got_height, code = struct.unpack_from("II4s", granted, _FORMAT)
        if code != _I420:
            raise OutputError(
                "{name} is fixed to the format {format} by a program that reads it{by}; turn its camera off and on",
                code="loopback_held",
                name=self.name,
                format=code.decode(errors="replace"),
                by=self._users(),
            )
        if (got_width, got_height) != (width, height):
            self.notes.append(
                f"{self.name} is fixed to {got_width}×{got_height} by a program that reads it{self._users()}: "
                f"frames of {width}×{height} are scaled to fit"
            )
        with contextlib.suppress(OSError):
            # Readers then see a camera, and the device stays usable after `close`. v4l2loopback 0.14 and newer reject
            # this request; there, the first write has the same effect.
            v4l2.ioctl(self._fd, STREAMON, struct.pack("i", v4l2.OUTPUT))
        return got_width, got_height

    def write(self, frame: Bytes) -> None:
        """Submits one frame without waiting. Raises OSError on failure."""
        if os.write(self._fd, frame.data) != frame.nbytes:
            raise OSError(errno.EIO, "the size of the device has changed")

    def close(self) -> None:
        """Releases the device, so that other programs can use it."""
        os.close(self._fd)
