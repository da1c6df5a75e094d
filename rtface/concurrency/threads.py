"""Background threads: daemons, which never keep the program from ending, named for debuggers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def start_thread(name: str, run: Callable[..., object], *arguments: object) -> Thread:
    """Calls a function on a new thread. An error that it raises goes to `threading.excepthook`.

    Args:
        name: after "rtface-".
        run: the function.
        arguments: of the function.
    """
    thread = Thread(target=run, args=arguments, name=f"rtface-{name}", daemon=True)
    thread.start()
    return thread


def call_in_thread(name: str, run: Callable[..., T], *arguments: object) -> Future[T]:
    """Calls a function on a new thread; its result or error is the future's. Arguments as of `start_thread`."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(run(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised where the result is fetched
            future.set_exception(error)

    start_thread(name, call)
    return future
