"""The watch for readers of a loopback device: by the driver's events, or by how many have it open."""

from __future__ import annotations

import contextlib
import struct
import sys
import threading
import time
from pathlib import Path

from rtface.live.devices import v4l2

_SUBSCRIBE, _DEQUEUE = 0x4020565A, 0x80885659
_CLIENT_USAGE = 0x08000000 + 0x08E00000 + 1  # v4l2loopback's own event since 0.13
_SEND_INITIAL = 1
_RESCAN = 5.0


def read_by_others(node: Path, own: int) -> bool:
    """True if a process other than this one has a loopback device open: True, too, when it cannot be excluded.

    Args:
        node: the device.
        own: how often this process has loopback devices open.
    """
    opens = _opens()
    if opens is not None and opens <= own:
        return False  # the usual case, and cheap
    held = [path for _, path in v4l2.open_files() if v4l2.is_loopback(Path(path))]
    if str(node) in held or opens is None:
        return str(node) in held
    return len(held) < opens - own  # held by a process that this one may not see


def _opens() -> int | None:
    """How often all loopback devices together are open in all processes of all users, None where that is not known."""
    text = v4l2.read_text(v4l2.MODULE / "v4l2loopback" / "refcnt")
    return int(text) if text.isdigit() else None


class ReaderWatch:
    """Tells whether a program reads a device.

    Args:
        node: the device.
        fd: it, open for writing.
    """

    def __init__(self, node: Path, fd: int) -> None:
        self._node, self._fd = node, fd
        self._known: tuple[int | None, float, bool] | None = None
        self._events = self._subscribed()

    def wait(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a change, `seconds` at most or until `stop`; whether a program reads it, None where that is not
        known."""
        if self._events:
            usage = self._usage(seconds, stop)
            if usage is not None:
                self._known = (None, 0.0, usage)
            return self._known[2] if self._known else None
        stop.wait(seconds)
        opens, now = _opens(), time.monotonic()
        # A search of all processes costs milliseconds: only when the number of openers changed.
        if self._known is None or self._known[0] != opens or now - self._known[1] > (_RESCAN if opens else 0.5):
            self._known = (opens, now, read_by_others(self._node, own=1))
        return self._known[2]

    def _usage(self, seconds: float, stop: threading.Event) -> bool | None:
        """Whether a program reads it, by the last of the driver's events; None where none comes within that time."""
        assert sys.platform == "linux"
        import select

        waiting = select.poll()
        waiting.register(self._fd, select.POLLPRI)
        if not waiting.poll(1000 * seconds):
            return None
        usage = None
        with contextlib.suppress(OSError):
            while True:
                usage = struct.unpack_from("I", v4l2.ioctl(self._fd, _DEQUEUE, bytes(136)), 8)[0] > 0
        if usage is None:
            stop.wait(seconds)  # a device that is gone says so at once, again and again
        return usage

    def _subscribed(self) -> bool:
        """Asks for the event that tells of readers; False where the driver has none (before 0.13)."""
        try:
            v4l2.ioctl(self._fd, _SUBSCRIBE, struct.pack("III20x", _CLIENT_USAGE, 0, _SEND_INITIAL))
        except OSError:
            return False
        return True
