"""The interfaces between the packages: what a tracker, an engine, a device, a source and a sink offer.

`enhance` knows adapters (`media`, `tracking`, `device`, `engine`) by these protocols only; docs/architecture.md says
who may import whom.
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
"""Seconds for which the state of a recurrent engine is used."""


class Sink(Protocol):
    """Takes frames in pts order and packets, interleaves them, and appears whole or not at all.

    Attributes:
        kept: after `abort` or a failed write, how many of the frames, from the first on, lie in the part that was kept.
    """

    @property
    def kept(self) -> int: ...
    def write(self, item: Item) -> None: ...

    def finish(self) -> None:
        """Flushes and makes the output appear under its name."""

    def abort(self, *, keep_partial: bool) -> str | None:
        """Ends early. With `keep_partial` a whole, playable file whose name says partial stays; returns its path."""
        ...


class View(Protocol):
    """A frame as a tracker or analyser sees it: RGB in display space, at any scale, made on demand."""

    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...

    def thumbnail(self, max_side: int) -> tuple[Bytes, float, float]:
        """Whole frame as RGB uint8 h×w×3, longer side ≤ max_side; display pixels per thumbnail pixel in x and y."""
        ...

    def crop(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """RGB uint8 h×w×3 of the region that `matrix` (2×3, display → crop pixels) maps to `size` (w, h).

        Area-filtered when it shrinks; black outside the frame.
        """
        ...

    def luma(self, matrix: Float, size: tuple[int, int]) -> Bytes:
        """Brightness uint8 h×w of such a region, to compare regions of one film with each other.

        What is outside the frame, and the scale of the values, depend on the format.
        """
        ...


ALL_FACES = sys.maxsize
"""The largest number of faces of a frame where there is no limit."""


class Tracker(Protocol):
    """Finds faces, keeps their identity over time, and steadies their points."""

    sparing: bool
    """Set before each `update`, True where time is short: the tracker may then read fewer faces a frame."""
    watchful: bool
    """Set before each `update`, True where a stage hides faces: `unfollowed` is filled, and the detector runs on every
    frame unless `sparing`."""
    thorough: bool
    """Set before each `update`, True for a still: the tracker may then take longer to find small and doubtful faces."""
    unfollowed: tuple[Face, ...]
    """After `update`: faces on this frame that no returned one covers (`Frame.unfollowed`)."""
    beyond: int
    """After `update`: faces seen on this frame that are not returned, because more were than are allowed."""

    def update(self, view: View, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        """Faces on this frame; `time` in seconds, rising; `cut` forgets all tracks."""
        ...

    def reset(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Where the map of an engine's head lies over the crop, while its values stay on a GPU.

    Attributes:
        shape: rows and columns of the map.
        region: x, y, width and height in crop pixels that it covers.
    """

    shape: tuple[int, int]
    region: tuple[int, int, int, int]


@dataclass(slots=True)
class Restored(Generic[PixelsCo]):
    """An engine's answer to a batch of crops; its arrays are where the crops were, on a GPU or on the host.

    Attributes:
        pixels: float32 N×3×S×S, RGB, 0…1.
        state: the engine's own, for its next call; None for a stateless engine.
        occlusion: float32 N×S×S, 1 = something lies in front of the face; None when the engine has no such head.
        log_scale: float32 N×rows×columns over the engine's region, log of the Laplace scale of the error (of values of
            0…1); None when the engine has no such head.
    """

    pixels: PixelsCo
    state: object = None
    occlusion: Float32 | HeadMap | None = None
    log_scale: Float32 | HeadMap | None = None


class Engine(Protocol):
    """A restoration network, ready to run.

    Attributes:
        size: S, the side in pixels of the square crop it takes.
        whole: whether it answers for all of the crop, hair and neck too.
        heavy: whether films run it on keyframes only, unless another spacing is asked for.
        vivid: whether it makes up detail, which is likely rather than true.
        ms: milliseconds that one crop takes where nothing else runs, as far as that was seen.
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
        """Restores `Crops.pixels`: float32 N×3×S×S RGB 0…1, where its device keeps them, or on the host (one crop).
        The answer's arrays are where the crops were.

        `after` is what the last call for the same faces returned, done or not; None for faces that are new. Engines
        that do not remember ignore it."""
        ...

    def stand_back(self) -> None:
        """Lowers its priority, where the system can: from now on no frame waits for it."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ShapingOptions:
    """Options of the correction of one face.

    Attributes:
        strength: 0…1.5 scales the correction; 0 is the identity.
        grain: "match" and "less" restore the texture of the skin around the face; "none" leaves the engine's.
        average: take the gated average over time (for engines without recurrent state).
        gate: fade out where engine and image disagree about what is there.
        keep: remember this frame as a keyframe, for those that follow without an engine.
        region: "face", or "head": also hair, ears and neck.
        share: of this frame's engine in the correction; the rest is the engine's before it. With `keep`.
        still: no frame before it tells flecks from the face: no small spot becomes stronger.
        known: the engine has learnt the person, and with it the colour of the eyes, which is else kept from turning.
        detail: how much of its fine detail is added once more (`rtface.correct.detail`): 0 none, 1 as much as makes a
            face clear, 1.5 at most.
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
    """What `Device.shape` needs of one face (`rtface.enhance.tasks.FaceTask`).

    Attributes:
        restored: the engine's answer; None between keyframes, where the device carries, or while there is none.
        crops: the crop of this one face.
        mesh: the face's points in crop pixels, float64 (478, 2), or None.
        state: of its track's correction; changed.
        shaping: what the user asked for.
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
    """What is to be added to a frame for one face; only the device that shaped it knows where it is.

    Attributes:
        matrix: float64 2×3, display → the correction's pixels.
    """

    @property
    def matrix(self) -> Float: ...


class Device(Protocol):
    """Cuts crops out of native planes, shapes what engines made of them, and adds it to the planes.

    Attributes:
        carries: whether `shape` moves the last keyframe's correction to faces that no engine has seen
            (`rtface.correct.reproject`), so that an engine may rest between keyframes. Keyframes over a light engine's
            answers (`rtface.enhance.keyframes.scheduler`) are joined on the host and do not need it.
    """

    @property
    def name(self) -> str: ...
    @property
    def carries(self) -> bool: ...
    def view(self, frame: Frame) -> View: ...

    def cut(self, frame: Frame, places: Sequence[tuple[Float, int]]) -> Sequence[Crops[Pixels]]:
        """One crop for each place of a frame (or field): `matrix`, 2×3, display → crop pixels, and the crop's side."""
        ...

    def to_host(self, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Float32]]:
        """Crops of one frame with their pixels in memory of the host, float32 1×3×S×S; waited for. They stay as they
        are whatever becomes of the frame."""
        ...

    def shape(self, faces: Sequence[ShapeTask]) -> Sequence[Correction]:
        """Restored crops of one frame → corrections (`rtface.correct`). An answer may lie where the device keeps its
        crops, or in memory of the host."""
        ...

    def read(self, correction: Correction) -> tuple[Float32, Float]:
        """What a correction of `shape` is about to add: float32 h×w×3 RGB, 1 = white, in memory of the host, and its
        matrix, 2×3, display → its pixels."""
        ...

    def paste(self, frame: Frame, corrections: Sequence[Correction]) -> Frame:
        """Adds corrections to the frame's own planes, and ends what `cut` began.

        Where every mask is 0 the samples stay bit for bit. May write into `frame.image` after `make_writable()`.
        """
        ...

    def drop(self, crops: Sequence[Crops[Pixels]]) -> None:
        """Gives up crops of a frame that will not be pasted, or not soon (`cut_again`)."""

    def cut_again(self, frame: Frame, crops: Sequence[Crops[Pixels]]) -> Sequence[Crops[Pixels]]:
        """Crops of one frame that were dropped, to be shaped after all. The frame is as it was."""
        ...


class CodedNetwork(Protocol):
    """Takes coding artefacts and noise out of a picture at its coded size. Not for use from several threads."""

    def __call__(self, picture: Bytes, steps: Float32 | None) -> tuple[Float32, Float32]:
        """The correction float32 3×h×w (of values 0…1), and the mean squared errors that are expected before and after
        it, float32 2×h/8×w/8 in squared code values of 8 bits. Both may be valid until the next call only.

        Args:
            picture: uint8 h×w×3 RGB, sides multiples of 16.
            steps: log2 of the codec's quantiser step of each 8×8 cell (`Quantisers`), float32 h/8×w/8; None where the
                stream does not say it.
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
        """The engine for a face; `faces` share a live frame's time, 0 where time does not count (films)."""
        ...

    def named(self, name: str) -> Engine: ...

    def prepare(self, name: str) -> None:
        """Loads the engine of that name, and its weights of persons, for faces that get it later."""

    def of_person(self, engine: Engine, person: str) -> Engine:
        """The engine with the weights of a person, where these were loaded; else as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device and the engines that take its crops: crops on a GPU need engines on that GPU.

    Attributes:
        ahead: frames that may be in the engines' hands while the next is prepared.
        close: releases device and engines, where the runtime owns them; safe to call twice.
    """

    device: Device
    engines: Engines
    ahead: int = 1
    close: Callable[[], None] = lambda: None
