"""What the frames around one in a film say of a face: for key frames (`rtface.enhance.keyframes.scheduler`), whose
film looks ahead."""

from __future__ import annotations

from collections.abc import Callable

from rtface.correct.colour import Box
from rtface.correct.correspondence import SIDE, Look, Way, Ways, energy, resized
from rtface.correct.keyframe_blend import AVERAGED, SHOWN, calmed, steadied
from rtface.enhance.keyframes.sample import Moment, inside
from rtface.frame import Float32


class Around:
    """Motion is found twice: between the small engine's answers, and, finer, between those averaged along that.

    Args:
        moments: of one track, in order; changed by others.
    """

    def __init__(self, moments: list[Moment]) -> None:
        self._moments = moments
        self._rough, self._fine = Ways(), Ways(fine=True)

    def crop(self, moment: Moment) -> Float32:
        """float32 1×3×S×S: the heavy engine's crop, averaged with those around it."""
        ways = self._rough_ways(moment)
        self._clear(moment, ways)  # which goes by the same ways
        return steadied(moment.crops.pixels[0], [(n, m.crops.pixels[0], way) for n, m, way in ways],
                        moment.error())[None]

    def clear(self, moment: Moment) -> Look:
        """The small engine's answer, averaged with those around it."""
        return moment.clear or self._clear(moment, self._rough_ways(moment))

    def _clear(self, moment: Moment, ways: list[tuple[int, Moment, Way]]) -> Look:
        around = [(n, m.look(wait=True).guide, way) for n, m, way in ways]
        moment.clear = Look(moment.time, steadied(moment.look(wait=True).guide, around, moment.error()))
        return moment.clear

    def way(self, here: Moment, there: Moment) -> Way:
        """From one moment to another, by their clear looks."""
        return self._between(self._fine, self.clear, here, there)

    def shown(self, moment: Moment, draft: Callable[[Moment], Float32], box: Box) -> Float32:
        """float32 3×S×S: what is shown of a moment, averaged with what would be shown beside it.

        Args:
            moment: one of those of the track.
            draft: what would be shown of a moment, float32 3×S×S.
            box: as for `steadied`.
        """
        picture, around = draft(moment), list[tuple[int, Float32, Way]]()
        here = [resized(moment.own.pixels[0], SIDE), resized(picture, SIDE)]
        for n, m in self._near(moment, SHOWN):
            way, other = self.way(moment, m), draft(m)
            seen, left = (energy(a - way.fetch(resized(b, SIDE)))
                          for a, b in zip(here, (m.own.pixels[0], other), strict=True))
            around.append((n, other, Way(way.flow, way.gate * calmed(seen, left))))
        return steadied(picture, around, moment.error(), box)

    def _near(self, moment: Moment, reach: int) -> list[tuple[int, Moment]]:
        """Distances in frames, and moments."""
        found = [(abs(m.number - moment.number), m) for m in self._moments]
        return [(n, m) for n, m in found if 0 < n <= reach]

    def _rough_ways(self, moment: Moment) -> list[tuple[int, Moment, Way]]:
        """Distances in frames, moments, and the ways there by the answers as they are."""
        return [(n, m, self._between(self._rough, lambda at: at.look(wait=True), moment, m))
                for n, m in self._near(moment, AVERAGED)]

    def _between(self, ways: Ways, look: Callable[[Moment], Look], here: Moment, there: Moment) -> Way:
        low, high = sorted((here.number, there.number))
        between = [m for m in self._moments if low <= m.number <= high]
        expected = None
        if len(between) == high - low + 1:  # none is missing
            for moment in between:
                at = look(moment)
                if at.speed is None:
                    near = self._near(moment, AVERAGED)
                    at.speed = ways.speed(at, [(m.number - moment.number, look(m)) for _, m in near])
            looks = [look(m) for m in between]
            expected = ways.along(looks if here.number < there.number else looks[::-1])
        return ways.between(look(here), look(there), inside(), expected)
