"""Queues the newest items between live steps that run at different rates."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A bounded queue whose producer never waits: when full, it drops the oldest item.

    Args:
        dropped: called with every dropped item, on the thread that called `put`.
        size: capacity in items.
    """

    def __init__(self, dropped: Callable[[T], None] | None = None, size: int = 1) -> None:
        self._dropped, self._size = dropped, size
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._failure: BaseException | None = None
        self.closed = False

    def put(self, item: T) -> None:
        """Adds an item; never waits. Drops it after `close`."""
        with self._changed:
            if not self.closed:
                self._items.append(item)
            discarded = item if self.closed else self._items.popleft() if len(self._items) > self._size else None
            self._changed.notify_all()
        if discarded is not None and self._dropped is not None:
            self._dropped(discarded)

    def take(self, timeout: float | None = None) -> T | None:
        """Waits for the oldest item. Returns None after `timeout` seconds, or when closed and empty.

        Raises:
            The failure passed to `close`, after all items have been taken.
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
        """Waits for room, then adds an item; drops none. Returns False when closed or after `timeout` seconds."""
        with self._changed:
            has_room = self._changed.wait_for(lambda: len(self._items) < self._size or self.closed, timeout)
            if not has_room or self.closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def close(self, failure: BaseException | None = None) -> None:
        """Ends the queue; waiting calls return. After the last item, `take` raises `failure`. Safe to call twice."""
        with self._changed:
            self.closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Number of items that have not been taken yet."""
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item
