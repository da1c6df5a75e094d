"""The frame path on the CPU: cuts crops and adds corrections (numpy and OpenCV)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np

from rtface.correct import carried, irises, openings_of, shape_part, state_of
from rtface.device.cpu.composite import (
    Dither,
    Patch,
    Placement,
    cut_patch,
    gray_rows,
    neutral,
    neutral_rgb,
    overlapping,
    rows,
    write,
)
from rtface.device.cpu.crop import full_range
from rtface.device.cpu.swscale import Swscale
from rtface.device.cpu.view import CpuView, native_image
from rtface.errors import log
from rtface.frame import Crops, Float, Float32, Frame, Pixels
from rtface.geometry.color_curves import code_range, curve_of
from rtface.geometry.planes import Role, fallback, layout, planes
from rtface.geometry.transforms import compose, field_parity, plane_matrix, translation
from rtface.protocols import Correction, ShapeTask
from rtface.util.av_gpu import software

_COMPONENTS: dict[Role, int] = {"y": 0, "u": 1, "v": 2, "r": 0, "g": 1, "b": 2}


def _log_warning(key: str, message: str) -> None:
    log.warning("%s (%s)", message, key)


@dataclass(frozen=True, slots=True)
class HostCorrection:
    """One face's correction in host memory (`protocols.Correction`).

    Attributes:
        pixels: float32 h×w×3, RGB, −1…1 (1 = white), masked: the crop, or the part of it that is not 0.
        mask: float32 h×w, 0…1.
        matrix: float64 2×3, display → coordinates in `pixels`.
        dithered: whether sums are dithered before rounding. Without dither, equal frames yield equal results.
    """

    pixels: Float32
    mask: Float32
    matrix: Float
    dithered: bool = True


def host_array(pixels: Pixels) -> Float32:
    """Casts pixels in host memory to an array."""
    assert isinstance(pixels, np.ndarray)
    return cast(Float32, pixels)


class CpuDevice:
    """Crops and composites on the CPU (`protocols.Device`).

    Args:
        threads: limit of OpenCV's threads in this process; None leaves the limit to the pipeline's thread budget.
        warn: function that is called with a key and a message for each frame with a problem that concerns the user;
            by default, the message is logged.
    """

    name = "cpu"
    carries = True

    def __init__(self, threads: int | None = None, warn: Callable[[str, str], None] | None = None) -> None:
        if threads is not None:
            cv2.setNumThreads(threads)
        self._warn = warn or _log_warning
        self._swscale = Swscale()

    def view(self, frame: Frame) -> CpuView:
        """Returns the view of a frame (or field), cached until `Frame.make_writable`."""
        key = frame.field, frame.color, frame.display
        view: CpuView | None = frame.views.cached.get(key)
        if view is None:
            view = CpuView(frame, self._swscale)
            # A converted image is not cached, because it would at least double the memory of queued frames.
            if view.image is frame.image:
                frame.views.cached[key] = view
        return view

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> list[Crops[Float32]]:
        """Cuts one crop per place: float32 1×3×S×S, RGB 0…1.

        Args:
            frame: an SDR, PQ or HLG frame. `color_curves.engine_curve` maps HDR values. The frame's edges replicate.
            places: per crop the matrix (2×3, display → crop pixels) and S.
        """
        view = self.view(frame) if places else None
        return (
            [
                Crops(
                    np.ascontiguousarray(view.rgb(matrix, (size, size)), np.float32)[None],
                    np.array(matrix[None], np.float64),
                )
                for matrix, size in places
            ]
            if view
            else []
        )

    def shape(self, faces: Sequence[ShapeTask]) -> list[HostCorrection]:
        """Applies `rtface.correct.shape_part` to each face."""
        return [_shape_face(face) for face in faces]

    def read(self, correction: Correction) -> tuple[Float32, Float]:
        """Returns the correction's array and matrix."""
        assert isinstance(correction, HostCorrection)
        return correction.pixels, correction.matrix

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> list[Crops[Float32]]:
        """Returns the crops unchanged: they are in host memory."""
        return [Crops(host_array(c.pixels), c.matrices) for c in crops]

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Does nothing, because crops use no device memory."""

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Pixels]]:
        """Returns the crops unchanged: `drop` does not release them."""
        return crops

    def warn_converted(self, frame: Frame) -> None:
        """Warns that frames of this pixel format are converted."""
        name = frame.image.format.name
        self._warn(
            "pixel_format",
            f"frames with faces are converted from {name} to {fallback(name)}, because {name} cannot be corrected",
        )

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds corrections to the frame's planes. Samples outside all masks stay bit-identical.

        Args:
            frame: the frame to correct. `make_writable()` is called before the first write.
            corrections: `HostCorrection` objects, which may differ in size.

        Returns:
            The argument if there is nothing to write, else the frame marked `touched`. If its pixel format must first
            be converted, the returned frame has a new image, and the user is warned.

        Raises:
            EngineError: a correction contains NaN or infinity. The frame is unchanged in this case.
        """
        cuts: list[Patch | None] = []
        dithered = False
        for c in corrections:
            assert isinstance(c, HostCorrection)
            cuts.append(cut_patch(c.pixels, c.mask, c.matrix))
            dithered |= c.dithered
        patches = [patch for patch in cuts if patch is not None]
        if not patches:
            return frame
        image = software(frame.image)
        if image is not frame.image:
            frame = replace(frame, image=image)
        if layout(image.format.name) is None:
            self.warn_converted(frame)
            image = native_image(image)
            frame = replace(frame, image=image)
        form = layout(image.format.name)
        assert form is not None
        curve = curve_of(frame.color)
        if curve is not None:
            view = self.view(frame)
            for patch in patches:
                h, w = patch.support.shape
                source = view.rgb(patch.matrix, (w, h), native=True)
                native = curve.backward(np.ascontiguousarray(patch.correction.transpose(2, 0, 1)), source)
                patch.correction = np.ascontiguousarray(native.transpose(1, 2, 0))
        frame.make_writable()
        parity = field_parity(frame.display, frame.field)
        views = planes(image, form, parity)
        full = full_range(form, frame.color)
        weights = rows(form, frame.color)
        groups = [[patches[n] for n in numbers] for numbers in overlapping([patch.display_box() for patch in patches])]
        colourless = False
        if form.kind == "rgb":
            to_plane = plane_matrix((image.width, image.height), frame.display, field=frame.field)
            colourless = all(
                neutral_rgb(views, Placement(group, to_plane, views["r"].shape).box, form) for group in groups
            )
            weights = gray_rows(form, frame.color) if colourless else weights
        for group in groups:
            placements: dict[tuple[int, int], Placement] = {}
            for role in weights:
                sub = form.role_subsampling(role)
                if sub not in placements:
                    to_plane = plane_matrix(
                        (image.width, image.height),
                        frame.display,
                        subsampling=sub,
                        siting=frame.color.siting,
                        field=frame.field,
                    )
                    placements[sub] = Placement(group, to_plane, views[role].shape)
            chroma_box = placements[form.subsampling].box
            gray = form.kind == "yuv" and all(neutral(views[role], chroma_box, form) for role in ("u", "v"))
            for role, row in weights.items():
                placement = placements[form.role_subsampling(role)]
                if placement.empty or (gray and role != "y"):
                    continue
                values, gate = placement.place(row)
                legal = code_range(form.bits, full, chroma=role in ("u", "v"))
                dither = Dither(frame.pts, 0 if colourless else _COMPONENTS[role], parity) if dithered else None
                write(views[role], placement.box, values, gate, dither, form, (legal.low, legal.high))
        return replace(frame, touched=True)


def _shape_face(face: ShapeTask) -> HostCorrection:
    matrix, size, restored, state = face.crops.matrices[0], face.crops.size, face.restored, state_of(face)
    crop = host_array(face.crops.pixels)[0]
    if restored is None:
        pixels, mask = carried(crop, state, face.shaping, time=face.time, scale=face.scale)
    else:
        mask = state.mask.of(size, face.mesh, face.shaping.region, face.time)
        occlusion = restored.occlusion
        part = shape_part(
            host_array(restored.pixels)[0],
            crop,
            mask,
            state,
            face.shaping,
            time=face.time,
            seed=face.seed,
            scale=face.scale,
            occlusion=occlusion[0] if isinstance(occlusion, np.ndarray) else None,
            eyes=irises(size, face.mesh),
            openings=openings_of(face.mesh, size),
        )
        if part is None:
            return HostCorrection(np.zeros((1, 1, 3), np.float32), np.zeros((1, 1), np.float32), matrix)
        pixels, mask, (left, top, *_) = part
        matrix = compose(translation(-left, -top), matrix)
    return HostCorrection(pixels, mask, matrix)
