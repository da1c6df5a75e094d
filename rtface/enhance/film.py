"""Enhances films: looks ahead, and keeps several frames in flight at the engines."""

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

    `rtface.pipeline.chain.end_at_faults` counts faults, in order of presentation, from all chains.

    Args:
        begins: time in seconds of the first frame on which faces are corrected. On earlier frames, which belong to a
            lead-in, they are only measured.
    """

    mode = Mode.FILM
    _held = 0  # frames that are held until their next keyframe is available

    def __init__(self, *arguments: Any, begins: float = -inf, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._begins = begins

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items in order, with their faces corrected.

        A frame is held until every face on it has a treatment. Then as many frames are in
        flight as the runtime allows, or as the next keyframe needs.
        """
        waiting: deque[FrameTask | Item] = deque()
        tasks = 0
        for item in self._begin_ahead(look_ahead(items, self._measured)):
            if isinstance(item, Frame):
                waiting.append(self.submit(item))
                tasks += 1
            else:
                waiting.append(item)
            while waiting and (tasks > max(self.runtime.ahead, self._held) or not isinstance(waiting[0], FrameTask)):
                first = waiting.popleft()
                tasks -= isinstance(first, FrameTask)
                yield self.collect(first) if isinstance(first, FrameTask) else first
        for rest in waiting:
            yield self.collect(rest) if isinstance(rest, FrameTask) else rest

    def _begin_ahead(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and starts the first stage one frame ahead."""
        held: list[Item] = []
        try:
            for item in items:
                if isinstance(item, Frame):
                    begun = self._coded is not None and self._coded.begin(item)
                    yield from held
                    held = [item] if begun else []
                elif held:
                    held.append(item)
                if not held:
                    yield item
        except Exception:
            yield from held  # items from before the error
            raise
        yield from held

    def _measured(self, frame: Frame) -> list[Undecided]:
        """Returns the treatments and persons that a frame waits for."""
        undecided: list[Undecided] = []
        if self.persons is not None:
            undecided += self.persons(frame, self.runtime.device.view)
        chosen = self.chosen(frame, persons_known=False)
        if self.shots.at(frame.time).correct != "never":
            try:
                undecided += self._measure(frame, chosen, self.runtime.device)
            except DeviceLost:
                raise  # the correction raises it too
            except Exception as error:
                self._count(error)
                raise
        return undecided

    def submit_faces(self, task: FrameTask, faces: tuple[Face, ...]) -> None:
        if task.frame.time < self._begins:
            return
        super().submit_faces(task, faces)
        if task.faces and all(face.light is not None for face in task.faces):
            task.park()

    def _is_keyframe(self, face: FaceTask, sample: FaceSample) -> bool:
        # As many more frames are held as averaging needs, to give the heavy engine time.
        self._held = max(self._held, face.every + AHEAD_FRAMES)
        return face.track.keys.due(sample, face.every)
