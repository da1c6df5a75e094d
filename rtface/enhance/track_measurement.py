"""Measures tracks when a measurement is due, and runs the engine where the scores alone do not decide."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from rtface.analysis.analyzer import Analyzer, analyze_face
from rtface.analysis.measure import finest_octave
from rtface.analysis.patch import patch_of_crop
from rtface.enhance.engine_call import ask_engine
from rtface.frame import Bytes, Face, Float32, Frame
from rtface.geometry.alignment import crop_matrix
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
        answer = ask_engine(engine, as_input(crop))
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


def crop_of(view: View, face: Face, side: int) -> Bytes:
    """The crop that an engine of this size is asked about, RGB uint8."""
    return view.crop(crop_matrix(face, side), (side, side))


def as_input(crop: Bytes) -> Float32:
    """The crop as engines take it, float32 1×3×S×S."""
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def detail_gain_of(crop: Bytes, answer: Float32, face_width: float) -> float | None:
    """The ratio of what both hold of the finest octave on about the frame's own grid, noise left out: below 1 the
    answer is softer. None for a face too small, or an answer that holds no numbers.

    Args:
        crop: what the engine was asked about.
        answer: what it said, float32 3×S×S.
        face_width: in the frame that the crop was cut from, pixels.
    """
    said = np.clip(answer, 0, 1)
    before, after = patch_of_crop(crop, face_width), patch_of_crop(np.ascontiguousarray(said), face_width)
    if before is None or after is None or not np.isfinite(said).all():
        return None
    return math.sqrt(finest_octave(after[0]) / finest_octave(before[0]))
