"""Runs the upstream steps in a thread: without loss, in order, with limited memory.

The design follows PySceneDetect's decode thread and mpv's filters. An event stops the thread, because a generator
cannot be closed while another thread runs it. An upstream error is raised once in the consumer, with its traceback.
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

# If the consumer stops early, `buffer` waits this long for the upstream step to notice. A step that blocks longer (on a
# dead network share) is left behind in its daemon thread, so that the program does not hang.
_JOIN_S = 5.0
_READ_JOIN_S = 1.0  # the same for steps that read a source (with `stop`)
# Default limit of queued bytes: enough for eight 4K frames, or one or two frames of 100 megapixels.
_MAX_BYTES = 256 << 20
_SLICE_S = 0.2

PATIENCE_S = 0.4
"""Seconds that a stopped task may take before it counts as blocked."""


def buffer(
    items: Iterable[T],
    size: int,
    *,
    name: str = "buffer",
    weigh: Callable[[T], int] | None = None,
    max_bytes: int = _MAX_BYTES,
    stop: Callable[[], bool] | None = None,
) -> Generator[T, None, None]:
    """Yields the items of an iterable, which runs in a thread.

    Args:
        items: the upstream steps; iterated (and, if a generator, closed) by the thread alone.
        size: maximum number of queued items, at least 1.
        name: the thread's name.
        weigh: returns the size of an item in bytes.
        max_bytes: maximum total size of the queued items if `weigh` is given; a larger item is queued alone.
        stop: returns whether the run has been stopped. If so and no item arrives for `PATIENCE_S`, the iteration ends:
            `items` is blocked in a read that nothing can interrupt, and its thread is left behind.

    Raises:
        Any error of `items`, after all earlier items have been yielded.
    """
    queue: deque[T] = deque()
    sizes: deque[int] = deque()  # bytes of each queued item
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
                        queue and (len(queue) >= size or sum(sizes) + weight > max_bytes) and (not abandoned.is_set())
                    ):
                        changed.wait()
                    if abandoned.is_set():
                        return
                    queue.append(item)
                    sizes.append(weight)
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
                stopped_at: float | None = None  # when this wait first saw that the run was stopped
                while not queue and not ended.is_set() and not blocked:
                    changed.wait(_SLICE_S)
                    if stop is not None and stop():
                        stopped_at = stopped_at or monotonic()
                        blocked = monotonic() - stopped_at > PATIENCE_S
                if not queue:
                    break
                item = queue.popleft()
                sizes.popleft()
                changed.notify_all()
            yield item
            del item
        if failure:
            raise failure[0]
    finally:
        with changed:
            abandoned.set()
            queue.clear()
            changed.notify_all()
        thread.join(0.0 if blocked else _JOIN_S if stop is None else _READ_JOIN_S)


def close_with(stack: ExitStack, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Closes a `buffer` when `stack` closes, and returns it. Garbage collection would be too late: a traceback can keep
    the thread alive while it reads a file that `stack` closes next. A blocked step is left behind."""

    def close() -> None:
        with suppress(ValueError):  # the generator is running
            items.close()

    stack.callback(close)
    return items


def call_until_stopped(work: Callable[[], T], stop: Callable[[], bool], *, name: str = "work") -> T | None:
    """Runs `work` in another thread and returns its result. Returns None if `stop` returns True and `work` has not
    finished `PATIENCE_S` later; its thread is then left behind.

    Meanwhile, the calling thread can handle signals, which would be impossible inside a library's read call.

    Raises:
        Any error of `work`.
    """
    results: Generator[T, None, None] = buffer((work() for _ in range(1)), 1, name=name, stop=stop)
    return next(results, None)
