"""Measures the gain of learnt weights. Default runs restore the judging takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from rtface.config.options import Options
from rtface.correct.mask import face_mask
from rtface.errors import EngineError, Message, UsageError
from rtface.frame import Bytes, Float
from rtface.util.paths import CACHE, CONFIG, DATA
from rtface_engines import child
from rtface_learn.pairs import add_noise, to_rgb, to_yuv
from rtface_learn.takes import CROP, Take

KINDS = {"call": (200, 3.0, 31), "heavy": (100, 6.0, 33), "coded": (0, 1.0, 27)}
"""Side of the crop in the coded film, σ of its noise and crf, as in the protocols of training/evaluation. Calls are
scaled back after coding; with 0 a film is coded and restored at half size."""
_KEPT_VARIABLES = CACHE, DATA
MAX_TAKES, WARM = 4, 12
"""Maximum number of judging takes; frames of each before the measured ones."""


def check_policies() -> None:
    """Raises UsageError if a policy forbids the judging runs."""
    try:
        Options.of({"codec": "ffv1", "overwrite": True, "person": ["me=me.png"]})
    except UsageError as error:
        raise UsageError(
            "{why}; rtface learn measures its result with runs, and takes no options for them: ask the administrator",
            code="learn_policy",
            why=error,
        ) from error


def stack_takes(takes: Sequence[Take]) -> dict[str, Any]:
    """Stacks takes, padded to one size. Returns pictures, uint8 takes×frames×side×side×3, and their matrices."""
    takes = takes[:: -(-len(takes) // MAX_TAKES)]
    side = max(len(take.pictures[0]) for take in takes)
    whole = [[np.pad(p, ((0, side - len(p)), (0, side - len(p)), (0, 0)), "edge") for p in t.pictures] for t in takes]
    return {"pictures": np.array(whole), "matrices": np.array([take.matrices for take in takes])}


def gains(
    pictures: Bytes, matrices: Float, person: str, folder: Path, notify: Callable[[str, float], None]
) -> dict[str, float]:
    """Measures the gain over the shipped weights in dB, for each kind.

    Args:
        pictures, matrices: results of `stack_takes`.
        person: name of the person, whose file is in `persons` in the folder.
        notify: function called with the current step and how much of it is done (0…1).

    Raises:
        EngineError: a run failed.
    """
    (given := folder / "films").mkdir(exist_ok=True)
    films = {kind: _film(given / f"{kind}.mkv", pictures, matrices, *how) for kind, how in KINDS.items()}
    errors = list[list[float]]()
    for words in ([], ["--person", person]):
        notify(Message("measuring the gain of a run", code="learn_judging"), len(errors) / 2)
        _restore(given, folder / "restored", words)
        errors.append([_error(_read(folder / "restored" / f"{kind}.mkv"), *films[kind]) for kind in KINDS])
    shipped, learnt = np.log10(errors)
    return dict(zip(KINDS, np.round(10 * (shipped - learnt), 3).tolist(), strict=True))


def _film(path: Path, pictures: Bytes, matrices: Float, crop: int, sigma: float, crf: int) -> tuple[Bytes, Float]:
    """Writes a degraded film to restore. Returns its ground truth and the matrices of the face."""
    r, side, every = np.random.default_rng(5), pictures.shape[2], pictures.reshape(-1, *pictures.shape[2:])
    share = crop / CROP / float(np.median(np.hypot(matrices[..., 0, 0], matrices[..., 1, 0]))) or 0.5
    small = int(side * min(1.0, share) / 4) * 4
    halved = [cv2.resize(p, (small, small), interpolation=cv2.INTER_AREA) for p in every]
    _write(path, [add_noise(p, sigma, r) for p in halved], "libx264",
           {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"})  # fmt: skip
    if crop:
        _write(path, [cv2.resize(p, (side, side), interpolation=cv2.INTER_CUBIC) for p in [*_read(path)]], "ffv1", {})
        return pictures, matrices
    return np.array(halved, np.uint8).reshape(*pictures.shape[:2], small, small, 3), matrices * (small / side)


def _write(path: Path, pictures: Sequence[Any], codec: str, options: dict[str, str]) -> None:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(
            codec, 25, options, width=len(pictures[0]), height=len(pictures[0]), pix_fmt="yuv420p"
        )
        for frame in (*(av.VideoFrame.from_ndarray(to_yuv(p), "yuv420p") for p in pictures), None):
            file.mux(stream.encode(frame))


def _read(path: Path) -> Iterator[Bytes]:
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield to_rgb(frame.reformat(format="yuv420p"))


def _restore(films: Path, restored: Path, words: Sequence[str]) -> None:
    """Restores all films by a single default run. Each start takes seconds."""
    shutil.rmtree(restored, ignore_errors=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RTFACE_") or k in _KEPT_VARIABLES}
    ended = child.run(
        [sys.executable, "-P", "-m", "rtface", "run", *sorted(films.iterdir()), "--output-dir", restored,
         "--codec", "ffv1", "--overwrite", *words],
        lambda line: None,
        {**kept, CONFIG: str(films.parent), "RTFACE_STUDIO_PARENT": "stdin"},
    )  # fmt: skip
    if ended.code:
        raise EngineError(
            "learning failed: {why}",
            code="learn_failed",
            why=next((line for line in ended.errors if "error:" in line), ended.why),  # the last line only counts films
        )


def _error(shown: Iterator[Bytes], truth: Bytes, places: Float) -> float:
    """Sums squared errors in the face ovals of measured frames."""
    mask, size, total = face_mask(CROP), truth.shape[2:4], 1e-9
    for n, picture in enumerate(shown):
        take, frame = divmod(n, truth.shape[1])
        if frame >= min(WARM, truth.shape[1] - 1):
            errors = (picture.astype(np.float32) - truth[take, frame]) ** 2
            total += float((cv2.warpAffine(mask, places[take, frame], size)[..., None] * errors).sum())
    return total
