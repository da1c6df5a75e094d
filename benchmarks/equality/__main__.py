"""Compares the outputs of two checkouts bit by bit.

usage: python -m benchmarks.equality --old DIR [--new DIR] [--only NAME ...] [--keep FOLDER]

DIR is a checkout with its `.venv`. Each case is a separate process in each checkout. The program compares the samples,
times and colour tags of video streams, the packets of other streams, the metadata, the bytes of stills, and reports
without times, paths and wording. Instead of an old checkout, --old accepts the `old.json` or `new.json` that an earlier
run saved with --keep on the same machine. The exit code is 1 if anything differs.

The program does not cover GPUs, cameras, virtual cameras and network streams. Nor does it cover how live runs depend
on the clock: their quality levels and correction get scripted times, and no tracker runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.equality import hashing, inputs
from benchmarks.equality.cases import CASES, Case

HERE = Path(__file__).resolve().parent
LIMIT_S = 600
ROW = "{:<26} {:<12} {:<12} {:<9} {}"


@dataclass
class Side:
    """One of the two checkouts to compare.

    Attributes:
        checkout: folder of the checkout; None if `hashes` already contains all cases.
        work: folder for the checkout's outputs and cache.
        hashes: by case: hashes of the parts of the outputs.
    """

    checkout: Path | None
    work: Path
    hashes: dict[str, hashing.Parts]

    def parts(self, case: Case, source: Path) -> hashing.Parts:
        """Returns a case's hashes. Runs the case in a new process unless the hashes are from an earlier run."""
        if self.checkout is None:
            return self.hashes.get(case.name, {})
        out = self.work / case.name.replace(" ", "-")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        python = str(self.checkout / ".venv" / "bin" / "python")
        if case.command[0] == "python":
            command = [python, str(HERE / "worker.py"), case.command[1], str(source), str(out)]
        else:
            folders = {"IN/": f"{source}/", "OUT/": f"{out}/"}
            arguments = [re.sub("IN/|OUT/", lambda m: folders[m[0]], argument) for argument in case.command]
            command = [python, "-m", "rtface", *arguments]
        paths = (self.checkout, self.checkout / "plugins" / "rtface-overlays", source)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RTFACE_")} | {
            "RTFACE_CACHE": str(self.work / "cache"),
            "RTFACE_CONFIG_DIR": str(self.work / "conf"),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "NO_COLOR": "1",
        }
        with (out / "stdout").open("wb") as stdout, (out / "log.txt").open("wb") as log:
            run = subprocess.run(
                command,
                cwd=self.checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                timeout=LIMIT_S,
                check=False,
            )
        parts = {"exit code": str(run.returncode)} | hashing.parts_of(out, case.timed)
        self.hashes[case.name] = parts
        return parts


def main() -> int:
    """Parses the command line, and compares the checkouts. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equality", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--old", type=Path, required=True, metavar="DIR", help="a checkout, or the old.json of an earlier run"
    )
    parser.add_argument(
        "--new", type=Path, default=HERE.parents[1], metavar="DIR", help="a checkout; default: the one of this file"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only cases whose name contains a NAME")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep inputs, outputs and hashes in this folder")
    a = parser.parse_args()
    cases = [c for c in CASES if not a.only or any(name in c.name for name in a.only)]
    if not cases:
        parser.error("no case has such a name; the cases are " + ", ".join(c.name for c in CASES))
    with tempfile.TemporaryDirectory(prefix="equality-") as folder:
        return compare(a.old.resolve(), a.new.resolve(), cases, (a.keep or Path(folder)).resolve())


def compare(old: Path, new: Path, cases: list[Case], folder: Path) -> int:
    """Runs the cases in both checkouts, and prints a table. Returns 1 if anything differs, else 0."""
    source = folder / "inputs"
    if not (source / "made").exists():
        shutil.rmtree(source, ignore_errors=True)
        inputs.make(source)
        (source / "made").touch()
    input_hashes = hashing.parts_of(source)
    saved = json.loads(old.read_text()) if old.is_file() else None
    if saved and saved["inputs"] != input_hashes:
        sys.exit(f"{old} was made from different inputs; use the old checkout as --old again")
    sides = {
        "old": Side(None if saved else old, folder / "old", saved["cases"] if saved else {}),
        "new": Side(new, folder / "new", {}),
    }
    print(ROW.format("case", "old", "new", "equal", "seconds"), flush=True)
    different: list[str] = []
    for case in cases:
        started = perf_counter()
        old_parts, new_parts = (side.parts(case, source) for side in sides.values())
        failed = (new_parts["exit code"] != "0") != case.refused
        print(
            ROW.format(
                case.name,
                hashing.together(old_parts),
                hashing.together(new_parts),
                "FAILED" if failed else "yes" if old_parts == new_parts else "DIFFERENT",
                f"{perf_counter() - started:.1f}",
            ),
            flush=True,
        )
        if failed or old_parts != new_parts:
            different.append(case.name)
        for part in sorted(old_parts.keys() | new_parts.keys()):
            if old_parts.get(part) != new_parts.get(part):
                print(f"    {part}: {old_parts.get(part)} {new_parts.get(part)}", flush=True)
    for name, side in sides.items():
        if side.checkout:
            text = json.dumps({"inputs": input_hashes, "cases": side.hashes}, indent=1)
            (folder / f"{name}.json").write_text(text)
    names = f"{len(different)} different: {', '.join(different)}"
    print(f"{len(cases)} cases, {names if different else 'all equal'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
