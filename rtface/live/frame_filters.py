"""What a live run does with pictures besides faces: light, stages, a preview."""

from __future__ import annotations

from dataclasses import replace

from rtface.frame import Face, Frame
from rtface.live.brighten import Brightening
from rtface.live.control.preview import Preview
from rtface.options import Options
from rtface.stages import runner
from rtface.stats import Stats


class FrameFilters:
    """See `rtface.live.frame_loop.Extras`.

    Attributes:
        preview: before and after, for who looks.
        light: the tone curve of a dark picture.
        stages: what is drawn.

    Raises:
        UsageError, MissingComponent: a stage that does not exist, cannot be loaded or does not know an option.
    """

    def __init__(self, options: Options, stats: Stats) -> None:
        self.preview = Preview()
        self._before: Frame | None = None
        self.light = Brightening()
        self.stages = runner.Stages.open(options.stages, stats, live=True, commercial_use=options.commercial_use)

    @property
    def needs_faces(self) -> bool:
        """Whether a stage follows faces."""
        return bool(self.stages)

    @property
    def hides(self) -> bool:
        """Whether a stage hides something."""
        return self.stages.hides

    def came(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        """The picture, with a copy on it where somebody wants to see it as it came; then lightened."""
        if self.stages.needs_before or self.preview.wanted:
            frame = replace(frame, before=runner.before(frame))
        return frame if light is None else self.light.apply(frame, light, faces)

    def done(self, frame: Frame) -> Frame:
        """The picture with everything drawn on it."""
        return self.stages.process(frame)

    def shown(self, frame: Frame) -> None:
        """A picture that went to the outputs, also one shown again or a slate: what who looks at the preview sees."""
        if not self.preview.wanted:
            return
        if frame.before is not None:
            self._before = replace(frame, image=frame.before, before=None)
        elif frame.captured_at is not None:
            return  # nobody wanted it when it came
        if self._before is not None:
            self.preview.show(self._before, frame)

    def close(self) -> None:
        """Releases the stages."""
        self.stages.close()
        self.preview.close()
