"""Real clips as truth: the named sets, the face tracked through a clip, and the protocols that degrade it.

| protocol | frame space | degradation |
| --- | --- | --- |
| ``real/call``, ``real/heavy`` | the clip's own frames | as if its crop had 400 px on a 720p canvas: area to 1/2 (1/4), noise σ 3 (6), x264 veryfast zerolatency crf 31 (33), cubic up |
| ``vfhq/1`` … ``vfhq/3`` | 512×512 window, one similarity a clip | blur (kernel 21), to 128×128, noise, x264 medium at 25 frames a second, cubic up; ranges in `VFHQ` |
| ``icme/QP`` | the clip scaled so that its crop has 600 px | area to 1/4, x265 with low delay and constant QP, cubic up |

``vfhq`` follows the degradation model of VFHQ (Xie et al. 2022) with the ranges of KEEP (Feng et al. 2024), ``icme`` the
ICME 2025 video super-resolution challenge, track 2 (talking heads). Random draws come from ``default_rng([7, clip, level])``, where ``clip`` is the
CRC-32 of the file name without its suffix and ``level`` the protocol's place in `PROTOCOLS`.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

import rtface
from rtface.geometry.alignment import fit
from rtface.geometry.transforms import apply
from training.crop_space import F64, TEMPLATE_512, U8, cut, frame_matrix
from training.degradation import single_image, video_codec
from training.degradation.ycbcr import shown

TUNING = ("actress_closeup_512", "greenscreen_hq_512", "webcam_glasses_512x480", "hand_gestures_512",
          "obama_address_512x388")  # fmt: skip
"""Clips whose figures may decide while an engine is developed."""
SET_ASIDE = ("extreme_expressions_480", "phone_selfie_glasses_720x1280", "press_two_men_crowd_720p", "dark_night_480",
             "webcam_streamer_mic")  # fmt: skip
"""Clips that are measured when all is decided."""
SETS = {"tuning": TUNING, "set-aside": SET_ASIDE}

PROTOCOLS = ("real/call", "real/heavy", "vfhq/1", "vfhq/2", "vfhq/3", "icme/22", "icme/27", "icme/32", "icme/37")
VFHQ = {1: ((0.1, 3.0), (0.0, 5.0), (18.0, 25.0)), 2: ((5.0, 10.0), (0.0, 10.0), (18.0, 25.0)),
        3: ((5.0, 10.0), (5.0, 10.0), (25.0, 35.0))}  # fmt: skip
"""Level → ranges of the blur's σ in pixels of 512, of the noise's σ in code values of 128×128, and of crf."""
REAL = {"call": (0.5, 3.0, 31.0), "heavy": (0.25, 6.0, 33.0)}
"""Level → scale, σ of the noise in code values, and crf."""
REAL_CROP, ICME_CROP, VFHQ_CROP = 400, 600, 400
"""Side of the face crop in pixels: as which ``real`` counts every clip; to which ``icme`` scales; least for ``vfhq``.
"""
LEAST = 8
"""Frames that a clip must show one face for."""


def chosen(paths: list[Path], which: str) -> list[Path]:
    """Clip files: those named, and of folders the clips of the set ``which``, a key of `SETS`.

    Raises:
        FileNotFoundError: a path that is not there, or a folder without one of the clips.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = {p.stem: p for p in sorted(path.iterdir()) if p.is_file()}
            missing = [n for n in SETS[which] if n not in files]
            if missing:
                raise FileNotFoundError(
                    f"{path} lacks clips of the set {which}: {', '.join(missing)}; name files instead"
                )
            found += [files[n] for n in SETS[which]]
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
        return 512 * float(np.median([np.hypot(m[0, 0], m[1, 0]) for m in self.matrices]))


@dataclass
class Shot:
    """Clean and degraded frames, and the matrix of every frame (512-px canonical → frame)."""

    clean: list[U8] = field(default_factory=list)
    seen: list[U8] = field(default_factory=list)
    matrices: list[F64] = field(default_factory=list)


def decoded(path: Path) -> Iterator[U8]:
    """The frames of a clip as uint8 H×W×3 RGB, converted by its colour tags, or by what players assume without."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            yield shown(frame, "center")


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


def shot_of(clip: Clip, protocol: str) -> Shot:
    """The clip after one of `PROTOCOLS`.

    Raises:
        ValueError: the clip's face is too small for the protocol.
    """
    family, _, level = protocol.partition("/")
    if family == "vfhq" and clip.side < VFHQ_CROP:
        raise ValueError(f"{clip.name}: its face crop has {clip.side:.0f} px, {protocol} needs {VFHQ_CROP}")
    clean, matrices = _in_space(clip, family)
    rng = np.random.default_rng([7, zlib.crc32(clip.name.encode()), PROTOCOLS.index(protocol)])
    size = clean[0].shape[1::-1]
    make = {"real": _real, "vfhq": _vfhq, "icme": _icme}[family]
    up = (cv2.resize(shown(frame, "center"), size, interpolation=cv2.INTER_CUBIC)
          for frame in make(level, clean, clip.side, rng))  # fmt: skip
    return Shot(clean, [np.asarray(f, np.uint8) for f in up], matrices)


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


def _real(level: str, clean: list[U8], side: float, rng: np.random.Generator) -> Iterator[av.VideoFrame]:
    share, sigma, crf = REAL[level]
    scale = min(1.0, share * REAL_CROP / side)
    small = _smaller(clean, *(int(n * scale / 2) * 2 for n in clean[0].shape[1::-1]))
    return video_codec.through((single_image.noise(f, sigma, rng, 0, 0.3) for f in small), *video_codec.x264(crf))


def _vfhq(level: str, clean: list[U8], side: float, rng: np.random.Generator) -> Iterator[av.VideoFrame]:
    blur, noise, crf = VFHQ[int(level)]
    isotropic = rng.random() < 0.7
    first, second = rng.uniform(*blur), rng.uniform(*blur)
    angle = 0.0 if isotropic else rng.uniform(-np.pi, np.pi)
    how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
    sigma, grey, quality = rng.uniform(*noise), rng.random() < 0.5, rng.uniform(*crf)
    kernel = single_image.gaussian_kernel(first if isotropic else second, first, angle)
    soft = [cv2.filter2D(f, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for f in clean]
    small = _smaller(soft, *(n // 4 for n in clean[0].shape[1::-1]), how=how)
    noisy = (single_image.noise(f, sigma, rng, 0, float(grey)) for f in small)
    return video_codec.through(noisy, "libx264", {"preset": "medium", "crf": f"{quality:.1f}"}, fps=25)


def _icme(level: str, clean: list[U8], side: float, rng: np.random.Generator) -> Iterator[av.VideoFrame]:
    return video_codec.through(_smaller(clean, *(n // 4 for n in clean[0].shape[1::-1])), *video_codec.x265(int(level)))


def _smaller(frames: Iterable[Any], width: int, height: int, *, how: int = cv2.INTER_AREA) -> Iterator[U8]:
    return (np.asarray(cv2.resize(f, (width, height), interpolation=how), np.uint8) for f in frames)
