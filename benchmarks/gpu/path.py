"""Measures the GPU enhance step's frame rate, GPU load and bottleneck.

The frames are 1080p with four given faces. The GPU, the thread that owns it, and the loop's thread are timed by
separate clocks. The tracker (if OpenVINO is installed), and decoding and encoding (if PyAV is installed), are timed
separately. The baseline is the same step on the CPU, for some frames.
"""

from __future__ import annotations

import argparse
import io
import threading
import time
from typing import Any

import numpy as np

from benchmarks.gpu.frames import Film, video_frame
from benchmarks.gpu.loop import STREAMS, Loop, Watch, on_cpu, overlapped, stages
from benchmarks.gpu.machine import Bench, quantiles
from rtface.frame import Frame


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--films", default="1,4", help="path: films at a time")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part."""
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "faces": 4 if not bench.dry else 1}
    result["beside_the_gpu"] = other = _other_work(bench)
    for name in ("rtface-m", "rtface-s")[: bench.count(2, 1)]:
        loop = Loop(bench, name, 16 if not bench.dry else 2)
        try:
            result[name] = {"plan": loop.plan, "on the CPU": {"ms": on_cpu(name, _film(bench), bench.count(20, 1))}}
            for films in map(int, args.films.split(",")):
                result[name][f"{films} at a time"] = _films(bench, loop, min(films, bench.count(99, 2)), other)
                bench.save("path", result)
        finally:
            loop.close()
    return result


def _film(bench: Bench) -> Film:
    return Film(1920, 1080, 4, 250, "nv12", 8) if not bench.dry else Film(320, 180, 1, 60, "nv12", 3)


def _films(bench: Bench, loop: Loop, films: int, other: dict[str, Any]) -> dict[str, Any]:
    """Measures the frames per second of all films together. An additional round records the streams' work."""
    count = bench.count(100, 3)
    scene = _film(bench)
    cpu = {"loop": 0.0, "owner": 0.0}

    def prepare() -> list[list[Frame]]:
        return [[scene.frame(n) for n in range(count)] for _ in range(films)]

    def run(frames: list[list[Frame]]) -> tuple[float, Any]:
        steps = [loop.step() for _ in range(films)]
        errors: list[BaseException] = []
        spent = [0.0] * films

        def go(n: int) -> None:
            begun = time.thread_time()
            try:
                overlapped(steps[n], frames[n])
                spent[n] = time.thread_time() - begun
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        threads = [threading.Thread(target=go, args=(n,)) for n in range(films)]
        streams = bench.run(time.thread_time)
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        if errors:
            raise errors[0]
        cpu["owner"] = 1e3 * (bench.run(time.thread_time) - streams) / (films * count)
        cpu["loop"] = 1e3 * max(spent) / count / films  # the loops run in parallel
        return seconds, steps[0]

    run(prepare())
    rates: list[float] = []
    step: Any = None
    for _ in range(bench.count(3, 1)):
        seconds, step = run(prepare())
        rates.append(films * count / seconds)
    host = dict(cpu)
    prepared = prepare()
    with Watch(bench) as watch:
        run(prepared)
    busy = {stream: round(watch.busy(stream), 4) for stream in STREAMS}
    each = {
        "gpu": 1e3 * watch.busy("compute", "finish") * watch.seconds / (films * count),
        "loop": host["loop"],
        "owner": host["owner"],
        **{name: ms for name, ms in other.items() if isinstance(ms, float)},
    }
    step_ms = {name: each[name] for name in ("gpu", "loop", "owner")}
    whole = 1e3 / float(np.median(rates))
    return {
        "fps": quantiles(rates, 1),
        "ms_a_frame": round(whole, 3),
        "busy": busy,
        "copies_beside_computing": round(watch.overlap(), 4),
        "stages_ms_with_waiting": stages(step),
        "work_ms_a_frame": {name: round(ms, 3) for name, ms in each.items()},
        "step_bound_by": max(step_ms, key=lambda n: step_ms[n]) if max(step_ms.values()) > 0.7 * whole else "waiting",
        "run_bound_by": max({**each, "step": whole}.items(), key=lambda item: item[1])[0],
    }


def _other_work(bench: Bench) -> dict[str, Any]:
    """Measures a run's other work (ms per frame), if packages are installed."""
    out: dict[str, Any] = {}
    count = bench.count(90, 3)
    try:
        import av
    except ImportError:
        out["decode and encode"] = "PyAV is not installed"
        return out
    film = _film(bench)
    memory = io.BytesIO()
    pictures = [video_frame(film.frame(n).image, n).reformat(format="yuv420p") for n in range(count)]
    start = time.perf_counter()
    with av.open(memory, "w", format="matroska") as writer:
        stream = writer.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        for picture in pictures:
            writer.mux(stream.encode(picture))
        writer.mux(stream.encode(None))
    out["encode"] = 1e3 * (time.perf_counter() - start) / count
    memory.seek(0)
    start = time.perf_counter()
    with av.open(memory) as reader:
        reader.streams.video[0].thread_type = "AUTO"
        decoded = sum(1 for _ in reader.decode(video=0))
    out["decode"] = 1e3 * (time.perf_counter() - start) / decoded
    out["track"] = _track(bench, pictures)
    return out


def _track(bench: Bench, pictures: list[Any]) -> float | str:
    try:
        import openvino  # noqa: F401
    except ImportError:
        return "OpenVINO is not installed"
    from fractions import Fraction

    from rtface.device.cpu.device import CpuDevice
    from rtface.frame import Frame
    from rtface.tracking import create_tracker

    device, tracker = CpuDevice(), create_tracker("auto")
    start = time.perf_counter()
    for n, picture in enumerate(pictures):
        frame = Frame(picture, n, Fraction(1, 30), 1)
        tracker.update(device.view(frame), frame.time)
    seconds = time.perf_counter() - start
    tracker.close()
    return 1e3 * seconds / len(pictures)
