"""Defines types that pass through the pipeline: frames, packets, faces, crops.

Two spaces are used everywhere. **Sample space** is the frame as it is stored (maybe rotated, interlaced, with
non-square pixels). **Display space** is the frame as a viewer sees it: upright, with square pixels, the origin at the
top-left *corner* of the top-left pixel, so the centre of pixel (i, j) is at (i + 0.5, j + 0.5). All faces are in
display space. `rtface.geometry.transforms` builds every matrix between the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

Matrix = Literal["bt601", "bt709", "bt2020", "smpte240m", "fcc", "ycgco", "rgb"]
Transfer = Literal["sdr", "pq", "hlg", "linear", "log"]
Siting = Literal["left", "center", "topleft"]

GrainMode = Literal["match", "less", "none"]
"""The values of the option `grain`."""
FailedStep = Literal["", "enhance", "tracker"]
"""The step that failed on a frame."""
CorrectedRegion = Literal["face", "head"]
"""The part of a crop that an engine's correction may change."""

FadingCurve = Sequence[Sequence[float]]
"""Parameters of the fading correction: for each of R, G and B, an exponent and the logarithm of a gain."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""


@dataclass(frozen=True, slots=True)
class Color:
    """Describes how samples encode colour. Defaults replace unspecified values, except for `primaries`.

    Attributes:
        matrix: YCbCr matrix; "rgb" for RGB, palette and gray-without-chroma sources.
        full_range: True if black is 0 and white is the largest code (JPEG range).
        transfer: transfer family; "sdr" for every gamma-like curve, "log" for printing density (DPX, Cineon).
        primaries: FFmpeg's AVColorPrimaries (1 BT.709, 9 BT.2020, …); 2 if unspecified.
        siting: where a subsampled chroma sample sits.
    """

    matrix: Matrix = "bt709"
    full_range: bool = False
    transfer: Transfer = "sdr"
    primaries: int = 2
    siting: Siting = "left"


@dataclass(frozen=True, slots=True)
class Display:
    """Describes how to display stored samples.

    Attributes:
        quarter_turns: clockwise quarter turns (0…3) that make the stored samples upright.
        mirror: whether the frame is flipped left-right after the rotation.
        aspect: sample aspect ratio (width/height of one stored sample), 1 for square.
        fields: "progressive", or which field comes first in time: "tff" or "bff".
    """

    quarter_turns: int = 0
    mirror: bool = False
    aspect: Fraction = Fraction(1)
    fields: Literal["progressive", "tff", "bff"] = "progressive"


@dataclass(frozen=True, slots=True)
class Face:
    """Describes one face on one frame, in pixels of display space.

    Attributes:
        track_id: positive and constant while the face is tracked; a new number after a cut. 0 for a detection without a
            track (in `Frame.unfollowed` only).
        box: x0, y0, x1, y1; float64 of shape (4,).
        points: centres of the eyes (left in the frame first), nose tip, left and right mouth corner; float64 (5, 2).
        mesh: MediaPipe's 478 points x, y, z (z in the same pixels, negative towards the camera); float64 (478, 3),
            or None.
        score: confidence 0…1.
        pose: yaw, pitch, roll in degrees (0 = frontal; yaw > 0 turned to the right of the frame), or None.
        raw_points: `points` before smoothing, (5, 2), or None.
        person: the recognised person: a name, "P1", "P2", …, or "unknown"; empty if recognition is off.
    """

    track_id: int
    box: Float
    points: Float
    mesh: Float | None = None
    score: float = 1.0
    pose: tuple[float, float, float] | None = None
    raw_points: Float | None = None
    person: str = ""

    @property
    def width(self) -> float:
        """Width of the box in display pixels."""
        return float(self.box[2] - self.box[0])


@dataclass(frozen=True, slots=True, eq=False)
class Quantisers:
    """Holds the quantiser steps of an image's luma, from its stream.

    The unit is the same for all codecs: the step of the coefficients of an orthonormal transform, in 8-bit code values.
    A step of q leaves an error of about q/√12 in each non-zero coefficient, and in each sample. Weighting matrices are
    ignored, except in JPEG, whose steps are defined entirely by its quantisation table.

    Attributes:
        steps: positive float32, one per block (block rows × columns), in sample space from the top left. Edge blocks
            may extend beyond the image. Both fields of an interlaced frame share one map.
        block: side of a block in luma samples of the whole stored frame: 16 for macroblocks; the longer side of the
            frame if it has a single step.
        codec: FFmpeg's canonical name of the codec; "jpeg" for a still.
    """

    steps: Float32
    block: int
    codec: str


class SharedViews:
    """Caches a device's views of an image. The keys are field, colour and display."""

    __slots__ = ("cached", "image")

    def __init__(self, image: av.VideoFrame | None = None) -> None:
        self.image = image
        self.cached: dict[tuple[int | None, Color, Display], Any] = {}


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded video frame with its time, colour, display and faces.

    Attributes:
        image: the decoded samples in their native format; the pipeline may overwrite them (see `make_writable`).
        pts: presentation time in `time_base` units, never renumbered.
        time_base: seconds of one unit.
        duration: duration in `time_base` units; 0 if unknown.
        color, display: how to read `image`.
        faces: the tracked faces, in display space.
        unfollowed: untracked faces, which the detector finds but the tracker does not follow (a profile whose mesh is
            lost, a face not yet confirmed). They have a box and five points, but no mesh. `track_id` is that of the
            lost track at that place, or 0. Faces beyond the limit of faces are included. None of these is enhanced;
            stages that hide faces cover them. Empty unless a stage of the run hides faces.
        faces_age: seconds since `faces` and `unfollowed` were seen; 0 if seen on this frame.
        captured_at: `time.monotonic()` of the capture, for measuring latency; None for files.
        field: None for a whole frame; 0 or 1 for the field that comes first or second in time.
        cut: whether this is the first frame after a scene change (or a seek).
        touched: whether anything was changed, by a correction or by a stage's drawing.
        corrected: whether a face's correction was added.
        changed: boxes in display pixels, outside of which nothing changed; None if any sample may have changed (a stage
            has drawn something, or light or colour was changed).
        filtered: whether a filter that is not a network changed the frame's light (`rtface.live.brighten`),
            colours (`rtface.device.cpu.fading`) or size (`rtface.media.read.enlarge`).
        filled: mask of the samples whose damage was filled (``--repair``), uint8 of the upright image before its
            enlargement; None if none was filled.
        generated: whether a stage has drawn a face, or a part of one, that a network invented.
        enhancing: False if the user has switched the enhancement off (live runs, `rtface.Enhancer`).
        new: whether this image is unrelated to the previous one (separate stills).
        lead_in: whether this frame is before a segment, and is processed only to bring the chain into a steady state
            (`rtface.jobs.worker`). Such a frame is neither counted nor written.
        before: a copy of the decoded image, if a stage needs it; else None.
        failed: "enhance" if the enhancement failed on this frame: the image is then as decoded, or as the removal of
            artefacts (`rtface.enhance.coded_stage`) left it. "tracker" if tracking failed: `faces` is then empty,
            though there may be faces, and stages that hide faces cover the whole frame. Empty if neither failed, and
            also if faces were carried over from an earlier frame on purpose (a live run under load tracks only some
            frames).
        invented: map of the estimated error bound of each corrected sample, uint8 of the stored height and width
            (`rtface.pipeline.invented`); None if no face was corrected, or no map is made.
        quantisers: the codec's quantiser steps, if the stream signals them (`rtface.media.read.quantiser`). None
            otherwise, and after the image was scaled or turned.
        combed: luma samples of the frame as read, if it interleaves two fields although the film does not signal that;
            else None.
        source: the frame as read, before its image was enlarged (``--scale``); None if it was not enlarged.
        views: the views of `image`, shared by all frames with this image.
    """

    image: av.VideoFrame
    pts: int
    time_base: Fraction
    duration: int = 0
    color: Color = Color()
    display: Display = Display()
    faces: tuple[Face, ...] = ()
    unfollowed: tuple[Face, ...] = ()
    faces_age: float = 0.0
    captured_at: float | None = None
    field: Literal[0, 1] | None = None
    cut: bool = False
    touched: bool = False
    corrected: bool = False
    changed: tuple[Box, ...] | None = ()
    filtered: bool = False
    filled: Bytes | None = None
    generated: bool = False
    enhancing: bool = True
    new: bool = False
    lead_in: bool = False
    before: av.VideoFrame | None = None
    failed: FailedStep = ""
    invented: Bytes | None = None
    quantisers: Quantisers | None = None
    combed: NDArray[Any] | None = None
    source: Frame | None = None
    views: SharedViews = dataclasses.field(default_factory=SharedViews, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.views.image is not self.image:
            object.__setattr__(self, "views", SharedViews(self.image))

    def make_writable(self) -> None:
        """Prepares `image` for writing; its samples may move to other memory."""
        self.views.cached.clear()
        self.image.make_writable()

    @property
    def tracked(self) -> bool:
        """False if tracking failed on this frame."""
        return self.failed != "tracker"

    @property
    def live(self) -> bool:
        """True for a live source."""
        return self.captured_at is not None

    @property
    def time(self) -> float:
        """Presentation time in seconds (of the field, for a field)."""
        base = self.time_base  # same rounding as with fractions, ten times as fast
        t = self.pts * base.numerator / base.denominator
        if self.field == 1:
            t += 0.5 * (self.duration * base.numerator / base.denominator)
        return t


@dataclass(frozen=True, slots=True)
class Packet:
    """Holds a packet of a stream that is only copied: sound, subtitles, data.

    Attributes:
        packet: the demuxed packet; its stream says what it contains.
        stream_index: index of the stream in the *input* container.
    """

    packet: av.Packet[Any]
    stream_index: int


class Pixels(Protocol):
    """Represents crops' pixels, of shape (N, 3, S, S): a numpy array on the host, or a handle of GPU memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...


PixelsT = TypeVar("PixelsT", bound=Pixels)
PixelsCo = TypeVar("PixelsCo", bound=Pixels, covariant=True)


@dataclass(slots=True)
class Crops(Generic[PixelsCo]):
    """Holds aligned face crops of one frame or batch.

    Attributes:
        pixels: float32 N×3×S×S, RGB, 0…1 as engines need them (SDR-like, full range), on the host or on a GPU.
        matrices: float64 N×2×3, display space → crop pixels (pixel-corner convention, see module).
    """

    pixels: PixelsCo
    matrices: Float

    @property
    def size(self) -> int:
        """S, the side of a crop in pixels."""
        return int(self.pixels.shape[-1])
