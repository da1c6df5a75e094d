"""Who works on which face of a frame: analysis, the engine that suits it, key frames, and what there is time for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from rtface.enhance.keyframes.scheduler import spacing
from rtface.enhance.tasks import Wanted
from rtface.enhance.track_store import TrackBook
from rtface.frame import Face, Frame
from rtface.options import Options
from rtface.protocols import Engine, Workshop
from rtface.quality.governor import Ladder
from rtface.quality.levels import Plan, Seen, kind_of
from rtface.stats import Stats

# What it takes to put a slow engine's key frame and the small engine's answer together, before that was measured.
_JOIN_S = 0.008


class Assignment:
    """Not for use from several threads.

    Args:
        options: keyframe.
        stats: times the analysis, counts frames that were late.
        book: what is known of every track, changed.
        ladder: see `rtface.enhance.step.Enhance`.
        small: likewise.
    """

    def __init__(self, options: Options, stats: Stats, book: TrackBook, ladder: Ladder | None,
                 small: str | None) -> None:
        self._options, self._stats, self._book, self._ladder, self._small = options, stats, book, ladder, small
        self._late = 0
        self._back: list[Engine] = []

    def __call__(self, frame: Frame, faces: Sequence[Face], place: Workshop, strength: float) -> list[Wanted]:
        """The faces that are to be corrected, how much, and by which engine.

        Args:
            frame, faces: the chosen faces of this frame.
            place: where it is worked on.
            strength: 0…1, of the run.
        """
        time = frame.time
        wanted: list[Wanted] = []
        for face in faces:
            record = self._book.see(face, time, counted=not frame.lead_in)
            amount = record.decide(time, counted=not frame.lead_in) * strength
            if amount <= 0.0:
                continue
            named = record.analyzer.treatment.engine
            engine = (place.engines.named(named) if named else
                      place.engines.pick(face.width, len(faces) if self._ladder is not None else 0, record.chosen))
            record.chosen = engine.name
            small, every = self._key_frames(engine, frame, place)
            wanted.append(Wanted(record, face, amount, engine, small=small, every=every))
        if self._ladder is not None:
            wanted = self._by_ladder(self._ladder, frame, wanted, place)
        for want in wanted:
            record = want.record
            if record.engine not in (None, want.engine.name):
                record.forget() if self._ladder is None else record.change_engine()
            record.engine = want.engine.name
        return wanted

    def _key_frames(self, engine: Engine, frame: Frame, place: Workshop) -> tuple[Engine | None, int]:
        """The engine that works between key frames of `engine`, None where that runs on every frame; and how many
        frames lie between them at least."""
        if not engine.heavy:
            self._warn_of_key_frames(engine)
        if self._small in (None, engine.name) or frame.new:
            return None, 1
        ladder, every = self._ladder, spacing(self._options.keyframe, engine)
        if ladder is not None and self._options.keyframe == "auto":
            every = 1 if ladder.load.waits(1e-3 * engine.ms) else 2  # in fact, as soon as it has answered
        if every > 1 and ladder is not None and engine not in self._back:
            self._back.append(engine)
            engine.stand_back()
        return (place.engines.named(self._small), every) if every > 1 else (None, 1)

    def _warn_of_key_frames(self, engine: Engine) -> None:
        """Says, once, that key frames were asked for where they gain nothing."""
        if isinstance(self._options.keyframe, int) and self._options.keyframe > 1:
            effect = ("has no effect" if self._small in (None, engine.name) else
                      f"makes the run slower: key frames also need {self._small} and motion estimation on every frame")
            self._stats.warn("keyframe", f"--keyframe {self._options.keyframe} {effect}; {engine.name} takes "
                                         f"{engine.ms:.0f} ms a face and can run on every frame")

    def _by_ladder(self, ladder: Ladder, frame: Frame, wanted: Sequence[Wanted],
                   place: Workshop) -> list[Wanted]:
        """The faces for which there is time, and what is done with them."""
        dropped = sum(self._stats.counters[name] for name in ("dropped:late", "passed:late", "frames_late"))
        late, self._late = dropped - self._late, dropped
        for want in wanted:
            if want.small is None:
                ladder.load.learn(want.engine.name, 1e-3 * want.engine.ms)
            else:  # what a frame has to wait for
                ladder.load.learn(want.small.name, 1e-3 * want.small.ms)
                ladder.load.learn(want.engine.name, 1e-3 * want.small.ms + _JOIN_S)
                ladder.load.learn(kind_of(want.engine.name, half=True), 1e-3 * want.small.ms + 0.5 * _JOIN_S)
        plans = ladder.plan(frame.time, [Seen(w.record.id, w.face.width, w.engine.name, (w.small or w.engine).recurrent,
                                              w.small is not None) for w in wanted],
                            late=late, carries=place.device.carries,
                            age=0.0 if frame.captured_at is None else monotonic() - frame.captured_at)
        out: list[Wanted] = []
        for want, plan in zip(wanted, plans, strict=True):
            if plan.engine:
                want = replace(want, amount=want.amount * plan.strength, key=plan.key, share=plan.share)
                out.append(self._beside(want, plan, place) if want.small is not None else
                           replace(want, engine=place.engines.named(plan.engine)))
        return out

    @staticmethod
    def _beside(want: Wanted, plan: Plan, place: Workshop) -> Wanted:
        """What is done with a face whose engine is slow, by the ladder's plan."""
        record, slow, small = want.record, want.engine.name, want.small
        assert small is not None
        if not plan.key and record.engine in (slow, plan.engine) and place.device.carries:
            # What is shown of it is carried, in crops like those that it was made with.
            return replace(want, engine=place.engines.named(record.engine), small=None, side=record.correction.key.side)
        if plan.engine == slow:
            return replace(want, side=small.size if plan.half else None)
        if plan.share < 1.0 and record.keys.moments and plan.key:  # the slow engine fades out
            return replace(want, key=False, share=1.0 - plan.share, side=small.size if place.device.carries else None)
        record.keys.reset()
        return replace(want, engine=place.engines.named(plan.engine), small=None)
