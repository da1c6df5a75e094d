"""Enhances single frames in another program's loop, as `rtface run` does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Any, Literal, Self, overload

import av
import numpy as np

from rtface.config.options import OPTIONS, Options, Scope, check_scope, learnt_persons
from rtface.engine.engine_set import engine_names, without_persons
from rtface.errors import Closed, UsageError
from rtface.frame import Bytes, Color, Face, Float, Frame
from rtface.media.formats.color import color_of
from rtface.pipeline.build_live import frame_parts
from rtface.pipeline.chain import find_faces
from rtface.stages.runner import Stages, before
from rtface.stats import Stats
from rtface.util import parse
from rtface.util.av_arrays import ArrayFormat, check_format, copy_image, image_from_array

_SECONDS = parse.number(-1e9, 1e9)
# In pixels. The five points of a visible face are farther apart than this.
_MIN_SPREAD_PX = 1.0
# Side of the box of a caller's face, relative to the extent of its five points (brow to chin on the template).
_BOX_SIDE = 2.3


class Enhancer:
    """Enhances the faces of frames that arrive one by one, in order.

    Args:
        engine: name of an engine, "default" or "auto" (`rtface engines` lists them).
        strength: factor of the correction, 0…1; may be changed between frames.
        device: "auto", "cpu", or another name that `rtface doctor` lists.
        format: channel order of H×W×3 arrays, "rgb" or "bgr" (OpenCV).
        fps: frames a second for the filters over time, unless `e(frame, time=…)` is used.
        analysis: False corrects every face fully. True (default) analyses each face; clear faces stay unchanged.
        wait: False starts at once on the CPU (with the light engine, if `engine` leaves the choice), and switches to
            the GPU between two frames as soon as the GPU is ready. True (default) waits for the GPU, if there is one.
        options: any other option of `rtface.Options`, such as grain, tracker, faces or threads.

    Raises:
        UsageError: an option does not exist or cannot be used.
        MissingComponent: a model file or package is missing.

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
        **options: Any,
    ) -> None:
        self._closing, self._closed = ExitStack(), False
        arguments = {"engine": engine, "strength": strength, "device": device}
        changed = {key: value for key, value in arguments.items() if value != OPTIONS[key].default}
        self._options = Options.of({**changed, **options})
        check_scope(options, self._options, Scope.ENHANCER)
        self._format: ArrayFormat = check_format(format)
        rate: Any = parse.rate(fps, "fps")
        self._tick = Fraction(1, 90_000)
        self._step = round(90_000 / rate)
        self._faces: tuple[Face, ...] = ()
        self.enabled = True
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
        self._tracker, self._enhance = parts
        self._closing.callback(self._stages.close)

    @property
    def strength(self) -> float:
        """The factor of the correction, 0…1."""
        return self._enhance.strength

    @strength.setter
    def strength(self, value: float) -> None:
        checked: Any = parse.share(value, "strength")
        self._enhance.strength = checked

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces of the last frame, in display space."""
        return self._faces

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
        """Returns the enhanced frame in new memory; the input stays unchanged.

        Args:
            frame: H×W×3 uint8 in the channel order `format`, or an av.VideoFrame in any format.
            faces: the caller's own faces instead of the tracker's: `Face` objects, or float arrays (5, 2) of eye
                centres, nose tip and mouth corners in pixels; a face keeps its place in the list from frame to frame.
            still: whether the frame is unrelated to the previous one.
            time: time in seconds, later than the previous frame's; None: one frame later, by `fps`.

        Raises:
            UsageError: type, dtype or shape is wrong; the message says how to correct it.
            Closed: the enhancer was closed.
        """
        self._check_open()
        is_av_frame = isinstance(frame, av.VideoFrame)
        image = copy_image(frame) if isinstance(frame, av.VideoFrame) else image_from_array(frame, self._format)
        self._pts = (
            self._pts + self._step if time is None else max(self._pts + 1, round(_SECONDS(time, "time") * 90_000))
        )
        item = Frame(
            image,
            self._pts,
            self._tick,
            self._step,
            color=color_of(image) if is_av_frame else Color("rgb", True),
            new=still,
        )
        decoded = before(item) if self._stages.needs_before else None
        # Stages need the faces even if the enhancement is off: a veil must still cover them.
        if self.enabled or self._stages:
            if faces is None:
                hides, device = self._stages.hides, self._enhance.runtime.device
                item = find_faces(item, self._tracker, device, self.stats, watchful=hides)
                if self._options.tracker == "none" and hides:
                    item = replace(item, failed="tracker")  # no tracker has searched for faces
            else:
                item = replace(item, faces=tuple(own_face(face, k) for k, face in enumerate(faces)))
            self._faces = item.faces
            if self.enabled:
                item = self._enhance.process(item)
        else:
            self._faces = ()
        item = self._stages.process(item if self.enabled else replace(item, enhancing=False), decoded)
        return item.image if is_av_frame else item.image.to_ndarray()  # type: ignore[return-value]

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this Enhancer was closed; make a new one", code="enhancer_closed")

    def reset(self) -> None:
        """Forgets every face, as after a cut."""
        self._check_open()
        self._tracker.reset()
        self._enhance.reset()
        self._faces = ()

    def close(self) -> None:
        """Releases engines and tracker. Safe to call twice; `faces` stays readable."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def own_face(face: Face | Float, place: int) -> Face:
    """Converts a caller's `Face` or five points to a `Face`. Raises UsageError with the index `place` for other
    values."""
    points = np.asarray(face.points if isinstance(face, Face) else face)
    valid = points.shape == (5, 2) and points.dtype.kind in "fiu" and np.isfinite(points).all()
    side = _BOX_SIDE * float(np.ptp(points, axis=0).max()) if valid else 0.0
    if side < _BOX_SIDE * _MIN_SPREAD_PX:
        raise UsageError(
            "faces[{place}] must be a Face or a finite float array (5, 2) of eye centres, nose tip and mouth "
            "corners in pixels, which do not coincide",
            code="enhancer_points",
            place=place,
        )
    if isinstance(face, Face):
        return face
    centre = points.mean(axis=0)
    return Face(place + 1, np.concatenate([centre - side / 2, centre + side / 2]), points.astype(np.float64))
