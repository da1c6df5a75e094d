"""Cases that call the Python interface. The checkout's interpreter runs `worker.py FUNCTION IN OUT`.

Cases use only the public interface of rtface, so that they run with every version. The exceptions are jobs and the two
live cases, `quality_levels` and `live_correction`. A live run depends on the clock, so these call parts of it directly.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import numpy as np

import rtface
from rtface.jobs.job import FilmJob


def _save(out: Path, frames: Iterable[Any], results: list[Any]) -> None:
    np.save(out / "frames.npy", np.stack(list(frames)))
    (out / "results.json").write_text(json.dumps(results))


def _make_segment(job: FilmJob, number: int) -> None:
    worker: Any = importlib.import_module("rtface.jobs.worker")
    if hasattr(worker, "do_segment"):  # versions before 30 November 2026
        worker.do_segment(job.folder.path, number)
        return
    with worker.Worker(job.folder, job.plan) as segment_worker:
        numbers = iter((number,))
        segment_worker.work(lambda previous: next(numbers, None) if previous is None else None)


def _results(enhance: rtface.Enhancer) -> list[Any]:
    return [
        [asdict(r) | {"reasons": len(r.reasons)} for r in getattr(enhance, "results", ())],
        [[f.track_id, f.box.tolist(), f.points.tolist()] for f in enhance.faces],
    ]


def whole_file(source: Path, out: Path) -> None:
    """Calls `rtface.run` with a progress callback, which only the Python interface has."""
    calls: list[Any] = []
    report = rtface.run(
        source / "two.mkv",
        out / "out.mkv",
        engine="rtface-s",
        strength=0.9,
        stages=["label"],
        progress=lambda p: calls.append([p.frames, p.seconds_done, p.duration_s, p.faces]),
    )
    (out / "report.json").write_text(json.dumps(report.to_dict()))
    (out / "progress.json").write_text(json.dumps(calls))


def continued_job(source: Path, out: Path) -> None:
    """Continues a job with `rtface.run`. Only the second of the job's two segments is finished."""
    options: Any = {"codec": "ffv1", "correct": "always", "crf": 0, "compare": out / "both.mkv"}
    job = FilmJob.open(source / "slow-10.mkv", out / "out.mkv", rtface.Options.of(options))
    assert isinstance(job, FilmJob) and len(job.plan) == 2
    _make_segment(job, 1)
    report = rtface.run(source / "slow-10.mkv", out / "out.mkv", **options)
    (out / "report.json").write_text(json.dumps(report.to_dict()))


def analysis(source: Path, out: Path) -> None:
    """Calls `rtface.analyze`."""
    tracks = rtface.analyze(source / "three.mp4", faces="all", max_faces=2)
    (out / "tracks.json").write_text(json.dumps([asdict(t) for t in tracks]))


def enhancer_rgb(source: Path, out: Path) -> None:
    """Enhances arrays. Changes strength and enabled, resets, and enhances a still in between."""
    outputs: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(engine="rtface-s", fps=25) as enhance:
        for i, frame in enumerate(np.load(source / "frames.npy")):
            enhance.strength = 0.5 if i == 3 else 1.0
            enhance.enabled = i != 5
            if i == 7:
                enhance.reset()
            outputs.append(enhance(frame, still=i == 9))
            results.append(_results(enhance))
    _save(out, outputs, results)


def enhancer_bgr(source: Path, out: Path) -> None:
    """Enhances BGR frames with two faces, a cut, explicit times, and stages."""
    outputs: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(
        engine="rtface-m-vivid", format="bgr", analysis=False, grain="none", stages=["blur:faces=2", "label"]
    ) as enhance:
        for i, frame in enumerate(np.load(source / "two.npy")):
            outputs.append(enhance(np.ascontiguousarray(frame[..., ::-1]), time=i / 24))
            results.append(_results(enhance))
    _save(out, outputs, results)


def enhancer_keyframes(source: Path, out: Path) -> None:
    """Runs the large engine on every third frame, without look-ahead."""
    with rtface.Enhancer(engine="rtface-m", keyframe=3, correct="always") as enhance:
        outputs = [enhance(frame) for frame in np.load(source / "two.npy")]
        _save(out, outputs, [_results(enhance)])


def enhancer_video_frames(source: Path, out: Path) -> None:
    """Enhances `av.VideoFrame` objects in several formats, each with a separate Enhancer."""
    results: list[Any] = []
    for name in ("yuv422p10le.mkv", "nv12.nut", "gray.mkv"):
        samples: list[bytes] = []
        with rtface.Enhancer(engine="rtface-m", strength=0.8) as enhance, av.open(str(source / name)) as film:
            for _, frame in zip(range(6), film.decode(video=0), strict=False):
                image = enhance(frame)
                samples += [image.to_ndarray().tobytes()]
                results.append([image.format.name, _results(enhance)])
        (out / f"{name}.samples").write_bytes(b"".join(samples))
    (out / "results.json").write_text(json.dumps(results))


def enhancer_own_faces(source: Path, out: Path) -> None:
    """Enhances with faces from the caller: five points, and a tracker's faces."""
    frames = np.load(source / "frames.npy")
    points = np.array([[138.0, 70.6], [180.2, 67.5], [163.2, 94.5], [143.8, 115.6], [182.0, 113.0]])
    with rtface.Enhancer(engine="rtface-s") as enhance:
        enhance(frames[0])
        tracked = list(enhance.faces)
    outputs: list[Any] = []
    results: list[Any] = []
    with rtface.Enhancer(engine="rtface-s", tracker="none", correct="always") as enhance:
        for i, frame in enumerate(frames):
            outputs.append(enhance(frame, tracked if i % 2 else [points]))
            results.append(_results(enhance))
    _save(out, outputs, results)


def quality_levels(source: Path, out: Path) -> None:
    """Runs the checkout's simulation of quality levels under scripted loads."""
    sys.path.insert(0, str(Path.cwd()))
    simulate: Any = importlib.import_module("benchmarks.ladder").simulate
    runs: list[Any] = []
    for slow, noise, stalls in ((1.0, 0.15, 0.05), (1.6, 0.3, 0.2), (2.4, 0.45, 0.5)):
        run = simulate(60.0, lambda t, slow=slow: slow, noise, stalls)
        runs.append([run.frames, run.enhanced, run.switched, run.latency, run.seen, [step[0] for step in run.steps]])
    (out / "levels.json").write_text(json.dumps(runs))


class _ScriptedCosts:
    """Replaces the measured costs in a governor's cost model with scripted costs."""

    def __init__(self, model: Any, costs: Iterator[float]) -> None:
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_costs", costs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._model, name, value)

    def learn(self, engine: str, seconds: float) -> None:
        """Passes on a fixed time per crop instead of the measured `seconds`."""
        self._model.learn(engine, 0.01)

    def spent(self, seconds: float, *rest: Any) -> None:
        """Passes on the next scripted time instead of the measured `seconds`."""
        self._model.spent(next(self._costs), *rest)


def live_correction(source: Path, out: Path) -> None:
    """Corrects like a live run, at quality levels from scripted costs.

    An Enhancer gets the governor of a live run. Its period is one second, so that no engine is late, and the levels
    depend only on the script.
    """
    from rtface.enhance.corrector import Helpers
    from rtface.enhance.live import LiveEnhancer
    from rtface.quality.governor import QualityGovernor

    outputs: list[Any] = []
    results: list[Any] = []
    for engine in ("rtface-s", "rtface-m"):
        costs = iter([0.1] * 5 + [1.9] * 20 + [0.1] * 200)
        with rtface.Enhancer(engine=engine, correct="always", max_faces=1) as enhance:
            enhancement: Any = enhance._enhance
            governor = QualityGovernor(1.0, 30.0, "rtface-s")
            costs_name = next(n for n in dir(governor) if hasattr(getattr(governor, n), "spent"))
            setattr(governor, costs_name, _ScriptedCosts(getattr(governor, costs_name), costs))
            helpers = Helpers(light="rtface-s")
            enhance._enhance = LiveEnhancer(
                enhancement.switch, enhancement._options, enhancement._stats, governor, helpers=helpers
            )
            for i, frame in enumerate([*np.load(source / "frames.npy")] * 6):
                outputs.append(enhance(frame, time=0.2 * i))
                results.append(_results(enhance))
    _save(out, outputs, results)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
