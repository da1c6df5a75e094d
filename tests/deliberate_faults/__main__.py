"""Runs deliberate faults: each is put into a copy of the source tree, where its tests should fail.

`python -m tests.deliberate_faults [--only NAME]… [--today N]` in the project's environment; NAME may be part of
a name in `faults.toml`. `--today` tries the N whose turn it is, `--check` none: it only looks whether the text of
each is in the source. The exit status is 1 where a fault was not caught, or its text is not there. Your files stay
as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[2]
TESTS_FAILED, TESTS_PASSED = 1, 0  # exit statuses of pytest


@dataclass(frozen=True)
class Fault:
    """One entry of `faults.toml`.

    Attributes:
        name: unique.
        file: from the project's root.
        old: text that occurs once in the file.
        new: what replaces it.
        tests: paths or node ids for pytest, the narrowest that should fail.
        was: the file's path at the commit that README.md compares with, where it had another one.
    """

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    was: str = ""


def read_faults() -> list[Fault]:
    table = tomllib.loads((Path(__file__).parent / "faults.toml").read_text(encoding="utf-8"))
    return [Fault(**entry) for entry in table["fault"]]


def copy_tree(to: Path) -> None:
    """Copies every file that git tracks or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def patched(text: str, fault: Fault) -> str:
    """Raises ValueError where the fault's text is not found exactly once."""
    if (found := text.count(fault.old)) != 1:
        raise ValueError(f"{fault.file} has the text {found} times, not once: {fault.old!r}")
    return text.replace(fault.old, fault.new)


def run_tests(tree: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's exit status in that tree, and its first line that names a failure."""
    projects = (*tree.glob("plugins/*/pyproject.toml"), *tree.glob("engines/**/pyproject.toml"))
    roots = [str(tree), *(str(path.parent) for path in projects)]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # A fault's tests all run, whosever turn it is.
    environment = {"PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1", "RTFACE_TEST_TURN": ""}
    done = subprocess.run(
        command, cwd=tree, capture_output=True, text=True, errors="replace", env=os.environ | environment
    )
    lines = done.stdout.splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, (failures or lines[-1:] or [""])[0]


def try_fault(tree: Path, fault: Fault) -> str:
    """ "caught", "not caught", or "error: …"."""
    path = tree / fault.file
    try:
        text = path.read_text(encoding="utf-8")
        path.write_text(patched(text, fault), encoding="utf-8")
    except (OSError, ValueError) as error:
        return f"error: {error}"
    try:
        status, said = run_tests(tree, fault.tests)
    finally:
        path.write_text(text, encoding="utf-8")
    if status == TESTS_PASSED:
        return "not caught"
    if status != TESTS_FAILED:
        return f"error: pytest ended with {status}: {said}"
    test = said.removeprefix("FAILED ").partition(" - ")[0]
    if run_tests(tree, [test])[0] != TESTS_PASSED:  # what fails anyway catches nothing
        return f"error: fails without the fault too: {test}"
    return f"caught      {test}"


def check(faults: list[Fault]) -> int:
    """Says which faults cannot be put in; the exit status."""
    lost = 0
    for fault in faults:
        try:
            patched((ROOT / fault.file).read_text(encoding="utf-8"), fault)
        except (OSError, ValueError) as error:
            lost += 1
            print(f"faults.toml: {fault.name}: {error}")
    return bool(lost)


def of_the_day(faults: list[Fault], count: int, day: int) -> list[Fault]:
    """`count` faults, the next ones each day, so that all have their turn."""
    first = day * count % len(faults)
    return (faults + faults)[first : first + min(count, len(faults))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deliberate_faults", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="part of a fault's name")
    parser.add_argument("--today", type=int, metavar="N", help="only N of them, others tomorrow")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time")
    parser.add_argument("--check", action="store_true", help="only look for their text")
    options = parser.parse_args()
    only = options.only
    faults = [f for f in read_faults() if not only or any(part in f.name for part in only)]
    if not faults:
        parser.error(f"no fault is called {only}")
    if options.check:
        return check(faults)
    if options.today:
        faults = of_the_day(faults, options.today, int(time.time()) // 86_400)
    missed = 0
    trees: Queue[Path] = Queue()

    def timed(fault: Fault) -> tuple[str, float, str]:
        tree, start = trees.get(), time.monotonic()
        try:
            result = try_fault(tree, fault)
            return fault.name, time.monotonic() - start, result
        finally:
            trees.put(tree)

    with tempfile.TemporaryDirectory(prefix="rtface-faults-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        for number in range(options.jobs):
            copy_tree(tree := Path(folder) / str(number))
            trees.put(tree)
        for name, seconds, result in pool.map(timed, faults):
            missed += not result.startswith("caught")
            print(f"{name:38} {seconds:5.1f} s  {result}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} caught")
    return bool(missed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
