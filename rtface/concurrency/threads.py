"""Starts named background threads. They are daemons by default, so that they cannot keep the program running."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def start_thread(name: str, run: Callable[..., object], *arguments: object, awaited: bool = False) -> Thread:
    """Calls a function on a new thread. `threading.excepthook` receives errors of the function.

    Args:
        name: name of the thread, after "rtface-".
        run: function to call.
        arguments: arguments of the function.
        awaited: whether the interpreter waits for the thread at exit. Necessary if the thread may then be inside C++
            code, such as the opening of an OpenVINO network: stopping a daemon there would abort the process.
    """
    thread = Thread(target=run, args=arguments, name=f"rtface-{name}", daemon=not awaited)
    thread.start()
    return thread


def call_in_thread(name: str, run: Callable[..., T], *arguments: object, awaited: bool = False) -> Future[T]:
    """Calls a function on a new thread. Returns a future of the result. See `start_thread` for the arguments."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(run(*arguments))
        except BaseException as error:  # noqa: BLE001 - `result()` raises it
            future.set_exception(error)

    start_thread(name, call, awaited=awaited)
    return future
