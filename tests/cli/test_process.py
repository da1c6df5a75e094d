"""The command as a process: signals, exit codes, start-up, streams."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from rtface.cli.signals import stop_on_signals

# A pipeline that works until it is told to stop, and then takes a moment to finish its file.
WAITING = """
import sys, time, types
def run_file(input, output, options, *, stats, progress, stop, building):
    from rtface.errors import Interrupted
    from rtface.pipeline.progress import Progress
    sys.stderr.write("started\\n"); sys.stderr.flush()
    while not stop.wait(0.01):
        progress(Progress(1, 0.1, 10.0, 25.0, 1))
    if "stubborn" in input.name:
        time.sleep(60)
    raise Interrupted("stopped; the finished part is in b.partial.mp4; continue with --start 0:00:12.340")
module = types.ModuleType("rtface.pipeline.film"); module.run_file = run_file
sys.modules["rtface.pipeline.film"] = module
from rtface.cli.app import main
main()
"""


# Starts a command as the studio does.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
child.wait()
"""


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("RTFACE_")} | {"RTFACE_CONFIG_DIR": os.devnull}


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr.readline() == "started\n"
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_halted_command_ends_when_its_parent_is_killed():
    words = [sys.executable, "-c", PARENT, WAITING, "run", __file__, "b.mp4"]
    variables = environment() | {"RTFACE_STUDIO_PARENT": "stdin"}
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    child = int(parent.stdout.readline())
    assert parent.stderr.readline() == "started\n"
    os.kill(child, signal.SIGSTOP)
    parent.kill()
    try:
        assert "b.partial.mp4" in parent.communicate(timeout=30)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_cleanly_and_says_how_to_go_on(number, code):
    process = start("run", __file__, "b.mp4")
    process.send_signal(getattr(signal, number))
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "b.partial.mp4" in err
    assert "--start 0:00:12.340" in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
def test_a_second_signal_ends_at_once(tmp_path):
    (tmp_path / "stubborn.mp4").touch()
    process = start("run", str(tmp_path / "stubborn.mp4"), "b.mp4")
    process.send_signal(signal.SIGINT)
    seen = ""
    while "repeat" not in seen:
        seen = process.stderr.readline()
    while process.poll() is None:  # one within 0.3 s of the first counts as the same
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "stopped at once" in err


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
def test_a_signal_that_comes_twice_at_once_counts_once(capfd, monkeypatch):
    now = 10.0
    monkeypatch.setattr("rtface.cli.signals.monotonic", lambda: now)
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)  # to this thread
        assert stop.event.wait(5)
        now += 0.29
        signal.raise_signal(signal.SIGTERM)  # to this thread
        time.sleep(0)  # lets the handler run; it would end this process
    assert stop.signum == signal.SIGTERM
    assert capfd.readouterr().err.count("stopping") == 1


@pytest.mark.skipif(os.name == "nt", reason="no such signal there")
def test_a_closed_terminal_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.event.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


# A pipeline that shows progress until its console is gone, and is done then.
SHOWING = """
import sys, types
def run_file(input, output, options, *, stats, progress, stop, building):
    from rtface.pipeline.progress import Progress
    from rtface.report import Report
    for n in range(2000):
        progress._shown = -1e9
        progress(Progress(n, 0.1, 10.0, 25.0, 1))
    open(output, "w").write("film")
    return Report(str(input), str(output), "0", "none", "cpu", frames_out=3)
module = types.ModuleType("rtface.pipeline.film"); module.run_file = run_file
sys.modules["rtface.pipeline.film"] = module
from rtface.__main__ import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="no POSIX shell there")
@pytest.mark.parametrize(
    "end",
    [
        "<&- >&- 2>&-",
        "--json >/dev/full",
        "2>&1 | true",
    ],
)
def test_streams_that_are_closed_or_broken_end_no_film(tmp_path, end):
    line = f'set -o pipefail; "$0" -c "$1" run a.mp4 b.mp4 --output-dir out {end}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, SHOWING],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout and "Exception ignored" not in done.stderr
    assert [(tmp_path / "out" / name).read_text() for name in ("a.mp4", "b.mp4")] == ["film", "film"]


@pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process group on Windows")
def test_ctrl_c_during_imports_shows_no_traceback():
    # What imports the command line finds this in its place, and stays in it.
    script = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'rtface.cli.app':\n"
        "            print('importing', flush=True); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from rtface.__main__ import main; main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and err == ""


def rtface(*arguments, code=0, **kwargs):
    done = subprocess.run(
        [sys.executable, "-m", "rtface", *arguments],
        capture_output=True,
        text=True,
        env=environment() | kwargs,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_command_imports_its_own_module_only():
    for arguments, absent in (
        (["--version"], {"typer", "email", "http", "rtface.config.options"}),
        (["--help"], {"cv2", "openvino", "av", "numpy", "rich"}),
        (["verify", "--help"], {"http.client", "rtface.cli.queue", "rtface.cli.engines"}),
    ):
        script = (
            f"import sys; sys.argv = ['rtface', *{arguments!r}]\n"
            "from rtface.__main__ import main\n"
            "import os; os._exit = sys.exit\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            f"found = {absent!r} & set(sys.modules)\n"
            "sys.exit(f'imported {found}' if found else 0)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr


def test_completion_of_options_and_values():
    done = rtface(_RTFACE_COMPLETE="complete_bash", COMP_WORDS="rtface run --grain ", COMP_CWORD="3")
    assert done.stdout.split() == ["match", "less", "none"]
