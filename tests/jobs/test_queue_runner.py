"""The runner of the queue, with stand-ins for the films' processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rtface.jobs.queue import runner as runner_module
from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.runner import RunCounts, Runner
from tests.jobs.queue_children import ENDLESS, TARGET, item_plan

ROOT = Path(__file__).resolve().parents[2]
_RUNNER = f"""
import sys
from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.runner import Runner
Runner(Queue(sys.argv[1]).store, target="{TARGET}").run()
"""


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "data" / "queue.sqlite")


def add(queue: Queue, *names: str) -> list[int]:
    folder = queue.store.path.parents[1]
    (folder / "hold").touch()
    return [
        queue.store.add(item_plan(folder / name, folder / f"{name}-{len(queue.items())}-{n}.mp4"))
        for n, name in enumerate(names)
    ]


def run(queue: Queue, **more: object) -> RunCounts:
    return Runner(queue.store, **{"target": TARGET, **more}).run()


def events(queue: Queue) -> list[list[str]]:
    path = queue.store.path.parents[1] / "events"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def states(queue: Queue) -> dict[int, str]:
    return {item.id: item.state for item in queue.items()}


@pytest.fixture
def in_thread(queue: Queue) -> Iterator[Callable[..., threading.Event]]:
    """Starts a runner in a thread; it is stopped and has ended when the test is over."""
    stop, threads = threading.Event(), []

    def start(**more: object) -> threading.Event:
        threads.append(threading.Thread(target=run, args=(queue,), kwargs={"stop": stop, **more}))
        threads[-1].start()
        return stop

    yield start
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_failed_or_crashed_item_stops_no_other(queue: Queue) -> None:
    good, bad, crashed, last = add(queue, "ok", "fail", "crash", "ok")
    assert run(queue) == RunCounts(2, 2, 0, 0, 0)
    assert states(queue) == {good: "done", bad: "failed", crashed: "failed", last: "done"}
    assert queue.item(bad).message == "the film is bad"
    assert "SIGABRT" in queue.item(crashed).message or os.name == "nt"
    assert str(queue.store.log_path(crashed)) in queue.item(crashed).message
    assert queue.item(good).share == 1.0
    queue.retry(bad)
    assert run(queue).failed == 1
    assert queue.item(bad).attempts == 2


def test_as_many_run_at_once_as_were_asked_for(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "cores", lambda: 7)
    add(queue, *["meet"] * 6)
    assert run(queue, at_once=3).done == 6
    running = most = 0
    for what, _, threads in events(queue):
        running += 1 if what == "begin" else -1
        most = max(most, running)
        assert threads == "2"
    assert most == 3


def test_running_items_are_paused_and_cancelled(queue: Queue, in_thread: Callable[..., object]) -> None:
    cancelled, paused, waiting = add(queue, "slow", "slow", "ok")
    stop = in_thread(at_once=2)
    until(lambda: all(queue.item(number).share == 0.5 for number in (cancelled, paused)))
    queue.pause(paused)
    until(lambda: ["pause", str(paused)] in [line[:2] for line in events(queue)])
    queue.resume(paused)
    until(lambda: "resume" in [what for what, *_ in events(queue)])
    queue.pause(paused)
    queue.pause(cancelled)
    until(lambda: [what for what, *_ in events(queue)].count("pause") == 3)
    assert states(queue) == {paused: "paused", cancelled: "paused", waiting: "waiting"}, "a halted item keeps its place"
    queue.cancel(cancelled)
    until(lambda: states(queue) == {cancelled: "cancelled", paused: "paused", waiting: "done"})
    stop.set()
    until(lambda: events(queue)[-1][:2] == ["stop", str(paused)])
    until(lambda: queue.item(paused).message == "stopped")
    assert queue.item(paused).state == "paused" and queue.item(paused).attempts == 1


def test_an_item_with_workers_of_its_own_is_stopped_by_a_pause(queue: Queue, in_thread: Callable[..., object]) -> None:
    folder = queue.store.path.parents[1]
    number = queue.store.add(item_plan(folder / "slow", folder / "o.mp4"), {"workers": "2"})
    in_thread()
    until(lambda: queue.item(number).share == 0.5)
    queue.pause(number)
    until(lambda: queue.item(number).message == "stopped")
    assert queue.item(number).state == "paused"


def test_a_paused_film_halts_between_frames_and_goes_on(queue: Queue, in_thread: Callable[..., object]) -> None:
    (number,) = add(queue, "film")
    in_thread(target=ENDLESS)
    frames = lambda: len(events(queue))  # noqa: E731
    until(lambda: frames() > 3)
    queue.pause(number)
    seen: list[int] = []
    until(lambda: seen.append(frames()) or (len(seen) > 10 and seen[-1] == seen[-10]))
    queue.resume(number)
    until(lambda: frames() > seen[-1] + 3)
    queue.pause(number)
    queue.cancel(number)
    until(lambda: states(queue) == {number: "cancelled"})
    assert queue.item(number).attempts == 1
    assert not list(Path(queue.item(number).output).parent.glob("*.mp4")), "a part that nothing goes on from"


def test_all_items_halt_while_somebody_needs_the_computer(queue: Queue, in_thread: Callable[..., object]) -> None:
    running, waiting = add(queue, "slow", "ok")
    in_thread(at_once=2)
    until(lambda: queue.item(waiting).state == "done")
    asked = queue.store.hold("waits")
    assert asked is not None and queue.store.hold("waits") is None
    (later,) = add(queue, "ok")
    until(lambda: events(queue)[-1][:2] == ["pause", str(running)])
    assert queue.item(running).state == "running" and queue.item(later).state == "waiting"
    asked.close()
    until(lambda: queue.item(later).state == "done")
    assert ["resume", str(running)] in [line[:2] for line in events(queue)]


def test_stop_ends_items_cleanly_and_they_wait_again(queue: Queue, in_thread: Callable[..., threading.Event]) -> None:
    slow, later = add(queue, "slow", "ok")
    stop = in_thread()
    until(lambda: queue.item(slow).share == 0.5)
    stop.set()
    until(lambda: states(queue) == {slow: "waiting", later: "waiting"})
    assert [what for what, *_ in events(queue)] == ["begin", "stop"]


def test_an_item_that_does_not_stop_is_ended(queue: Queue, in_thread: Callable[..., object]) -> None:
    (deaf,) = add(queue, "deaf")
    in_thread(patience=0.2)
    until(lambda: queue.item(deaf).share == 0.5)
    queue.cancel(deaf)
    until(lambda: states(queue) == {deaf: "cancelled"})


def test_items_may_be_added_while_it_runs(queue: Queue, in_thread: Callable[..., object]) -> None:
    in_thread(watch=True)
    (first,) = add(queue, "ok")
    until(lambda: states(queue) == {first: "done"})
    (second,) = add(queue, "fail")
    until(lambda: states(queue) == {second: "failed", first: "done"})


def test_an_item_added_as_the_runner_ends_is_run(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    add(queue, "ok")
    register, late = queue.store.runner, list[int]()

    @contextmanager
    def runner() -> Generator[None]:
        with register():
            yield
            if not late:  # who adds it sees a runner at work, and starts none
                late.extend(add(queue, "ok"))

    monkeypatch.setattr(queue.store, "runner", runner)
    run(queue)
    assert queue.item(late[0]).state == "done"


def start_process(queue: Queue) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUNNER, str(queue.store.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_the_next_runner_goes_on_after_a_kill(queue: Queue) -> None:
    held, waiting = add(queue, "hold", "ok")
    process = start_process(queue)
    until(lambda: queue.item(held).share == 0.5)
    assert states(queue) == {held: "running", waiting: "waiting"}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert states(queue) == {held: "interrupted", waiting: "waiting"}
    Path(queue.item(held).input).unlink()
    assert run(queue).done == 2
    assert [(what, int(number)) for what, number, _ in events(queue)] == [
        ("begin", held),
        ("begin", held),
        ("end", held),
        ("begin", waiting),
        ("end", waiting),
    ]
    assert queue.item(held).attempts == 2
