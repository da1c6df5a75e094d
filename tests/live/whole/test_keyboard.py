"""Keys on a real terminal: what they change, and that the terminal is given back whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rtface.live.control.keyboard import read_keys
from rtface.live.controls import LiveControls

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")


def wait_for(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def modes(stream):
    import termios

    return termios.tcgetattr(stream.fileno())


def cooked(stream):
    import termios

    return modes(stream)[3] & (termios.ICANON | termios.ECHO) == termios.ICANON | termios.ECHO


@posix
def test_keys_come_without_enter_and_the_terminal_is_given_back(terminal):
    ours, stream = terminal
    before = modes(stream)
    controls = LiveControls(strength=0.5)
    with read_keys(controls, str, stream):
        wait_for(lambda: not cooked(stream))
        os.write(ours, b" ++")
        wait_for(lambda: controls.values() == LiveControls(enabled=False, strength=0.7).values())
        os.write(ours, b"\x1bq")  # Esc does not swallow what is typed behind it
        wait_for(controls.stop.is_set)
        left = time.monotonic()
    assert time.monotonic() - left < 0.2
    assert modes(stream) == before
    assert "rtface-keyboard" not in [t.name for t in threading.enumerate()]


@posix
def test_a_terminal_that_hangs_up_ends_the_thread_only():
    import pty

    ours, theirs = pty.openpty()
    with open(theirs) as stream:  # noqa: PTH123
        with read_keys(controls := LiveControls(), str, stream):
            wait_for(lambda: not cooked(stream))
            os.close(ours)
            wait_for(lambda: "rtface-keyboard" not in [t.name for t in threading.enumerate()])
        assert not controls.stop.is_set()


_PROGRAM = """
import os, signal, sys, time
from rtface.live.controls import LiveControls
from rtface.live.control.keyboard import read_keys
class Told(LiveControls):
    def set(self, name, value):
        super().set(name, value)
        os.write(1, f"<{name} {value}>".encode())
controls = Told()
signal.signal(signal.SIGTERM, lambda *_: controls.stop.set())
with read_keys(controls, str):
    os.write(1, b"READY")
    while not controls.stop.wait(0.05):
        pass
    if sys.argv[1] == "slow":
        time.sleep(60)
os.write(1, b"END")
"""


class Session:
    """A program that has a terminal of its own, as a shell would give it one."""

    def __init__(self, *arguments):
        import fcntl
        import pty
        import termios

        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        fd = self.theirs
        self.program = subprocess.Popen(
            [sys.executable, "-c", *arguments],
            stdin=fd,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.seen = b""
        self.read_until(b"READY")

    def read_until(self, text):
        import select

        until = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select.select([self.ours], [], [], 0.1)[0]:
                self.seen += os.read(self.ours, 4096)

    def cooked(self):
        import termios

        return termios.tcgetattr(self.theirs) == self.before

    def close(self):
        self.program.kill()
        self.program.wait(10)
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def session():
    made = []

    def start(*arguments):
        made.append(Session(*arguments))
        return made[-1]

    yield start
    for one in made:
        one.close()


@posix
def test_a_run_that_is_to_stop_gives_the_terminal_back_at_once(session):
    program = session(_PROGRAM, "slow")
    wait_for(lambda: not program.cooked())
    program.program.send_signal(signal.SIGTERM)
    wait_for(program.cooked, 3)
    assert program.program.poll() is None  # a second signal may end it now


_SHELL = """
import os, signal, subprocess, sys, termios, time
# A shell: the job gets a process group of its own and the terminal; both come back when it stops, with its settings.
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def cooked():
    return bool(termios.tcgetattr(0)[3] & termios.ICANON)
def until(test):
    for _ in range(400):
        if test():
            return
        time.sleep(0.025)
    print("TIMEOUT", flush=True)
    sys.exit(1)
saved = termios.tcgetattr(0)
job = subprocess.Popen([sys.executable, "-c", sys.argv[1], "plain"], process_group=0)
os.tcsetpgrp(0, job.pid)
until(lambda: not cooked())
os.kill(job.pid, signal.SIGTSTP)
_, status = os.waitpid(job.pid, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
termios.tcsetattr(0, termios.TCSANOW, saved)
print("STOPPED", os.WIFSTOPPED(status), flush=True)
os.kill(job.pid, signal.SIGCONT)   # bg: it runs, and leaves the terminal alone
time.sleep(1.0)
pid, status = os.waitpid(job.pid, os.WNOHANG | os.WUNTRACED)
print("BACKGROUND", pid == 0, cooked(), flush=True)
os.tcsetpgrp(0, job.pid)           # fg
os.kill(job.pid, signal.SIGCONT)
until(lambda: not cooked())
print("FRONT", flush=True)
_, status = os.waitpid(job.pid, 0)
os.tcsetpgrp(0, os.getpgrp())
print("LEFT", status, cooked(), flush=True)
"""


@posix
def test_job_control_of_a_shell_works(session):
    program = session(_SHELL, _PROGRAM)
    program.read_until(b"STOPPED True")
    program.read_until(b"BACKGROUND True True")
    program.read_until(b"FRONT")
    os.write(program.ours, b" q")
    program.read_until(b"<enabled False>")
    program.read_until(b"LEFT 0 True")
