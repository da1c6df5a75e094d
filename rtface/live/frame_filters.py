"""Filters frames of a live run before and after the enhancement: light, stages, preview."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from rtface.config.options import Options
from rtface.errors import RestartNeeded, RtfaceError
from rtface.frame import Face, Frame
from rtface.live.control.preview import Preview
from rtface.live.control.remarks import TurnedFaces
from rtface.live.light import Light
from rtface.stages import runner
from rtface.stages.options import Spec
from rtface.stats import Stats


class FrameFilters:
    """The filters of one run.

    Args:
        options: options of the run.
        stats: statistics that receive warnings and faults.
        recorded: whether an output is a file. Its metadata lists the stages that are active at the start, so stages
            with other names cannot be added later.

    Attributes:
        preview: comparison of original and enhanced frames in a browser.
        light: filters that improve the light.
        stages: stages of the user; `change` replaces them.

    Raises:
        UsageError, MissingComponent: a stage does not exist, cannot be loaded or does not support an option.
    """

    def __init__(self, options: Options, stats: Stats, *, recorded: bool = False) -> None:
        self.preview = Preview()
        self._turned = TurnedFaces(stats, int(options.turn), options.mirror)
        self._original: Frame | None = None
        self._drawing, self._changing = threading.Lock(), threading.Lock()  # held to draw, and to replace the stages
        self.light, self._options = Light(), options
        self._recorded_names = _names(options.stages) if recorded else None
        self.stages = runner.Stages.open(options.stages, stats, live=True, commercial_use=options.commercial_use)

    @property
    def needs_faces(self) -> bool:
        """True if a stage follows faces. Then faces are tracked even if enhancement is off or no output has viewers."""
        return bool(self.stages)

    @property
    def hides(self) -> bool:
        """True if a stage hides something. A frame on which `after` fails must then not be shown."""
        return self.stages.hides

    @property
    def drawn(self) -> tuple[str, ...]:
        """Texts of the active stages, written as in `Options.stages`."""
        return self._options.stages

    def change(self, stages: Sequence[str]) -> None:
        """Replaces the stages within the next two frames; thread-safe. A stage whose text stays the same keeps its
        state.

        Args:
            stages: texts of the new stages, written as in `Options.stages`.

        Raises:
            UsageError: a stage does not exist or cannot be used; the active stages stay in use.
            RestartNeeded: a recording's metadata does not list one of the stages.
            MissingComponent: a stage cannot be loaded.
        """
        with self._changing:
            options = replace(self._options, stages=Options.of({"stages": list(stages)}).stages)
            if self._recorded_names is not None and (missing := sorted(_names(options.stages) - self._recorded_names)):
                raise RestartNeeded(
                    "the recording's metadata lists the stages that draw on it, and {name} is not among them; start "
                    "the run again to add it",
                    code="overlay_recording",
                    name=missing[0],
                )
            previous = self.stages
            replacement = previous.changed(options.stages, commercial_use=options.commercial_use)
            try:
                replacement.check_tracker(options.tracker)
            except RtfaceError:
                replacement.close(keep=previous.stages)
                raise
            with self._drawing:
                self.stages, self._options = replacement, options
            previous.close(keep=replacement.stages)

    def before(self, frame: Frame, light: float | None, faces: tuple[Face, ...]) -> Frame:
        """Improves the light of a frame. Adds a copy of the original if a stage or the preview needs it.

        Args:
            light: amount of change, 0…1; None while enhancement is off.
            faces: faces of the previous frame.
        """
        self._turned.see(faces)
        if self.stages.needs_before or self.preview.wanted:
            frame = replace(frame, before=runner.before(frame))
        return frame if light is None else self.light.apply(frame, light, faces)

    def after(self, frame: Frame) -> Frame:
        """Applies the stages to an enhanced frame. Retains the original while the preview needs it."""
        with self._drawing:
            result = self.stages.process(frame)
        return replace(result, before=frame.before) if self.preview.wanted else result

    def shown(self, frame: Frame) -> None:
        """Passes a written frame to the preview, including repeated frames and slates."""
        if not self.preview.wanted:
            return
        if frame.before is not None:
            self._original = replace(frame, image=frame.before, before=None)
        elif frame.captured_at is not None:
            return  # this frame was prepared before the preview was opened
        if self._original is not None:
            self.preview.show(self._original, frame)

    def close(self) -> None:
        """Releases the stages."""
        self.stages.close()
        self.preview.close()


def _names(stages: Sequence[str]) -> set[str]:
    return {Spec.parse(text).name for text in stages}
