"""A heavy engine on key frames, the small one on every frame (`rtface.correct.keyframe_blend`): when the heavy one
runs, and
what is kept of a face meanwhile.

A film waits for both engines, and looks ahead as far as the next key frame. A live run waits for the small one only:
the heavy one is asked again when it has answered, and its answer fades in when it comes, carried from the frame that
it was asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from rtface.correct.colour import Box
from rtface.correct.correspondence import SIDE, Way, Ways
from rtface.correct.keyframe_blend import AVERAGED, SHOWN, Key, joined
from rtface.enhance.keyframes.sample import Moment, Pace, inside
from rtface.enhance.keyframes.smoothing import Around
from rtface.frame import Float32
from rtface.protocols import Engine, Restored

MOST = 12
"""Frames from one key frame to the next, at most: so many are held in a film."""
_AUTO = 8
_FITS = 0.5  # of the face: where less of it still fits the last key frame, there is a new one
_FADE_S = 0.2  # in which a key frame's answer fades in, where nothing was known of it before
_ROOM = 4  # samples around what is shown of a face, for it moves a little from frame to frame
_LAG = 0.5  # of a film's key frame's answer is still that of the one before
_OLD_S, _AGEING_S = 4.0, 1.0  # seconds after which a key frame says nothing any more, and before that fades out


def spacing(keyframe: int | str, engine: Engine) -> int:
    """Frames from one keyframe to the next in a film: as asked; for "auto" 8 with a heavy engine, else 1.

    Engines with a memory of their own would lose more by it than it gains: 1.
    """
    if isinstance(keyframe, int):
        return keyframe
    return _AUTO if engine.heavy and not engine.recurrent else 1


@dataclass(slots=True)
class TrackKeys:
    """What one track's key frames need: its moments, from the last key frame that is still shown to the newest."""

    moments: list[Moment] = field(default_factory=list[Moment])
    _ways: Ways = field(default_factory=Ways)
    _count: int = 0
    _around: Around | None = None

    def reset(self) -> None:
        """Forgets the track."""
        self.moments.clear()

    @property
    def last(self) -> Moment | None:
        """The last key frame that was asked for."""
        return next((m for m in reversed(self.moments) if m.key is not None or m.ask is not None), None)

    @property
    def _film(self) -> Around:
        if self._around is None:  # a live run has none
            self._around = Around(self.moments)
        return self._around

    def add(self, moment: Moment, pace: Pace) -> None:
        """Takes in the next frame, and asks the heavy engine about what waits for it."""
        self._count += 1
        moment.number = self._count
        self.moments.append(moment)
        self._ask([m for m in self.moments if pace != "film" or self._count - m.number >= AVERAGED], pace)

    def _ask(self, moments: Sequence[Moment], pace: Pace) -> None:
        for moment in moments:
            if moment.ask is not None:
                ask, moment.ask = moment.ask, None
                moment.key = ask(self._film.crop(moment) if pace == "film" else (moment.large or moment.crops).pixels)

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
        face = inside()
        return float((self._way(moment, last, "each").gate * face).sum()) < _FITS * float(face.sum())

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
        if pace != "film":  # whose frames are joined with those beside them
            self._prepare(moment, box, pace)

    def restored(self, moment: Moment, box: Box, pace: Pace, weight: float = 1.0) -> Restored:
        """What is shown of a face, once it is prepared; waits for the small engine.

        Args:
            moment, box, pace: as for `prepare`. What no later frame needs is forgotten.
            weight: 0…1 of the heavy engine, but in a film.
        """
        said, film = moment.small.result(), pace == "film"
        pixels = (self._film.shown(moment, lambda m: self._draft(m, box), box) if film else
                  self._joined(moment, box, pace, weight))
        self._forget(moment, {key for _, key, *_ in moment.shares}, film)
        moment.shares = []
        return Restored(pixels[None], occlusion=_enlarged(said.occlusion, pixels.shape[1]))

    def _draft(self, moment: Moment, box: Box) -> Float32:
        """What would be shown of a moment of a film if there were no other; worked out once, if the face stays."""
        if moment.draft is None or not _within(box, moment.draft[1]):
            x0, y0, x1, y1 = box
            box = max(0, x0 - _ROOM), max(0, y0 - _ROOM), min(SIDE, x1 + _ROOM), min(SIDE, y1 + _ROOM)
            self._prepare(moment, box, "film")
            moment.draft = self._joined(moment, box, "film", 1.0), box
            moment.shares = [(share, key, None, None) for share, key, *_ in moment.shares]
        return moment.draft[0]

    def _prepare(self, moment: Moment, box: Box, pace: Pace) -> None:
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
            look.show_at(moment.crops.size)  # another than its own where the ladder has just changed that
            assert look.key is not None
            moment.shares.append((share, key, way, None if way is None else way.fetch(look.key, box)))
        # Where it comes after the small engine was shown alone, it fades in.
        moment.weight = _faded_in(before[0], moment) if not wait and len(before) == 1 else 1.0
        if not wait and before:
            moment.weight *= min(1.0, (before[-1].time + _OLD_S - moment.time) / _AGEING_S)

    def _joined(self, moment: Moment, box: Box, pace: Pace, weight: float) -> Float32:
        """What the key frames and the small engine make of a moment that is prepared."""
        film, wait = pace == "film", pace != "live"
        moment.look(wait=wait).small = answer = moment.small.result().pixels[0]
        keys: list[Key] = []
        for share, key, way, moved in moment.shares:
            there = key.look(wait=wait)
            assert there.small is not None
            keys.append(Key(share, there, self._film.clear(key).guide if film else there.small, way, moved))
        small = self._film.clear(moment).guide if film else answer
        return joined(moment.crops.pixels[0], moment.own.pixels[0], small, keys, weight * moment.weight, box)

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

    def _way(self, here: Moment, there: Moment, pace: Pace) -> Way:
        if pace == "film":
            return self._film.way(here, there)
        wait = pace != "live"
        return self._ways.between(here.look(wait=wait), there.look(wait=wait), inside())

    def _forget(self, moment: Moment, used: set[Moment], film: bool) -> None:
        """Keeps what later frames need: the key frames that are shown or expected, and what they are averaged with."""
        first = min((m.number for m in used), default=moment.number)
        since = min(first, moment.number - AVERAGED + 1) if film else moment.number
        self.moments[:] = [m for m in self.moments
                           if m.number >= since or m in used or (m.key is not None and not m.key.done())]
        for past in self.moments:
            if past.number <= moment.number - SHOWN:
                past.draft = None


def _faded_in(key: Moment, moment: Moment, before: float | None = None) -> float:
    """0…1, how far a key frame's answer has come on a frame; begins there where nothing was shown of it. It takes no
    longer than half the time since the key frame before, at `before`."""
    if key.shown is None:
        key.shown = moment.time
    within = _FADE_S if before is None else min(_FADE_S, 0.5 * (key.time - before))
    return min(1.0, (moment.time - key.shown + 0.02) / max(within, 1e-3))


def _within(box: Box, other: Box) -> bool:
    return box[0] >= other[0] and box[1] >= other[1] and box[2] <= other[2] and box[3] <= other[3]


def _enlarged(occlusion: Any, size: int) -> Any:
    if occlusion is None:
        return None
    return cv2.resize(np.asarray(occlusion[0]), (size, size), interpolation=cv2.INTER_LINEAR)[None]
