"""The enhancement of frames that arrive one by one and are answered at once (`rtface.Enhancer`)."""

from __future__ import annotations

from rtface.enhance.corrector import FaceCorrector
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.mode import Mode
from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.errors import EngineError
from rtface.frame import Frame
from rtface.stats import FAULTS_IN_A_ROW


class FrameEnhancer(FaceCorrector):
    """`FaceCorrector` for single frames. Raises EngineError from the 100th frame in a row that cannot be enhanced."""

    mode = Mode.CALL
    _faults = 0  # frames in a row

    def process(self, frame: Frame) -> Frame:
        """The frame with its faces corrected."""
        return self.collect(self.submit(frame))

    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        return face.track.keys.due(sample, face.every)

    def _correct(self, task: FrameTask) -> Frame:
        frame = super()._correct(task)
        self._faults = 0
        return frame

    def _count(self, error: Exception) -> None:
        super()._count(error)
        self._faults += 1
        if self._faults >= FAULTS_IN_A_ROW:
            raise EngineError(
                "{count} frames in a row could not be enhanced, the last because of: {why}; rtface doctor checks "
                "the engines, {--engine} chooses another",
                code="frames_failed",
                count=FAULTS_IN_A_ROW,
                why=error,
            ) from error
