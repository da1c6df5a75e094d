"""Defines the interfaces between packages: tracker, engine, device, source and sink.

`enhance` uses adapters (`media`, `tracking`, `device`, `engine`) through these protocols only; docs/architecture.md
lists the permitted imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, runtime_checkable

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
    """Writes packets, and frames in pts order. The output is either complete or absent.

    Attributes:
        kept: number of frames at the start of the output that are preserved after `abort` or a failed write.
    """

    @property
    def kept(self) -> int: ...
    def write(self, item: Item) -> None: ...

    def finish(self) -> None:
        """Flushes, and publishes the output under its name."""

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early. With `keep_partial`, leaves a playable file with "partial" in its name; returns its path."""
        ...


class View(Protocol):
    """Lets trackers and analysers read a frame: RGB in display space, at any scale, on demand."""

    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        """Returns a reduced frame and its pixels' size in display pixels. RGB uint8 h×w×3, longer side ≤ max_side."""
        ...

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns a region, RGB uint8 h×w×3. `matrix` (2×3, display → crop pixels) maps it to `size` (w, h).

        The region is area-filtered if it shrinks, and black outside the frame.
        """
        ...

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Returns a region's brightness, uint8 h×w, for comparing regions of a film.

        Samples outside the frame and the scale of the values depend on the format.
        """
        ...


ALL_FACES = sys.maxsize
"""The value of a face limit that means no limit."""


class Tracker(Protocol):
    """Finds faces, tracks them over time, and stabilises their points."""

    sparing: bool
    """Set before each `update`, True if time is short: the tracker may then read fewer faces a frame."""
    watchful: bool
    """Set before each `update`, True if a stage hides faces: the tracker fills `unfollowed`, and runs the detector
    on every frame unless `sparing`."""
    thorough: bool
    """Set before each `update`, True for a still: the tracker may then take longer to find small and doubtful faces."""
    unfollowed: tuple[Face, ...]
    """After `update`: faces on this frame that no returned face covers (`Frame.unfollowed`)."""
    beyond: int
    """After `update`: the number of faces seen on this frame beyond the limit."""

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces on a frame. `time` is in seconds and increases; `cut` forgets all tracks."""
        ...

    def reset(self) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class FilmTracker(Tracker, Protocol):
    """A tracker that need not read every frame of a film. Its `update` is `read`, then `smoothed`.

    Attributes:
        settled: after `read`, whether every followed face was seen, and none is on trial.
    """

    settled: bool

    def sees_cut(self, view: View) -> bool:
        """Returns whether a frame begins a scene. Called once for each frame, in order, before it is read."""
        ...

    def read(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Returns the faces on a frame before smoothing. Looks for no cut itself."""
        ...

    def smoothed(self, faces: tuple[Face, ...], time: float) -> tuple[Face, ...]:
        """Returns the faces without jitter. Called for each frame, with rising times."""
        ...

    def saved(self) -> object:
        """Returns the state of `read`."""
        ...

    def restore(self, state: Any) -> None:
        """Returns to a state of `saved`."""
        ...


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Describes a map that an engine's head computes on a GPU.

    Attributes:
        shape: rows and columns of the map.
        region: the covered x, y, width and height in crop pixels.
    """

    shape: tuple[int, int]
    region: tuple[int, int, int, int]


@dataclass(slots=True)
class Restored(Generic[PixelsCo]):
    """Holds an engine's result for a batch of crops, in their memory.

    Attributes:
        pixels: float32 N×3×S×S, RGB, 0…1.
        state: state of the engine for its next call; None for a stateless engine.
        occlusion: float32 N×S×S, 1 = something covers the face; None if the engine has no such head.
        log_scale: float32 N×rows×columns over the engine's region, log of the Laplace scale of the error (for
            values 0…1); None if the engine has no such head.
    """

    pixels: PixelsCo
    state: object = None
    occlusion: Float32 | HeadMap | None = None
    log_scale: Float32 | HeadMap | None = None


class Engine(Protocol):
    """Runs a restoration network.

    Attributes:
        size: S, the side in pixels of its square input crop.
        whole: whether it restores the whole crop, including hair and neck.
        heavy: whether films run it on keyframes only, unless the user sets another spacing.
        vivid: whether it invents detail that is likely rather than true.
        ms: milliseconds for one crop while nothing else runs, as measured so far.
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
        The result's arrays are in the same memory.

        `after` is the result of the last call for the same faces, done or not; None for new faces. Stateless engines
        ignore it."""
        ...

    def stand_back(self) -> None:
        """Lowers the engine's priority, if supported. From then on no frame waits for it."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ShapingOptions:
    """Holds the options for correcting one face.

    Attributes:
        strength: factor of the correction, 0…1.5; 0 changes nothing.
        grain: "match" and "less" restore the texture of the skin around the face; "none" keeps the engine's texture.
        average: whether to take the gated average over time (for engines without recurrent state).
        gate: whether to fade out where engine and image show different content.
        keep: whether to store this frame as a keyframe, for the next frames, which have no engine.
        region: "face", or "head": also hair, ears and neck.
        share: weight of this frame's engine in the correction; the previous engine has 1 - `share`. With `keep` only.
        still: whether no earlier frame distinguishes flecks from the face; small spots are then not strengthened.
        known: whether the engine has learnt the person, including the eye colour; otherwise the eyes' hue is preserved.
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
    """Holds the state of a track's correction from frame to frame (`rtface.correct.CorrectionState`)."""

    def reset(self) -> None: ...


class ShapeTask(Protocol):
    """Holds the input of `Device.shape` for one face (`rtface.enhance.tasks.FaceTask`).

    Attributes:
        restored: the engine's result; None between keyframes, if the device carries, or if there is no result yet.
        crops: the crop of this face.
        mesh: the face's points in crop pixels, float64 (478, 2), or None.
        state: state of the track's correction; `shape` updates it.
        shaping: the user's options.
        time: time of the frame in seconds.
        seed: a number for each track and frame, for synthetic grain.
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
    """Holds the pixels to add for one face, in its device's memory.

    Attributes:
        matrix: float64 2×3, display → pixels of the correction.
    """

    @property
    def matrix(self) -> Float: ...


class Device(Protocol):
    """Cuts crops from native planes, shapes engines' results, and composites them.

    Attributes:
        carries: whether `shape` moves the last keyframe's correction to faces without an engine's result
            (`rtface.correct.reproject`), so that an engine may pause between keyframes. Keyframes combined with a
            light engine's results (`rtface.enhance.keyframes.scheduler`) are combined on the host without this.
    """

    @property
    def name(self) -> str: ...
    @property
    def carries(self) -> bool: ...
    def view(self, frame: Frame) -> View: ...

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> Sequence[Crops[Pixels]]:
        """Cuts a crop for each place of a frame (or field). A place is a 2×3 matrix, display → crop pixels, and the
        side of the crop."""
        ...

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Float32]]:
        """Copies crops of one frame to host memory, float32 1×3×S×S, and waits. Copies do not depend on the frame."""
        ...

    def shape(self, faces: Sequence[ShapeTask]) -> Sequence[Correction]:
        """Converts restored crops of one frame to corrections (`rtface.correct`). An engine's result may be in the
        memory of the device's crops, or in that of the host."""
        ...

    def read(self, correction: Correction) -> tuple[Float32, Float]:
        """Returns the pixels that a correction will add, and their matrix. The pixels are float32 h×w×3
        RGB, 1 = white, in host memory; the matrix is 2×3, display → pixels."""
        ...

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds corrections to the frame's own planes, and completes `cut`.

        Samples for which every mask is 0 stay bit-identical. May write into `frame.image` after `make_writable()`.
        """
        ...

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Releases crops that will not be pasted, or not soon (`cut_again`)."""

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Pixels]]:
        """Restores dropped crops of an unchanged frame. They can then be shaped after all."""
        ...


class CodedNetwork(Protocol):
    """Removes coding artefacts and noise at the encoded resolution. Not thread-safe."""

    def __call__(self, picture: Bytes, steps: Float32 | None) -> tuple[Float32, Float32]:
        """Returns the correction and expected errors. The correction is float32 3×h×w (of values 0…1). The errors are
        the mean squared errors before and after it, float32 2×h/8×w/8 in squared 8-bit code values. Both may be
        valid only until the next call.

        Args:
            picture: uint8 h×w×3 RGB, sides multiples of 16.
            steps: log2 of the codec's quantiser step of each 8×8 cell (`Quantisers`), float32 h/8×w/8; None if the
                stream has none.
        """
        ...


class Engines(Protocol):
    """Holds the engines of a run (`rtface.engine.engine_set.EngineSet`).

    Attributes:
        described: names and devices for the report.
    """

    @property
    def described(self) -> tuple[str, str]: ...
    def pick(self, face_width: float, faces: int = 0, current: str | None = None) -> Engine:
        """Picks the engine for a face. `faces` is the number that share a live frame's time; 0: no limit (films)."""
        ...

    def named(self, name: str) -> Engine: ...

    def prepare(self, name: str) -> None:
        """Loads the named engine, and its weights for persons, for later faces."""

    def of_person(self, engine: Engine, person: str) -> Engine:
        """Returns the engine with a person's weights, if loaded; else `engine`."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """Holds a device and the engines for its crops. If crops are on a GPU, so are the engines.

    Attributes:
        ahead: number of frames that engines may process while the next one is prepared.
        close: releases device and engines, if the runtime owns them; safe to call twice.
    """

    device: Device
    engines: Engines
    ahead: int = 1
    close: Callable[[], None] = lambda: None
