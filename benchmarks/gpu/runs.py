"""Measures runs on a GPU by encoder, with tracker and given faces.

The film is 1080p with one face. The ways to encode are x264 in the run's process, x264 in a process of its own that
reads the frames from shared memory, NVENC, and none. Given faces show what a run would reach if tracking cost nothing.
A whole `rtface run` on GPU and CPU follows.
"""

from __future__ import annotations

import argparse
import queue
import time
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from benchmarks.gpu.frames import RATE, Film
from benchmarks.gpu.in_place import write_film
from benchmarks.gpu.machine import Bench
from rtface.concurrency.child_main import ParentProcess
from rtface.concurrency.child_process import ChildProcess
from rtface.concurrency.shared_frames import FrameLayout, FrameRing
from rtface.config.options import Options
from rtface.frame import Face, Frame
from rtface.media.cuda.nvenc import Encoding, choose_encoder
from rtface.media.read.hardware import Decoding
from rtface.media.read.media_info import MediaInfo
from rtface.media.read.source import FileSource
from rtface.media.write.encoders import EncoderRefused, VideoPlan, new_context, open_encoder
from rtface.media.write.frame_encoder import FrameEncoder, fit
from rtface.media.write.stream_plan import supported_encoders
from rtface.pipeline.build import FilmNetworks, film_networks, film_parts
from rtface.pipeline.chain import chain
from rtface.pipeline.film import run_file
from rtface.pipeline.plan import FramePlan
from rtface.pipeline.threads import Threads
from rtface.stats import Stats
from rtface.tracking import NoTracker

WAYS = ("no encoder", "x264", "x264 in its own process", "NVENC")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run-frames", type=int, default=240, help="runs: frames of the film")


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Measures this part."""
    count, path = bench.count(args.run_frames, 6), bench.folder / "film.mp4"
    film = Film(1920, 1080, 1, 250) if not bench.dry else Film(320, 180, 1, 60, length=2)
    write_film(film, path, count)
    chosen = Options(device="cpu", engine="rtface-s")
    if not bench.dry:
        chosen = Options(device="cuda", decode="cuda")
        _ = bench.streams  # where no TensorRT supports the GPU, opening it replaces TensorRT
    result: dict[str, Any] = {"what": __doc__.splitlines()[0], "frames": count}
    with ExitStack() as stack:
        plan = FramePlan(path, chosen)
        networks = film_networks(plan, Stats(), stack)
        given = replace(networks, tracker=_GivenFaces(film, count))
        _run(plan, given, "no encoder")  # the first frames of a process are slow
        for name, used in (("tracked", networks), ("given faces", given)):
            result[name] = figures = dict[str, Any]()
            for way in WAYS:
                try:
                    figures[way] = _run(plan, used, way)
                except EncoderRefused as error:
                    figures[way] = {"left out": str(error)}
                bench.save("runs", result)
    result["rtface run"] = whole = dict[str, Any]()
    for one in (chosen, Options(device="cpu"))[: bench.count(2, 1)]:
        report = run_file(path, path.with_name("out.mp4"), replace(one, overwrite=True))
        names = ("fps", "device", "decoder", "encoder", "frames_corrected", "faults", "stages_ms")
        whole[one.device] = {name: getattr(report, name) for name in names}
    result["in_short"] = "frames a second: " + "; ".join(
        f"{name}, {way}: {figures.get('fps', 'left out')}"
        for name in ("tracked", "given faces")
        for way, figures in result[name].items()
    )
    return result


def _run(plan: FramePlan, networks: FilmNetworks, way: str) -> dict[str, Any]:
    """Measures a pass over the film. The encoder's start is left out, its last frames are not."""
    stats, decode = Stats(), Decoding(0, True) if plan.options.decode == "cuda" else None
    threads = Threads.for_film(None)
    source = FileSource(plan.input, stats=stats, decode=decode, threads=threads.decode)
    networks.tracker.reset()
    encoder = _encoder(source.info, way, threads.encode)
    begun, frames = time.perf_counter(), 0
    for item in chain(iter(source), networks.tracker, film_parts(networks, plan, stats), stats):
        if isinstance(item, Frame):
            with stats.time("encode"):
                encoder.encode(item)
            frames += 1
    encoder.flush()
    seconds = time.perf_counter() - begun
    source.close()
    return {
        "fps": round(frames / seconds, 1),
        "tracker_share": round(stats.stages["track"].total / seconds, 3),
        "frames_corrected": stats.counters["frames_corrected"],
        "stages_ms": {name: round(1e3 * stage.total / frames, 3) for name, stage in stats.stages.items()},
    }


def _encoder(info: MediaInfo, way: str, threads: int) -> Any:
    """Opens an encoder with a run's default settings. Raises EncoderRefused if the GPU does not encode."""
    if way == "no encoder":
        return SimpleNamespace(encode=lambda frame: None, flush=lambda: None)
    more: dict[str, Any] = {"codec": "h264", "crf": None, "preset": None}
    wanted = Encoding("cuda" if way == "NVENC" else "software")
    plan, refusal = choose_encoder(info, "mp4", supported_encoders("mp4"), wanted=wanted, **more)
    if refusal:
        raise EncoderRefused(refusal)
    plan = replace(plan, threads=threads)
    return (_ChildEncoder if way == "x264 in its own process" else _frame_encoder)(plan, info.origin)


class _GivenFaces(NoTracker):
    """Returns the film's faces, at no cost."""

    def __init__(self, film: Film, count: int) -> None:
        self._faces = [film.frame(n).faces for n in range(count)]

    def update(self, view: Any, time: float, *, cut: bool = False) -> tuple[Face, ...]:
        return self._faces[round(time * RATE) % len(self._faces)]


class _ChildEncoder:
    """Encodes frames in a child process, like `FrameEncoder`."""

    def __init__(self, plan: VideoPlan, origin: Fraction) -> None:
        self._plan, self._ring = plan, FrameRing(8, 4 * plan.width * plan.height)
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        more: dict[str, Any] = {"on_message": self._messages.put, "on_end": self._messages.put, "frames": self._ring}
        self._child = ChildProcess("benchmarks.gpu.runs:encode_frames", (plan, origin), name="encoder", **more)
        self._expect("ready")

    def _expect(self, message: str) -> None:
        if (answer := self._messages.get(timeout=60)) != message:
            raise RuntimeError(f"the encoder's process: {answer}")

    def encode(self, frame: Frame) -> None:
        image = fit(frame.image, self._plan)
        while (slot := self._ring.put(image)) is None:
            if not self._child.alive:
                self._expect("a free slot")
            time.sleep(2e-4)
        self._child.send((slot, FrameLayout.of(image), frame.pts, frame.time_base, frame.duration))

    def flush(self) -> None:
        self._child.send("end")
        self._expect("done")
        self._child.kill()
        self._ring.close()


def encode_frames(parent: ParentProcess, job: tuple[VideoPlan, Fraction]) -> None:
    """Encodes the frames that `_ChildEncoder` sends, in the child process."""
    encoder = _frame_encoder(*job)
    parent.send("ready")
    assert parent.frames is not None
    while (message := parent.receive()) != "end" and message is not None:
        slot, layout, *times = message
        encoder.encode(Frame(parent.frames.get(slot, layout), *times))
    encoder.flush()
    parent.send("done")


def _frame_encoder(plan: VideoPlan, origin: Fraction) -> FrameEncoder:
    context = new_context(plan)
    open_encoder(context)
    return FrameEncoder(context, plan, origin, Stats())
