"""A frame's work between the crops and the corrected picture."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.track_store import TrackState
from rtface.frame import Crops, Face, Float, Frame
from rtface.geometry.transforms import apply
from rtface.protocols import Device, Engine, Restored


@dataclass(slots=True)
class Wanted:
    """One face that is to be corrected: how much, by which engine, whether that runs on this frame, and its share.

    With `small` its engine runs on key frames, `every` so many, and the small one on all. `side` is that of its crops,
    where it is not the engine's own.
    """

    track: TrackState
    face: Face
    amount: float
    engine: Engine
    key: bool = True
    share: float = 1.0
    small: Engine | None = None
    every: int = 1
    side: int | None = None

    @property
    def half(self) -> bool:
        """Whether its crops are smaller than its engine takes."""
        return self.side is not None and self.side != self.engine.size


@dataclass(slots=True)
class Work:
    """One face in an engine's hands, or between key frames (no answer). With `Wanted.small` the answer is that one's,
    and the rest lies in `sample`."""

    want: Wanted
    crops: Crops
    answer: Future[Restored] | None
    sample: FaceSample | None = None


def mesh_in(work: Work) -> Float | None:
    """The face's mesh in crop pixels, float64 (478, 2); None where it has none."""
    mesh = work.want.face.mesh
    return None if mesh is None else apply(work.crops.matrices[0], mesh[:, :2])


@dataclass(slots=True)
class Job:
    """One frame between `submit` and `collect`, on the device that cut its crops."""

    frame: Frame
    device: Device
    seconds: float = 0.0
    until: float | None = None  # by the monotonic clock: when engines are not waited for any more
    crops: list[Crops] = field(default_factory=list[Crops])
    work: list[Work] = field(default_factory=list[Work])
    rests: bool = False

    def rest(self) -> None:
        """Its crops go back to the device until `wake`: what waits for a key frame shall not hold a GPU's memory."""
        crops, self.crops, self.rests = self.crops, [], True
        self.device.drop(crops)

    def wake(self) -> None:
        """Has its crops cut again, where it rests."""
        if self.rests:
            self.rests = False
            self.crops = self.device.cut_again(self.frame, [work.crops for work in self.work])
            for work, crops in zip(self.work, self.crops, strict=True):
                work.crops = crops

    def give_up(self) -> None:
        """The frame passes through: its crops go back to the device."""
        crops, self.crops = self.crops, []
        for work in self.work:  # what the engine remembers of this frame may be as wrong as its answer
            if work.answer is not None:
                work.want.track.answer = work.want.track.pending = None
        self.work.clear()
        if crops:
            self.device.drop(crops)
