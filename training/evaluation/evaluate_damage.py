"""Finds and fills made damage on held-out people: ``python -m training.evaluation.evaluate_damage --faces DIR``.

For each kind of damage: precision, recall and intersection over union of the mask; PSNR inside the damage and on the
whole oval of the input, of the fill, of the fill with an engine on top, and of OpenCV's inpainting with the true mask.
Then the share of pixels that is altered on faces without damage. ``--judge`` adds the cosine of identity (EdgeFace).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.correct import face_mask
from rtface.correct.colour import luma_of
from rtface.correct.damage import features_of, grain_of, holes_of, painted, share_of
from rtface.engine.damage_network import DamageNetwork
from training.crop_space import F32, U8, oval_mask
from training.data.damaged_faces import SIZE, crop_of, load, sample
from training.data.portraits import load_faces, load_fresh, split
from training.degradation.broken_print import KINDS
from training.degradation.single_image import rounded
from training.evaluation.edgeface import EdgeFace
from training.evaluation.restorers import Network, locked, psnr
from training.landmarks import CERTAIN, Landmarks

OVAL = oval_mask(SIZE)
LEAST = 30
"""Damaged pixels of the oval below which a face does not count."""


class Repair:
    """Fills a still's crop (float32 256×256×3, 0..1) as `rtface.enhance.damage_repair` does."""

    def __init__(self, network: DamageNetwork) -> None:
        self.network, self.marks = network, Landmarks()

    def __call__(self, crop: F32) -> tuple[F32, U8, F32]:
        """The filled crop, the hole, and the mask of the face."""
        points, score = self.marks.read(crop, self.marks.region(crop))
        mesh = points * (SIZE / 512) if score > CERTAIN else None
        face = face_mask(SIZE, None if mesh is None else mesh[:, :2])
        luma = luma_of(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        hole = holes_of(self.network(crop), face, luma, features_of(mesh, SIZE))
        if not hole.any():
            return crop, hole, face
        fill = painted(crop, hole) + grain_of(crop, hole, face, 1.0, (0, 0))[..., None]
        return (crop + (fill - crop) * face[..., None]).astype(np.float32), hole, face


def made_damage(repair: Repair, portraits: list[U8], engine: Path | None,
                judge: EdgeFace | None) -> dict[str, dict[str, float]]:  # fmt: skip
    """Figures for each kind of damage, one made damage of each portrait; ``engine`` is the folder of one."""
    restorer = Network(engine) if engine else None

    def restored(image: F32) -> F32:
        assert restorer is not None
        restorer.begin()
        return locked(image, restorer(rounded(image * 255)))

    out: dict[str, dict[str, float]] = {}
    for number, kind in enumerate(KINDS):
        rows: dict[str, list[float]] = defaultdict(list)
        hit = wrong = missed = 0.0
        for k, portrait in enumerate(portraits):
            s = sample(portrait, np.random.default_rng([7, number, k]), [kind], free=False)
            true = (s.mask > 0.5) & (OVAL > 0.5)
            if true.sum() < LEAST:
                continue
            seen, truth = (np.asarray(v / 255, np.float32) for v in (s.seen, s.truth))
            fill, hole, _ = repair(seen)
            found = (hole > 0) & (OVAL > 0.5)
            # What lies within two pixels of the damage is neither right nor wrong: holes are a little larger.
            near = cv2.dilate(true.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            hit, missed = hit + float((true & found).sum()), missed + float((true & ~found).sum())
            wrong += float((found & ~near).sum())
            known = cv2.dilate((s.mask > 0.25).astype(np.uint8), np.ones((3, 3), np.uint8))
            images = {"input": seen, "fill": fill, "fill, true mask": painted(seen, known)}
            if restorer is not None:
                images |= {"engine": restored(seen), "fill + engine": restored(fill)}
            inside = true.astype(np.float32)
            for name, image in images.items():
                rows[f"{name}: damage, dB"].append(psnr(image, truth, inside))
                rows[f"{name}: oval, dB"].append(psnr(image, truth, OVAL))
                if judge is not None:
                    rows[f"{name}: identity"].append(1 - judge.distance(image, truth))
        out[kind] = {
            "faces": len(rows["input: oval, dB"]), "recall": hit / max(hit + missed, 1),
            "precision": hit / max(hit + wrong, 1), "IoU": hit / max(hit + missed + wrong, 1),
        } | {name: float(np.mean(values)) for name, values in rows.items()}  # fmt: skip
    return out


def clean(repair: Repair, crops: list[U8]) -> dict[str, float]:
    """What is altered on portraits without damage: shares of the faces, and of a face's pixels."""
    answers = (repair(np.asarray(c / 255, np.float32)) for c in crops)
    shares = np.array([share_of(hole, face) for _, hole, face in answers])
    return {"faces": len(shares), "altered": float((shares > 0).mean()), "mean": float(shares.mean()),
            "p95": float(np.quantile(shares, 0.95)), "worst": float(shares.max())}  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--model", type=Path, help="a damage network instead of the shipped one")
    p.add_argument("--engine", type=Path, help="folder of the engine that restores what was filled")
    p.add_argument("--people", type=int, default=107)
    p.add_argument("--clean", type=int, default=107, help="portraits without damage")
    p.add_argument("--fresh", action="store_true", help="also people of sources that nothing trains on")
    p.add_argument("--judge", action="store_true", help="identity by EdgeFace")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    cv2.setNumThreads(1)
    held_out = split(load_faces(a.faces))[1]
    network = DamageNetwork(a.model, hashlib.sha256(a.model.read_bytes()).hexdigest()) if a.model else DamageNetwork()
    repair, judge = Repair(network), EdgeFace() if a.judge else None
    figures: dict[str, Any] = {"made damage": made_damage(repair, load(held_out[: a.people]), a.engine, judge)}
    for name, faces in {"held out": held_out, **({"fresh": load_fresh(a.faces)} if a.fresh else {})}.items():
        figures[f"clean, {name}"] = clean(repair, [crop_of(c) for c in load(faces[: a.clean])])
    text = json.dumps(figures, indent=1)
    print(text)
    if a.json:
        a.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
