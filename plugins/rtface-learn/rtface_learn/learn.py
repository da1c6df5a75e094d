"""Learns one person: takes, pairs, training in another process, what it gains, and the person's file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.correct.mask import face_mask
from rtface.engine import learned
from rtface.engine.coded_network import CodedNetwork
from rtface.engine.engine_set import DEFAULT, LIGHT, EngineRequest, EngineSet, recipe_named
from rtface.errors import EngineError, InputError, UsageError
from rtface.frame import Bytes, Float32
from rtface.media.files.file_hashes import sha256_of
from rtface.media.files.image_names import has_still_name, list_images
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.files.workfile import write_whole
from rtface.persons.gallery import JOIN, distance
from rtface.persons.network import PersonNetwork
from rtface.tracking import create_tracker
from rtface.util.files import write_atomically
from rtface.util.machine import cores
from rtface_engines import child
from rtface_learn import pairs, takes
from rtface_learn.takes import Take

LEAST, LEAST_PHOTOS = 6, 3
"""Takes of a film (each is about a second of it), and photos, below which nothing is learnt."""
PREFIXES = (
    "core.stem",
    "core.enc",
    "core.down",
    "core.code",
    "core.mid",
    "core.up",
    "core.dec",
    "core.head",
    "core.place",
)
RANK, RATE, STEPS, BATCH, KEPT = 0, 1e-4, 240, 6, 2
HELD = 0.25
"""Share of the takes, the last ones, on which the result is judged."""
GAP_S = 3.0
"""Seconds between the last take that is learnt and the first that judges."""
WORTH_DB = 0.05
"""A smaller gain over the shipped weights on held-out pairs is none."""
_SHEETS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        path: of the person's file; None where nothing was kept.
        gains: dB over the shipped weights on held-out pairs, by kind ("call", "coded").
        takes, seconds: how many takes it learnt from, and how long the training took.
    """

    path: Path | None
    gains: dict[str, float]
    takes: int
    seconds: float


Tell = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0…1."""


def collect(sources: Sequence[Path], tell: Tell) -> tuple[list[Take], list[Float32]]:
    """The takes of one person from films and photos, varied, and the person's embeddings.

    Raises:
        InputError: a source cannot be used, shows several persons, or too little of one.
    """
    tracker, embed = create_tracker(), PersonNetwork()
    files = _files(sources)
    photos, films = [p for p in files if has_still_name(p)], [p for p in files if not has_still_name(p)]
    shown = list[Take]()
    try:
        for number, path in enumerate(photos):
            shown.append(takes.of_photo(path, number, tracker, embed))
            tell("reading photos", (number + 1) / len(photos))
        known = [embedding for take in shown for embedding in take.embeddings]
        _check_one(photos, shown)
        found = list[Take]()
        for number, path in enumerate(films):

            def told(share: float, count: int, path: Path = path) -> None:
                tell(f"looking for the face in {path.name}, {count} takes", share)

            found += takes.of_film(path, len(photos) + number, tracker, embed, told)
    finally:
        tracker.close()
    if films:
        found = takes.of_person(found, known)
        if len(found) < LEAST:
            raise InputError(
                f"{', '.join(path.name for path in films)}: one face is shown large, clear and from the front for "
                f"{len(found)} s, and {LEAST} are needed; give a longer film, or one in better light"
            )
    elif len({hashlib.sha256(path.read_bytes()).digest() for path in photos}) < LEAST_PHOTOS:
        raise InputError(f"{len(photos)} photos: give at least {LEAST_PHOTOS} different ones, or a film")
    every = [*shown, *found]
    return every, [embedding for take in every for embedding in take.embeddings]


def _check_one(photos: Sequence[Path], shown: Sequence[Take]) -> None:
    """Raises InputError where photos show several persons."""
    for path, take in zip(photos, shown, strict=True):
        if take.embeddings and distance(take.embeddings[0], shown[0].embeddings[0]) > 1.5 * JOIN:
            raise InputError(f"{photos[0]} and {path} seem to show two persons; give photos of one")


def sheet(shown: Sequence[Take]) -> Bytes:
    """One crop of each take, to look at: uint8 rows of eight."""
    crops = [takes.crop_of(take, len(take.pictures) // 2, 128) for take in shown]
    crops += [np.zeros_like(crops[0])] * (-len(crops) % 8)
    return np.concatenate([np.concatenate(crops[k : k + 8], 1) for k in range(0, len(crops), 8)])


def learn(
    name: str,
    sources: Sequence[Path],
    python: Callable[[], Path],
    *,
    minutes: float,
    tell: Tell,
    overwrite: bool = False,
    shown: Path | None = None,
) -> Outcome:
    """Learns a person and keeps the result if it helps.

    Args:
        python: finds one that has numpy, torch and onnx; called after the checks.
        minutes: of training, at the most.
        overwrite: replace the person's file and the sheet.
        shown: where the sheet of takes is written, an image.

    Raises:
        UsageError: the person was learnt before, without `overwrite`; or the sheet is named like no image.
        OutputError: the sheet cannot be written.
        InputError: as `collect`.
        EngineError: the training failed.
    """
    path = learned.path_of(name)
    if path.exists() and not overwrite:
        raise UsageError(f"{name} was learnt before ({path}); add --overwrite to learn again")
    target = None
    if shown is not None:
        if shown.suffix.lower() not in _SHEETS:
            raise UsageError(f"--sheet {shown}: name an image, with one of the endings {', '.join(_SHEETS)}")
        (target,) = check_outputs([OutputPath(shown, "--sheet")], inputs=sources, overwrite=overwrite)
    found = python()
    every, embeddings = collect(sources, tell)
    train, valid = _split(every)
    if shown is not None and target is not None:
        write_whole(target, cv2.imencode(shown.suffix.lower(), sheet(train)[:, :, ::-1])[1].tobytes())
    recipe = recipe_named(learned.BASE)
    with tempfile.TemporaryDirectory(prefix="rtface-learn-") as folder:
        job = _job(Path(folder), recipe, train, valid, minutes, tell)
        last = _trained(found, job, tell)
        gains = {kind: float(gain) for kind, gain in last["over"].items()}
        if not last["better"] or np.mean([*gains.values()]) < WORTH_DB:
            return Outcome(None, gains, len(train), last["seconds"])
        with np.load(Path(folder) / "delta.npz") as held:
            places, delta = held["places"], held["delta"]
        meta = {
            "base": recipe.weights.sha256,
            "made": time.strftime("%Y-%m-%d"),
            "sources": [
                {"sha256": sha256_of(p), "kind": "photo" if has_still_name(p) else "film"} for p in _files(sources)
            ],
            "takes": len(train),
            "figures": gains,
        }
        own = Path(folder) / f"{name.lower()}{learned.SUFFIX}"
        learned.write(name, meta, np.stack(embeddings[:32]), places, delta, own)
        _check(own)
        write_atomically(path, own.read_bytes(), private=True)
    return Outcome(path, gains, len(train), last["seconds"])


def _check(path: Path) -> None:
    """Raises EngineError where an engine with these weights does not pass its gate."""
    for engine in (DEFAULT, LIGHT):
        EngineSet(EngineRequest(engine, persons=(path,)), device="cpu", threads=1).close()


def _split(every: Sequence[Take]) -> tuple[list[Take], list[Take]]:
    """Takes to learn from, and to judge by: the last quarter of all, by source and time."""
    ordered = sorted(every, key=lambda take: (take.source, take.time))
    count = max(1, round(HELD * len(ordered)))
    learning, judging = ordered[:-count], ordered[-count:]
    apart = [t for t in learning if t.source != judging[0].source or judging[0].time - t.time >= GAP_S]
    # A short film has none to spare.
    return takes.varied(apart if 2 * len(apart) > len(learning) else learning), takes.varied(judging, 8)


def _job(folder: Path, recipe: Any, train: Sequence[Take], valid: Sequence[Take], minutes: float, tell: Tell) -> Path:
    """Writes the pairs and the trainer's job."""
    network, size = CodedNetwork(1), recipe.input.size
    x, y, w, h = recipe.region
    tell("coding what is learnt", 0.0)
    learning, _ = pairs.of_takes(train, recipe, network, 1)
    tell("coding what is learnt", 0.5)
    judging, kinds = pairs.of_takes(valid, recipe, network, 2)
    order = np.random.default_rng(3).permutation(len(judging))[:48]
    np.savez(
        folder / "pairs.npz",
        train=learning,
        valid=judging[order],
        kinds=np.array(kinds)[order],
        others=pairs.others([recipe, recipe_named(DEFAULT)], recipe, network, 4),
        mask=face_mask(size)[y : y + h, x : x + w],
        weight=weight(size)[y : y + h, x : x + w],
    )
    memory = recipe.memory
    job = {
        "network": str(recipe.model_path),
        "pairs": str(folder / "pairs.npz"),
        "out": str(folder / "delta.npz"),
        "output": recipe.output.name,
        "input": recipe.input.name,
        "past": memory.past,
        "known": memory.known,
        "state": memory.state,
        "state_shape": list(memory.shape),
        "prefixes": PREFIXES,
        "cell": size // 32,
        "rank": RANK,
        "rate": RATE,
        "steps": STEPS,
        "batch": BATCH,
        "kept": KEPT,
        "seconds": 60 * minutes,
        "threads": cores(),
        "bf16": True,
        "seed": 1,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


_FEATURES = ((0.377, 0.468, 0.075, 0.045), (0.623, 0.469, 0.075, 0.045), (0.502, 0.725, 0.125, 0.07))
"""Centre and half axes of eyes and mouth, in sides of the crop, as in training/losses/restoration.py."""


def weight(size: int) -> Float32:
    """The weight of each place in the loss, size×size: eyes and mouth count three times."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    found = np.zeros((size, size), np.float32)
    for x, y, a, b in _FEATURES:
        found = np.maximum(found, np.clip(1.5 - np.hypot((at[None] - x) / a, (at[:, None] - y) / b), 0, 1))
    return np.asarray((0.2 + 0.8 * face_mask(size)) * (1 + 2 * found), np.float32)


def _trained(python: Path, job: Path, tell: Tell) -> dict[str, Any]:
    """Runs the trainer; its last line."""
    last: dict[str, Any] = {}

    def heard(line: str) -> None:
        if line.startswith("{"):
            last.update(json.loads(line))
            if "done" not in last:
                tell(f"learning, {last['gain']:+.2f} dB so far", last["step"] / last["steps"])

    # It stands where nothing else can be imported from, and needs nothing of rtface.
    script = shutil.copy(Path(__file__).with_name("trainer.py"), job.parent / "trainer.py")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    ended = child.run([python, "-P", script, job], heard, environment)
    if ended.code or "done" not in last:
        raise EngineError(f"learning failed: {ended.why}")
    return last


def _files(sources: Sequence[Path]) -> list[Path]:
    return [p for source in sources for p in (list_images(source) if source.is_dir() else [source])]
