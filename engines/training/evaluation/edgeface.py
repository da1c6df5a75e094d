"""Measures identity by EdgeFace-S, a network that no training uses.

EdgeFace-S: George et al. 2024, "EdgeFace: efficient face recognition model for edge devices". The weights are licensed
under BSD-3-Clause, but were trained on faces from the web. So they are only used for evaluation, and not shipped.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from training.crop_space import F32, TEMPLATE_512, U8, cut
from training.landmarks import to_bytes
from training.losses.weight_files import weights

FILE = "edgeface_s_gamma_05.onnx"
CHIP = 112
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""Eyes, nose and mouth corners in the 112-px chip of ArcFace (Deng et al. 2019)."""


class EdgeFace:
    """Computes embeddings of length 1 from canonical faces.

    Raises:
        FileNotFoundError: the weights are missing. The message explains how to get them.
        ValueError: the file is not the expected one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        import onnxruntime

        data = weights(FILE, folder)
        self.session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def embed(self, picture: F32 | U8) -> F32:
        """Embeds a canonical S×S×3 RGB picture (uint8 or float 0..1): float32 (512,)."""
        size = picture.shape[0]
        matrix, _ = cv2.estimateAffinePartial2D(ARCFACE, TEMPLATE_512 * (size / 512), method=cv2.LMEDS)
        chip = cut(to_bytes(picture), np.asarray(matrix, np.float64), CHIP).astype(np.float32)
        x = ((chip - 127.5) / 127.5).transpose(2, 0, 1)[None]
        out = np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: x})[0][0], np.float32)
        return out / np.linalg.norm(out)

    def distance(self, a: F32 | U8, b: F32 | U8) -> float:
        """Returns 1 minus the cosine between the embeddings of two canonical pictures. 0 for equal pictures."""
        return float(1 - self.embed(a) @ self.embed(b))
