"""Runs the network that distinguishes persons (``engines/shipped/persons``), with OpenVINO on the CPU.

dlib's face recognition network (King, "High quality face recognition with deep metric learning", 2017): a ResNet of 29
convolutions, trained with a metric loss on 3 million images of 7,485 people. Its author gave the weights to the public
domain. ``engines/training/export/export_persons.py`` converts them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtface.engine.recipe import SHIPPED
from rtface.frame import Bytes, Float32
from rtface.util.openvino_core import open_shipped

PATH = SHIPPED / "persons" / "model.onnx"
SHA256 = "af7bd78d809429822c14673c2de6651a942fa321f4829fdf3e81a8607ba326d4"


class PersonNetwork:
    """Maps a chip to an embedding, float32 of length 1. Not thread-safe.

    Args:
        path, sha256: path and SHA-256 of the ONNX file.

    Raises:
        MissingComponent: the file is missing or damaged, or OpenVINO cannot use it.
    """

    def __init__(self, path: Path = PATH, sha256: str = SHA256) -> None:
        # One thread suffices: the network runs a few times for each face, while tracker and engine use the other cores.
        self._request = open_shipped("person", path, sha256, {"INFERENCE_NUM_THREADS": 1})

    def __call__(self, chip: Bytes) -> Float32:
        """Returns the mean embedding, float32 (128,), of a chip and its mirror. The chip is uint8 150×150×3 RGB."""
        image = np.ascontiguousarray(chip.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        total = np.zeros(128, np.float32)
        for one in (image, np.ascontiguousarray(image[..., ::-1])):
            total += self._request.infer({"chip": one})["embedding"][0]
        return total / np.float32(np.linalg.norm(total))
