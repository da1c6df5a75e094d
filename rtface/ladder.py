"""Quality steps under load: which engine works on which face of a live run, and how often.

A face stands on a rung of its own: an engine on every frame; on key frames, every 2nd, 4th, 8th, between which the last
answer is carried along (`rtface.correct.reproject`); the smaller engine on key frames; or none at all. Of a slow
engine, which nobody waits for, what it costs to show goes down first (`rtface.rungs`). What each would cost is known
from what each has cost, so a new face comes in where there is room for it, and where time runs short one decision is
enough. Up it goes a rung at a time, after a calm while that doubles whenever a step up did not last; a face without any
correction is tried again sooner, by the lowest rung.

Times and costs are arguments: nothing here looks at a clock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rtface.load import Load
from rtface.rungs import Plan, Rung, Seen, Standing, Step, name_of, rungs_for

log = logging.getLogger("rtface")

FADE_S = 0.25  # in which a face fades in or out, and one engine into another
_CALM_S, _LONGEST_S = 1.5, 30.0  # what has to be calm before a step up: at first, and at most
_LEAVE_S = 5.0  # at most, where a face is not corrected at all
_TRIAL_S = 4.0  # a step up that leads to one down within this time has failed
_ROOM = 0.9  # of what may be spent, a step up leaves so much free that it may not itself lead to one down
_GONE_S = 2.0  # a face not seen for so long begins anew
_KEPT = 64  # steps remembered
_TRACKED = 4  # where no face is corrected, every so many frames are tracked


@dataclass(slots=True)
class Ladder:
    """The controller of one live run. Not for use from several threads.

    Attributes:
        period: seconds from one frame to the next.
        ceiling: seconds that the run may add to a frame.
        smaller: name of the engine that is taken where the chosen one is too dear; None for no such step.
        load: what frames cost.
        time: of the last frame, seconds.
        steps: the last ones.
    """

    period: float
    ceiling: float
    smaller: str | None = None
    load: Load = field(init=False)
    time: float | None = None
    steps: deque[Step] = field(default_factory=lambda: deque[Step](maxlen=_KEPT))
    _faces: dict[int, Standing] = field(default_factory=dict[int, Standing])
    _calm_s: float = _CALM_S
    _calm_since: float | None = None
    _last_up: float | None = None
    _credit: float = 0.0  # key frames that may be done on this frame

    def __post_init__(self) -> None:
        self.load = Load(self.period)

    def plan(self, now: float, seen: Sequence[Seen], *, late: int = 0, carries: bool = True) -> list[Plan]:
        """What to do with the faces of a frame, in their order.

        Args:
            now: seconds, rising.
            seen: the faces to be corrected.
            late: frames that were given up since the last call because newer ones came first.
            carries: whether the device can do without an engine between key frames (`Device.carries`).
        """
        elapsed, self.time = now - (now if self.time is None else self.time), now
        for track in [t for t, s in self._faces.items() if now - s.seen > _GONE_S]:
            del self._faces[track]
        shown = [self._stand(now, face, carries) for face in seen]
        faces = self._present()
        short = self.load.late(now, late, self.cost(faces))
        if faces:
            self._go_down(now, faces, short)
            self._go_up(now, faces)
        self._take_turns([s for _, s in shown])
        return [self._plan(s, elapsed, carries) for _, s in shown]

    def patience(self, now: float, captured_at: float | None) -> float:
        """Seconds from `now`, when its work begins, in which a frame's engines have to answer."""
        left = 1.2 * self.period
        if captured_at is not None:
            left = min(left, captured_at + self.ceiling - now - 0.3 * self.period)
        return max(left, 0.0)

    def missing(self, track: int) -> None:
        """A face went out as it was because its engine had not answered yet: it fades in once there is an answer."""
        if track in self._faces:
            self._faces[track].strength = 0.0

    @property
    def sparing(self) -> bool:
        """Whether tracking, too, should do with less."""
        return any(s.at for s in self._present())

    @property
    def track_every(self) -> int:
        """Frames from one tracked frame to the next: where no face is corrected they only have to be found again."""
        faces = self._present()
        return _TRACKED if faces and not any(s.rung.engine or s.strength for s in faces) else 1

    def summary(self) -> str:
        """Where the last frame's faces stand, largest first: "2 faces: full, key/2"."""
        names = [name_of(s.rungs, s.at) for s in self._present()]
        return f"{len(names)} face{'s' * (len(names) > 1)}: {', '.join(names)}" if names else "no faces"

    def _present(self) -> list[Standing]:
        """The faces of the last frame, largest first."""
        faces = tuple(self._faces.values())  # other threads ask for the summary
        return sorted((s for s in faces if s.seen == self.time), key=lambda s: -s.width)

    def _stand(self, now: float, face: Seen, carries: bool) -> tuple[int, Standing]:
        rungs = rungs_for(face, self.smaller, self.period, carries)
        standing = self._faces.get(face.track)
        if standing is None:
            standing = Standing(rungs, 0, face.width, now)
            self._faces[face.track] = standing
        elif standing.rungs != rungs:  # another engine suits it, or the run has moved: the same rung, or what is left
            same = [k for k, rung in enumerate(rungs) if rung.every >= standing.rung.every or not rung.engine]
            standing.at = len(rungs) - 1 if not standing.rung.engine else same[0]
            standing.rungs = rungs
        standing.width, standing.seen, standing.fades = face.width, now, carries or face.slow
        return face.track, standing

    def cost(self, faces: Sequence[Standing]) -> float:
        """Seconds that a frame takes with faces where they stand, on average."""
        return sum(self._cost(s.rung) for s in faces)

    def _cost(self, rung: Rung) -> float:
        if not rung.engine:
            return 0.0
        key = self.load.cost(rung.kind, key=True)
        if rung.every == 1:
            return key
        return (key + (rung.every - 1) * self.load.cost(rung.kind, key=False)) / rung.every

    def _go_down(self, now: float, faces: Sequence[Standing], short: str) -> None:
        """Until there is room for all, the face that stands highest goes down, the largest a rung later."""
        if self.cost(faces) <= self.load.room:
            return
        why = short or ("a new face" if any(not s.engine and not s.turn for s in faces) else
                      f"faces take {1e3 * self.cost(faces):.0f} of {1e3 * self.load.room:.0f} ms")
        before = {id(s): s.at for s in faces}
        while self.cost(faces) > 0.95 * self.load.room and any(s.height for s in faces):
            highest = max((s for s in faces if s.height), key=lambda s: (s.height - (s is faces[0]), -s.width))
            highest.at += 1
        if self._say(now, faces, before, why):
            failed = self._last_up is not None and now - self._last_up < _TRIAL_S
            self._calm_s = min(2 * self._calm_s, _LONGEST_S) if failed else self._calm_s
            self._last_up = None
        self._calm_since = now

    def _go_up(self, now: float, faces: Sequence[Standing]) -> None:
        """After a calm while, the face that stands lowest goes up a rung, if there is room for that."""
        self._calm_since = now if self._calm_since is None else self._calm_since
        if self._last_up is not None and now - self._last_up > 2 * _TRIAL_S:  # it lasted
            self._calm_s, self._last_up = max(_CALM_S, self._calm_s / 2), None
        if now - self._calm_since < min(self._calm_s, _LEAVE_S):
            return
        for s in sorted((s for s in faces if s.at), key=lambda s: (s.height - (s is faces[0]), -s.width)):
            before = {id(f): f.at for f in faces}
            leaving = not s.rung.engine
            s.at -= 1
            cost = self.cost(faces)
            there_is_room = cost <= _ROOM * self.load.room and now - self._calm_since >= self._calm_s
            # Nothing is worse than no correction, and the lowest rung costs little: it is tried where it fits into a
            # frame at all, however little room past delays have left.
            if there_is_room or (leaving and self.load.lend(cost)):
                self._say(now, faces, before, "there is room" if there_is_room else "a trial")
                self._calm_since = self._last_up = now
                return
            s.at += 1

    def _say(self, now: float, faces: Sequence[Standing], before: dict[int, int], why: str) -> bool:
        ids = {id(s): track for track, s in self._faces.items()}
        moved = [s for s in faces if s.at != before[id(s)]]
        for s in moved:
            old, new = name_of(s.rungs, before[id(s)]), name_of(s.rungs, s.at)
            self.steps.append(Step(now, ids[id(s)], old, new, why))
            log.info("face %d goes from %s to %s: %s", ids[id(s)], old, new, why)
        return bool(moved)

    def _take_turns(self, shown: Sequence[Standing]) -> None:
        """Says whose engines run. Key frames that fall together are spread: as many on a frame as come up on average,
        and those longest overdue first."""
        waiting: list[Standing] = []
        for s in shown:
            s.turn += 1
            s.due = bool(s.rung.engine) and (s.turn >= s.rung.every or s.engine != s.rung.engine)
            if s.due and s.rung.every > 1 and s.turn < 2 * s.rung.every:
                waiting.append(s)
        self._credit += sum(1.0 / s.rung.every for s in shown if s.rung.engine and s.rung.every > 1)
        waiting.sort(key=lambda s: (s.engine == s.rung.engine, s.rung.every - s.turn))
        allowed = int(self._credit + 1e-6)
        for s in waiting[allowed:]:
            s.due = False
        self._credit = min(self._credit - min(allowed, len(waiting)), 1.0)

    def _plan(self, s: Standing, elapsed: float, carries: bool) -> Plan:
        rung, ramp = s.rung, max(elapsed, 0.0) / FADE_S
        if not rung.engine:
            s.strength = max(0.0, s.strength - ramp) if s.engine else 0.0
            if not s.strength:
                s.engine = ""
            return Plan(s.engine, s.engine != "" and not carries, s.strength)
        if not s.due and s.engine != rung.engine:  # its turn comes
            return Plan(s.engine, False, s.strength, s.share)
        if not s.engine and s.turn > 1:  # it was shown without
            s.strength = 0.0
        elif s.engine and s.engine != rung.engine and s.fades:
            s.share = 0.0
        s.strength, s.share = min(1.0, s.strength + ramp), min(1.0, s.share + ramp)
        if s.due:
            s.turn, s.engine = 0, rung.engine
        return Plan(rung.engine, s.due, s.strength, s.share, rung.half)
