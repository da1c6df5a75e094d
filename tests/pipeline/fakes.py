"""Stand-ins with known behaviour for engines and faces, and pictures of a face that is really there."""

from __future__ import annotations

from concurrent.futures import Future
from fractions import Fraction
from functools import cache
from typing import Any

import av
import cv2
import numpy as np
from skimage import data

from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.enhance.coded_stage import CodedStage
from rtface.frame import Color, Face, Frame
from rtface.protocols import Restored
from rtface.stats import Stats

# Eye centres, nose tip and mouth corners of the astronaut portrait, in its own 512 pixels.
ASTRONAUT = np.array([[201.5, 106.5], [248.5, 103.0], [229.5, 133.0], [208.0, 156.5], [250.5, 153.5]])


class FakeEngine:
    """Adds a checkerboard of ±`amount` to the crop: visible, known, and without low frequencies."""

    recurrent = False
    whole = True
    heavy = vivid = False
    ms = 10.0

    def __init__(self, name: str = "fake", size: int = 256, amount: float = 0.2, fail: set[int] | None = None) -> None:
        self.name, self.size, self.calls = name, size, 0
        self._fail = fail or set()
        y, x = np.mgrid[:size, :size] // 4
        self._pattern = np.where((x + y) % 2, amount, -amount).astype(np.float32)

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        answer: Future[Restored] = Future()
        self.calls += 1
        if self.calls in self._fail:
            answer.set_exception(RuntimeError("the fake engine fails here"))
        else:
            answer.set_result(Restored(np.clip(crops + self._pattern, 0, 1)))
        return answer

    def stand_back(self) -> None:
        """It never stands in front."""

    def close(self) -> None:
        """Nothing to release."""


class FakeEngines:
    """An EngineSet with one fake, or several by name."""

    def __init__(self, *engines: FakeEngine) -> None:
        self.all = {e.name: e for e in engines or (FakeEngine(),)}

    def of_person(self, engine: Any, person: str) -> Any:
        return engine

    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> FakeEngine:
        return next(iter(self.all.values()))

    def named(self, name: str) -> FakeEngine:
        return self.all[name]

    def prepare(self, name: str) -> None:
        self.named(name)

    described = ("fake", "nowhere")

    def close(self) -> None:
        """Nothing to release."""


def portrait(
    width: int = 320,
    height: int = 180,
    *,
    blur: float = 2.0,
    scale: float = 0.9,
    shift: tuple[float, float] = (0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    """The astronaut's face in the middle of a picture, RGB uint8, and its five points."""
    matrix = np.array([[scale, 0, width / 2 - scale * 226 + shift[0]], [0, scale, height / 2 - scale * 128 + shift[1]]])
    picture = cv2.warpAffine(
        _astronaut(), matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return picture, ASTRONAUT @ matrix[:, :2].T + matrix[:, 2]


@cache  # its file takes longer to decode than a frame to make
def _astronaut() -> np.ndarray:
    return data.astronaut()


def face_at(points: np.ndarray, track_id: int = 1) -> Face:
    """A face for known points."""
    centre, half = points.mean(0), 1.15 * np.ptp(points, axis=0).max()
    return Face(track_id, np.concatenate([centre - half, centre + half]), points)


def frame_of(picture: np.ndarray, pts: int, fmt: str = "yuv420p", **more: Any) -> Frame:
    """A Frame of an RGB picture in any format."""
    image = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=fmt)
    color = Color("rgb", True) if fmt.startswith(("rgb", "gbr")) else Color("bt601")
    return Frame(image, pts, Fraction(1, 25), 1, color=color, **more)


class FakeCodedNetwork:
    """Adds `amount` to every sample, and expects squared errors of `before` and `after` everywhere.

    Attributes:
        seen: pictures and steps that it was asked about.
    """

    def __init__(self, before: float = 40.0, after: float = 20.0, amount: float = 0.1) -> None:
        self.before, self.after, self.amount = before, after, amount
        self.seen: list[tuple[np.ndarray, np.ndarray | None]] = []

    def __call__(self, picture: np.ndarray, steps: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        height, width = picture.shape[:2]
        assert picture.dtype == np.uint8 and height % 16 == 0 and width % 16 == 0
        assert steps is None or (steps.dtype == np.float32 and steps.shape == (height // 8, width // 8))
        self.seen.append((picture.copy(), None if steps is None else steps.copy()))
        errors = np.empty((2, height // 8, width // 8), np.float32)
        errors[0], errors[1] = self.before, self.after
        return np.full((3, height, width), self.amount, np.float32), errors


def coded_stage(
    network: FakeCodedNetwork | None = None, stats: Stats | None = None, *, measures_only: bool = False
) -> CodedStage:
    """A first stage that expects to gain 3 dB on every face, and so makes that each is corrected; one that
    `measures_only` changes no frame itself."""
    kind = _MeasuringStage if measures_only else CodedStage
    return kind(network or FakeCodedNetwork(), CpuDevice(), HostCorrection, stats or Stats())


class _MeasuringStage(CodedStage):
    def process(self, frame: Frame, faces: Any, *, light: bool = False) -> Frame:
        return frame
