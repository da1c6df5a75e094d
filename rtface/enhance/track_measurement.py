"""Measures tracks when a measurement is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import isfinite

from rtface.analysis.analyzer import Analysis, Analyzer, analyze_face
from rtface.analysis.patch import SMALLEST_FACE
from rtface.concurrency.threads import call_in_thread
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
        waits: False measures tracks, after their first frame, in a thread of its own, one at a time, so that no frame
            is held up; their analyzers learn of it on a later frame.
    """

    def __init__(
        self,
        analyzer_of: Callable[[Face, float], Analyzer],
        coded: CodedStage | None,
        stats: Stats,
        *,
        waits: bool = True,
    ) -> None:
        self._analyzer_of, self._coded, self._stats, self._waits = analyzer_of, coded, stats, waits
        self._pending: tuple[Future[Analysis], Analyzer, float, float] | None = None  # with width and time

    def __call__(self, frame: Frame, faces: Sequence[Face], device: Device) -> list[Analyzer]:
        """The analyzers of these faces, which have learnt from this frame where that was due."""
        found, view = list[Analyzer](), None
        self._learn()
        for face in faces:
            analyzer = self._analyzer_of(face, frame.time)
            if frame.new or analyzer.due(frame.time):
                with self._stats.time("analyze"):
                    view = view or device.view(frame)
                    self._measure(view, frame, face, analyzer)
            found.append(analyzer)
        return found

    def _measure(self, view: View, frame: Frame, face: Face, analyzer: Analyzer) -> None:
        coded = self._coded if face.width >= SMALLEST_FACE and not analyzer.forced else None
        if coded is None or self._waits or frame.new or not isfinite(analyzer.last_s):
            found = analyze_face(view, face)
            found = found if coded is None else coded.measure(view, frame, face, found)
            analyzer.learn(found, face.width, frame.time)
        elif self._pending is None:
            measurement = coded.measurement(view, frame, face, analyze_face(view, face))
            self._pending = call_in_thread("measure", measurement, awaited=True), analyzer, face.width, frame.time

    def _learn(self) -> None:
        """Gives the measurement that is pending to its analyzer, once it is there."""
        if self._pending is not None and self._pending[0].done():
            (measured, analyzer, width, time), self._pending = self._pending, None
            analyzer.learn(measured.result(), width, time)
