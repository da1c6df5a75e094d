"""Real motion for sequences: recorded tracks of the points of a face, which other people's stills then play.

``python -m training.data.motion_tracks CLIP … --out FILE.npz`` follows the face of each clip with the run time's
tracker and keeps the places of the mesh's points and of the face; no pixel of a clip is kept. `Tracks` reads the file;
``film_sequences --motion FILE.npz`` lets a share of the faces play one. The motion of the resulting film is known
exactly, whatever error the tracker made: a track need only be smooth and move as faces do.

Use only clips whose licence allows it, none of them one that is measured on: see the model card.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np

from training.crop_space import F32, F64, U8
from training.data.eyes_and_mouth import EYES, LIPS
from training.data.face_warps import SIDE

RATE = 30.0
"""Frames a second that tracks are brought to."""
SHORTEST = 24
"""Frames of the shortest track."""
LEFT_OUT = frozenset(i for left, upper, lower, right, *_ in (*EYES, (*LIPS, 0))
                     for i in (left, *upper, *lower, right)) | frozenset(range(468, 478))  # fmt: skip
"""Mesh points that a smooth field cannot follow: lids, irises, the inner edge of the lips (`eyes_and_mouth` draws
these)."""
KEPT = tuple(i for i in range(468) if i not in LEFT_OUT)
SPREAD = 38.0
"""Standard deviation of the kernel that spreads the points' motion over the crop, pixels of 512."""
RIDGE = 0.3
TURNED = 40.0
"""Degrees: frames that are turned further are left out."""
FASTEST = 30.0
"""Pixels of 512 a frame: points that are faster have been lost."""
CRUSHED = 0.35
"""A field that shrinks an area of the face below this share of itself would fold it: the frame is left out."""


@dataclass(frozen=True)
class Track:
    """The motion of one face: ``places`` float32 N×2, where its points are on average, and ``offsets`` float16 T×N×2,
    how far each is from there, both in canonical pixels of 512; ``pose`` float32 T×4, where the crop is (x, y in sides
    of the crop, log of the scale, angle in radians) relative to its mean; ``name`` of the clip."""

    name: str
    places: F32
    offsets: np.ndarray[tuple[int, ...], np.dtype[np.float16]]
    pose: F32

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def fields(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        """float16 T×SIDE×SIDE×2: displacements in pixels of 512, from a place on the face to its place on a still."""
        return spread(self.places, -self.offsets.astype(np.float32)).astype(np.float16)

    def mixed(self, values: np.ndarray, t: float) -> F32:
        """``values`` (one a frame) at frame ``t``, linear between frames, to and fro beyond the ends."""
        last = len(self) - 1
        t = abs((t + last) % (2 * last) - last)
        i = min(int(t), last - 1)
        a, b = values[i].astype(np.float32), values[i + 1].astype(np.float32)
        return a + np.float32(t - i) * (b - a)


def spread(places: F32, offsets: F32) -> F32:
    """Smooth fields (T×SIDE×SIDE×2, float32) of displacements ``offsets`` (T×N×2) known at ``places`` (N×2).

    Kernel ridge regression with a Gaussian: it falls to zero away from the face.
    """

    def kernel(a: F32, b: F32) -> F32:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * SPREAD**2))

    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) * (512 / SIDE)
    grid = np.stack([x.ravel(), y.ravel()], 1)
    weights = np.linalg.solve(kernel(places, places) + RIDGE * np.eye(len(places), dtype=np.float32),
                              offsets.transpose(1, 0, 2).reshape(len(places), -1))  # fmt: skip
    found = kernel(grid, places) @ weights
    return found.reshape(SIDE, SIDE, len(offsets), 2).transpose(2, 0, 1, 3).astype(np.float32)


@dataclass(frozen=True)
class Playing:
    """A track as one actor plays it: from frame ``start`` on, ``mirrored`` or not, ``amount`` of its motion."""

    track: Track
    start: float
    mirrored: bool
    amount: float

    def field(self, t: float) -> F32:
        """Displacements at frame ``t``, as `face_warps.Expressions.field`."""
        found = self.track.mixed(self.track.fields, self.start + t) * np.float32(self.amount)
        return _mirrored(found) if self.mirrored else found

    def pose(self, t: float) -> tuple[float, float, float, float]:
        """x, y (sides of the crop), log scale, angle (radians) at frame ``t``, relative to those at frame 0."""
        now, first = (self.track.mixed(self.track.pose, self.start + z) for z in (t, 0.0))
        x, y, scale, angle = ((now - first) * self.amount).tolist()
        return (-x, y, scale, -angle) if self.mirrored else (x, y, scale, angle)


def _mirrored(found: F32) -> F32:
    step = 512 / SIDE  # column i of a field stands for pixel i * step, whose mirror image is pixel 511 - i * step
    columns = (511 - np.arange(SIDE, dtype=np.float32) * step) / step
    rows = np.arange(SIDE, dtype=np.float32)
    out = cv2.remap(found, *np.meshgrid(columns, rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32) * np.array([-1, 1], np.float32)


class Tracks:
    """The tracks of a file.

    Raises:
        ValueError: the file holds no tracks.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            if "names" not in stored:
                raise ValueError(f"{path} holds no tracks: make one with python -m training.data.motion_tracks")
            self.tracks = [Track(str(name), stored[f"places_{i}"], stored[f"offsets_{i}"], stored[f"pose_{i}"])
                           for i, name in enumerate(stored["names"])]  # fmt: skip
        lengths = np.array([len(t) for t in self.tracks], np.float64)
        self.shares = lengths / lengths.sum()

    def draw(self, r: np.random.Generator) -> Playing:
        """Some track, from somewhere on; longer ones more often."""
        track = self.tracks[int(r.choice(len(self.tracks), p=self.shares))]
        start = r.uniform(0, max(1, len(track) - SHORTEST))
        return Playing(track, float(start), bool(r.random() < 0.5), float(r.uniform(0.7, 1.3)))


def save(path: Path, tracks: Sequence[Track]) -> None:
    """Write tracks to a .npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{name}_{i}": getattr(t, name) for i, t in enumerate(tracks) for name in ("places", "offsets", "pose")}
    np.savez_compressed(path, names=np.array([t.name for t in tracks]), **arrays)


@dataclass(frozen=True)
class Seen:
    """A face on one frame: ``time`` in seconds, ``points`` N×2 in canonical pixels of 512, ``pose`` as in `Track` but
    absolute (pixels of the frame, over the crop's mean side), ``width`` in pixels of the frame."""

    time: float
    points: F64
    pose: F64
    width: float


def follow(path: Path) -> Iterator[list[Seen]]:
    """The stretches of a clip over which its face is followed without a gap, and turned less than `TURNED`."""
    import rtface
    from rtface.geometry.alignment import crop_matrix, move

    stretch: list[Seen] = []
    track = 0
    with av.open(str(path)) as clip, rtface.Enhancer(correct="never", threads=1) as e:
        stream = clip.streams.video[0]
        for number, frame in enumerate(clip.decode(stream)):
            image: U8 = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
            e(image)
            time = number / float(stream.average_rate or 25)
            if frame.pts is not None and stream.time_base:
                time = float(frame.pts * stream.time_base)
            face = max(e.faces, key=lambda f: f.width, default=None)
            fit = face is not None and face.mesh is not None and face.pose is not None and abs(face.pose[0]) < TURNED
            if stretch and (not fit or face is None or face.track_id != track):
                yield stretch
                stretch = []
            if fit and face is not None and face.mesh is not None:
                m = np.asarray(crop_matrix(face, 512), np.float64)
                inverse = cv2.invertAffineTransform(m)
                x, y = inverse[:, :2] @ (256, 256) + inverse[:, 2]
                scale, angle = np.hypot(inverse[0, 0], inverse[1, 0]), np.arctan2(inverse[1, 0], inverse[0, 0])
                pose = np.array([x, y, np.log(scale), angle])
                stretch.append(Seen(time, move(m, face.mesh)[list(KEPT), :2], pose, face.width))
                track = face.track_id
    if stretch:
        yield stretch


def smooth(values: F64, sigma: float) -> F64:
    """Values over time (T×…), filtered with a Gaussian of ``sigma`` frames."""
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    padded = np.concatenate([values[:1]] * reach + [values] + [values[-1:]] * reach)
    return np.asarray(sum(w * padded[i : i + len(values)] for i, w in enumerate(taps / taps.sum())), np.float64)


def resampled(times: F64, values: F64) -> F64:
    """Values (T×…) at ``times`` in seconds, at `RATE` frames a second instead, by cubic (Catmull-Rom) interpolation."""
    at = np.arange(times[0], times[-1] + 1e-6, 1 / RATE)
    i = np.clip(np.searchsorted(times, at, "right") - 1, 0, len(times) - 2)
    u = ((at - times[i]) / np.maximum(times[i + 1] - times[i], 1e-6)).reshape(-1, *[1] * (values.ndim - 1))
    a, b, c, d = (values[np.clip(i + k, 0, len(times) - 1)] for k in (-1, 0, 1, 2))
    return b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))


def shrinking(fields: np.ndarray) -> F32:
    """How much each of T fields shrinks the area that it shrinks most, within the face: 1 not at all, 0 folded."""
    step = 512 / SIDE
    f = fields[:, 10:-6, 12:-12].astype(np.float32)
    xx, xy = (np.gradient(f[..., 0], step, axis=a) for a in (2, 1))
    yx, yy = (np.gradient(f[..., 1], step, axis=a) for a in (2, 1))
    return ((1 + xx) * (1 + yy) - xy * yx).min((1, 2))


def tracks_of(name: str, stretch: Sequence[Seen]) -> Iterator[Track]:
    """The tracks of a stretch at `RATE`, smoothed more the smaller the face is, without frames that are too fast or
    folded."""
    times = np.array([s.time for s in stretch])
    if len(stretch) < 4 or np.any(np.diff(times) <= 0):
        return
    width = float(np.median([s.width for s in stretch]))
    points = resampled(times, np.stack([s.points for s in stretch]))
    pose = np.stack([s.pose for s in stretch])
    pose[:, 3] = np.unwrap(pose[:, 3])
    side = 512 * float(np.exp(np.median(pose[:, 2])))
    pose[:, :2] /= side
    pose = resampled(times, pose)
    sigma = float(np.clip(110 / width, 0.5, 2.0))
    lost = np.abs(np.diff(points, axis=0)).max((1, 2), initial=0) > FASTEST
    for begin, end in stretches(np.concatenate([[False], lost])):
        near, place = smooth(points[begin:end], sigma), smooth(pose[begin:end], sigma)
        middle = near.mean(0)
        whole = Track(name, middle.astype(np.float32), (near - middle).astype(np.float16), place.astype(np.float32))
        for first, last in stretches(np.zeros(len(near), bool), shrinking(whole.fields) > CRUSHED):
            part = (place[first:last] - place[first:last].mean(0)).astype(np.float32)
            yield Track(name, whole.places, whole.offsets[first:last], part)


def stretches(ends: np.ndarray, fit: np.ndarray | None = None) -> Iterator[tuple[int, int]]:
    """The stretches of at least `SHORTEST` frames (first frame, and the one behind the last): a new one begins at each
    frame of ``ends``, and frames that are not ``fit`` belong to none."""
    fit = np.ones(len(ends), bool) if fit is None else fit
    begin = 0
    for i in range(len(ends) + 1):
        if i == len(ends) or ends[i] or not fit[i]:
            if i - begin >= SHORTEST:
                yield begin, i
            begin = i if i == len(ends) or fit[i] else i + 1


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("clips", type=Path, nargs="+", help="clips with one face each")
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    found: list[Track] = []
    for path in a.clips:
        try:
            mine = [t for stretch in follow(path) for t in tracks_of(path.stem, stretch)]
        except (OSError, av.FFmpegError) as error:
            print(f"error: {path}: {error}", file=sys.stderr)
            return 1
        found += mine
        how = [float(np.sqrt((t.offsets.astype(np.float32) ** 2).sum(2).mean())) for t in mine]
        moves = f", {np.mean(how):.1f} px from their mean" if how else ""
        print(f"{path.name}: {len(mine)} tracks, {sum(map(len, mine))} frames{moves}")
    if not found:
        print("error: no face was followed long enough in any clip", file=sys.stderr)
        return 1
    save(a.out, found)
    print(f"{a.out}: {len(found)} tracks, {sum(map(len, found))} frames, {a.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
