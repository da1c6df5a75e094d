"""Frames in, frames out: the same tracking, engines and correction as `rtface run`, for a program's own loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Any, Literal, Self, overload

import av
import numpy as np

from rtface.arrays import ArrayFormat, array_from_image, check_format, copy_image, image_from_array
from rtface.config import Options
from rtface.engine.service import SMALL
from rtface.enhance import Enhance
from rtface.errors import UsageError
from rtface.frame import Bytes, Color, Face, Float, Frame
from rtface.media.color import color_of
from rtface.stages import Stages, before
from rtface.stats import Stats
from rtface.track import create_tracker
from rtface.tracking import track
from rtface.workshops import asked_by, open_at_once, open_workshop

# Faces that callers hand over get a box this much wider than their five points (brow to chin on the template).
_BOX_SIDE = 2.3


class Enhancer:
    """Enhances the faces of pictures that arrive one by one, in order.

    Args:
        engine: name of an engine, "default" or "auto" (`rtface engines` lists them).
        strength: how much of the correction is added, 0…1; may be changed between frames.
        device: "auto", "cpu", or another name that `rtface doctor` lists.
        format: channel order of H×W×3 arrays, "rgb" or "bgr" (OpenCV).
        fps: frames a second, for the filters over time, where `e(frame, time=…)` is not given.
        analysis: False corrects every face fully; True (default) looks at each face and leaves clean ones bit for bit.
        wait: False starts at once on the CPU (with the small engine, where `engine` leaves the choice) and goes to the
            card between two frames when that is ready; True (default) waits for it. It makes no difference without one.
        options: any further option of `rtface.Options`: colour, grain, tracker, faces, max_faces, threads …

    Raises:
        UsageError: an option that does not exist or cannot be used.
        MissingComponent: a model file or package is not there.

    Example:
        >>> with rtface.Enhancer() as e:
        ...     for picture in pictures:      # H×W×3 uint8, RGB
        ...         show(e(picture))
    """

    def __init__(self, engine: str = "default", strength: float = 1.0, device: str = "auto",
                 format: Literal["rgb", "bgr"] = "rgb", *, fps: float = 30.0, analysis: bool = True,
                 wait: bool = True, **options: Any) -> None:
        self._options = Options.of({"engine": engine, "strength": strength, "device": device, **options})
        self._format: ArrayFormat = check_format(format)
        if not fps > 0:
            raise UsageError(f"fps={fps}: give the frames a second, such as 30")
        self._tick = Fraction(1, 90_000)
        self._step = round(90_000 / fps)
        self._pts = -self._step
        self.stats = Stats()
        self._closing = ExitStack()
        self._stages = Stages.open(self._options.stages, self.stats,
                                   commercial_use=self._options.commercial_use)
        chosen, threads = asked_by(self._options), self._options.threads
        coming = None
        try:
            if wait:
                place = open_workshop(chosen, device, self._closing, threads=threads, warn=self.stats.warn)
            else:
                place, coming = open_at_once(chosen, device, self._closing, threads=threads, warn=self.stats.warn)
            # Its networks stay on the CPU: a lost card must not take the tracker with it.
            self._tracker = create_tracker(self._options.tracker, max_faces=self._options.max_faces)
        except BaseException:
            self._closing.close()
            raise
        self._tracker.watchful = self._stages.hides
        self._closing.callback(self._tracker.close)
        self._closing.callback(self._stages.close)
        self._enhance = Enhance(place.device, place.engines, self._options, self.stats, analysis=analysis,
                                small=SMALL)
        self._enhance.coming = coming
        # A lost card must not end a call: the CPU goes on, a moment later.
        self._enhance.spare = lambda: open_workshop(chosen, "cpu", self._closing, threads=threads, warn=self.stats.warn)
        self._faces: tuple[Face, ...] = ()
        self.enabled = True

    @property
    def strength(self) -> float:
        """How much of the correction is added, 0…1."""
        return self._enhance.strength

    @strength.setter
    def strength(self, value: float) -> None:
        if not 0.0 <= value <= 1.0:
            raise UsageError(f"strength={value}: give a number from 0 to 1")
        self._enhance.strength = float(value)

    @property
    def faces(self) -> tuple[Face, ...]:
        """The faces of the last frame, display space."""
        return self._faces

    @overload
    def __call__(self, frame: Bytes, faces: Sequence[Face | Float] | None = None, *, still: bool = False,
                 time: float | None = None) -> Bytes: ...
    @overload
    def __call__(self, frame: av.VideoFrame, faces: Sequence[Face | Float] | None = None, *, still: bool = False,
                 time: float | None = None) -> av.VideoFrame: ...

    def __call__(self, frame: Bytes | av.VideoFrame, faces: Sequence[Face | Float] | None = None, *,
                 still: bool = False, time: float | None = None) -> Bytes | av.VideoFrame:
        """The enhanced picture, in memory of its own; the input is never written into.

        Args:
            frame: H×W×3 uint8 in the order that `format` names, or an av.VideoFrame in any format.
            faces: the caller's own faces instead of the tracker's: `Face` objects, or float arrays (5, 2) of eye
                centres, nose tip and mouth corners in pixels; the same place in the list is the same face.
            still: this picture has nothing to do with the one before.
            time: seconds, rising; None counts on at `fps`.

        Raises:
            UsageError: wrong type, dtype or shape; the message says the fix.
        """
        given = isinstance(frame, av.VideoFrame)
        image = copy_image(frame) if isinstance(frame, av.VideoFrame) else image_from_array(frame, self._format)
        self._pts = self._pts + self._step if time is None else max(self._pts + 1, round(time * 90_000))
        item = Frame(image, self._pts, self._tick, self._step, color=color_of(image) if given else Color("rgb", True),
                     new=still)
        seen = before(item) if self._stages.needs_before else None
        # A veil must not fall with the enhancement: stages need faces as long as there are any.
        if self.enabled or self._stages:
            if faces is None:
                item = next(track([item], self._tracker, self._enhance.workshop.device, self.stats))
            else:
                item = replace(item, faces=tuple(own_face(face, k) for k, face in enumerate(faces)))
            assert isinstance(item, Frame)
            self._faces = item.faces
            if self.enabled:
                item = self._enhance.collect(self._enhance.submit(item))
        else:
            self._faces = ()
        item = self._stages.process(item, seen)
        return item.image if given else array_from_image(item.image)

    def reset(self) -> None:
        """Forgets every face: the next frame starts afresh, as after a cut."""
        self._tracker.reset()
        self._enhance.reset()
        self._faces = ()

    def close(self) -> None:
        """Releases engines and tracker; safe to call twice."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def own_face(face: Face | Float, place: int) -> Face:
    """The face that a caller means by a `Face` or by five points, the `place`-th of a list; UsageError else."""
    if isinstance(face, Face):
        return face
    points = np.asarray(face, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(f"faces[{place}] must be a Face or a finite float array (5, 2) of eye centres, nose tip and "
                         f"mouth corners in pixels, not {'×'.join(map(str, points.shape)) or 'a number'}")
    centre, side = points.mean(axis=0), _BOX_SIDE * float(np.ptp(points, axis=0).max())
    return Face(place + 1, np.concatenate([centre - side / 2, centre + side / 2]), points)
