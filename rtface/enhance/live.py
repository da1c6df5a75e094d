"""Enhances frames one by one, from Python (`rtface.Enhancer`) and live. In live runs, quality follows the load, and no
frame waits past its deadline."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from math import inf
from time import monotonic, perf_counter
from typing import Any

from rtface.config.options import EnhanceOptions
from rtface.enhance.corrector import FaceCorrector
from rtface.enhance.engine_selection import EngineSelector, GovernedSelector
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.mode import Mode
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.enhance.track_store import TrackState
from rtface.errors import EngineError
from rtface.frame import Face, Frame, Pixels
from rtface.protocols import Restored, Runtime
from rtface.quality.governor import FADE_S, QualityGovernor, shipped_name
from rtface.stats import FAULTS_IN_A_ROW, Stats
from rtface.util.fade import faded

_FIRST_STAGE_S = 0.01  # assumed cost of the first stage, until it is measured
_LIGHT_COST_SHARE = 0.6
"""Cost of the first stage's light network, as a share of the full network's."""
_LIGHT_HOLD_S = 3.0
"""Seconds for which the light network stays in use after there was no time for the full network."""


class FrameEnhancer(FaceCorrector):
    """`FaceCorrector` for single frames. Raises EngineError when 100 frames in a row cannot be enhanced."""

    mode = Mode.CALL
    _faults = 0  # number of frames in a row that failed

    def process(self, frame: Frame) -> Frame:
        """Returns the frame with its faces corrected."""
        return self.collect(self.submit(frame))

    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        return face.track.keys.due(sample, face.every)

    def _correct(self, task: FrameTask) -> Frame:
        frame = super()._correct(task)
        self._faults = 0
        return frame

    def _count_fault(self, error: Exception) -> None:
        super()._count_fault(error)
        self._faults += 1
        if self._faults >= FAULTS_IN_A_ROW:
            raise EngineError(
                "{count} frames in a row could not be enhanced; the last error: {why}; check the engines with "
                "rtface doctor, or choose another with {--engine}",
                code="frames_failed",
                count=FAULTS_IN_A_ROW,
                why=error,
            ) from error


class LiveEnhancer(FrameEnhancer):
    """`FaceCorrector` for live runs.

    Args:
        governor: decides which engine runs on which face, and when.
    """

    mode = Mode.LIVE
    _first_s = _FIRST_STAGE_S  # average seconds per frame of the first stage's full network
    _light_until = -inf  # frame time until which the light network stays in use
    _first_share: float | None = None  # share of the first stage's strength; fades to 0 when there is no time
    _first_at = 0.0  # time of the last frame

    def __init__(
        self,
        runtime: Runtime | RuntimeSwitch,
        options: EnhanceOptions,
        stats: Stats,
        governor: QualityGovernor,
        **more: Any,
    ) -> None:
        self._governor = governor
        super().__init__(runtime, options, stats, **more)

    def passed(self, frame: Frame) -> None:
        """Reports an uncorrected frame to the governor. Its faces will fade in again."""
        for face in frame.faces:
            self._governor.missing(face.track_id)

    def rests_on(self, frame: Frame) -> bool:
        """Returns whether a frame needs no tracking, because its faces rest."""
        return self._governor.resting and self._repeats.rests_on(frame)

    def _create_selector(self, light: str | None) -> EngineSelector:
        return GovernedSelector(self._options, self._stats, self.tracks, light, self._governor)

    def collect(self, task: FrameTask) -> Frame:
        """Returns the corrected frame, and reports its cost to the governor."""
        frame, self._governor.resting = super().collect(task), task.rests
        if not task.rests:
            engines_used = [(shipped_name(face.engine.name), face.output is not None) for face in task.faces]
            self._governor.costs.spent(task.seconds - task.first_s, engines_used)
        return frame

    def _correct(self, task: FrameTask) -> Frame:
        if not task.rests or task.shown is None:
            return super()._correct(task)
        for face in task.faces:
            face.track.figures.apply(face.strength, face.time)
            face.track.output_from = face.time, face.track.output_from[1]  # the engine's memory remains valid
        self._stats.count("frames_at_rest")
        return self._count_corrected(task.shown.add_to(task.frame))

    def _run_first_stage(self, task: FrameTask, faces: Sequence[Face], strength: float, *, light: bool = False) -> None:
        """Runs the first stage if the engines leave time for it. With little time, its light network runs; with less,
        the first stage is skipped, before any engine is."""
        time, has_room = task.frame.time, self._governor.has_room
        if light or not has_room(self._first_s):
            self._light_until = time + _LIGHT_HOLD_S
        light = time < self._light_until
        cost = _LIGHT_COST_SHARE if light else 1.0
        target = float(has_room(cost * self._first_s))
        previous = target if self._first_share is None else self._first_share
        self._first_share, self._first_at = faded(previous, target, time - self._first_at, FADE_S), time
        if self._first_share <= 0.0:
            self._first_s += 0.01 * (_FIRST_STAGE_S - self._first_s)  # so that the first stage is tried again
            super()._run_first_stage(task, faces, 0.0)
            return
        started = perf_counter()
        super()._run_first_stage(task, faces, strength * self._first_share, light=light)
        if task.cleaned:
            task.first_s = perf_counter() - started
            self._first_s += 0.1 * (min(task.first_s / cost, 2 * self._first_s) - self._first_s)

    def _submit_faces(self, task: FrameTask) -> None:
        now = monotonic()
        task.deadline = now + self._governor.patience(now, task.frame.captured_at)
        super()._submit_faces(task)

    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        return face.key and face.track.keys.free(face.time, face.every, self._governor.period)

    def _answer_to_show(self, task: FrameTask, face: FaceTask) -> Restored[Pixels] | None:
        track = face.track
        if face.sample is not None:
            box = self._shown_box(face)
            track.keys.prepare(face.sample, box)
            if _in_time(face.sample.light, task.deadline):
                return track.keys.restored(face.sample, box, face.share)
            if not (task.device.carries and face.state.key.ready(face.time)):
                self._governor.missing(track.id)
            return None
        self._use_late_answer(task, track)
        if not task.device.carries:
            return super()._answer_to_show(task, face)
        if face.output is not None:
            waits = self._governor.costs.waits(1e-3 * face.engine.ms)
            if _in_time(face.output, task.deadline if waits else 0.0):
                return face.output.result()
            track.late = face.output, face
        if not face.state.key.ready(face.time):
            self._governor.missing(track.id)
        return None

    def _use_late_answer(self, task: FrameTask, track: TrackState) -> None:
        """Uses a late answer, for an earlier frame, as a keyframe."""
        if track.late is None or not track.late[0].done():
            return
        (output, late), track.late = track.late, None
        try:
            late.restored = output.result()
            task.device.shape([late])
        except Exception as error:  # noqa: BLE001 - as in `submit`
            track.output = None
            self._handle_error(error, task)


def _in_time(output: Future[Restored[Any]], deadline: float) -> bool:
    """Waits for an answer until the deadline (monotonic clock). Returns whether it has arrived."""
    return bool(wait_for([output], max(0.0, deadline - monotonic())).done)
