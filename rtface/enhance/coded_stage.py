"""The first stage: takes coding artefacts and noise out of the face, or the head, at the size at which it was coded.

It works on the frame's own samples before anything is scaled, where the grid of the codec's blocks can be seen; the
engine for the face then sees the corrected frame. Its network (`rtface.protocols.CodedNetwork`) also says how large it
expects the error to be before and after, which is what `rtface.analysis.treatment` decides by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from rtface.analysis.measure import Analysis, compression_of
from rtface.concurrency.threads import call_in_thread
from rtface.correct.colour import luma_of
from rtface.correct.degrain import grain_of, power_between
from rtface.correct.mask import HEAD_EDGE, face_mask, head_shape
from rtface.errors import Message
from rtface.frame import Box, Bytes, Face, Float, Float32, Frame, Quantisers
from rtface.geometry.alignment import as_read, crop_matrix
from rtface.geometry.transforms import (
    apply,
    bounds,
    clip_box,
    compose,
    field_parity,
    invert,
    plane_matrix,
    to_cv2,
    translation,
)
from rtface.protocols import CodedNetwork, Correction, Device, View
from rtface.stats import Stats
from rtface.util.av_gpu import on_gpu

CELL, MULTIPLE = 8, 16
"""Side of the cells that the network answers for, and what sides of its pictures are multiples of, in samples."""
LARGEST = 512
"""Longest side in samples of a picture that is corrected; larger heads and faces are left as they are."""
MEASURED = 256
"""Longest side of the part of a face that is measured."""
_LARGEST_GRAIN, _GRAIN_EDGE, _KEPT_GRAIN = 2048, (0.8, 1.14), 0.9
"""Longest side in samples of a head whose grain is taken out; from where to where it fades out, as of `head_shape`;
share of its power that it keeps from frame to frame."""
_MASK = 128
_CALM = (9.0, 14.0)
"""Mean fine detail in code values up to which what surrounds a face is corrected, and from which on it is not: there
are text, line art and test charts, which the network takes for coding artefacts."""
_BLUR_SAMPLES = 16
_UNUSED = 2
"""Frames that are begun and not processed, after which none is begun: the first stage is no longer wanted there."""
_FACE, _HEAD = 1.3, 2.3
"""Sides of the picture of a face and of its head, by those of the face's box."""


_ON_GPU = Message(
    "frames that stay on the GPU pass without the first stage, and how coarsely each block was coded is not known "
    "there, so faces are corrected less; leave out {--decode:cuda} for the full correction",
    code="first_stage_gpu",
)


class StageStrength(NamedTuple):
    """How strongly the luma, and what is not luma, are corrected, each 0…1."""

    luma: float = 0.0
    colour: float = 0.0


Cleaned = tuple[Face, StageStrength, StageStrength]
"""A face with the strengths of its correction inside its oval and round it."""


class CodecTraits(NamedTuple):
    """How a codec differs from H.264.

    Attributes:
        finer: by how much log2 of the step with which H.264 leaves the same error is smaller than that of the codec,
            which predicts and filters better; measured on people of the training side, AV1's and HEVC's raised once
            more for films that were set aside.
        unreached: share of the expected gain that is not reached: the networks saw less of the codec, and errors of
            stills are overrated where they have no noise; by eight tuning people.
        face_alone: whether nothing round a face is corrected: the network has seen too little of the codec to better
            smooth grounds.
    """

    finer: float = 0.0
    unreached: float = 0.0
    face_alone: bool = False


CODEC_TRAITS = {
    "av1": CodecTraits(2.2, 0.7, face_alone=True),
    "hevc": CodecTraits(1.3, 0.4),
    "vp9": CodecTraits(0.6, 0.55),
    "jpeg": CodecTraits(unreached=0.5),
}
"""By `Quantisers.codec`; others are as H.264."""

MakeCorrection = Callable[[Float32, Float32, Float], Correction]
"""Makes a correction of what to add (float32 h×w×3, masked), its mask h×w and the matrix display → its pixels."""


@dataclass(frozen=True, slots=True)
class Place:
    """Part of a frame on its own grid.

    Attributes:
        matrix: display → its pixels, float64 2×3; an integer shift of the stored samples.
        x, y: of its first sample in the stored rows and columns (of the field, for a field); multiples of `CELL`.
        width, height: in samples, multiples of `MULTIPLE`.
        seen: x0, y0, x1, y1 of the part that lies inside the frame, in its pixels.
    """

    matrix: Float
    x: int
    y: int
    width: int
    height: int
    seen: Box

    def steps(self, quantisers: Quantisers | None, rows: int) -> Float32 | None:
        """log2 of the quantiser step of each cell, as of H.264, float32 height/8 × width/8; None where unknown.

        Args:
            quantisers: of the frame.
            rows: stored rows of the frame for each of this place's: 2 for a field.
        """
        if quantisers is None:
            return None
        steps, block = quantisers.steps, quantisers.block
        down = (self.y + np.arange(self.height // CELL) * CELL + CELL // 2) * rows // block
        across = (self.x + np.arange(self.width // CELL) * CELL + CELL // 2) // block
        part = steps[np.clip(down, 0, len(steps) - 1)][:, np.clip(across, 0, steps.shape[1] - 1)]
        return np.log2(part, dtype=np.float32) - np.float32(CODEC_TRAITS.get(quantisers.codec, CodecTraits()).finer)


def place_of(frame: Frame, face: Face, around: float, largest: int) -> Place:
    """Where `around` times the box of a face lies on the frame's own grid; at most `largest` samples a side."""
    size = frame.image.width, frame.image.height
    to_plane = plane_matrix(size, frame.display, field=frame.field)
    x0, y0, x1, y1 = bounds(to_plane, face.box.tolist())
    rows = size[1] if frame.field is None else (size[1] + 1) // 2
    x, width = _span((x0 + x1) / 2, around * (x1 - x0), size[0], largest)
    y, height = _span((y0 + y1) / 2, around * (y1 - y0), rows, largest)
    seen = clip_box((-x, -y, size[0] - x, rows - y), width, height)
    return Place(compose(translation(-x, -y), to_plane), x, y, width, height, seen)


def _span(centre: float, length: float, whole: int, largest: int) -> tuple[int, int]:
    """First sample and number of samples of at least `length` around a centre, on the grid; inside where they fit."""
    count = MULTIPLE * min(largest // MULTIPLE, max(2, -int(-(length + CELL) // MULTIPLE)))  # it is moved onto the grid
    first = CELL * round((centre - count / 2) / CELL)
    last = CELL * max(0, -(-(whole - count) // CELL))
    return min(max(first, 0), last), count


Begun = tuple[float, int, int | None, Box]
"""Time, image (`id`) and field of a frame, and a place on it: x, y, width, height."""
Output = Future[tuple[Bytes, tuple[Float32, Float32]]]
"""The picture of a place, and the network's output for it."""
Grainy = tuple[Place, Bytes, float | None]
"""Where a head was on the frame before, its picture, and the power that its grain had at most."""


class CodedStage:
    """Corrects the faces of frames, one frame after the other, and measures what they would gain.

    Not for use from several threads.

    Args:
        network: takes coding artefacts out of a picture.
        light: the same at 0.6 of the cost, for live runs that have no time for it.
        device: composites in the host's memory.
        make_correction: makes what `device` composites.
        stats: counts `crops:coded`, `crops:coded-light`; warned of frames that pass without it.
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
        self._one_at_a_time, self._unused = Lock(), 0
        self._last: dict[int, tuple[bool, bool]] = {}  # of the last frame's tracks, whether face and head were wanted
        self._grain = dict[int, Grainy]()  # of the last frame's tracks
        self._begun, self._next = dict[Begun, Output](), dict[Begun, Output]()  # of the two frames begun last

    def measure(self, view: View, frame: Frame, face: Face, found: Analysis) -> Analysis:
        """What was found, with the errors that are expected on a face and round it, before and after this stage."""
        return self.measurement(view, frame, face, found)()

    def measurement(self, view: View, frame: Frame, face: Face, found: Analysis) -> Callable[[], Analysis]:
        """A function that returns what `measure` does, and may be called in any thread: the network runs there."""
        self._passes(frame)
        place = place_of(frame, face, _HEAD, MEASURED)
        infer = self._inference(self._network, view, frame, place)
        steps = place.steps(frame.quantisers, _rows(frame))
        codec = CODEC_TRAITS.get(frame.quantisers.codec if frame.quantisers is not None else "", CodecTraits())
        face_alone = codec.face_alone or _place_within(frame, face, False, True)[0] is None

        def measure() -> Analysis:
            picture, (_, (before, after)) = infer()
            oval, head, calm = map(_cells, (*_masks(face, place), _calm(picture)))
            ring: Any = head * (np.float32(1.0) - oval)
            step, compression = 0.0, found.compression
            if steps is not None:
                step = float(2.0 ** _mean(steps, oval))
                compression = compression_of(step)
            else:  # beside text the network expects errors that are not there
                share = np.float32(_mean(calm, ring) if ring.any() else 1.0)
                before, after = before * share, after * share
            ring *= calm
            return replace(
                found,
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
        """Starts the network, in a thread of its own, on what `process` will need of this frame, the one after the next
        that is processed: the faces that were corrected last. What turns out otherwise is inferred again.

        Returns:
            Whether something has begun.
        """
        self._begun, self._next, self._unused = self._next, {}, self._unused + 1
        faces = [face for face in frame.faces if face.track_id in self._last]
        if not faces or self._unused > _UNUSED or on_gpu(frame.image):
            return False
        try:
            for face in faces:
                read, there, _ = as_read(frame, face)
                place, _ = _place_within(read, there, *self._last[face.track_id])
                if place is not None:
                    picture = _picture(self._device.view(read), place)
                    steps = place.steps(read.quantisers, _rows(read))
                    self._next[_begun(read, place)] = call_in_thread(
                        "first-stage", self._inferred, self._network, picture, steps, awaited=True
                    )
        except Exception:  # noqa: BLE001 - `process` meets it, too, and fails the frame that it belongs to
            self._next = {}
        return bool(self._next)

    def process(self, frame: Frame, faces: Sequence[Cleaned], *, light: bool = False) -> Frame:
        """The frame with its faces corrected.

        Args:
            faces: to correct.
            light: by the light network.
        """
        if self._passes(frame):
            return frame
        corrections = list[Correction]()
        boxes: list[Any] = []
        self._last, self._unused = {face.track_id: (any(inside), any(around)) for face, inside, around in faces}, 0
        for face, inside, around in faces:
            read, there, to_read = as_read(frame, face)
            place, head_too = _place_within(read, there, *self._last[face.track_id])
            if place is None:
                continue
            view, network = self._device.view(read), self._light if light else self._network
            picture, (change, _) = self._inference(network, view, read, place)()
            oval, head = _masks(there, place)
            ring: Any = head * (np.float32(1.0) - oval) * _calm(picture) if head_too else 0.0
            luma, colour = (oval * np.float32(a) + ring * np.float32(b) for a, b in zip(inside, around, strict=True))
            shared = cv2.multiply(luma_of(change), luma - colour)  # what the luma gets beside the rest
            pixels: Any = cv2.merge([cv2.add(cv2.multiply(plane, colour), shared) for plane in change])
            matrix = compose(place.matrix, to_read)
            corrections.append(self._make(pixels, np.maximum(luma, colour), matrix))
            boxes.append(bounds(invert(matrix), (0, 0, place.width, place.height), margin=1.0))
        if not corrections:
            return frame
        self._stats.count(f"crops:coded{'-light' * light}", len(corrections))
        return self._pasted(frame, corrections, boxes)

    def take_grain(self, frame: Frame, faces: Sequence[Cleaned]) -> Frame:
        """The frame with grain taken out over the heads of faces by the strength round them, hair and all, so that its
        border crosses no forehead."""
        before, self._grain = self._grain, {}
        for face, *_, (share, _) in faces if not self._passes(frame) else ():  # one after the other: heads overlap
            place = place_of(frame, face, _HEAD, _LARGEST_GRAIN)
            picture = _picture(self._device.view(frame), place)
            most = None if frame.new else _most_grain(place, picture, before.get(face.track_id))
            self._grain[face.track_id] = place, picture, most
            if (grain := grain_of(picture, most)) is not None:
                shape: Any = _masks(face, place, _GRAIN_EDGE)[1] * np.float32(share)
                box = bounds(invert(place.matrix), (0, 0, place.width, place.height), margin=1.0)
                frame = self._pasted(frame, [self._make(grain * -shape[..., None], shape, place.matrix)], [box])
        return frame

    def _pasted(self, frame: Frame, corrections: Sequence[Correction], boxes: Sequence[Any]) -> Frame:
        pasted = self._device.paste(frame, corrections)
        if pasted is frame:
            return frame
        changed = None if frame.changed is None else (*frame.changed, *boxes)
        return replace(pasted, changed=changed, quantisers=frame.quantisers)

    def _passes(self, frame: Frame) -> bool:
        """True if the frame is left as it is, on a GPU; warns of that."""
        if there := on_gpu(frame.image):
            self._stats.warn("first_stage", _ON_GPU)
        return there

    def _inference(
        self, network: CodedNetwork, view: View, frame: Frame, place: Place
    ) -> Callable[[], tuple[Bytes, tuple[Float32, Float32]]]:
        """What returns the picture of a place, and the network's output for it, in any thread."""
        key = _begun(frame, place)
        if network is self._network and (begun := self._begun.get(key) or self._next.get(key)) is not None:
            return begun.result
        picture, steps = _picture(view, place), place.steps(frame.quantisers, _rows(frame))
        return partial(self._inferred, network, picture, steps)

    def _inferred(
        self, network: CodedNetwork, picture: Bytes, steps: Float32 | None
    ) -> tuple[Bytes, tuple[Float32, Float32]]:
        with self._one_at_a_time:
            change, errors = network(picture, steps)
            return picture, (change.copy(), errors.copy())


def _begun(frame: Frame, place: Place) -> Begun:
    return frame.time, id(frame.image), frame.field, (place.x, place.y, place.width, place.height)


def _most_grain(place: Place, picture: Bytes, before: Grainy | None) -> float | None:
    """The power that a head's grain has at most, by the frame before; a frame that repeats it keeps most of that."""
    if before is None:
        return None
    there, then, most = before
    low, high = (
        np.maximum((place.x, place.y), (there.x, there.y)),
        np.minimum((place.x + place.width, place.y + place.height), (there.x + there.width, there.y + there.height)),
    )
    if np.any(high - low < 2 * MULTIPLE):
        return None
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    parts = (image[y0 - at.y : y1 - at.y, x0 - at.x : x1 - at.x] for at, image in ((place, picture), (there, then)))
    return max(power_between(*parts), _KEPT_GRAIN * (most or 0.0))


def _place_within(frame: Frame, face: Face, inside: bool, around: bool) -> tuple[Place | None, bool]:
    """Where the network looks at a face, or its head; and whether it is the head: not where that is too large. None
    where nothing is wanted, or what is wanted is too large."""
    for head in [True] * around + [False] * inside:
        place = place_of(frame, face, _HEAD if head else _FACE, LARGEST + MULTIPLE)
        if max(place.width, place.height) <= LARGEST:
            return place, head
    return None, False


def _picture(view: View, place: Place) -> Bytes:
    """The samples of a place, uint8 height×width×3 RGB; the frame's edge does not look like one in it."""
    picture = view.crop(place.matrix, (place.width, place.height))
    x0, y0, x1, y1 = place.seen
    if (x1 - x0, y1 - y0) == (place.width, place.height):
        return picture
    bottom, right = place.height - y1, place.width - x1
    inside = picture[y0:y1, x0:x1]
    return np.asarray(cv2.copyMakeBorder(inside, y0, bottom, x0, right, cv2.BORDER_REPLICATE), np.uint8)


def _rows(frame: Frame) -> int:
    return 1 if field_parity(frame.display, frame.field) is None else 2


def _masks(face: Face, place: Place, edge: tuple[float, float] = HEAD_EDGE) -> tuple[Float32, Float32]:
    """The oval of a face and the shape of its head on a place's pixels, float32 height×width, 0…1."""
    aligned = crop_matrix(face, _MASK)
    mesh = None if face.mesh is None else apply(aligned, face.mesh[:, :2])
    onto = to_cv2(compose(place.matrix, invert(aligned)))
    oval: Any = cv2.warpAffine(face_mask(_MASK, mesh), onto, (place.width, place.height), flags=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = (float(v) for v in face.box)
    corners = apply(place.matrix, np.array([(x0, y0), (x1, y1)]))
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    head = head_shape((place.width, place.height), (left, top, right, bottom), edge)
    x0, y0, x1, y1 = place.seen
    for mask in oval, head:
        mask[:y0], mask[y1:], mask[:, :x0], mask[:, x1:] = 0.0, 0.0, 0.0, 0.0
    return oval, head


def _calm(picture: Bytes) -> Float32:
    """How far the surroundings of each pixel have no more fine detail than hair, cloth and leaves; float32 h×w, 0…1."""
    fine: Any = cv2.absdiff(picture, cv2.GaussianBlur(picture, (0, 0), 1.0))
    mean: Any = cv2.blur(fine, (_BLUR_SAMPLES, _BLUR_SAMPLES), borderType=cv2.BORDER_REPLICATE).mean(
        2, dtype=np.float32
    )
    around = cv2.dilate(mean, np.ones((CELL + 1, CELL + 1), np.uint8))
    full, none = _CALM
    return np.asarray(np.clip((none - around) / (none - full), 0.0, 1.0), np.float32)


def _cells(mask: Float32) -> Float32:
    """Means over the network's cells."""
    return cast(Float32, cv2.resize(mask, (mask.shape[1] // CELL, mask.shape[0] // CELL), interpolation=cv2.INTER_AREA))


def _mean(values: Float32, weight: Float32) -> float:
    return float((values * weight).sum() / max(float(weight.sum()), 1e-6))
