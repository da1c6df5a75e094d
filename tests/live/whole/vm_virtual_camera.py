"""The virtual camera against real devices of v4l2loopback: run as root in a throw-away machine by
`test_virtual_camera_vm.py`, which has /dev/video10 (exclusive_caps=1), /dev/video11 (exclusive_caps=0) and a vivid
camera at /dev/video20. Times have slack: without KVM the machine is emulated."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import pyvirtualcam

from rtface.errors import OutputError
from rtface.live.devices import v4l2
from rtface.live.sinks import reader_watch
from rtface.live.sinks.virtual_camera import wait_for_reader
from tests.live.sinks import camera_rig
from tests.live.sinks.test_camera_buffer import samples

CAM, OPEN = Path("/dev/video10"), Path("/dev/video11")
NEW = v4l2.read_text(v4l2.MODULE / "v4l2loopback" / "version", "0.12")[:4] >= "0.13"  # it says its version since 0.13


def form(width=320, height=180, **more):
    return camera_rig.form(width, height, **more)


def frame(number, like):
    """Noise that is the same for the same number, which stands in its first four samples."""
    made = camera_rig.frame(like.width, like.height, like.pix_fmt, seed=number)
    np.frombuffer(made.image.planes[0], np.uint8)[:4] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
    return made


@contextlib.contextmanager
def camera(like, name=str(CAM)):
    sink = camera_rig.camera(name)
    sink.open(like, sound=None)
    try:
        yield sink
    finally:
        sink.close()


@contextlib.contextmanager
def playing(sink, like, frames=8):
    """Writes frames 1…n round and round, at the rate of the form."""
    made = [frame(n, like) for n in range(1, frames + 1)]
    end = threading.Event()

    def play():
        start, n = time.monotonic(), 0
        while not end.is_set():
            sink.write(made[n % frames])
            n += 1
            end.wait(max(0.0, start + n / float(like.rate) - time.monotonic()))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield made
    finally:
        end.set()
        thread.join()


READER = """
import sys, time, json, hashlib
import av
print("ready", flush=True)
for line in sys.stdin:
    device, count, keep = line.split()
    opened = time.monotonic()
    packets = []
    with av.open(device, format="v4l2") as box:
        stream = box.streams.video[0]
        for packet in box.demux(stream):
            data = bytes(packet)
            if packets or data[0] != 16:   # not the black one that stood there
                digest = int(count) < 50 and hashlib.sha256(data).hexdigest()  # of many it would cost too much time
                packets.append((int.from_bytes(data[:4], "little"), digest, packet.pts * float(packet.time_base),
                                time.monotonic()))
            if len(packets) == int(count):
                break
        form = [stream.codec_context.pix_fmt, stream.width, stream.height, float(stream.average_rate)]
        print(json.dumps([opened, form, packets]), flush=True)
        if keep == "keep":
            sys.stdin.readline()
    print("let go", flush=True)
"""


class Reader:
    """A program that reads a device through FFmpeg, as OBS and others do; started ahead, for that takes long."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines = queue.Queue()
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True).start()
        assert self.line() == "ready\n"

    def line(self):
        return self.lines.get(timeout=60)

    def ask(self, device, count=10, keep="go"):
        self.process.stdin.write(f"{device} {count} {keep}\n")
        self.process.stdin.flush()

    def answer(self):
        opened, kind, packets = json.loads(self.line())
        return opened, kind, packets

    def let_go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def read(self, device, count=10):
        self.ask(device, count)
        got = self.answer()
        assert self.line() == "let go\n"
        return got

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


@pytest.fixture(scope="module")
def reader():
    made = Reader()
    yield made
    made.close()


def child(work):
    """The number of a process that has done `work` and keeps what it gave until its `end`. Forked: to import all that
    again takes long here."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            kept = work()
            os.write(into, b"1")
            signal.pause()
            del kept
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb", buffering=0) as said:
        assert said.read(1) == b"1"
    return pid


def foreign(device, width=320, height=180):
    """A program of somebody else's that writes to a device, by pyvirtualcam."""

    def work():
        made = pyvirtualcam.Camera(width, height, 30, device=str(device), fmt=pyvirtualcam.PixelFormat.I420)
        made.send(np.zeros(width * height * 3 // 2, np.uint8))
        return made

    return child(work)


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def sides(device=CAM):
    can = v4l2.query(device)
    return can.captures, can.outputs


def until(true, seconds):
    stop = time.monotonic() + seconds
    while not true() and time.monotonic() < stop:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize("device", [CAM, OPEN])
def test_readers_get_every_sample_as_it_was(reader, device):
    like = form()
    with camera(like, str(device)) as sink, playing(sink, like) as made:
        wanted = {n: hashlib.sha256(samples(frame.image).tobytes()).hexdigest() for n, frame in enumerate(made, 1)}
        _, kind, packets = reader.read(device, 12)
    assert kind[:3] == ["yuv420p", 320, 180]
    # The driver lets a writer overtake a reader that is slow, as in an emulated machine: a frame is skipped or torn.
    assert sum(wanted.get(number) == digest for number, digest, *_ in packets) >= 10
    assert len({number for number, *_ in packets}) >= 6
    assert sink.health.dropped == 0


def test_work_is_wanted_while_a_program_reads(reader):
    like = form()
    with camera(like) as sink, playing(sink, like):
        assert until(lambda: not sink.wanted, 3)
        for _ in range(2):  # it leaves and comes back
            reader.ask(CAM, 5, "keep")
            assert until(lambda: sink.wanted, 30)
            now = time.monotonic()
            opened, _, packets = reader.answer()
            assert now - opened < 1  # of the second that the first frame may take
            assert packets[0][3] - opened < 4  # FFmpeg's own probing, emulated, is in it
            time.sleep(1)
            assert sink.wanted
            reader.let_go()
            assert reader.line() == "let go\n"
            assert until(lambda: not sink.wanted, 3)
    assert sink.health.state == "closed"


def test_a_camera_that_is_held_goes_to_its_first_reader(reader):
    like = form()
    held = threading.Thread(target=wait_for_reader, args=(str(CAM), 320, 180, threading.Event()))
    held.start()
    assert until(lambda: sides() == (True, False), 10)  # programs list it
    time.sleep(1)
    assert held.is_alive()
    reader.ask(CAM, 5, "keep")
    held.join(30)
    assert not held.is_alive()
    with camera(like) as sink, playing(sink, like):
        assert "320×180" in sink.described
        reader.answer()
        assert until(lambda: sink.wanted, 5)
    reader.let_go()
    assert reader.line() == "let go\n"


def test_a_writer_comes_back_three_times_in_any_size(reader):
    for width, height in ((320, 180), (160, 90), (640, 360)):
        like = form(width, height)
        with camera(like) as sink, playing(sink, like):
            assert sides() == (True, False)  # what browsers list
            assert reader.read(CAM, 3)[1][1:3] == [width, height]
        assert sides() == (False, True)


def test_a_device_that_another_left_stuck_is_repaired(reader):
    for _ in range(3):
        pid = foreign(CAM)
        end(pid)
        assert sides() == (False, NEW)
        like = form()
        with camera(like) as sink, playing(sink, like):
            assert reader.read(CAM, 3)[1][1] == 320
        assert sides() == (False, True)


def test_killed_we_leave_a_device_that_works():
    def work():
        sink = camera_rig.camera(str(CAM))
        sink.open(form(), sound=None)
        return sink

    pid = child(work)
    with pytest.raises(OutputError, match=rf"in use by another writer, open in .*\(pid {pid}\)"):
        camera_rig.camera("rtface-cam").open(form(), sound=None)
    end(pid)
    assert sides() == (False, True)


def test_a_device_that_goes_away_is_opened_again(reader):
    like = form()
    aside = CAM.with_name("aside")
    with camera(like) as sink, playing(sink, like):
        aside.unlink(missing_ok=True)
        fd = camera_rig.descriptor(CAM)
        CAM.rename(aside)
        with Path("/dev/null").open("rb") as nothing:  # what we write to takes nothing from now on
            os.dup2(nothing.fileno(), fd)
        assert until(lambda: sink.health.state == "away", 3)
        assert until(lambda: "there is no virtual camera" in sink.health.detail, 5)
        before = sink.health
        time.sleep(0.3)
        assert sink.health.dropped > before.dropped  # given up, not queued, nothing raised
        aside.rename(CAM)
        assert until(lambda: sink.health.state == "live", 5)
        assert sink.health.reopened == 1
        assert reader.read(CAM, 3)[1][1] == 320
    assert sides() == (False, True)


def as_user(uid, work):
    """`work()` in a process of that user: its text comes over a pipe."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setuid(uid)
            os.write(into, work().encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        return answer.read()


def test_readers_of_other_users_count():
    """They are not to be seen in /proc, but the module counts its openers."""
    assert as_user(65534, lambda: str(reader_watch.read_by_others(CAM, 0))) == "False"
    with CAM.open("rb", buffering=0):
        assert as_user(65534, lambda: str(reader_watch.read_by_others(CAM, 0))) == "True"
    with OPEN.open("rb", buffering=0):  # another device, and seen to be so
        assert not reader_watch.read_by_others(CAM, 1)
