"""Takes the dots of halftone prints out of faces before they are enhanced (``--damage halftone``), at the resolution of
the frame (`rtface.correct.halftone`). Frames on which no screen is found are not touched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from rtface.config.options import EnhanceOptions
from rtface.correct.halftone import screen_of, without_screen
from rtface.correct.mask import face_mask
from rtface.enhance.coded_stage import MakeCorrection
from rtface.enhance.face_filter import FaceFilter
from rtface.frame import Face, Float, Float32, Frame
from rtface.geometry.alignment import crop_matrix, move
from rtface.geometry.transforms import apply, bounds, compose, invert, to_cv2, translation
from rtface.protocols import Correction, Device, Item
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stats import Stats
from rtface.util.held_faces import HeldFaces

_SIZE = 256  # side of the crop on which the mask of a face is made
_AROUND = 1.2  # side of the crop in which a screen is looked for, by the face's
_SAMPLED = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Descreening:
    """Takes halftone dots out of the faces of frames, one frame after the other. Not for use from several threads.

    Args:
        device: cuts and composites in the host's memory.
        make_correction: makes what `device` composites.
        options: strength, faces, max_faces, correct.
        stats: counts `faces_descreened`.
        shots: settings by shot, which replace those of the run.

    Attributes:
        strength: 0…1 scales what is taken out; may be changed between frames.
    """

    def __init__(
        self,
        device: Device,
        make_correction: MakeCorrection,
        options: EnhanceOptions,
        stats: Stats,
        shots: ShotList = NO_SHOTS,
    ) -> None:
        self._device, self._make, self._stats = device, make_correction, stats
        self._filter, self._held = FaceFilter.parse(options.faces, options.max_faces), HeldFaces()
        self._options, self.strength, self._shots = options, options.strength, shots

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, with the faces of frames descreened."""
        for item in items:
            yield self.process(item) if isinstance(item, Frame) else item

    def process(self, frame: Frame) -> Frame:
        """The frame without dots on its faces: the same frame where there are none, or where a fault was counted."""
        faces = self._chosen(frame)
        if not faces:
            return frame
        try:
            with self._stats.time("damage"):
                descreened = self._descreened(frame, faces)
        except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and said
            self._stats.fault("damage", error)
            return frame
        if descreened is frame or frame.changed is None:
            return descreened
        boxes = (bounds(invert(crop_matrix(face, _SIZE)), (0, 0, _SIZE, _SIZE), margin=1.0) for face in faces)
        return replace(descreened, changed=(*frame.changed, *boxes))

    def _chosen(self, frame: Frame) -> tuple[Face, ...]:
        """The faces to descreen; none where the options, or the settings of the frame's shot, correct none."""
        shot = self._shots.at(frame.time)
        chosen = self._filter.in_shot(shot.faces)(frame.faces, self._held.on(frame))
        if (shot.correct or self._options.correct) == "never" or shot.strength_of(self.strength) <= 0.0:
            return ()
        return chosen

    def _descreened(self, frame: Frame, faces: Sequence[Face]) -> Frame:
        corrections: list[Correction] = []
        for face in faces:
            size, matrix = _upright(face)
            aligned = crop_matrix(face, _SIZE)
            mask, to_crop = self._mask(frame, face, aligned), compose(aligned, invert(matrix))
            mask = np.asarray(cv2.warpAffine(mask, to_cv2(to_crop), (size, size), flags=_SAMPLED), np.float32)
            (crops,) = self._device.to_host(self._device.cut(frame, [(matrix, size)]))
            image = np.ascontiguousarray(crops.pixels[0].transpose(1, 2, 0))
            screen = screen_of(image, mask)
            if screen is not None:
                change = without_screen(image, screen) - image
                change *= (mask * np.float32(self._shots.at(frame.time).strength_of(self.strength)))[..., None]
                corrections.append(self._make(change, mask, matrix))
        if not corrections:
            return frame
        if not frame.lead_in:
            self._stats.count("faces_descreened", len(corrections))
        pasted = self._device.paste(frame, corrections)
        return pasted if pasted is frame else replace(pasted, filtered=True)

    def _mask(self, frame: Frame, face: Face, matrix: Float) -> Float32:
        """The mask of the face, without what lies outside the frame."""
        mask = face_mask(_SIZE, None if face.mesh is None else move(matrix, face.mesh))
        view, shown = self._device.view(frame), np.zeros((_SIZE, _SIZE), np.uint8)
        corners = apply(matrix, np.array([(0, 0), (view.width, 0), (view.width, view.height), (0, view.height)]))
        cv2.fillConvexPoly(shown, np.rint(corners).astype(np.int32), 1)
        return mask * shown.astype(np.float32)


def _upright(face: Face) -> tuple[int, Float]:
    """Side in pixels, and matrix (2×3, display → crop), of a crop around a face that is not resampled."""
    x0, y0, x1, y1 = face.box
    side = max(x1 - x0, y1 - y0) * _AROUND
    x, y = ((low + high - side) // 2 for low, high in ((x0, x1), (y0, y1)))
    return math.ceil(side), translation(-x, -y)
