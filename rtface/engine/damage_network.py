"""The network that finds damage on faces (``rtface/models/damage``), run by OpenVINO on the CPU in fp32.

It is trained by ``training/loop/train_damage.py``; ``training/MODEL_CARD.md`` describes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtface.correct.damage import REGION
from rtface.engine.recipe import SHIPPED
from rtface.frame import Float32
from rtface.util.openvino_core import open_shipped

PATH = SHIPPED / "damage" / "model.onnx"
SHA256 = "aab31e6e84ed00e0f70419d41977aee631be9f6eada3296ede2f0fe1d84a0540"


class DamageNetwork:
    """See `rtface.protocols.DamageFinder`.

    Args:
        path, sha256: of its ONNX file.

    Raises:
        MissingComponent: the file is absent or damaged, or OpenVINO cannot use it.
    """

    def __init__(self, path: Path = PATH, sha256: str = SHA256) -> None:
        self._request = open_shipped("damage", path, sha256, {})

    def __call__(self, crop: Float32) -> Float32:
        x, y, w, h = REGION
        image = np.ascontiguousarray(crop[y : y + h, x : x + w].transpose(2, 0, 1)[None], np.float32)
        out = np.zeros(crop.shape[:2], np.float32)
        out[y : y + h, x : x + w] = self._request.infer({"image": image})["damage"][0, 0]
        return out
