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
        options: options of the run.
        stats: statistics that receive warnings and faults.
        recorded: whether an output is a file. The file's metadata names the stages that are active at its start.

    Attributes:
        preview: comparison of original and enhanced frames in a browser.
        light: filter that brightens dark frames.
        stages: stages of the user; `change` replaces them.

    Raises:
        UsageError, MissingComponent: a stage does not exist, cannot be loaded or does not support an option.
    """

    def __init__(self, options: Options, stats: Stats, *, recorded: bool = False) -> None:
        self.preview = Preview()
        self._turned = TurnedFaces(stats, int(options.turn), options.mirror)
        self._before: Frame | None = None
        self._drawing, self._changing = threading.Lock(), threading.Lock()  # held while stages draw; while they change
        self.light, self._options = Brightening(), options
        self._named = _names(options.stages) if recorded else None
        self.stages = runner.Stages.open(options.stages, stats, live=True, commercial_use=options.commercial_use)

    @property
    def needs_faces(self) -> bool:
        """True if a stage follows faces: faces are tracked even if enhancement is off or no output has a viewer."""
        return bool(self.stages)

    @property
    def hides(self) -> bool:
        """True if a stage hides something: if `after` fails on a frame, the frame must not be shown."""
        return self.stages.hides

    @property
    def drawn(self) -> tuple[str, ...]:
        """Texts of the active stages, in the form of `Options.stages`."""
        return self._options.stages

    def change(self, stages: Sequence[str]) -> None:
        """Replaces the stages within the next two frames; thread-safe. A stage whose text stays the same keeps its
        state.

        Args:
            stages: texts of the new stages, in the form of `Options.stages`.

        Raises:
            UsageError: a stage does not exist or cannot be used; the active stages stay in use.
            RestartNeeded: a recording's metadata does not name one of the stages.
            MissingComponent: a stage cannot be loaded.
        """
        with self._changing:
            options = replace(self._options, stages=Options.of({"stages": list(stages)}).stages)
            if self._named is not None and (more := sorted(_names(options.stages) - self._named)):
                raise RestartNeeded(
                    "the recording's metadata lists the stages that draw on it, and {name} is not among them; start "
                    "the run again to add it",
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
            with self._drawing:
                self.stages, self._options = changed, options
            before.close(keep=changed.stages)

    def before(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        """Brightens a frame from the source. Adds a copy of the original if a stage or the preview needs it.

        Args:
            light: amount of brightening, 0…1; None while enhancement is off.
            faces: faces of the previous frame.
        """
        self._turned.see(faces)
        if self.stages.needs_before or self.preview.wanted:
            frame = replace(frame, before=runner.before(frame))
        return frame if light is None else self.light.apply(frame, light, faces)

    def after(self, frame: Frame) -> Frame:
        """Applies the stages to an enhanced frame. Keeps the original while the preview needs it."""
        with self._drawing:
            drawn = self.stages.process(frame)
        return replace(drawn, before=frame.before) if self.preview.wanted else drawn

    def shown(self, frame: Frame) -> None:
        """Passes a written frame to the preview, repeated frames and slates included."""
        if not self.preview.wanted:
            return
        if frame.before is not None:
            self._before = replace(frame, image=frame.before, before=None)
        elif frame.captured_at is not None:
            return  # this frame arrived before the preview was opened
        if self._before is not None:
            self.preview.show(self._before, frame)

    def close(self) -> None:
        """Releases the stages."""
        self.stages.close()
        self.preview.close()


def _names(stages: Sequence[str]) -> set[str]:
    return {Spec.parse(text).name for text in stages}
