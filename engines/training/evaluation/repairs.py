"""Measures the networks for damaged prints on damaged portraits of held-out people.

Training never sees the generator of this damage.

``python -m training.evaluation.repairs fill --faces FACES --checkpoint runs/fill/fill.pt`` says dB inside the holes,
against biharmonic inpainting; ``... damage ...`` says recall and precision of marked pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.restoration import inpaint_biharmonic
from torch import nn

from rtface.repair.proposal import propose
from rtface.repair.smooth_fill import smooth_fill
from training.crop_space import U8
from training.data.damaged_prints import NEAR, SIDE, tensor
from training.data.portraits import Face, load_faces, split
from training.model.repair import DamageNet, FillNet, load

FIRST_SEED = 7400
WITHIN = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # marks at most 2 px away from damage count as found


def cracks(r: np.random.Generator) -> U8:
    """Draws cracks 2 to 7 px wide and stains: a mask 0…255."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(r.integers(3, 6)):
        point, angle = r.uniform(0, SIDE, 2), r.uniform(0, 2 * np.pi)
        line = [point]
        for _ in range(r.integers(20, 60)):
            angle += r.normal(0, 0.35)
            line.append(line[-1] + 9 * np.array([np.cos(angle), np.sin(angle)]))
        cv2.polylines(mask, [np.array(line, np.int32)], False, 255, int(r.integers(2, 8)), cv2.LINE_AA)
    for _ in range(r.integers(2, 5)):
        x, y = r.uniform(120, 390, 2).astype(int).tolist()
        cv2.ellipse(
            mask, (x, y), (int(r.integers(6, 24)), int(r.integers(4, 14))), float(r.uniform(0, 180)), 0, 360, 255, -1
        )
    return mask


def examples(root: Path, count: int) -> list[tuple[U8, U8, U8]]:
    """Damages a portrait of each of the first ``count`` held-out people."""
    people: dict[str, Face] = {}
    for face in split(load_faces(root))[1]:
        if face.px == SIDE:
            people.setdefault(face.identity, face)
    return [damaged(face.load(), FIRST_SEED + k) for k, face in enumerate(list(people.values())[:count])]


def damaged(truth: U8, seed: int) -> tuple[U8, U8, U8]:
    """Damages a portrait. Returns it, the damaged portrait, and its holes, 0 or 1."""
    mask = cracks(r := np.random.default_rng(seed))
    share, tone = (mask / 255)[..., None], r.uniform(190, 250) if r.random() < 0.6 else r.uniform(5, 60)
    bad = (truth.astype(np.float32) * (1 - share) + share * (tone + r.normal(0, 8, truth.shape))).clip(0, 255)
    return truth, bad.astype(np.uint8), (cv2.dilate(mask, NEAR) > 20).astype(np.uint8)


def fill_summary(net: nn.Module, faces: list[tuple[U8, U8, U8]]) -> str:
    """Says mean dB of biharmonic inpainting and of the network, and gains."""
    rows: list[list[float]] = []
    for truth, bad, hole in faces:
        smooth = tensor(smooth_fill(bad.astype(np.float32), hole > 0).clip(0, 255))[None]
        out = net(smooth, torch.from_numpy(hole)[None, None].float())[0].clamp(0, 1).permute(1, 2, 0).numpy()
        pictures = 255 * inpaint_biharmonic(bad, hole, channel_axis=-1), np.rint(255 * out)
        rows.append([-10 * np.log10(((x - truth)[hole > 0] ** 2).mean() / 255**2) for x in pictures])
    old, new = np.array(rows).T
    gains = f"gain {(new - old).mean():+.2f}, least {(new - old).min():+.2f}, {(new - old < -0.3).sum()} below -0.3"
    return f"{len(faces)} portraits: biharmonic {old.mean():.2f} dB, network {new.mean():.2f}, {gains}"


def marked(net: nn.Module, picture: U8) -> U8:
    """Proposes the damage of a picture, as the program does."""
    return propose(picture, lambda x: net(torch.from_numpy(x)).sigmoid().numpy())[0]


def hits(mask: U8, truth: U8) -> tuple[float, float]:
    """Computes recall and precision of marked pixels, within 2 px."""
    near_truth, near_mask = cv2.dilate(truth, WITHIN) > 0, cv2.dilate(mask, WITHIN) > 0
    return float(near_mask[truth > 0].mean()), float(near_truth[mask > 0].mean()) if mask.any() else 1.0


def damage_summary(net: nn.Module, faces: list[tuple[U8, U8, U8]]) -> str:
    """Says mean recall and precision, and the marked share of sound portraits."""
    recall, precision = np.mean([hits(marked(net, bad), hole) for _, bad, hole in faces], 0)
    sound = np.array([(marked(net, truth) > 0).mean() for truth, _, _ in faces])
    most = f"sound: median {np.median(sound):.2%}, {(sound > 0.001).mean():.0%} above 0.1 %"
    return f"{len(faces)} portraits: recall {recall:.3f}, precision {precision:.3f}, {most}"


@torch.inference_mode()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", choices=("fill", "damage"))
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--people", type=int, default=68)
    a = p.parse_args()
    net, summary = (FillNet(), fill_summary) if a.network == "fill" else (DamageNet(), damage_summary)
    print(summary(load(net, a.checkpoint), examples(a.faces, a.people)))


if __name__ == "__main__":
    main()
