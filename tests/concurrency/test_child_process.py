"""Child processes: messages and pictures both ways, and an end whatever they do."""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtface.concurrency.child_main import GRACE
from rtface.concurrency.child_process import KILLED, ChildProcess, processor_seconds
from rtface.concurrency.shared_frames import FrameLayout, FrameRing
from rtface.errors import InputError, UsageError
from rtface.util.av_arrays import plane_rows, sample_bytes

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Run:
    """A child, what it said, and why it ended."""

    def __init__(self, target: str, arguments: object = None, frames: FrameRing | None = None) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.reasons: queue.Queue[str] = queue.Queue()
        self.child = ChildProcess(
            f"tests.concurrency.child_targets:{target}",
            arguments,
            name=target,
            on_message=self.messages.put,
            on_end=self.reasons.put,
            frames=frames,
        )

    def next(self) -> Any:
        return self.messages.get(timeout=20)

    def reason(self) -> str:
        return self.reasons.get(timeout=20)


Start = Callable[..., Run]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    runs: list[Run] = []

    def begin(*arguments: Any) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield begin
    for run in runs:
        run.child.kill(0)


@linux
def test_processor_time_of_children_counts(start: Start) -> None:
    before = processor_seconds()
    run = start("works", 0.2)
    run.next()
    assert processor_seconds() - before >= 0.15  # while it runs
    run.child.kill(0)
    run.reason()
    assert processor_seconds() - before >= 0.15  # and after


def gone(pid: int, seconds: float) -> bool:
    """Whether a process ends within a time; a zombie has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


def test_messages_go_both_ways_and_it_ends_when_asked(start: Start):
    run = start("echo", {"url": "first"})
    assert run.next() == {"url": "first"}
    assert all(run.child.send(n) for n in range(100))
    assert [run.next() for _ in range(100)] == list(range(100))
    began = time.monotonic()
    run.child.kill(5)
    assert time.monotonic() - began < 1
    assert run.reason() == ""
    assert not run.child.alive
    assert not run.child.send("late")
    run.child.kill()


def test_a_function_that_returns_ends_it_without_a_reason(start: Start):
    run = start("returns")
    assert run.next() is None  # receive gave up after its time
    assert run.reason() == ""


def test_a_message_that_cannot_be_read_ends_it(start: Start):
    assert start("says_what_cannot_be_read").reason() == "a message of its process cannot be read (TypeError)"


def test_messages_sent_before_the_end_still_arrive(start: Start):
    run = start("echo")
    for n in range(50):
        run.child.send(n)
    run.child.kill(20)
    assert run.reason() == ""
    assert [run.next() for _ in range(51)] == [None, *range(50)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (InputError("camera 3 is not there"), "camera 3 is not there"),
        (OSError("rtmp://me:word@host/live/key?token=1 failed"), "OSError: rtmp://host/live/… failed"),
        (KeyError(), "KeyError"),
    ],
)
def test_why_it_failed_arrives_in_one_line(start: Start, error: Exception, reason: str):
    assert start("raises", error).reason() == reason


@pytest.mark.slow
def test_a_function_that_asks_for_more_time_to_end_has_it(start: Start):
    run = start("lingers", 60.0)
    assert run.next() == "ready"
    run.child.kill(GRACE + 0.5)
    assert run.reason() == KILLED


def test_a_crash_is_named(start: Start):
    assert start("crashes").reason() == "its process was ended by SIGABRT"


def test_what_a_library_prints_does_not_get_between_the_messages(start: Start):
    run = start("prints")
    assert run.next() == "whole"
    assert run.reason() == ""


@pytest.mark.parametrize("gil", [False, True])
def test_one_that_blocks_for_ever_is_killed(start: Start, gil: bool):
    run = start("blocks", gil)
    assert run.next() == "blocked"
    began = time.monotonic()
    run.child.kill()
    assert 0.4 < time.monotonic() - began < 1.5
    assert run.reason() == "was killed"
    assert not run.child.alive


def test_a_child_that_does_not_read_never_blocks_its_parent(start: Start):
    run = start("blocks", True)
    run.next()
    began = time.monotonic()
    taken = next(n for n in range(9_999) if not run.child.send(bytes(10_000)))  # it reads until it is stuck
    assert time.monotonic() - began < 2
    assert taken > 0
    run.child.kill(0)


def test_it_may_be_killed_from_its_own_messages(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    ended: queue.Queue[str] = queue.Queue()
    children: queue.Queue[ChildProcess] = queue.Queue()
    children.put(
        ChildProcess(
            "tests.concurrency.child_targets:blocks",
            True,
            name="self",
            on_message=lambda _: children.get().kill(),
            on_end=ended.put,
        )
    )
    assert ended.get(timeout=20) == "was killed"


@linux
def test_children_go_with_a_parent_that_is_killed(start: Start):
    run = start("parents", True)
    inner = run.next()
    assert not gone(inner, 0.2)
    os.kill(run.child.pid, signal.SIGKILL)
    assert gone(inner, 3)
    assert run.reason() == "its process was ended by SIGKILL"


@linux
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_all_processes_does_not_end_it(start: Start, number: str):
    run = start("echo")
    while run.messages.empty():  # from its first moment on
        os.kill(run.child.pid, signal.Signals[number])
    run.next()
    os.kill(run.child.pid, signal.Signals[number])
    run.child.send("still there")
    assert run.next() == "still there"


@linux
def test_arguments_do_not_show(start: Start):
    run = start("echo", "rtmp://host/live/secret-key")
    run.next()
    for name in ("cmdline", "environ"):
        assert b"secret-key" not in Path(f"/proc/{run.child.pid}/{name}").read_bytes()


def test_what_cannot_be_pickled_fails_loudly(start: Start):
    with pytest.raises((AttributeError, TypeError)):
        start("echo", lambda: None)
    run = start("echo")
    with pytest.raises((AttributeError, TypeError)):
        run.child.send(lambda: None)
    assert "pickle" in start("sends_what_cannot_be").reason()


def picture(width: int, height: int, pix_fmt: str, seed: int = 0) -> av.VideoFrame:
    """A frame of noise."""
    image = av.VideoFrame(width, height, pix_fmt)
    noise = np.random.default_rng(seed)
    for plane in image.planes:
        plane_rows(plane)[:] = noise.integers(0, 256, (plane.height, plane.line_size), np.uint8)
    image.color_range, image.colorspace, image.color_primaries, image.color_trc = 2, 1, 9, 16
    image.pict_type = 1
    return image


def samples(image: av.VideoFrame) -> list[np.ndarray]:
    """What of the planes is picture, not padding."""
    used = [plane.width * sample_bytes(image, plane) for plane in image.planes]
    return [plane_rows(p)[:, :n].copy() for p, n in zip(image.planes, used, strict=True)]


def test_frames_survive_shared_memory_both_ways(start: Start):
    ring = FrameRing(2, 1 << 21)
    run = start("gives_back", None, ring)
    for width, height, pix_fmt in (
        (641, 359, "yuv420p"),
        (62, 35, "nv12"),
        (63, 5, "yuyv422"),
        (37, 21, "rgb24"),
        (33, 3, "yuv422p10le"),
        (1, 1, "yuvj422p"),
    ):
        image = picture(width, height, pix_fmt)
        run.child.send((ring.put(image), FrameLayout.of(image)))
        back = ring.get(*run.next())
        assert (back.width, back.height, back.format.name) == (width, height, pix_fmt)
        assert all(np.array_equal(a, b) for a, b in zip(samples(image), samples(back), strict=True)), pix_fmt
        assert FrameLayout.of(back).tags == (2, 1, 9, 16)
        assert back.pict_type == 1
    run.child.kill()
    ring.close()
    ring.close()


def test_a_ring_that_is_full_says_so():
    ring, image = FrameRing(2, 100_000), picture(64, 48, "yuv420p")
    first, second = ring.put(image), ring.put(image)
    assert {first, second} == {0, 1}
    assert ring.put(image) is None
    assert first is not None
    ring.free(first)
    assert ring.put(image) == first
    ring.close()


def test_a_picture_that_does_not_fit_is_refused_by_name():
    ring = FrameRing(1, 1000)
    with pytest.raises(UsageError, match="1280×720 in yuv420p is too large"):
        ring.put(picture(1280, 720, "yuv420p"))
    assert ring.put(picture(8, 8, "gray")) == 0  # the slot is still free
    ring.close()


@linux
def test_shared_memory_leaves_nothing_behind():
    before = {*Path("/dev/shm").iterdir()}
    ring = FrameRing(4, 64 << 20)
    assert {*Path("/dev/shm").iterdir()} <= before
    ring.close()
