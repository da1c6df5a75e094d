"""Measures the finding of damage on held-out portraits, damaged by another generator than in training.

``python -m training.evaluation.marked_damage --faces FACES --checkpoint runs/damage/damage.pt --photos P.jpg ...``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from training.crop_space import F32, U8
from training.evaluation.filled_faces import FIRST_SEED, Example, cracked, held_out, tensor
from training.model.repair import DamageNet

THRESHOLD = 0.5
WITHIN = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
"""Pixels within 2 px count as found."""


def examples(root: Path, count: int) -> list[Example]:
    """Damages held-out portraits, each by its own seed."""
    return [cracked(face, FIRST_SEED + 100 + k) for k, face in enumerate(held_out(root, count))]


def probability(net: nn.Module, picture: F32) -> F32:
    """Computes each pixel's probability of damage, H×W, of a picture H×W×3, 0…255."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="reflect")
    return net(tensor(padded)).sigmoid()[0, 0, :height, :width].numpy()


def hits(marked: U8, truth: U8) -> tuple[float, float]:
    """Computes recall and precision of marked pixels, within 2 px."""
    near_truth, near_marked = cv2.dilate(truth, WITHIN) > 0, cv2.dilate(marked, WITHIN) > 0
    recall = near_marked[truth > 0].mean() if truth.any() else 1.0
    return float(recall), float(near_truth[marked > 0].mean() if marked.any() else 1.0)


def summary(net: nn.Module, photos: list[Example]) -> str:
    """Says mean recall and precision, and the share marked in the same photographs without damage."""
    damaged = [(probability(net, x.damaged) > THRESHOLD).astype(np.uint8) for x in photos]
    recall, precision = np.mean([hits(m, x.hole) for m, x in zip(damaged, photos, strict=True)], 0)
    sound = np.array([(probability(net, x.truth) > THRESHOLD).mean() for x in photos])
    above = (sound > 0.001).mean()
    return (
        f"recall {recall:.3f}, precision {precision:.3f}, sound: median {np.median(sound):.2%}, {above:.0%} above 0.1 %"
    )


@torch.inference_mode()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--people", type=int, default=68)
    p.add_argument("--photos", type=Path, nargs="*", default=[], help="photographs whose marked share is printed")
    p.add_argument("--sheet", type=Path, help="folder for pictures of photographs beside what is marked")
    a = p.parse_args()
    net = DamageNet().eval()
    net.load_state_dict({k: v.float() for k, v in torch.load(a.checkpoint, map_location="cpu")["ema"].items()})
    print(summary(net, examples(a.faces, a.people)))
    for path in a.photos:
        picture = cv2.imread(str(path))[..., ::-1].astype(np.float32)
        marked = probability(net, picture)
        print(f"{path.name}: {(marked > THRESHOLD).mean():.2%}")
        if a.sheet:
            tint = np.where((marked > THRESHOLD)[..., None], np.float32([255, 0, 0]), picture)
            sheet = np.hstack([picture, tint, np.repeat(255 * marked[..., None], 3, 2)])
            cv2.imwrite(str(a.sheet / f"{path.stem}.png"), sheet.astype(np.uint8)[..., ::-1])


if __name__ == "__main__":
    main()
