"""The interfaces between the packages: tracker, engine, device, source and sink.

`enhance` uses adapters (`media`, `tracking`, `device`, `engine`) through these protocols only; docs/architecture.md
lists the permitted imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol

from rtface.frame import (
    Bytes,
    CorrectedRegion,
    Crops,
    Face,
    Float,
    Float32,
    Frame,
    GrainMode,
    Packet,
    Pixels,
    PixelsCo,
    PixelsT,
)

Item = Frame | Packet

MEMORY_S = 0.3
"""Maximum age in seconds of a recurrent engine's state."""


class Sink(Protocol):
    """Writes frames in pts order and packets. The output is complete or absent.

    Attributes:
        kept: after `abort` or a failed write, the number of frames, from the first on, in the kept part.
    """

    @property
    def kept(self) -> int: ...
    def write(self, item: Item) -> None: ...

    def finish(self) -> None:
        """Flushes, and publishes the output under its name."""

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early. With `keep_partial` keeps a playable file whose name says partial, and returns its path."""
        ...


class View(Protocol):
    """A frame for trackers and analysers: RGB in display space, at any scale, on demand."""

    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        """Returns the frame, RGB uint8 h×w×3, longer side ≤ max_side. Also display pixels per its pixel in x and y."""
        ...

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns a region, RGB uint8 h×w×3. `matrix` (2×3, display → crop pixels) maps it to `size` (w, h).

        Area-filtered when it shrinks; black outside the frame.
        """
        ...

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns a region's brightness, uint8 h×w, to compare regions of a film.

        Samples outside the frame, and the scale of the values, depend on the format.
        """
        ...


ALL_FACES = sys.maxsize
"""The value of a face limit that means no limit."""


class Tracker(Protocol):
    """Finds faces, tracks them over time, and stabilises their points."""

    sparing: bool
    """Set before each `update`, True where time is short: the tracker may then read fewer faces a frame."""
    watchful: bool
    """Set before each `update`, True where a stage hides faces: the tracker fills `unfollowed`, and runs the detector
    on every frame unless `sparing`."""
    thorough: bool
    """Set before each `update`, True for a still: the tracker may then take longer to find small and doubtful faces."""
    unfollowed: tuple[Face, ...]
    """After `update`: faces on this frame that no returned one covers (`Frame.unfollowed`)."""
    beyond: int
    """After `update`: the number of faces seen on this frame beyond the limit."""

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces on a frame. `time` in seconds, rising; `cut` forgets all tracks."""
        ...

    def reset(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Locates the map of an engine's head, with values on a GPU.

    Attributes:
        shape: rows and columns of the map.
        region: the covered x, y, width and height in crop pixels.
    """

    shape: tuple[int, int]
    region: tuple[int, int, int, int]


@dataclass(slots=True)
class Restored(Generic[PixelsCo]):
    """An engine's answer to a batch of crops, in the crops' memory.

    Attributes:
        pixels: float32 N×3×S×S, RGB, 0…1.
        state: the engine's own, for its next call; None for a stateless engine.
        occlusion: float32 N×S×S, 1 = something covers the face; None when the engine has no such head.
        log_scale: float32 N×rows×columns over the engine's region, log of the Laplace scale of the error (for
            values 0…1); None when the engine has no such head.
    """

    pixels: PixelsCo
    state: object = None
    occlusion: Float32 | HeadMap | None = None
    log_scale: Float32 | HeadMap | None = None


class Engine(Protocol):
    """A restoration network, ready to run.

    Attributes:
        size: S, the side in pixels of the square crop it takes.
        whole: whether it restores the whole crop, including hair and neck.
        heavy: whether films run it on keyframes only, unless the user sets another spacing.
        vivid: whether it invents detail, which is likely rather than true.
        ms: milliseconds for one crop where nothing else runs, as measured so far.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def whole(self) -> bool: ...
    @property
    def recurrent(self) -> bool: ...
    @property
    def heavy(self) -> bool: ...
    @property
    def vivid(self) -> bool: ...
    @property
    def ms(self) -> float: ...
    def submit(self, crops: PixelsT, after: Future[Restored[PixelsT]] | None = None) -> Future[Restored[PixelsT]]:
        """Restores `Crops.pixels`: float32 N×3×S×S RGB 0…1, in its device's memory, or on the host (one crop).
        The answer's arrays are in the same memory.

        `after` is the result of the last call for the same faces, done or not; None for new faces. Stateless engines
        ignore it."""
        ...

    def stand_back(self) -> None:
        """Lowers its priority, where supported: from now on no frame waits for it."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ShapingOptions:
    """Options of the correction of one face.

    Attributes:
        strength: 0…1.5 scales the correction; 0 is the identity.
        grain: "match" and "less" restore the texture of the skin around the face; "none" keeps the engine's.
        average: take the gated average over time (for engines without recurrent state).
        gate: fade out where engine and image show different content.
        keep: store this frame as a keyframe, for the following frames without an engine.
        region: "face", or "head": also hair, ears and neck.
        share: of this frame's engine in the correction; the rest is the previous engine's. With `keep`.
        still: no earlier frame tells flecks from the face: no small spot becomes stronger.
        known: the engine has learnt the person, including the eyes' colour, whose hue is otherwise preserved.
        detail: factor of additional fine detail (`rtface.correct.detail`): 0 none, 1 as much as makes a face clear,
            1.5 at most.
    """

    strength: float = 1.0
    grain: GrainMode = "match"
    average: bool = False
    gate: bool = True
    keep: bool = False
    region: CorrectedRegion = "face"
    share: float = 1.0
    still: bool = False
    known: bool = False
    detail: float = 0.0


class TrackMemory(Protocol):
    """State of one track's correction from frame to frame (`rtface.correct.CorrectionState`)."""

    def reset(self) -> None: ...


class ShapeTask(Protocol):
    """The input of `Device.shape` for one face (`rtface.enhance.tasks.FaceTask`).

    Attributes:
        restored: the engine's answer; None between keyframes, where the device carries, or while there is none.
        crops: the crop of this face.
        mesh: the face's points in crop pixels, float64 (478, 2), or None.
        state: of its track's correction; `shape` updates it.
        shaping: the user's options.
        time: of the frame, seconds.
        seed: a number for each track and frame (synthetic grain).
        scale: crop pixels per frame pixel.
    """

    restored: Restored[Pixels] | None

    @property
    def crops(self) -> Crops[Pixels]: ...
    @property
    def mesh(self) -> Float | None: ...
    @property
    def state(self) -> TrackMemory: ...
    @property
    def shaping(self) -> ShapingOptions: ...
    @property
    def time(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def scale(self) -> float: ...


class Correction(Protocol):
    """The pixels to add for one face, in its device's memory.

    Attributes:
        matrix: float64 2×3, display → the correction's pixels.
    """

    @property
    def matrix(self) -> Float: ...


class Device(Protocol):
    """Cuts crops from native planes, shapes engine answers, and composites them.

    Attributes:
        carries: whether `shape` moves the last keyframe's correction to faces without an engine's answer
            (`rtface.correct.reproject`), so that an engine may pause between keyframes. Keyframes over a light engine's
            answers (`rtface.enhance.keyframes.scheduler`) are joined on the host and do not need it.
    """

    @property
    def name(self) -> str: ...
    @property
    def carries(self) -> bool: ...
    def view(self, frame: Frame) -> View: ...

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> Sequence[Crops[Pixels]]:
        """Cuts a crop for each place of a frame (or field): `matrix`, 2×3, display → crop pixels, and the crop's
        side."""
        ...

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Float32]]:
        """Copies crops of one frame to host memory, float32 1×3×S×S, and waits. They do not depend on the frame."""
        ...

    def shape(self, faces: Sequence[ShapeTask]) -> Sequence[Correction]:
        """Converts restored crops of one frame to corrections (`rtface.correct`). An answer may be in the memory of
        the device's crops, or of the host."""
        ...

    def read(self, correction: Correction) -> tuple[Float32, Float]:
        """Returns the pixels that a correction of `shape` will add: float32 h×w×3 RGB, 1 = white, in host memory, and
        its matrix, 2×3, display → its pixels."""
        ...

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds corrections to the frame's own planes, and completes `cut`.

        Where every mask is 0 the samples stay bit for bit. May write into `frame.image` after `make_writable()`.
        """
        ...

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Releases crops that will not be pasted, or not soon (`cut_again`)."""

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Pixels]]:
        """Restores dropped crops of an unchanged frame, to shape them after all."""
        ...


class CodedNetwork(Protocol):
    """Removes coding artefacts and noise at coded size. Not for use from several threads."""

    def __call__(self, picture: Bytes, steps: Float32 | None) -> tuple[Float32, Float32]:
        """Returns the correction, float32 3×h×w (of values 0…1), and expected errors. These are the mean squared errors
        before and after it, float32 2×h/8×w/8 in squared code values of 8 bits. Both may be valid until the next call
        only.

        Args:
            picture: uint8 h×w×3 RGB, sides multiples of 16.
            steps: log2 of the codec's quantiser step of each 8×8 cell (`Quantisers`), float32 h/8×w/8; None where the
                stream has none.
        """
        ...


class Engines(Protocol):
    """The engines of a run (`rtface.engine.engine_set.EngineSet`).

    Attributes:
        described: names and devices for the report.
    """

    @property
    def described(self) -> tuple[str, str]: ...
    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> Engine:
        """Picks the engine for a face. `faces` share a live frame's time; 0 for no time limit (films)."""
        ...

    def named(self, name: str) -> Engine: ...

    def prepare(self, name: str) -> None:
        """Loads the named engine and its weights of persons for later faces."""

    def of_person(self, engine: Engine, person: str) -> Engine:
        """Returns the engine with a person's weights, if loaded; else `engine`."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device and the engines for its crops: crops on a GPU need engines there.

    Attributes:
        ahead: frames that engines may process while the next is prepared.
        close: releases device and engines, where the runtime owns them; safe to call twice.
    """

    device: Device
    engines: Engines
    ahead: int = 1
    close: Callable[[], None] = lambda: None
