"""Evaluation of an engine on real clips of moving faces.

``python -m training.evaluation.real_clips --engine rtface-s CLIP…``

Stills that are moved about (``evaluate``) have a perfect truth, but no expressions, and a motion that is smoother than
life. Here good real clips are the truth: their frames go through the same degradations as in *call* and *heavy*, and
are restored along the faces that the tracker finds in the clean clip. Gains are smaller than on stills, as clips are
softer than portraits. *Alone* is the same network without its memory: memory has to be worth it here too.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

import rtface
from rtface.geometry.alignment import crop_matrix
from training.crop_space import F32, F64, U8
from training.degradation import single_image, video_codec
from training.evaluation.evaluate import Doubt, film_rows, spread
from training.evaluation.film_protocols import PROTOCOLS, Shot
from training.evaluation.restorers import Network

CROP = 400
"""Side in pixels that the crop has on a call's 720p canvas: every clip is scaled as if its crop were as large."""


class Forgetful(Network):
    """The same network, without its memory."""

    def __call__(self, crop: U8) -> F32:
        self.begin()
        return super().__call__(crop)


def canonical(face: rtface.Face) -> F64:
    """2×3, 512-px canonical pixels → frame pixels, both with their centres at integers."""
    m = cv2.invertAffineTransform(np.asarray(crop_matrix(face, 512), np.float64))
    m[:, 2] += (m[:, 0] + m[:, 1]) / 2 - 0.5
    return m


def watch(path: Path, frames: int) -> Shot:
    """The first frames of a clip that show a face, and that face, followed by the run time's tracker."""
    shot = Shot()
    with av.open(str(path)) as clip, rtface.Enhancer(engine="rtface-s", format="rgb") as e:
        for frame in islice(clip.decode(video=0), frames):
            picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            picture = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
            e(picture)
            if e.faces:
                shot.clean.append(picture)
                shot.matrices.append(canonical(e.faces[0]))
    return shot


def degraded(shot: Shot, protocol: str) -> Shot:
    """The same shot after ``protocol``."""
    p = PROTOCOLS[protocol]
    side = 512 * float(np.median([np.hypot(m[0, 0], m[1, 0]) for m in shot.matrices]))
    height, width = shot.clean[0].shape[:2]
    scale = min(1.0, p["scale"] * CROP / side)
    size = (int(width * scale / 2) * 2, int(height * scale / 2) * 2)
    dice = np.random.default_rng(3)
    small = (
        single_image.noise(np.asarray(half, np.uint8), p["sigma"], dice, 0, 0.3)
        for half in (cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in shot.clean)
    )
    seen = [
        np.asarray(cv2.resize(video_codec.to_rgb(f), (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        for f in video_codec.through(small, *video_codec.x264(p["crf"]))
    ]
    return Shot(shot.clean, seen, shot.matrices)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("clips", type=Path, nargs="+", help="good clips, each with one face")
    p.add_argument("--engine", default="rtface-s")
    p.add_argument("--model", type=Path, help="an engine's folder (default: the one in the package)")
    p.add_argument("--frames", type=int, default=60)
    a = p.parse_args()
    cv2.setNumThreads(2)
    folder = a.model or Path(__file__).parents[2] / "rtface" / "models" / a.engine
    networks = {"with memory": Network(folder), "alone": Forgetful(folder)}
    shots = {path.stem: shot for path in a.clips if len((shot := watch(path, a.frames)).clean) > 5}
    if not shots:
        p.error("none of these clips shows a face for six frames; give others, or more --frames")
    for protocol in ("call", "heavy"):
        gains: dict[str, list[float]] = {name: [] for name in networks}
        for clip, shot in shots.items():
            rows = {name: next(film_rows([degraded(shot, protocol)], network, None, Doubt(), None))
                    for name, network in networks.items()}  # fmt: skip
            for name, row in rows.items():
                gains[name].append(row["ours"] - row["input"])
            found = {n: f"{r['ours'] - r['input']:+.2f} dB, flicker {r['flicker']:.2f}" for n, r in rows.items()}
            print(f"{protocol} {clip}, input {rows['alone']['input']:.1f} dB: {found}", flush=True)
        print(protocol, {name: spread(values) for name, values in gains.items()}, flush=True)


if __name__ == "__main__":
    main()
