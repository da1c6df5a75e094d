"""What else changes frames, after the faces: overlays, privacy, labels of a film or a live run.

A stage is a class, best a dataclass whose fields are its options; docs/stages.md shows one of ten lines. It is called
once for every frame. One that raises costs that frame its work; after five times within a minute of the film it is
switched off. It never ends a run. Where a stage hides something, its faults hide the whole frame instead.
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
from rtface.util.plugins import blame

FAULTS, WITHIN_S = 5, 60.0
"""A stage that raises so often within so much time of the film is switched off."""


@dataclass(slots=True)
class _Active:
    """A stage at work: its name in figures and messages, what it says of itself (read once), when it raised lately."""

    stage: Stage
    name: str
    hides: bool = False
    needs_before: bool = False
    faults: deque[float] = field(default_factory=lambda: deque[float](maxlen=FAULTS))


class Stages:
    """All stages of a run, in the order in which they were asked for; those that need the frame as it came go first.

    Args:
        stages: with their names.
        stats: gets "stage NAME" (seconds) and `stage_faults`.
        run: what `Stage.begin` gets.
        begun: those of `stages` that have begun already; where another fails, they stay open.

    Attributes:
        names: of all, "label 2" for the second label.
        specs: from which `open` made them.
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
        self._at_work = list(self._all)
        self._kept: tuple[object, list[Bytes]] = (None, [])
        self.names = [one.name for one in self._all]
        for one in self._all:
            try:
                one.hides = bool(getattr(one.stage, "hides", Stage.hides))
                one.needs_before = bool(getattr(one.stage, "needs_before", Stage.needs_before))
                if not _among(one.stage, begun) and (begin := getattr(one.stage, "begin", None)) is not None:
                    begin(run)
            except Exception as error:
                self.close(keep=begun)
                raise UsageError(
                    "the stage {name} cannot begin: {why}", code="stage_unbegun", name=one.name, why=blame(error)
                ) from error
        # What puts the untouched frame back comes first: it must not lift a veil.
        self._at_work.sort(key=lambda one: not one.needs_before)

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
            specs: "NAME" or "NAME:key=value,…" each.
            stats: gets "stage NAME" (seconds) and `stage_faults`.
            live: whether it is a live run, which begins now.
            origin: seconds of `Frame.time` at which a film begins.
            begins: likewise its output, after ``--start``.
            commercial_use: refuse stages that say of themselves that they may not be used commercially.

        Raises:
            UsageError: no such stage, one that may not be used so, an option that does not exist or cannot be used.
            MissingComponent: a stage cannot be loaded.
        """
        begun = origin if origin is not None else time.monotonic() if live else 0.0
        made = cls(_made(specs, {}, commercial_use=commercial_use), stats, Run(live, begun, begins))
        made.specs = tuple(specs)
        return made

    @classmethod
    def unbegun(cls, specs: Sequence[str], *, commercial_use: bool = False) -> Stages:
        """The stages that `open` would make, to be asked and not to process: they do not begin. Raises as `open`."""
        made = _made(specs, {}, commercial_use=commercial_use)
        return cls(made, Stats(), begun=[stage for _, stage in made])

    @classmethod
    def planned(cls, specs: Sequence[str], *, commercial_use: bool = False) -> list[str]:
        """What a report says of the stages that `open` would make; they do not begin. Raises as `open`."""
        names = cls.unbegun(specs, commercial_use=commercial_use).names
        return [f"stages: {', '.join(names)}"] * bool(names)

    def changed(self, specs: Sequence[str], *, commercial_use: bool = False) -> Stages:
        """Other stages for the same live run, which begins now for those that are new. A stage whose text stays the
        same is taken over with what it remembers, so that a face that it covers stays covered. Afterwards close these
        with ``close(keep=changed.stages)``.

        Raises:
            as `open`; these are as they were then.
        """
        kept = dict(zip(self.specs, self.stages, strict=True))
        made = Stages(
            _made(specs, kept, commercial_use=commercial_use),
            self._stats,
            Run(True, time.monotonic()),
            begun=self.stages,
        )
        made.specs = tuple(specs)
        return made

    @property
    def stages(self) -> list[Stage]:
        """All, in the order of `names`."""
        return [one.stage for one in self._all]

    @property
    def needs_before(self) -> bool:
        """True if `process` wants the frame as it came."""
        return any(one.needs_before for one in self._at_work)

    @property
    def hides(self) -> bool:
        """True if one of them hides something: every frame must pass through them, and faces must be looked for."""
        return any(one.hides for one in self._at_work)

    def check_tracker(self, tracker: str) -> None:
        """UsageError where a stage hides faces, and the tracker of this name finds none."""
        hiding = next((one.name for one in self._at_work if one.hides), None)
        if hiding is not None and tracker == "none":
            raise UsageError(
                "the stage {name} hides faces, and {--tracker:none} finds none; leave {--tracker} out",
                code="stage_hides",
                name=hiding,
            )

    def __bool__(self) -> bool:
        """True if there are any."""
        return bool(self._all)

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """The step in the chain."""
        for item in items:
            yield self.process(item) if isinstance(item, Frame) else item

    def remember(self, items: Iterable[Item], *, always: bool = False) -> Iterator[Item]:
        """The items, with a copy of every frame's image on it where a stage needs that, or always; in front of all that
        changes it."""
        for item in items:
            if (always or self.needs_before) and isinstance(item, Frame) and item.before is None:
                item = replace(item, before=before(item))
            yield item

    def process(self, frame: Frame, before: Any = None) -> Frame:
        """The frame after all stages; itself where there are none.

        Args:
            frame: enhanced. Its image is written to, as after `make_writable()`; one on a GPU or in a format that
                nothing can be drawn into is replaced.
            before: the frame as it came (`rtface.stages.before`), else the frame's own; only for `needs_before`.
        """
        if not self._at_work:
            return frame
        own = frame.before
        frame = replace(frame, image=native_image(frame.image), before=before or frame.before)
        frame.make_writable()
        for one in tuple(self._at_work):
            frame = self._through(one, frame)
        return replace(frame, before=own)

    def _through(self, one: _Active, frame: Frame) -> Frame:
        if one.needs_before and frame.before is None:
            return _hidden(frame) if one.hides else frame  # it came before the stage was switched on
        if not frame.tracked and one.hides:
            self._stats.warn(
                f"stage {one.name} untracked",
                Message(
                    "a frame is blurred as a whole for the stage {name}, because its faces are not known: tracking "
                    "failed, or live is late",
                    code="stage_untracked",
                    name=one.name,
                ),
            )
            return _hidden(frame)
        kept, given = self._keep(frame), frame
        if frame.faces_age and one.hides:
            given = replace(
                frame,
                faces=tuple(grown(f, frame.faces_age) for f in frame.faces),
                unfollowed=tuple(grown(f, frame.faces_age) for f in frame.unfollowed),
            )
        try:
            with self._stats.time(f"stage {one.name}"):
                after = one.stage(given)
            _check(after, frame)
            drawn = (
                (after.touched and after is not given)
                or after.image is not frame.image
                or any(not np.array_equal(was, now) for was, now in zip(kept, _memory(frame), strict=True))
            )
            return replace(
                frame,
                image=after.image,
                touched=frame.touched or drawn,
                changed=None if drawn else frame.changed,
                generated=frame.generated or after.generated,
            )
        except Exception as error:  # noqa: BLE001 - a plugin must not end a run: counted, said
            frame.make_writable()
            for whole, rows in zip(kept, _memory(frame), strict=True):
                np.copyto(rows, whole)
            return self._fault(one, error, frame)

    def _keep(self, frame: Frame) -> list[Bytes]:
        """The samples as they are now, in memory that is used again."""
        memory = _memory(frame)
        like = [(part.shape, part.dtype) for part in memory]
        if self._kept[0] != like:
            self._kept = like, [np.empty(part.shape, part.dtype) for part in memory]
        for part, into in zip(memory, self._kept[1], strict=True):
            np.copyto(into, part)
        return self._kept[1]

    def _fault(self, one: _Active, error: Exception, frame: Frame) -> Frame:
        now = frame.time
        self._stats.count("stage_faults")
        message = partial(Message, name=one.name, why=blame(error))
        self._stats.warn(
            f"stage {one.name}",
            message("a frame is blurred as a whole, because the stage {name} failed: {why}", code="stage_blurs")
            if one.hides
            else message("a frame stays as it is, because the stage {name} failed: {why}", code="stage_failed"),
        )
        log.debug("the stage %s failed", one.name, exc_info=error)
        if one.hides:
            return _hidden(frame)
        one.faults.append(now)
        if len(one.faults) == FAULTS and now - one.faults[0] <= WITHIN_S:
            self._at_work.remove(one)
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
        """Closes every stage but those of `keep`; safe to call twice."""
        for one in self._at_work:
            if not _among(one.stage, keep):
                _close(one)
        self._all, self._at_work = [], []


def before(frame: Frame) -> Any:
    """A copy of the frame's image, in memory of the host."""
    image = software(frame.image)
    return image if image is not frame.image else copy_image(image)


def _hidden(frame: Frame) -> Frame:
    """The frame with nothing to recognise on it."""
    canvas = Canvas(frame)
    side = max(canvas.width, canvas.height)
    # A face may fill the frame; a blur hides it from a fifth of its width on.
    canvas.blur(compose(translation(canvas.width / 2, canvas.height / 2), scaling(2 * side, 2 * side)), side / 4)
    return canvas.frame


def check_commercial_use(name: str, hint: str) -> None:
    """Raises UsageError, which ends with `hint`, for a stage that says of itself that it may not be used commercially;
    also as `load_stage`."""
    kind = load_stage(name)
    if not getattr(kind, "commercial_use", Stage.commercial_use):
        raise UsageError(
            "the stage {name} may not be used commercially ({kind}); {advice}",
            code="stage_licence",
            name=name,
            kind=getattr(kind, "licence", Stage.licence),
            advice=hint,
        )


def _check(after: object, frame: Frame) -> None:
    if not isinstance(after, Frame):
        raise TypeError(f"it gave {type(after).__name__} and not a Frame")
    a, b = after.image, frame.image
    if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
        raise ValueError(f"it gave {a.width}×{a.height} {a.format.name} for {b.width}×{b.height} {b.format.name}")


def _memory(frame: Frame) -> list[Any]:
    """The samples of a frame, a writable array a plane; a component where rows lie bottom-up."""
    native = frame.image.planes
    if all(plane.line_size > 0 for plane in native):
        return [plane_rows(plane) for plane in native]
    form = layout(frame.image.format.name)
    assert form is not None
    return list(planes(frame.image, form).values())


def _made(specs: Sequence[str], kept: dict[str, Stage], *, commercial_use: bool) -> list[tuple[str, Stage]]:
    """Stages by name; those of `kept`, by text, are taken from there, each once."""
    parsed, left = [(text, Spec.parse(text)) for text in specs], dict(kept)
    for _, spec in parsed if commercial_use else ():
        check_commercial_use(spec.name, Message("leave it out, or {--commercial-use}", code="or_commercial_use"))
    return [(spec.name, left.pop(text) if text in left else make_stage(spec)) for text, spec in parsed]


def _among(stage: Stage, others: Sequence[Stage]) -> bool:
    return any(stage is other for other in others)


def _close(one: _Active) -> None:
    try:
        if (close := getattr(one.stage, "close", None)) is not None:
            close()
    except Exception as error:  # noqa: BLE001 - nothing is lost by it
        log.debug("the stage %s could not be closed: %s", one.name, reason(error))
