"""Repairs the faces of frames before they are enhanced (``--damage repair``): halftone screens and light flecks.

The screen of a halftone print is filtered out at the resolution of the frame (`rtface.correct.halftone`). Other damage
is found as a mask on each face's crop and filled inside the face (`rtface.correct.damage`). The enhancement then sees
the repaired frame. Frames on which no damage is found are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from rtface.config.options import EnhanceOptions
from rtface.correct.colour import luma_of
from rtface.correct.damage import (
    SIZE,
    enlarged_change,
    enlarged_hole,
    features_of,
    from_before,
    grain_of,
    holes_of,
    painted,
    share_of,
)
from rtface.correct.grain import SHEET
from rtface.correct.halftone import screen_of, without_screen
from rtface.correct.mask import face_mask
from rtface.correct.motion import Motion
from rtface.enhance.face_filter import FaceFilter
from rtface.enhance.track_store import seed_of
from rtface.frame import Bytes, Crops, Face, Float, Float32, Frame, Pixels
from rtface.geometry.alignment import crop_matrix, move
from rtface.geometry.transforms import apply, bounds, compose, invert, to_cv2, translation
from rtface.protocols import MEMORY_S, Correction, DamageFinder, Device, Item
from rtface.shots.settings import NO_SHOTS, ShotList
from rtface.stats import Stats
from rtface.util.held_faces import HeldFaces

SMALLEST = 100.0
"""Width of a face in display pixels below which nothing is filled."""
_AROUND = 1.2  # side of the crop in which a screen is looked for, by the face's
_SAMPLED = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_LARGE = 0.75  # crop pixels per display pixel of a `SIZE` crop below which a crop of twice the side is filled

MakeCorrection = Callable[[Float32, Float32, Float], Correction]
"""Makes a correction of what to add (float32 S×S×3, masked), its mask S×S and the matrix of the crop."""


@dataclass(slots=True)
class _Past:
    """A track's last repaired crop (float32 S×S×3) and the time of its frame in seconds."""

    crop: Float32
    time: float
    motion: Motion = field(default_factory=Motion)


class DamageRepair:
    """Fills damage on the faces of frames, one frame after the other. Not for use from several threads.

    Args:
        finder: finds damage.
        device: cuts and composites in the host's memory.
        make_correction: makes what `device` composites.
        options: strength, faces, max_faces, grain, correct.
        stats: counts `frames_repaired`, `faces_repaired`, and `damage_filled_ppm`: the sum over the repaired faces of
            the share that was filled, in millionths of the face; `faces_descreened`.
        shots: settings by shot, which replace those of the run.

    Attributes:
        strength: 0…1 scales what is filled; may be changed between frames.
        filled: share of each repaired face of the last frame that was filled, 0…1, by track id.
    """

    def __init__(
        self,
        finder: DamageFinder,
        device: Device,
        make_correction: MakeCorrection,
        options: EnhanceOptions,
        stats: Stats,
        shots: ShotList = NO_SHOTS,
    ) -> None:
        self._finder, self._device, self._make, self._stats = finder, device, make_correction, stats
        self._filter, self._held = FaceFilter.parse(options.faces, options.max_faces), HeldFaces()
        self._options, self.strength, self._shots = options, options.strength, shots
        self.filled: dict[int, float] = {}
        self._past: dict[int, _Past] = {}

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in order, with the faces of frames repaired."""
        for item in items:
            yield self.process(item) if isinstance(item, Frame) else item

    def reset(self) -> None:
        """Forgets the frames before."""
        self._past.clear()

    def process(self, frame: Frame) -> Frame:
        """The frame with its faces repaired: the same frame where no damage was found, or where a fault was counted."""
        self.filled = {}
        if frame.cut or frame.new:
            self._past.clear()
        faces = self._chosen(frame)
        if not faces:
            return frame
        try:
            with self._stats.time("damage"):
                repaired = self._repaired(frame, faces)
        except Exception as error:  # noqa: BLE001 - one bad frame must not end a run: counted and said
            self._stats.fault("damage", error)
            self.filled = {}
            return frame
        if repaired is frame or frame.changed is None:
            return repaired
        boxes = (bounds(invert(crop_matrix(face, SIZE)), (0, 0, SIZE, SIZE), margin=1.0) for face in faces)
        return replace(repaired, changed=(*frame.changed, *boxes))

    def _chosen(self, frame: Frame) -> tuple[Face, ...]:
        """The faces to repair; none where the options, or the settings of the frame's shot, correct none."""
        shot = self._shots.at(frame.time)
        chosen = self._filter.in_shot(shot.faces)(frame.faces, self._held.on(frame))
        if (shot.correct or self._options.correct) == "never" or self._strength(frame) <= 0.0:
            return ()
        return chosen

    def _strength(self, frame: Frame) -> float:
        return self._shots.at(frame.time).strength_of(self.strength)

    def _repaired(self, frame: Frame, faces: Sequence[Face]) -> Frame:
        frame = self._descreened(frame, faces)
        crops = self._cut(frame, [crop_matrix(face, SIZE) for face in faces], SIZE)
        corrections = [
            made
            for face, crop in zip(faces, crops, strict=True)
            if (made := self._correction(frame, face, crop)) is not None
        ]
        self._past = {key: past for key, past in self._past.items() if frame.time - past.time <= MEMORY_S}
        if not corrections:
            return frame
        if not frame.lead_in:
            self._stats.count("frames_repaired", int(frame.field != 1))
            self._stats.count("faces_repaired", len(corrections))
        pasted = self._device.paste(frame, corrections)
        return pasted if pasted is frame else replace(pasted, corrected=True)

    def _descreened(self, frame: Frame, faces: Sequence[Face]) -> Frame:
        """The frame without the screens that its faces are printed with."""
        corrections: list[Correction] = []
        for face in faces:
            size, matrix = _upright(face)
            aligned = crop_matrix(face, SIZE)
            mask, to_crop = self._mask(frame, face, aligned, SIZE), compose(aligned, invert(matrix))
            mask = np.asarray(cv2.warpAffine(mask, to_cv2(to_crop), (size, size), flags=_SAMPLED), np.float32)
            (crops,) = self._cut(frame, [matrix], size)
            image = _last_axis(crops.pixels[0])
            screen = screen_of(image, mask)
            if screen is not None:
                change = without_screen(image, screen) - image
                change *= (mask * np.float32(self._strength(frame)))[..., None]
                corrections.append(self._make(change, mask, matrix))
        if not corrections:
            return frame
        if not frame.lead_in:
            self._stats.count("faces_descreened", len(corrections))
        pasted = self._device.paste(frame, corrections)
        return pasted if pasted is frame else replace(pasted, filtered=True)

    def _cut(self, frame: Frame, matrices: Sequence[Float], size: int) -> Sequence[Crops[Float32]]:
        cut: Sequence[Crops[Pixels]] = self._device.cut(frame, [(matrix, size) for matrix in matrices])
        return self._device.to_host(cut)

    def _correction(self, frame: Frame, face: Face, crops: Crops[Float32]) -> Correction | None:
        """What fills one face's damage; None where there is none."""
        matrix, crop = crops.matrices[0], _last_axis(crops.pixels[0])
        mask = self._mask(frame, face, matrix, SIZE)
        past = self._past.get(face.track_id)
        hole = self._hole(face, crop, mask, matrix)
        if hole is None:
            self._remember(face, frame, crop, past)
            return None
        fill = over = painted(crop, hole)
        if past is not None and 0.0 < frame.time - past.time <= MEMORY_S:
            fill = from_before(fill, hole, past.crop, past.motion)
        fill = np.clip(fill, 0.0, 1.0)
        self._remember(face, frame, fill, past)
        share = share_of(hole, mask)
        self.filled[face.track_id] = share
        if not frame.lead_in:
            self._stats.count("damage_filled_ppm", round(1e6 * share))
        if float(np.hypot(matrix[0, 0], matrix[1, 0])) < _LARGE:  # so that the rim of a hole stays sharp
            (crops,) = self._cut(frame, [crop_matrix(face, 2 * SIZE)], 2 * SIZE)
        return self._filled(frame, face, crops, hole, fill - over)

    def _hole(self, face: Face, crop: Float32, mask: Float32, matrix: Float) -> Bytes | None:
        """Where a face is damaged, uint8 `SIZE`×`SIZE`; None where it is not, and on small faces, whose features look
        like damage."""
        if face.width < SMALLEST:
            return None
        mesh = None if face.mesh is None else move(matrix, face.mesh)
        luma = luma_of(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        hole = holes_of(self._finder(crop), mask, luma, features_of(mesh, SIZE))
        return hole if hole.any() else None

    def _filled(self, frame: Frame, face: Face, crops: Crops[Float32], hole: Bytes, more: Float32) -> Correction:
        """The correction that fills a hole: painted over, and what the frame before adds to that.

        Args:
            crops: of `SIZE` or larger.
            hole: uint8 `SIZE`×`SIZE`.
            more: float32 `SIZE`×`SIZE`×3, 0 outside the hole.
        """
        size, matrix, crop = crops.size, crops.matrices[0], _last_axis(crops.pixels[0])
        mask, hole = self._mask(frame, face, matrix, size), enlarged_hole(hole, size)
        inside = hole.astype(np.float32)
        filled = np.clip(painted(crop, hole) + enlarged_change(more, size) * inside[..., None], 0.0, 1.0)
        change = np.asarray(filled - crop, np.float32)
        if (self._shots.at(frame.time).grain or self._options.grain) == "match":
            seed = seed_of(face, frame.pts)
            scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
            change += grain_of(crop, hole, mask, scale, (seed % SHEET, seed // 7 % SHEET))[..., None]
        change *= (mask * np.float32(self._strength(frame)))[..., None]
        return self._make(change, mask * inside, matrix)

    def _mask(self, frame: Frame, face: Face, matrix: Float, size: int) -> Float32:
        """The mask of the face, without what lies outside the frame."""
        mask = face_mask(size, None if face.mesh is None else move(matrix, face.mesh))
        view, shown = self._device.view(frame), np.zeros((size, size), np.uint8)
        corners = apply(matrix, np.array([(0, 0), (view.width, 0), (view.width, view.height), (0, view.height)]))
        cv2.fillConvexPoly(shown, np.rint(corners).astype(np.int32), 1)
        return mask * shown.astype(np.float32)

    def _remember(self, face: Face, frame: Frame, crop: Float32, past: _Past | None) -> None:
        self._past[face.track_id] = _Past(crop, frame.time, past.motion if past else Motion())


def _upright(face: Face) -> tuple[int, Float]:
    """Side in pixels, and matrix (2×3, display → crop), of a crop around a face that is not resampled."""
    x0, y0, x1, y1 = face.box
    side = max(x1 - x0, y1 - y0) * _AROUND
    x, y = ((low + high - side) // 2 for low, high in ((x0, x1), (y0, y1)))
    return math.ceil(side), translation(-x, -y)


def _last_axis(planes: Float32) -> Float32:
    return np.ascontiguousarray(planes.transpose(1, 2, 0))
