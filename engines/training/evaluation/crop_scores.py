"""Scores of a restored crop against its input and the truth, beyond PSNR: one row of figures a crop."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from training.crop_space import F32
from training.evaluation.metrics import ssim
from training.landmarks import Landmarks
from training.losses.weight_files import VARIABLE


class Judge:
    """SSIM and landmark error; with torch and the weights that ``RTFACE_METRIC_WEIGHTS`` names also ST-LPIPS (AlexNet)
    and the distance of identities: EdgeFace's, which no network was trained with, and dlib's, which some were.

    Raises:
        FileNotFoundError: the folder is named but the weights are not in it (the message says how to get them).
    """

    def __init__(self) -> None:
        self.landmarks = Landmarks()
        self.st_lpips = self.identity = self.edgeface = None
        if os.environ.get(VARIABLE) and importlib.util.find_spec("torch"):
            from training.evaluation.edgeface import EdgeFace
            from training.losses.identity import Identity
            from training.losses.perceptual import StLpips

            self.st_lpips, self.identity, self.edgeface = StLpips("alex"), Identity(), EdgeFace()

    def __call__(self, truth: F32, seen: F32, ours: F32, mask: F32) -> dict[str, float]:
        """S×S×3 pictures of 0..1 and the S×S oval → each figure of the input (``…_in``) and of ours."""
        out: dict[str, float] = {}
        for tail, picture in (("_in", seen), ("", ours)):
            out[f"ssim{tail}"] = ssim(picture, truth, mask)
            error = self.landmarks.error(picture, truth)
            out[f"landmarks{tail}"] = error if np.isfinite(error) else np.nan
            if self.st_lpips is not None and self.identity is not None and self.edgeface is not None:
                out[f"st_lpips{tail}"] = self.st_lpips.distance(picture, truth, mask)
                out[f"dlib{tail}"] = self.identity.distance(picture, truth)
                out[f"identity{tail}"] = self.edgeface.distance(picture, truth)
        return out
