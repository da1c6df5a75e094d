"""Oracle of an anchor: what the high band of an earlier frame would add to a single frame's answer.

``python -m training.evaluation.anchor_oracle --clips DIR --set tuning --protocols real/call``

An anchor is the frame with the sharpest answer among all earlier ones in which the points of the
face mesh differ little from this frame's. The high band of its answer is carried to this frame by
dense flow and takes a fixed share (`SHARE`) where the low bands agree. Rows, all of one engine:

- *alone*: the answer to this frame as if there were no other; *memory*: with what it remembers;
- *past*, *anchor*: alone with the high band of the frame before or of the anchor, by the flow of
  the clean frames, which no run time knows; *memory + anchor*: the same on top of memory;
- *anchor, best weights*: weights by least squares to the truth, smooth over `SMOOTH`. They leak
  truth: *own band, best weights* is what they gain with the frame's own high band alone;
- *anchor, real flow*: by the flow found between the answers, as a run time could do it;
- *clean anchor*: the truth of the anchor's frame as the anchor: what a clean reference could add.

Printed: gain over *alone* in dB (mean, worst clip; inside the oval, after the colour lock), *found*
(`metrics.Octaves`) and, with ``RTFACE_METRIC_WEIGHTS``, EdgeFace distance. Result: model card.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from training.crop_space import F32, F64, U8, at, cut, oval_mask, roi
from training.evaluation.clip_protocols import LEVELS, SETS, chosen, shot_of, watch
from training.evaluation.edgeface import EdgeFace
from training.evaluation.film_protocols import Shot
from training.evaluation.metrics import Octaves
from training.evaluation.restorers import Network, locked, psnr
from training.landmarks import Landmarks
from training.losses.weight_files import VARIABLE

BAND, SMOOTH = 1.5, 6.0
"""Standard deviations, pixels of 256: of the Gaussian below the high band; of best weights."""
SHARE, LIKE = 0.5, 2.0
"""Share of the anchor; mean distance of mesh points, pixels of 256, up to which poses are alike."""
FRAMES, WARM, STEP, RECENT = 72, 12, 3, 3
"""Frames of a clip; first one measured, and every how many-th; last ones that are no anchors."""
CALM, NOISY = 12 / 255, 24 / 255
"""By how much two images of the same differ, at least and at most."""

Row = dict[str, float]
Embed = Callable[[U8 | F32], F32]


class Space:
    """Operations on regions h×w×3 (float32, 0..1) of an engine's crops of ``side`` pixels."""

    def __init__(self, side: int) -> None:
        self.side, self.scale = side, side / 256
        x, y, w, h = roi(side)
        self.part = np.s_[y : y + h, x : x + w]
        self.mask: F32 = np.ascontiguousarray(oval_mask(side)[self.part])
        self._grid = np.mgrid[:h, :w].astype(np.float32)[::-1].transpose(1, 2, 0)
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def soft(self, z: F32, sigma: float) -> F32:
        """A Gaussian of ``sigma`` pixels of 256."""
        return np.asarray(cv2.GaussianBlur(z, (0, 0), sigma * self.scale), np.float32)

    def high(self, z: F32) -> F32:
        """The band of an image that is carried."""
        return z - self.soft(z, BAND)

    def carried(self, z: F32, flow: F32) -> F32:
        """An image fetched from where ``flow`` (h×w×2, pixels) says that it was."""
        x, y = cv2.split(self._grid + flow)
        edge = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(z, x, y, cv2.INTER_CUBIC, borderMode=edge), np.float32)

    def flow(self, now: F32, then: F32) -> tuple[F32, F32]:
        """Where a pixel of ``now`` was in ``then``, h×w×2, and where both ways agree, h×w×1."""
        a, b = (np.rint(255 * np.clip(p, 0, 1).mean(2)).astype(np.uint8) for p in (now, then))
        there, back = self._search.calc(a, b, None), self._search.calc(b, a, None)
        missed = ((there + self.carried(back, there)) ** 2).sum(2)
        agree = cv2.erode((missed < (0.75 * self.scale) ** 2).astype(np.float32), np.ones((5, 5)))
        return there, self.soft(agree, 2.0)[..., None]

    def blended(self, base: F32, anchor: F32, motion: tuple[F32, F32]) -> F32:
        """``base`` with `SHARE` of the anchor's high band where the low bands of both agree."""
        moved = self.carried(anchor, motion[0])
        differ = self.soft(np.abs(self.soft(base - moved, 2.0)), 2.0).mean(2)
        most = np.clip(2.5 * differ.mean(), CALM, NOISY)
        trust = motion[1] * np.clip(2 - differ / most, 0, 1)[..., None]
        return np.asarray(base + SHARE * trust * self.high(moved - base), np.float32)

    def best(self, base: F32, change: F32, truth: F32) -> F32:
        """``base`` with the best share of a change of its high band, by smooth weights."""
        gain = self.soft(change * self.high(truth - base), SMOOTH).sum(2)
        norm = self.soft(change * change, SMOOTH).sum(2) + 1e-7
        return np.asarray(base + np.clip(gain / norm, -1, 1)[..., None] * change, np.float32)


def meshes(shot: Shot) -> F64:
    """Mesh points of the clean frames, N×478×2, in pixels of a 256-px crop."""
    mesh = Landmarks()
    crops = [cut(f, at(m, 256), 256) for f, m in zip(shot.clean, shot.matrices, strict=True)]
    return np.array([mesh.read(crop, mesh.region(crop))[0][:, :2] / 2 for crop in crops])


def anchor_of(number: int, points: F64, sharpness: list[float]) -> int:
    """The number of the earlier frame to take: the sharpest of like pose."""
    earlier = np.arange(number - RECENT)
    far = np.linalg.norm(points[earlier] - points[number], axis=2).mean(1)
    like = earlier[far <= max(LIKE, 1.2 * float(far.min()))]
    return int(like[int(np.argmax(np.array(sharpness)[like]))])


def clip_rows(shot: Shot, restore: Network, embed: Embed | None) -> dict[str, Row]:
    """``psnr``, ``found`` and, with ``embed``, ``distance`` of every row, for one clip."""
    space = Space(restore.side)
    matrices = [at(m, space.side) for m in shot.matrices]
    clean, coded = ([cut(f, m, space.side) for f, m in zip(film, matrices, strict=True)]
                    for film in (shot.clean, shot.seen))  # fmt: skip
    truth = [crop[space.part].astype(np.float32) / 255 for crop in clean]

    def answers(remember: bool) -> list[F32]:
        out: list[F32] = []
        restore.begin()
        for crop in coded:
            if not remember:
                restore.begin()
            out.append(locked(crop.astype(np.float32) / 255, restore(crop))[space.part])
        return out

    alone, memory = answers(False), answers(True)
    sharp = [float((space.high(p) ** 2 * space.mask[..., None]).mean()) for p in alone]
    points = meshes(shot)
    figures, octaves = dict[str, dict[str, list[float]]](), dict[str, Octaves]()
    for turn, k in enumerate(range(WARM, len(truth), STEP)):
        a = anchor_of(k, points, sharp)
        pairs = ((truth, a), (truth, k - 1), (alone, a))
        known, past, found = (space.flow(film[k], film[other]) for film, other in pairs)
        change = known[1] * space.high(space.carried(alone[a], known[0]) - alone[k])
        shown = {
            "input": coded[k][space.part].astype(np.float32) / 255,
            "alone": alone[k], "memory": memory[k],
            "past": space.blended(alone[k], alone[k - 1], past),
            "anchor": space.blended(alone[k], alone[a], known),
            "memory + anchor": space.blended(memory[k], memory[a], known),
            "anchor, best weights": space.best(alone[k], change, truth[k]),
            "own band, best weights": space.best(alone[k], space.high(alone[k]), truth[k]),
            "anchor, real flow": space.blended(alone[k], alone[a], found),
            "clean anchor": space.blended(alone[k], truth[a], known),
        }  # fmt: skip
        for name, part in shown.items():
            row = figures.setdefault(name, {"psnr": [], "distance": []})
            row["psnr"].append(psnr(part, truth[k], space.mask))
            octaves.setdefault(name, Octaves(space.mask)).add(part, truth[k])
            if embed and turn % 4 == 0:
                crop = coded[k].astype(np.float32) / 255
                crop[space.part] = np.clip(part, 0, 1)
                row["distance"].append(float(1 - embed(crop) @ embed(clean[k])))
    means = {n: {key: float(np.mean(v)) for key, v in f.items() if v} for n, f in figures.items()}
    return {n: row | {"found": octaves[n].summary()["found0"]} for n, row in means.items()}


def said(name: str, clips: list[dict[str, Row]]) -> str:
    """One row of the table: means over clips, and the worst gain."""
    gains = [c[name]["psnr"] - c["alone"]["psnr"] for c in clips]
    text = f"{name:<22} {np.mean(gains):+.2f}; {min(gains):+.2f} dB"
    text += f", found {np.mean([c[name]['found'] for c in clips]):.3f}"
    for base in ("input", "alone") if "distance" in clips[0][name] else ():
        ratio = np.mean([c[name]["distance"] / max(c[base]["distance"], 1e-6) for c in clips])
        text += f", distance ×{ratio:.3f} of {base}"
    return text


def main() -> None:
    p = argparse.ArgumentParser(description="Oracle of an anchor: gains over a single frame.")
    p.add_argument("--clips", type=Path, nargs="+", required=True, help="files or a folder")
    p.add_argument("--set", choices=(*SETS, "all"), default="tuning")
    p.add_argument("--protocols", default="real/call,real/heavy", help=", ".join(LEVELS))
    p.add_argument("--engine", default="rtface-s", help="one of the package's")
    p.add_argument("--cache", type=Path, help="folder that keeps tracked faces and coded frames")
    a = p.parse_args()
    cv2.setNumThreads(1)
    try:
        clips = [watch(path, FRAMES, a.cache) for path in chosen(a.clips, a.set)]
        if min(len(clip.clean) for clip in clips) <= WARM:
            raise ValueError(f"a clip shows a face in no more than {WARM} frames: name others")
        embed = EdgeFace().embed if os.environ.get(VARIABLE) else None
        network = Network(Path(__file__).parents[2] / "rtface" / "models" / a.engine, threads=1)
        for protocol in a.protocols.split(","):
            rows = [clip_rows(shot_of(c, protocol, a.cache)[0], network, embed) for c in clips]
            print(f"{protocol}, {a.engine}, {len(rows)} clips")
            print("\n".join(said(name, rows) for name in rows[0]), flush=True)
    except (OSError, ValueError) as error:
        p.error(str(error))


if __name__ == "__main__":
    main()
