"""A Python for the converter: found, or made once; and child processes."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rtface.errors import MissingComponent
from rtface_engines import child, environment
from rtface_engines.environment import SetupOutput, environment_folder, find_python


class Heard(list[str]):
    @property
    def teller(self) -> SetupOutput:
        return SetupOutput(self.append, self.append)


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What pip finds: a package `rtface_trial_torch` of nothing, and no index."""
    import zipfile

    made = tmp_path / "wheels"
    made.mkdir()
    with zipfile.ZipFile(made / "rtface_trial_torch-1.0-py3-none-any.whl", "w") as wheel:
        info = "rtface_trial_torch-1.0.dist-info"
        wheel.writestr("rtface_trial_torch.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rtface-trial-torch\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = ["rtface_trial_torch.py", *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD"))]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in files))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made))
    monkeypatch.setattr(environment, "MODULES", ("rtface_trial_torch",))
    monkeypatch.setattr(environment, "PACKAGES", ("rtface-trial-torch==1.0",))
    return made


@pytest.mark.slow
def test_one_is_made_once(wheelhouse: Path) -> None:
    heard = Heard()
    python = find_python(None, heard.teller)
    assert python.is_relative_to(environment_folder()) and environment.missing(python) == []
    assert "setting up an environment with torch in" in heard[0] and "GB of disk" in heard[0]
    assert any("rtface" in line.replace("-", "_") and "trial" in line for line in heard[1:])
    heard.clear()
    assert find_python(None, heard.teller) == python and heard == []


def test_a_set_up_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = child.ExitStatus(1, ["ERROR: no such torch", "a traceback"])
    monkeypatch.setattr(environment.venv, "create", lambda folder, with_pip: folder.mkdir())
    monkeypatch.setattr(environment, "missing", lambda python: ["torch"])
    monkeypatch.setattr(child, "run", lambda *_: failed)
    with pytest.raises(MissingComponent, match=r"cannot be set up: no such torch; its files were removed. With "):
        find_python(None, Heard().teller)
    assert not environment_folder().exists()


def test_half_of_one_is_made_anew(wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (environment_folder() / "bin").mkdir(parents=True)
    (environment_folder() / "bin" / "left").write_text("")
    made: list[Path] = []
    monkeypatch.setattr(environment, "make", lambda folder, output: made.append(folder) or folder)
    find_python(None, Heard().teller)
    assert made == [environment_folder()]


def test_two_at_once_set_up_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, which the lock keeps apart as it does processes."""
    made: list[Path] = []
    begun, go = threading.Event(), threading.Event()

    def make(folder: Path, output: SetupOutput) -> Path:
        made.append(folder)
        begun.set()
        assert go.wait(30)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        python.parent.mkdir(parents=True)
        python.write_text("")
        (folder / "ready.json").write_text("{}")
        return python

    here = Path(sys.executable)
    monkeypatch.setattr(environment, "missing", lambda python: ["torch"] if python == here else [])
    monkeypatch.setattr(environment, "make", make)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(find_python, None, Heard().teller)
        assert begun.wait(30)
        waits = threading.Event()
        second = pool.submit(find_python, None, SetupOutput(lambda line: waits.set(), lambda line: None))
        assert waits.wait(30)
        go.set()
        assert first.result(30) == second.result(30)
    assert made == [environment_folder()]


def test_a_python_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "MODULES", ("json", "no_such_module"))
    with pytest.raises(MissingComponent, match=r"--python .*: no_such_module not installed there; install with: .* -m"):
        find_python(Path(sys.executable), Heard().teller)
    monkeypatch.setenv("RTFACE_TORCH_PYTHON", sys.executable)
    with pytest.raises(MissingComponent, match=r"^RTFACE_TORCH_PYTHON .*: no_such_module not installed there"):
        find_python(None, Heard().teller)
    monkeypatch.setattr(environment, "MODULES", ("json",))
    assert find_python(None, Heard().teller) == Path(sys.executable)
    monkeypatch.chdir(Path(sys.executable).parent)
    found = find_python(Path(Path(sys.executable).name), Heard().teller)
    assert found.is_absolute()
    assert found.samefile(sys.executable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert find_python(Path(Path(sys.executable).name), Heard().teller).samefile(sys.executable)
    for name, text in (("missing", None), ("text", "no program"), ("other", "#!/bin/sh\nexit 3\n")):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
            path.chmod(0o755)
        with pytest.raises(MissingComponent, match=r"cannot be started|does not work as a Python"):
            find_python(path, Heard().teller)


def test_this_python_is_taken_where_it_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "MODULES", ("json",))
    assert find_python(None, Heard().teller) == Path(sys.executable)


def test_a_child_that_is_killed_is_told_from_one_that_fails() -> None:
    heard = Heard()
    ended = child.run([sys.executable, "-c", "import sys; print('heard'); sys.exit('too bad')"], heard.append)
    assert heard == ["heard"] and (ended.code, ended.why) == (1, "too bad")
    if os.name == "posix":
        ended = child.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], heard.append)
        assert ended.why == "it was killed, most likely because memory ran out"
        ended = child.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"], heard.append)
        assert ended.why == "it was stopped by SIGTERM"


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print(p.pid, flush=True); p.wait()"
    )
    pids: list[int] = []

    def heard(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run([sys.executable, "-c", program], heard)
    import time

    end = time.monotonic() + 5
    while _alive(pids[0]) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _alive(pids[0])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False
