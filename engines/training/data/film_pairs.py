"""Makes training pairs from degraded films of faces on a 1280×720 canvas.

``python -m training.data.film_pairs --faces DIR --out DIR --worker 0 --pairs 8000`` writes shards until there are
enough pairs; a second start resumes. Each shard has two uint8 arrays of the region of interest (truth and input), at
512 px and at 256 px, and a table of the degradations.

Unlike calls, these films never freeze, because the truth would freeze too, and pairs would repeat.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from training.crop_space import F32, F64, U8, at, cut, roi, similarity
from training.data import first_stage_films
from training.data.moving_face import HEIGHT, WIDTH, Actor, Film
from training.data.occluders import KINDS as OCCLUDERS
from training.data.occluders import OUTLINES, Occluder
from training.data.portraits import Face, load_faces, split, tuning_people
from training.degradation import single_image, video_codec
from training.degradation.archive_film import Ageing, Archive, draw_archive
from training.degradation.webcam import Webcam, draw_webcam
from training.degradation.ycbcr import shown

KINDS = (
    "call",
    "heavy",
    "light",
    "camera",
    "tv",
    "still",
    "clean",
    "archive",
    "blind",
    "h265",
    "webcam",
    "native",
)
"""Kinds of degradation. Shards store indices into this tuple, so new kinds must be appended."""
SHARES = (0.25, 0.13, 0.06, 0.05, 0.03, 0.10, 0.02, 0.04, 0.30, 0.12, 0.20, 0.40)
"""Relative frequency of each kind."""
CLOSE = ("blind", "h265", "native")
"""Kinds with one face per film that fills the canvas."""
NATIVE_PX = (90.0, 420.0)
"""Range of the crop's side in a film encoded at its original size: faces of 50 to 230 pixels."""
MIN_REDUCTION = 1.5
"""Minimum reduction of a portrait in films of the kind "native", for a sharp truth."""
LIVELY_SHARE = 0.7
"""Share of the faces in sequences that turn, blink and speak."""
SHARD = 256
META = np.dtype([("kind", "u1"), ("px", "f4"), ("face", "u2"), ("crf", "f4")])
"""Per pair: index into KINDS, side of the crop on the canvas in pixels, number of the face, and crf (0: none)."""


@dataclass(frozen=True)
class Recipe:
    """Degradation of a film: codec and size, noise in code values, blur.

    ``soften``: (kind, amount, angle) of a blur at the film's size. ``kernel``: float32 k×k, a blur before reduction.
    ``grey``: share 0..1 of the noise that is common to all channels. ``camera``: a webcam that films each frame first.
    The truth is then its image, because no network can know details that the camera did not capture.
    """

    kind: str
    scale: float
    sigma: float
    noise_blur: int
    codec: str
    options: dict[str, str]
    crf: float
    bit_rate: int
    soften: tuple[str, float, float]
    up: int
    down: int
    archive: Archive | None = None
    kernel: F32 | None = None
    grey: float = 0.3
    fps: int = 30
    camera: Webcam | None = None


def draw_recipe(kind: str, r: np.random.Generator) -> Recipe:
    """Draws a random degradation for a film of ``kind``."""
    preset = str(r.choice(["ultrafast", "superfast", "veryfast", "veryfast", "faster"]))
    up = (cv2.INTER_CUBIC, cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)[int(r.integers(4))]
    down = (cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR)[int(r.integers(3))]
    soften, scale, sigma, crf = ("none", 0.0, 0.0), 1.0, 0.0, 23.0
    camera = draw_webcam(r) if kind == "webcam" else None
    if camera:
        kind = "call" if r.random() < 0.65 else "heavy"
    archive, quantiser, kernel, grey, fps = None, kind == "tv", None, 0.3, 30
    if kind == "call":
        scale = 0.5 if r.random() < 0.7 else float(r.choice([0.375, 0.625, 0.75, 1.0]))
        sigma, crf = r.uniform(0, 5), r.uniform(24, 35)
    elif kind == "heavy":
        scale = 0.25 if r.random() < 0.7 else float(r.choice([0.3, 0.375]))
        sigma, crf = r.uniform(2, 8), r.uniform(28, 36)
    elif kind == "light":
        scale, sigma, crf = float(r.choice([1.0, 1.0, 0.75])), r.uniform(0, 2.5), r.uniform(18, 29)
    elif kind == "camera":
        scale, sigma, crf = float(r.choice([1.0, 0.75, 0.5])), r.uniform(0, 8), r.uniform(18, 30)
        blur_kind = str(r.choice(["defocus", "motion", "dark"]))
        soften = (blur_kind, r.uniform(1, 5) if blur_kind == "defocus" else r.uniform(3, 16), r.uniform(0, 3.14))
    elif kind == "tv":
        scale, sigma, crf = float(r.choice([0.5, 0.4, 0.3])), r.uniform(1, 6), r.uniform(4, 16)
    elif kind == "archive":
        archive = draw_archive(r)
        quantiser = r.random() < 0.6
        scale, crf = archive.lines / HEIGHT, r.uniform(2.5, 8) if quantiser else r.uniform(17, 28)
    elif kind == "blind":
        scale, sigma, crf, fps = 1 / r.uniform(2, 5), r.uniform(0, 10), r.uniform(18, 35), 25
        along, across = np.exp(r.uniform(np.log(0.3), np.log(10), 2))
        kernel = single_image.gaussian_kernel(along if r.random() < 0.7 else across, along, r.uniform(0, np.pi))
        grey, preset = float(r.integers(2)), str(r.choice(["medium", "veryfast"]))
    elif kind == "h265":
        scale, crf = 0.25, float(r.integers(20, 41))
    if r.random() < 0.15 and kind in ("call", "heavy") and not camera:
        soften = ("defocus", r.uniform(0.7, 2.0), 0.0)
    name, options, rate = *(video_codec.x265(int(crf)) if kind == "h265" else video_codec.x264(crf, preset)), 0
    if kind == "blind" and r.random() < 0.5:
        del options["tune"]  # calls need low latency, but half of these films are no calls
    if quantiser:
        name, options = (
            str(r.choice(["mpeg4", "mpeg2video"])),
            {"flags": "+qscale", "global_quality": str(int(118 * crf))},
        )
    elif kind in ("call", "heavy") and r.random() < 0.15:
        kbit = int(r.uniform(120, 600) * (0.4 if kind == "heavy" else 1.0))
        (name, options), rate, crf = video_codec.vp8(kbit), kbit * 1000, 0.0
    noise_blur = 0 if kernel is not None else int(r.integers(0, 3))
    return Recipe(kind, scale, sigma, noise_blur, name, options, crf, rate, soften, up, down, archive,
                  kernel, grey, fps, camera)  # fmt: skip


def degrade_source(image: U8, rec: Recipe, rng: np.random.Generator) -> U8:
    """Applies the blur, darkness and noise of a camera to a frame."""
    blur_kind, amount, angle = rec.soften
    k = image.shape[1] / WIDTH
    if blur_kind == "defocus":
        image = single_image.defocus(image, max(0.6, amount * k))
    elif blur_kind == "motion":
        image = single_image.motion_blur(image, max(1.5, amount * k), angle)
    elif blur_kind == "dark":
        image = single_image.low_light(image, 0.15 + 0.4 * (amount - 3) / 13, 1.0, rng)
    return single_image.noise(image, rec.sigma, rng, rec.noise_blur, rec.grey)


def degrade(film: Film, rec: Recipe, times: list[float], keep: set[int]) -> Iterator[tuple[int, U8, U8]]:
    """Yields (frame number, clean, degraded) for frames in ``keep``, at canvas size. All other frames are encoded, but
    not returned."""
    if rec.kind == "native":
        yield from first_stage_films.degrade(film, times, keep)
        return
    width, height = film.size
    size = (int(width * rec.scale / 2) * 2, int(height * rec.scale / 2) * 2)
    clean: dict[int, U8] = {}
    ageing = Ageing(rec.archive, film.rng) if rec.archive else None

    def reduce(image: U8) -> U8:
        return image if image.shape[:2] == size[::-1] else np.asarray(
            cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8
        )  # fmt: skip

    def encoder_inputs() -> Iterator[U8]:
        for i, t in enumerate(times):
            if ageing:
                if i in keep:
                    clean[i] = ageing.truth(film.render(t), i)
                yield ageing(lambda after, t=t: reduce(film.render(t + after, rec.scale)), i)
                continue
            if i in keep or rec.scale == 1.0 or rec.kernel is not None or rec.camera:
                full = film.render(t)
                if rec.camera:
                    full = rec.camera(full, film.rng)
                if i in keep:
                    clean[i] = full
                if rec.kernel is not None:
                    full = np.asarray(cv2.filter2D(full, -1, rec.kernel), np.uint8)
                img = full if rec.scale == 1.0 else np.asarray(cv2.resize(full, size, interpolation=rec.down), np.uint8)
            else:
                img = reduce(film.render(t, rec.scale))
            yield degrade_source(img, rec, film.rng)

    for i, frame in enumerate(video_codec.through(encoder_inputs(), rec.codec, rec.options, rec.fps, rec.bit_rate)):
        if i in keep:
            out = shown(frame, "center")
            if rec.scale != 1.0:
                out = np.asarray(cv2.resize(out, film.size, interpolation=rec.up), np.uint8)
            yield i, clean.pop(i), out


def jitter(matrix: F64, r: np.random.Generator, amount: float = 1.0) -> F64:
    """Adds random errors like a tracker's to an alignment: about 2 px, 0.7 degrees, and 1.2 % in scale."""
    error = similarity(float(np.exp(r.normal(0, 0.012 * amount))), r.normal(0, 0.012 * amount), (255.5, 255.5), 512)
    error[:, 2] += r.normal(0, 2.0 * amount, 2)
    return matrix @ np.array([*error, [0, 0, 1]], np.float64)


Pair = tuple[U8, U8, U8, U8, tuple[int, float, int, float]]
Picked = tuple[int, Actor, Occluder | None]
"""Number of a face, its actor, and the occluder in front of it, if any."""


def cut_pair(truth: U8, seen: U8, matrix: F64) -> tuple[U8, U8, U8, U8]:
    """Cuts the region's truth and input, at 512 and 256 px."""
    half = at(matrix, 256)
    big, little = roi(512), roi(256)
    return (cut(truth, matrix, 512, big), cut(seen, matrix, 512, big),
            cut(truth, half, 256, little), cut(seen, half, 256, little))  # fmt: skip


def close_film(faces: list[Face], r: np.random.Generator, kind: str, lively: float = 0.0) -> tuple[int, Actor, Film]:
    """Films a face that fills its canvas, 512 to 608 px. Returns the number of the face, the actor and the film."""
    if kind == "native":
        return native_film(faces, r, lively)
    side = int(r.integers(32, 39)) * 16
    while faces[k := int(r.integers(len(faces)))].px < side * 0.84:
        pass
    centre = (side / 2 + r.normal(0, 6), side / 2 + r.normal(0, 6))
    actor = Actor(faces[k].load(), side * r.uniform(0.9, 1.0), centre, r, warp=float(r.random()), lively=lively)
    actor.speed *= 0.3  # because cameras usually follow the face in close-ups
    return k, actor, Film([actor], actor.image, r, (side, side))


def native_film(faces: list[Face], r: np.random.Generator, lively: float) -> tuple[int, Actor, Film]:
    """Films a face at a small size. Like `close_film`, but the portrait is reduced by at least `MIN_REDUCTION`."""
    while True:
        px = float(np.exp(r.uniform(*np.log(NATIVE_PX))))
        if faces[k := int(r.integers(len(faces)))].px >= px * MIN_REDUCTION:
            break
    side = 16 * int(np.ceil(px * r.uniform(1.0, 1.4) / 16))
    centre = (side / 2 + r.normal(0, 3), side / 2 + r.normal(0, 3))
    actor = Actor(faces[k].load(), px, centre, r, warp=float(r.random()), lively=lively)
    actor.speed *= px / 512
    return k, actor, Film([actor], actor.image, r, (side, side))


def film_pairs(faces: list[Face], r: np.random.Generator, kind: str) -> list[Pair]:
    """Makes a film and cuts pairs out of it. The film shows two or three faces, or one if ``kind`` is in `CLOSE`."""
    if kind in CLOSE:
        k, actor, film = close_film(faces, r, kind)
        return cut_film([(k, actor)], film, kind, r)
    picked, film = cast(faces, r)
    return [] if film is None else cut_film([(k, actor) for k, actor, _ in picked], film, kind, r)


def cast(
    faces: list[Face], r: np.random.Generator, hidden: float = 0.0, lively: bool = False
) -> tuple[list[Picked], Film | None]:
    """Places two or three of ``faces`` on a 720p canvas. A share ``hidden`` of them is behind an occluder. The film is
    None if no face is large enough."""
    low, high, n = ((310, 490, 2), (490, 620, 2), (150, 320, 3))[int(r.choice(3, p=(0.67, 0.15, 0.18)))]
    picked: list[Picked] = []
    for i in range(n):
        px = r.uniform(low, high)
        fitting = [k for k in r.integers(len(faces), size=60) if faces[int(k)].px * 1.15 >= px]
        if not fitting:
            continue
        k = int(fitting[0])
        centre = (WIDTH * (i + 0.5) / n + r.normal(0, 15), HEIGHT / 2 + r.normal(0, max(5.0, (720 - px) / 5)))
        lively_amount = liveliness(r) if lively else 0.0
        actor = Actor(faces[k].load(), px, centre, r, warp=float(r.random()), lively=lively_amount)
        picked.append((k, actor, draw_occluder(actor, r, hidden)))
    if not picked:
        return [], None
    objects = [item for _, actor, occluder in picked for item in (actor, occluder) if item]
    backdrop = picked[0][1].image if r.random() < 0.5 else faces[int(r.integers(len(faces)))].load()
    return picked, Film(objects, backdrop, r)


def draw_occluder(actor: Actor, r: np.random.Generator, share: float) -> Occluder | None:
    """Draws an occluder in front of ``actor``, in a ``share`` of cases."""
    if r.random() >= share:
        return None
    kind, outline = str(r.choice((*OCCLUDERS, "picture", "flesh", "flesh"))), str(r.choice(OUTLINES))
    return Occluder(actor, r.uniform(0.1, 0.45), kind, r, outline)


def liveliness(r: np.random.Generator) -> float:
    """Draws the strength of a face's motion, 0..1 (turns, blinks, speech)."""
    return float(r.random()) if r.random() < LIVELY_SHARE else 0.0


def cut_film(picked: list[tuple[int, Actor]], film: Film, kind: str, r: np.random.Generator) -> list[Pair]:
    """Degrades a film by ``kind`` and cuts four pairs per face."""
    recipe = draw_recipe(kind, r)
    count = 11
    step = 1.0 if r.random() < 0.8 else 0.0
    keep = {int(r.integers(0, 3)), int(r.integers(3, 6)), int(r.integers(6, 9)), count - 1}
    out: list[Pair] = []
    for i, clean, seen in degrade(film, recipe, [step * j for j in range(count)], keep):
        for k, actor in picked:
            m = jitter(actor.matrix(step * i), r)
            out.append((*cut_pair(clean, seen, m), (KINDS.index(kind), actor.px, k, recipe.crf)))
    return out


def still_pairs(faces: list[Face], r: np.random.Generator, kind: str) -> list[Pair]:
    """Makes four pairs from single pictures."""
    out: list[Pair] = []
    while len(out) < 4:
        k = int(r.integers(len(faces)))
        image, side = faces[k].load(), faces[k].px
        if side < 256 and r.random() < 0.7:
            continue
        if r.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        table = np.clip(255 * (np.arange(256) / 255) ** np.exp(r.normal(0, 0.12)) * np.exp(r.normal(0, 0.1)), 0, 255)
        image = np.asarray(cv2.LUT(image, table.astype(np.uint8)), np.uint8)
        m = jitter(similarity(side / 512, 0.0, ((side - 1) / 2, (side - 1) / 2), 512), r, 1.5)
        seen = image if kind == "clean" else single_image.still(image, r, image.shape[0] / 512)
        out.append((*cut_pair(image, seen, m), (KINDS.index(kind), side, k, 0.0)))
    return out


def make_pairs(faces: list[Face], r: np.random.Generator, kind: str) -> list[Pair]:
    """Makes pairs of one ``kind`` from a film or from four pictures."""
    return still_pairs(faces, r, kind) if kind in ("still", "clean") else film_pairs(faces, r, kind)


def shards(p: argparse.ArgumentParser, what: str, size: int) -> Iterator[tuple[Any, list[Face], Any, Path]]:
    """Yields arguments, faces, random generator and base path for each missing shard.

    Args:
        p: parser with the options of the caller.
        what: plural name of the items, such as pairs. This is also the option for their total number.
        size: number of items per shard.
    """
    p.add_argument("--faces", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--worker", type=int, default=0)
    p.add_argument(f"--{what}", type=int, required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--held-out", action="store_true", help="use held-out people, for validation")
    a = p.parse_args()
    cv2.setNumThreads(1)
    everyone = load_faces(a.faces)
    tuning = tuning_people(everyone)
    faces = [f for f in split(everyone)[1 if a.held_out else 0] if f.identity not in tuning]
    a.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    for shard in range(-(-getattr(a, what) // size)):
        base = a.out / f"{what}-{a.worker}-{shard:03d}"
        if not base.with_suffix(".meta.npy").exists():
            yield a, faces, np.random.default_rng([a.seed, a.worker, shard]), base
            print(f"{base.name}: {(shard + 1) * size} {what}, {time.time() - start:.0f} s", flush=True)


def store(base: Path, meta: list[tuple[int, float, int, float]], **parts: Any) -> None:
    """Writes the arrays of a shard. The table is written last and marks the shard as complete."""
    for name, part in parts.items():
        temporary = base.with_suffix(f".{name}.tmp.npy")
        np.save(temporary, part)
        temporary.replace(base.with_suffix(f".{name}.npy"))
    np.save(base.with_suffix(".meta.npy"), np.array(meta, META))


def main() -> None:
    shares = np.array(SHARES) / sum(SHARES)
    for _, faces, r, base in shards(argparse.ArgumentParser(description=__doc__), "pairs", SHARD):
        rows: list[Pair] = []
        while len(rows) < SHARD:
            rows += make_pairs(faces, r, str(r.choice(KINDS, p=shares)))
        rows = [rows[int(i)] for i in r.permutation(len(rows))[:SHARD]]
        parts = {name: np.stack([np.stack([q[i], q[i + 1]]) for q in rows]) for name, i in (("512", 0), ("256", 2))}
        store(base, [q[4] for q in rows], **parts)


if __name__ == "__main__":
    main()
