"""The newest item only: what a live run puts between steps that do not keep the same pace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds one item. A newer one takes its place, and the older is dropped.

    Args:
        dropped: told of every item that nobody took, on the thread that put the newer one.
    """

    def __init__(self, dropped: Callable[[T], None] | None = None) -> None:
        self._dropped = dropped
        self._changed = threading.Condition()
        self._item: T | None = None
        self._failure: BaseException | None = None
        self._closed = False

    def put(self, item: T) -> None:
        """Leaves an item; never waits. After `close` it is dropped."""
        with self._changed:
            older, self._item = (item, None) if self._closed else (self._item, item)
            self._changed.notify_all()
        if older is not None and self._dropped is not None:
            self._dropped(older)

    def take(self, timeout: float | None = None) -> T | None:
        """The item, once there is one; None after `timeout` seconds without one, or when closed and empty.

        Raises:
            Whatever `close` was given, once the last item is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout)
            item, self._item = self._item, None
            if item is not None:
                self._changed.notify_all()
            elif self._failure is not None:
                raise self._failure
            return item

    def hand_over(self, item: T, timeout: float | None = None) -> bool:
        """Leaves an item once the one before was taken, so that none is dropped; False when closed or after
        `timeout` seconds."""
        with self._changed:
            free = self._changed.wait_for(lambda: self._item is None or self._closed, timeout)
            if not free or self._closed:
                return False
            self._item = item
            self._changed.notify_all()
            return True

    def close(self, failure: BaseException | None = None) -> None:
        """No more items come; who waits goes on. `failure` is raised where items are taken. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item
