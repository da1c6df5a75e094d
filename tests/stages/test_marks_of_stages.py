"""What frames say of the stages that changed them, which the marks of an output follow."""

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import pytest

from rtface.frame import Frame
from rtface.media.marks.provenance import Change
from rtface.stages.runner import Stages
from rtface.stats import Stats


@dataclass
class Writes:
    """Does as its mode says, without `Canvas`."""

    api = 1
    mode: str

    def __call__(self, frame: Frame) -> Frame:
        if self.mode == "in place":
            np.frombuffer(frame.image.planes[0], np.uint8)[:] = 200
        if self.mode == "another image":
            return replace(frame, image=av.VideoFrame.from_ndarray(np.zeros((32, 48), np.uint8), "gray"))
        return replace(frame, generated=True, touched=True) if self.mode == "generated" else frame


@pytest.mark.parametrize(
    ("mode", "change"),
    [
        ("nothing", Change.NOTHING),
        ("in place", Change.DRAWN),
        ("another image", Change.DRAWN),
        ("generated", Change.DRAWN | Change.GENERATED),
    ],
)
def test_what_a_stage_changed_is_known(mode: str, change: Change) -> None:
    image = av.VideoFrame.from_ndarray(np.full((32, 48), 90, np.uint8), "gray")
    stages = Stages([("writes", Writes(mode))], Stats())
    assert Change.of(stages.process(Frame(image, 0, Fraction(1, 25)))) == change
