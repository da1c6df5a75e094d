"""A bounded queue that keeps the newest items, between live steps that run at different rates."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue whose producer never waits: where it is full, the oldest item is dropped.

    Args:
        dropped: called with every item that was not taken, on the thread that put a newer one.
        size: items that may wait.
    """

    def __init__(self, dropped: Callable[[T], None] | None = None, size: int = 1) -> None:
        self._dropped, self._size = dropped, size
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._failure: BaseException | None = None
        self.closed = False

    def put(self, item: T) -> None:
        """Leaves an item; never waits. After `close` it is dropped."""
        with self._changed:
            if not self.closed:
                self._items.append(item)
            older = item if self.closed else self._items.popleft() if len(self._items) > self._size else None
            self._changed.notify_all()
        if older is not None and self._dropped is not None:
            self._dropped(older)

    def take(self, timeout: float | None = None) -> T | None:
        """The oldest item, once there is one; None after `timeout` seconds without one, or when closed and empty.

        Raises:
            Whatever `close` was given, once the last item is taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed, timeout)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def hand_over(self, item: T, timeout: float | None = None) -> bool:
        """Leaves an item once there is room, so that none is dropped; False when closed or after `timeout` seconds."""
        with self._changed:
            free = self._changed.wait_for(lambda: len(self._items) < self._size or self.closed, timeout)
            if not free or self.closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self, failure: BaseException | None = None) -> None:
        """No more items come; waiting calls return. `failure` is raised where items are taken. Safe to call twice."""
        with self._changed:
            self.closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Items that have not been taken yet."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item
