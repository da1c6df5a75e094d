"""Measures live runs while other processes keep cores busy. Runs of this and of an older version alternate.

usage: python -m benchmarks.live.loads [--seconds 200] [--old COMMIT] [--rate 30] [--height 720] [--loads 0,1,2]

For each number of busy cores, both versions run on the same clip with one face. Without --old, only this version runs.
The old version is checked out into a temporary folder. Prints a table and saves results/live_loads_HEIGHTpRATE.json.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import save
from benchmarks.live.__main__ import keep_core_busy, measure_run
from benchmarks.live.sender import create_numbered_clip

HERE = Path(__file__).resolve().parents[2]
ROW = "{:>6} {:>8} {:>6} {:>9} {:>12} {:>8} {:>22} {:>8}"


def old_tree(commit: str, folder: Path) -> Path:
    """Creates a folder with an older rtface and the current benchmarks."""
    subprocess.run(
        ["git", "-C", str(HERE), "worktree", "add", "--detach", str(folder / "old"), commit],
        check=True,
        capture_output=True,
    )
    tree = folder / "tree"
    tree.mkdir()
    (tree / "rtface").symlink_to(folder / "old" / "rtface")
    (tree / "benchmarks").symlink_to(HERE / "benchmarks")
    return tree


def row(load: int, version: str, figures: dict[str, Any]) -> str:
    """Formats one line of the table."""
    latency = "/".join(f"{figures['latency_ms'][k]:.0f}" for k in ("p50", "p95", "p99"))
    dropped = sum(n for name, n in figures["dropped"].items() if name.startswith("dropped"))
    return ROW.format(
        load,
        version,
        figures["fps"],
        figures["enhanced_percent"],
        figures["on_and_off_a_minute"],
        figures["steps_a_minute"],
        latency,
        dropped,
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--old", metavar="COMMIT")
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--loads", default="0,1,2", help="numbers of busy cores, with one run for each")
    a = parser.parse_args()
    path = create_numbered_clip(rate=a.rate, width=a.height * 16 // 9, height=a.height, face_px=a.height * 250 // 720)
    result: dict[str, Any] = {"what": (__doc__ or "").splitlines()[0], "seconds": a.seconds, "old": a.old}
    table = [
        ROW.format(
            "cores", "version", "fps", "enhanced%", "on/off a min", "steps/min", "latency p50/p95/p99", "dropped"
        )
    ]
    with ExitStack() as stack:
        trees: list[tuple[str, Path | None]] = [("new", None)]
        if a.old:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            trees.insert(0, ("old", old_tree(a.old, folder)))
            stack.callback(
                subprocess.run,
                ["git", "-C", str(HERE), "worktree", "remove", "--force", str(folder / "old")],
                check=False,
            )
        for load in map(int, a.loads.split(",")):
            for version, tree in trees:
                with ExitStack() as busy:
                    for _ in range(load):
                        busy.enter_context(keep_core_busy())
                    figures = result[f"{load} busy, {version}"] = measure_run(path, a.seconds, tree=tree)
                table.append(row(load, version, figures))
                print(table[-1], flush=True)
    result["table"] = table
    save(f"live_loads_{a.height}p{a.rate}", result)
    print("\n".join(table))


if __name__ == "__main__":
    main()
