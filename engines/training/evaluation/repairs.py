"""Measures the networks for damaged prints on held-out portraits with cracks of a generator that training never sees.

``python -m training.evaluation.repairs fill --faces FACES --checkpoint runs/fill/fill.pt --sheets runs/sheets`` says dB
inside the holes, against biharmonic inpainting; ``... damage ... --photos P.jpg`` says recall and precision.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from training.crop_space import F32, F64, U8
from training.data.portraits import Face, load_faces, split
from training.data.smooth_fill import smooth_fill
from training.model.repair import SIDE, DamageNet, FillNet

NEAR = np.ones((3, 3), np.uint8)
FIRST_SEED = 7400
THRESHOLD = 0.5
WITHIN = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
"""Marked pixels at most 2 px away from damage count as found."""


def cracks(r: np.random.Generator) -> U8:
    """Draws cracks 2 to 7 px wide and stains, as a mask 0…255. Training never sees this generator."""
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
        axes = (int(r.integers(6, 24)), int(r.integers(4, 14)))
        cv2.ellipse(mask, (x, y), axes, float(r.uniform(0, 180)), 0, 360, 255, -1)
    return mask


@dataclass(frozen=True)
class Example:
    """A held-out portrait: truth and damaged picture 0…255, holes, and both classical fills."""

    name: str
    truth: F32
    damaged: F32
    hole: U8
    fill: F32
    biharmonic: F32


def held_out(root: Path, count: int) -> list[Face]:
    """Returns one 512-px portrait of each of the first ``count`` held-out people."""
    people: dict[str, Face] = {}
    for face in split(load_faces(root))[1]:
        if face.px == SIDE:
            people.setdefault(face.identity, face)
    return list(people.values())[:count]


def cracked(face: Face, seed: int) -> Example:
    """Damages a portrait. Both fills are the damaged picture itself."""
    r = np.random.default_rng(seed)
    truth, mask = face.load().astype(np.float32), cracks(r)
    share = (mask / 255)[..., None]
    tone = r.uniform(190, 250) if r.random() < 0.6 else r.uniform(5, 60)
    bad = (truth * (1 - share) + share * (tone + r.normal(0, 8, truth.shape))).clip(0, 255).astype(np.uint8)
    hole, x = (cv2.dilate(mask, NEAR) > 20).astype(np.uint8), bad.astype(np.float32)
    return Example(face.path.name, truth, x, hole, x, x)


def examples(root: Path, count: int) -> list[Example]:
    """Damages held-out portraits, each by its own seed, and fills them by both classical methods."""
    from skimage.restoration import inpaint_biharmonic  # slow to import

    result: list[Example] = []
    for number, face in enumerate(held_out(root, count)):
        x = cracked(face, FIRST_SEED + number)
        smooth = 255 * np.asarray(inpaint_biharmonic(x.damaged.astype(np.uint8), x.hole, channel_axis=-1), np.float32)
        result.append(replace(x, fill=smooth_fill(x.damaged, x.hole > 0).clip(0, 255), biharmonic=smooth))
    return result


def tensor(picture: F32) -> Tensor:
    """Converts H×W×3, 0…255, to 1×3×H×W, 0…1."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] / 255


def filled(net: nn.Module, x: Example) -> F32:
    """Fills the holes by the network. Returns a picture 0…255."""
    out = net(tensor(x.fill), torch.from_numpy(x.hole)[None, None].float(), torch.zeros(1))
    return np.asarray(np.rint(255 * out[0].clamp(0, 1).permute(1, 2, 0).numpy()), np.float32)


def decibels(a: F32, b: F32, where: U8) -> float:
    """Computes the PSNR of ``a`` against ``b`` at the pixels ``where``."""
    return float(-10 * np.log10(((a - b)[where > 0] ** 2).mean() / 255**2))


def fill_summary(net: nn.Module, faces: list[Example]) -> str:
    """Says mean dB of biharmonic inpainting and of the network, and the least gain."""
    old, new = measured(net, faces)
    gain = new - old
    return f"biharmonic {old.mean():.2f} dB, network {new.mean():.2f}, gain {gain.mean():+.2f}, least {gain.min():+.2f}"


def measured(net: nn.Module, faces: list[Example]) -> tuple[F64, F64]:
    """Measures each portrait's dB inside the holes: of biharmonic inpainting, and of the network."""
    old = [decibels(x.biharmonic, x.truth, x.hole) for x in faces]
    new = [decibels(filled(net, x), x.truth, x.hole) for x in faces]
    return np.array(old), np.array(new)


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


def damage_summary(net: nn.Module, faces: list[Example]) -> str:
    """Says mean recall and precision, and the share marked in the same photographs without damage."""
    damaged = [(probability(net, x.damaged) > THRESHOLD).astype(np.uint8) for x in faces]
    recall, precision = np.mean([hits(m, x.hole) for m, x in zip(damaged, faces, strict=True)], 0)
    sound = np.array([(probability(net, x.truth) > THRESHOLD).mean() for x in faces])
    above = (sound > 0.001).mean()
    return (
        f"recall {recall:.3f}, precision {precision:.3f}, sound: median {np.median(sound):.2%}, {above:.0%} above 0.1 %"
    )


@torch.inference_mode()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("network", choices=("fill", "damage"))
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--people", type=int, default=68)
    p.add_argument("--photos", type=Path, nargs="*", default=[], help="photographs whose marked share is printed")
    p.add_argument("--sheets", type=Path, help="folder for sheets: the worst portraits, the photographs")
    a = p.parse_args()
    net = FillNet() if a.network == "fill" else DamageNet()
    net.load_state_dict({k: v.float() for k, v in torch.load(a.checkpoint, map_location="cpu")["ema"].items()})
    faces = examples(a.faces, a.people)
    sheets: dict[str, list[F32]] = {}
    if isinstance(net, FillNet):
        old, new = measured(net, faces)
        order = np.argsort(new - old)
        print(f"{len(faces)} portraits:", fill_summary(net, faces))
        print("worst:", ", ".join(f"{faces[k].name} {new[k] - old[k]:+.2f}" for k in order[:6]))
        for k in order[:: max(1, len(order) // 12)]:
            x = faces[k]
            sheets[f"{new[k] - old[k]:+.2f}-{x.name}"] = [x.damaged, x.biharmonic, filled(net, x), x.truth]
    else:
        print(f"{len(faces)} portraits:", damage_summary(net, faces))
        for path in a.photos:
            picture = cv2.imread(str(path))[..., ::-1].astype(np.float32)
            marked = (probability(net, picture) > THRESHOLD)[..., None]
            print(f"{path.name}: {marked.mean():.2%}")
            sheets[path.name] = [picture, np.where(marked, np.float32([255, 0, 0]), picture)]
    for name, row in sheets.items() if a.sheets else ():
        cv2.imwrite(str(a.sheets / f"{Path(name).stem}.png"), np.hstack(row).clip(0, 255).astype(np.uint8)[..., ::-1])


if __name__ == "__main__":
    main()
