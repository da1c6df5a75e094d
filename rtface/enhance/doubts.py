"""Measures how doubtful a frame's corrections are, at almost no cost (`rtface.analysis.doubt`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from rtface.analysis.analyzer import same_period
from rtface.analysis.doubt import Doubt
from rtface.enhance.tasks import FaceTask
from rtface.enhance.track_store import MeasuredChange
from rtface.frame import Float32
from rtface.protocols import Correction, Device

_SIDE = 32
"""Cells per side of the grid on which successive corrections are compared."""
_PERIOD_S = 0.2
"""Seconds between readings of the changes and the engine's figures. The first two frames of each such period of the
film's time are read, and stay valid until its end."""
_TIME_MARGIN_S = 1e-3


def note_doubts(faces: Sequence[FaceTask], corrections: Sequence[Correction], device: Device) -> None:
    """Records the doubts of a frame's faces in their tracks' figures."""
    for face, correction in zip(faces, corrections, strict=True):
        if face.strength.seen:
            doubt = _doubt(face, correction, device)  # also in a lead-in, for the comparison on the next frame
            if not face.frame.lead_in:
                face.track.figures.note(face.time).doubt = doubt


def _doubt(face: FaceTask, correction: Correction, device: Device) -> Doubt:
    last, time = face.track.change, face.time
    previous = last if last and last.time < time and same_period(last.time, time, _PERIOD_S) else None
    figures = previous.figures if previous and previous.compared else _measured(face, correction, device, previous)
    pose, raw = face.face.pose, face.face.raw_points
    x0, y0, x1, y1 = face.face.box.tolist()
    return Doubt(
        face.time,
        face.time,
        face.time,
        (x0, y0, x1, y1),
        strength=face.strength.applied,
        drift=face.track.guard.drift or 0.0,
        turned=abs(pose[0]) if pose is not None else 0.0,
        unsteady=0.0 if raw is None else float(np.abs(raw - face.face.points).mean()) / face.face.width,
        unsure=1.0 - face.face.score,
        **figures,
    )


def _central_half(values: Float32) -> Float32:
    """Returns the central half of a map in each direction: the face."""
    rows, columns = (side // 4 for side in values.shape)
    return values[rows : len(values) - rows, columns : values.shape[1] - columns]


def _measured(
    face: FaceTask, correction: Correction, device: Device, previous: MeasuredChange | None
) -> dict[str, float]:
    """Returns the figures of `Doubt` that are measured in periods, if available.

    `change` and `flicker` are mean absolute changes of luma, of 255.
    """
    figures = {"step": face.track.analyzer.analysis_before(face.time + _TIME_MARGIN_S).step}
    if face.restored is not None and isinstance(face.restored.log_scale, np.ndarray):
        figures["error"] = 255.0 * float(np.exp(_central_half(face.restored.log_scale[0])).mean())
    if face.restored is not None and isinstance(face.restored.occlusion, np.ndarray):
        figures["hidden"] = float(_central_half(face.restored.occlusion[0])[::4, ::4].mean())
    if device.name != "cpu":  # reading from a GPU would mean waiting for it
        return figures
    pixels, matrix = device.read(correction)
    luma: Any = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    cells: Any = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    flicker = 0.0 if previous is None else 255.0 * cv2.norm(cells, previous.cells, cv2.NORM_L1) / cells.size
    left, top = (face.crops.matrices[0] - matrix)[:, 2].round().astype(int)
    crop: Any = face.crops.pixels
    green, share = crop[0, 1, top : top + luma.shape[0], left : left + luma.shape[1]], 256 / face.crops.size
    fine = 0.0
    if min(luma.shape) * share >= 8:
        # At 256 samples a side, this is detail of about two samples, the finest that networks add.
        image, added = (cv2.resize(x, None, fx=share, fy=share, interpolation=cv2.INTER_AREA) for x in (green, luma))
        detail = np.where(added == 0, 0.0, cv2.subtract(image, cv2.blur(image, (5, 5))))
        fine = float(np.vdot(added, detail) / max(1e-6, np.vdot(detail, detail)))
    figures |= {"change": 255.0 * cv2.norm(luma, cv2.NORM_L1) / luma.size, "flicker": flicker, "fine": fine}
    face.track.change = MeasuredChange(face.time, cells, figures, compared=previous is not None)
    return figures
