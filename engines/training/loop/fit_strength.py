"""Fits `rtface.analysis.treatment.predicted`: ``python -m training.loop.fit_strength strength.json …``.

The strength is a linear function of features that are available before the engine runs. The fit maximises the mean gain
in dB on rows of ``training.data.strength_samples``; losses in dB count `HARM` times. The predictor of the engine's gain
is fitted by least squares. Printed figures come from cross-validation with eight folds, split by people. Copy the
printed coefficients to `rtface.analysis.treatment`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtface.analysis.measure import Analysis
from rtface.analysis.treatment import MAX_STRENGTH, features

HARM = 4.0
FLOOR = 0.1
"""Squared rounding error in code values, added to both errors that a gain compares."""
FOLDS, STEPS = 8, 400


def gains(s: Tensor, rows: Tensor) -> Tensor:
    """Computes the gain in dB for strengths ``s``. A row contains ⟨d, w⟩, ⟨d, d⟩, ⟨w, w⟩ and the number of samples."""
    floor = FLOOR * rows[:, 3]
    after = rows[:, 2] - 2 * s * rows[:, 0] + s * s * rows[:, 1]
    return 10 * torch.log10((rows[:, 2] + floor) / (after.clamp(min=0) + floor))


def fitted(x: Tensor, rows: Tensor) -> Tensor:
    """Fits coefficients that predict the best strengths of ``rows`` from features ``x``."""
    w = torch.zeros(x.shape[1], requires_grad=True)
    with torch.no_grad():
        w[0] = 0.5
    opt = torch.optim.LBFGS([w], lr=0.5, max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        opt.zero_grad()
        raw = x @ w
        g = gains(raw.clamp(0, MAX_STRENGTH) + 0.02 * (raw - raw.clamp(0, MAX_STRENGTH)), rows)
        total = -(g - (HARM - 1) * torch.relu(-g)).mean() + 1e-3 * (w[1:] ** 2).sum()
        total.backward()
        return total

    opt.step(loss)  # pyright: ignore
    return w.detach()


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("rows", type=Path, nargs="+")
    a = p.parse_args()
    samples: list[Any] = [r for path in a.rows for r in json.loads(path.read_text(encoding="utf-8"))]
    samples = [r for r in samples if r["engine_products"][1] > 1]
    x = torch.tensor(np.array([features(Analysis(**r["analysis"]), r["px"]) for r in samples]), dtype=torch.float32)
    rows = torch.tensor(np.array([[*r["engine_products"], r["samples"]] for r in samples]), dtype=torch.float32)
    first = torch.tensor(np.array([[*r["first_products"], r["samples"]] for r in samples]), dtype=torch.float32)
    fold = torch.tensor([int(hashlib.md5(r["person"].encode()).hexdigest(), 16) % FOLDS for r in samples])
    strength = torch.zeros(len(samples))
    expected = torch.zeros(len(samples))

    def gain_fit(x: Tensor, s: Tensor, g: Tensor) -> Tensor:
        y = torch.cat([s[:, None] * x, s[:, None] ** 2], 1)
        return torch.linalg.lstsq(y.T @ y + 1e-2 * len(y) * torch.eye(y.shape[1]), y.T @ g).solution

    def gain_of(x: Tensor, s: Tensor, c: Tensor) -> Tensor:
        return torch.cat([s[:, None] * x, s[:, None] ** 2], 1) @ c

    for k in range(FOLDS):
        w = fitted(x[fold != k], rows[fold != k])
        strength[fold == k] = (x[fold == k] @ w).clamp(0, MAX_STRENGTH)
        s = (x[fold != k] @ w).clamp(0, MAX_STRENGTH)
        c = gain_fit(x[fold != k], s, gains(s, rows[fold != k]))
        expected[fold == k] = gain_of(x[fold == k], strength[fold == k], c)
    engine, alone = gains(strength, rows), gains(torch.ones(len(samples)), first)
    best = gains((rows[:, 0] / rows[:, 1]).clamp(0, MAX_STRENGTH), rows)

    total = engine + alone
    harmed, miss = (total < -0.05).float().mean(), (expected - engine).abs().mean()
    print(f"{len(samples)} rows: first stage {alone.mean():+.2f}, engine {engine.mean():+.2f} of {best.mean():+.2f}, "
          f"both {total.mean():+.2f} (worst {total.min():+.2f}, {harmed:.1%} harmed); strength {strength.mean():.2f}; "
          f"engine's gain predicted within {miss:.2f}")  # fmt: skip
    for k in range(FOLDS):
        strength[fold == k] = (x[fold == k] @ fitted(x[fold != k], first[fold != k])).clamp(0, 1)
    g = gains(strength, first)
    for name, one in (("whole", alone), ("predicted", g)):
        print(f"first stage, strength {name}: {one.mean():+.2f} (worst {one.min():+.2f}, "
              f"{(one < -0.05).float().mean():.1%} harmed)")  # fmt: skip
    w = fitted(x, rows)
    s = (x @ w).clamp(0, MAX_STRENGTH)
    c = gain_fit(x, s, gains(s, rows))
    for name, values in (("_STRENGTH", w), ("_GAIN", c), ("_FIRST", fitted(x, first))):
        print(f"{name} = ({', '.join(f'{v:.4f}' for v in values.tolist())})")


if __name__ == "__main__":
    main()
