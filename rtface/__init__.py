"""Enhances faces in video, in real time.

    import rtface

    rtface.run("call.mp4", "clear.mp4", strength=0.8)

    with rtface.Enhancer() as e:
        for image in images:            # H×W×3 uint8
            show(e(image))

docs/python.md describes all names. They are imported on first use, so that ``import rtface`` itself is quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from rtface._version import __version__

# On import, OpenVINO sends a telemetry event and stores a client ID in the home folder. Without this package it uses
# its own stub, which does nothing. rtface itself sends no data.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# ONNX Runtime (1.31 on Linux) stores a machine ID in the cache folder and sends telemetry, unless this is set before
# its import. Child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# SVT-AV1 writes to stderr; 1 limits that to errors. It is set at import because OpenVINO's threads read the
# environment without a lock: changing it while a network is loading may crash the process.
os.environ.setdefault("SVT_LOG", "1")

if TYPE_CHECKING:
    from rtface.analysis.track_report import TrackReport
    from rtface.api import analyze, run
    from rtface.config.options import Options
    from rtface.enhancer import Enhancer
    from rtface.errors import RtfaceError
    from rtface.frame import Face
    from rtface.jobs.queue.api import Queue
    from rtface.pipeline.progress import Progress
    from rtface.report import Report

__all__ = [
    "Enhancer",
    "Face",
    "Options",
    "Progress",
    "Queue",
    "Report",
    "RtfaceError",
    "TrackReport",
    "__version__",
    "analyze",
    "run",
]

_MODULES = {
    "analyze": "api",
    "run": "api",
    "Options": "config.options",
    "Enhancer": "enhancer",
    "RtfaceError": "errors",
    "Face": "frame",
    "Progress": "pipeline.progress",
    "Queue": "jobs.queue.api",
    "Report": "report",
    "TrackReport": "analysis.track_report",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"rtface.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'rtface' has no attribute {name!r}")
