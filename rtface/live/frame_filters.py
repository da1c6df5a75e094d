"""Filters of a live run before and after the enhancement: brightening, stages, the preview."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from rtface.config.options import Options
from rtface.errors import RestartNeeded, RtfaceError
from rtface.frame import Face, Frame
from rtface.live.brighten import Brightening
from rtface.live.control.preview import Preview
from rtface.live.control.remarks import TurnedFaces
from rtface.stages import runner
from rtface.stages.options import Spec
from rtface.stats import Stats


class FrameFilters:
    """The filters of one run.

    Args:
        options: of the run.
        stats: receives warnings and faults.
        recorded: whether an output is a file. Its metadata name the stages that draw on it from its beginning.

    Attributes:
        preview: before and after in a browser.
        light: brightening of dark frames.
        stages: the user's stages; `change` puts others in their place.

    Raises:
        UsageError, MissingComponent: a stage that does not exist, cannot be loaded or does not know an option.
    """

    def __init__(self, options: Options, stats: Stats, *, recorded: bool = False) -> None:
        self.preview = Preview()
        self._turned = TurnedFaces(stats, int(options.turn), options.mirror)
        self._before: Frame | None = None
        self._at_work, self._changing = threading.Lock(), threading.Lock()  # while stages draw, and are changed
        self.light, self._options = Brightening(), options
        self._named = _names(options.stages) if recorded else None
        self.stages = runner.Stages.open(options.stages, stats, live=True, commercial_use=options.commercial_use)

    @property
    def needs_faces(self) -> bool:
        """True if a stage follows faces: they are tracked even while enhancement is off or no output has a viewer."""
        return bool(self.stages)

    @property
    def hides(self) -> bool:
        """True if a stage hides something: a frame on which `after` fails must not be shown."""
        return self.stages.hides

    @property
    def drawn(self) -> tuple[str, ...]:
        """The stages that draw now, as `Options.stages`."""
        return self._options.stages

    def change(self, stages: Sequence[str]) -> None:
        """Has other stages draw, from one of the next two frames on; safe to use from several threads. One whose text
        stays the same continues with what it remembers.

        Args:
            stages: as `Options.stages`.

        Raises:
            UsageError: one that does not exist or cannot be used; those that draw
                continue.
            RestartNeeded: a recording does not name one.
            MissingComponent: one cannot be loaded.
        """
        with self._changing:
            options = replace(self._options, stages=Options.of({"stages": list(stages)}).stages)
            if self._named is not None and (more := sorted(_names(options.stages) - self._named)):
                raise RestartNeeded(
                    "the recording names in its metadata what is drawn on it, and {name} is not among "
                    "that: start the run again to add it",
                    code="overlay_recording",
                    name=more[0],
                )
            before = self.stages
            changed = before.changed(options.stages, commercial_use=options.commercial_use)
            try:
                changed.check_tracker(options.tracker)
            except RtfaceError:
                changed.close(keep=before.stages)
                raise
            with self._at_work:
                self.stages, self._options = changed, options
            before.close(keep=changed.stages)

    def before(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        """A frame from the source, brightened; with a copy of the original where a stage or the preview needs it.

        Args:
            light: amount of brightening, 0…1; None while enhancement is off.
            faces: of the frame before.
        """
        self._turned.see(faces)
        if self.stages.needs_before or self.preview.wanted:
            frame = replace(frame, before=runner.before(frame))
        return frame if light is None else self.light.apply(frame, light, faces)

    def after(self, frame: Frame) -> Frame:
        """The enhanced frame, with the stages applied; with the original as long as the preview needs it."""
        with self._at_work:
            done = self.stages.process(frame)
        return replace(done, before=frame.before) if self.preview.wanted else done

    def shown(self, frame: Frame) -> None:
        """Gives the preview a frame that was written to the sinks, also a repeated one or a slate."""
        if not self.preview.wanted:
            return
        if frame.before is not None:
            self._before = replace(frame, image=frame.before, before=None)
        elif frame.captured_at is not None:
            return  # the preview was not open when it came
        if self._before is not None:
            self.preview.show(self._before, frame)

    def close(self) -> None:
        """Releases the stages."""
        self.stages.close()
        self.preview.close()


def _names(stages: Sequence[str]) -> set[str]:
    return {Spec.parse(text).name for text in stages}
