"""A face on one frame, for the keyframe scheduler (`rtface.enhance.keyframes.scheduler`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from rtface.correct.correspondence import FaceFeatures, Warp, energy
from rtface.correct.keyframe_blend import base_image, take_key_output
from rtface.errors import EngineError
from rtface.frame import Box, Crops, Float32
from rtface.protocols import Restored

Submit = Callable[[Float32], Future[Restored[Float32]]]


@dataclass(slots=True, eq=False)
class FaceSample:
    """A face on one frame.

    Attributes:
        time: seconds.
        crops: input of the heavy engine on keyframes; its answer has the same size.
        light_crops: input of the light engine.
        light: the light engine's answer.
        key: the heavy engine's answer; None between keyframes, and before submission.
        submit: submits a crop, float32 1×3×S×S, to the heavy engine; None between keyframes, and after the call.
        number: index of the frame in its track.
        shown: time of the first frame in which `key` was shown.
        clear: features of `light`, averaged with those of the neighbouring frames; None until needed.
        draft: the output before averaging with the neighbouring frames, float32 3×S×S, and the box in which it was
            computed; None while no draft is needed.
        shares: for each keyframe used: its share, the keyframe, the warp to it, and its warped answer. Set by
            `KeyframeTrack.prepare`.
        weight: weight of all keyframes together; set by `KeyframeTrack.prepare`.
    """

    time: float
    crops: Crops[Float32]
    light_crops: Crops[Float32]
    light: Future[Restored[Float32]]
    key: Future[Restored[Float32]] | None = None
    submit: Submit | None = None
    number: int = 0
    shown: float | None = None
    clear: FaceFeatures | None = None
    draft: tuple[Float32, Box] | None = None
    shares: list[tuple[float, FaceSample, Warp | None, Float32 | None]] = field(
        default_factory=list["tuple[float, FaceSample, Warp | None, Float32 | None]"]
    )
    weight: float = 1.0
    _features: FaceFeatures | None = None

    def features(self, *, wait: bool) -> FaceFeatures:
        """Returns the features. With `wait`, waits for the light engine, and raises the engine's error."""
        if self._features is None:
            if wait:
                output = self.light.result().pixels[0]
                self._features = FaceFeatures(self.time, output, output)
            else:
                self._features = FaceFeatures(self.time, self.light_crops.pixels[0])
        return self._features

    def error(self) -> Float32:
        """Returns the light engine's mean square change, float32 SIDE×SIDE. Waits for the light engine."""
        return energy(self.features(wait=True).guide - self.light_crops.pixels[0])

    def take(self, features: FaceFeatures, earlier: tuple[FaceFeatures, Warp] | None) -> None:
        """Waits for the heavy engine's answer, if any, and stores the answer. Raises the engine's error only once.
        `earlier`: as for `take_key_output`."""
        if self.key is not None and features.key is None:
            try:
                features.light = light = self.light.result().pixels[0]
                output = self.key.result().pixels[0]
                if not math.isfinite(float(output.sum())):
                    raise EngineError(
                        "an engine's answer contains NaN or infinite values and is not used", code="crop_not_finite"
                    )
            except BaseException:
                self.key = None
                raise
            base = base_image(self.crops.pixels[0], self.light_crops.pixels[0], light)
            take_key_output(features, output, base, earlier)
