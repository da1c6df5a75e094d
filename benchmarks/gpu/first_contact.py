"""Runs all tests and benchmarks for NVIDIA GPUs, most important first.

usage: python -m benchmarks.gpu.first_contact [PART …] [--seconds N] [--out FOLDER] [--dry]

Each part runs in a separate process with a time limit, so a crash, hang or lost GPU affects no other part. Its output
goes to FOLDER/PART.log immediately, its figures to FOLDER/gpu_*.json, and when it ends a line to FOLDER/summary.txt. If
no time is left, the remaining parts are listed and skipped. The script needs only the standard library. A part whose
packages are missing fails and says so. --dry rehearses everything on the tests' emulated GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAST_S = 15  # minimum time to start a part
_KILLED_S = 5  # time between terminating a part and killing it


@dataclass(frozen=True)
class Part:
    """A part: its name, time limit in seconds, and command. `dry` is the command to rehearse the part without a GPU.
    `networks` is True if the part needs TensorRT or PyTorch."""

    name: str
    limit: int
    command: tuple[str, ...]
    dry: tuple[str, ...]
    networks: bool = False


def _shell(name: str, limit: int, script: str) -> Part:
    return Part(name, limit, ("bash", "-c", script), ("bash", "-n", "-c", script))


def _tests(name: str, limit: int, file: str, *more: str, under: tuple[str, ...] = ()) -> Part:
    pytest = (
        sys.executable,
        "-m",
        "pytest",
        f"tests/gpu/{file}",
        "-p",
        "no:cacheprovider",
        "-q",
        "-rA",
        "--tb=short",
        "--durations=5",
        *more,
    )
    networks = name not in ("driver", "kernel-tests", "kernel-memory", "codec-tests")
    return Part(name, limit, (*under, *pytest, "-v"), (*pytest, "--collect-only"), networks)


def _figures(name: str, limit: int, *more: str) -> Part:
    command = (sys.executable, "-m", "benchmarks.gpu", name, *more)
    return Part(name, limit, command, (*command, "--dry"), networks=True)


PARTS = (
    _shell(
        "machine",
        25,
        "nvidia-smi; ldconfig -p | grep -E 'libcuda.so|nvcuvid|nvidia-encode'; "
        f"{sys.executable} -m pip list 2>&1 | grep -iE 'cuda|nvrtc|torch|onnx|^av |tensorrt|numpy'; "
        "echo noted",
    ),
    _tests("driver", 60, "test_nvidia_gpu.py"),
    _figures("tensorrt", 240),
    _figures("in_place", 120),
    _figures("tracker", 150),
    _figures("runs", 150),
    _tests("in-place-tests", 150, "test_in_place_on_gpu.py"),
    _tests("kernel-tests", 200, "test_kernels_on_gpu.py"),
    _tests(
        "kernel-memory",
        150,
        "test_kernels_on_gpu.py",
        "-k",
        "p010le or yuv420p-bt601 or batches or several_sizes or bottom_up",
        under=("compute-sanitizer", "--tool", "memcheck", "--report-api-errors", "no", "--error-exitcode", "9"),
    ),
    _tests("engine-tests", 240, "test_engine_on_gpu.py", "-k", "not vivid"),
    _tests("tensorrt-tests", 150, "test_tensorrt_on_gpu.py", "-k", "not vivid"),
    _tests("device-tests", 180, "test_cuda_device_on_gpu.py"),
    _tests("codec-tests", 150, "test_hardware_codecs.py"),
    _tests("keyframe-tests", 120, "test_keys_on_gpu.py"),
    _figures("latency", 120, "--latency-frames", "300"),
    _figures("path", 150),
)


def run(part: Part, out: Path, seconds: float, *, dry: bool = False) -> str:
    """Runs a part for at most `seconds` and returns a summary line."""
    command = part.dry if dry else part.command
    if command[1:3] == ("-m", "benchmarks.gpu"):
        command = (*command, "--out", str(out))
    environment = os.environ | {
        "RTFACE_REQUIRE_GPU": "0" if dry else "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    log, begun = out / f"{part.name}.log", time.monotonic()
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=os.name == "posix",
            )
        except OSError as error:
            return f"{part.name}: not begun: {error}"
        try:
            status = f"exit status {process.wait(seconds)}"
        except subprocess.TimeoutExpired:
            _end(process)
            status = "ended at its limit"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    failed = [line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))][:12]
    last = lines[-1][:200] if lines else "it printed nothing"
    return "\n  ".join([f"{part.name}: {status} after {time.monotonic() - begun:.0f} s: {last}", *failed])


def no_networks() -> str:
    """Returns why no network runs on this GPU. Returns "" if one does, or if this is unknown."""
    command = (sys.executable, "-m", "tests.gpu.torch_plan")
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group and waits for it. Abandons processes that hang in the driver."""
    for signal in (15, 9):
        if os.name == "posix":
            os.killpg(process.pid, signal)
        else:
            process.kill()
        try:
            process.wait(_KILLED_S)
            return
        except subprocess.TimeoutExpired:
            continue


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the requested parts. Returns 0 if all succeeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to run: {', '.join(names)}; all without one")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for all parts together")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for what comes of it")
    parser.add_argument("--dry", action="store_true", help="rehearse it on the tests' own GPU")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(names):
        parser.error(f"there is no part {min(unknown)}; there is: {', '.join(names)}")
    args.out.mkdir(parents=True, exist_ok=True)
    out, end, good = args.out.resolve(), time.monotonic() + args.seconds, True
    why = "" if args.dry else no_networks()
    with (out / "summary.txt").open("a") as summary:
        for part in PARTS:
            if args.parts and part.name not in args.parts:
                continue
            left = end - time.monotonic() - 2 * _KILLED_S
            if part.networks and why:
                line = f"{part.name}: left out, no network runs here: {why}"
            elif left < LEAST_S:
                line = f"{part.name}: left out, there is no time left"
            else:
                line = run(part, out, min(part.limit, left), dry=args.dry)
            good &= f"{part.name}: exit status 0 " in line
            print(line, flush=True)
            print(line, file=summary, flush=True)
    return not good


if __name__ == "__main__":
    sys.exit(main())
