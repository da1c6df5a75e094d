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
        crops: input of the heavy engine on keyframes; the output has the same size.
        light_crops: input of the light engine.
        light: the light engine's answer.
        key: the heavy engine's answer; None between keyframes, and before it is submitted.
        submit: submits a crop, float32 1×3×S×S, to the heavy engine; None after that, and between keyframes.
        number: index of the frame in its track.
        shown: time of the first frame that was shown with `key`.
        clear: features of `light`, averaged with those of the neighbouring frames; None until needed.
        draft: the output before it is averaged with the neighbouring frames, float32 3×S×S, and the box in which
            it is computed; None while it is not needed.
        shares, weight: results of `KeyframeTrack.prepare`: a share, the keyframe, the warp to it and its warped answer,
            for each keyframe; and the weight of all keyframes together.
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
        """Returns the features. With `wait` it waits for the light engine, and raises its error."""
        if self._features is None:
            if wait:
                output = self.light.result().pixels[0]
                self._features = FaceFeatures(self.time, output, output)
            else:
                self._features = FaceFeatures(self.time, self.light_crops.pixels[0])
        return self._features

    def error(self) -> Float32:
        """Returns the light engine's mean square change, float32 SIDE×SIDE. Waits for that engine."""
        return energy(self.features(wait=True).guide - self.light_crops.pixels[0])

    def take(self, features: FaceFeatures, earlier: tuple[FaceFeatures, Warp] | None) -> None:
        """Waits for the heavy engine's answer, if any, and stores it. Raises the engine's error only the first time.
        `earlier`: as for `take_key_output`."""
        if self.key is not None and features.key is None:
            try:
                features.light = light = self.light.result().pixels[0]
                output = self.key.result().pixels[0]
                if not math.isfinite(float(output.sum())):
                    raise EngineError(
                        "an engine's answer holds values that are not numbers; it is not used", code="crop_not_finite"
                    )
            except BaseException:
                self.key = None
                raise
            base = base_image(self.crops.pixels[0], self.light_crops.pixels[0], light)
            take_key_output(features, output, base, earlier)
