"""Measures one part of rtface on an NVIDIA GPU, with a baseline.

usage: python -m benchmarks.gpu PART [--dry] [--out FOLDER]

Saves benchmarks/results/gpu_PART.json. --dry runs the part on the tests' emulated GPU, with small counts, to check that
the code works. `benchmarks.gpu.first_contact` runs all parts, each in a separate process.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.gpu.machine import RESULTS, Bench

PARTS = ("tensorrt", "in_place", "tracker", "runs", "latency", "path")


def main() -> int:
    """Measures the part. Returns 0 if it succeeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what to measure")
    parser.add_argument("--dry", action="store_true", help="on the tests' own GPU, with small counts")
    parser.add_argument("--out", type=Path, help="folder for the results")
    modules = {name: importlib.import_module(f"benchmarks.gpu.{name}") for name in PARTS}
    for module in modules.values():
        module.options(parser)
    args = parser.parse_args()
    out = args.out or (Path(tempfile.mkdtemp(prefix="rtface-gpu-")) if args.dry else RESULTS)
    bench, started = Bench(args.dry, out, " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])), time.perf_counter()
    try:
        result = modules[args.part].measure(bench, args)
        bench.save(args.part, {**result, "seconds": round(time.perf_counter() - started, 1)})
    except Exception as error:  # noqa: BLE001 - the last line reports any error
        traceback.print_exc()
        print(f"without figures: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        bench.close()
    print(result.get("in_short", f"figures in gpu_{args.part}.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
