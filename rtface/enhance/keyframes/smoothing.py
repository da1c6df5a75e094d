"""Averages a face's crops and answers with those of neighbouring frames. Used for keyframes of films, because films
look ahead (`rtface.enhance.keyframes.scheduler`)."""

from __future__ import annotations

from collections.abc import Callable

from rtface.correct.correspondence import SIDE, FaceFeatures, Warp, energy, flow_along, resized, speed_of, warp_between
from rtface.correct.keyframe_blend import AVERAGED_FRAMES, SHOWN_FRAMES, flicker_ratio, temporally_averaged
from rtface.enhance.keyframes.sample import FaceSample
from rtface.frame import Box, Float32


class NeighbourSmoother:
    """Averages along motion, which is estimated twice: between answers, and then more finely between averaged answers.

    Args:
        samples: samples of one track, in order; the scheduler changes this list.
    """

    def __init__(self, samples: list[FaceSample]) -> None:
        self._samples = samples

    def crop(self, sample: FaceSample) -> Float32:
        """Returns the heavy engine's crop, averaged with the neighbours' crops, float32 1×3×S×S."""
        warps = self._rough_warps(sample)
        self._average_features(sample, warps)  # computed now, because it needs the same warps
        return temporally_averaged(
            sample.crops.pixels[0], [(n, m.crops.pixels[0], warp) for n, m, warp in warps], sample.error()
        )[None]

    def clear(self, sample: FaceSample) -> FaceFeatures:
        """Returns features of the light engine's answer, averaged with the neighbours' answers."""
        return sample.clear or self._average_features(sample, self._rough_warps(sample))

    def _average_features(self, sample: FaceSample, warps: list[tuple[int, FaceSample, Warp]]) -> FaceFeatures:
        around = [(n, m.features(wait=True).guide, warp) for n, m, warp in warps]
        guide = temporally_averaged(sample.features(wait=True).guide, around, sample.error())
        sample.clear = FaceFeatures(sample.time, guide)
        return sample.clear

    def warp(self, sample: FaceSample, other: FaceSample) -> Warp:
        """Returns the warp from one sample to another, between averaged features."""
        return self._between(self.clear, sample, other, fine=True)

    def shown(self, sample: FaceSample, draft: Callable[[FaceSample], Float32], box: Box) -> Float32:
        """Returns a sample's output, float32 3×S×S: its draft averaged with the neighbours' drafts.

        Args:
            sample: a sample of the track.
            draft: function that returns a sample's output before averaging, float32 3×S×S.
            box: as for `temporally_averaged`.
        """
        image, around = draft(sample), list[tuple[int, Float32, Warp]]()
        images = [resized(sample.light_crops.pixels[0], SIDE), resized(image, SIDE)]
        for n, m in self._neighbours(sample, SHOWN_FRAMES):
            warp, other = self.warp(sample, m), draft(m)
            input_change, output_change = (
                energy(a - warp.fetch(resized(b, SIDE)))
                for a, b in zip(images, (m.light_crops.pixels[0], other), strict=True)
            )
            around.append((n, other, Warp(warp.flow, warp.gate * flicker_ratio(input_change, output_change))))
        return temporally_averaged(image, around, sample.error(), box)

    def _neighbours(self, sample: FaceSample, reach: int) -> list[tuple[int, FaceSample]]:
        """Returns neighbours up to `reach` frames away, with their distance in frames."""
        distances = [(abs(m.number - sample.number), m) for m in self._samples]
        return [(n, m) for n, m in distances if 0 < n <= reach]

    def _rough_warps(self, sample: FaceSample) -> list[tuple[int, FaceSample, Warp]]:
        """Returns each neighbour's distance, sample, and warp between unaveraged answers."""
        return [
            (n, m, self._between(lambda at: at.features(wait=True), sample, m))
            for n, m in self._neighbours(sample, AVERAGED_FRAMES)
        ]

    def _between(
        self,
        features: Callable[[FaceSample], FaceFeatures],
        start: FaceSample,
        end: FaceSample,
        *,
        fine: bool = False,
    ) -> Warp:
        low, high = sorted((start.number, end.number))
        between = [m for m in self._samples if low <= m.number <= high]
        expected = None
        if len(between) == high - low + 1:  # no sample was dropped
            for sample in between:
                at = features(sample)
                if at.speed is None:
                    neighbours = self._neighbours(sample, AVERAGED_FRAMES)
                    at.speed = speed_of(at, [(m.number - sample.number, features(m)) for _, m in neighbours], fine=fine)
            sequence = [features(m) for m in between]
            expected = flow_along(sequence if start.number < end.number else sequence[::-1])
        return warp_between(features(start), features(end), expected, fine=fine)
