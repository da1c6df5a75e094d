"""Selects the engine, the strength and the keyframes of each face."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic

from rtface.config.options import QualityOptions
from rtface.enhance.keyframes.scheduler import spacing
from rtface.enhance.strength import of_vivid, strength_on
from rtface.enhance.tasks import FaceTask
from rtface.enhance.track_store import TrackStore
from rtface.frame import Face, Frame
from rtface.protocols import Engine, Runtime
from rtface.quality.governor import QualityGovernor, shipped_name
from rtface.quality.levels import FaceDecision, FaceDemand
from rtface.stats import Stats
from rtface.util.fade import faded

# Assumed seconds for blending a heavy engine's keyframe with the light engine's answer, until they are measured.
_BLEND_S = 0.008


class EngineSelector:
    """Selects the engine of a face, for every frame or for keyframes. Not for use from several threads.

    Args:
        options: the options keyframe and detail.
        stats: receiver of warnings.
        tracks: the state of every track; the selector changes it.
        light: name of the engine that runs between the keyframes of a heavy one; None without keyframes.

    Attributes:
        live: whether the faces of a frame share limited time. If so, call the selector for frames without faces too.
        detail: factor of detail for the look; may be changed between frames.
    """

    live = False

    def __init__(self, options: QualityOptions, stats: Stats, tracks: TrackStore, light: str | None) -> None:
        self._options, self._stats, self._tracks, self._light = options, stats, tracks, light
        self.detail = options.detail

    def __call__(self, frame: Frame, faces: Sequence[Face], runtime: Runtime, strength: float) -> list[FaceTask]:
        """Returns the faces to correct, with their engines.

        Args:
            frame: the frame.
            faces: the chosen faces of the frame.
            runtime: contains the engines.
            strength: strength of the run, 0…1.
        """
        tasks = self._select(frame, faces, runtime, strength)
        for task in tasks:
            if person := task.face.person:
                task.engine = runtime.engines.of_person(task.engine, person)
                task.light = task.light and runtime.engines.of_person(task.light, person)
            track, previous, engine = task.track, task.track.engine, task.engine.name
            track.engine = engine
            if previous not in (None, engine):
                if same_network := bool(previous) and shipped_name(previous) == shipped_name(engine) and not frame.new:
                    track.weights = 0.0  # the correction fades to that of the new weights
                if same_network or self.live:
                    track.change_engine()
                else:
                    track.forget()
            if task.light is None:  # with a light engine, keyframes fade into each other anyway
                track.weights = faded(track.weights, 1.0, inf, 1.0)
                task.share = min(task.share, track.weights)
            if not frame.lead_in:
                track.figures.note(frame.time).engine = engine
        return tasks

    def _select(self, frame: Frame, faces: Sequence[Face], runtime: Runtime, strength: float) -> list[FaceTask]:
        tasks: list[FaceTask] = []
        for face in faces:
            track = self._tracks.see(face, frame.time, counted=not frame.lead_in)
            forced = self._tracks.forced(face, frame.time)
            decided = track.decide(frame.time, counted=not frame.lead_in, forced=forced)
            factors = strength_on(frame, face, self._tracks.strength_of(face, frame.time, strength), decided)
            if decided > 0.0 and not frame.lead_in:
                track.figures.note(frame.time).strength = factors
            if factors.applied <= 0.0:
                continue
            engine = runtime.engines.pick(face.width, len(faces) if self.live else 0, track.chosen)
            track.chosen = engine.name
            target = of_vivid(decided) if engine.vivid else decided
            lost_detail = track.faded("detail", (forced or track.analyzer.treatment).detail, frame.time)
            # `detail` applies to our recurrent engines; published ones add as much detail as they were trained to.
            detail = self.detail * lost_detail if engine.recurrent else 0.0
            factors = factors.with_(vivid=track.faded("engine", target, frame.time) / decided, detail=detail)
            light, every = self._keyframe_plan(engine, frame, runtime)
            tasks.append(FaceTask(track, face, frame, factors, engine, light=light, every=every))
        return tasks

    def _keyframe_plan(self, engine: Engine, frame: Frame, runtime: Runtime) -> tuple[Engine | None, int]:
        """Returns the engine between keyframes, and the shortest keyframe interval in frames. The engine is None if
        `engine` runs on every frame."""
        if self._light in (None, engine.name) or frame.new:
            return None, 1
        every = self._spacing(engine)
        return (runtime.engines.named(self._light), every) if every > 1 else (None, 1)

    def _spacing(self, engine: Engine) -> int:
        """Returns the keyframe interval of `engine`, in frames."""
        return spacing(self._options.keyframe, engine)


class GovernedSelector(EngineSelector):
    """Selects engines in a live run: a face's best engine, or a cheaper one.

    Args:
        governor: decides the quality level of each face.
    """

    live = True

    def __init__(
        self, options: QualityOptions, stats: Stats, tracks: TrackStore, light: str | None, governor: QualityGovernor
    ) -> None:
        super().__init__(options, stats, tracks, light)
        self._governor = governor
        self._late = 0
        self._in_background: list[Engine] = []

    def __call__(self, frame: Frame, faces: Sequence[Face], runtime: Runtime, strength: float) -> list[FaceTask]:
        """Returns tasks as `EngineSelector` does. Also lowers the priority of heavy engines with a person's weights."""
        tasks = super().__call__(frame, faces, runtime, strength)
        for task in tasks:
            if task.light is not None:
                self._lower_priority(task.engine)
        return tasks

    def _spacing(self, engine: Engine) -> int:
        every = super()._spacing(engine)
        if self._options.keyframe == "auto":
            # With 2, a new keyframe is submitted as soon as the engine has answered the last one.
            every = 1 if self._governor.costs.waits(1e-3 * engine.ms) else 2
        if every > 1:
            self._lower_priority(engine)
        return every

    def _lower_priority(self, engine: Engine) -> None:
        if engine not in self._in_background:
            self._in_background.append(engine)
            engine.stand_back()

    def _select(self, frame: Frame, faces: Sequence[Face], runtime: Runtime, strength: float) -> list[FaceTask]:
        """Returns the faces for which there is time. The governor chooses their engines."""
        tasks = super()._select(frame, faces, runtime, strength)
        costs = self._governor.costs
        dropped = sum(self._stats.counters[name] for name in ("dropped:late", "passed:late", "frames_late"))
        late, self._late = dropped - self._late, dropped
        for task in tasks:
            if task.light is None:
                costs.learn(task.engine.name, 1e-3 * task.engine.ms)
            else:  # a frame does not wait for the heavy engine
                costs.learn(task.light.name, 1e-3 * task.light.ms)
                costs.learn(task.engine.name, 1e-3 * task.light.ms + _BLEND_S)
        demands = [
            FaceDemand(
                task.track.id,
                task.face.width,
                task.engine.name,
                (task.light or task.engine).recurrent,
                task.light is not None,
            )
            for task in tasks
        ]
        decisions = self._governor.plan(
            frame.time,
            demands,
            late=late,
            carries=runtime.device.carries,
            age=0.0 if frame.captured_at is None else monotonic() - frame.captured_at,
        )
        for task, decision in zip(tasks, decisions, strict=True):
            if decision.engine:
                self._apply(task, decision, runtime)
            elif not frame.lead_in:
                task.track.figures.note(frame.time).strength = task.strength.with_(level=0.0)
        return [task for task, decision in zip(tasks, decisions, strict=True) if decision.engine]

    @staticmethod
    def _apply(task: FaceTask, decision: FaceDecision, runtime: Runtime) -> None:
        track, heavy = task.track, task.engine.name
        previous = shipped_name(track.engine or "")
        task.strength = task.strength.with_(level=decision.strength)
        task.key, task.share = decision.key, decision.share
        if task.light is None:
            task.engine = runtime.engines.named(decision.engine)
        elif not decision.key and previous in (heavy, decision.engine) and runtime.device.carries:
            task.engine, task.light = runtime.engines.named(previous), None  # its last correction moves with the face
        elif decision.engine == heavy:
            return
        elif decision.share < 1.0 and track.keys.samples and decision.key:  # the heavy engine fades out
            task.key, task.share = False, 1.0 - decision.share
        else:
            track.keys.samples.clear()
            task.engine, task.light = runtime.engines.named(decision.engine), None
