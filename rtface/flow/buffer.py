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
from typing import TypeVar

T = TypeVar("T")

# A consumer that leaves early waits this long for the step above to notice. A step blocked longer than that (a dead
# network share) is left behind as a daemon thread rather than hanging the program.
_JOIN_S = 5.0
# Bytes that may wait: eight frames of 4K fit, and one or two of a hundred megapixels.
_BYTES = 256 << 20


def buffer(items: Iterable[T], size: int, *, name: str = "buffer", weigh: Callable[[T], int] | None = None,
           most: int = _BYTES) -> Generator[T, None, None]:
    """Runs `items` in a thread and yields what it yields, in order, at most `size` items ahead. Lossless.

    Args:
        items: the steps above; iterated (and, if it is a generator, closed) by the thread alone.
        size: how many finished items may wait, at least 1.
        name: the thread's name.
        weigh: bytes of an item; what waits then takes `most` bytes together, or is a single item that takes more.

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
                    while waiting and (len(waiting) >= size or sum(weights) + weight > most) and (
                            not abandoned.is_set()):
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

    thread = threading.Thread(target=produce, name=f"rtface-{name}", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                # Waits in slices, so that a signal handler in the main thread gets its turn on every platform.
                while not waiting and not ended.is_set():
                    changed.wait(0.2)
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
        thread.join(_JOIN_S)


def ended_by(stack: ExitStack, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """A `buffer` whose thread ends with `stack`. An exception keeps what it passed alive, threads that read a file that
    is then closed among it, so this is not left to the garbage collector. A step that is stuck is left behind."""
    def end() -> None:
        with suppress(ValueError):  # it is running
            items.close()

    stack.callback(end)
    return items
