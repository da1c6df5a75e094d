"""Measures tracks when a measurement is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from math import inf, isfinite

from rtface.analysis.analyzer import Analyzer, analyze_face
from rtface.analysis.measure import Analysis
from rtface.analysis.patch import SMALLEST_FACE
from rtface.analysis.track_report import hidden_line
from rtface.concurrency.threads import call_in_thread
from rtface.enhance.coded_stage import CodedStage
from rtface.enhance.track_store import TrackState
from rtface.frame import Face, Frame
from rtface.geometry.alignment import as_read
from rtface.protocols import Device, View
from rtface.stats import Stats

_AGAIN_S = 1.0
"""Seconds after a measurement that failed until the next one, where frames do not wait for it."""


class TrackMeasurement:
    """Called once for every frame, in order; not for use from several threads.

    Args:
        track_of: the state of a face's track, made on first sight.
        coded: says what error is expected on a face; None where no decision depends on it.
        stats: times the analysis.
        waits: False measures tracks that were measured lately in a thread of its own, one at a time, which `begin`
            starts, so that hardly any frame is held up; their analyzers learn of it on a later one.
    """

    def __init__(
        self,
        track_of: Callable[[Face, float], TrackState],
        coded: CodedStage | None,
        stats: Stats,
        *,
        waits: bool = True,
    ) -> None:
        self._track_of, self._coded, self._stats, self._waits = track_of, coded, stats, waits
        self._prepared: tuple[Callable[[], Analysis], Analyzer, float, float] | None = None  # with width and time
        self._pending: tuple[Future[Analysis], Analyzer, float, float] | None = None
        self._failed = -inf  # time of the last frame that was measured in vain

    def __call__(self, frame: Frame, faces: Sequence[Face], device: Device) -> list[Analyzer]:
        """The analyzers of these faces, which have learnt from this frame where that was due."""
        self._learn(frame.time)
        found = [self._track_of(face, frame.time).analyzer for face in faces]
        for face, analyzer in zip(faces, found, strict=True):
            if analyzer.treatment.hidden and not self._waits:  # a film's report says it at the end, with its numbers
                self._stats.warn("hidden", hidden_line(1, face.track_id, frame.time - self._stats.started))
        due = [k for k, analyzer in enumerate(found) if frame.new or analyzer.due(frame.time)]
        if not due:
            return found
        with self._stats.time("analyze"):
            later = [k for k in due if not self._measure(device, frame, faces[k], found[k])]
            if later and self._coded and self._pending is None and not 0.0 <= frame.time - self._failed < _AGAIN_S:
                k = min(later, key=lambda k: found[k].last_s)
                view, read, face, analysis = _analyzed(device, frame, faces[k])
                measurement = self._coded.measurement(view, read, face, analysis)
                self._prepared = measurement, found[k], face.width, frame.time
        return found

    def begin(self) -> None:
        """Starts what was prepared, once nothing on this frame needs the network any more."""
        if self._prepared is not None:
            (measurement, analyzer, width, time), self._prepared = self._prepared, None
            self._pending = call_in_thread("measure", measurement, awaited=True), analyzer, width, time

    def _measure(self, device: Device, frame: Frame, face: Face, analyzer: Analyzer) -> bool:
        """Measures a face at once; False where that may be done later."""
        coded = self._coded if face.width >= SMALLEST_FACE and not analyzer.forced else None
        if coded is not None and not (self._waits or frame.new) and isfinite(analyzer.last_s):
            return False
        analyzer.learn(*measured_face(device, frame, face, coded), frame.time)
        return True

    def _learn(self, time: float) -> None:
        """Gives the measurement that is pending to its analyzer, once it is there; raises what it raised."""
        if self._pending is not None and self._pending[0].done():
            (measured, analyzer, width, at), self._pending = self._pending, None
            try:
                analyzer.learn(measured.result(), width, at)
            except Exception:
                self._failed = time
                raise


def measured_face(device: Device, frame: Frame, face: Face, coded: CodedStage | None) -> tuple[Analysis, float]:
    """What is wrong with a face, as it is judged, and its width in display pixels there."""
    view, frame, face, analysis = _analyzed(device, frame, face)
    return analysis if coded is None else coded.measure(view, frame, face, analysis), face.width


def _analyzed(device: Device, frame: Frame, face: Face) -> tuple[View, Frame, Face, Analysis]:
    """Analyzes a face as it was read, unless it was too small there.

    Returns:
        The view of the frame that it is judged on, that frame, the face there, and its analysis.
    """
    read, smaller, _ = as_read(frame, face)
    shown = 1.0
    if smaller.width >= SMALLEST_FACE:
        frame, face, shown = read, smaller, face.width / smaller.width
    view, first = device.view(frame), replace(frame, display=replace(frame.display, fields="tff"), field=0)
    analysis = analyze_face(view, face, (lambda: device.view(first)) if frame.field is None else None)
    return view, frame, face, replace(analysis, shown=shown)
