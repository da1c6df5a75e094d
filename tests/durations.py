"""Sums the seconds of tests by folder and file: ``python -m tests.durations JUNIT.XML ... [--save FILE]``.

Reads what pytest's ``--junitxml`` writes, as ``.ci/run`` does. tests/durations.json has the figures of a whole run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

LISTED = 40


def durations(files: list[Path]) -> dict[str, dict[str, float]]:
    """Seconds by folder, and of the files that take longest, in descending order."""
    folders: dict[str, float] = defaultdict(float)
    modules: dict[str, float] = defaultdict(float)
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            parts = case.get("classname", "").split(".")
            parts = parts[: next((n for n, part in enumerate(parts) if part.startswith("test_")), len(parts)) + 1]
            taken = float(case.get("time", 0))
            folders["/".join(parts[:2])] += taken
            modules["/".join(parts)] += taken
    return {"folders": _descending(folders), "files": _descending(modules, LISTED)}


def _descending(seconds: dict[str, float], count: int | None = None) -> dict[str, float]:
    """The largest entries, rounded to a tenth."""
    return {name: round(seconds[name], 1) for name in sorted(seconds, key=lambda name: -seconds[name])[:count]}


def main() -> int:
    """Prints the seconds of each folder; saves all where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    seconds = durations(options.files)
    print("seconds of processes:", ", ".join(f"{name} {taken:.0f}" for name, taken in seconds["folders"].items()))
    if options.save:
        options.save.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
