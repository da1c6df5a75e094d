"""Starts background threads, named for debuggers. By default, as daemons, they cannot keep the program running."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def start_thread(name: str, run: Callable[..., object], *arguments: object, awaited: bool = False) -> Thread:
    """Calls a function on a new thread. `threading.excepthook` gets its errors.

    Args:
        name: name of the thread, after "rtface-".
        run: function to call.
        arguments: arguments of the function.
        awaited: whether the interpreter waits for the thread at exit. It would stop a daemon within C++ code, such as
            while an OpenVINO network opens, which aborts the process.
    """
    thread = Thread(target=run, args=arguments, name=f"rtface-{name}", daemon=not awaited)
    thread.start()
    return thread


def call_in_thread(name: str, run: Callable[..., T], *arguments: object, awaited: bool = False) -> Future[T]:
    """Calls a function on a new thread. Returns a future of its result. For arguments see `start_thread`."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(run(*arguments))
        except BaseException as error:  # noqa: BLE001 - `result()` raises it
            future.set_exception(error)

    start_thread(name, call, awaited=awaited)
    return future
