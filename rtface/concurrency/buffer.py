"""A thread for the steps above: lossless, in order, bounded.

`buffer` follows the habits of PySceneDetect's decode thread
and mpv's filters: it ends by an event, never by closing a generator that another thread is running, and what was
raised above it is raised below it once, with its traceback.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TypeVar

from rtface.concurrency.threads import start_thread

T = TypeVar("T")

# A consumer that leaves early waits this long for the step above to notice. A step blocked longer than that (a dead
# network share) is left behind as a daemon thread rather than hanging the program.
_JOIN_S = 5.0
_READ_JOIN_S = 1.0  # of a step that reads
# Bytes that may wait: eight frames of 4K fit, and one or two of a hundred megapixels.
_BYTES = 256 << 20
_SLICE_S = 0.2

PATIENCE_S = 0.4
"""Seconds that something which was told to stop may take before it counts as blocked."""


def buffer(
    items: Iterable[T],
    size: int,
    *,
    name: str = "buffer",
    weigh: Callable[[T], int] | None = None,
    most: int = _BYTES,
    stop: Callable[[], bool] | None = None,
) -> Generator[T, None, None]:
    """Runs `items` in a thread and yields what it yields, in order, at most `size` items ahead. Lossless.

    Args:
        items: the steps above; iterated (and, if it is a generator, closed) by the thread alone.
        size: how many finished items may wait, at least 1.
        name: the thread's name.
        weigh: bytes of an item; what waits then takes `most` bytes together, or is a single item that takes more.
        stop: once it is true and nothing has come for `PATIENCE_S`, the items end: `items` is blocked in a read that
            nothing can end, and its thread is left behind.

    Raises:
        Whatever `items` raised, after everything it yielded before has been handed on.
    """
    waiting: deque[T] = deque()
    weights: deque[int] = deque()  # bytes of what waits
    changed = threading.Condition()
    abandoned = threading.Event()
    ended = threading.Event()
    failure: list[BaseException] = []

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                weight = weigh(item) if weigh else 0
                with changed:
                    while (
                        waiting and (len(waiting) >= size or sum(weights) + weight > most) and (not abandoned.is_set())
                    ):
                        changed.wait()
                    if abandoned.is_set():
                        return
                    waiting.append(item)
                    weights.append(weight)
                    changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            failure.append(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as error:  # noqa: BLE001 - handed to the consumer as well
                    failure.append(error)
            with changed:
                ended.set()
                changed.notify_all()

    thread = start_thread(name, produce)
    blocked = False
    try:
        while True:
            with changed:
                # Waits in slices, so that a signal handler in the main thread gets its turn on every platform.
                since: float | None = None  # when it was seen that the run is stopped and nothing comes
                while not waiting and not ended.is_set() and not blocked:
                    changed.wait(_SLICE_S)
                    if stop is not None and stop():
                        since = since or monotonic()
                        blocked = monotonic() - since > PATIENCE_S
                if not waiting:
                    break
                item = waiting.popleft()
                weights.popleft()
                changed.notify_all()
            yield item
            del item
        if failure:
            raise failure[0]
    finally:
        with changed:
            abandoned.set()
            waiting.clear()
            changed.notify_all()
        thread.join(0.0 if blocked else _JOIN_S if stop is None else _READ_JOIN_S)


def close_with(stack: ExitStack, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """A `buffer` whose thread ends with `stack`. An exception keeps what it passed alive, threads that read a file that
    is then closed among it, so this is not left to the garbage collector. A step that is stuck is left behind."""

    def end() -> None:
        with suppress(ValueError):  # it is running
            items.close()

    stack.callback(end)
    return items


def call_until_stopped(work: Callable[[], T], stop: Callable[[], bool], *, name: str = "work") -> T | None:
    """Runs `work` in another thread and returns what it returns; None where `stop` has become true and `work` still
    has not returned after `PATIENCE_S`: it is blocked, and its thread is left behind.

    The main thread keeps answering signals meanwhile, which it cannot do inside a library's read.

    Raises:
        Whatever `work` raised.
    """
    results: Generator[T, None, None] = buffer((work() for _ in range(1)), 1, name=name, stop=stop)
    return next(results, None)
