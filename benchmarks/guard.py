"""What the identity guard does: to our engines, and to a strong stateless engine that is made to drift.

usage: python -m benchmarks.guard --faces DIR --weights DIR [--half 1] [--people 12] [--kinds call,heavy] [--save]

Portraits of people who set nothing (``--half 1``, as in `benchmarks.persons`) become clips of a moving face, degraded
by `training.data.film_pairs`. Each clip goes through the correction twice, without and with the guard. Judge: EdgeFace,
which neither rtface nor any training uses: the distance (1 − cosine) of output and truth less that of input and truth,
on every third frame. Where a correction changes next to nothing the sign of that difference is chance, so the share of
frames "no farther than the input" is given with tolerances. Drifting engines (`benchmarks.drifting`) blend the answer
of rtface-m with somebody else's face, with an average face, or move its features to somebody else's places.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.common import save
from benchmarks.drifting import Drifting, OneEngine, average, displacement, in_crop
from benchmarks.persons import moving, number, people_of
from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.engine.engine_set import load_engine
from rtface.enhance.identity_guard import IdentityGuard
from rtface.enhance.single import FrameEnhancer
from rtface.frame import Bytes, Color, Float, Frame
from rtface.persons.guard import FILTERING, INVENTIVE
from rtface.persons.network import PersonNetwork
from rtface.pipeline.chain import find_faces
from rtface.protocols import Engine, Runtime, Tracker
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util.av_arrays import array_from_image, image_from_array
from training.crop_space import cut
from training.data.film_pairs import degraded, draw_recipe
from training.data.portraits import Face
from training.evaluation.edgeface import EdgeFace

FRAMES, EVERY = 25, 3
TOLERANCES = (0.0, 0.01, 0.02, 0.05)
OURS = ("rtface-s", "rtface-m", "rtface-m-vivid")
_FACE = (slice(128, 420), slice(110, 400))
"""Rows and columns of a canonical crop of 512 in which PSNR is measured."""


@dataclass
class Clip:
    """A degraded clip: frames with their faces, the true crops, and where these lie."""

    frames: list[Frame]
    truth: dict[int, Bytes]
    places: dict[int, Float]


def clip_of(face: Face, kind: str, tracker: Tracker) -> Clip | None:
    """The clip of a portrait; None where the tracker loses the face."""
    film, actor, r = moving(face, kind)
    device, clip = CpuDevice(), Clip([], {}, {})
    tracker.reset()
    times = [float(t) for t in range(FRAMES)]
    for count, (at, clean, seen) in enumerate(degraded(film, draw_recipe(kind, r), times, set(range(FRAMES)))):
        frame = Frame(
            image_from_array(np.ascontiguousarray(seen), "rgb"),
            count,
            Fraction(1, 25),
            color=Color("rgb", True),
            cut=not count,
        )
        clip.frames.append(find_faces(frame, tracker, device, Stats()))
        if count % EVERY == 0:
            clip.places[count] = actor.matrix(float(at))
            clip.truth[count] = cut(clean, clip.places[count], 512)
        if not clip.frames[-1].faces:
            return None
    return clip


def outputs(clip: Clip, engine: Engine, network: PersonNetwork | None) -> Iterator[tuple[int, Bytes, float]]:
    """Crops of the corrected frames, and the share of the correction that was kept; guarded where there is a network.

    The last item has the milliseconds of processor time a frame that the guard took, in place of the share.
    """
    stats = Stats()
    enhance = FrameEnhancer(Runtime(CpuDevice(), OneEngine(engine)), Options(device="cpu"), stats, analysis=False)
    spent = 0.0
    if network is not None:

        def embed(chip: Bytes) -> Any:
            nonlocal spent
            begun = time.thread_time()
            found = network(chip)
            spent += time.thread_time() - begun
            return found

        limits = INVENTIVE if isinstance(engine, Drifting) else FILTERING
        enhance.guard = IdentityGuard(embed, lambda name: limits, stats)
    for count, frame in enumerate(clip.frames):
        image = image_from_array(array_from_image(frame.image), "rgb")
        done = enhance.process(Frame(image, frame.pts, frame.time_base, color=frame.color, faces=frame.faces))
        if count in clip.truth:
            track = enhance.tracks.states[frame.faces[0].track_id]
            yield count, cut(array_from_image(done.image), clip.places[count], 512), track.guard.kept
    yield -1, np.zeros((1, 1, 3), np.uint8), 1e3 * spent / len(clip.frames)


def psnr(crop: Bytes, truth: Bytes) -> float:
    """dB over the face."""
    off = np.mean((crop[_FACE].astype(np.float32) - truth[_FACE]) ** 2)
    return float(10 * np.log10(255**2 / max(float(off), 1e-3)))


def engines_for(face: Face, other: Face, others: list[Face], ours: dict[str, Any]) -> dict[str, Engine]:
    """Ours, and those that drift towards somebody else or the average."""
    base = ours["rtface-m"]
    found: dict[str, Engine] = dict(ours)
    theirs, middle = in_crop(other, base.size), average(others, base.size)
    for amount in (0.2, 0.5):
        found[f"other {amount}"] = Drifting(base, theirs, amount)
    for amount in (0.3,):
        found[f"average {amount}"] = Drifting(base, middle, amount)
    moved = displacement(face.load(), other.load(), base.size)
    if moved is not None:
        for amount in (0.5, 1.0):
            found[f"shape {amount}"] = Drifting(base, None, amount, moved)
    return found


def figures(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Of the frames of one engine and one kind of clip."""

    def one(key: str) -> dict[str, Any]:
        off = np.array([row[key] - row["input"] for row in rows])
        return {
            "farther": round(float(off.mean()), 4),
            "no_farther": {str(limit): round(float((off <= limit).mean()), 3) for limit in TOLERANCES},
        }

    kept = np.array([row["kept"] for row in rows])
    gain = [np.mean([row[f"psnr_{key}"] - row["psnr_input"] for row in rows]) for key in ("plain", "guarded")]
    return {
        "frames": len(rows),
        "input_distance": round(float(np.mean([row["input"] for row in rows])), 4),
        "plain": one("plain"),
        "guarded": one("guarded"),
        "kept": round(float(kept.mean()), 3),
        "weakened": round(float((kept < 0.99).mean()), 3),
        "psnr_plain": round(float(gain[0]), 3),
        "psnr_guarded": round(float(gain[1]), 3),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--weights", type=Path, help="folder of EdgeFace's weights (default: $RTFACE_METRIC_WEIGHTS)")
    p.add_argument("--kinds", default="call,heavy")
    p.add_argument("--half", type=int, default=1, help="0: the people who set the thresholds")
    p.add_argument("--people", type=int, default=12)
    p.add_argument("--sheet", type=Path, help="folder for pictures: truth, input, and by engine plain and guarded")
    p.add_argument("--save", action="store_true", help="write benchmarks/results/guard.json")
    a = p.parse_args()
    cv2.setNumThreads(1)
    people = {name: of for name, of in people_of(a.faces).items() if number(name) % 2 == a.half}
    shown = sorted((name for name, of in people.items() if len(of) == 2), key=number)[: a.people]
    single = [people[name][0] for name in sorted((n for n, of in people.items() if len(of) == 1), key=number)]
    tracker, network, judge = create_tracker("auto"), PersonNetwork(), EdgeFace(a.weights)
    ours = {name: load_engine(name, device="cpu", threads=1) for name in OURS}
    rows: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    cost: list[float] = []
    for kind in a.kinds.split(","):
        for person in shown:
            face = people[person][0]
            clip = clip_of(face, kind, tracker)
            if clip is None:
                continue
            before = {
                count: cut(array_from_image(clip.frames[count].image), place, 512)
                for count, place in clip.places.items()
            }
            true = {count: judge.embed(crop) for count, crop in clip.truth.items()}
            base = {count: float(1 - judge.embed(crop) @ true[count]) for count, crop in before.items()}
            strip = [clip.truth[12], before[12]]
            for name, engine in engines_for(face, single[40 + number(person) % 40], single[:40], ours).items():
                plain = {count: crop for count, crop, _ in outputs(clip, engine, None)}
                for count, crop, kept in outputs(clip, engine, network):
                    if count < 0:
                        cost.append(kept)
                        continue
                    rows[kind, name].append(
                        {
                            "input": base[count],
                            "plain": float(1 - judge.embed(plain[count]) @ true[count]),
                            "guarded": float(1 - judge.embed(crop) @ true[count]),
                            "kept": kept,
                            "psnr_input": psnr(before[count], clip.truth[count]),
                            "psnr_plain": psnr(plain[count], clip.truth[count]),
                            "psnr_guarded": psnr(crop, clip.truth[count]),
                        }
                    )
                    if count == 12:
                        strip += [plain[count], crop]
            if a.sheet:
                a.sheet.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(a.sheet / f"{kind}-{number(person)}.jpg"), np.hstack(strip)[..., ::-1])
            print(f"{kind}: {len(rows[kind, 'rtface-m'])} frames", flush=True)
    tracker.close()
    out: dict[str, Any] = {
        "people": len(shown),
        "half": a.half,
        "frames": FRAMES,
        "guard_ms_a_frame": round(float(np.mean(cost)), 3),
    }
    for (kind, name), found in rows.items():
        out.setdefault(kind, {})[name] = figures(found)
        print(kind, name, out[kind][name])
    print("guard, ms of processor time a frame:", out["guard_ms_a_frame"])
    if a.save:
        save("guard", out)


if __name__ == "__main__":
    main()
