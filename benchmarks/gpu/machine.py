"""Provides the GPU (real or emulated), clocks, rounds, and result files."""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.golden import GoldenResult
from rtface.engine.recipe import Recipe, find_recipes, load_recipe

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = (
    "rtface",
    "numpy",
    "av",
    "opencv-python-headless",
    "openvino",
    "onnxruntime",
    "torch",
    "cuda-core",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "tensorrt-rtx-cu13-bindings",
    "tensorrt-cu13",
)


@dataclass
class Bench:
    """One measurement session.

    Attributes:
        dry: whether to use the tests' emulated GPU and small counts, which only checks that the code works.
        out: folder for the result files.
        command: the command line.
        stood_in: the replacement for TensorRT, and the reason for it; "" if TensorRT runs the networks.
    """

    dry: bool
    out: Path
    command: str
    stood_in: str = ""
    _folder: Any = field(default_factory=lambda: tempfile.TemporaryDirectory(prefix="rtface-bench-"))

    @cached_property
    def streams(self) -> StreamThread:
        """The GPU's stream thread. The first access opens the GPU."""
        return StreamThread(self._open)

    def _open(self) -> Any:
        if str(ROOT) not in sys.path:
            sys.path.insert(0, str(ROOT))
        if not self.dry:
            from rtface.device.cuda.modules import open_gpu
            from tests.gpu.torch_plan import stand_in

            gpu = open_gpu()
            self.stood_in = stand_in(gpu)
            return gpu
        from tests.device.cuda.gpu_rig import FakeGpu, build_kernels

        return FakeGpu(build_kernels(), memory=8 << 30)

    @property
    def folder(self) -> Path:
        """A folder for temporary files."""
        return Path(self._folder.name)

    def count(self, real: int, dry: int = 2) -> int:
        """Returns `real`, or `dry` in a dry run."""
        return dry if self.dry else real

    def run(self, step: Callable[[], Any]) -> Any:
        """Runs `step` on the thread that owns the GPU."""
        return self.streams.run(step).result()

    def settle(self) -> None:
        """Waits for all work on the GPU's streams."""

        def go() -> None:
            for stream in (self.streams.up, self.streams.compute, self.streams.finish, self.streams.down):
                event = self.streams.gpu.event()
                stream.record(event)
                event.synchronize()

        self.run(go)

    def plan(self, recipe: Recipe, *, precision: Any = None) -> tuple[Any, GoldenResult, str]:
        """Opens a plan for the GPU. Also returns the gate's verdict and the library that runs the plan."""

        def make() -> tuple[Any, GoldenResult, str]:
            if self.dry:
                from tests.device.cuda.gpu_rig import FakePlan

                plan = FakePlan(recipe, self.streams.gpu, max_batch=recipe.batch.max)
                return plan, GoldenResult(100.0, 50.0, 0.0), "dry"
            from rtface.engine import tensorrt

            library = self.stood_in or "TensorRT takes the GPU"
            return *tensorrt.open_tensorrt(recipe, self.streams.gpu, precision=precision), library

        return self.run(make)

    def describe(self) -> dict[str, Any]:
        """Returns date, GPU, driver, versions and command."""
        gpu: dict[str, Any] = {}
        if "streams" in vars(self):
            opened = self.streams.gpu
            gpu = {
                "networks": "the tests' own" if self.dry else self.stood_in or "TensorRT",
                "gpu": opened.name,
                "sm": "".join(map(str, opened.capability)),
                "cuda": opened.driver,
            }
        versions: dict[str, str] = {}
        for name in _PACKAGES:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                continue
        return {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            **gpu,
            "driver": _driver(),
            "processor": _processor(),
            "python": platform.python_version(),
            "versions": versions,
            "command": self.command,
            "dry": self.dry,
        }

    def save(self, name: str, result: Mapping[str, Any]) -> None:
        """Writes and prints gpu_NAME.json."""
        self.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": self.describe(), **result}, indent=1)
        (self.out / f"gpu_{name}.json").write_text(text + "\n")
        print(text, flush=True)

    def close(self) -> None:
        if "streams" in vars(self):
            self.streams.close()
        self._folder.cleanup()


def engine_recipe(name: str, max_crops: int) -> Recipe:
    """Loads a shipped engine's recipe, for batches of up to `max_crops` crops."""
    from dataclasses import replace

    recipe = load_recipe(find_recipes()[name])
    return replace(recipe, batch=replace(recipe.batch, max=max_crops))


def _driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
        return next((word for word in text.split() if word.count(".") >= 1 and word[0].isdigit()), "")
    except OSError:
        return ""


def _processor() -> str:
    import os

    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{os.cpu_count()} × {line.split(':', 1)[1].strip()}"
    except OSError:
        pass
    return f"{os.cpu_count()} × {platform.machine()}"


def quantiles(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Returns min, p50, p95, p99, max, in the unit of the values."""
    points = np.percentile(np.asarray(values, np.float64), [0, 50, 95, 99, 100])
    return {name: round(float(v), digits) for name, v in zip(("min", "p50", "p95", "p99", "max"), points, strict=True)}
