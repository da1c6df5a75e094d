"""A heavy engine on key frames, the small one on every frame (`rtface.correct.keyframes`): when the heavy one runs, and
what is kept of a face meanwhile.

A film waits for both engines, and looks ahead as far as the next key frame. A live run waits for the small one only:
the heavy one is asked again when it has answered, and its answer fades in when it comes, carried from the frame that
it was asked about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np

from rtface.correct.colour import Box
from rtface.correct.keyframes import REACH, Key, agreed, based, joined, steadied
from rtface.correct.mask import face_mask
from rtface.correct.ways import SIDE, Look, Way, Ways, energy
from rtface.errors import EngineError
from rtface.frame import Crops, Float32
from rtface.protocols import Engine, Restored

MOST = 12
"""Frames from one key frame to the next, at most: so many are held in a film."""
_SHARE_MS, _MOST_AUTO = 100.0, 8
_FITS = 0.5  # of the face: where less of it still fits the last key frame, there is a new one
_FADE_S = 0.2  # in which a key frame's answer fades in, where nothing was known of it before
_LAG = 1.0 / 3.0  # of a film's key frame's answer is still that of the one before
_OLD_S, _AGEING_S = 4.0, 1.0  # seconds after which a key frame says nothing any more, and before that fades out


Pace = Literal["film", "each", "live"]
"""A film: both engines are waited for, and the frames that follow are known. Each frame as it comes: the first of that.
Live: the small engine is waited for; motion goes by the crops, while it works."""


def spacing(keyframe: int | str, engine: Engine) -> int:
    """From one key frame to the next, frames: as asked; or, for "auto", as many as it takes for the engine to cost no
    more than 100 ms a frame, 8 at most. Engines that remember would lose more than that gains: 1."""
    if isinstance(keyframe, int):
        return keyframe
    return 1 if engine.recurrent else min(max(1, math.ceil(engine.ms / _SHARE_MS)), _MOST_AUTO)


Ask = Callable[[Float32], Future[Restored]]


@dataclass(slots=True, eq=False)
class Moment:
    """A face on one frame.

    Attributes:
        time: seconds.
        crops, own: of the heavy and of the small engine.
        small: the small engine's answer.
        key: the heavy engine's; None between key frames, and before it is asked.
        ask: asks the heavy engine about a crop, float32 1×3×S×S; None once that is done, and between key frames.
        number: of the frame, among those of its track.
        shown: time of the first frame that was shown with `key`.
        steady: `small`, averaged with that of the frames around; None until it is needed.
        shares, weight: what `TrackKeys.prepare` found: shares of key frames, the ways there, and their answers moved;
            and how much of all that there is to be.
    """

    time: float
    crops: Crops
    own: Crops
    small: Future[Restored]
    key: Future[Restored] | None = None
    ask: Ask | None = None
    number: int = 0
    shown: float | None = None
    steady: Float32 | None = None
    shares: list[tuple[float, Moment, Way | None, Float32 | None]] = field(
        default_factory=list["tuple[float, Moment, Way | None, Float32 | None]"])
    weight: float = 1.0
    _look: Look | None = None

    def look(self, *, wait: bool) -> Look:
        """Waits for the small engine where `wait` is set; raises what it raised."""
        if self._look is None:
            if wait:
                answer = self.small.result().pixels[0]
                self._look = Look(self.time, answer, answer)
            else:
                self._look = Look(self.time, self.own.pixels[0])
        return self._look

    def error(self) -> Float32:
        """float32 SIDE×SIDE: mean square by which the small engine, which is waited for, changes its crop."""
        return energy(self.look(wait=True).guide - self.own.pixels[0])

    def take(self, look: Look, earlier: tuple[Look, Way] | None) -> None:
        """Waits for the heavy engine's answer, where it was asked; raises what it raised, once. `earlier`: as for
        `agreed`."""
        if self.key is not None and look.key is None:
            try:
                look.small = small = self.small.result().pixels[0]
                answer = self.key.result().pixels[0]
                if not math.isfinite(float(answer.sum())):
                    raise EngineError("an engine's answer holds values that are not numbers; it is not used")
            except BaseException:
                self.key = None
                raise
            agreed(look, answer, based(self.crops.pixels[0], self.own.pixels[0], small), earlier)


@dataclass(slots=True)
class TrackKeys:
    """What one track's key frames need: its moments, from the last key frame that is still shown to the newest."""

    moments: list[Moment] = field(default_factory=list[Moment])
    _ways: Ways = field(default_factory=Ways)
    _count: int = 0

    def reset(self) -> None:
        """Forgets the track."""
        self.moments.clear()

    @property
    def last(self) -> Moment | None:
        """The last key frame that was asked for."""
        return next((m for m in reversed(self.moments) if m.key is not None or m.ask is not None), None)

    def add(self, moment: Moment, pace: Pace) -> None:
        """Takes in the next frame, and asks the heavy engine about what waits for it."""
        self._count += 1
        moment.number = self._count
        self.moments.append(moment)
        self._ask([m for m in self.moments if pace != "film" or self._count - m.number >= REACH], pace)

    def _ask(self, moments: Sequence[Moment], pace: Pace) -> None:
        for moment in moments:
            if moment.ask is not None:
                ask, moment.ask, crop = moment.ask, None, moment.crops.pixels
                if pace == "film":
                    around = [(n, m.crops.pixels[0], way) for n, m, way in self._around(moment)]
                    crop = steadied(crop[0], around, moment.error())[None]
                moment.key = ask(crop)

    def due(self, moment: Moment, every: int) -> bool:
        """Whether a frame is to be a key frame where engines are waited for; waits for its small answer."""
        last = self.last
        if last is None or not 0.0 <= moment.time - last.time <= _OLD_S:
            return True
        since = self._count + 1 - last.number
        if since >= every:
            return True
        if since < max(2, every // 3):
            return False
        inside = _inside()
        return float((self._way(moment, last, "each").gate * inside).sum()) < _FITS * float(inside.sum())

    def free(self, time: float, every: int, period: float) -> bool:
        """Whether the heavy engine may be asked where it is not waited for."""
        last = self.last
        return last is None or (last.key is not None and last.key.done() and time - last.time > (every - 0.5) * period)

    def prepare(self, moment: Moment, box: Box, pace: Pace) -> None:
        """Does what `restored` needs of the key frames: all of it that does not have to wait for the small engine where
        nobody waits for the heavy one.

        Args:
            moment: the last of `moments`, or in a film, any of them.
            box: x0, y0, x1, y1 in samples of SIDE×SIDE, what is shown of the crop.
            pace: see `Pace`.
        """
        wait = pace != "live"
        near = [m for m in self.moments if abs(m.time - moment.time) <= _OLD_S]  # none where they were forgotten
        asked = [m for m in near if m.key is not None or m.ask is not None]
        before = [m for m in asked if m.number <= moment.number]
        after = next((m for m in asked if m.number > moment.number), None) if pace == "film" else None
        self._ask(before if after is None else [*before, after], pace)  # what still waits: the film ends
        before = [m for m in before if wait or (m.key is not None and m.key.done())]
        self._take(before if after is None else [*before, after], pace)
        moment.shares = []
        for share, key in self._shares(moment, before, after, pace):
            way = None if key is moment else self._way(moment, key, pace)
            look = key.look(wait=wait)
            assert look.key is not None
            moment.shares.append((share, key, way, None if way is None else way.fetch(look.key, box)))
        # Where it comes after the small engine was shown alone, it fades in.
        moment.weight = _faded_in(before[0], moment) if not wait and len(before) == 1 else 1.0
        if not wait and before:
            moment.weight *= min(1.0, (before[-1].time + _OLD_S - moment.time) / _AGEING_S)

    def restored(self, moment: Moment, box: Box, pace: Pace, weight: float = 1.0) -> Restored:
        """What is shown of a face, once it is prepared; waits for the small engine.

        Args:
            moment, box, pace: as for `prepare`. What no later frame needs is forgotten.
            weight: 0…1 of the heavy engine.
        """
        said, film = moment.small.result(), pace == "film"
        look = moment.look(wait=pace != "live")
        look.small = said.pixels[0]
        keys: list[Key] = []
        for share, key, way, moved in moment.shares:
            there = key.look(wait=pace != "live")
            assert there.small is not None
            keys.append(Key(share, there, self._steadied(key) if film else there.small, way, moved))
        small = self._steadied(moment) if film else said.pixels[0]
        pixels = joined(moment.crops.pixels[0], moment.own.pixels[0], small, keys, weight * moment.weight, box)
        self._forget(moment, {key for _, key, *_ in moment.shares}, film)
        moment.shares = []
        return Restored(pixels[None], occlusion=_enlarged(said.occlusion, pixels.shape[1]))

    def _take(self, keys: list[Moment], pace: Pace) -> None:
        """The answers of key frames, in order; the first is believed as it is."""
        for k, key in enumerate(keys):
            look = key.look(wait=pace != "live")
            if look.key is None:
                earlier = keys[k - 1] if k else None
                key.take(look, (earlier.look(wait=pace != "live"), self._way(key, earlier, pace)) if earlier else None)

    @staticmethod
    def _shares(moment: Moment, before: list[Moment], after: Moment | None, pace: Pace) -> list[tuple[float, Moment]]:
        """Key frames and their weights: in a film by distance, with some of the one before the last, so that none is
        ever shown alone; else the last fades in."""
        if not before:
            return []
        last, lag = before[-1], _LAG if len(before) > 1 else 0.0
        if pace == "film":
            shares, share = {last: 1.0 - lag}, 0.0
            if after is not None:
                share = (moment.time - last.time) / max(after.time - last.time, 1e-6)
                shares = {last: (1.0 - lag) * (1.0 - share) + lag * share, after: (1.0 - lag) * share}
            if lag:
                shares[before[-2]] = lag * (1.0 - share)
            return [(share, key) for key, share in shares.items() if share > 0.0]
        share = _faded_in(last, moment, before[-2].time if len(before) > 1 else None)
        return [(1.0, last)] if share >= 1.0 or len(before) == 1 else [(1.0 - share, before[-2]), (share, last)]

    def _steadied(self, moment: Moment) -> Float32:
        """The small engine's answer at a moment, averaged with those around it."""
        if moment.steady is None:
            small = {m: m.small.result().pixels[0] for m in self.moments if abs(m.number - moment.number) <= REACH}
            around = [(n, small[m], way) for n, m, way in self._around(moment)]
            moment.steady = steadied(small[moment], around, moment.error())
        return moment.steady

    def _around(self, moment: Moment) -> list[tuple[int, Moment, Way]]:
        """The moments around one in a film: distance, moment, and the way there."""
        found = [(abs(m.number - moment.number), m) for m in self.moments]
        return [(n, m, self._way(moment, m, "film")) for n, m in found if 0 < n <= REACH]

    def _way(self, here: Moment, there: Moment, pace: Pace) -> Way:
        looks = self._looks(here, there) if pace == "film" else []
        expected, wait = self._ways.along(looks) if looks else None, pace != "live"
        return self._ways.between(here.look(wait=wait), there.look(wait=wait), _inside(), expected)

    def _looks(self, here: Moment, there: Moment) -> list[Look]:
        """All from one to the other, those that the motion goes by with their speeds; none where one is missing."""
        low, high = sorted((here.number, there.number))
        way = [m for m in self.moments if low <= m.number <= high]
        if len(way) != high - low + 1:
            return []
        looks = [m.look(wait=True) for m in way]
        for moment, look in zip(way, looks, strict=True):
            if look.speed is None:
                around = [(m.number - moment.number, m.look(wait=True)) for m in self.moments
                          if 0 < abs(m.number - moment.number) <= REACH]
                look.speed = self._ways.speed(look, around)
        return looks if here.number < there.number else looks[::-1]

    def _forget(self, moment: Moment, used: set[Moment], film: bool) -> None:
        """Keeps what later frames need: the key frames that are shown or expected, and what they are averaged with."""
        first = min((m.number for m in used), default=moment.number)
        since = min(first, moment.number - REACH + 1) if film else moment.number
        self.moments[:] = [m for m in self.moments
                           if m.number >= since or m in used or (m.key is not None and not m.key.done())]


def _faded_in(key: Moment, moment: Moment, before: float | None = None) -> float:
    """0…1, how far a key frame's answer has come on a frame; begins there where nothing was shown of it. It takes no
    longer than half the time since the key frame before, at `before`."""
    if key.shown is None:
        key.shown = moment.time
    within = _FADE_S if before is None else min(_FADE_S, 0.5 * (key.time - before))
    return min(1.0, (moment.time - key.shown + 0.02) / max(within, 1e-3))


@lru_cache(maxsize=1)
def _inside() -> Float32:
    return face_mask(SIDE)


def _enlarged(occlusion: Any, size: int) -> Any:
    if occlusion is None:
        return None
    return cv2.resize(np.asarray(occlusion[0]), (size, size), interpolation=cv2.INTER_LINEAR)[None]
