"""Chooses each face's quality level in a live run under load.

Each face has its own level (`rtface.quality.levels`): the engine on every frame; the engine on keyframes
(every 2nd, 4th or 8th frame), between which the last result is moved along with the face
(`rtface.correct.reproject`); the light engine on keyframes; or no correction. Frames do not wait for a heavy engine's
results. The governor predicts the cost of a level from measured costs, so that a new face begins at an affordable
level, and a single decision suffices when time runs short. `rtface.live.output_scheduler`, not this module, decides
how long finished frames wait for the sinks.

Changes should be invisible. For a step down, faces must cost clearly more than the available time for some tenths of a
second. A step up needs a calm time and clearly more available time. The calm time doubles after every failed step up,
and is short again when the computer is clearly less busy than at the failure. On a face without correction, the
governor tries the lowest level invisibly, and shows it once it has kept up for two seconds, or longer after a failure.

    level ── faces take too long, or frames are late ──▶ next lower level ── calm, and room ──▶ next higher level
    lowest level ── the same, for longer ──▶ no correction ── pause ──▶ trial ── succeeds ──▶ lowest level, fading in
                                                          ◀── too long ──

Times and costs are arguments: this module reads no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rtface.engine.learned import shipped_name
from rtface.errors import log
from rtface.quality.cost_model import CostModel
from rtface.quality.levels import FaceDecision, FaceDemand, FaceQuality, LevelChange, QualityLevel, levels_for, name_of
from rtface.quality.processor_budget import ProcessorBudget
from rtface.util.fade import faded

UNSEEN_STRENGTH = 0.001
"""Strength of a trial: less than a thousandth of white."""
FADE_S = 0.25
"""Duration of fades of a face, or from one engine to another, at a sufficient frame rate."""

# -- a step down -----------------------------------------------------------------------------------------------------
# Ratios of the faces' cost to the available time that are too high and far too high, and how long they have to last.
_STEP_DOWN_SHARE, _STEP_DOWN_HOLD_S = 1.1, 0.25
_OVERLOAD_SHARE, _OVERLOAD_HOLD_S = 1.5, 0.1
# Target of that ratio after a step down.
_STEP_DOWN_GOAL_SHARE = 0.95
# Hold-off before a step to no correction, and the share of a period that faces may always take without such a step.
_LAST_LEVEL_HOLD_S, _LAST_LEVEL_SHARE = 0.6, 0.95
# Time from a step down, or the start of a trial, to its effect.
_SETTLING_S = 0.4
# Time after a step down until slowness no longer reflects the previous level.
_SLOWNESS_DELAY_S = 1.0

# -- a step up -------------------------------------------------------------------------------------------------------
# Maximum ratio of cost to available time after a step up, and maximum levels of a face in one step.
_STEP_UP_SHARE, _STEP_UP_MAX_LEVELS = 0.8, 2
# Calm time before a step up, initial and maximum. It doubles if a step down follows a step up within the proof time.
_CALM_S, _CALM_MAX_S, _STEP_UP_PROOF_S = 3.0, 30.0, 6.0
# If slowness falls below this share of its value at a failed step up, the next one needs only the initial calm time.
_EASED_SHARE = 0.6
# Maximum slowness of the computer at which a step up may follow a trial.
_QUIET_SLOWNESS = 1.5

# -- a trial: the lowest level on a face without correction ------------------------------------------------------------
# Pause before a trial, and time for which the level has to keep up before it is shown: initial and maximum.
_TRIAL_PAUSE_S, _TRIAL_PAUSE_MAX_S = 2.0, 4.0
_TRIAL_S, _TRIAL_MAX_S = 2.0, 5.0
# Time after which a shown trial has succeeded, so that the next times become shorter again.
_TRIAL_SUCCESS_S = 15.0

# -- faces and frames ------------------------------------------------------------------------------------------------
# A face that returns after a longer absence is a new face.
_FACE_GONE_S = 2.0
# Warm-up from the first face, during which costs are not judged: networks, code and memory are used for the first
# time, and an idle computer is slow at first.
_WARM_UP_S = 2.0
# Keyframes are postponed on frames that are older than this share of the ceiling.
_LATE_CEILING_SHARE = 0.6
# Maximum pause between frames that counts for fades.
_FADE_MAX_PERIODS = 2
# Distance between tracked frames while no face is corrected, or all are at rest.
TRACK_EVERY_FRAMES = 4
# Maximum number of stored level changes.
_MAX_STEPS = 64


@dataclass(slots=True)
class QualityGovernor:
    """The controller of one live run. Not thread-safe.

    Attributes:
        period: seconds from one frame to the next.
        ceiling: maximum latency of the run, seconds.
        light: name of the engine to use if the chosen one is too slow; None if there is none.
        budget: limits the run's processor time; None for no limit.
        costs: model of the frames' costs.
        time: time of the last frame, seconds.
        steps: the last level changes.
        sparing: whether tracking should save time, too.
        resting: whether no engine ran on the last frame because all faces are at rest (`rtface.enhance.rest`).
        track_every: distance between tracked frames. While no face is corrected, faces only have to be found.
    """

    period: float
    ceiling: float
    light: str | None = None
    budget: ProcessorBudget | None = None
    costs: CostModel = field(init=False)
    time: float | None = None
    steps: deque[LevelChange] = field(default_factory=lambda: deque[LevelChange](maxlen=_MAX_STEPS))
    _faces: dict[int, FaceQuality] = field(default_factory=dict[int, FaceQuality])
    sparing: bool = False
    resting: bool = False
    track_every: int = 1
    _warm_until: float | None = None  # None before the first face
    _carries: bool = True
    _judged: tuple[dict[int, int], float] = field(default_factory=lambda: (dict[int, int](), 0.0))  # levels; cost
    _calm_s: float = _CALM_S
    _trial_pause_s: float = _TRIAL_PAUSE_S
    _trial_s: float = _TRIAL_S
    _trial_shown_at: float | None = None
    _calm_since: float | None = None
    _over_since: float | None = None
    _changed_at: float | None = None
    _raised_at: float | None = None
    _failed_slowness: float | None = 1.0  # slowness after a failed step up; None until measured
    _credit: float = 0.0  # keyframes allowed on this frame

    def __post_init__(self) -> None:
        self.costs = CostModel(self.period)

    def plan(
        self, now: float, demands: Sequence[FaceDemand], *, late: int = 0, carries: bool = True, age: float = 0.0
    ) -> list[FaceDecision]:
        """Returns the decisions for the faces of a frame, in their order.

        Args:
            now: time in seconds, increasing.
            demands: the faces to correct.
            late: number of frames that were late or dropped since the last call.
            carries: whether the device needs no engine between keyframes (`Device.carries`).
            age: seconds since the frame was captured. A late frame postpones keyframes.
        """
        elapsed, self.time = now - (now if self.time is None else self.time), now
        for track in [t for t, s in self._faces.items() if now - s.seen > _FACE_GONE_S]:
            del self._faces[track]
        states = [self._face_of(now, face, carries) for face in demands]
        faces = self._present()
        if faces and (self._warm_until is None or carries != self._carries):
            self._warm_until, self._carries = now + _WARM_UP_S, carries
        self.costs.warming = self._warm_until is not None and now < self._warm_until
        reason = self.costs.late(now, 0 if self._settling(now) or self.costs.warming else late, self.cost(faces))
        reason = self._keep_budget(now, faces) or reason
        if faces:
            self._go_down(now, faces, reason)
            self._go_up(now, faces)
        self.sparing = any(s.shown_at for s in faces)
        self.track_every = 1 if any(s.level.engine or s.engine for s in faces) or not faces else TRACK_EVERY_FRAMES
        self._choose_keyframes(states, behind=carries and age > _LATE_CEILING_SHARE * self.ceiling)
        return [self._plan(s, elapsed, carries) for s in states]

    def has_room(self, seconds: float) -> bool:
        """Returns whether a frame has `seconds` left after its faces."""
        return not self.sparing and self.cost(self._present()) + seconds <= self.costs.room

    def patience(self, now: float, captured_at: float | None) -> float:
        """Returns the seconds from `now`, a frame's start, to its engine deadline."""
        patience_s = 1.2 * self.period
        if captured_at is not None:
            patience_s = min(patience_s, captured_at + self.ceiling - now - 0.3 * self.period)
        return max(patience_s, 0.0)

    def missing(self, track: int) -> None:
        """Notes that a face was shown uncorrected. It lacked a result; its correction fades in with the next one."""
        if track in self._faces:
            self._faces[track].strength = 0.0

    @property
    def levels(self) -> list[str]:
        """Levels of the last frame's faces, largest first: ["full", "key/2"]."""
        return [name_of(s.levels, s.shown_at) for s in self._present()]

    def _present(self) -> list[FaceQuality]:
        """Returns the faces of the last frame, largest first."""
        faces = tuple(self._faces.values())  # other threads read the levels
        return sorted((s for s in faces if s.seen == self.time), key=lambda s: -s.width)

    def _face_of(self, now: float, face: FaceDemand, carries: bool) -> FaceQuality:
        levels = levels_for(face, self.light, self.period, carries)
        quality = self._faces.get(face.track)
        if quality is None:
            quality = FaceQuality(face.track, levels, 0, face.width, now)
            self._faces[face.track] = quality
        elif quality.levels != levels:  # the suitable engine or the device has changed: uses the nearest level
            nearest = [k for k, level in enumerate(levels) if level.every >= quality.level.every or not level.engine]
            quality.at = len(levels) - 1 if not quality.level.engine else nearest[0]
            quality.levels = levels
        quality.width, quality.seen, quality.fades = face.width, now, carries or face.heavy
        return quality

    def cost(self, faces: Sequence[FaceQuality], *, best: bool = False) -> float:
        """Returns the average seconds per frame for faces on their levels. `best`: see `CostModel.cost`."""
        return sum(self._cost(s.level, best) for s in faces)

    def _cost(self, level: QualityLevel, best: bool) -> float:
        if not level.engine:
            return 0.0
        name = shipped_name(level.engine)
        key = self.costs.cost(name, key=True, best=best)
        if level.every == 1:
            return key
        return (key + (level.every - 1) * self.costs.cost(name, key=False, best=best)) / level.every

    def _keep_budget(self, now: float, faces: Sequence[FaceQuality]) -> str:
        """Limits the faces' time by the processor budget. Returns the reason for less time, or ""."""
        if self.budget is None:
            return ""
        cost, (before, cost_before) = self.cost(faces), self._judged
        levels = {track: s.at for track, s in self._faces.items() if s.seen == now}
        self._judged = levels, cost
        if self.costs.warming or self.resting:
            self.budget.restart()
        elif any(before.get(track, at) != at for track, at in levels.items()):
            self.budget.changed(cost_before)
        self.budget.update(now, cost)
        self.costs.limit = self.budget.room(cost)
        return self.budget.over

    def _go_down(self, now: float, faces: Sequence[FaceQuality], reason: str) -> None:
        """Lowers faces that have cost too much for some time. Lowers the faces on the highest level first, the largest
        face one level later than the others, until all fit into the available time."""
        cost, room = self.cost(faces), self.costs.room
        is_new = any(not s.engine and not s.since_key and s.trial is None for s in faces)
        is_last = all(s.height <= 1 and s.trial is None for s in faces)
        is_urgent = is_new or (reason and not is_last)
        is_unclear = self._settling(now) or self.costs.warming
        if cost <= (room if is_urgent else _STEP_DOWN_SHARE * room) or (is_unclear and not is_new):
            self._over_since = None
            return
        if not is_urgent:
            self._over_since = now if self._over_since is None else self._over_since
            hold_s = _OVERLOAD_HOLD_S if cost > _OVERLOAD_SHARE * room else _STEP_DOWN_HOLD_S
            if now - self._over_since < (_LAST_LEVEL_HOLD_S if is_last else hold_s):
                return
        self._over_since, self._calm_since, self._changed_at = None, now, now
        if self._end_trials(faces) and self.cost(faces) <= room:
            return
        why = reason or ("a new face" if is_new else f"faces take {1e3 * cost:.0f} of {1e3 * room:.0f} ms")
        before = {s.track: s.at for s in faces}
        # Only the step to no correction is visible. It is used if faces would delay frames, or exceed the processor
        # budget, on the previous level.
        limit = room if is_new or room == self.costs.limit else max(room, _LAST_LEVEL_SHARE * self.period)
        while (cost := self.cost(faces)) > _STEP_DOWN_GOAL_SHARE * room and any(s.height for s in faces):
            highest = max((s for s in faces if s.height), key=lambda s: (s.height - (s is faces[0]), -s.width))
            if highest.height == 1 and not is_new and (cost <= limit or before[highest.track] != highest.at):
                break
            highest.at += 1
        if self._record(now, faces, before, why):
            if self._raised_at is not None and now - self._raised_at < _STEP_UP_PROOF_S:
                self._calm_s, self._failed_slowness = min(2 * self._calm_s, _CALM_MAX_S), None
            self._raised_at = None
            if self._trial_shown_at is not None and any(not s.level.engine for s in faces):
                self._trial_s, self._trial_shown_at = min(2 * self._trial_s, _TRIAL_MAX_S), None

    def _settling(self, now: float) -> bool:
        """Returns whether a change is too recent to judge. Frames that it made late still wait in the queue."""
        return self._changed_at is not None and now - self._changed_at < _SETTLING_S

    def _end_trials(self, faces: Sequence[FaceQuality]) -> bool:
        """Ends invisible trials; returns whether there were any."""
        trials = [s for s in faces if s.trial is not None]
        for s in trials:
            s.at, s.trial, s.engine = len(s.levels) - 1, None, ""
        if trials:
            self._trial_pause_s = min(1.5 * self._trial_pause_s, _TRIAL_PAUSE_MAX_S)
            log.debug("a trial of the lowest quality level failed; the next one comes in %.1f s", self._trial_pause_s)
        return bool(trials)

    def _go_up(self, now: float, faces: Sequence[FaceQuality]) -> None:
        """Raises the lowest faces after a calm time, if time suffices."""
        self._calm_since = now if self._calm_since is None else self._calm_since
        if self._raised_at is not None and now - self._raised_at > 2 * _STEP_UP_PROOF_S:  # the step up has succeeded
            self._calm_s, self._raised_at = max(_CALM_S, self._calm_s / 2), None
        if self._trial_shown_at is not None and now - self._trial_shown_at > _TRIAL_SUCCESS_S:
            self._trial_pause_s, self._trial_s = (
                max(_TRIAL_PAUSE_S, self._trial_pause_s / 2),
                max(_TRIAL_S, self._trial_s / 2),
            )
            self._trial_shown_at = None
        calm_s = now - self._calm_since
        if any(s.trial is not None for s in faces):
            self._show_trials(now, faces)
        elif any(not s.level.engine for s in faces):
            if calm_s >= self._trial_pause_s:
                self._try(now, next(s for s in faces if not s.level.engine), faces)
        elif self._failed_slowness is None:
            self._failed_slowness = self.costs.slow if calm_s >= _SLOWNESS_DELAY_S else None
        elif self._trial_shown_at is not None and self.costs.slow > _QUIET_SLOWNESS:
            return
        elif calm_s >= (_CALM_S if self.costs.slow < _EASED_SHARE * self._failed_slowness else self._calm_s):
            self._raise(now, faces)

    def _try(self, now: float, s: FaceQuality, faces: Sequence[FaceQuality]) -> None:
        """Tries the lowest level on an uncorrected face, if time permits. Ignores the current share, because no
        correction is the worst result, and the lowest level costs little."""
        s.at -= 1
        if self.costs.lend(self.cost(faces, best=True)):
            s.trial, s.since_key, s.strength = now, 0, 0.0
            self._changed_at = now  # postpones judgement, because earlier measurements do not apply
        else:
            s.at += 1
            self._calm_since = now

    def _show_trials(self, now: float, faces: Sequence[FaceQuality]) -> None:
        """Shows trials that have kept up. Their corrections fade in."""
        before = {s.track: s.shown_at for s in faces}
        for s in faces:
            if s.trial is not None and now - s.trial >= self._trial_s:
                s.trial = None
        if self._record(now, faces, before, "a trial has succeeded"):
            self._calm_since = self._raised_at = self._trial_shown_at = now

    def _raise(self, now: float, faces: Sequence[FaceQuality]) -> None:
        before = {s.track: s.at for s in faces}
        rising = [s for s in faces if s.at]
        while rising:
            s = min(rising, key=lambda s: (s.height - (s is faces[0]), -s.width))
            s.at -= 1
            if self.cost(faces) > _STEP_UP_SHARE * self.costs.room:
                s.at += 1
                rising.remove(s)
            elif not s.at or before[s.track] - s.at >= _STEP_UP_MAX_LEVELS:
                rising.remove(s)
        if self._record(now, faces, before, "there is room"):
            self._calm_since = self._raised_at = now

    def _record(self, now: float, faces: Sequence[FaceQuality], before: dict[int, int], why: str) -> bool:
        changed = [s for s in faces if s.shown_at != before[s.track]]
        for s in changed:
            old, new = name_of(s.levels, before[s.track]), name_of(s.levels, s.shown_at)
            self.steps.append(LevelChange(now, s.track, old, new, why))
            log.info("face %d goes from %s to %s: %s", s.track, old, new, why)
        return bool(changed)

    def _choose_keyframes(self, faces: Sequence[FaceQuality], *, behind: bool) -> None:
        """Chooses the faces whose engines run. A late frame (`behind`) carries the last results if possible. Keyframes
        due on the same frame are spread: each frame takes the average number of them, the longest overdue first."""
        waiting: list[FaceQuality] = []
        for s in faces:
            s.since_key += 1
            every = 2 * s.level.every + 1 if behind else s.level.every
            s.due = bool(s.level.engine) and (s.since_key >= every or s.engine != s.level.engine)
            if s.due and s.level.every > 1 and s.since_key < 2 * s.level.every:
                waiting.append(s)
        self._credit += sum(1.0 / s.level.every for s in faces if s.level.engine and s.level.every > 1)
        waiting.sort(key=lambda s: (s.engine == s.level.engine, s.level.every - s.since_key))
        allowed = int(self._credit + 1e-6)
        for s in waiting[allowed:]:
            s.due = False
        self._credit = min(self._credit - min(allowed, len(waiting)), 1.0)

    def _plan(self, s: FaceQuality, elapsed: float, carries: bool) -> FaceDecision:
        level, passed = s.level, min(elapsed, _FADE_MAX_PERIODS * self.period)
        if not level.engine:
            s.strength = faded(s.strength, 0.0, passed, FADE_S) if s.engine else 0.0
            if not s.strength:
                s.engine = ""
            return FaceDecision(s.engine, s.engine != "" and not carries, s.strength)
        if not s.due and s.engine != level.engine:  # the new engine's keyframe comes later
            return FaceDecision(s.engine, False, s.strength, s.share)
        if not s.engine and s.since_key > 1:  # the face was shown uncorrected
            s.strength = 0.0
        elif s.engine and s.engine != level.engine and s.fades:
            s.share = 0.0
        s.strength, s.share = (faded(now, 1.0, passed, FADE_S) for now in (s.strength, s.share))
        if s.trial is not None:  # a trial does all the work invisibly
            s.strength = UNSEEN_STRENGTH
        if s.due:
            s.since_key, s.engine = 0, level.engine
        return FaceDecision(level.engine, s.due, s.strength, s.share)
