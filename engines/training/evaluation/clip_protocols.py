"""Real clips as truth: the named sets, the face tracked through a clip, and the protocols that degrade it.

| protocol | frame space | degradation |
| --- | --- | --- |
| ``real/call``, ``real/heavy`` | the clip's own frames | as if its crop had 400 px on a 720p canvas: area to 1/2 (1/4), noise σ 3 (6), x264 veryfast zerolatency crf 31 (33), cubic up |
| ``vfhq/1`` … ``vfhq/3`` | 512×512 window, one similarity a clip | blur (kernel 21), to 128×128, noise, x264 medium at 25 frames a second, cubic up; ranges in `VFHQ` |
| ``icme/QP`` | the clip scaled so that its crop has 600 px | area to 1/4, x265 with low delay and constant QP, cubic up |

``vfhq`` follows the degradation model of VFHQ (Xie et al. 2022) with the ranges of KEEP (Feng et al. 2024), ``icme`` the
ICME 2025 video super-resolution challenge, track 2 (talking heads). All conversions between RGB and YCbCr are those of
`training.degradation.video_codec`. Random draws come from ``default_rng([7, clip, level])``, where ``clip`` is the
CRC-32 of the file name without its suffix and ``level`` the protocol's place in `LEVELS`.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

import rtface
from rtface.geometry.alignment import fit
from rtface.geometry.transforms import apply
from rtface.media.formats.color import color_of
from training.crop_space import F64, TEMPLATE_512, U8, cut, frame_matrix
from training.degradation import single_image, video_codec
from training.evaluation.film_protocols import PROTOCOLS, Shot

TUNING = ("actress_closeup_512", "greenscreen_hq_512", "webcam_glasses_512x480", "hand_gestures_512",
          "obama_address_512x388")  # fmt: skip
"""Clips whose figures may decide while an engine is developed."""
SET_ASIDE = ("extreme_expressions_480", "phone_selfie_glasses_720x1280", "press_two_men_crowd_720p", "dark_night_480",
             "webcam_streamer_mic")  # fmt: skip
"""Clips that are measured when all is decided."""
SETS = {"tuning": TUNING, "set-aside": SET_ASIDE}

LEVELS = ("real/call", "real/heavy", "vfhq/1", "vfhq/2", "vfhq/3", "icme/22", "icme/27", "icme/32", "icme/37")
VFHQ = {1: ((0.1, 3.0), (0.0, 5.0), (18.0, 25.0)), 2: ((5.0, 10.0), (0.0, 10.0), (18.0, 25.0)),
        3: ((5.0, 10.0), (5.0, 10.0), (25.0, 35.0))}  # fmt: skip
"""Level → ranges of the blur's σ in pixels of 512, of the noise's σ in code values of 128×128, and of crf."""
REAL_CROP, ICME_CROP, VFHQ_CROP = 400, 600, 400
"""Side of the face crop in pixels: as which ``real`` counts every clip; to which ``icme`` scales; least for ``vfhq``.
"""
LEAST = 8
"""Frames that a clip must show one face for."""


def set_of(name: str) -> str:
    """The set that a clip belongs to, by its file name without suffix: a key of `SETS`, or "other"."""
    return next((key for key, names in SETS.items() if name in names), "other")


def chosen(paths: list[Path], which: str) -> list[Path]:
    """Clip files: those named, and of folders the clips of the set ``which`` (a key of `SETS`, or "all").

    Raises:
        FileNotFoundError: a path that is not there, or a folder without one of the clips.
    """
    names = [n for key, part in SETS.items() if which in (key, "all") for n in part]
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = {p.stem: p for p in sorted(path.iterdir()) if p.is_file()}
            missing = [n for n in names if n not in files]
            if missing:
                raise FileNotFoundError(
                    f"{path} lacks clips of the set {which}: {', '.join(missing)}; name files instead"
                )
            found += [files[n] for n in names]
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"there is no clip {path}")
    return found


# --- the clip and its face ---


@dataclass
class Clip:
    """The frames of a real clip that show one face: ``name``, ``digest`` (SHA-256 of the file), ``clean`` uint8 H×W×3
    RGB, ``matrices`` 2×3 (512-px canonical → frame, pixel centres at integers)."""

    name: str
    digest: str
    clean: list[U8]
    matrices: list[F64]

    @property
    def side(self) -> float:
        """Median side of the face crop in pixels."""
        return side_of(self)


def side_of(film: Clip | Shot) -> float:
    """Median side in pixels of the face crop of a clip or shot."""
    return 512 * float(np.median([np.hypot(m[0, 0], m[1, 0]) for m in film.matrices]))


def decoded(path: Path) -> Iterator[U8]:
    """The frames of a clip as uint8 H×W×3 RGB, converted by its colour tags, or by what players assume without."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            color = color_of(frame)
            yield video_codec.to_rgb(frame, color.matrix, color.full_range)


def watch(path: Path, frames: int, cache: Path | None = None) -> Clip:
    """At most ``frames`` frames of a clip, from the first that shows a face on, while its largest face is tracked.

    Args:
        cache: folder that keeps the face's matrices, so that the clip is tracked once.

    Raises:
        ValueError: fewer than `LEAST` such frames; the message names the clip.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = cache / f"{path.stem}-{digest[:12]}-{frames}.npz" if cache else None
    if kept and kept.is_file():
        with np.load(kept) as data:
            first, matrices = int(data["first"]), list(data["matrices"])
    else:
        first, matrices = _tracked(path, frames)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez(kept, first=first, matrices=np.array(matrices).reshape(-1, 2, 3))
    if len(matrices) < LEAST:
        raise ValueError(f"{path.name} shows one face for {len(matrices)} frames, and {LEAST} are needed")
    return Clip(path.stem, digest, list(islice(decoded(path), first, first + len(matrices))), matrices)


def _tracked(path: Path, frames: int) -> tuple[int, list[F64]]:
    """The number of the first frame with a face, and the matrices of its largest face until that is lost."""
    first, matrices, track = 0, list[F64](), None
    with rtface.Enhancer(engine="rtface-s", format="rgb", device="cpu", strength=0) as e:
        for number, image in enumerate(decoded(path)):
            e(image)
            if track is None and e.faces:
                first, track = number, max(e.faces, key=lambda f: f.width).track_id
            face = next((f for f in e.faces if f.track_id == track), None)
            if track is not None:
                if face is None or len(matrices) == frames:
                    break
                matrices.append(frame_matrix(face))
    return first, matrices


# --- protocols ---


@dataclass(frozen=True)
class Degradation:
    """What a protocol makes of one clip: ``small`` (width, height) of the coded frames, ``source`` from a truth frame
    to such a frame, codec and ``options``, ``fps``, and ``said``: the draws, to be printed."""

    small: tuple[int, int]
    source: Callable[[U8], U8]
    codec: str
    options: dict[str, str]
    fps: int
    said: str


def shot_of(clip: Clip, protocol: str, cache: Path | None = None) -> tuple[Shot, str]:
    """The clip after a protocol, and what was drawn.

    Args:
        protocol: one of `LEVELS`.
        cache: folder that keeps the coded frames (planes of the decoded 4:2:0), by clip, protocol, frames and options.

    Raises:
        ValueError: the clip's face is too small for the protocol, or there is no such protocol.
    """
    if protocol not in LEVELS:
        raise ValueError(f"no such protocol: {protocol}; there are: {', '.join(LEVELS)}")
    family, _, level = protocol.partition("/")
    if family == "vfhq" and clip.side < VFHQ_CROP:
        raise ValueError(f"{clip.name}: its face crop has {clip.side:.0f} px, {protocol} needs {VFHQ_CROP}")
    clean, matrices = _in_space(clip, family)
    rng = np.random.default_rng([7, zlib.crc32(clip.name.encode()), LEVELS.index(protocol)])
    height, width = clean[0].shape[:2]
    make = {"real": _real, "vfhq": _vfhq, "icme": _icme}[family]
    d = make(level, (width, height), clip.side, rng)
    text = f"{clip.digest}|{protocol}|{len(clean)}|{d.small}|{d.codec}|{d.options}|{d.fps}|{d.said}"
    kept = cache / f"{clip.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npy" if cache else None
    if kept and kept.is_file():
        coded = np.load(kept)
    else:
        frames = video_codec.through((d.source(f) for f in clean), d.codec, d.options, fps=d.fps)
        coded = np.stack([f.to_ndarray() for f in frames])
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, coded)
    up = (cv2.resize(video_codec.planes_to_rgb(np.asarray(p, np.uint8)), (width, height),
                     interpolation=cv2.INTER_CUBIC) for p in coded)  # fmt: skip
    return Shot(clean, [np.asarray(f, np.uint8) for f in up], matrices), d.said


def _in_space(clip: Clip, family: str) -> tuple[list[U8], list[F64]]:
    """Truth frames and matrices in the frame space of a protocol."""
    if family == "vfhq":
        window = median_window(clip.matrices)
        back = np.vstack([cv2.invertAffineTransform(window), [0, 0, 1]])
        return ([cut(f, window, 512) for f in clip.clean],
                [(back @ np.vstack([m, [0, 0, 1]]))[:2] for m in clip.matrices])  # fmt: skip
    if family == "icme":
        k = ICME_CROP / clip.side
        height, width = clip.clean[0].shape[:2]
        size = (round(width * k / 8) * 8, round(height * k / 8) * 8)
        how = cv2.INTER_AREA if k < 1 else cv2.INTER_CUBIC
        scale = np.array([size[0] / width, size[1] / height])
        matrices: list[F64] = []
        for m in clip.matrices:
            scaled = m * scale[:, None]
            scaled[:, 2] += (scale - 1) / 2
            matrices.append(scaled)
        return [np.asarray(cv2.resize(f, size, interpolation=how), np.uint8) for f in clip.clean], matrices
    return clip.clean, clip.matrices


def median_window(matrices: list[F64]) -> F64:
    """One similarity for a whole clip, 2×3 (512-px window → frame): through the median places of the five points."""
    points = np.median([apply(m, TEMPLATE_512) for m in matrices], axis=0)
    return np.asarray(fit(TEMPLATE_512, points), np.float64)


def _real(level: str, size: tuple[int, int], side: float, rng: np.random.Generator) -> Degradation:
    p = PROTOCOLS[level]
    scale = min(1.0, p["scale"] * REAL_CROP / side)
    small = (int(size[0] * scale / 2) * 2, int(size[1] * scale / 2) * 2)

    def source(image: U8) -> U8:
        half = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        return single_image.noise(half, p["sigma"], rng, 0, 0.3)

    said = f"scale {scale:.3f}, noise {p['sigma']:.0f}, crf {p['crf']:.0f}"
    return Degradation(small, source, *video_codec.x264(p["crf"]), 30, said)


def _vfhq(level: str, size: tuple[int, int], side: float, rng: np.random.Generator) -> Degradation:
    blur, noise, crf = VFHQ[int(level)]
    isotropic = rng.random() < 0.7
    first, second = rng.uniform(*blur), rng.uniform(*blur)
    angle = 0.0 if isotropic else rng.uniform(-np.pi, np.pi)
    down = int(rng.integers(3))
    sigma, gray, quality = rng.uniform(*noise), rng.random() < 0.5, rng.uniform(*crf)
    kernel = single_image.gaussian_kernel(first if isotropic else second, first, angle)
    small = (size[0] // 4, size[1] // 4)
    ways = ((cv2.INTER_AREA, "area"), (cv2.INTER_LINEAR, "linear"), (cv2.INTER_CUBIC, "cubic"))

    def source(image: U8) -> U8:
        soft = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        shrunk = np.asarray(cv2.resize(soft, small, interpolation=ways[down][0]), np.uint8)
        return single_image.noise(shrunk, sigma, rng, 0, float(gray))

    said = (f"blur {first:.2f}" + ("" if isotropic else f"×{second:.2f} at {np.degrees(angle):.0f}°")
            + f", {ways[down][1]}, {'grey ' if gray else ''}noise {sigma:.1f}, crf {quality:.1f}")  # fmt: skip
    return Degradation(small, source, "libx264", {"preset": "medium", "crf": f"{quality:.1f}"}, 25, said)


def _icme(level: str, size: tuple[int, int], side: float, rng: np.random.Generator) -> Degradation:
    small = (size[0] // 4, size[1] // 4)

    def source(image: U8) -> U8:
        return np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)

    return Degradation(small, source, *video_codec.x265(int(level)), 30, f"{small[0]}×{small[1]}, qp {level}")
