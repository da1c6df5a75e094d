"""Trains the detector of objects in front of a face.

``python -m training.loop.train_occlusion --core engines/shipped/rtface-s --clips runs/clips-hidden --pairs runs/pairs
--valid runs/clips-hidden-valid --out runs/occlusion.pt --minutes 12``

Trains only `networks.Occlusion`, on single frames. Its input is the features of a trained core, which stays frozen. The
sequences come from ``film_sequences --hidden 0.75``. The pairs (degraded and clean images) show unobstructed faces.
Half of the frames get simulated shadows, motion blur and head turns, which the portraits lack. Writes all weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.shards import Pairs
from training.loop.initial_weights import weights
from training.loop.sequences import Clips, mirror
from training.losses.restoration import Loss
from training.model.networks import build

UNOBSTRUCTED_SHARE = 0.4
"""Share of frames that come from pairs and show no object."""
OUTSIDE_WEIGHT = 0.1
"""Weight of the loss outside the face's oval."""
AUGMENTATION_PROBABILITY = 0.3
"""Probability of each of these changes to an augmented frame: a shadow, motion blur, a pasted object."""


def smooth_noise(r: np.random.Generator, cells: int, h: int, w: int) -> Tensor:
    """Draws a smooth random field 1×1×h×w with values of about −2..2."""
    rough = torch.from_numpy(r.standard_normal((1, 1, cells, cells)).astype(np.float32))
    return F.interpolate(rough, size=(h, w), mode="bicubic", align_corners=False)


def change_light(image: Tensor, r: np.random.Generator) -> Tensor:
    """Changes the brightness of an image 1×3×h×w. Sometimes adds a shadow; occasionally makes the image gray."""
    *_, h, w = image.shape
    light = 0.35 * float(r.random()) * smooth_noise(r, 3, h, w)
    if r.random() < AUGMENTATION_PROBABILITY:
        y, x = torch.meshgrid(torch.arange(h) - h / 2, torch.arange(w) - w / 2, indexing="ij")
        angle = r.uniform(0, 2 * np.pi)
        distance = x * np.cos(angle) + y * np.sin(angle) + 12 * smooth_noise(r, 4, h, w)[0, 0]
        light = light - r.uniform(0.2, 1.2) * torch.sigmoid((distance - r.uniform(-60, 60)) / r.uniform(1.5, 12))
    image = (image * torch.exp(light)).clamp(0, 1)
    return image.mean(1, keepdim=True).expand_as(image) if r.random() < 0.1 else image


def move(image: Tensor, mask: Tensor, r: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotates, shifts and scales an image and its occlusion mask. Also compresses one side, as if the head turned."""
    angle, scale = np.deg2rad(r.normal(0, 7)), np.exp(r.normal(0, 0.08))
    dx, dy, turn = r.normal(0, 0.05), r.normal(0, 0.05), r.normal(0, 0.15)

    def grid(h: int, w: int) -> Tensor:
        y, x = torch.meshgrid((2 * torch.arange(h) + 1) / h - 1, (2 * torch.arange(w) + 1) / w - 1, indexing="ij")
        x = x + turn * (1 - x * x)
        a, b = scale * np.cos(angle), scale * np.sin(angle)
        return torch.stack([a * x - b * y + dx, b * x + a * y + dy], -1)[None].float()

    return (F.grid_sample(image, grid(*image.shape[-2:]), "bilinear", "reflection", align_corners=False),
            F.grid_sample(mask, grid(*mask.shape[-2:]), "bilinear", "border", align_corners=False))  # fmt: skip


def blur_motion(image: Tensor, r: np.random.Generator) -> Tensor:
    """Applies motion blur of up to 15 pixels to an image, 1×3×h×w."""
    length, angle = r.uniform(2, 15), r.uniform(0, np.pi)
    kernel = torch.zeros(17, 17)
    for t in np.linspace(-length / 2, length / 2, 33):
        kernel[8 + round(t * np.sin(angle)), 8 + round(t * np.cos(angle))] += 1 / 33
    padded = F.pad(image, (8, 8, 8, 8), mode="replicate")
    return F.conv2d(padded, kernel.expand(3, 1, 17, 17), groups=3)


def augment_frame(
    image: Tensor, mask: Tensor, other: Tensor, paste_mask: Tensor, r: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Augments a frame and its occlusion mask (1×1×h/4×w/4). Changes light and geometry, and adds motion blur.
    Sometimes pastes an enlarged part of the frame ``other`` inside ``paste_mask`` (1×1×h/4×w/4)."""
    if r.random() < AUGMENTATION_PROBABILITY:
        alpha = F.interpolate(paste_mask, scale_factor=4.0, mode="bilinear", align_corners=False)
        factor, y, x = int(r.integers(2, 4)), int(r.integers(0, 80)), int(r.integers(0, 80))
        *_, h, w = image.shape
        part = F.interpolate(other[..., y : y + h // factor + 1, x : x + w // factor + 1], size=(h, w), mode="bicubic",
                             align_corners=False).clamp(0, 1)  # fmt: skip
        part = change_light(part, r)
        image = image + alpha * (part - image)
        mask = torch.maximum(mask, paste_mask)
    if r.random() < 0.6:
        image, mask = move(image, mask, r)
    if r.random() < 0.6:
        image = change_light(image, r)
    if r.random() < AUGMENTATION_PROBABILITY:
        image = blur_motion(image, r)
    return image.clamp(0, 1), mask


class Frames:
    """Endless seeded batches of frames N×3×h×w and occlusion masks N×1×h/4×w/4, 0..1."""

    def __init__(self, clips: Clips, pairs: Pairs, seed: int) -> None:
        self.clips, self.pairs, self.rng = clips, pairs, np.random.default_rng(seed)
        self.paste_source: tuple[Tensor, Tensor] | None = None

    def draw_frame(self) -> tuple[Tensor, Tensor]:
        r = self.rng
        if r.random() < UNOBSTRUCTED_SHARE:
            truth, seen = self.pairs.batch([self.pairs.draw(r)])
            image = truth if r.random() < 0.15 else seen
            mask = image.new_zeros(1, 1, image.shape[2] // 4, image.shape[3] // 4)
            return (image.flip(3), mask) if r.random() < 0.5 else (image, mask)
        b = self.clips.get(self.clips.draw(r), int(r.integers(self.clips.shards[0][0].shape[1])), 1)
        b = mirror(b) if r.random() < 0.5 else b
        return (b.truth if r.random() < 0.1 else b.seen)[:, 0], b.cover

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        frames: list[tuple[Tensor, Tensor]] = []
        for _ in range(count):
            image, mask = frame = self.draw_frame()
            if self.paste_source is not None and self.rng.random() < 0.5:
                image, mask = augment_frame(image, mask, *self.paste_source, self.rng)
            self.paste_source = frame if frame[1].any() else self.paste_source
            frames.append((image, mask))
        return torch.cat([d[0] for d in frames]), torch.cat([d[1] for d in frames])


def roc_area(logits: Tensor, mask: Tensor) -> float:
    """Computes the area under the ROC curve for N logits. ``mask``: true values, 0..1."""
    positive, negative = logits[mask > 0.99], logits[mask < 0.01]
    rank = torch.cat([positive, negative]).argsort().argsort()[: len(positive)].double()
    return float((rank.mean() - (len(positive) - 1) / 2) / len(negative))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--core", type=Path, required=True, help="checkpoint of rtface-s, or an engine's folder")
    p.add_argument("--clips", type=Path, required=True)
    p.add_argument("--pairs", type=Path, required=True)
    p.add_argument("--valid", type=Path, required=True, help="sequences of held-out people")
    p.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    p.add_argument("--minutes", type=float, default=12)
    p.add_argument("--batch", type=int, default=12)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    state = weights(a.core)
    net = build("rtface-s", memory=True)
    net.load_state_dict({**net.state_dict(), **state})
    core, detector = net.core.to(memory_format=torch.channels_last).eval(), net.core.occlusion
    assert detector is not None
    clips, pairs, valid = Clips(a.clips), Pairs(a.pairs, 256), Clips(a.valid)
    oval = F.avg_pool2d(Loss(256).get_buffer("mask"), 4)
    weight = (oval / oval.max() + OUTSIDE_WEIGHT).expand(a.batch, -1, -1, -1)
    frames, opt = Frames(clips, pairs, a.seed), torch.optim.AdamW(detector.parameters(), a.lr, weight_decay=1e-3)

    def predict(image: Tensor) -> Tensor:
        with torch.no_grad():
            x0, x1, x2, _ = core.encoded(image)
        return detector(x0, x1, x2)

    start = printed = time.monotonic()
    step, losses = 0, list[float]()
    while (progress := (time.monotonic() - start) / (60 * a.minutes)) < 1:
        for group in opt.param_groups:
            group["lr"] = a.lr * (0.01 + 0.99 * (1 + np.cos(np.pi * progress)) / 2)
        image, mask = frames.batch(a.batch)
        loss = F.binary_cross_entropy_with_logits(predict(image), mask, weight)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        opt.step()
        step += 1
        losses.append(loss.item())
        if time.monotonic() - printed > 60:
            printed = time.monotonic()
            print(f"step {step}, {progress * a.minutes:.1f} minutes: {np.mean(losses):.4f}", flush=True)
            losses.clear()
    with torch.no_grad():
        logits, masks = [], []
        for i in range(len(valid.index)):
            b = valid.get(i, 4, 1)
            inside = (oval > 0.5 * oval.max()).expand_as(b.cover)
            logits.append(predict(b.seen[:, 0])[inside])
            masks.append(b.cover[inside])
    print(f"held-out people: area under the ROC curve {roc_area(torch.cat(logits), torch.cat(masks)):.4f}")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"ema": state | {f"core.occlusion.{k}": v for k, v in detector.state_dict().items()}}, a.out)


if __name__ == "__main__":
    main()
