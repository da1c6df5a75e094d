"""Trains ``rtface-s`` or ``rtface-m`` on film pairs.

``python -m training.loop.train --engine rtface-s --pairs DIR --run runs/s --minutes 60``; the same command resumes
from the last checkpoint. ``rtface-m`` starts from a trained ``rtface-s`` (``--core runs/s/last.pt``) and continues to
train it, so that one run yields both networks. If there is a GPU, it is used. Random choices are seeded. The learning
rate depends on the elapsed time (cosine), so that a run takes the same number of minutes on any machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from training.data.shards import Pairs, Stream
from training.loop.sequences import Clips, ClipStream
from training.loop.trainer import Trainer


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--engine", choices=("rtface-s", "rtface-m", "rtface-m-vivid"), default="rtface-s")
    p.add_argument("--pairs", type=Path, required=True)
    p.add_argument("--valid", type=Path, help="pairs of held-out people (made with --held-out)")
    p.add_argument("--clips", type=Path, help="sequences, which train the memory; --valid must then also be sequences")
    p.add_argument("--length", type=int, default=6, help="number of successive frames in a training clip")
    p.add_argument("--perceptual", type=float, default=0.0, help="weight of ST-LPIPS (needs RTFACE_METRIC_WEIGHTS)")
    p.add_argument("--identity", type=float, default=0.0, help="weight of dlib's identity distance (needs the same)")
    p.add_argument("--vivid", type=float, default=0.0, help="relative gradient of the adversarial loss; pairs only")
    p.add_argument("--run", type=Path, required=True)
    p.add_argument(
        "--core",
        type=Path,
        nargs="+",
        default=[],
        help="checkpoints or engine folders whose weights are loaded, matched by name",
    )
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--lr-end", type=float, default=2e-5)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--piece", type=int, default=2, help="images that a CPU thread processes together")
    p.add_argument("--only", default="", help="train only parameters whose names contain one of these, as trust,doubt")
    p.add_argument("--freeze", default="", help="do not train parameters whose names contain one of these, as core.")
    p.add_argument("--wake", type=int, default=400, help="steps between checks for dead channels; 0: no checks")
    p.add_argument("--clean-share", type=float, default=0.10)
    p.add_argument("--clean-weight", type=float, default=1.0)
    p.add_argument("--min-px", type=float, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    return p


def main() -> None:
    a = parser().parse_args()
    a.run.mkdir(parents=True, exist_ok=True)
    t = Trainer(a)
    pairs = Pairs(a.pairs, t.net.size, a.min_px)
    valid: Pairs | Clips | None = None
    stream: Stream | ClipStream
    if a.clips:
        stream = ClipStream(Clips(a.clips), pairs, a.batch, a.length, a.seed + t.step, a.clean_share)
        valid = Clips(a.valid) if a.valid else None
    else:
        stream = Stream(pairs, a.batch, a.seed + t.step, a.clean_share)
        valid = Pairs(a.valid, t.net.size) if a.valid else None
    last = printed = time.monotonic()
    losses: list[float] = []
    gains: list[float] = []
    tick = images = 0
    while t.used < a.minutes * 60:
        if a.wake and t.step % a.wake == 0 and t.used < 0.7 * a.minutes * 60:
            print(f"step {t.step}: {t.wake(pairs)} dead channels reset", flush=True)
        loss, gain = t.train_step(next(stream))
        images += t.images
        losses.append(loss)
        gains.append(gain)
        now = time.monotonic()
        t.used, last = t.used + min(now - last, 3.0), now  # longer pauses of the process do not count
        if now - printed > 60 or t.used >= a.minutes * 60:
            row: dict[str, Any] = {
                "step": t.step,
                "minutes": round(t.used / 60, 2),
                "lr": f"{t.rate():.2e}",
                "pairs": pairs.refresh(),
                "loss": round(float(np.mean(losses)), 5),
                "gain_db": round(float(np.mean(gains)), 3),
                "images_s": round(images / (now - printed), 1),
            }
            if valid is not None and valid.refresh() and (tick % 4 == 3 or t.used >= a.minutes * 60):
                row.update(t.validate(valid))
            print(row, flush=True)
            t.save()
            losses, gains, images, tick = [], [], 0, tick + 1
            last = printed = time.monotonic()
            t.used += last - now


if __name__ == "__main__":
    main()
