"""What the tests of `rtface.concurrency.isolate` run in child processes."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from rtface.concurrency.child import Parent
from rtface.concurrency.shared_frames import Picture


def echo(parent: Parent, arguments: object) -> None:
    parent.send(arguments)
    while (message := parent.receive()) is not None:
        parent.send(message)


def returns(parent: Parent, arguments: object) -> None:
    parent.send(parent.receive(0.01))


def raises(parent: Parent, arguments: Any) -> None:
    raise arguments


def prints(parent: Parent, arguments: object) -> None:
    print("a library's chatter", flush=True)
    os.write(1, b"and more\n")
    parent.send("whole")


def crashes(parent: Parent, arguments: object) -> None:
    os.abort()


def blocks(parent: Parent, arguments: Any) -> None:
    parent.send("blocked")
    time.sleep(0.05)
    (ctypes.PyDLL(None) if arguments else ctypes.CDLL(None)).sleep(1000)


def sends_what_cannot_be(parent: Parent, arguments: object) -> None:
    parent.send(lambda: None)


def gives_back(parent: Parent, arguments: object) -> None:
    """Pictures that come are sent back through the other ring slot."""
    assert parent.frames is not None
    while (message := parent.receive()) is not None:
        image = parent.frames.get(*message)
        slot = parent.frames.put(image)
        parent.send((slot, Picture.of(image)))


def parents(parent: Parent, arguments: object) -> None:
    """Has a child of its own, whose number it tells, and is stuck then."""
    from rtface.concurrency.isolate import Child

    inner = Child("tests.concurrency.child_targets:blocks", arguments, name="inner", on_message=lambda _: None,
                  on_end=lambda _: None)
    parent.send(inner.pid)
    time.sleep(1000)
