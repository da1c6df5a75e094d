"""Contact sheets: input | every engine | truth, side by side.

``python -m training.evaluation.contact_sheet --engine rtface-m --out sheet.png`` films scikit-image's public-domain
portrait; ``--faces DIR`` takes people set aside instead (look at those, never publish them). ``--engine`` also takes
folders of exported engines, as of earlier versions (``git show REVISION:rtface/models/…``).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import U8, at, cut
from training.data.portraits import Face, load_faces, split
from training.evaluation.film_protocols import PROTOCOLS, shoot
from training.evaluation.restorers import Network, locked

SIDE = 512
FACE = (64, 102, 384)
FEATURES = (152, 196, 208)
"""Left, top and side of what is shown, in pixels of a crop of 512: the face, or only eyes, nose and mouth."""


def row(face: Face, number: int, protocol: str, seed: int, engines: list[Path], frame: int, zoom: int) -> U8:
    """One row, uint8 H×W×3 RGB: the 512-px crop ``zoom`` times as large, from 2 on eyes, nose and mouth only."""
    shot = shoot(face, number, protocol, seed, frame + 1)
    matrix = shot.matrices[frame]
    parts = [cut(shot.seen[frame], matrix, SIDE)]
    for engine in engines:
        restore = Network(engine)
        size = restore.side
        crops = [cut(seen, at(m, size), size) for seen, m in zip(shot.seen, shot.matrices, strict=True)]
        for crop in crops[:-1]:  # what a network with memory would have seen
            restore(crop)
        ours = np.rint(locked(crops[-1].astype(np.float32) / 255, restore(crops[-1])) * 255).astype(np.uint8)
        parts.append(np.asarray(cv2.resize(ours, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8))
    parts.append(cut(shot.clean[frame], matrix, SIDE))
    x, y, w = FEATURES if zoom > 1 else FACE
    shown = [cv2.resize(p[y : y + w, x : x + w], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC) for p in parts]
    return np.asarray(np.concatenate(shown, 1), np.uint8)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", default="rtface-s", help="names or folders, separated by commas, from left to right")
    p.add_argument("--faces", type=Path)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--rows", type=int, default=4, help="faces, with --faces")
    p.add_argument("--protocols", default="call,heavy", help=f"separated by commas: {', '.join(PROTOCOLS)}")
    p.add_argument("--zoom", type=int, default=1, help="1: a crop of 512 as it is; 2: eyes to mouth, twice as large")
    p.add_argument("--frame", type=int, default=12)
    p.add_argument("--seed", type=int, default=11)
    a = p.parse_args()
    shipped = Path(__file__).parents[2] / "rtface" / "models"
    engines = [Path(name) if Path(name).is_dir() else shipped / name for name in a.engine.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        if a.faces:
            held = [f for f in split(load_faces(a.faces))[1] if f.px >= 384]
            order = np.random.default_rng(a.seed).permutation(len(held))
            faces = [held[int(i)] for i in order[: a.rows]]
        else:
            from training.export.golden_crops import astronaut

            picture, matrix = astronaut()
            path = Path(folder) / "astronaut.png"
            cv2.imwrite(str(path), cut(picture, matrix, SIDE)[:, :, ::-1])
            faces = [Face(path, SIDE, "scikit-image", "astronaut", False)]
        rows = [row(f, i, q, a.seed, engines, a.frame, a.zoom) for i, f in enumerate(faces)
                for q in a.protocols.split(",")]  # fmt: skip
    cv2.imwrite(str(a.out), np.concatenate(rows, 0)[:, :, ::-1])


if __name__ == "__main__":
    main()
