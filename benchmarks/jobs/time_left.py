"""Error of the time left of jobs, in simulations with a clock of their own.

    python -m benchmarks.jobs.time_left [--minutes 2 10 120] [--seeds 5]

A film is a list of scenes with 0, 1 or 2 faces. A frame takes 4.4 ms and a face 23 ms (0.11 s and
0.69 s for a second of film without and with a face, as measured for `simulate`), with noise.
Workers start after 2 s, take segments of 25 s by the rule of `rtface.jobs.time_left.choose`, and note their
frames as real ones do. The first one samples keyframes as `rtface.jobs.faces_ahead` does, from
1.2 s on, where one takes 20 ms (measured: 19 ms at 512×388, 60 ms at 1280×720). At every percent
from 10 to 95 of the true duration the time left is compared with the true one, without joining:

- time left: as jobs tell it
- no samples: without any
- mean speed: the rest of the film by the speed of all workers from their first frames on

Films: the same mix of scenes everywhere ("even"); faces in one half only; faces in every second of
ten parts. Faults: a speed that changes by up to 10 %; workers that differ by a fifth; a job of
which three tenths were made before by other workers; a worker that ends at 30 %.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import save
from rtface.jobs.faces_ahead import FIRST_SAMPLES, budget_s, shares
from rtface.jobs.time_left import AtWork, Pace, choose, time_left

RATE, LENGTH_S, START_S, SAMPLING_S = 25, 25, 2.0, 1.2
FRAME_S, FACE_S = 0.0044, 0.023
SAMPLE_S = 0.02
GOP = 10 * RATE
BLOCK = 5
"""Frames between two looks at the clock."""
FILMS = ("even", "faces first", "faces last", "ten parts")


@dataclass(frozen=True, slots=True)
class Case:
    """A job to simulate: see the module."""

    film: str
    minutes: float
    workers: int = 1
    drift: bool = False
    unequal: bool = False
    resumed: bool = False
    dies: bool = False


def faces_of(case: Case, r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Number of faces on every frame, and the keyframe at or before it.

    Scenes of 2 to 20 s, most of them with a face or two; in every third one this changes in the
    middle. Keyframes are at the starts of scenes and parts, and every ten seconds.
    """
    frames = round(case.minutes * 60) * RATE
    faces, keyframes = np.zeros(frames, int), np.zeros(frames, int)
    at = 0
    while at < frames:
        length = int(r.uniform(2, 20) * RATE)
        for part in (at, at + length // 2)[: 1 + (r.random() < 1 / 3)]:
            faces[part : at + length] = r.choice([0, 1, 2], p=[0.4, 0.45, 0.15])
        keys = range(at, min(at + length, frames), GOP)
        keyframes[keys] = keys
        at += length
    half = frames // 2
    empty = {
        "faces first": [(half, frames)],
        "faces last": [(0, half)],
        "ten parts": [(k * frames // 10, (k + 1) * frames // 10) for k in range(1, 10, 2)],
    }
    for begin, end in empty.get(case.film, ()):
        faces[begin:end] = 0
        borders = [at for at in (begin, end) if at < frames]
        keyframes[borders] = borders
    return faces, np.maximum.accumulate(keyframes)


def sampled(faces: np.ndarray, keyframes: np.ndarray) -> list[tuple[float, int, int]]:
    """Times from the start of the sampling, frames and their numbers of faces, as
    `rtface.jobs.faces_ahead` takes them: it rests as long as it works."""
    seconds, has_faces = len(faces) / RATE, False
    known = set[int]()
    found: list[tuple[float, int, int]] = []
    for share in shares(seconds):
        place = int(share * len(faces))
        key = int(keyframes[place])
        known.add(key)
        has_faces = has_faces or faces[key] > 0
        took = len(known) * SAMPLE_S
        found.append((SAMPLING_S + 2 * took, place, int(faces[key])))
        if took > budget_s(seconds, has_faces):
            break
    return found


@dataclass(slots=True)
class Worker:
    """A simulated worker: its segment, the next frame of it, and its speed."""

    slow: float
    pace: Pace
    segment: int | None = None
    frame: int = 0
    first: float | None = None
    made: int = 0


def simulated(case: Case, seed: int) -> dict[str, list[float]]:
    """Relative errors of each estimate at every percent from 10 to 95."""
    r = np.random.default_rng(seed)
    faces, keyframes = faces_of(case, r)
    size = LENGTH_S * RATE
    counts = [min(size, len(faces) - k) for k in range(0, len(faces), size)]
    samples = sampled(faces, keyframes)

    def written() -> list[tuple[float, int]]:
        """The samples that are in faces.json by now: the first 16, 32, 64, …, and all at the end."""
        ready = sum(bool(at <= now) for at, _, _ in samples)
        if ready < len(samples):
            ready = 1 << ready.bit_length() - 1 if ready >= FIRST_SAMPLES else 0
        return [(p // size + p % size / size, count) for _, p, count in samples[:ready]]

    now = 0.0
    phase = float(r.uniform(0, 6))
    cost = (FRAME_S + FACE_S * faces) * r.gamma(20, 1 / 20, len(faces))
    length = float(cost.sum()) / case.workers

    def drift(at: float) -> float:
        return 1 + 0.1 * np.sin(phase + 9 * at / length) if case.drift else 1.0

    def clock() -> float:
        return now

    finished = set(range(len(counts) * 3 // 10)) if case.resumed else set[int]()
    workers = [Worker(float(r.uniform(0.8, 1.2)) if case.unequal else 1.0, Pace(clock)) for _ in range(case.workers)]
    gone = set[int]()

    def at_work(alive: list[Worker]) -> list[AtWork]:
        return [
            AtWork(None if w.segment is None else w.segment + w.frame / counts[w.segment], w.pace.rows) for w in alive
        ]

    def mean_speed(alive: list[Worker]) -> float | None:
        done = sum(counts[n] for n in finished) + sum(w.frame for w in alive if w.segment is not None)
        speed = sum(w.made / (now - w.first) for w in alive if w.first is not None and now > w.first)
        return (len(faces) - done) / speed if speed else None

    events = [(START_S, k) for k in range(case.workers)]
    seen: list[tuple[float, dict[str, float | None]]] = []
    looked = 0.0
    while len(finished) < len(counts):
        now, k = heapq.heappop(events)
        worker = workers[k]
        alive = [w for j, w in enumerate(workers) if j not in gone]
        if case.dies and k == 1 and now > 0.3 * length and k not in gone:
            gone.add(k)
            worker.segment = None
            continue
        if worker.segment is not None:
            begin, end = worker.frame, min(worker.frame + BLOCK, counts[worker.segment])
            block = slice(worker.segment * size + begin, worker.segment * size + end)
            for count in faces[block]:
                worker.pace.add(int(count))
            worker.first = now if worker.first is None else worker.first
            worker.made += end - begin
            worker.frame = end
            if worker.frame >= counts[worker.segment]:
                finished.add(worker.segment)
                following, worker.segment = worker.segment + 1, None
                leased = {w.segment for w in alive if w.segment is not None}
                if following < len(counts) and following not in finished | leased:
                    worker.segment, worker.frame = following, 0
        if worker.segment is None:
            leased = {w.segment for w in alive if w.segment is not None}
            worker.segment, worker.frame = choose(len(counts), finished, leased), 0
        if worker.segment is not None:
            first = worker.segment * size + worker.frame
            block = slice(first, first + min(BLOCK, counts[worker.segment] - worker.frame))
            takes = float(cost[block].sum())
            heapq.heappush(events, (now + takes * worker.slow * drift(now), k))
        if now - looked >= length / 400:
            looked = now
            alive = [w for j, w in enumerate(workers) if j not in gone]
            found = {
                name: time_left(counts, finished, at_work(alive), some)
                for name, some in (("time left", written()), ("no samples", ()))
            }
            seen.append((now, {**found, "mean speed": mean_speed(alive)}))
    errors: dict[str, list[float]] = {name: [] for name in seen[0][1]}
    for percent in range(10, 96):
        at, values = min(seen, key=lambda one: abs(one[0] - now * percent / 100))
        for name, value in values.items():
            errors[name].append(1.0 if value is None else abs(value - (now - at)) / (now - at))
    return errors


def figures(case: Case, seeds: int) -> dict[str, Any]:
    """p50, p95 and worst of each estimate's error in percent, and the share within 20 %."""
    runs = [simulated(case, seed) for seed in range(seeds)]
    result: dict[str, Any] = {}
    for name in runs[0]:
        errors = 100 * np.concatenate([run[name] for run in runs])
        p50, p95 = np.percentile(errors, [50, 95])
        result[name] = [
            *(round(float(value), 1) for value in (p50, p95, errors.max())),
            round(float((errors <= 20).mean()), 3),
        ]
    return result


def cases(minutes: float) -> list[Case]:
    """Every film with one worker; two films with more workers, and with every fault."""
    found = [Case(film, minutes) for film in FILMS]
    for film in ("even", "faces first"):
        found += [Case(film, minutes, workers) for workers in (2, 4, 8)]
        found += [
            Case(film, minutes, drift=True),
            Case(film, minutes, 4, unequal=True),
            Case(film, minutes, 2, resumed=True),
            Case(film, minutes, 4, dies=True),
        ]
    return found


def main() -> None:
    """Simulates, prints a line for each case, saves results/jobs_time_left.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 10, 120])
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    result: dict[str, Any] = {"columns": ["p50 %", "p95 %", "worst %", "share within 20 %"]}
    for minutes in asked.minutes:
        for case in cases(minutes):
            faults = [one for one in ("drift", "unequal", "resumed", "dies") if getattr(case, one)]
            name = ", ".join([f"{minutes:g} min", case.film, f"workers: {case.workers}", *faults])
            result[name] = figures(case, asked.seeds)
            print(name, result[name], flush=True)
    save("jobs_time_left", result)


if __name__ == "__main__":
    main()
