"""The frame path and the engines on a GPU import and start without PyAV and OpenVINO."""

import subprocess
import sys
from pathlib import Path

import rtface

_SCRIPT = """
import sys
for name in ("av", "openvino", "torch", "cuda", "tensorrt", "tensorrt_rtx", "onnxruntime"):
    sys.modules[name] = None
import importlib, pathlib
folder = pathlib.Path({folder!r})
modules = ("enhance/live.py", "enhance/film.py", "engine/plan.py", "engine/crop_runner.py", "engine/engine_set.py")
for path in [folder / name for name in modules] + [
        path for glob in ("device/**/*.py", "correct/*.py", "engine/cuda/*.py", "engine/tensorrt/*.py")
        for path in sorted(folder.glob(glob))]:
    name = ".".join(["rtface", *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
    importlib.import_module(name)
    print(name)
from rtface.device.cpu.device import CpuDevice
CpuDevice()
"""


def test_frame_path_and_engines_import_without_optional_libs():
    folder = Path(rtface.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(folder=str(folder))],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    assert {
        "rtface.enhance.live",
        "rtface.device.cuda.device",
        "rtface.engine.cuda.engine",
        "rtface.engine.tensorrt.plan",
    } <= set(done.stdout.split())
