"""Runs stages: plugins that draw on frames after the enhancement (overlays, privacy, labels); see docs/stages.md.

The names for authors of stages are imported on first use, so that parsing options does not need OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtface.frame import Face, Frame
    from rtface.stages.base import Run, Stage
    from rtface.stages.draw import Canvas, Sprite, covering, display_from_face
    from rtface.stages.options import option, state

__all__ = ["Canvas", "Face", "Frame", "Run", "Sprite", "Stage", "covering", "display_from_face", "option", "state"]

_MODULES = {
    "Canvas": "rtface.stages.draw",
    "Face": "rtface.frame",
    "Frame": "rtface.frame",
    "Run": "rtface.stages.base",
    "Sprite": "rtface.stages.draw",
    "Stage": "rtface.stages.base",
    "covering": "rtface.stages.draw",
    "display_from_face": "rtface.stages.draw",
    "option": "rtface.stages.options",
    "state": "rtface.stages.options",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'rtface.stages' has no attribute {name!r}")
