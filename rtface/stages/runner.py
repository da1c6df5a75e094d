"""Runs stages after the enhancement: overlays, privacy, labels.

A stage is a class, preferably a dataclass whose fields are its options; docs/stages.md has an example of ten lines. The
stage is called once for every frame. If it raises an error, that frame lacks its drawing; after five errors within a
minute of the film it is switched off. Errors of a stage that hides faces blur the whole frame. No error ends a run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from rtface.device.cpu.view import native_image
from rtface.errors import Message, UsageError, log, reason
from rtface.frame import Bytes, Frame
from rtface.geometry.planes import layout, planes
from rtface.geometry.transforms import compose, scaling, translation
from rtface.protocols import Item
from rtface.stages.base import Run, Stage
from rtface.stages.draw import Canvas
from rtface.stages.entry_points import load_stage
from rtface.stages.options import Spec, make_stage
from rtface.stats import Stats
from rtface.tracking.extrapolation import grown
from rtface.util.av_arrays import copy_image, plane_rows
from rtface.util.av_gpu import software

FAULTS, WITHIN_S = 5, 60.0
"""A stage is switched off after this number of errors within this time of the film."""


@dataclass(slots=True)
class _Active:
    """Holds an active stage: its name in statistics and messages, its flags (read once), times of recent faults."""

    stage: Stage
    name: str
    hides: bool = False
    needs_before: bool = False
    faults: deque[float] = field(default_factory=lambda: deque[float](maxlen=FAULTS))


class Stages:
    """Runs all stages of a run in order. Those that need the decoded frame run first.

    Args:
        stages: stages with their names.
        stats: receives "stage NAME" (seconds) and `stage_faults`.
        run: information for `Stage.begin`.
        begun: stages that have begun before; they stay open if the start of another stage fails.

    Attributes:
        names: names of all stages; the second label is "label 2".
        specs: see `open`.
    """

    def __init__(
        self, stages: Sequence[tuple[str, Stage]], stats: Stats, run: Run | None = None, begun: Sequence[Stage] = ()
    ) -> None:
        run = run or Run()
        self.specs: tuple[str, ...] = ()
        self._stats = stats
        self._all: list[_Active] = []
        for place, (name, stage) in enumerate(stages):
            count = 1 + sum(other == name for other, _ in stages[:place])
            self._all.append(_Active(stage, name if count == 1 else f"{name} {count}"))
        self._active = list(self._all)
        self._saved: tuple[object, list[Bytes]] = (None, [])
        self.names = [one.name for one in self._all]
        for one in self._all:
            try:
                one.hides = bool(getattr(one.stage, "hides", Stage.hides))
                one.needs_before = bool(getattr(one.stage, "needs_before", Stage.needs_before))
                if not _contains(one.stage, begun) and (begin := getattr(one.stage, "begin", None)) is not None:
                    begin(run)
            except Exception as error:
                self.close(keep=begun)
                raise UsageError(
                    "the stage {name} cannot start: {why}", code="stage_unbegun", name=one.name, why=reason(error)
                ) from error
        # Stages that restore the decoded frame run first, so that they cannot remove a veil.
        self._active.sort(key=lambda one: not one.needs_before)

    @classmethod
    def open(
        cls,
        specs: Sequence[str],
        stats: Stats,
        live: bool = False,
        origin: float | None = None,
        begins: float | None = None,
        *,
        commercial_use: bool = False,
    ) -> Stages:
        """Makes the stages of `Options.stages`.

        Args:
            specs: each is "NAME" or "NAME:key=value,…".
            stats: receives "stage NAME" (seconds) and `stage_faults`.
            live: whether the run is live, and begins now.
            origin: `Frame.time` in seconds at which a film begins.
            begins: `Frame.time` in seconds at which its output begins, later than `origin` after ``--start``.
            commercial_use: whether to reject stages whose licence forbids commercial use.

        Raises:
            UsageError: a stage does not exist or is rejected, or an option does not exist or cannot be used.
            MissingComponent: a stage cannot be loaded.
        """
        start_s = origin if origin is not None else time.monotonic() if live else 0.0
        opened_stages = cls(_make(specs, {}, commercial_use=commercial_use), stats, Run(live, start_s, begins))
        opened_stages.specs = tuple(specs)
        return opened_stages

    @classmethod
    def unbegun(cls, specs: Sequence[str], *, commercial_use: bool = False) -> Stages:
        """Makes stages like `open`, but does not begin them: for queries only. Raises like `open`."""
        stages = _make(specs, {}, commercial_use=commercial_use)
        return cls(stages, Stats(), begun=[stage for _, stage in stages])

    @classmethod
    def planned(cls, specs: Sequence[str], *, commercial_use: bool = False) -> list[str]:
        """Returns a report's lines for stages without beginning them. Raises like `open`."""
        names = cls.unbegun(specs, commercial_use=commercial_use).names
        return [f"stages: {', '.join(names)}"] * bool(names)

    def changed(self, specs: Sequence[str], *, commercial_use: bool = False) -> Stages:
        """Makes the stages of other specs for a live run. Starts new ones; stages with the same spec keep their state,
        so that a face that they cover stays covered. Afterwards, close the old stages with
        ``close(keep=changed.stages)``.

        Raises:
            see `open`; the current stages then stay unchanged.
        """
        existing = dict(zip(self.specs, self.stages, strict=True))
        changed = Stages(
            _make(specs, existing, commercial_use=commercial_use),
            self._stats,
            Run(True, time.monotonic()),
            begun=self.stages,
        )
        changed.specs = tuple(specs)
        return changed

    @property
    def stages(self) -> list[Stage]:
        """All stages, in the order of `names`."""
        return [one.stage for one in self._all]

    @property
    def needs_before(self) -> bool:
        """True if `process` needs the decoded frame."""
        return any(one.needs_before for one in self._active)

    @property
    def hides(self) -> bool:
        """True if a stage hides faces. Every frame then needs tracking, and must pass through the stages."""
        return any(one.hides for one in self._active)

    def check_tracker(self, tracker: str) -> None:
        """Raises UsageError if a stage hides faces and the tracker is "none"."""
        name = next((one.name for one in self._active if one.hides), None)
        if name is not None and tracker == "none":
            raise UsageError(
                "the stage {name} hides faces, but {--tracker:none} finds none; leave {--tracker} out",
                code="stage_hides",
                name=name,
            )

    def __bool__(self) -> bool:
        """Returns whether there are any stages."""
        return bool(self._all)

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """Processes the frames among the items, as a step of the chain."""
        for item in items:
            yield self.process(item) if isinstance(item, Frame) else item

    def remember(self, items: Iterable[Item], *, always: bool = False) -> Iterator[Item]:
        """Adds to frames a copy of their image, if needed or `always`. Must precede all steps that change images."""
        for item in items:
            if (always or self.needs_before) and isinstance(item, Frame) and item.before is None:
                item = replace(item, before=before(item))
            yield item

    def process(self, frame: Frame, before: Any = None) -> Frame:
        """Passes a frame through all stages. Without stages it is returned unchanged.

        Args:
            frame: enhanced frame. Its image is written to, after `make_writable()`, or replaced if it is on a GPU or in
                an unsupported format.
            before: the decoded frame (`rtface.stages.before`), else that of the frame; only for `needs_before`.
        """
        if not self._active:
            return frame
        decoded = frame.before
        frame = replace(frame, image=native_image(frame.image), before=before or frame.before)
        frame.make_writable()
        for one in tuple(self._active):
            frame = self._apply(one, frame)
        return replace(frame, before=decoded)

    def _apply(self, one: _Active, frame: Frame) -> Frame:
        if one.needs_before and frame.before is None:
            return _blur_all(frame) if one.hides else frame  # the frame is from before the stage was added
        if not frame.tracked and one.hides:
            self._stats.warn(
                f"stage {one.name} untracked",
                Message(
                    "a whole frame is blurred for the stage {name}, because its faces are unknown: tracking failed, or "
                    "the live run is late",
                    code="stage_untracked",
                    name=one.name,
                ),
            )
            return _blur_all(frame)
        saved, stage_input = self._save(frame), frame
        if frame.faces_age and one.hides:
            stage_input = replace(
                frame,
                faces=tuple(grown(f, frame.faces_age) for f in frame.faces),
                unfollowed=tuple(grown(f, frame.faces_age) for f in frame.unfollowed),
            )
        try:
            with self._stats.time(f"stage {one.name}"):
                result = one.stage(stage_input)
            _check(result, frame)
            has_drawn = (
                (result.touched and result is not stage_input)
                or result.image is not frame.image
                or any(not np.array_equal(was, now) for was, now in zip(saved, _memory(frame), strict=True))
            )
            return replace(
                frame,
                image=result.image,
                touched=frame.touched or has_drawn,
                changed=None if has_drawn else frame.changed,
                generated=frame.generated or result.generated,
            )
        except Exception as error:  # noqa: BLE001 - a plugin must not end a run
            frame.make_writable()
            for saved_rows, rows in zip(saved, _memory(frame), strict=True):
                np.copyto(rows, saved_rows)
            return self._fault(one, error, frame)

    def _save(self, frame: Frame) -> list[Bytes]:
        """Copies the current samples to reused memory."""
        memory = _memory(frame)
        formats = [(part.shape, part.dtype) for part in memory]
        if self._saved[0] != formats:
            self._saved = formats, [np.empty(part.shape, part.dtype) for part in memory]
        for part, target in zip(memory, self._saved[1], strict=True):
            np.copyto(target, part)
        return self._saved[1]

    def _fault(self, one: _Active, error: Exception, frame: Frame) -> Frame:
        now = frame.time
        self._stats.count("stage_faults")
        message = partial(Message, name=one.name, why=reason(error))
        self._stats.warn(
            f"stage {one.name}",
            message("a whole frame is blurred, because the stage {name} failed: {why}", code="stage_blurs")
            if one.hides
            else message("a frame stays unchanged because the stage {name} failed: {why}", code="stage_failed"),
        )
        log.debug("the stage %s failed", one.name, exc_info=error)
        if one.hides:
            return _blur_all(frame)
        one.faults.append(now)
        if len(one.faults) == FAULTS and now - one.faults[0] <= WITHIN_S:
            self._active.remove(one)
            self._stats.warn(
                f"stage {one.name} off",
                message(
                    "the stage {name} is switched off: it failed {count} times within a minute, the last because of "
                    "{why}",
                    code="stage_off",
                    count=FAULTS,
                ),
            )
            _close(one)
        return frame

    def close(self, keep: Sequence[Stage] = ()) -> None:
        """Closes every stage except those in `keep`. Safe to call twice."""
        for one in self._active:
            if not _contains(one.stage, keep):
                _close(one)
        self._all, self._active = [], []


def before(frame: Frame) -> Any:
    """Copies the frame's image to host memory."""
    image = software(frame.image)
    return image if image is not frame.image else copy_image(image)


def _blur_all(frame: Frame) -> Frame:
    """Blurs the whole frame until nothing is recognisable."""
    canvas = Canvas(frame)
    side = max(canvas.width, canvas.height)
    # A face may fill the frame. A blur of at least a fifth of its width hides it.
    canvas.blur(compose(translation(canvas.width / 2, canvas.height / 2), scaling(2 * side, 2 * side)), side / 4)
    return canvas.frame


def check_commercial_use(name: str, hint: str) -> None:
    """Raises UsageError for a stage whose licence forbids commercial use. The message ends with `hint`. Also raises
    like `load_stage`."""
    kind = load_stage(name)
    if not getattr(kind, "commercial_use", Stage.commercial_use):
        raise UsageError(
            "the stage {name} may not be used commercially ({kind}); {advice}",
            code="stage_licence",
            name=name,
            kind=getattr(kind, "licence", Stage.licence),
            advice=hint,
        )


def _check(result: object, frame: Frame) -> None:
    if not isinstance(result, Frame):
        raise TypeError(f"it returned {type(result).__name__}, not a Frame")
    a, b = result.image, frame.image
    if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
        raise ValueError(f"it returned {a.width}×{a.height} {a.format.name} for {b.width}×{b.height} {b.format.name}")


def _memory(frame: Frame) -> list[Any]:
    """Returns a frame's samples, one writable array for each plane. If rows are bottom-up, one for each component."""
    native = frame.image.planes
    if all(plane.line_size > 0 for plane in native):
        return [plane_rows(plane) for plane in native]
    plane_layout = layout(frame.image.format.name)
    assert plane_layout is not None
    return list(planes(frame.image, plane_layout).values())


def _make(specs: Sequence[str], existing: dict[str, Stage], *, commercial_use: bool) -> list[tuple[str, Stage]]:
    """Makes stages with their names. Reuses each stage in `existing` once, if its text is the same."""
    parsed, unused = [(text, Spec.parse(text)) for text in specs], dict(existing)
    for _, spec in parsed if commercial_use else ():
        check_commercial_use(spec.name, Message("leave it out, or {--commercial-use}", code="or_commercial_use"))
    return [(spec.name, unused.pop(text) if text in unused else make_stage(spec)) for text, spec in parsed]


def _contains(stage: Stage, others: Sequence[Stage]) -> bool:
    return any(stage is other for other in others)


def _close(one: _Active) -> None:
    try:
        if (close := getattr(one.stage, "close", None)) is not None:
            close()
    except Exception as error:  # noqa: BLE001 - an unclosed stage does no harm
        log.debug("the stage %s could not be closed: %s", one.name, reason(error))
