"""Figures of coded film at its own size, against a sharp truth: in the oval of the face and in the ring round it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.crop_space import F32, U8
from training.evaluation.metrics import Column, table_lines
from training.evaluation.native_protocols import LUMA, Truth, head_of, oval_of

Row = dict[str, float]
STRONGEST = 1.6
"""Largest strength that the search for the best one allows."""
HARMED = -0.05
"""dB below which a clip counts as harmed."""
FLOOR = 1e-2
"""Least mean squared error that is told apart, code values²: 68 dB."""


def finest(image: F32) -> F32:
    """The Laplacian of the luma of an RGB picture."""
    return np.asarray(cv2.Laplacian(np.asarray(image @ LUMA.astype(np.float32), np.float32), cv2.CV_32F), np.float32)


def decibel(error: float) -> float:
    """PSNR of a mean squared error in code values²."""
    return float(10 * np.log10(255**2 / max(error, FLOOR)))


@dataclass
class _Best:
    """The strength that brings ``coded + strength · (always − coded)`` nearest to the truth, in sums over a clip."""

    both: float = 0.0
    change: float = 0.0

    def add(self, weight: F32, change: F32, wanted: F32) -> None:
        self.both += float((weight * change * wanted).sum())
        self.change += float((weight * change * change).sum())

    def strength(self) -> float:
        return float(np.clip(self.both / max(self.change, 1e-9), 0, STRONGEST))

    def gain(self, error: float, weight: float) -> float:
        """dB at this strength; ``error``: sum of the squared errors of the coded film, ``weight``: of the weights."""
        s = self.strength()
        left = error - 2 * s * self.both + s * s * self.change
        return decibel(left / weight) - decibel(error / weight)


class Ruler:
    """The measured frames of one truth, and the figures of any film of them.

    Only the part of the frames that holds the head on all of them is looked at.
    """

    def __init__(self, truth: Truth) -> None:
        height, width = truth.frames[0].shape[:2]
        self._numbers = range(truth.first, len(truth.frames))
        matrices = [truth.matrices[n] for n in self._numbers]
        ovals = [oval_of(m, (width, height)) for m in matrices]
        heads = [head_of(m, (width, height), truth.bounded) for m in matrices]
        seen = np.max([np.maximum(o, h) for o, h in zip(ovals, heads, strict=True)], axis=0) > 0
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        y0, y1, x0, x1 = max(0, rows[0] - 4), rows[-1] + 5, max(0, columns[0] - 4), columns[-1] + 5
        self.part = np.s_[y0:y1, x0:x1]
        self._ovals = [np.ascontiguousarray(o[self.part])[..., None] for o in ovals]
        self._rings = [np.where(o[self.part] > 0, 0, h[self.part])[..., None].astype(np.float32)
                       for o, h in zip(ovals, heads, strict=True)]  # fmt: skip
        self._truth = self.seen(truth.frames)

    def seen(self, frames: Sequence[U8]) -> list[F32]:
        """The measured part of the measured frames of a whole film, float32 h×w×3, code values."""
        return [frames[n][self.part].astype(np.float32) for n in self._numbers]

    def row(self, coded: Sequence[U8], default: Sequence[U8], always: Sequence[U8] | None = None) -> Row:
        """All figures of one coded film, and what was made of it: uint8 H×W×3 RGB, as many as the truth has.

        dB, except for ``s`` (best strength), ``*_found`` and ``*_energy`` (the luma's Laplacian in the oval:
        correlation with the truth's, and mean square by that), ``sharper`` (energy of default by the coded film's),
        ``flicker`` (change of the error from frame to frame, by the coded film's) and ``change`` (root mean square of
        default − coded in the oval, code values).
        """
        c, d = self.seen(coded), self.seen(default)
        a = self.seen(always) if always is not None else None
        row: Row = {}
        for name, weights in (("", self._ovals), ("ring_", self._rings)):
            total = 3 * float(sum(w.sum() for w in weights))
            if not total:
                continue
            error = self._error(c, weights)
            row[f"{name}input"] = decibel(error / total)
            row[f"{name}default"] = decibel(self._error(d, weights) / total) - row[f"{name}input"]
            before, after = (self._error(film, weights, luma=True) / (total / 3) for film in (c, d))
            row[f"{name}luma"] = decibel(after) - decibel(before)
            if a is None:
                continue
            row[f"{name}always"] = decibel(self._error(a, weights) / total) - row[f"{name}input"]
            best = _Best()
            for w, x, y, t in zip(weights, c, a, self._truth, strict=True):
                best.add(w, y - x, t - x)
            row[f"{name}s"], row[f"{name}best"] = best.strength(), best.gain(error, total)
        if a is not None:
            row["regret"] = row["best"] - row["default"]
        oval = 3 * float(sum(w.sum() for w in self._ovals))
        row["change"] = float(np.sqrt(sum(float((w * (x - y) ** 2).sum())
                                          for w, x, y in zip(self._ovals, d, c, strict=True)) / oval))  # fmt: skip
        changed = [bool((x != y).any()) for x, y in zip(d, c, strict=True)]
        row["changed"] = float(np.mean(changed))
        for name, film in (("input", c), ("default", d)):
            row[f"{name}_found"], amplitude = self._detail(film)
            row[f"{name}_energy"] = amplitude**2
        row["sharper"] = row["default_energy"] / max(row["input_energy"], 1e-9)
        if len(c) > 1:
            row["flicker"] = self._flicker(d) / max(self._flicker(c), 1e-9)
        return row

    def _error(self, film: list[F32], weights: list[F32], *, luma: bool = False) -> float:
        """Sum of the weighted squared errors, of all three colours or of luma."""
        onto = LUMA[:, None].astype(np.float32) if luma else np.eye(3, dtype=np.float32)
        return sum(float((w * ((x - t) @ onto) ** 2).sum()) for w, x, t in zip(weights, film, self._truth, strict=True))

    def _detail(self, film: list[F32]) -> tuple[float, float]:
        """Correlation of the luma's Laplacian with the truth's, and its standard deviation by that."""
        sums = np.zeros(3)
        for w, x, t in zip(self._ovals, film, self._truth, strict=True):
            p, q, weight = finest(x), finest(t), w[..., 0]
            sums += [float((weight * u * v).sum()) for u, v in ((p, q), (p, p), (q, q))]
        both, shown, true = sums
        return both / max(float(np.sqrt(shown * true)), 1e-9), float(np.sqrt(shown / max(true, 1e-9)))

    def _flicker(self, film: list[F32]) -> float:
        errors = [x - t for x, t in zip(film, self._truth, strict=True)]
        changes = [float((w * np.abs(after - before)).sum() / w.sum())
                   for w, before, after in zip(self._ovals, errors, errors[1:], strict=False)]  # fmt: skip
        return float(np.mean(changes))


# --- tables ---

COLUMNS: tuple[Column, ...] = (
    ("clips", 5, ("count", "{:.0f}")),
    ("dB in", 5, ("input", "{:.2f}")),
    ("default (worst)", 15, ("default", "{:+.2f}"), ("worst default", " ({:+.2f})")),
    ("luma (worst)", 14, ("luma", "{:+.2f}"), ("worst luma", " ({:+.2f})")),
    ("harmed", 6, ("harmed", "{:.0%}")),
    ("changed", 7, ("changed", "{:.0%}")),
    ("expected (off)", 14, ("expected", "{:+.2f}"), ("missed", " ({:.2f})")),
    ("always (worst)", 14, ("always", "{:+.2f}"), ("worst always", " ({:+.2f})")),
    ("best: s, gain", 13, ("s", "{:.2f}"), ("best", ", {:+.2f}")),
    ("regret (worst)", 14, ("regret", "{:.2f}"), ("worst regret", " ({:.2f})")),
    ("ring in", 7, ("ring_input", "{:.2f}")),
    ("default (worst)", 15, ("ring_default", "{:+.2f}"), ("worst ring_default", " ({:+.2f})")),
    ("luma", 6, ("ring_luma", "{:+.2f}")),
    ("always", 6, ("ring_always", "{:+.2f}")),
    ("energy", 12, ("input_energy", "{:.2f}"), ("default_energy", " > {:.2f}")),
    ("found", 12, ("input_found", "{:.2f}"), ("default_found", " > {:.2f}")),
    ("sharper (least)", 15, ("sharper", "{:.2f}"), ("worst sharper", " ({:.2f})")),
    ("flicker (worst)", 15, ("flicker", "{:.2f}"), ("worst flicker", " ({:.2f})")),
    ("identity", 14, ("input_identity", "{:.3f}"), ("default_identity", " > {:.3f}")),
    ("change (worst)", 17, ("same", "{:+.4f}"), ("worst same", " ({:+.4f})")),
)
_HIGHER_IS_WORSE = ("regret", "missed", "flicker", "change", "changed")


def summary(rows: Sequence[Row]) -> Row:
    """Means over clips; ``worst …`` of each, ``count``, and ``harmed``: the share of clips that lost 0.05 dB."""
    out: Row = {"count": float(len(rows))}
    for key in dict.fromkeys(k for row in rows for k in row):
        values = [row[key] for row in rows if key in row]
        out[key] = float(np.mean(values))
        out[f"worst {key}"] = max(values) if key in _HIGHER_IS_WORSE else min(values)
    out["harmed"] = float(np.mean([row["default"] < HARMED for row in rows]))
    return out


def table(title: str, summaries: dict[str, Row]) -> str:
    """Markdown: one line a level."""
    return "\n".join(table_lines(title, COLUMNS, summaries))
