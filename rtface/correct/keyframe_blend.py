"""Blends a heavy engine's keyframes with a light engine's answers between them.

Every frame has an answer s of the light engine, kept steady by the engine's memory. Keyframes k also have an answer r
of the heavy engine. r is carried to other frames along the motion of s, which is cleaner than the input:

    h = warp(r_k) + low(s − warp(s_k))          r̂ = g·h + (1 − g)·s

Here low(…) are the low frequencies, which light and codecs change; they come from the steadier engine. The gate g falls
to 0 where s and the warped s_k differ: blink, mouth, a hand. Then r̂ is shaped like any engine's answer.

The carried answer is wrong where the motion is not exact to the pixel. The output without it, b = c + s − c↓, is wrong
where the heavy engine would change it. E = (r_k − b_k)² is the local mean square of that change. W = (h − b)² is the
local mean square of the carried change: E plus the error of the motion. The carried change is weighted by E/W (Wiener's
weight of two estimates): 1 on a degraded film, almost 0 on a clean film, which keeps its detail.

In a film, h comes from the two previous keyframes and the next one, weighted by distance and gate, so
that there is no step at a keyframe. Both s and the heavy engine's crop at a keyframe are gated
averages of some frames before and after, along their motion (`temporally_averaged`). These averages
are steadier, so motion estimated again on them is nearer to the truth, and r_k is carried along that
motion. r̂ is averaged along it too, with the neighbouring frames' r̂, as far as these differ less than
the film itself does (`flicker_ratio`): this removes errors of single frames.

The heavy engine adds r − s to the light engine's answer. This addition counts only as far as it is consistent, because
a network without memory decides again on every frame. In two bands, of low and of middle frequencies, the addition is
compared with the previous keyframe's. Let P be the local mean of their product, and T that of their squares. The share
¾·P/T of the addition is kept (`take_key_output`), because in these bands the light engine, which has a memory, is
nearer to the truth. The finest structure is kept as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from rtface.correct.colour import low_frequencies
from rtface.correct.correspondence import SIDE, FaceFeatures, Warp, energy, resized
from rtface.correct.motion import shifted
from rtface.frame import Box, Float32

AVERAGED_FRAMES, SHOWN_FRAMES = 3, 2
"""Half widths, in frames, of the temporal averages of the light engine's answers and of the output."""
AHEAD_FRAMES = SHOWN_FRAMES + 2 * AVERAGED_FRAMES
"""Look-ahead of a film in frames: the output window plus twice the input window."""
_WEIGHT_SD_FRAMES = 2.0  # standard deviation of the averages' weights
_BAND_CELLS = (32, 128)  # cells a side that hold the low frequencies, and also the middle ones
_CHANGE_SHARE = 0.75  # share that is kept of the additions on which both keyframes agree
_MEAN_SD_SAMPLES = 5.0  # standard deviation of the local mean over a small crop
_AVERAGING_RATIO = 1.0  # ratio of input to output frame difference at which temporal averaging of the output starts
_UNSEEN_MEAN_SQUARE = 1e-7  # mean square of a difference that cannot be seen


@dataclass(frozen=True, slots=True)
class Key:
    """A keyframe that is shown on its frame or another.

    Attributes:
        share: share of this keyframe; shares of all keyframes shown add up to 1.
        features: features of the keyframe, with `key`.
        light: float32 3×n×n, the light engine's answer on the keyframe, as used.
        warp: the warp to the keyframe; None on its own frame.
        moved: float32 3×h×w, `features.key` moved along the warp, in the shown box; None if it is not
            moved yet.
    """

    share: float
    features: FaceFeatures
    light: Float32
    warp: Warp | None
    moved: Float32 | None = None


def temporally_averaged(
    image: Float32, others: Sequence[tuple[int, Float32, Warp]], error: Float32, box: Box = (0, 0, SIDE, SIDE)
) -> Float32:
    """Averages a face's image with those of neighbouring frames, float32 3×n×n.

    Other images count as far as they differ from this one no more than two images with its error would. So motion that
    is not exact to the pixel does not blur a clean film.

    Args:
        image: float32 3×n×n; not changed.
        others: distance in frames, image, and the warp to it.
        error: float32 SIDE×SIDE, mean square, estimated error of the image.
        box: x0, y0, x1, y1 in samples of SIDE×SIDE: the part to average; the rest stays as it is.
    """
    (x0, y0, x1, y1), k = box, image.shape[1] // SIDE
    few, size = (x1 - x0, y1 - y0), (k * (x1 - x0), k * (y1 - y0))
    part, inner = np.s_[y0:y1, x0:x1], np.s_[:, y0 * k : y1 * k, x0 * k : x1 * k]
    out = image.copy()
    total, weights = out[inner], np.ones(size[::-1], np.float32)
    for distance, other, warp in others:
        share, moved = np.float32(np.exp(-0.5 * (distance / _WEIGHT_SD_FRAMES) ** 2)), warp.fetch(other, box)
        change = [cv2.subtract(there, here) for there, here in zip(moved, image[inner], strict=True)]
        gate = warp.gate[part] * _explained(2.0 * error[part], energy(change, few))
        weight: Any = cv2.resize(gate, size, interpolation=cv2.INTER_LINEAR) * share
        cv2.add(weights, weight, dst=weights)
        for plane, there in zip(total, moved, strict=True):
            cv2.add(plane, cv2.multiply(there, weight), dst=plane)
    for plane in total:
        cv2.divide(plane, weights, dst=plane)
    return out


def flicker_ratio(seen: Float32, left: Float32) -> Float32:
    """Returns how far two frames differ by flicker, 0…1. The rest is due to inexact motion: enhancement reduces
    flicker, but keeps differences by motion.

    Args:
        seen, left: float32 SIDE×SIDE, mean square difference of two frames along their motion, in the input and in the
            output.
    """
    return cast(
        Float32,
        np.clip((seen + _UNSEEN_MEAN_SQUARE) / (left + _UNSEEN_MEAN_SQUARE) - np.float32(_AVERAGING_RATIO), 0.0, 1.0),
    )


def take_key_output(
    features: FaceFeatures, output: Float32, base: Float32, earlier: tuple[FaceFeatures, Warp] | None
) -> None:
    """Stores the heavy engine's answer of a keyframe: sets `key`, `added`, `changed`.

    Args:
        features: features of a keyframe, with `light`.
        output: the answer, float32 3×S×S; not changed.
        base: float32 3×S×S, see `base_image`.
        earlier: the previous keyframe, and the warp to it; None to keep the whole answer.
    """
    assert features.light is not None
    size = features.light.shape[1]
    features.key, features.added = output, resized(output, size) - features.light
    if earlier is not None and earlier[0].added is not None:
        features.key = output - resized(_chance(features.added, earlier[0].added, earlier[1]), output.shape[1])
    features.changed = energy(features.key - base)


def _chance(added: Float32, before: Float32, warp: Warp) -> Float32:
    """Returns the part of the addition that disagrees with the previous keyframe's."""
    size = added.shape[1]
    gate: Any = cv2.resize(warp.gate, (size, size), interpolation=cv2.INTER_LINEAR)
    chance = np.zeros_like(added)
    for here, there in zip(_bands(added), _bands(warp.fetch(before)), strict=True):
        both: Any = sum(_around(a * b * gate) for a, b in zip(here, there, strict=True))
        each: Any = sum(_around((a * a + b * b) * (0.5 * gate)) for a, b in zip(here, there, strict=True))
        # Where the gate is closed there is no comparison, and the addition is trusted as if both agreed.
        chance += (1.0 - np.float32(_CHANGE_SHARE) * _explained(both, each)) * here
    return chance


def base_image(crop: Float32, light_crop: Float32, light: Float32) -> Float32:
    """Returns the output without a keyframe: crop plus the light engine's change. It is float32 3×h×w; the
    arguments are the same part of each image."""
    out, size = np.empty(crop.shape, np.float32), (crop.shape[2], crop.shape[1])
    for to, c, a, b in zip(out, crop, light, light_crop, strict=True):
        cv2.add(c, cv2.resize(cv2.subtract(a, b), size, interpolation=cv2.INTER_LINEAR), dst=to)
    return out


def blended_with_keys(
    crop: Float32,
    light_crop: Float32,
    light: Float32,
    keys: Sequence[Key],
    weight: float = 1.0,
    box: Box = (0, 0, SIDE, SIDE),
) -> Float32:
    """Returns r̂ of the module's docstring.

    Args:
        crop: float32 3×S×S, the heavy engine's crop of this frame.
        light_crop: float32 3×n×n, the light engine's crop of this frame.
        light: float32 3×n×n, the light engine's answer on this frame, as used.
        keys: see `Key`.
        weight: weight of all keyframes, 0…1.
        box: x0, y0, x1, y1 in samples of SIDE×SIDE: the part to blend; the rest of the result is the crop.

    Returns:
        float32 3×S×S.
    """
    x0, y0, x1, y1 = box
    k, n = crop.shape[1] // SIDE, light.shape[1] // SIDE
    few, size = (x1 - x0, y1 - y0), (k * (x1 - x0), k * (y1 - y0))
    part, inner = (np.s_[:, y0 * m : y1 * m, x0 * m : x1 * m] for m in (k, n))
    out = crop.copy()
    out[part] = base = base_image(crop[part], light_crop[inner], light[inner])
    gates = [np.ones((SIDE, SIDE), np.float32) if key.warp is None else key.warp.gate for key in keys]
    shares = [np.float32(key.share) * gate for key, gate in zip(keys, gates, strict=True)]
    total, opened = np.full((SIDE, SIDE), 1e-6, np.float32), np.ones((SIDE, SIDE), np.float32)
    for share, gate in zip(shares, gates, strict=True):
        total += share
        opened *= 1.0 - gate
    opened = np.float32(weight) * (1.0 - opened) / total
    for key, share in zip(keys, shares, strict=True):
        assert key.features.key is not None and key.features.changed is not None
        counts = (share * opened)[y0:y1, x0:x1]
        moved = key.moved
        if moved is None:
            moved = key.features.key[part] if key.warp is None else key.warp.fetch(key.features.key, box)
        # In place, plane by plane: on whole arrays these lines are bound by memory, and take three times as long.
        change = np.empty_like(base)
        for to, there, here in zip(change, moved, base, strict=True):
            cv2.subtract(there, here, dst=to)
        if key.warp is not None:
            lows = resized(low_frequencies(resized(light, SIDE) - key.warp.fetch(resized(key.light, SIDE))), SIDE)
            for plane, low in zip(change, lows, strict=True):
                cv2.add(plane, cv2.resize(low[y0:y1, x0:x1], size, interpolation=cv2.INTER_LINEAR), dst=plane)
            there = key.features.changed if key.warp.flow is None else shifted(key.features.changed, key.warp.flow)
            counts = counts * _explained(there[y0:y1, x0:x1], energy(change, few))
        much = cv2.resize(counts, size, interpolation=cv2.INTER_LINEAR)
        for to, plane in zip(out[part], change, strict=True):
            cv2.add(to, cv2.multiply(plane, much, dst=plane), dst=to)
    return out


def _explained(expected: Float32, measured: Float32) -> Float32:
    """Returns the ratio of expected to measured mean square, 0…1."""
    return cast(Float32, np.clip((expected + _UNSEEN_MEAN_SQUARE) / (measured + _UNSEEN_MEAN_SQUARE), 0.0, 1.0))


def _bands(image: Float32) -> list[Float32]:
    """Returns low and middle frequencies of an image."""
    low, middle = (resized(low_frequencies(image, cells), image.shape[1]) for cells in _BAND_CELLS)
    return [low, middle - low]


def _around(values: Float32) -> Float32:
    return cast(Float32, cv2.GaussianBlur(values, (0, 0), _MEAN_SD_SAMPLES))
