"""Recognises frames that repeat the previous one: a freeze, animation on twos, repeated fields.

Corrections of a still image would move, because their state (positions, averages, grain, engines) keeps changing. If
the samples round the faces equal those of the previous frame, the corrected samples are copied from that frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rtface.enhance.coded_stage import Cleaned
from rtface.enhance.tasks import FaceTask, ShownSamples, equal, parts
from rtface.frame import Box, Frame
from rtface.geometry.planes import layout
from rtface.geometry.transforms import bounds, clip_box, invert, plane_matrix
from rtface.util.av_gpu import on_gpu

_AROUND_SHARE = 0.8  # the first stage may change this share of a face's box on each side, and a margin
_MARGIN_SAMPLES = 32
_UNSEEN_STRENGTH_DIFFERENCE = 0.02  # tolerance, because strength follows the pose, which jitters


class RepeatedFrames:
    """Recognises frames that repeat the previous one. A field is compared with the last one of its parity."""

    def __init__(self) -> None:
        self._last: dict[int | None, ShownSamples] = {}

    def of(self, frame: Frame, tasks: Sequence[FaceTask], cleaned: Sequence[Cleaned]) -> ShownSamples | None:
        """Returns the samples of the frame, or of the repeated frame. None if nothing is corrected.

        Args:
            frame: the input frame.
            tasks: its faces, with their shaping.
            cleaned: faces for the first stage.
        """
        tasks = [task for task in tasks if task.strength.seen]
        if frame.new or not (tasks or cleaned) or on_gpu(frame.image) or layout(frame.image.format.name) is None:
            return None
        settings: list[object] = [
            (
                task.track.id,
                task.engine.name,
                task.light and task.light.name,
                replace(task.shaping, strength=0.0, share=0.0),
            )
            for task in tasks
        ]
        settings += [face.track_id for face, *_ in cleaned]
        strengths = [v for task in tasks for v in (task.strength.applied, task.shaping.share, task.track.guard.kept)]
        strengths += [v for _, inside, around in cleaned for v in (*inside, *around)]
        last, size = self._last.get(frame.field), (frame.image.width, frame.image.height)
        if (
            last is not None
            and last.settings == settings
            and (last.format, last.size) == (frame.image.format.name, size)
            and all(abs(a - b) < _UNSEEN_STRENGTH_DIFFERENCE for a, b in zip(last.strengths, strengths, strict=True))
            and equal(last.before, parts(frame, last.box))
        ):
            return last
        box = _box(frame, tasks, cleaned)
        self._last[frame.field] = shown = ShownSamples(
            frame.image.format.name, size, box, settings, strengths, parts(frame, box, copied=True)
        )
        return shown


def _box(frame: Frame, tasks: Sequence[FaceTask], cleaned: Sequence[Cleaned]) -> Box:
    """Returns the bounds of everything that corrections of these faces may change."""
    size = frame.image.width, frame.image.height
    onto = plane_matrix(size, frame.display, field=frame.field)
    boxes = [
        bounds(onto, bounds(invert(task.matrix(side)), (0, 0, side, side), 1.0), 2.0)
        for task in tasks
        for side in task.sizes
    ]
    for face, *_ in cleaned:
        x0, y0, x1, y1 = face.box.tolist()
        across, down = _AROUND_SHARE * (x1 - x0), _AROUND_SHARE * (y1 - y0)
        boxes.append(bounds(onto, (x0 - across, y0 - down, x1 + across, y1 + down), _MARGIN_SAMPLES))
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    rows = size[1] if frame.field is None else (size[1] + 1) // 2
    return clip_box((min(x0), min(y0), max(x1), max(y1)), size[0], rows)
