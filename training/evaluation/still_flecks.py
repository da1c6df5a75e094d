"""Counts the made flecks that a run makes stronger in stills.

``python -m training.evaluation.still_flecks --faces DIR``

Portraits get flecks of dust, are softened and written as JPEG; `rtface.run` does them with its defaults and
``--option``. The contrast of a fleck is how far its mean lies beyond that of the ring around it, in code values of
luma, counted towards its own side, lighter or darker.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.crop_space import F32, U8
from training.data.portraits import Face, load_faces
from training.evaluation.clip_protocols import SETS
from training.evaluation.metrics import LUMA
from training.evaluation.native import option_of
from training.evaluation.native_protocols import oval_of, people, portrait

COUNT = 8
"""Flecks on a face; every second one is dark."""
RADII = (0.8, 3.0)
"""Pixels, uniform in the logarithm."""
OPACITY = (0.6, 1.0)
LIGHT, DARK = 245.0, 20.0
SOFT = 1.0
"""σ in pixels of the Gaussian that softens a portrait."""
QUALITY = 75
STRONGER = 1.0
"""Code values of contrast from which on a fleck counts as stronger."""


@dataclass
class Fleck:
    """A fleck: how much of each pixel it covers, the ring around it, and whether it is dark."""

    cover: F32
    ring: F32
    dark: bool

    def contrast(self, image: U8) -> float:
        luma = image.astype(np.float32) @ LUMA.astype(np.float32)
        inside, around = (float((luma * w).sum() / w.sum()) for w in (self.cover, self.ring))
        return around - inside if self.dark else inside - around


def flecked(face: Face, width: float, rng: np.random.Generator) -> tuple[U8, U8, list[Fleck]]:
    """A soft portrait, the same with flecks, and these.

    Raises:
        ValueError: the photograph has too few pixels for a face so wide.
    """
    truth = portrait(face, width, frames=1, reduction=1.0)
    sharp, matrix = truth.frames[0], truth.matrices[0]
    size = sharp.shape[1], sharp.shape[0]
    free = oval_of(matrix, size) > 0.98
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    out, flecks = sharp.astype(np.float32), list[Fleck]()
    for k in range(COUNT):
        radius = float(np.exp(rng.uniform(*np.log(RADII))))
        places = np.flatnonzero(free)
        down, across = divmod(int(places[rng.integers(len(places))]), size[0])
        u, v, turn = x - across - rng.uniform(-0.5, 0.5), y - down - rng.uniform(-0.5, 0.5), rng.uniform(0, np.pi)
        long = rng.uniform(1.0, 1.4)
        p, q = (u * np.cos(turn) + v * np.sin(turn)) / long, (v * np.cos(turn) - u * np.sin(turn)) * long
        distance = np.sqrt(p * p + q * q)
        cover = np.clip(radius + 0.5 - distance, 0, 1).astype(np.float32) * np.float32(rng.uniform(*OPACITY))
        dark = k % 2 == 1
        out += cover[..., None] * (np.float32(DARK if dark else LIGHT) - out)
        ring = ((distance > radius + 2.5) & (distance < radius + 5.5)).astype(np.float32)
        flecks.append(Fleck(cover, ring, dark))
        free &= np.hypot(u, v) > 4 * RADII[1] + 6
    soft = (np.asarray(cv2.GaussianBlur(i, (0, 0), SOFT), np.float32) for i in (sharp.astype(np.float32), out))
    return *(np.asarray(np.rint(np.clip(i, 0, 255)), np.uint8) for i in soft), flecks


def contrasts(face: Face, number: int, width: float, options: dict[str, Any], folder: Path) -> F32:
    """Contrast before and after a run, and whether it is dark, of each fleck of one portrait: float32 n×3."""
    import rtface

    _, image, flecks = flecked(face, width, np.random.default_rng([7, number, int(width)]))
    given = folder / "given.jpg"
    cv2.imwrite(str(given), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    seen: list[U8] = []
    for name, how in (("before.png", {"correct": "never"}), ("after.png", options)):
        rtface.run(given, folder / name, overwrite=True, **how)
        seen.append(np.asarray(cv2.imread(str(folder / name), cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1])
    return np.array([[*(fleck.contrast(image) for image in seen), fleck.dark] for fleck in flecks], np.float32)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True, help="folder with train/MANIFEST.csv")
    p.add_argument("--people", choices=tuple(SETS), default="tuning")
    p.add_argument("--count", type=int, default=20, help="people")
    p.add_argument("--width", type=float, default=160.0, help="of the faces, pixels")
    p.add_argument("--option", type=option_of, action="append", default=[], metavar="KEY=VALUE", help="of rtface.run")
    a = p.parse_args()
    found: list[F32] = []
    with tempfile.TemporaryDirectory() as scratch:
        for face in people(load_faces(a.faces), a.people):
            if len(found) == a.count:
                break
            try:
                found.append(contrasts(face, len(found), a.width, dict(a.option), Path(scratch)))
            except ValueError:
                continue
    rows = np.concatenate(found)
    change = rows[:, 1] - rows[:, 0]
    print(
        f"{len(rows)} flecks on {len(found)} people ({a.people}), {a.width:.0f} px: stronger "
        f"{np.sum(change > STRONGER)} (dark {np.sum(change[rows[:, 2] > 0] > STRONGER)}); contrast before: median "
        f"{np.median(rows[:, 0]):.1f}, change: median {np.median(change):+.2f}, of nine tenths at most "
        f"{np.percentile(change, 90):+.2f}"
    )


if __name__ == "__main__":
    main()
