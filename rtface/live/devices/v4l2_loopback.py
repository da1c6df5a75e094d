"""Output to a v4l2loopback device (docs/design.md says why not through pyvirtualcam)."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from fractions import Fraction
from pathlib import Path

from rtface.errors import MissingComponent, OutputError, UsageError
from rtface.frame import Bytes
from rtface.live.devices import v4l2

FOURCC = {"yuv420p": b"YU12", "nv12": b"NV12"}
_PIX_FMT = {code: name for name, code in FOURCC.items()}

_LONG = struct.calcsize("P")
_FORMAT = 4 if _LONG == 4 else 8  # where the frame's fields begin in struct v4l2_format
_S_FMT = 0xC0005605 | (200 + _FORMAT) << 16
_S_PARM = 0xC0CC5616
_SUBSCRIBE, _DEQUEUE = 0x4020565A, 0x80885659
_CLIENT_USAGE = 0x08000000 + 0x08E00000 + 1  # v4l2loopback's own event since 0.13
_SEND_INITIAL = 1
_RESCAN = 5.0


def find(name: str) -> list[Path]:
    """The loopback devices that a name can mean, best first.

    Args:
        name: a label, ``/dev/videoN``, a number, or "" for any: one labelled "rtface" first.

    Raises:
        MissingComponent: there is none at all.
        UsageError: there are some, but not of this name.
        OutputError: the device that was named is no virtual camera.
    """
    found = [node for node in v4l2.nodes() if v4l2.is_loopback(node)]
    labels = {node: v4l2.label(node) for node in found}
    path = v4l2.DEVICES / f"video{name}" if name.isdigit() else Path(name)
    if path.parent == v4l2.DEVICES:
        if path in labels:
            return [path]
        if path.exists():
            card = v4l2.label(path)
            raise OutputError(
                "{path}{card} is a camera, not a virtual camera; {advice}",
                code="loopback_camera",
                path=path,
                card=f" ({card})" * bool(card),
                advice=_choice(labels) or v4l2.CREATE,
            )
    if not found:
        raise MissingComponent(
            "there is no virtual camera; make one: {command}  (where that finds no module, {advice})",
            code="loopback_none",
            command=v4l2.CREATE,
            advice=v4l2.INSTALL,
        )
    if not name:
        return sorted(found, key=lambda node: (labels[node] != "rtface", not labels[node].startswith("rtface")))
    wanted = [node for node in found if labels[node].casefold() == name.casefold()]
    if not wanted:
        raise UsageError(
            "there is no virtual camera {name}; {advice}", code="loopback_named", name=name, advice=_choice(labels)
        )
    return wanted


def _choice(labels: dict[Path, str]) -> str:
    return "there is " + ", ".join(f"vcam:{label} ({node})" for node, label in labels.items()) if labels else ""


class V4l2LoopbackOutput:
    """A loopback device, open for writing and, as readers see it, streaming.

    Attributes:
        name: "rtface (/dev/video10)".
        width, height, pix_fmt: of the frames that it takes. Those asked for, but where a program still reads it: then
            the driver keeps what it had.
        notes: what a user should know, a line each.
    """

    def __init__(self, node: Path, width: int, height: int, pix_fmt: str, rate: Fraction) -> None:
        """
        Raises:
            OutputError: it cannot be used; the message says why and what to do.
        """
        self._node = node
        self.name = f"{v4l2.label(node) or 'virtual camera'} ({node})"
        self.notes: list[str] = []
        self._known: tuple[int | None, float, bool] | None = None
        self._events = False  # whether the driver tells of readers
        self._fd = self._opened()
        try:
            self._claim()
            self.width, self.height, self.pix_fmt = self._configure(width, height, pix_fmt, rate)
            self._subscribe()
        except BaseException:
            os.close(self._fd)
            raise

    def _opened(self) -> int:
        try:
            return v4l2.open_device(self._node, os.O_WRONLY)
        except PermissionError:
            raise OutputError(
                "{name} may not be opened: {line}", code="virtual_camera_forbidden", name=self.name, line=v4l2.JOIN
            ) from None
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._in_use("is open in as many programs as it allows") from None
            raise OutputError(
                "{name} cannot be opened: {why}; 'rtface devices' lists what is here",
                code="loopback_unopened",
                name=self.name,
                why=v4l2.why(error),
            ) from None

    def _claim(self) -> None:
        """OutputError where another writes to it, or where it is no virtual camera."""
        try:
            v4l2.lock(self._fd)  # the kernel forgets it with the process
        except OSError:
            pid = v4l2.locker(self._fd)
            raise OutputError(
                "{name} is in use by another rtface{pid}; end that one, or name another virtual camera",
                code="virtual_camera_rtface",
                name=self.name,
                pid=f" (pid {pid})" * bool(pid),
            ) from None
        try:
            can = v4l2.capability(self._fd)
        except OSError:
            raise OutputError(
                "{name} is no video device; 'rtface devices' lists what is here", code="loopback_device", name=self.name
            ) from None
        if not can.is_loopback:
            raise OutputError(
                "{name} is a camera ({driver}), not a virtual camera; 'rtface devices' lists those",
                code="loopback_driver",
                name=self.name,
                driver=can.driver,
            )
        if not can.outputs and not can.captures and not v4l2.repair(self._node):
            raise OutputError(
                "{name} is stuck (a known fault of v4l2loopback 0.12); close every program that has it open, "
                "then: {command}",
                code="loopback_stuck",
                name=self.name,
                command=v4l2.RELOAD,
            )
        users = v4l2.users(self._node)
        if (can.captures and not can.outputs) or any(user.writes for user in users):
            raise self._in_use("is in use by another writer")
        if v4l2.mixes(can):
            self.notes.append(
                f"{self.name} has exclusive_caps=0: browsers may not list it, and the frames of a "
                f"second writer would mix with these; better: {v4l2.RELOAD}"
            )
            if users:
                self.notes.append(f"{self.name} is open in {', '.join(map(str, users))} too; end that if it writes")

    def _in_use(self, what: str) -> OutputError:
        users = v4l2.users(self._node)
        users = [user for user in users if user.writes] or users
        by = f": {', '.join(map(str, users))}" if users else ""
        return OutputError(
            "{name} {what}{by}; end that, or name another virtual camera",
            code="virtual_camera_used",
            name=self.name,
            what=what,
            by=by,
        )

    def _configure(self, width: int, height: int, pix_fmt: str, rate: Fraction) -> tuple[int, int, str]:
        form = bytearray(200 + _FORMAT)
        struct.pack_into("I", form, 0, v4l2.OUTPUT)
        struct.pack_into("II4sI", form, _FORMAT, width, height, FOURCC[pix_fmt], 1)
        parm = bytearray(204)
        struct.pack_into("IIIII", parm, 0, v4l2.OUTPUT, 0, 0, rate.denominator, rate.numerator)
        try:
            with contextlib.suppress(OSError):  # only what readers are told of the rate
                v4l2.ioctl(self._fd, _S_PARM, parm)
            granted = v4l2.ioctl(self._fd, _S_FMT, form)
        except OSError as error:
            if error.errno == errno.EBUSY:  # 0.14 and newer keep a second writer out
                raise self._in_use("is in use by another writer") from None
            raise OutputError(
                "{name} refuses {width}×{height}: {why}",
                code="loopback_size",
                name=self.name,
                width=width,
                height=height,
                why=v4l2.why(error),
            ) from None
        got_width, got_height, code = struct.unpack_from("II4s", granted, _FORMAT)
        if code not in _PIX_FMT:
            raise OutputError(
                "{name} is held at the format {format} by a program that reads it{by}; switch its camera off and on",
                code="loopback_held",
                name=self.name,
                format=code.decode(errors="replace"),
                by=self._by(),
            )
        if (got_width, got_height) != (width, height):
            self.notes.append(
                f"{self.name} is held at {got_width}×{got_height} by a program that reads "
                f"it{self._by()}: frames of {width}×{height} are fitted in"
            )
        with contextlib.suppress(OSError):
            # From here on readers see a camera, and the close, however it comes, leaves a device that can be used
            # again. 0.14 and newer refuse this: there the first write does it.
            v4l2.ioctl(self._fd, v4l2.STREAMON, struct.pack("i", v4l2.OUTPUT))
        return got_width, got_height, _PIX_FMT[code]

    def _by(self) -> str:
        users = v4l2.users(self._node)
        return f" ({', '.join(map(str, users))})" if users else ""

    def write(self, frame: Bytes) -> None:
        """Hands over one frame; OSError when the device does not take it. Never waits."""
        if os.write(self._fd, frame.data) != frame.nbytes:
            raise OSError(errno.EIO, "the device takes another size now")

    def watch(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a change, `seconds` at most or until `stop`; whether a program reads it, None where that is not
        known."""
        if self._events:
            usage = None
            if v4l2.wait_for_event(self._fd, seconds):
                with contextlib.suppress(OSError):
                    while True:
                        usage = struct.unpack_from("I", v4l2.ioctl(self._fd, _DEQUEUE, bytes(136)), 8)[0] > 0
                if usage is None:
                    stop.wait(seconds)  # a device that is gone says so at once, again and again
            if usage is not None:
                self._known = (None, 0.0, usage)
            return self._known[2] if self._known else None
        stop.wait(seconds)
        opens, now = v4l2.loopback_opens(), time.monotonic()
        # A search of all processes costs milliseconds: only when the number of openers changed.
        if self._known is None or self._known[0] != opens or now - self._known[1] > (_RESCAN if opens else 0.5):
            self._known = (opens, now, v4l2.readers(self._node, own=1))
        return self._known[2]

    def _subscribe(self) -> None:
        """To the event that tells of readers, where the driver has one (0.13)."""
        if _LONG != 8:
            return
        try:
            v4l2.ioctl(self._fd, _SUBSCRIBE, struct.pack("III20x", _CLIENT_USAGE, 0, _SEND_INITIAL))
        except OSError:
            return
        self._events = True

    def close(self) -> None:
        """Lets it go, and leaves it usable."""
        os.close(self._fd)
        with contextlib.suppress(OSError):
            can = v4l2.query(self._node)
            if not can.captures and not can.outputs:
                v4l2.repair(self._node)
