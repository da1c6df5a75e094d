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
        own_opens: number of loopback devices that this process has open.
    """
    opens = _opens()
    if opens is not None and opens <= own_opens:
        return False  # the usual case, which is cheap to detect
    open_paths = [path for _, path in v4l2.open_files() if v4l2.is_loopback(Path(path))]
    if str(node) in open_paths or opens is None:
        return str(node) in open_paths
    return len(open_paths) < opens - own_opens  # a process of another user may have it open


def _opens() -> int | None:
    """Counts how often loopback devices are open, in processes of all users. Returns None if unknown."""
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
        self._last: tuple[int | None, float, bool] | None = None  # open count, time, result
        self._events = self._subscribe()

    def wait(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a change, for `seconds` or until `stop` is set. Returns whether a program reads the device; None if
        unknown."""
        if self._events:
            usage = self._wait_for_event(seconds, stop)
            if usage is not None:
                self._last = (None, 0.0, usage)
            return self._last[2] if self._last else None
        stop.wait(seconds)
        opens, now = _opens(), time.monotonic()
        # Searching all processes takes milliseconds, so this is done only when the open count has changed.
        if self._last is None or self._last[0] != opens or now - self._last[1] > (_RESCAN_S if opens else 0.5):
            self._last = (opens, now, read_by_others(self._node, own_opens=1))
        return self._last[2]

    def _wait_for_event(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for a driver event. Returns whether a program reads the device; None if there was no event."""
        assert sys.platform == "linux"
        import select

        poller = select.poll()
        poller.register(self._fd, select.POLLPRI)
        if not poller.poll(1000 * seconds):
            return None
        usage = None
        with contextlib.suppress(OSError):
            while True:
                usage = struct.unpack_from("I", v4l2.ioctl(self._fd, _DEQUEUE, bytes(136)), 8)[0] > 0
        if usage is None:
            stop.wait(seconds)  # for a removed device, poll returns at once
        return usage

    def _subscribe(self) -> bool:
        """Subscribes to the event for readers; False before driver version 0.13."""
        try:
            v4l2.ioctl(self._fd, _SUBSCRIBE, struct.pack("III20x", _CLIENT_USAGE, 0, _SEND_INITIAL))
        except OSError:
            return False
        return True
