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

_RETRY_S = 1.0
"""Seconds from a failed measurement to the next attempt, if frames do not wait for measurements."""


class TrackMeasurement:
    """Measures the faces of each frame, in order, when they are due. Not for use from several threads.

    Args:
        track_of: function that returns the state of a face's track, and makes it on first sight.
        coded: first stage, which predicts the error on a face; None if no decision depends on that.
        stats: timer of the analysis.
        waits: if False, tracks that have been measured before are measured again in a thread that `begin` starts, one
            at a time, so that hardly any frame waits; their analyzers get the result on a later frame.
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
        self._prepared: tuple[Callable[[], Analysis], Analyzer, float, float] | None = None  # floats: width, time
        self._pending: tuple[Future[Analysis], Analyzer, float, float] | None = None
        self._failed = -inf  # time of the frame at which a measurement failed last

    def __call__(self, frame: Frame, faces: Sequence[Face], device: Device) -> list[Analyzer]:
        """Returns the analyzers of these faces, after measuring those that are due."""
        self._learn(frame.time)
        analyzers = [self._track_of(face, frame.time).analyzer for face in faces]
        for face, analyzer in zip(faces, analyzers, strict=True):
            if analyzer.treatment.hidden and not self._waits:  # a film reports it at the end, with numbers
                self._stats.warn("hidden", hidden_line(1, face.track_id, frame.time - self._stats.started))
        due = [k for k, analyzer in enumerate(analyzers) if frame.new or analyzer.due(frame.time)]
        if not due:
            return analyzers
        with self._stats.time("analyze"):
            later = [k for k in due if not self._measure(device, frame, faces[k], analyzers[k])]
            if later and self._coded and self._pending is None and not 0.0 <= frame.time - self._failed < _RETRY_S:
                k = min(later, key=lambda k: analyzers[k].last_s)
                view, read, face, analysis = _analyzed(device, frame, faces[k])
                measurement = self._coded.measurement(view, read, face, analysis)
                self._prepared = measurement, analyzers[k], face.width, frame.time
        return analyzers

    def begin(self) -> None:
        """Starts the prepared measurement, after this frame's last use of the network."""
        if self._prepared is not None:
            (measurement, analyzer, width, time), self._prepared = self._prepared, None
            self._pending = call_in_thread("measure", measurement, awaited=True), analyzer, width, time

    def _measure(self, device: Device, frame: Frame, face: Face, analyzer: Analyzer) -> bool:
        """Measures a face now. Returns False if that may be done later."""
        coded = self._coded if face.width >= SMALLEST_FACE and not analyzer.forced else None
        if coded is not None and not (self._waits or frame.new) and isfinite(analyzer.last_s):
            return False
        analyzer.learn(*measured_face(device, frame, face, coded), frame.time)
        return True

    def _learn(self, time: float) -> None:
        """Passes a finished measurement to its analyzer, or raises its error."""
        if self._pending is not None and self._pending[0].done():
            (measured, analyzer, width, at), self._pending = self._pending, None
            try:
                analyzer.learn(measured.result(), width, at)
            except Exception:
                self._failed = time
                raise


def measured_face(device: Device, frame: Frame, face: Face, coded: CodedStage | None) -> tuple[Analysis, float]:
    """Returns a face's analysis, and its width in analyzed display pixels."""
    view, frame, face, analysis = _analyzed(device, frame, face)
    return analysis if coded is None else coded.measure(view, frame, face, analysis), face.width


def _analyzed(device: Device, frame: Frame, face: Face) -> tuple[View, Frame, Face, Analysis]:
    """Analyzes a face at the size as read, unless too small there.

    Returns:
        The view of the analyzed frame, that frame, the face there, and its analysis.
    """
    read, smaller, _ = as_read(frame, face)
    shown = 1.0
    if smaller.width >= SMALLEST_FACE:
        frame, face, shown = read, smaller, face.width / smaller.width
    view, first = device.view(frame), replace(frame, display=replace(frame.display, fields="tff"), field=0)
    analysis = analyze_face(view, face, (lambda: device.view(first)) if frame.field is None else None)
    return view, frame, face, replace(analysis, shown=shown)
