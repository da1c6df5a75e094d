"""Measures the gain of learnt weights with default runs on held-out takes."""

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
"""Kind → (side of the face crop in the coded film in pixels, σ of the noise, crf), as in training/evaluation. With side
0, the film has half the takes' size and is restored at this size; other kinds are enlarged again after coding."""
_INHERITED_VARIABLES = CACHE, DATA
MAX_TAKES, WARM_UP_FRAMES = 4, 12
"""Maximum number of held-out takes; number of frames at the start of each take that are not measured."""


def check_policies() -> None:
    """Raises UsageError if a policy forbids the runs that measure the gain."""
    try:
        Options.of({"codec": "ffv1", "overwrite": True, "person": ["me=me.png"]})
    except UsageError as error:
        raise UsageError(
            "{why}; rtface learn needs test runs with fixed options, which this policy forbids: ask the administrator",
            code="learn_policy",
            why=error,
        ) from error


def stack_takes(takes: Sequence[Take]) -> dict[str, Any]:
    """Pads takes to one size and stacks them. Keys: pictures, uint8 takes×frames×side×side×3, and their matrices."""
    takes = takes[:: -(-len(takes) // MAX_TAKES)]
    side = max(len(take.pictures[0]) for take in takes)
    padded = [[np.pad(p, ((0, side - len(p)), (0, side - len(p)), (0, 0)), "edge") for p in t.pictures] for t in takes]
    return {"pictures": np.array(padded), "matrices": np.array([take.matrices for take in takes])}


def gains(
    pictures: Bytes, matrices: Float, person: str, folder: Path, notify: Callable[[str, float], None]
) -> dict[str, float]:
    """Measures the gain over the shipped weights in dB, for each kind.

    Args:
        pictures, matrices: results of `stack_takes`.
        person: person whose file is in the subfolder `persons` of the folder.
        notify: function called with the current step and the finished share of it (0…1).

    Raises:
        EngineError: a run failed.
    """
    (inputs := folder / "films").mkdir(exist_ok=True)
    films = {kind: _film(inputs / f"{kind}.mkv", pictures, matrices, *settings) for kind, settings in KINDS.items()}
    errors_by_run = list[list[float]]()
    for arguments in ([], ["--person", person]):
        notify(Message("measuring the improvement", code="learn_judging"), len(errors_by_run) / 2)
        _restore(inputs, folder / "restored", arguments)
        errors_by_run.append([_error(_read(folder / "restored" / f"{kind}.mkv"), *films[kind]) for kind in KINDS])
    shipped_errors, learnt_errors = np.log10(errors_by_run)
    return dict(zip(KINDS, np.round(10 * (shipped_errors - learnt_errors), 3).tolist(), strict=True))


def _film(path: Path, pictures: Bytes, matrices: Float, crop: int, sigma: float, crf: int) -> tuple[Bytes, Float]:
    """Writes a degraded film as test input. Returns its ground truth and the matrices of the face."""
    rng, side, frames = np.random.default_rng(5), pictures.shape[2], pictures.reshape(-1, *pictures.shape[2:])
    scale = crop / CROP / float(np.median(np.hypot(matrices[..., 0, 0], matrices[..., 1, 0]))) or 0.5
    small = int(side * min(1.0, scale) / 4) * 4
    reduced = [cv2.resize(p, (small, small), interpolation=cv2.INTER_AREA) for p in frames]
    _write(path, [add_noise(p, sigma, rng) for p in reduced], "libx264",
           {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"})  # fmt: skip
    if crop:
        _write(path, [cv2.resize(p, (side, side), interpolation=cv2.INTER_CUBIC) for p in [*_read(path)]], "ffv1", {})
        return pictures, matrices
    return np.array(reduced, np.uint8).reshape(*pictures.shape[:2], small, small, 3), matrices * (small / side)


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


def _restore(films: Path, restored: Path, arguments: Sequence[str]) -> None:
    """Restores all films in one default run, because each start takes seconds."""
    shutil.rmtree(restored, ignore_errors=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RTFACE_") or k in _INHERITED_VARIABLES}
    status = child.run(
        [sys.executable, "-P", "-m", "rtface", "run", *sorted(films.iterdir()), "--output-dir", restored,
         "--codec", "ffv1", "--overwrite", *arguments],
        lambda line: None,
        {**environment, CONFIG: str(films.parent), "RTFACE_STUDIO_PARENT": "stdin"},
    )  # fmt: skip
    if status.code:
        raise EngineError(
            "learning failed: {why}",
            code="learn_failed",
            # The last line of stderr is only a summary.
            why=next((line for line in status.errors if "error:" in line), status.why),
        )


def _error(restored: Iterator[Bytes], truth: Bytes, matrices: Float) -> float:
    """Sums squared errors in the face ovals of measured frames."""
    mask, size, total = face_mask(CROP), truth.shape[2:4], 1e-9
    for n, picture in enumerate(restored):
        take, frame = divmod(n, truth.shape[1])
        if frame >= min(WARM_UP_FRAMES, truth.shape[1] - 1):
            errors = (picture.astype(np.float32) - truth[take, frame]) ** 2
            total += float((cv2.warpAffine(mask, matrices[take, frame], size)[..., None] * errors).sum())
    return total
