"""Learns one person: collects takes, trains weights, measures the gain, and writes the person's file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtface.config.addresses import LiveAddress
from rtface.correct.mask import face_mask
from rtface.engine import learned
from rtface.engine.coded_network import CodedNetwork
from rtface.engine.engine_set import DEFAULT, LIGHT, EngineRequest, EngineSet, recipe_named
from rtface.errors import EngineError, Message, UsageError
from rtface.frame import Bytes, Float32
from rtface.media.files.file_hashes import sha256_of
from rtface.media.files.image_names import has_still_name
from rtface.media.files.outputs import OutputPath, check_outputs
from rtface.media.files.workfile import write_whole
from rtface.persons.gallery import mean
from rtface.util.files import write_atomically
from rtface.util.machine import cores
from rtface_engines import child
from rtface_learn import judge, pairs, selection, work
from rtface_learn.camera import Watch, check_live, ignore_progress
from rtface_learn.takes import Take

PREFIXES = tuple(f"core.{part}" for part in ("stem", "enc", "down", "code", "mid", "up", "dec", "head", "place"))
RATE, STEPS, MORE_STEPS, BATCH, OTHERS = 2e-4, 240, 160, 6, 4
"""Learning rate; training steps; additional steps that also use the held-out takes; pairs per step; faces of other
people per step."""
MIN_GAIN_DB, PHOTO_SHARE = 0.075, 0.5
"""Minimum gain over the shipped weights in runs on held-out takes; share of the change that is kept if all sources are
photos, because the full change harms faces in calls from another camera."""
_SHEETS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """Result of learning a person.

    Attributes:
        path: the person's file; None if the result was discarded.
        gains: gain over the shipped weights in dB, by kind of film (`rtface_learn.judge`). Empty if nothing was
            measured because the trained weights were no better on held-out crops.
        takes: number of takes, including the held-out ones.
        seconds: duration of the training.
        share: share of the training that was finished when its time was over, 0…1.
        photos: True if all sources were photos; in this case, only half of the change is kept.
        stays: True if the training state was kept and the same command can continue the training.
    """

    path: Path | None
    gains: dict[str, float]
    takes: int
    seconds: float
    share: float
    photos: bool
    stays: bool = False


def learn(
    name: str,
    sources: Sequence[Path | LiveAddress],
    python: Callable[[], Path],
    *,
    minutes: float,
    notify: selection.Progress,
    overwrite: bool = False,
    shown: Path | None = None,
    without: frozenset[int] = frozenset(),
    watch: Watch = ignore_progress,
    consent: str = "",
) -> TrainingOutcome:
    """Learns a person and keeps the result if it helps. Continues an interrupted call with the same person, sources
    and engine.

    Args:
        python: function that finds a Python with numpy, torch and onnx. It is called after the sources are checked.
        minutes: maximum duration of the training.
        overwrite: True to replace the person's file, the sheet, and files of an interrupted call with other sources.
        shown: image file for the sheet of takes, written before the training.
        without: numbers of takes on the sheet to leave out. Not possible with a live source.
        watch: see `selection.collect`.
        consent: who agreed, and when. This text is stored in the person's file.

    Raises:
        UsageError: the person was learnt before and `overwrite` is False; the sheet has no image suffix; `without`
            contains numbers that are not on the sheet; or too few takes remain.
        OutputError: the sheet cannot be written.
        InputError: see `selection.collect`. Identical files count as one.
        EngineError: the training failed.
        Interrupted: a signal arrived. The message reports whether files were kept.
    """
    path = learned.path_of(name)
    if path.exists() and not overwrite:
        raise UsageError(
            "{name} was learnt before ({path}); add {--overwrite=True} to learn again",
            code="learn_before",
            name=name,
            path=path,
        )
    files = dict[str, Path]()
    for source in selection.list_files(sources):
        files.setdefault(sha256_of(source), source)
    paths, live = [*files.values()], [source for source in sources if isinstance(source, LiveAddress)]
    target = None
    if shown is not None:
        if shown.suffix.lower() not in _SHEETS:
            raise UsageError(
                "--sheet {path}: use a file name with one of the extensions {sheets}",
                code="person_sheet",
                path=shown,
                sheets=", ".join(_SHEETS),
            )
        sheet_folder = shown.resolve().parent
        if any(isinstance(source, Path) and source.is_dir() and source.resolve() == sheet_folder for source in sources):
            raise UsageError(
                "--sheet {path}: the next call would read the sheet as a photo; write the sheet to another folder",
                code="person_sheet_inside",
                path=shown,
            )
        sheet_path = OutputPath(shown, "--sheet", replaces=work.wrote_sheet(name, shown))
        (target,) = check_outputs([sheet_path], inputs=paths, overwrite=overwrite)
    find_python, recipe = cache(python), recipe_named(learned.BASE)
    source_records = [
        {"sha256": digest, "kind": "photo" if has_still_name(path) else "film"} for digest, path in files.items()
    ]
    source_records += [{"kind": source.kind} for source in live]
    if live and without:
        raise UsageError(
            "--without works only for films and photos: with a camera, the numbers of faces change with each call",
            code="learn_without_live",
        )
    # A live source never sends the same frames again, so no later call can continue with its files.
    key = "" if live else _key(recipe, sorted(without), source_records)
    with work.work(name, key, overwrite=overwrite) as folder:
        if not (folder / learned.PAIRS).is_file():
            for address in live:
                check_live(address)
            if live:
                find_python()  # may fail, so it is called before the person sits in front of the camera
            split_takes = selection.split(selection.collect([*paths, *live], notify, watch))
            sheet = selection.sheet([take for part in split_takes for take in part], without)
            remaining_takes = selection.without_numbers(*split_takes, without)
            find_python()
            _prepare(folder, recipe, *remaining_takes, sheet, notify)
        with np.load(folder / learned.PAIRS) as arrays:
            count, embedded, sheet_image = int(arrays["takes"]), arrays["embeddings"], arrays["sheet"]
            pictures, matrices = arrays["pictures"], arrays["matrices"]
        if shown is not None and target is not None:
            write_whole(target, cv2.imencode(shown.suffix.lower(), sheet_image[:, :, ::-1])[1].tobytes())
            work.note_sheet(folder, shown)
        notify_share = partial(notify, Message("learning", code="learn_step"))
        outcome = _run_trainer(find_python(), _write_job(folder, recipe, minutes, work.trained_s(folder)), notify_share)
        gains = dict[str, float]()
        seconds, share = outcome["seconds"], min(1.0, outcome["step"] / STEPS)
        meta = {
            "base": recipe.weights.sha256,
            "made": time.strftime("%Y-%m-%d"),
            "sources": source_records,
            "takes": count,
            **({"consent": consent} if consent else {}),
        }
        person_file, photos = folder / "persons" / path.name, all(item["kind"] == "photo" for item in source_records)

        def write_person(trained: str, **extra: Any) -> None:
            factor = np.float16(PHOTO_SHARE if photos else 1.0)
            with np.load(folder / trained) as arrays:
                learned.write(name, meta | extra, embedded, arrays["places"], arrays["delta"] * factor, person_file)

        if outcome["better"]:
            write_person("delta.npz")
            _check_engines(person_file, LIGHT)  # the runs that measure the gain check the other engine
            gains = judge.gains(pictures, matrices, name, folder, notify)
        if not gains or np.mean([*gains.values()]) < MIN_GAIN_DB:
            stays = share < 1 and work.keep(folder, seconds)
            return TrainingOutcome(None, gains, count, seconds, share, photos, stays)
        notify_share = partial(notify, Message("learning from all pictures", code="learn_all"))
        outcome = _run_trainer(find_python(), _write_job(folder, recipe, minutes, 0.0, whole=True), notify_share)
        share = min(1.0, (share * STEPS + outcome["step"]) / (STEPS + MORE_STEPS))
        write_person("whole.npz" if outcome["better"] else "delta.npz", figures=gains)
        _check_engines(person_file, DEFAULT, LIGHT)
        write_atomically(path, person_file.read_bytes(), private=True)
        return TrainingOutcome(path, gains, count, seconds + outcome["seconds"], share, photos)


def _key(recipe: Any, *parts: Sequence[Any]) -> str:
    """Hashes sources, engine and code. Calls with the same key have the same preparation and training."""
    code = [sha256_of(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(json.dumps([recipe.digest, recipe.weights.sha256, parts, code]).encode()).hexdigest()


def _check_engines(path: Path, *engines: str) -> None:
    """Checks engines with a person's weights by their golden gates. Raises EngineError if a gate fails."""
    for engine in engines:
        EngineSet(EngineRequest(engine, persons=(path,)), device="cpu", threads=1).close()


def _prepare(
    folder: Path, recipe: Any, train: Sequence[Take], valid: Sequence[Take], sheet: Bytes, notify: selection.Progress
) -> None:
    """Writes the data for training and for measuring the gain."""
    network, size = partial(CodedNetwork, cores()), recipe.input.size
    x, y, w, h = recipe.region
    coding = Message("encoding the training pictures", code="learn_coding")
    notify(coding, 0.0)
    train_pairs, _ = pairs.make_pairs(train, recipe, network, 1)
    notify(coding, 0.5)
    valid_pairs, _ = pairs.make_pairs(valid, recipe, network, 2)
    order = np.random.default_rng(3).permutation(len(valid_pairs))
    np.savez(
        folder / "part.npz",
        train=train_pairs,
        valid=valid_pairs[order],
        others=pairs.other_faces(train, recipe_named(DEFAULT), recipe, network, 4),
        weight=weight(size)[y : y + h, x : x + w],
        embeddings=np.stack([mean(take.embeddings) for take in (*train, *valid)]),
        takes=len(train) + len(valid),
        sheet=sheet,
        **judge.stack_takes(valid),
    )
    (folder / "part.npz").replace(folder / learned.PAIRS)


def _write_job(folder: Path, recipe: Any, minutes: float, spent: float, whole: bool = False) -> Path:
    """Writes a job file for the trainer. `minutes`: limit for all training; `spent`: seconds of earlier training.

    If `whole`, the job starts from the result of the first job and also trains on the held-out takes.
    """
    size, memory = recipe.input.size, recipe.memory
    job = {
        "network": str(recipe.model_path),
        "pairs": str(folder / learned.PAIRS),
        "out": str(folder / ("whole.npz" if whole else "delta.npz")),
        "checkpoint": str(folder / ("whole.pt" if whole else "checkpoint.pt")),
        "begin": str(folder / "checkpoint.pt") if whole else "",
        "output": recipe.output.name,
        "input": recipe.input.name,
        "past": memory.past,
        "known": memory.known,
        "state": memory.state,
        "state_shape": list(memory.shape),
        "prefixes": PREFIXES,
        "cell": size // 32,
        "rate": RATE,
        "steps": MORE_STEPS if whole else STEPS,
        "batch": BATCH,
        "kept": OTHERS,
        "seconds": spent + 60 * minutes * (MORE_STEPS if whole else STEPS) / (MORE_STEPS + STEPS),
        "threads": cores(),
        "bf16": True,
        "seed": 1,
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


_FEATURES = ((0.377, 0.468, 0.075, 0.045), (0.623, 0.469, 0.075, 0.045), (0.502, 0.725, 0.125, 0.07))
"""Centre and half axes of eyes and mouth as fractions of the side, as in engines/training/losses/restoration.py."""


def weight(size: int) -> Float32:
    """Returns the weight of each pixel in the loss, size×size. Eyes and mouth have triple weight."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    features = np.zeros((size, size), np.float32)
    for x, y, a, b in _FEATURES:
        features = np.maximum(features, np.clip(1.5 - np.hypot((at[None] - x) / a, (at[:, None] - y) / b), 0, 1))
    return np.asarray((0.2 + 0.8 * face_mask(size)) * (1 + 2 * features), np.float32)


def _run_trainer(python: Path, job: Path, notify_share: Callable[[float], None]) -> dict[str, Any]:
    """Runs the trainer. Returns the last JSON line that it prints."""
    result: dict[str, Any] = {}
    notify_share(0.0)

    def parse_line(line: str) -> None:
        if line.startswith("{"):
            result.update(json.loads(line))
            if "done" not in result:
                notify_share(result["step"] / result["steps"])

    # The script runs from a copy in an empty folder, so that it cannot import rtface by accident.
    script = shutil.copy(Path(__file__).with_name("trainer.py"), job.parent / "trainer.py")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    status = child.run([python, "-P", script, job], parse_line, environment | {"RTFACE_STUDIO_PARENT": "stdin"})
    if status.code or "done" not in result:
        raise EngineError("learning failed: {why}", code="learn_failed", why=status.why)
    return result
