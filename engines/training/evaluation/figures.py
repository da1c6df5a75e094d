"""Measures restored films against the truth, in the face's oval."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from training.crop_space import F32, U8, cut, oval_mask
from training.evaluation.truths import LUMA, Truth, oval_of
from training.losses.weight_files import VARIABLE

Row = dict[str, float]
HARMED_DB = -0.05
"""Gain in dB below which a clip counts as harmed."""
FLOOR = 1e-2
"""Lower bound of mean squared errors in code values², so that PSNR is at most 68 dB."""
IDENTITY_FRAMES = 3
"""Number of frames for identity and ST-LPIPS."""


def finest(image: F32) -> F32:
    """Computes the Laplacian of an RGB picture's luma."""
    return np.asarray(cv2.Laplacian(np.asarray(image @ LUMA.astype(np.float32), np.float32), cv2.CV_32F), np.float32)


def decibel(error: float) -> float:
    """Converts a mean squared error (of code values) to PSNR in dB."""
    return float(10 * np.log10(255**2 / max(error, FLOOR)))


class Judge:
    """Compares pictures by EdgeFace, which training does not use. With torch, also by ST-LPIPS."""

    def __init__(self) -> None:
        self.edgeface = self.st_lpips = None
        if os.environ.get(VARIABLE):
            from training.evaluation.edgeface import EdgeFace

            self.edgeface = EdgeFace()
            if importlib.util.find_spec("torch"):
                from training.losses.perceptual import StLpips

                self.st_lpips = StLpips()

    def row(self, truth: Truth, coded: Sequence[U8], default: Sequence[U8]) -> Row:
        """Returns mean cosine (identity) and ST-LPIPS distance to the truth. ``same``: gain in cosine."""
        row: Row = {}
        last = len(truth.frames) - 1
        for n in {int(v) for v in np.linspace(truth.first, last, IDENTITY_FRAMES)} if self.edgeface else ():
            target, *films = (cut(f[n], truth.matrices[n], 512) for f in (truth.frames, coded, default))
            for name, shown in zip(("input", "default"), films, strict=True):
                row.setdefault(f"{name}_identity", 0.0)
                row[f"{name}_identity"] += (1 - self.edgeface.distance(shown, target)) / IDENTITY_FRAMES
                if self.st_lpips:
                    a, b = (picture.astype(np.float32) / 255 for picture in (shown, target))
                    row.setdefault(f"{name}_lpips", 0.0)
                    row[f"{name}_lpips"] += self.st_lpips.distance(a, b, oval_mask(512)) / IDENTITY_FRAMES
        return row | ({"same": row["default_identity"] - row["input_identity"]} if row else {})


class Ruler:
    """Measures films against the ground truth, in its measured frames.

    Only the rectangle that contains the face in all these frames is read.
    """

    def __init__(self, truth: Truth) -> None:
        size = truth.frames[0].shape[1::-1]
        self._numbers = range(truth.first, len(truth.frames))
        ovals = [oval_of(truth.matrices[n], size) for n in self._numbers]
        x, y, w, h = cv2.boundingRect((np.max(ovals, axis=0) > 0).astype(np.uint8))
        self.part = np.s_[max(0, y - 4) : y + h + 4, max(0, x - 4) : x + w + 4]
        self._ovals = [np.ascontiguousarray(o[self.part])[..., None] for o in ovals]
        self._truth = self.cut_frames(truth.frames)

    def cut_frames(self, frames: Sequence[U8]) -> list[F32]:
        """Cuts the measured rectangle out of a film's measured frames: float32 h×w×3, code values."""
        return [frames[n][self.part].astype(np.float32) for n in self._numbers]

    def row(self, coded: Sequence[U8], default: Sequence[U8]) -> Row:
        """Measures a coded film and its restoration: uint8 H×W×3 RGB, with as many frames as the truth."""
        c, d = self.cut_frames(coded), self.cut_frames(default)
        input_psnr, input_luma = self._decibel(c)
        output_psnr, output_luma = self._decibel(d)
        row = {"input": input_psnr, "default": output_psnr - input_psnr, "luma": output_luma - input_luma}
        row["change"] = self._mean([(x - y) ** 2 for x, y in zip(d, c, strict=True)]) ** 0.5
        row["changed"] = float(np.mean([bool((x != y).any()) for x, y in zip(d, c, strict=True)]))
        energy = [self._mean([finest(x)[..., None] ** 2 for x in film]) for film in (d, c)]
        row["sharper"] = energy[0] / max(energy[1], 1e-9)
        if len(c) > 1:
            row["flicker"] = self._flicker(d) / max(self._flicker(c), 1e-9)
        return row

    def _mean(self, values: list[F32]) -> float:
        """Returns the mean of per-pixel values over the ovals of all frames."""
        total = sum(float((w * v).sum()) for w, v in zip(self._ovals, values, strict=True))
        return total / (values[0].shape[2] * sum(float(w.sum()) for w in self._ovals))

    def _decibel(self, film: list[F32]) -> tuple[float, float]:
        """Returns a film's PSNR over all colours, and the PSNR of luma."""
        errors = [x - t for x, t in zip(film, self._truth, strict=True)]
        luma = [(e @ LUMA.astype(np.float32))[..., None] for e in errors]
        return decibel(self._mean([e**2 for e in errors])), decibel(self._mean([e**2 for e in luma]))

    def _flicker(self, film: list[F32]) -> float:
        errors = [x - t for x, t in zip(film, self._truth, strict=True)]
        changes = [float((w * np.abs(after - before)).sum() / w.sum())
                   for w, before, after in zip(self._ovals, errors, errors[1:], strict=False)]  # fmt: skip
        return float(np.mean(changes))


# --- tables ---

COLUMNS = {
    "clips": "{count:.0f}",
    "dB in": "{input:.2f}",
    "default (worst)": "{default:+.2f} ({worst default:+.2f})",
    "luma (worst)": "{luma:+.2f} ({worst luma:+.2f})",
    "harmed": "{harmed:.0%}",
    "changed": "{changed:.0%}",
    "expected (off)": "{expected:+.2f} ({missed:.2f})",
    "sharper (least)": "{sharper:.2f} ({worst sharper:.2f})",
    "flicker (worst)": "{flicker:.2f} ({worst flicker:.2f})",
    "ST-LPIPS": "{input_lpips:.4f} > {default_lpips:.4f}",
    "identity": "{input_identity:.3f} > {default_identity:.3f}",
    "change (worst)": "{same:+.4f} ({worst same:+.4f})",
}
"""Column heading → format of the figures."""
_HIGHER_IS_WORSE = ("missed", "flicker", "change", "changed", "default_lpips")


def summary(rows: Sequence[Row]) -> Row:
    """Averages figures over clips. Adds ``count``, ``worst …`` figures, and ``harmed``: share that lost 0.05 dB."""
    out: Row = {"count": float(len(rows))}
    for key in dict.fromkeys(k for row in rows for k in row):
        values = [row[key] for row in rows if key in row]
        out[key] = float(np.mean(values))
        out[f"worst {key}"] = max(values) if key in _HIGHER_IS_WORSE else min(values)
    out["harmed"] = float(np.mean([row["default"] < HARMED_DB for row in rows]))
    return out


def table(title: str, rows: Mapping[str, Row]) -> str:
    """Formats ``rows`` as a Markdown table. Omits missing figures, and columns without figures."""
    keys = {head: re.findall(r"{([^:]+):", text) for head, text in COLUMNS.items()}
    columns = [head for head in COLUMNS if any(row.keys() >= set(keys[head]) for row in rows.values())]
    lines = [[title, *columns], ["---", *("---:" for _ in columns)]]
    for name, row in rows.items():
        lines.append([name, *(COLUMNS[h].format_map(row) if row.keys() >= set(keys[h]) else "" for h in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
