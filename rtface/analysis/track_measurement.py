"""Measures tracks when a measurement is due, and runs the engine where the scores alone do not decide."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from rtface.analysis.analyzer import Analyzer, analyze_face
from rtface.analysis.detail_gain import as_input, crop_of, detail_gain_of
from rtface.frame import Bytes, Face, Float32, Frame
from rtface.protocols import Engine, Restored, Runtime, View
from rtface.stats import Stats

log = logging.getLogger("rtface")

# Live, an engine that takes longer than this is not asked: frames would wait for it.
_LIVE_MS = 40.0


@dataclass(slots=True)
class _Question:
    """What an engine was asked in a live run, which does not wait for the answer."""

    answer: Future[Restored[Float32]]
    crop: Bytes
    width: float
    time: float


class TrackMeasurement:
    """Called once for every frame, in order; not for use from several threads.

    Args:
        analyzer_of: the analyzer of a face's track, made on first sight.
        stats: times the analysis.
        live: never wait for an engine, and ask none about a face that is corrected.
    """

    def __init__(self, analyzer_of: Callable[[Face, float], Analyzer], stats: Stats, *, live: bool) -> None:
        self._analyzer_of, self._stats, self._live = analyzer_of, stats, live
        self._open: dict[int, _Question] = {}

    def __call__(self, frame: Frame, faces: Sequence[Face], runtime: Runtime) -> list[Analyzer]:
        """The analyzers of these faces, which have learnt from this frame where that was due."""
        found, view = list[Analyzer](), None
        for face in faces:
            analyzer = self._analyzer_of(face, frame.time)
            self._hear(face.track_id, analyzer)
            if frame.new or analyzer.due(frame.time):
                with self._stats.time("analyze"):
                    view = view or runtime.device.view(frame)
                    self._measure(view, frame.time, face, analyzer, runtime)
            found.append(analyzer)
        return found

    def _measure(self, view: View, time: float, face: Face, analyzer: Analyzer, runtime: Runtime) -> None:
        scores, gain = analyze_face(view, face), None
        if analyzer.asks(scores, face.width, time, only_off=self._live) and face.track_id not in self._open:
            engine = runtime.engines.pick(face.width)
            # A heavy engine would take longer than it is worth, and hardly ever answers with less detail.
            if not engine.heavy and not (self._live and engine.ms > _LIVE_MS):
                gain = self._ask(engine, view, face, time)
        analyzer.learn(scores, face.width, time, gain)

    def _ask(self, engine: Engine, view: View, face: Face, time: float) -> float | None:
        """The gain; None where the answer is not waited for, or there is none."""
        crop = crop_of(view, face, engine.size)
        answer = engine.submit(as_input(crop))
        if self._live:
            self._open[face.track_id] = _Question(answer, crop, face.width, time)
            return None
        return _gain(crop, answer, face.width)

    def _hear(self, track_id: int, analyzer: Analyzer) -> None:
        question = self._open.get(track_id)
        if question is None or not question.answer.done():
            return
        del self._open[track_id]
        gain = _gain(question.crop, question.answer, question.width)
        if gain is not None:
            analyzer.weigh(gain, question.time)


def _gain(crop: Bytes, answer: Future[Restored[Float32]], width: float) -> float | None:
    """Waits for the answer; None where there is none: the scores decide alone then, and a correction that meets the
    same fault counts it and says it."""
    try:
        return detail_gain_of(crop, answer.result().pixels[0], width)
    except Exception as error:
        log.debug("an engine that was asked what it would add failed", exc_info=error)
        return None
