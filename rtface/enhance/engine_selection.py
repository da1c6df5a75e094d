"""Who works on which face of a frame: analysis, the engine that suits it, key frames, and what there is time for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from rtface.enhance.keyframes.scheduler import spacing
from rtface.enhance.tasks import Wanted
from rtface.enhance.track_store import TrackStore
from rtface.frame import Face, Frame
from rtface.options import Options
from rtface.protocols import Engine, Runtime
from rtface.quality.governor import QualityGovernor
from rtface.quality.levels import FaceDecision, FaceDemand, kind_of
from rtface.stats import Stats

# What it takes to put a slow engine's key frame and the small engine's answer together, before that was measured.
_JOIN_S = 0.008


class EngineSelector:
    """Not for use from several threads.

    Args:
        options: keyframe.
        stats: times the analysis, counts frames that were late.
        tracks: what is known of every track, changed.
        governor: see `rtface.enhance.step.Enhance`.
        small: likewise.
    """

    def __init__(self, options: Options, stats: Stats, tracks: TrackStore, governor: QualityGovernor | None,
                 small: str | None) -> None:
        self._options, self._stats, self._book, self._governor, self._small = options, stats, tracks, governor, small
        self._late = 0
        self._back: list[Engine] = []

    def __call__(self, frame: Frame, faces: Sequence[Face], runtime: Runtime, strength: float) -> list[Wanted]:
        """The faces that are to be corrected, how much, and by which engine.

        Args:
            frame, faces: the chosen faces of this frame.
            runtime: where it is worked on.
            strength: 0…1, of the run.
        """
        time = frame.time
        wanted: list[Wanted] = []
        for face in faces:
            track = self._book.see(face, time, counted=not frame.lead_in)
            amount = track.decide(time, counted=not frame.lead_in) * strength
            if amount <= 0.0:
                continue
            named = track.analyzer.treatment.engine
            engine = (runtime.engines.named(named) if named else
                      runtime.engines.pick(face.width, len(faces) if self._governor is not None else 0, track.chosen))
            track.chosen = engine.name
            small, every = self._key_frames(engine, frame, runtime)
            wanted.append(Wanted(track, face, amount, engine, small=small, every=every))
        if self._governor is not None:
            wanted = self._by_governor(self._governor, frame, wanted, runtime)
        for want in wanted:
            track = want.track
            if track.engine not in (None, want.engine.name):
                track.forget() if self._governor is None else track.change_engine()
            track.engine = want.engine.name
        return wanted

    def _key_frames(self, engine: Engine, frame: Frame, runtime: Runtime) -> tuple[Engine | None, int]:
        """The engine that works between key frames of `engine`, None where that runs on every frame; and how many
        frames lie between them at least."""
        if not engine.heavy:
            self._warn_of_key_frames(engine)
        if self._small in (None, engine.name) or frame.new:
            return None, 1
        governor, every = self._governor, spacing(self._options.keyframe, engine)
        if governor is not None and self._options.keyframe == "auto":
            every = 1 if governor.costs.waits(1e-3 * engine.ms) else 2  # in fact, as soon as it has answered
        if every > 1 and governor is not None and engine not in self._back:
            self._back.append(engine)
            engine.stand_back()
        return (runtime.engines.named(self._small), every) if every > 1 else (None, 1)

    def _warn_of_key_frames(self, engine: Engine) -> None:
        """Says, once, that key frames were asked for where they gain nothing."""
        if isinstance(self._options.keyframe, int) and self._options.keyframe > 1:
            effect = ("has no effect" if self._small in (None, engine.name) else
                      f"makes the run slower: key frames also need {self._small} and motion estimation on every frame")
            self._stats.warn("keyframe", f"--keyframe {self._options.keyframe} {effect}; {engine.name} takes "
                                         f"{engine.ms:.0f} ms a face and can run on every frame")

    def _by_governor(self, governor: QualityGovernor, frame: Frame, wanted: Sequence[Wanted],
                   runtime: Runtime) -> list[Wanted]:
        """The faces for which there is time, and what is done with them."""
        dropped = sum(self._stats.counters[name] for name in ("dropped:late", "passed:late", "frames_late"))
        late, self._late = dropped - self._late, dropped
        for want in wanted:
            if want.small is None:
                governor.costs.learn(want.engine.name, 1e-3 * want.engine.ms)
            else:  # what a frame has to wait for
                governor.costs.learn(want.small.name, 1e-3 * want.small.ms)
                governor.costs.learn(want.engine.name, 1e-3 * want.small.ms + _JOIN_S)
                governor.costs.learn(kind_of(want.engine.name, half=True), 1e-3 * want.small.ms + 0.5 * _JOIN_S)
        demands = [FaceDemand(w.track.id, w.face.width, w.engine.name, (w.small or w.engine).recurrent,
                              w.small is not None) for w in wanted]
        plans = governor.plan(frame.time, demands, late=late, carries=runtime.device.carries,
                              age=0.0 if frame.captured_at is None else monotonic() - frame.captured_at)
        out: list[Wanted] = []
        for want, plan in zip(wanted, plans, strict=True):
            if plan.engine:
                want = replace(want, amount=want.amount * plan.strength, key=plan.key, share=plan.share)
                out.append(self._beside(want, plan, runtime) if want.small is not None else
                           replace(want, engine=runtime.engines.named(plan.engine)))
        return out

    @staticmethod
    def _beside(want: Wanted, plan: FaceDecision, runtime: Runtime) -> Wanted:
        """What is done with a face whose engine is slow, by the governor's plan."""
        track, slow, small = want.track, want.engine.name, want.small
        assert small is not None
        if not plan.key and track.engine in (slow, plan.engine) and runtime.device.carries:
            # What is shown of it is carried, in crops like those that it was made with.
            return replace(want, engine=runtime.engines.named(track.engine), small=None, side=track.correction.key.side)
        if plan.engine == slow:
            return replace(want, side=small.size if plan.half else None)
        if plan.share < 1.0 and track.keys.samples and plan.key:  # the slow engine fades out
            return replace(want, key=False, share=1.0 - plan.share, side=small.size if runtime.device.carries else None)
        track.keys.reset()
        return replace(want, engine=runtime.engines.named(plan.engine), small=None)
