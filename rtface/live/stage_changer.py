"""Other stages for a live run while it runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from rtface.config.options import Options
from rtface.errors import RestartNeeded, RtfaceError
from rtface.live.frame_filters import FrameFilters
from rtface.stages.options import Spec


class StageChanger:
    """Puts other stages in the place of those of a live run; safe to use from several threads.

    Args:
        filters: of the run.
        options: of the run.
        recorded: whether an output is a file. Its metadata name the stages that draw on it from its beginning.
    """

    def __init__(self, filters: FrameFilters, options: Options, *, recorded: bool) -> None:
        self._filters, self._options = filters, options
        self._named = _names(options.stages) if recorded else None
        self._lock = threading.Lock()

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that draw now, as `Options.stages`."""
        return self._options.stages

    def change(self, stages: Sequence[str]) -> None:
        """Has other stages draw, from one of the next two frames on. One whose text stays the same continues with
        what it remembers.

        Args:
            stages: as `Options.stages`.

        Raises:
            UsageError: one that does not exist or cannot be used; those that draw
                continue.
            RestartNeeded: a recording does not name one.
            MissingComponent: one cannot be loaded.
        """
        with self._lock:
            options = replace(self._options, stages=Options.of({"stages": list(stages)}).stages)
            if self._named is not None and (more := sorted(_names(options.stages) - self._named)):
                raise RestartNeeded(
                    "the recording names in its metadata what is drawn on it, and {name} is not among "
                    "that: start the run again to add it",
                    code="overlay_recording",
                    name=more[0],
                )
            now = self._filters.stages
            changed = now.changed(options.stages, commercial_use=options.commercial_use)
            try:
                changed.check_tracker(options.tracker)
            except RtfaceError:
                changed.close(keep=now.stages)
                raise
            self._filters.use(changed)
            self._options = options


def _names(stages: Sequence[str]) -> set[str]:
    return {Spec.parse(text).name for text in stages}
