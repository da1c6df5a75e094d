"""Further films, which a run writes with its output: the correction (``--keep-correction``), the comparison
(``--compare``) and the map of what was invented (``--invented``).

Every segment has a file for each, and they get their names just before the output.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Protocol

from rtface.errors import OutputError
from rtface.frame import Frame
from rtface.media.correction import plan_correction
from rtface.media.encoders import VideoPlan
from rtface.media.invented import map_frame, plan_map
from rtface.media.probe import MediaInfo
from rtface.media.stream_plan import OutputPlan
from rtface.media.workfile import Target
from rtface.options import Options
from rtface.pipeline.compare import Comparison, plan_pairs
from rtface.pipeline.plan import further_paths


class FurtherFrames(Protocol):
    """Makes the frames of a further film from those of the output."""

    def of(self, frame: Frame) -> tuple[Frame, bytes]:
        """The frame that belongs to the next one of the output, and its text; b"" for none."""
        ...


def all_films(output: Path, options: Options) -> list[Path]:
    """The films that a run writes: its output, and the further ones. Raises as `further_paths`."""
    return [output, *(Path(film.path) for film in further_paths(options).values())]


def plan_further(options: Options, info: MediaInfo, video: VideoPlan, output: str) -> dict[str, OutputPlan]:
    """The plans of the further films, by name; their places are not checked.

    Args:
        options: of the run.
        info: the input.
        video: how the frames of the output are encoded.
        output: name of the output, for the correction.

    Raises:
        OutputError: a correction of these samples cannot be kept.
        UsageError: the name of a comparison is no film's.
    """
    plans: dict[str, OutputPlan] = {}
    for name, path in further_paths(options).items():
        target = Target(Path(path.path), str(path))
        plans[name] = (plan_correction(target, video, info, output) if name == "correction" else
                       plan_map(target, info) if name == "map" else plan_pairs(info, target, options))
    return plans


class KeptPairs:
    """The before|after pairs of a run, until their frames are written.

    Attributes:
        comparison: makes them, in the chain.
    """

    def __init__(self) -> None:
        self._made: deque[Frame] = deque()
        self.comparison = Comparison(self._made.append)

    def of(self, frame: Frame) -> tuple[Frame, bytes]:
        """The pair of the next frame.

        Raises:
            OutputError: none was made of it.
        """
        while self._made and self._made[0].pts < frame.pts:
            self._made.popleft()  # of a frame that was dropped
        if not self._made or self._made[0].pts != frame.pts:
            raise OutputError("the comparison cannot be continued: a frame has no pair")
        return self._made.popleft(), b""


class MapFrames:
    """The maps of what was invented."""

    def of(self, frame: Frame) -> tuple[Frame, bytes]:
        """The map of the frame."""
        return map_frame(frame), b""
