"""Work items of faces and frames. The steps of a correction fill them in.

`ShownSamples` has the samples round a frame's faces, before and after the correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtface.correct import CorrectionState
from rtface.correct.mask import shown_box
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.strength import Strength
from rtface.enhance.track_store import TrackState
from rtface.frame import Box, Crops, Face, Float, Frame, Pixels
from rtface.geometry.alignment import crop_matrix
from rtface.geometry.planes import Role, Samples, layout, planes
from rtface.geometry.transforms import apply, bounds, field_parity, invert
from rtface.protocols import Device, Engine, Restored, ShapingOptions


@dataclass(slots=True, eq=False)
class FaceTask:
    """The correction of one face on one frame; `Device.shape` reads it (`protocols.ShapeTask`).

    Attributes:
        track, face: the track and the face to correct.
        frame: the input frame.
        strength: factors of the correction; the applied strength is above 0.
        engine: restores the crop; if `light` is set, on keyframes only.
        key: whether `engine` runs on this frame.
        share: share of `engine` in the correction, 0…1; the previous engine has the remaining share.
        light: the engine that runs on every frame between keyframes of `engine`; None without keyframes.
        every: keyframe interval in frames.
        shaping: options for shaping the answer.
        crops: the crop of this face; set when the crop is cut.
        output: pending answer for this frame, of `light` if it is set, else of `engine`.
        sample: the sample for the keyframe scheduler; None without keyframes.
        restored: the answer that is shown; None between keyframes and if the answer is late.
    """

    track: TrackState
    face: Face
    frame: Frame
    strength: Strength
    engine: Engine
    key: bool = True
    share: float = 1.0
    light: Engine | None = None
    every: int = 1
    shaping: ShapingOptions = field(init=False)
    crops: Crops[Pixels] = field(init=False)
    output: Future[Restored[Any]] | None = field(default=None, init=False)
    sample: FaceSample | None = field(default=None, init=False)
    restored: Restored[Pixels] | None = field(default=None, init=False)
    _mesh: Float | None = field(default=None, init=False)
    _matrices: dict[int, Float] = field(default_factory=dict[int, Float], init=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the crops to cut: for `engine`, then for `light` if it is set."""
        return (self.engine.size,) if self.light is None else (self.engine.size, self.light.size)

    def matrix(self, size: int) -> Float:
        """Returns the matrix display → crop with sides of `size` pixels, float64 2×3."""
        if size not in self._matrices:
            self._matrices[size] = crop_matrix(self.face, size)
        return self._matrices[size]

    @property
    def state(self) -> CorrectionState:
        """State of the track's correction; `Device.shape` changes the state."""
        return self.track.correction

    @property
    def mesh(self) -> Float | None:
        """The face's mesh in crop pixels, float64 (478, 2), or None."""
        mesh = self.face.mesh
        if self._mesh is None and mesh is not None:
            self._mesh = apply(self.crops.matrices[0], mesh[:, :2])
        return self._mesh

    @property
    def changed(self) -> Box:
        """Box in display pixels; outside of it, the correction is 0."""
        size, region = self.crops.size, self.shaping.region
        # Without an answer, another frame's mask is used, so the box is the whole crop.
        box = (0, 0, size, size) if self.restored is None else shown_box(size, self.mesh, size, region)
        return bounds(invert(self.crops.matrices[0]), box, margin=1.0)

    @property
    def time(self) -> float:
        """Time of the frame, seconds."""
        return self.frame.time

    @property
    def seed(self) -> int:
        """Seed for synthetic grain, from the frame and the face's place. Places lie on a 64-pixel grid, so the seed is
        the same on every machine and in every segment of a film; track ids would differ between segments."""
        x, y = (int(v) for v in (self.face.box[:2] + self.face.box[2:]) // 128)
        return ((x * 64 + y) * 2654435761 + self.frame.pts * 40503) & 0xFFFFFFFF

    @property
    def scale(self) -> float:
        """Crop pixels per frame pixel."""
        (a, b, _), (c, d, _) = self.crops.matrices[0].tolist()
        return math.sqrt(abs(a * d - b * c))


@dataclass(slots=True)
class FrameTask:
    """A frame between `FaceCorrector.submit` and `collect`, and its device.

    Attributes:
        seconds: time spent on the frame so far.
        deadline: time of the monotonic clock at which waiting for engines ends.
        crops: all crops of this frame that are stored on the device.
        parked: whether the crops were released, to be cut again later.
        cleaned: whether the first stage changed the frame.
        first_s: seconds of the first stage, if they are counted separately (live).
        original: copy of the image before the first stage; None if no map of invented detail is made.
        shown: samples round the faces of this frame, or of the frame that it repeats.
    """

    frame: Frame
    device: Device
    seconds: float = 0.0
    deadline: float = math.inf
    faces: list[FaceTask] = field(default_factory=list[FaceTask])
    crops: Sequence[Crops[Pixels]] = ()
    parked: bool = False
    cleaned: bool = False
    first_s: float = 0.0
    original: object = None
    shown: ShownSamples | None = None

    def park(self) -> None:
        """Releases the crops until `resume`. Frames that wait for a keyframe thus occupy no GPU memory."""
        crops, self.crops, self.parked = self.crops, (), True
        self.device.drop(crops)

    def resume(self) -> None:
        """Cuts the crops again if the frame was parked."""
        if self.parked:
            self.parked = False
            self.crops = self.device.cut_again(self.frame, [face.crops for face in self.faces])
            for face, crops in zip(self.faces, self.crops, strict=True):
                face.crops = crops

    def give_up(self) -> None:
        """Drops all work, so that the frame passes through unchanged."""
        crops, self.crops = self.crops, ()
        for face in self.faces:  # an answer may be wrong, and contains the memory for the next frame
            if face.output is not None:
                face.track.output = face.track.late = None
        self.faces.clear()
        if crops:
            self.device.drop(crops)


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
    """

    format: str
    size: tuple[int, int]
    box: Box
    settings: list[object]
    strengths: list[float]
    before: dict[Role, Samples]
    after: dict[Role, Samples] | None = None

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
