"""Compares frames decoded and corrected on the GPU with host frames. Also measures the speed of both ways.

The faces are given in advance. Results are saved after each comparison.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.frames import Film, video_frame
from benchmarks.gpu.loop import GpuSetup, SingleEngine
from benchmarks.gpu.machine import Bench
from rtface.config.options import Options
from rtface.enhance.film import FilmEnhancer
from rtface.frame import Frame
from rtface.protocols import Runtime
from rtface.stats import Stats
from rtface.util.av_gpu import native_format, on_gpu, software

WORST, SHARE, CHANGED = 1, 1e-3, 0.005
"""In place against host: maximum difference in code values, maximum share of different samples; and the minimum share
of samples that a correction changes."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in-place-frames", type=int, default=120, help="in_place: frames of each film")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part. Raises RuntimeError if frames differ."""
    count, wrong = bench.count(args.in_place_frames, 4), list[str]()
    result: dict[str, Any] = {"what": __doc__.splitlines()[0]}
    setup = GpuSetup(bench, "rtface-m", 16 if not bench.dry else 2)
    try:
        for faces in (1, 4)[: bench.count(2, 1)]:
            film = Film(1920, 1080, faces, 250) if not bench.dry else Film(320, 180, faces, 60, length=2)
            path = bench.folder / f"{faces}.mp4"
            write_film(film, path, count)
            result[f"{faces} faces"] = seen = compare(bench, setup, film, path)
            bench.save("in_place", result)
            if seen["worst"] > WORST or seen["share"] > SHARE or seen["changed"] < CHANGED or not seen["on_gpu"]:
                wrong.append(f"{faces} faces: {seen}")
    finally:
        setup.close()
    if wrong:
        raise RuntimeError("frames in place are not as they should be: " + "; ".join(wrong))
    result["in_short"] = "in place as from the host; " + ", ".join(
        f"{name}: {figures['fps']} fps, from the host {figures['fps_host_frames']}"
        for name, figures in result.items()
        if name.endswith("faces")
    )
    return result


def compare(bench: Bench, setup: GpuSetup, film: Film, path: Path) -> dict[str, Any]:
    """Processes a film on the GPU and on the host. Returns the differences of samples, and frames per second."""
    decoded, decoder = _read(bench, film, path, True)
    before = _samples(software(decoded[-1].image) if not bench.dry else decoded[-1].image.host())
    in_place, fps = _enhance(setup, decoded, 2)
    host_frames, host_fps = _enhance(setup, _read(bench, film, path, False)[0], 2)
    after = [_samples(f.image.host() if bench.dry else software(f.image)) for f in in_place]
    apart = [np.abs(a.astype(int) - _samples(software(b.image))) for a, b in zip(after, host_frames, strict=True)]
    speeds = {
        str(ahead): round(_enhance(setup, _read(bench, film, path, True)[0], ahead)[1], 1) for ahead in (0, 1, 2, 4)
    }
    return {
        "decoder": decoder,
        "on_gpu": all(on_gpu(f.image) for f in in_place),
        "worst": max(int(d.max()) for d in apart),
        "share": float(np.mean([np.mean(d > 0) for d in apart])),
        "changed": float(np.mean(after[-1] != before)),
        "fps": round(fps, 1),
        "fps_host_frames": round(host_fps, 1),
        "fps_by_frames_ahead": speeds,
    }


def write_film(film: Film, path: Path, count: int) -> None:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", 30, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        for n in range(count):
            out.mux(stream.encode(video_frame(film.frame(n).image, n).reformat(format="yuv420p")))
        out.mux(stream.encode(None))


def _read(bench: Bench, film: Film, path: Path, keep: bool) -> tuple[list[Frame], str]:
    """Decodes frames with faces, to the GPU or the host (NV12). Also returns the decoder's name."""
    from rtface.media.read.hardware import Decoding
    from rtface.media.read.source import FileSource

    source = FileSource(path, stats=Stats(), decode=None if bench.dry else Decoding(0, keep))
    try:
        frames = [item for item in source if isinstance(item, Frame)]
        decoder = source.info.decoder
    finally:
        source.close()
    frames = [replace(frame, faces=film.frame(n).faces) for n, frame in enumerate(frames)]
    if bench.dry:
        from tests.device.cuda.gpu_rig import FakeGpuFrame

        nv12 = [replace(frame, image=frame.image.reformat(format="nv12")) for frame in frames]
        frames = [replace(f, image=FakeGpuFrame(bench.streams.gpu, f.image)) for f in nv12] if keep else nv12
    return frames, decoder


def _enhance(setup: GpuSetup, frames: Sequence[Frame], ahead: int) -> tuple[list[Frame], float]:
    """Corrects frames. Also returns the frames per second."""
    stats = Stats()
    runtime = Runtime(setup.device, SingleEngine(setup.engine), ahead=ahead)
    step = FilmEnhancer(runtime, Options(max_faces=16), stats, analysis=False)
    started = time.perf_counter()
    out = [item for item in step(iter(frames)) if isinstance(item, Frame)]
    fps = len(out) / (time.perf_counter() - started)
    if untouched := sum(not frame.touched for frame in out):
        raise RuntimeError(f"{untouched} frames were not corrected: {dict(stats.warnings)}")
    return out, fps


def _samples(image: Any) -> np.ndarray:
    assert native_format(image) in ("nv12", "yuv420p"), image.format.name
    return (image if image.format.name == "nv12" else image.reformat(format="nv12")).to_ndarray()
