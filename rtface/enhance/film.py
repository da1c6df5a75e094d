"""Enhances films: looks ahead, and lets the engines work on several frames at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from rtface.analysis.look_ahead import Undecided, look_ahead
from rtface.correct.keyframe_blend import AHEAD_FRAMES
from rtface.enhance.corrector import FaceCorrector
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.mode import Mode
from rtface.enhance.tasks import FaceTask, FrameTask
from rtface.errors import DeviceLost
from rtface.frame import Face, Frame
from rtface.protocols import Item


class FilmEnhancer(FaceCorrector):
    """`FaceCorrector` for a film, or for one segment of it.

    Frames that fail pass through. `rtface.pipeline.chain.end_at_faults` ends the run after too many of them.

    Args:
        begins: time in seconds of the first frame on which faces are corrected. Earlier frames are a lead-in, on which
            faces are only measured.
    """

    mode = Mode.FILM
    _delay = 0  # number of frames that wait until their next keyframe is available

    def __init__(self, *arguments: Any, begins: float = -inf, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._begins = begins

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items in order, with their faces corrected.

        A frame waits until every face on it has a treatment. After that, up to `Runtime.ahead` frames are in
        flight, or more if a face needs its next keyframe.
        """
        waiting: deque[FrameTask | Item] = deque()
        tasks = 0
        for item in self._begin_ahead(look_ahead(items, self._measure_faces)):
            if isinstance(item, Frame):
                waiting.append(self.submit(item))
                tasks += 1
            else:
                waiting.append(item)
            while waiting and (tasks > max(self.runtime.ahead, self._delay) or not isinstance(waiting[0], FrameTask)):
                first = waiting.popleft()
                tasks -= isinstance(first, FrameTask)
                yield self.collect(first) if isinstance(first, FrameTask) else first
        for last in waiting:
            yield self.collect(last) if isinstance(last, FrameTask) else last

    def _begin_ahead(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items. Starts the first stage on each frame before the previous frame is yielded."""
        delayed: list[Item] = []
        try:
            for item in items:
                if isinstance(item, Frame):
                    started = self._coded is not None and self._coded.begin(item)
                    yield from delayed
                    delayed = [item] if started else []
                elif delayed:
                    delayed.append(item)
                if not delayed:
                    yield item
        except Exception:
            yield from delayed  # items from before the error
            raise
        yield from delayed

    def _measure_faces(self, frame: Frame) -> list[Undecided]:
        """Measures a frame's faces. Returns the treatments and persons for which the frame must wait."""
        undecided: list[Undecided] = []
        if self.persons is not None:
            undecided += self.persons(frame, self.runtime.device.view)
        faces = self.chosen(frame, persons_known=False)
        if self.shots.at(frame.time).correct != "never":
            try:
                undecided += self._measure(frame, faces, self.runtime.device)
            except DeviceLost:
                raise  # not counted: the correction of this frame raises it again
            except Exception as error:
                self._count_fault(error)
                raise
        return undecided

    def submit_faces(self, task: FrameTask, faces: tuple[Face, ...]) -> None:
        if task.frame.time < self._begins:
            return
        super().submit_faces(task, faces)
        if task.faces and all(face.light is not None for face in task.faces):
            task.park()

    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        # Frames wait for the next keyframe, and for the later frames that averaging needs.
        self._delay = max(self._delay, face.every + AHEAD_FRAMES)
        return face.track.keys.due(sample, face.every)
