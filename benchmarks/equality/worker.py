"""Cases that call Python; a checkout's own interpreter runs `worker.py FUNCTION IN OUT` in it.

Nothing internal of rtface is imported, so that it runs in every version; the one exception is
`quality_levels`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

import rtface

# Modules of the simulation of the quality levels, newest first.
SIMULATIONS = ("benchmarks.ladder",)


def _save(out: Path, frames: Iterable[Any], results: list[Any]) -> None:
    np.save(out / "frames.npy", np.stack(list(frames)))
    (out / "results.json").write_text(json.dumps(results))


def _results(enhance: rtface.Enhancer) -> list[Any]:
    return [[asdict(r) | {"reasons": len(r.reasons)} for r in enhance.results],
            [[f.track_id, f.box.tolist(), f.points.tolist()] for f in enhance.faces]]


def whole_file(source: Path, out: Path) -> None:
    """`rtface.run` with what only Python has: a function that is called after every frame."""
    calls: list[Any] = []
    report = rtface.run(
        source / "two.mkv", out / "out.mkv", engine="rtface-s", strength=0.9, stages=["label"],
        progress=lambda p: calls.append([p.frames, p.seconds_done, p.duration_s, p.faces]))
    (out / "report.json").write_text(json.dumps(report.to_dict()))
    (out / "progress.json").write_text(json.dumps(calls))


def analysis(source: Path, out: Path) -> None:
    """`rtface.analyze`."""
    tracks = rtface.analyze(source / "three.mp4", faces="all", max_faces=2)
    (out / "tracks.json").write_text(json.dumps([asdict(t) for t in tracks]))


def enhancer_rgb(source: Path, out: Path) -> None:
    """Arrays, with what may change between frames: strength, off and on, reset, a still."""
    made: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(engine="rtface-s", fps=25) as enhance:
        for i, frame in enumerate(np.load(source / "frames.npy")):
            enhance.strength = 0.5 if i == 3 else 1.0
            enhance.enabled = i != 5
            if i == 7:
                enhance.reset()
            made.append(enhance(frame, still=i == 9))
            results.append(_results(enhance))
    _save(out, made, results)


def enhancer_bgr(source: Path, out: Path) -> None:
    """Blue first, two faces and a cut, times of the caller's own, stages."""
    made: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(engine="rtface-s-vivid", format="bgr", analysis=False, grain="none",
                         colour="restore", stages=["blur:faces=2", "label"]) as enhance:
        for i, frame in enumerate(np.load(source / "two.npy")):
            made.append(enhance(np.ascontiguousarray(frame[..., ::-1]), time=i / 24))
            results.append(_results(enhance))
    _save(out, made, results)


def enhancer_keyframes(source: Path, out: Path) -> None:
    """The large engine on every third frame, without frames ahead."""
    with rtface.Enhancer(engine="rtface-m", keyframe=3, correct="always") as enhance:
        made = [enhance(frame) for frame in np.load(source / "two.npy")]
        _save(out, made, [_results(enhance)])


def enhancer_video_frames(source: Path, out: Path) -> None:
    """`av.VideoFrame` in several formats, each with an Enhancer of its own."""
    results: list[Any] = []
    for name in ("yuv422p10le.mkv", "nv12.nut", "gray.mkv"):
        samples: list[bytes] = []
        with (rtface.Enhancer(engine="rtface-m", strength=0.8) as enhance,
              av.open(str(source / name)) as film):
            for _, frame in zip(range(6), film.decode(video=0), strict=False):
                made = enhance(frame)
                samples += [made.to_ndarray().tobytes()]
                results.append([made.format.name, _results(enhance)])
        (out / f"{name}.samples").write_bytes(b"".join(samples))
    (out / "results.json").write_text(json.dumps(results))


def enhancer_own_faces(source: Path, out: Path) -> None:
    """Faces of the caller's own: five points, and those that a tracker found."""
    frames = np.load(source / "frames.npy")
    points = np.array([[138.0, 70.6], [180.2, 67.5], [163.2, 94.5], [143.8, 115.6], [182.0, 113.0]])
    with rtface.Enhancer(engine="rtface-s") as enhance:
        enhance(frames[0])
        found = list(enhance.faces)
    made: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(engine="rtface-s", tracker="none", correct="always") as enhance:
        for i, frame in enumerate(frames):
            made.append(enhance(frame, found if i % 2 else [points]))
            results.append(_results(enhance))
    _save(out, made, results)


def quality_levels(source: Path, out: Path) -> None:
    """The quality levels of a live run under scripted loads, in the checkout's own simulation.

    It is the one case that needs a module of the checkout that is not public, so every name that
    the simulation has had is tried.
    """
    sys.path.insert(0, str(Path.cwd()))
    names = [name for name in SIMULATIONS if Path(*name.split(".")).with_suffix(".py").exists()]
    if not names:
        sys.exit("the simulation of the quality levels has moved; add its module to SIMULATIONS")
    simulation = importlib.import_module(names[0])
    runs: list[Any] = []
    for slow, noise, stalls in ((1.0, 0.15, 0.05), (1.6, 0.3, 0.2), (2.4, 0.45, 0.5)):
        run = simulation.simulate(60.0, lambda t, slow=slow: slow, noise, stalls)
        runs.append([run.frames, run.enhanced, run.dropped, run.switched, run.latency, run.seen,
                     [step[0] for step in run.steps]])
    (out / "levels.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
