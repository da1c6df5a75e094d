"""The samples round a frame's faces, before and after the correction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from rtface.enhance.rest import StillFaces
from rtface.frame import Box, Frame
from rtface.geometry.planes import Role, Samples, layout, planes
from rtface.geometry.transforms import field_parity


@dataclass(slots=True, eq=False)
class ShownSamples:
    """The samples round the faces of one frame.

    Attributes:
        format, size: pixel format and size of the image.
        box: bounds of the samples in the stored frame or field.
        settings: correction settings of the faces; a repeated frame must have the same.
        strengths: correction strengths; those of a repeated frame may differ a little.
        before: the input samples.
        after: the corrected samples; None until the correction is done.
        faces: the faces, to recognise frames on which they rest; None if they are not compared.
        rests: whether every engine ran on the frame, so that its correction suits frames on which the faces rest.
    """

    format: str
    size: tuple[int, int]
    box: Box
    settings: list[object]
    strengths: list[float]
    before: dict[Role, Samples]
    after: dict[Role, Samples] | None = None
    faces: StillFaces | None = None
    rests: bool = False

    def add_to(self, frame: Frame) -> Frame:
        """Adds the stored correction to a frame on which the faces rest. Requires `rests`."""
        assert self.after is not None
        frame.make_writable()
        for role, part in parts(frame, self.box).items():
            change: Any = cv2.subtract(self.after[role], self.before[role], dtype=cv2.CV_16S)
            part[...] = cv2.add(np.ascontiguousarray(part), change, dtype=cv2.CV_8U)
        return replace(frame, touched=True, changed=None)

    def finish(self, frame: Frame, *, settled: bool = True) -> None:
        """Stores the corrected samples, or writes the stored ones to the frame. The first call stores them.

        Args:
            frame: the corrected frame.
            settled: whether all answers have arrived; otherwise the samples are not stored.
        """
        if frame.image.format.name != self.format:  # the correction changed the pixel format
            return
        if self.after is None:
            self.after = parts(frame, self.box, copied=True) if settled else None
            return
        for role, part in parts(frame, self.box).items():
            part[...] = self.after[role]


def parts(frame: Frame, box: Box, *, copied: bool = False) -> dict[Role, Any]:
    """Returns the samples of a box, as views or copies."""
    plane_layout = layout(frame.image.format.name)
    assert plane_layout is not None
    x0, y0, x1, y1 = box
    out: dict[Role, Any] = {}
    for role, samples in planes(frame.image, plane_layout, field_parity(frame.display, frame.field)).items():
        sx, sy = plane_layout.role_subsampling(role)
        part = samples[y0 // sy : -(-y1 // sy), x0 // sx : -(-x1 // sx)]
        out[role] = part.copy() if copied else part
    return out


def equal(before: dict[Role, Samples], now: dict[Role, Any]) -> bool:
    """Returns whether all samples are equal. Every 16th row is compared first, because that usually decides."""
    return all(np.array_equal(part[::16], now[role][::16]) for role, part in before.items()) and all(
        np.array_equal(part, now[role]) for role, part in before.items()
    )
