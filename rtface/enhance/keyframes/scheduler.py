"""Schedules a heavy engine on keyframes, a light engine on every frame.

The scheduler decides when the heavy engine runs, and which crops and answers are kept. `rtface.correct.keyframe_blend`
blends the answers. A film waits for both engines, and looks ahead to the next keyframe. A live run waits for the light
engine only. When the heavy engine has answered, its answer fades in, moved along optical flow, and the next keyframe is
submitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rtface.correct.correspondence import FACE, SIDE, Warp, warp_between
from rtface.correct.keyframe_blend import AVERAGED_FRAMES, SHOWN_FRAMES, Key, blended_with_keys
from rtface.enhance.keyframes.sample import FaceSample
from rtface.enhance.keyframes.smoothing import NeighbourSmoother
from rtface.enhance.mode import Mode
from rtface.frame import Box, Float32
from rtface.protocols import Engine, Restored

_AUTO_INTERVAL_FRAMES = 8
_MIN_FITTING_SHARE = 0.5  # if a smaller share of a face matches the last keyframe, a new keyframe is due
_FADE_S = 0.2  # maximum duration of the fade-in of a keyframe's answer
_MARGIN_SAMPLES = 4  # margin round the shown part of a face, because it moves a little from frame to frame
_EARLIER_SHARE = 0.5  # share of the previous keyframe's answer in a film's output at a keyframe
_MAX_AGE_S, _AGEING_S = 4.0, 1.0  # age at which a keyframe is dropped, and duration of the fade-out before it


def spacing(keyframe: int | str, engine: Engine) -> int:
    """Returns the keyframe interval of a film, in frames. With "auto", it is 8 for heavy engines and 1 for others.

    Heavy recurrent engines get 1 too, because keyframes would cost them more quality than they gain.
    """
    if isinstance(keyframe, int):
        return keyframe
    return _AUTO_INTERVAL_FRAMES if engine.heavy and not engine.recurrent else 1


class KeyframeTrack:
    """The keyframes of one track.

    Args:
        mode: mode of the run.

    Attributes:
        samples: samples of the track, from the oldest keyframe still in use to the newest frame.
    """

    def __init__(self, mode: Mode) -> None:
        self.samples: list[FaceSample] = []
        self._film, self._wait = mode is Mode.FILM, mode is not Mode.LIVE
        self._smoother = NeighbourSmoother(self.samples)
        self._count = 0

    @property
    def last(self) -> FaceSample | None:
        """The newest keyframe, submitted or about to be."""
        return next((m for m in reversed(self.samples) if m.key is not None or m.submit is not None), None)

    def add(self, sample: FaceSample) -> None:
        """Adds the next frame, and submits keyframes that are ready."""
        self._count += 1
        sample.number = self._count
        self.samples.append(sample)
        self._submit([m for m in self.samples if not self._film or self._count - m.number >= AVERAGED_FRAMES])

    def _submit(self, samples: Sequence[FaceSample]) -> None:
        for sample in samples:
            if sample.submit is not None:
                submit, sample.submit = sample.submit, None
                crop = self._smoother.crop(sample) if self._film else sample.crops.pixels
                sample.key = submit(crop)

    def due(self, sample: FaceSample, every: int) -> bool:
        """Returns whether a frame should be a keyframe. Waits for the light engine. For runs that wait for engines."""
        last = self.last
        if last is None or not 0.0 <= sample.time - last.time <= _MAX_AGE_S:
            return True
        distance = self._count + 1 - last.number
        if distance >= every:
            return True
        if distance < max(2, every // 3):
            return False
        return float((self._direct_warp(sample, last).gate * FACE).sum()) < _MIN_FITTING_SHARE * float(FACE.sum())

    def free(self, time: float, every: int, period: float) -> bool:
        """Returns whether the heavy engine may get a new keyframe. For runs that do not wait for the heavy engine."""
        last = self.last
        return last is None or (last.key is not None and last.key.done() and time - last.time > (every - 0.5) * period)

    def prepare(self, sample: FaceSample, box: Box) -> None:
        """Prepares the keyframes for `restored`. A live run does not wait for the light engine here.

        Args:
            sample: the newest of `samples`; in a film, any of them.
            box: the part of the crop that is shown: x0, y0, x1, y1 on a grid of SIDE×SIDE.
        """
        if not self._film:  # a film prepares in `_draft`
            self._prepare(sample, box)

    def restored(self, sample: FaceSample, box: Box, weight: float = 1.0) -> Restored[Float32]:
        """Returns a prepared face's output, and drops samples no longer needed. Waits for the light engine.

        Args:
            sample, box: as for `prepare`.
            weight: weight of the heavy engine, 0…1; ignored in a film.
        """
        light = sample.light.result()
        pixels = (
            self._smoother.shown(sample, lambda m: self._draft(m, box), box)
            if self._film
            else self._blend(sample, box, weight)
        )
        self._forget(sample, {key for _, key, *_ in sample.shares})
        sample.shares = []
        occlusion = None
        if isinstance(light.occlusion, np.ndarray):
            size = pixels.shape[1:]
            occlusion = cv2.resize(light.occlusion[0], size, interpolation=cv2.INTER_LINEAR)[None]
        return Restored(pixels[None], occlusion=occlusion)

    def _draft(self, sample: FaceSample, box: Box) -> Float32:
        """Returns a film's output for one frame, before averaging. Computed once, unless the face leaves its box."""
        if sample.draft is None or not _is_within(box, sample.draft[1]):
            x0, y0, x1, y1 = box
            box = (
                max(0, x0 - _MARGIN_SAMPLES),
                max(0, y0 - _MARGIN_SAMPLES),
                min(SIDE, x1 + _MARGIN_SAMPLES),
                min(SIDE, y1 + _MARGIN_SAMPLES),
            )
            self._prepare(sample, box)
            sample.draft = self._blend(sample, box, 1.0), box
            sample.shares = [(share, key, None, None) for share, key, *_ in sample.shares]
        return sample.draft[0]

    def _prepare(self, sample: FaceSample, box: Box) -> None:
        wait = self._wait
        usable = [m for m in self.samples if abs(m.time - sample.time) <= _MAX_AGE_S]  # empty after `TrackState.forget`
        submitted = [m for m in usable if m.key is not None or m.submit is not None]
        earlier = [m for m in submitted if m.number <= sample.number]
        later = next((m for m in submitted if m.number > sample.number), None) if self._film else None
        self._submit(earlier if later is None else [*earlier, later])  # a film's last keyframes are not submitted yet
        earlier = [m for m in earlier if wait or (m.key is not None and m.key.done())]
        self._store_answers(earlier if later is None else [*earlier, later])
        sample.shares = []
        for share, key in self._key_shares(sample, earlier, later):
            warp = None if key is sample else self._warp(sample, key)
            features = key.features(wait=wait)
            features.show_at(sample.crops.size)  # the governor may have changed the size just now
            assert features.key is not None
            sample.shares.append((share, key, warp, None if warp is None else warp.fetch(features.key, box)))
        # In a live run, the first keyframe fades in, because only the light engine was shown before.
        sample.weight = _fade_share(earlier[0], sample) if not wait and len(earlier) == 1 else 1.0
        if not wait and earlier:
            sample.weight *= min(1.0, (earlier[-1].time + _MAX_AGE_S - sample.time) / _AGEING_S)

    def _blend(self, sample: FaceSample, box: Box, weight: float) -> Float32:
        """Blends the keyframes' answers with the light engine's, for a prepared sample."""
        film, wait = self._film, self._wait
        sample.features(wait=wait).light = output = sample.light.result().pixels[0]
        keys: list[Key] = []
        for share, key, warp, warped in sample.shares:
            features = key.features(wait=wait)
            assert features.light is not None
            guide = self._smoother.clear(key).guide if film else features.light
            keys.append(Key(share, features, guide, warp, warped))
        light = self._smoother.clear(sample).guide if film else output
        return blended_with_keys(
            sample.crops.pixels[0], sample.light_crops.pixels[0], light, keys, weight * sample.weight, box
        )

    def _store_answers(self, keys: list[FaceSample]) -> None:
        """Stores the keyframes' answers in order. Removes random differences between successive answers."""
        for k, key in enumerate(keys):
            features = key.features(wait=self._wait)
            if features.key is None:
                earlier = keys[k - 1] if k else None
                key.take(features, (earlier.features(wait=self._wait), self._warp(key, earlier)) if earlier else None)

    def _key_shares(
        self, sample: FaceSample, earlier: list[FaceSample], later: FaceSample | None
    ) -> list[tuple[float, FaceSample]]:
        """Returns weights and keyframes. In a film, nearer keyframes get more weight, and the second to last keyframe
        gets a share, so that no keyframe is shown alone. In other runs, the last keyframe fades in."""
        if not earlier:
            return []
        last, lag = earlier[-1], _EARLIER_SHARE if len(earlier) > 1 else 0.0
        if self._film:
            shares, share = {last: 1.0 - lag}, 0.0
            if later is not None:
                share = (sample.time - last.time) / max(later.time - last.time, 1e-6)
                shares = {last: (1.0 - lag) * (1.0 - share) + lag * share, later: (1.0 - lag) * share}
            if lag:
                shares[earlier[-2]] = lag * (1.0 - share)
            return [(share, key) for key, share in shares.items() if share > 0.0]
        share = _fade_share(last, sample, earlier[-2].time if len(earlier) > 1 else None)
        return [(1.0, last)] if share >= 1.0 or len(earlier) == 1 else [(1.0 - share, earlier[-2]), (share, last)]

    def _warp(self, sample: FaceSample, other: FaceSample) -> Warp:
        return self._smoother.warp(sample, other) if self._film else self._direct_warp(sample, other)

    def _direct_warp(self, sample: FaceSample, other: FaceSample) -> Warp:
        return warp_between(sample.features(wait=self._wait), other.features(wait=self._wait))

    def _forget(self, sample: FaceSample, used: set[FaceSample]) -> None:
        """Drops old samples. Used and pending keyframes stay, and neighbours for averaging."""
        first = min((m.number for m in used), default=sample.number)
        since = min(first, sample.number - AVERAGED_FRAMES + 1) if self._film else sample.number
        self.samples[:] = [
            m for m in self.samples if m.number >= since or m in used or (m.key is not None and not m.key.done())
        ]
        for old in self.samples:
            if old.number <= sample.number - SHOWN_FRAMES:
                old.draft = None


def _fade_share(key: FaceSample, sample: FaceSample, previous_time: float | None = None) -> float:
    """Returns how far a keyframe's answer has faded in, 0…1. The fade starts when the answer is first shown, and lasts
    at most half of the time between the previous keyframe (at `previous_time`) and this keyframe."""
    if key.shown is None:
        key.shown = sample.time
    duration = _FADE_S if previous_time is None else min(_FADE_S, 0.5 * (key.time - previous_time))
    return min(1.0, (sample.time - key.shown + 0.02) / max(duration, 1e-3))


def _is_within(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]
