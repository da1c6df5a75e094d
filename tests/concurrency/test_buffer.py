"""buffer: order, bound, early leave, errors with their traceback."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count as counted

import pytest

from rtface.concurrency.buffer import buffer, call_until_stopped, close_with


def test_hands_on_everything_in_order() -> None:
    assert list(buffer(range(1000), 3)) == list(range(1000))
    assert list(buffer(buffer(buffer(range(200), 2), 2), 2)) == list(range(200))


def test_never_runs_further_ahead_than_its_size() -> None:
    made = threading.Semaphore(0)

    def count() -> Iterator[int]:
        for number in range(1, 101):
            made.release()
            yield number

    items = buffer(count(), 4)
    assert next(items) == 1
    for _ in range(6):  # one handed out, four waiting, one in the producer's hand
        assert made.acquire(timeout=5)
    assert not made.acquire(timeout=0.05)
    items.close()


def test_the_queue_is_bounded_in_bytes_but_takes_any_one_item() -> None:
    made = threading.Semaphore(0)

    def large() -> Iterator[int]:
        for _ in range(5):
            made.release()
            yield 300

    items = buffer(large(), 8, weigh=lambda weight: weight, max_bytes=700)
    assert next(items) == 300
    for _ in range(4):  # one handed out, two of 300 waiting, one in the producer's hand
        assert made.acquire(timeout=5)
    assert not made.acquire(timeout=0.1)
    assert list(items) == [300] * 4
    assert list(buffer(iter([900, 900, 900]), 8, weigh=lambda weight: weight, max_bytes=700)) == [900] * 3


def test_an_error_is_raised_once_in_order_with_its_traceback() -> None:
    def breaks_here() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    got: list[int] = []
    with pytest.raises(ValueError, match="broken") as info:
        for item in buffer(breaks_here(), 8):
            got.append(item)  # noqa: PERF402 - must keep what came before the error
    assert got == [1, 2]
    assert any(entry.name == "breaks_here" for entry in traceback.extract_tb(info.value.__traceback__))


def test_a_consumer_that_stops_closes_the_producer_in_its_thread() -> None:
    closed_in: list[str] = []

    def endless() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            closed_in.append(threading.current_thread().name)

    items = buffer(endless(), 2, name="probe")
    assert next(items) == 0
    items.close()
    assert closed_in == ["rtface-probe"]
    assert not any(t.name == "rtface-probe" and t.is_alive() for t in threading.enumerate())


def test_holds_no_reference_to_an_item_it_handed_on() -> None:
    import weakref

    class Thing:
        pass

    refs: list[weakref.ref[Thing]] = []

    def things() -> Iterator[Thing]:
        for _ in range(3):
            thing = Thing()
            refs.append(weakref.ref(thing))
            yield thing
            del thing

    for thing in buffer(things(), 1):
        del thing
    assert all(ref() is None for ref in refs)


def test_an_exception_below_leaves_no_thread_of_the_steps_above() -> None:
    def broken(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            if item == 3:
                raise ValueError("here")
            yield item

    with pytest.raises(ValueError, match="here") as held, ExitStack() as stack:  # what is held keeps every step alive
        above = close_with(stack, buffer(counted(), 2, name="above"))
        list(close_with(stack, buffer(broken(above), 2, name="below")))
    assert held.value.__traceback__ is not None
    assert not [t for t in threading.enumerate() if t.name in ("rtface-above", "rtface-below")]


def test_a_step_that_is_blocked_is_left_behind_after_a_stop() -> None:
    release, stop = threading.Event(), threading.Event()

    def blocks() -> Iterator[int]:
        yield from range(3)
        stop.set()
        release.wait(60)
        yield 3

    began = time.monotonic()
    assert list(buffer(buffer(blocks(), 2, stop=stop.is_set), 2)) == [0, 1, 2]
    assert time.monotonic() - began < 2
    release.set()


def test_a_stop_that_is_obeyed_loses_nothing() -> None:
    assert list(buffer(iter(range(50)), 2, stop=lambda: True)) == list(range(50))


def test_waiting_for_work_ends_with_it_or_with_a_stop() -> None:
    release = threading.Event()
    assert call_until_stopped(lambda: 7, lambda: True) == 7
    assert call_until_stopped(lambda: release.wait(60), lambda: True) is None
    release.set()
    with pytest.raises(ValueError, match="broken"):
        call_until_stopped(lambda: int("broken"), lambda: False)
