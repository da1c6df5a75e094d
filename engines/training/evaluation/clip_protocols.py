"""Loads real clips as truths, tracks faces, and degrades clips by protocols.

Protocol ``real/call`` (in brackets: ``real/heavy``) treats a clip as if its face crop had 400 px on a 720p canvas. It
reduces frames by area to 1/2 (1/4), adds noise of σ 3 (6), encodes them with x264 veryfast zerolatency crf 31 (33) and
enlarges them cubically. Noise comes from ``default_rng([7, CRC-32 of the file's stem, index in PROTOCOLS])``.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

import rtface
from training.crop_space import F64, U8, frame_matrix
from training.degradation import single_image, video_codec
from training.degradation.ycbcr import shown

TUNING = ("actress_closeup_512", "greenscreen_hq_512", "webcam_glasses_512x480", "hand_gestures_512",
          "obama_address_512x388")  # fmt: skip
"""Clips for decisions during development."""
SET_ASIDE = ("extreme_expressions_480", "phone_selfie_glasses_720x1280", "press_two_men_crowd_720p", "dark_night_480",
             "webcam_streamer_mic")  # fmt: skip
"""Clips for the final measurement."""
SETS = {"tuning": TUNING, "set-aside": SET_ASIDE}

PROTOCOLS = {"real/call": (0.5, 3.0, 31.0), "real/heavy": (0.25, 6.0, 33.0)}
"""Protocol → scale, σ of the noise in code values, and crf."""
CROP_PX = 400
"""Assumed side of the face crop in every clip, in pixels."""
MIN_FRAMES = 8
"""Minimum number of frames with one face in a clip."""


def choose_clips(paths: list[Path], which: str) -> list[Path]:
    """Lists clip files: files in ``paths``, and the set ``which`` of `SETS` in folders.

    Raises:
        FileNotFoundError: a path does not exist, or a folder lacks a clip.
    """
    clips: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = {p.stem: p for p in sorted(path.iterdir()) if p.is_file()}
            missing = [n for n in SETS[which] if n not in files]
            if missing:
                raise FileNotFoundError(
                    f"{path} lacks clips of the set {which}: {', '.join(missing)}; pass files instead"
                )
            clips += [files[n] for n in SETS[which]]
        elif path.is_file():
            clips.append(path)
        else:
            raise FileNotFoundError(f"clip {path} does not exist")
    return clips


# --- the clip and its face ---


@dataclass
class Clip:
    """A real clip with one face. ``digest``: SHA-256 of the file; ``clean``: its frames, uint8 H×W×3 RGB; ``matrices``:
    2×3 per frame (512-px canonical → frame, pixel centres at integers)."""

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
    """Clean and degraded frames of a clip. ``matrices`` map 512-px canonical to frame pixels."""

    clean: list[U8] = field(default_factory=list)
    seen: list[U8] = field(default_factory=list)
    matrices: list[F64] = field(default_factory=list)


def decoded(path: Path) -> Iterator[U8]:
    """Decodes a clip to uint8 H×W×3 RGB. Uses its colour tags or the defaults of players."""
    with av.open(str(path)) as clip:
        for frame in clip.decode(video=0):
            yield shown(frame, "center")


def load_clip(path: Path, frames: int, cache: Path | None = None) -> Clip:
    """Loads a clip from the first frame with a face. Ends when the tracker loses the largest face.

    Args:
        frames: maximum number of frames.
        cache: folder for matrices, so that a clip is tracked only once.

    Raises:
        ValueError: the clip has fewer than `MIN_FRAMES` of these frames. The message contains the file name.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cached = cache / f"{path.stem}-{digest[:12]}-{frames}.npz" if cache else None
    if cached and cached.is_file():
        with np.load(cached) as data:
            first, matrices = int(data["first"]), list(data["matrices"])
    else:
        first, matrices = _track_face(path, frames)
        if cached:
            cached.parent.mkdir(parents=True, exist_ok=True)
            np.savez(cached, first=first, matrices=np.array(matrices).reshape(-1, 2, 3))
    if len(matrices) < MIN_FRAMES:
        raise ValueError(f"{path.name} shows one face for {len(matrices)} frames, but {MIN_FRAMES} are needed")
    return Clip(path.stem, digest, list(islice(decoded(path), first, first + len(matrices))), matrices)


def _track_face(path: Path, frames: int) -> tuple[int, list[F64]]:
    """Tracks the largest face of the first frame with a face. Returns this frame's number, and a matrix per frame."""
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


def degrade_clip(clip: Clip, protocol: str) -> Shot:
    """Degrades a clip by one of `PROTOCOLS`."""
    share, sigma, crf = PROTOCOLS[protocol]
    rng = np.random.default_rng([7, zlib.crc32(clip.name.encode()), list(PROTOCOLS).index(protocol)])
    size = clip.clean[0].shape[1::-1]
    scale = min(1.0, share * CROP_PX / clip.side)
    reduced_size = tuple(int(n * scale / 2) * 2 for n in size)
    small = (np.asarray(cv2.resize(f, reduced_size, interpolation=cv2.INTER_AREA), np.uint8) for f in clip.clean)
    frames = video_codec.through((single_image.noise(f, sigma, rng, 0, 0.3) for f in small), *video_codec.x264(crf))
    enlarged = (cv2.resize(shown(frame, "center"), size, interpolation=cv2.INTER_CUBIC) for frame in frames)
    return Shot(clip.clean, [np.asarray(f, np.uint8) for f in enlarged], clip.matrices)
