"""Detects readers of a loopback device by driver events or open counts."""

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
_RESCAN_S = 5.0


def read_by_others(node: Path, own_opens: int) -> bool:
    """Tests whether another process has a loopback device open; True if unknown.

    Args:
        node: path of the device.
        own_opens: number of file descriptors of loopback devices that this process holds.
    """
    opens = _opens()
    if opens is not None and opens <= own_opens:
        return False  # the usual case, and cheap
    held = [path for _, path in v4l2.open_files() if v4l2.is_loopback(Path(path))]
    if str(node) in held or opens is None:
        return str(node) in held
    return len(held) < opens - own_opens  # a process that is invisible to this one has it open


def _opens() -> int | None:
    """Counts open loopback devices in all processes of all users; None: unknown."""
    text = v4l2.read_text(v4l2.MODULE / "v4l2loopback" / "refcnt")
    return int(text) if text.isdigit() else None


class ReaderWatch:
    """Detects whether a program reads a device.

    Args:
        node: path of the device.
        fd: descriptor of the device, open for writing.
    """

    def __init__(self, node: Path, fd: int) -> None:
        self._node, self._fd = node, fd
        self._last: tuple[int | None, float, bool] | None = None
        self._events = self._subscribed()

    def wait(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a change, at most `seconds` or until `stop`. Returns whether a program reads the
        device, None if unknown."""
        if self._events:
            usage = self._usage(seconds, stop)
            if usage is not None:
                self._last = (None, 0.0, usage)
            return self._last[2] if self._last else None
        stop.wait(seconds)
        opens, now = _opens(), time.monotonic()
        # Searching all processes takes milliseconds, so it is done only when the number of openers has changed.
        if self._last is None or self._last[0] != opens or now - self._last[1] > (_RESCAN_S if opens else 0.5):
            self._last = (opens, now, read_by_others(self._node, own_opens=1))
        return self._last[2]

    def _usage(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a driver event. Returns whether a program reads the device; None without an event."""
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
            stop.wait(seconds)  # poll returns at once for a removed device
        return usage

    def _subscribed(self) -> bool:
        """Subscribes to the event for readers; False before driver version 0.13."""
        try:
            v4l2.ioctl(self._fd, _SUBSCRIBE, struct.pack("III20x", _CLIENT_USAGE, 0, _SEND_INITIAL))
        except OSError:
            return False
        return True
