"""Sums the seconds of tests by folder: ``python -m tests.durations JUNIT.XML ... [--slow FILE]``.

Reads what pytest's ``--junitxml`` writes, as ``.ci/run`` does. With ``--slow tests/slow.txt``, and the file of a run of
``make test``, the tests that take longest are added to those that ``make test`` leaves out.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
# Seconds of one case, and of all cases of one test, from which on a test is slow.
CASE_S, ALL_CASES_S = 1.5, 4.0


def durations(files: list[Path]) -> dict[str, list[float]]:
    """Seconds of each case, by path and name of its test."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            parts = case.get("classname", "").split(".")
            module = "/".join(
                parts[: next((n for n, part in enumerate(parts, 1) if part.startswith("test_")), len(parts))]
            )
            seconds[f"{module}.py::{case.get('name', '').split('[')[0]}"].append(float(case.get("time", 0)))
    return seconds


def main() -> int:
    """Prints the seconds of each folder; lists slow tests where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--slow", type=Path, metavar="FILE", help="list slow tests here, beside those that are listed")
    options = parser.parse_args()
    tests = durations(options.files)
    folders: dict[str, float] = defaultdict(float)
    for name, cases in tests.items():
        folders["/".join(name.partition(".py::")[0].split("/")[:2])] += sum(cases)
    listed = sorted(folders.items(), key=lambda folder: -folder[1])
    print("seconds of processes:", ", ".join(f"{name} {seconds:.0f}" for name, seconds in listed if name))
    if options.slow:
        slow = {name for name, cases in tests.items() if max(cases) >= CASE_S or sum(cases) >= ALL_CASES_S}
        slow |= {name for name in options.slow.read_text().split() if (ROOT / name.split("::")[0]).is_file()}
        options.slow.write_text("".join(f"{name}\n" for name in sorted(slow)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
