"""Frames in, frames out: the same tracking, engines and correction as `rtface run`, for a program's own loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Real
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import av
import numpy as np

from rtface.analysis.treatment import Treatment
from rtface.config.option_types import EnhancerOptions
from rtface.config.options import OPTIONS, Options, Scope, check_scope, learnt_persons
from rtface.engine.engine_set import engine_names, without_persons
from rtface.enhance.tasks import FaceTask
from rtface.errors import Closed, UsageError
from rtface.frame import Bytes, Color, Face, Float, Frame
from rtface.media.formats.color import color_of
from rtface.pipeline.build import frame_parts
from rtface.pipeline.chain import find_faces
from rtface.stages.runner import Stages, before
from rtface.stats import Stats
from rtface.util import parse
from rtface.util.av_arrays import ArrayFormat, check_format, copy_image, image_from_array

# Pixels; the five points of a face that can be seen are farther apart.
_LEAST_SPREAD = 1.0
# Faces that callers hand over get a box this much wider than their five points (brow to chin on the template).
_BOX_SIDE = 2.3


@dataclass(frozen=True, slots=True)
class FaceResult:
    """What was done to one face of one frame.

    Attributes:
        track_id: the face's number, as in `Face`.
        strength: how much of the engine's correction was added; 0 for none of it.
        engine: name of the engine that made the correction, None without one.
        reasons: what the analysis found, or why the face was left alone, one short phrase each.
        first: strength of the first stage in the face, 0…1. Where `strength` is 0 too, and nothing was done round it,
            the face is as it was, bit for bit.
    """

    track_id: int
    strength: float
    engine: str | None
    reasons: tuple[str, ...]
    first: float = 0.0


class Enhancer:
    """Enhances the faces of frames that arrive one by one, in order.

    Args:
        engine: name of an engine, "default" or "auto" (`rtface engines` lists them).
        strength: how much of the correction is added, 0…1; may be changed between frames.
        device: "auto", "cpu", or another name that `rtface doctor` lists.
        format: channel order of H×W×3 arrays, "rgb" or "bgr" (OpenCV).
        fps: frames a second, for the filters over time, where `e(frame, time=…)` is not given.
        analysis: False corrects every face fully; True (default) looks at each face and leaves clean ones bit for bit.
        wait: False starts at once on the CPU (with the light engine, where `engine` leaves the choice) and goes to the
            GPU between two frames when that is ready; True (default) waits for it. It makes no difference without one.
        options: any further option of `rtface.Options`: grain, tracker, faces, max_faces, threads …

    Raises:
        UsageError: an option that does not exist or cannot be used.
        MissingComponent: a model file or package is not there.

    Example:
        >>> with rtface.Enhancer() as e:
        ...     for frame in frames:          # H×W×3 uint8, RGB
        ...         show(e(frame))
    """

    def __init__(
        self,
        engine: str = "default",
        strength: float = 1.0,
        device: str = "auto",
        format: Literal["rgb", "bgr"] = "rgb",
        *,
        fps: float = 30.0,
        analysis: bool = True,
        wait: bool = True,
        **options: Unpack[EnhancerOptions],
    ) -> None:
        self._closing, self._closed = ExitStack(), False
        named = {"engine": engine, "strength": strength, "device": device}
        asked = {key: value for key, value in named.items() if value != OPTIONS[key].default}
        self._options = Options.of({**asked, **options})
        check_scope(options, self._options, Scope.ENHANCER)
        self._format: ArrayFormat = check_format(format)
        rate: Any = parse.rate(fps, "fps")
        self._tick = Fraction(1, 90_000)
        self._step = round(90_000 / rate)
        self._open(analysis=analysis, wait=wait)
        self._faces: tuple[Face, ...] = ()
        self._results: tuple[FaceResult, ...] = ()
        self.enabled = True

    def _open(self, *, analysis: bool, wait: bool) -> None:
        self._pts = -self._step
        self.stats = Stats()
        engines = engine_names(self._options.engine, self._options.engine_control)
        if (unused := without_persons(engines, learnt_persons(self._options.person))) is not None:
            self.stats.warn("person", unused)
        self._stages = Stages.open(self._options.stages, self.stats, commercial_use=self._options.commercial_use)
        try:
            parts = frame_parts(self._options, self.stats, self._closing, analysis=analysis, wait=wait)
        except BaseException:
            self._closing.close()
            raise
        self._tracker, self._enhance = parts.tracker, parts.enhance
        self._closing.callback(self._stages.close)

    @property
    def strength(self) -> float:
        """How much of the correction is added, 0…1."""
        return self._enhance.strength

    @strength.setter
    def strength(self, value: float) -> None:
        checked: Any = parse.share(value, "strength")
        self._enhance.strength = checked

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces of the last frame, display space."""
        return self._faces

    @property
    def results(self) -> tuple[FaceResult, ...]:
        """What was done to each of `faces`, in the same order; empty while `enabled` is False."""
        return self._results

    @overload
    def __call__(
        self,
        frame: Bytes,
        faces: Sequence[Face | Float] | None = None,
        *,
        still: bool = False,
        time: float | None = None,
    ) -> Bytes: ...
    @overload
    def __call__(
        self,
        frame: av.VideoFrame,
        faces: Sequence[Face | Float] | None = None,
        *,
        still: bool = False,
        time: float | None = None,
    ) -> av.VideoFrame: ...

    def __call__(
        self,
        frame: Bytes | av.VideoFrame,
        faces: Sequence[Face | Float] | None = None,
        *,
        still: bool = False,
        time: float | None = None,
    ) -> Bytes | av.VideoFrame:
        """The enhanced frame, in new memory; the input is never written to.

        Args:
            frame: H×W×3 uint8 in the order that `format` names, or an av.VideoFrame in any format.
            faces: the caller's own faces instead of the tracker's: `Face` objects, or float arrays (5, 2) of eye
                centres, nose tip and mouth corners in pixels; the same place in the list is the same face.
            still: the frame is unrelated to the one before.
            time: seconds, rising; None counts on at `fps`.

        Raises:
            UsageError: wrong type, dtype or shape; the message says the fix.
            Closed: the enhancer was closed.
        """
        self._check_open()
        given = isinstance(frame, av.VideoFrame)
        image = copy_image(frame) if isinstance(frame, av.VideoFrame) else image_from_array(frame, self._format)
        self._pts = self._pts + self._step if time is None else max(self._pts + 1, round(_seconds(time) * 90_000))
        item = Frame(
            image, self._pts, self._tick, self._step, color=color_of(image) if given else Color("rgb", True), new=still
        )
        seen = before(item) if self._stages.needs_before else None
        # A veil must not fall with the enhancement: stages need faces as long as there are any.
        if self.enabled or self._stages:
            if faces is None:
                hides, device = self._stages.hides, self._enhance.runtime.device
                item = find_faces(item, self._tracker, device, self.stats, watchful=hides)
                if self._options.tracker == "none" and hides:
                    item = replace(item, failed="tracker")  # faces were not searched for
            else:
                item = replace(item, faces=own_faces(faces))
            self._faces, self._results = item.faces, ()
            if self.enabled:
                item = self._corrected(item)
        else:
            self._faces, self._results = (), ()
        item = self._stages.process(item if self.enabled else replace(item, enhancing=False), seen)
        return item.image if given else item.image.to_ndarray()  # type: ignore[return-value]

    def _corrected(self, frame: Frame) -> Frame:
        task = self._enhance.submit(frame)
        faces = {face.face.track_id: face for face in task.faces}
        frame = self._enhance.collect(task)
        failed = bool(faces) and not task.faces
        tracks = self._enhance.tracks
        results = (
            _result(face, faces.get(face.track_id), tracks.treatment_of(face.track_id), failed) for face in frame.faces
        )
        first = {key: track.first[0] * self.strength for key, track in tracks.states.items()} if task.cleaned else {}
        self._results = tuple(replace(result, first=first.get(result.track_id, 0.0)) for result in results)
        return frame

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this Enhancer was closed; make a new one", code="enhancer_closed")

    def reset(self) -> None:
        """Forgets every face: the next frame starts afresh, as after a cut."""
        self._check_open()
        self._tracker.reset()
        self._enhance.reset()
        self._faces, self._results = (), ()

    def close(self) -> None:
        """Releases engines and tracker; safe to call twice. What the last frame's `faces` and `results` were stays."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _seconds(time: object) -> float:
    if isinstance(time, Real) and math.isfinite(time):
        return float(time)
    raise UsageError(
        "time must be seconds as a finite number, such as 1.5, not {value!r}; leave it out to count on at the "
        "Enhancer's fps",
        code="enhancer_time",
        value=time,
    )


def _result(face: Face, task: FaceTask | None, treatment: Treatment | None, failed: bool) -> FaceResult:
    if task is not None:
        reasons = treatment.reasons if treatment else ()
        return (
            FaceResult(face.track_id, 0.0, None, ("the correction of this frame failed",))
            if failed
            else FaceResult(face.track_id, task.strength.applied, task.engine.name, reasons)
        )
    return FaceResult(face.track_id, 0.0, None, treatment.reasons if treatment else ("not among the chosen faces",))


def own_faces(faces: Sequence[Face | Float]) -> tuple[Face, ...]:
    """The faces that a caller means by `Face` objects or five points each; UsageError for anything else."""
    try:
        given = list(faces)
    except TypeError:
        raise UsageError(
            "faces must be a list of Face objects or of arrays (5, 2), not {type}",
            code="enhancer_faces",
            type=type(faces).__name__,
        ) from None
    return tuple(own_face(face, k) for k, face in enumerate(given))


def own_face(face: Face | Float, place: int) -> Face:
    """The face that a caller means by a `Face` or by five points, the `place`-th of a list; UsageError else."""
    try:
        points = face.points if isinstance(face, Face) else np.asarray(face, np.float64)
    except (TypeError, ValueError):
        points = np.full(0, np.nan)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(
            "faces[{place}] must be a Face or a finite float array (5, 2) of eye centres, nose tip and mouth "
            "corners in pixels, not {shape}",
            code="enhancer_points",
            place=place,
            shape="×".join(map(str, points.shape)) or "a number",
        )
    if float(np.ptp(points, axis=0).max()) < _LEAST_SPREAD:
        raise UsageError(
            "faces[{place}]: its five points coincide at {point}; give eye centres, nose tip and mouth corners in "
            "pixels, or leave the face out",
            code="enhancer_coincide",
            place=place,
            point=points[0].round(1).tolist(),
        )
    if isinstance(face, Face):
        return face
    centre, side = points.mean(axis=0), _BOX_SIDE * float(np.ptp(points, axis=0).max())
    return Face(place + 1, np.concatenate([centre - side / 2, centre + side / 2]), points)
