"""Whether a tracker's networks say on another device what they say on a CPU: a face, and the answers to it."""

from __future__ import annotations

import numpy as np

from rtface.errors import EngineError
from rtface.frame import Bytes
from rtface.tracking import models
from rtface.tracking.detector import SIZE, Detector
from rtface.tracking.facemesh import FaceMesh

FILE = "golden.npz"
_MESH, _DETECTION = 0.5, 1.0  # pixels of the networks' own frames; float32 anywhere is within a hundredth of that
_SCORE = 0.02


def mesh_image() -> Bytes:
    """A face, uint8 256×256×3."""
    with np.load(models.path(FILE)) as file:
        return np.ascontiguousarray(file["picture"].repeat(2, 0).repeat(2, 1))


def detector_image() -> Bytes:
    """The same in a larger frame, uint8 384×384×3."""
    image, out = mesh_image(), np.zeros((SIZE, SIZE, 3), np.uint8)
    out[48 : 48 + len(image), 80 : 80 + len(image)] = image
    return out


def check_mesh(mesh: FaceMesh) -> None:
    """Raises EngineError, saying by how much its points or its score are off."""
    points, score = mesh.infer(mesh_image())
    with np.load(models.path(FILE)) as file:
        apart = float(np.abs(points - file["mesh"]).max())
        off = abs(score - float(file["mesh_score"]))
    _judge("the face mesh", apart, _MESH, off)


def check_detector(detector: Detector) -> None:
    """Likewise."""
    found = detector.detect(detector_image(), 0.5)
    if len(found) != 1:
        raise EngineError(
            "the face detector finds {count} faces on this device where there is one",
            code="golden_faces",
            count=len(found),
        )
    with np.load(models.path(FILE)) as file:
        pairs = (found[0].box, file["box"]), (found[0].points, file["points"])
        apart = max(float(np.abs(mine - wanted).max()) for mine, wanted in pairs)
        off = abs(found[0].score - float(file["score"]))
    _judge("the face detector", apart, _DETECTION, off)


def _judge(what: str, apart: float, allowed: float, off: float) -> None:
    if not (apart <= allowed and off <= _SCORE):  # and what is not a number is refused, too
        raise EngineError(
            "{model} does not give its reference's answers on this device: {apart:.2f} pixels off, {allowed} "
            "allowed; score {off:.3f} off, {score_allowed} allowed",
            code="golden_landmarks",
            model=what,
            apart=apart,
            allowed=allowed,
            off=off,
            score_allowed=_SCORE,
        )
