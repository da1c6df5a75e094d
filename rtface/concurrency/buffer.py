"""Runs the upstream steps in a thread: without loss, in order, with limited memory.

`buffer` follows PySceneDetect's decode thread and mpv's filters. It ends by an event, never by closing a generator that
another thread is running. It raises an upstream error downstream once, with its traceback.
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

# If a consumer leaves early, it waits this long for the upstream step to notice. A step that blocks longer (a dead
# network share) is left behind as a daemon thread, so that it cannot hang the program.
_JOIN_S = 5.0
_READ_JOIN_S = 1.0  # the same for a step that reads
# Limit for queued items: eight 4K frames fit, or one or two frames of a hundred megapixels.
_BYTES = 256 << 20
_SLICE_S = 0.2

PATIENCE_S = 0.4
"""Seconds that a stopped task may take before it counts as blocked."""


def buffer(
    items: Iterable[T],
    size: int,
    *,
    name: str = "buffer",
    weigh: Callable[[T], int] | None = None,
    most: int = _BYTES,
    stop: Callable[[], bool] | None = None,
) -> Generator[T, None, None]:
    """Yields the items of an iterable, which runs in a thread.

    Args:
        items: the upstream steps; iterated (and, if a generator, closed) by the thread alone.
        size: maximum number of queued items, at least 1.
        name: the thread's name.
        weigh: bytes of an item. Queued items then take at most `most` bytes together; a larger item waits alone.
        stop: if it is true and no item has arrived for `PATIENCE_S`, the iteration ends: `items` is blocked in a read
            that nothing can end, and its thread is left behind.

    Raises:
        Any error of `items`, after all items before it have been yielded.
    """
    waiting: deque[T] = deque()
    weights: deque[int] = deque()  # bytes of the waiting items
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
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            failure.append(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as error:  # noqa: BLE001 - the consumer raises this, too
                    failure.append(error)
            with changed:
                ended.set()
                changed.notify_all()

    thread = start_thread(name, produce)
    blocked = False
    try:
        while True:
            with changed:
                # Waits in short slices, so that signal handlers of the main thread can run on every platform.
                since: float | None = None  # when the wait for an item of a stopped run began
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
    """Closes a `buffer` with `stack`, and returns the buffer. Garbage collection comes too late: a traceback keeps
    objects alive, such as a thread that reads a file which is closed next. A blocked step is left behind."""

    def end() -> None:
        with suppress(ValueError):  # the generator is running
            items.close()

    stack.callback(end)
    return items


def call_until_stopped(work: Callable[[], T], stop: Callable[[], bool], *, name: str = "work") -> T | None:
    """Returns the result of `work`, which runs in another thread. Returns None if `stop` is true and `work` has not
    returned after `PATIENCE_S`. It is then blocked, and its thread is left behind.

    Meanwhile the main thread handles signals, which it cannot do inside a library's read.

    Raises:
        Any error of `work`.
    """
    results: Generator[T, None, None] = buffer((work() for _ in range(1)), 1, name=name, stop=stop)
    return next(results, None)
