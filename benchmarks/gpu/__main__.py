"""Measures rtface on an NVIDIA GPU: each part against a baseline of the same run, into benchmarks/results/gpu_*.json.

usage: python -m benchmarks.gpu [engines] [published] [kernels] [path] [latency] [overlap] [--dry] [--out FOLDER]

Without a part all of them. --dry runs everything on the tests' own GPU, with small counts, to show that it runs.
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

PARTS = ("kernels", "overlap", "latency", "path", "engines", "published")


def main() -> int:
    """0 when every part that was asked for gave its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)}")
    parser.add_argument("--dry", action="store_true", help="on the tests' own GPU, with small counts")
    parser.add_argument("--out", type=Path, help="folder for the results")
    modules = {name: importlib.import_module(f"benchmarks.gpu.{name}") for name in PARTS}
    for module in modules.values():
        module.options(parser)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}; there is: {', '.join(PARTS)}")
    out = args.out or (Path(tempfile.mkdtemp(prefix="rtface-gpu-")) if args.dry else RESULTS)
    bench = Bench(args.dry, out, " ".join(["python -m benchmarks.gpu", *sys.argv[1:]]))
    failed: list[str] = []
    try:
        for name in args.parts or PARTS:
            started = time.perf_counter()
            try:
                result = modules[name].measure(bench, args)
            except Exception:  # noqa: BLE001 - the other parts are still worth the machine's time
                traceback.print_exc()
                failed.append(name)
                continue
            bench.save(name, {**result, "seconds": round(time.perf_counter() - started, 1)})
    finally:
        bench.close()
    if failed:
        print(f"without figures: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
