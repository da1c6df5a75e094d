"""Contact sheets: input | restored | truth, enlarged, side by side.

``python -m training.evaluation.contact_sheet --engine rtface-s --out sheet.png`` films
scikit-image's public-domain portrait; ``--faces DIR`` takes people set aside instead
(look at those, never publish them).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import U8, at, cut
from training.data.portraits import Face, load_faces, split
from training.evaluation.film_protocols import shoot
from training.evaluation.restorers import Network, locked


def row(face: Face, number: int, protocol: str, seed: int, engine: Path, frame: int, side: int) -> U8:
    """One row, uint8 side×3·side×3 RGB."""
    restore = Network(engine)
    size = restore.side
    shot = shoot(face, number, protocol, seed)
    for i in range(frame):  # what a network with memory would have seen
        restore(cut(shot.seen[i], at(shot.matrices[i], size), size))
    m = at(shot.matrices[frame], size)
    truth, crop = cut(shot.clean[frame], m, size), cut(shot.seen[frame], m, size)
    ours = np.rint(locked(crop.astype(np.float32) / 255, restore(crop)) * 255).astype(np.uint8)
    x, y, w = size // 8, size // 5, size * 3 // 4
    parts = [
        cv2.resize(p[y : y + w, x : x + w], (side, side), interpolation=cv2.INTER_CUBIC) for p in (crop, ours, truth)
    ]
    return np.asarray(np.concatenate(parts, 1), np.uint8)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", default="rtface-s")
    p.add_argument("--faces", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--rows", type=int, default=4)
    p.add_argument("--protocols", default="call,heavy")
    p.add_argument("--side", type=int, default=384)
    p.add_argument("--seed", type=int, default=11)
    a = p.parse_args()
    model = Path(__file__).parents[2] / "rtface" / "models" / a.engine
    with tempfile.TemporaryDirectory() as folder:
        if a.faces:
            held = [f for f in split(load_faces(a.faces))[1] if f.px >= 384]
            order = np.random.default_rng(a.seed).permutation(len(held))
            faces = [held[int(i)] for i in order[: a.rows]]
        else:
            from training.export.golden_crops import astronaut

            picture, matrix = astronaut()
            path = Path(folder) / "astronaut.png"
            cv2.imwrite(str(path), cut(picture, matrix, 512)[:, :, ::-1])
            faces = [Face(path, 512, "scikit-image", "astronaut", False)]
        rows = [row(f, i, q, a.seed, model, 12, a.side) for i, f in enumerate(faces) for q in a.protocols.split(",")]
    cv2.imwrite(str(a.out), np.concatenate(rows, 0)[:, :, ::-1])


if __name__ == "__main__":
    main()
