"""Mailbox: the newest wins, what is dropped is told, nobody waits for ever."""

from __future__ import annotations

import threading

import pytest

from rtface.concurrency.mailbox import Mailbox


def test_take_waits_for_an_item_and_gives_up_after_its_time():
    box = Mailbox[int]()
    assert box.take(0.01) is None
    threading.Timer(0.05, box.put, (7,)).start()
    assert box.take(5) == 7


def test_closing_wakes_who_waits_and_keeps_the_last_item():
    dropped: list[int] = []
    box = Mailbox[int](dropped.append)
    threading.Timer(0.05, box.close).start()
    assert box.take() is None
    box.put(1)
    assert dropped == [1]
    other = Mailbox[int]()
    other.put(2)
    other.close()
    assert list(other) == [2]


def test_a_failure_is_raised_after_the_last_item():
    box = Mailbox[int]()
    box.put(1)
    box.close(ValueError("lost"))
    assert box.take() == 1
    with pytest.raises(ValueError, match="lost"):
        box.take()


def test_handing_over_waits_until_the_one_before_was_taken():
    dropped: list[int] = []
    box = Mailbox[int](dropped.append)
    assert box.hand_over(1)
    assert not box.hand_over(2, timeout=0.01)
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()))
    thread.start()
    assert box.hand_over(2, timeout=5)
    thread.join()
    assert (taken, box.take(), dropped) == ([1], 2, [])
    box.close()
    assert not box.hand_over(3)


def test_many_items_between_two_threads_are_each_taken_or_told():
    dropped: list[int] = []
    box = Mailbox[int](dropped.append)

    def produce() -> None:
        for number in range(2000):
            box.put(number)
            while number % 100 == 0 and box.waiting:
                pass  # until the other thread has taken it
        box.close()

    thread = threading.Thread(target=produce)
    thread.start()
    taken = list(box)
    thread.join()
    assert sorted(taken + dropped) == list(range(2000))
    assert taken == sorted(taken)
    assert taken[-1] == 1999


def test_a_longer_one_keeps_order_and_drops_the_oldest():
    dropped: list[int] = []
    box = Mailbox[int](dropped.append, size=3)
    for number in range(5):
        box.put(number)
    assert (dropped, box.waiting) == ([0, 1], 3)
    box.close()
    assert list(box) == [2, 3, 4]
