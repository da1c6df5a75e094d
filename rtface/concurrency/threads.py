"""Background threads, named for debuggers. By default they are daemons, which never keep the program from ending."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def start_thread(name: str, run: Callable[..., object], *arguments: object, awaited: bool = False) -> Thread:
    """Calls a function on a new thread. `threading.excepthook` gets its errors.

    Args:
        name: after "rtface-".
        run: the function.
        arguments: of the function.
        awaited: whether the interpreter waits for the thread at exit. It would stop a daemon that is opening an
            OpenVINO network within C++ code, which aborts the process.
    """
    thread = Thread(target=run, args=arguments, name=f"rtface-{name}", daemon=not awaited)
    thread.start()
    return thread


def call_in_thread(name: str, run: Callable[..., T], *arguments: object, awaited: bool = False) -> Future[T]:
    """Calls a function on a new thread. Returns a future of its result; arguments as for `start_thread`."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(run(*arguments))
        except BaseException as error:  # noqa: BLE001 - `result()` raises it
            future.set_exception(error)

    start_thread(name, call, awaited=awaited)
    return future
