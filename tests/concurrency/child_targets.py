"""What the tests of `rtface.concurrency.child_process` run in child processes."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from typing import Any

from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.shared_frames import FrameLayout


def echo(parent: ParentProcess, arguments: object) -> None:
    parent.send(arguments)
    while (message := parent.receive()) is not None:
        parent.send(message)


def returns(parent: ParentProcess, arguments: object) -> None:
    parent.send(parent.receive(0.01))


def works(parent: ParentProcess, seconds: float) -> None:
    while time.process_time() < seconds:
        sum(range(10_000))
    parent.send("done")
    parent.receive()


def lingers(parent: ParentProcess, grace: float) -> None:
    parent.grace = grace
    parent.send("ready")
    threading.Event().wait()


def raises(parent: ParentProcess, arguments: Any) -> None:
    raise arguments


def prints(parent: ParentProcess, arguments: object) -> None:
    print("a library's chatter", flush=True)
    os.write(1, b"and more\n")
    parent.send("whole")


def crashes(parent: ParentProcess, arguments: object) -> None:
    os.abort()


def blocks(parent: ParentProcess, arguments: Any) -> None:
    parent.send("blocked")
    time.sleep(0.05)
    (ctypes.PyDLL(None) if arguments else ctypes.CDLL(None)).sleep(1000)


def sends_what_cannot_be(parent: ParentProcess, arguments: object) -> None:
    parent.send(lambda: None)


def gives_back(parent: ParentProcess, arguments: object) -> None:
    """Pictures that come are sent back through the other ring slot."""
    assert parent.frames is not None
    while (message := parent.receive()) is not None:
        image = parent.frames.get(*message)
        slot = parent.frames.put(image)
        parent.send((slot, FrameLayout.of(image)))


def parents(parent: ParentProcess, arguments: object) -> None:
    """Has a child of its own, whose number it tells, and is stuck then."""
    from rtface.concurrency.child_process import ChildProcess

    inner = ChildProcess(
        "tests.concurrency.child_targets:blocks",
        arguments,
        name="inner",
        on_message=lambda _: None,
        on_end=lambda _: None,
    )
    parent.send(inner.pid)
    time.sleep(1000)


class Unreadable(Exception):
    """An error that cannot be read back, as many of plugins."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def says_what_cannot_be_read(parent: ParentProcess, _: object) -> None:
    parent.send(Unreadable("a", "b"))
    parent.receive()
