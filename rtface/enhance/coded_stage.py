"""The first stage: removes coding artefacts and noise from a face or head.

It works on the samples at the encoded resolution, where the codec's block grid is intact, before anything is scaled.
The face engine then gets the corrected frame. The stage's network (`rtface.protocols.CodedNetwork`) also predicts the
errors before and after its correction, from which `rtface.analysis.treatment` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from rtface.analysis.measure import Analysis, compression_of
from rtface.concurrency.threads import call_in_thread
from rtface.correct.colour import luma_of
from rtface.correct.degrain import grain_of, power_between
from rtface.enhance.coded_place import (
    CELL,
    CODEC_TRAITS,
    HEAD,
    MULTIPLE,
    CodecTraits,
    Place,
    calm_of,
    masks_of,
    picture_of,
    place_of,
    place_within,
    rows_of,
)
from rtface.errors import Message
from rtface.frame import Box, Bytes, Face, Float, Float32, Frame
from rtface.geometry.alignment import as_read
from rtface.geometry.transforms import (
    bounds,
    compose,
    invert,
)
from rtface.protocols import CodedNetwork, Correction, Device, View
from rtface.stats import Stats
from rtface.util.av_gpu import on_gpu

MEASURED = 256
"""Longest side of the part of a face that is measured."""
_LARGEST_GRAIN_SAMPLES, _GRAIN_EDGE, _KEPT_GRAIN_SHARE = 2048, (0.8, 1.14), 0.9
"""Grain is removed from heads up to this longest side. The second value is `head_shape`'s edge for it. The third is the
share by which the estimated power may fall from one frame to the next."""
_MAX_UNUSED_FRAMES = 2
"""After this many `begin` without `process`, the first stage is not in use, and `begin` does nothing."""
_GPU_WARNING = Message(
    "frames decoded on the GPU skip the first stage, and their compression is unknown, so faces are "
    "corrected less; omit {--decode:cuda} for the full correction",
    code="first_stage_gpu",
)


class StageStrength(NamedTuple):
    """Strengths of the correction of luma and of colour, each 0…1."""

    luma: float = 0.0
    colour: float = 0.0


Cleaned = tuple[Face, StageStrength, StageStrength]
"""A face, the first stage's strength inside its oval, and the strength round it."""


MakeCorrection = Callable[[Float32, Float32, Float], Correction]
"""Makes a correction from a masked change (float32 h×w×3), its mask (h×w) and the matrix display → change pixels."""


PlaceKey = tuple[float, int, int | None, Box]
"""Time, image (`id`) and field of a frame, and a place on it: x, y, width, height."""
Output = Future[tuple[Bytes, tuple[Float32, Float32]]]
"""The picture of a place, and the network's output for it."""
HeadGrain = tuple[Place, Bytes, float | None]
"""The place of a head on the previous frame, the picture of that place, and an upper bound of its grain's power."""


class CodedStage:
    """Corrects the faces of each frame, in order, and measures their gain.

    Not for use from several threads.

    Args:
        network: removes coding artefacts from a picture.
        light: a network at 0.6 of the cost, for live runs that have no time for `network`.
        device: composites in host memory.
        make_correction: makes corrections for `device`.
        stats: counts `crops:coded` and `crops:coded-light`, and gets a warning if frames skip this stage.
    """

    def __init__(
        self,
        network: CodedNetwork,
        device: Device,
        make_correction: MakeCorrection,
        stats: Stats,
        light: CodedNetwork | None = None,
    ) -> None:
        self._network, self._light = network, light or network
        self._device, self._make, self._stats = device, make_correction, stats
        self._network_lock, self._unprocessed = Lock(), 0
        self._last: dict[int, tuple[bool, bool]] = {}  # by track of the last frame: corrected inside its oval, round it
        self._grain = dict[int, HeadGrain]()  # by track of the last frame
        self._outputs, self._next_outputs = dict[PlaceKey, Output](), dict[PlaceKey, Output]()

    def measure(self, view: View, frame: Frame, face: Face, analysis: Analysis) -> Analysis:
        """Adds predicted errors to an analysis: on and round the face, before and after correction."""
        return self.measurement(view, frame, face, analysis)()

    def measurement(self, view: View, frame: Frame, face: Face, analysis: Analysis) -> Callable[[], Analysis]:
        """Returns a function that finishes `measure`. Any thread may call it."""
        self._skips(frame)
        place = place_of(frame, face, HEAD, MEASURED)
        infer = self._inference(self._network, view, frame, place)
        steps = place.steps(frame.quantisers, rows_of(frame))
        codec = CODEC_TRAITS.get(frame.quantisers.codec if frame.quantisers is not None else "", CodecTraits())
        face_alone = codec.face_alone or place_within(frame, face, False, True)[0] is None

        def measure() -> Analysis:
            picture, (_, (before, after)) = infer()
            oval, head, calm = map(_cell_means, (*masks_of(face, place), calm_of(picture)))
            ring: Any = head * (np.float32(1.0) - oval)
            step, compression = 0.0, analysis.compression
            if steps is not None:
                step = float(2.0 ** _mean(steps, oval))
                compression = compression_of(step)
            else:  # next to text, the network predicts errors that do not exist
                share = np.float32(_mean(calm, ring) if ring.any() else 1.0)
                before, after = before * share, after * share
            ring *= calm
            return replace(
                analysis,
                compression=compression,
                step=step,
                unreached=codec.unreached,
                error=_mean(before, oval),
                remaining=_mean(after, oval),
                ring_error=_mean(before, ring),
                ring_remaining=_mean(before if face_alone else after, ring),
            )

        return measure

    def begin(self, frame: Frame) -> bool:
        """Starts the network in a thread, for the faces corrected last. Called before `process` of the previous frame.
        If a face's place has changed by the time of `process`, `process` runs the network again.

        Returns:
            Whether anything was started.
        """
        self._outputs, self._next_outputs, self._unprocessed = self._next_outputs, {}, self._unprocessed + 1
        faces = [face for face in frame.faces if face.track_id in self._last]
        if not faces or self._unprocessed > _MAX_UNUSED_FRAMES or on_gpu(frame.image):
            return False
        try:
            for face in faces:
                read, read_face, _ = as_read(frame, face)
                place, _ = place_within(read, read_face, *self._last[face.track_id])
                if place is not None:
                    picture = picture_of(self._device.view(read), place)
                    steps = place.steps(read.quantisers, rows_of(read))
                    self._next_outputs[_place_key(read, place)] = call_in_thread(
                        "first-stage", self._infer, self._network, picture, steps, awaited=True
                    )
        except Exception:  # noqa: BLE001 - `process` of this frame raises it again
            self._next_outputs = {}
        return bool(self._next_outputs)

    def process(self, frame: Frame, faces: Sequence[Cleaned], *, light: bool = False) -> Frame:
        """Returns the frame with its faces corrected.

        Args:
            faces: faces to correct.
            light: whether the light network corrects them.
        """
        if self._skips(frame):
            return frame
        corrections = list[Correction]()
        boxes: list[Any] = []
        self._last, self._unprocessed = {face.track_id: (any(inside), any(around)) for face, inside, around in faces}, 0
        for face, inside, around in faces:
            read, read_face, to_read = as_read(frame, face)
            place, head_too = place_within(read, read_face, *self._last[face.track_id])
            if place is None:
                continue
            view, network = self._device.view(read), self._light if light else self._network
            picture, (change, _) = self._inference(network, view, read, place)()
            oval, head = masks_of(read_face, place)
            ring: Any = head * (np.float32(1.0) - oval) * calm_of(picture) if head_too else 0.0
            luma, colour = (oval * np.float32(a) + ring * np.float32(b) for a, b in zip(inside, around, strict=True))
            shared = cv2.multiply(luma_of(change), luma - colour)  # added to luma alone
            pixels: Any = cv2.merge([cv2.add(cv2.multiply(plane, colour), shared) for plane in change])
            matrix = compose(place.matrix, to_read)
            corrections.append(self._make(pixels, np.maximum(luma, colour), matrix))
            boxes.append(bounds(invert(matrix), (0, 0, place.width, place.height), margin=1.0))
        if not corrections:
            return frame
        self._stats.count(f"crops:coded{'-light' * light}", len(corrections))
        return self._paste(frame, corrections, boxes)

    def take_grain(self, frame: Frame, faces: Sequence[Cleaned]) -> Frame:
        """Returns the frame with grain removed from its heads. The strength round a face (`StageStrength.luma`) applies
        to the whole head with its hair, so that no border crosses the forehead."""
        previous, self._grain = self._grain, {}
        for face, *_, (share, _) in faces if not self._skips(frame) else ():  # one by one, because heads may overlap
            place = place_of(frame, face, HEAD, _LARGEST_GRAIN_SAMPLES)
            picture = picture_of(self._device.view(frame), place)
            max_power = None if frame.new else _max_grain_power(place, picture, previous.get(face.track_id))
            self._grain[face.track_id] = place, picture, max_power
            if (grain := grain_of(picture, max_power)) is not None:
                shape: Any = masks_of(face, place, _GRAIN_EDGE)[1] * np.float32(share)
                box = bounds(invert(place.matrix), (0, 0, place.width, place.height), margin=1.0)
                frame = self._paste(frame, [self._make(grain * -shape[..., None], shape, place.matrix)], [box])
        return frame

    def _paste(self, frame: Frame, corrections: Sequence[Correction], boxes: Sequence[Any]) -> Frame:
        pasted = self._device.paste(frame, corrections)
        if pasted is frame:
            return frame
        changed = None if frame.changed is None else (*frame.changed, *boxes)
        return replace(pasted, changed=changed, quantisers=frame.quantisers)

    def _skips(self, frame: Frame) -> bool:
        """Returns whether the frame, being on a GPU, skips this stage. Warns if so."""
        if is_on_gpu := on_gpu(frame.image):
            self._stats.warn("first_stage", _GPU_WARNING)
        return is_on_gpu

    def _inference(
        self, network: CodedNetwork, view: View, frame: Frame, place: Place
    ) -> Callable[[], tuple[Bytes, tuple[Float32, Float32]]]:
        """Returns a function that returns a place's picture and the network's output. Any thread may call it."""
        key = _place_key(frame, place)
        if network is self._network and (output := self._outputs.get(key) or self._next_outputs.get(key)) is not None:
            return output.result
        picture, steps = picture_of(view, place), place.steps(frame.quantisers, rows_of(frame))
        return partial(self._infer, network, picture, steps)

    def _infer(
        self, network: CodedNetwork, picture: Bytes, steps: Float32 | None
    ) -> tuple[Bytes, tuple[Float32, Float32]]:
        with self._network_lock:
            change, errors = network(picture, steps)
            return picture, (change.copy(), errors.copy())


def _place_key(frame: Frame, place: Place) -> PlaceKey:
    return frame.time, id(frame.image), frame.field, (place.x, place.y, place.width, place.height)


def _max_grain_power(place: Place, picture: Bytes, previous: HeadGrain | None) -> float | None:
    """Returns an upper bound of a head's grain power. It is None if the previous frame shows no part of the head."""
    if previous is None:
        return None
    last, shown, power = previous
    low, high = (
        np.maximum((place.x, place.y), (last.x, last.y)),
        np.minimum((place.x + place.width, place.y + place.height), (last.x + last.width, last.y + last.height)),
    )
    if np.any(high - low < 2 * MULTIPLE):
        return None
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    parts = (image[y0 - at.y : y1 - at.y, x0 - at.x : x1 - at.x] for at, image in ((place, picture), (last, shown)))
    return max(power_between(*parts), _KEPT_GRAIN_SHARE * (power or 0.0))


def _cell_means(mask: Float32) -> Float32:
    """Returns means over the network's cells."""
    return cast(Float32, cv2.resize(mask, (mask.shape[1] // CELL, mask.shape[0] // CELL), interpolation=cv2.INTER_AREA))


def _mean(values: Float32, weight: Float32) -> float:
    return float((values * weight).sum() / max(float(weight.sum()), 1e-6))
