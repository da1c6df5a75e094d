"""Measures tracks when a measurement is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rtface.analysis.analyzer import Analyzer, analyze_face
from rtface.analysis.patch import SMALLEST_FACE
from rtface.enhance.coded_stage import CodedStage
from rtface.frame import Face, Frame
from rtface.protocols import Device, View
from rtface.stats import Stats


class TrackMeasurement:
    """Called once for every frame, in order; not for use from several threads.

    Args:
        analyzer_of: the analyzer of a face's track, made on first sight.
        coded: says what error is expected on a face; None where no decision depends on it.
        stats: times the analysis.
    """

    def __init__(self, analyzer_of: Callable[[Face, float], Analyzer], coded: CodedStage | None, stats: Stats) -> None:
        self._analyzer_of, self._coded, self._stats = analyzer_of, coded, stats

    def __call__(self, frame: Frame, faces: Sequence[Face], device: Device) -> list[Analyzer]:
        """The analyzers of these faces, which have learnt from this frame where that was due."""
        found, view = list[Analyzer](), None
        for face in faces:
            analyzer = self._analyzer_of(face, frame.time)
            if frame.new or analyzer.due(frame.time):
                with self._stats.time("analyze"):
                    view = view or device.view(frame)
                    self._measure(view, frame, face, analyzer)
            found.append(analyzer)
        return found

    def _measure(self, view: View, frame: Frame, face: Face, analyzer: Analyzer) -> None:
        found = analyze_face(view, face)
        if self._coded is not None and face.width >= SMALLEST_FACE and not analyzer.forced:
            found = self._coded.measure(view, frame, face, found)
        analyzer.learn(found, face.width, frame.time)
