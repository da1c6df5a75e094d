"""Measures the faces of tracks whenever a measurement is due."""

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
"""Seconds from a failed background measurement to the next attempt."""


class TrackMeasurement:
    """Measures the faces of each frame, in order, when they are due. Not for use from several threads.

    Args:
        track_of: function that returns the state of a face's track, and creates the state for a new track.
        coded: the first stage, which predicts the error on a face; None if no decision depends on the error.
        stats: gets the seconds of the analysis, and warnings.
        waits: whether frames wait for all measurements. If False, only the first measurement of a track is awaited.
            `begin` starts the others in a thread, one at a time; the analyzers get the results on a later frame.
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
        self._prepared: tuple[Callable[[], Analysis], Analyzer, float, float] | None = None  # last: width, time
        self._pending: tuple[Future[Analysis], Analyzer, float, float] | None = None
        self._failed_at = -inf  # time of the frame with the last failed measurement

    def __call__(self, frame: Frame, faces: Sequence[Face], device: Device) -> list[Analyzer]:
        """Measures the faces that are due. Returns the analyzers of all faces."""
        self._learn(frame.time)
        analyzers = [self._track_of(face, frame.time).analyzer for face in faces]
        for face, analyzer in zip(faces, analyzers, strict=True):
            if analyzer.treatment.hidden and not self._waits:  # a film reports the number of hidden faces at the end
                self._stats.warn("hidden", hidden_line(1, face.track_id, frame.time - self._stats.started))
        due = [k for k, analyzer in enumerate(analyzers) if frame.new or analyzer.due(frame.time)]
        if not due:
            return analyzers
        with self._stats.time("analyze"):
            later = [k for k in due if not self._measure(device, frame, faces[k], analyzers[k])]
            if later and self._coded and self._pending is None and not 0.0 <= frame.time - self._failed_at < _RETRY_S:
                k = min(later, key=lambda k: analyzers[k].last_s)
                view, read, face, analysis = _analyze(device, frame, faces[k])
                measurement = self._coded.measurement(view, read, face, analysis)
                self._prepared = measurement, analyzers[k], face.width, frame.time
        return analyzers

    def begin(self) -> None:
        """Starts the prepared measurement. Called after the frame's last use of the network."""
        if self._prepared is not None:
            (measurement, analyzer, width, time), self._prepared = self._prepared, None
            self._pending = call_in_thread("measure", measurement, awaited=True), analyzer, width, time

    def _measure(self, device: Device, frame: Frame, face: Face, analyzer: Analyzer) -> bool:
        """Measures a face now. Returns False if it may be measured later."""
        coded = self._coded if face.width >= SMALLEST_FACE and not analyzer.forced else None
        if coded is not None and not frame.new and analyzer.keeps_errors(frame.time):
            analysis, width = measured_face(device, frame, face, None)
            analyzer.learn(replace(analysis, **analyzer.errors), width, frame.time)
            return True
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
                self._failed_at = time
                raise


def measured_face(device: Device, frame: Frame, face: Face, coded: CodedStage | None) -> tuple[Analysis, float]:
    """Returns a face's analysis, and its width in analyzed display pixels."""
    view, frame, face, analysis = _analyze(device, frame, face)
    return analysis if coded is None else coded.measure(view, frame, face, analysis), face.width


def _analyze(device: Device, frame: Frame, face: Face) -> tuple[View, Frame, Face, Analysis]:
    """Analyzes a face before enlargement; if too small there, after it.

    Returns:
        A view of the analyzed frame, the analyzed frame, its face, and the analysis.
    """
    read_frame, read_face, _ = as_read(frame, face)
    scale = 1.0
    if read_face.width >= SMALLEST_FACE:
        frame, face, scale = read_frame, read_face, face.width / read_face.width
    view, first_field = device.view(frame), replace(frame, display=replace(frame.display, fields="tff"), field=0)
    analysis = analyze_face(view, face, (lambda: device.view(first_field)) if frame.field is None else None)
    return view, frame, face, replace(analysis, shown=scale)
