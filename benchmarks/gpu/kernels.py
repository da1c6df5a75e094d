"""What the kernels take: crops, pastes and shaping of eight faces in 1080p, and how near the memory's rate they come.

Kernels are captured in a graph, so that launching does not count, and timed by the GPU. The baseline is a copy within
the GPU's memory in the same run, counted as bytes read and written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu.frames import Film
from benchmarks.gpu.machine import Bench, interleaved, quantiles
from rtface.correct import CorrectionState, CpuShaper, ShapingOptions, decide, face_mask, face_region_of, irises
from rtface.correct.grain import sheet
from rtface.device.cuda import shaping
from rtface.device.cuda.composite import PastePlan
from rtface.device.cuda.crop import CropPlan
from rtface.device.cuda.gpu import Memory
from rtface.device.cuda.kernels import KernelCall, LaunchList
from rtface.device.cuda.staging import StagedSamples
from rtface.frame import Frame
from rtface.geometry.alignment import crop_matrix
from rtface.geometry.planes import layout, planes


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--faces", type=int, default=8, help="kernels: faces in the frame")


class Room:
    """Memory of the GPU that holds arrays of the host, for one measurement."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.pieces: list[Memory] = []

    def take(self, nbytes: int) -> Memory:
        piece = self._bench.run(lambda: self._bench.streams.gpu.allocate(max(nbytes, 256)))
        self.pieces.append(piece)
        return piece

    def put(self, array: np.ndarray) -> Memory:
        """A copy of an array."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory, streams = self.take(len(data)), self._bench.streams

        def go() -> None:
            pinned, done = streams.gpu.pin(max(len(data), 1)), streams.gpu.event()
            pinned.bytes()[: len(data)] = data
            if len(data):
                streams.compute.copy(memory, pinned, len(data))
            streams.compute.record(done)
            done.synchronize()
            pinned.close()

        self._bench.run(go)
        return memory

    def close(self) -> None:
        self._bench.settle()
        for piece in self.pieces:
            self._bench.run(piece.close)
        self.pieces.clear()


def timed(bench: Bench, room: Room, steps: Sequence[KernelCall]) -> Callable[[], float]:
    """Gives milliseconds of all steps in turn, of which a graph holds a hundred."""
    inner, repeats = bench.count(10, 1), bench.count(10, 1)
    memories = list(room.pieces)

    def build() -> None:
        for _ in range(inner):
            for k in steps:
                bench.streams.compute.launch(k.kernel, k.grid, k.block, *k.args, reads=memories, writes=memories)

    graph = bench.run(lambda: bench.streams.compute.capture(build))
    return lambda: bench.milliseconds(lambda stream: stream.replay(graph), repeats) / inner


def measure(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """See the module."""
    result: dict[str, Any] = {"what": __doc__.splitlines()[0]}
    copies = _copy(bench)
    result["device_copy_gb_per_s"] = round(copies, 1)
    faces = args.faces if not bench.dry else 2
    for name in ("nv12", "yuv420p")[: bench.count(2, 1)]:
        for size in (512, 256)[: bench.count(2, 1)]:
            result[f"{faces} faces of {size} in 1080p {name}"] = _frame(bench, name, faces, size, copies)
    many = bench.count(128, 2)
    result[f"{many} crops of 512"] = _many_crops(bench, many, copies)
    result[f"shaping of {faces} faces"] = _shaping(bench, faces, bench.count(512, 256), copies)
    return result


def _copy(bench: Bench) -> float:
    """GB/s of a copy within the GPU's memory, of much more than its cache holds."""
    nbytes = bench.count(2 << 30, 1 << 20)
    room = Room(bench)
    a, b = room.take(nbytes), room.take(nbytes)
    times = [
        bench.milliseconds(lambda stream: stream.copy(b, a, nbytes), bench.count(5, 1))
        for _ in range(bench.count(8, 1))
    ]
    room.close()
    return 2 * nbytes / float(np.median(times)) / 1e6


def _told(ms: Sequence[float], nbytes: int, copies: float) -> dict[str, Any]:
    """Microseconds, and what they are for so many bytes, each read or written once."""
    rate = nbytes / float(np.median(ms)) / 1e6
    return {
        "us": quantiles([1e3 * v for v in ms], 2),
        "megabytes": round(nbytes / 1e6, 2),
        "gb_per_s": round(rate, 1),
        "of_copy": round(rate / copies, 3),
    }


def _steps(job: LaunchList, room: Room) -> list[KernelCall]:
    return job.steps(room.put(job.descriptors).address) if job.launches else []


def _places(frame: Frame, size: int) -> np.ndarray:
    return np.stack([crop_matrix(face, size) for face in frame.faces])


def _frame(bench: Bench, name: str, faces: int, size: int, copies: float) -> dict[str, Any]:
    """One frame's crops, and its pastes."""
    frame = Film(1920, 1080, faces, 200, name, 1).frame(0)
    form = layout(name)
    assert form is not None
    matrices = _places(frame, size)
    room = Room(bench)
    crop = CropPlan(frame, form, matrices, size)
    surface = StagedSamples(form, crop.parts)
    held = np.zeros(surface.nbytes, np.uint8)
    surface.load(planes(frame.image, form), held)
    block, scratch = room.put(held), room.take(crop.scratch)
    pixels = [room.take(12 * size * size) for _ in range(faces)]
    rng, mask = np.random.default_rng(0), face_mask(size)
    values = [room.put((rng.normal(0, 0.05, (3, size, size)) * mask).astype(np.float32)) for _ in range(faces)]
    masks = [room.put(mask) for _ in range(faces)]
    crops = _steps(crop.job(surface, block.address, [p.address for p in pixels], scratch=scratch.address), room)
    paste = PastePlan(frame, form, matrices, [size] * faces)
    more = room.take(paste.scratch)
    pastes = _steps(
        paste.job(surface, block.address, [v.address for v in values], [m.address for m in masks], more.address), room
    )
    subjects = {
        "crop": timed(bench, room, crops),
        "paste": timed(bench, room, pastes),
        "crop and paste": timed(bench, room, [*crops, *pastes]),
    }
    times = interleaved(subjects, bench.count(30, 1), bench.count(3, 0))
    room.close()
    least = {
        "crop": surface.nbytes + 12 * size * size * faces,
        "paste": 2 * sum(n for _, n in surface.spans(paste.parts)) + 16 * size * size * faces,
    }
    least["crop and paste"] = sum(least.values())
    return {what: _told(ms, least[what], copies) for what, ms in times.items()}


def _many_crops(bench: Bench, count: int, copies: float) -> dict[str, Any]:
    """More crops than the cache holds: how much of the memory's rate is reached."""
    size = bench.count(512, 64)
    frame = Film(1920, 1080, 4, 400, "nv12", 1).frame(0)
    form = layout("nv12")
    assert form is not None
    matrices = np.stack([_places(frame, size)[n % 4] + [[0, 0, n % 7], [0, 0, n % 5]] for n in range(count)])
    room = Room(bench)
    plan = CropPlan(frame, form, matrices, size)
    surface = StagedSamples(form, plan.parts)
    held = np.zeros(surface.nbytes, np.uint8)
    surface.load(planes(frame.image, form), held)
    block, scratch, pixels = room.put(held), room.take(plan.scratch), room.take(12 * size * size * count)
    steps = _steps(
        plan.job(
            surface,
            block.address,
            [pixels.address + 12 * size * size * n for n in range(count)],
            scratch=scratch.address,
        ),
        room,
    )
    subject = timed(bench, room, steps)
    times = interleaved({"crops": subject}, bench.count(20, 1), bench.count(2, 0))["crops"]
    room.close()
    nbytes = surface.nbytes + 12 * size * size * count
    return {**_told(times, nbytes, copies), "launches": [s.kernel for s in steps]}


def _shaping(bench: Bench, count: int, size: int, copies: float) -> dict[str, Any]:
    """Measuring and applying for so many faces in one launch."""
    rng, mask, option = np.random.default_rng(0), face_mask(size), ShapingOptions(detail=1.0)
    area = face_region_of(mask, size, irises(size, None), 1.0)
    assert area is not None
    room = Room(bench)
    rows, told = list[bytes](), list[bytes]()
    tile = room.put(sheet(1)[:512, :512])
    for _ in range(count):
        c = np.clip(rng.normal(0.5, 0.05, (3, size, size)), 0, 1).astype(np.float32)
        r = np.clip(c + rng.normal(0.02, 0.02, c.shape), 0, 1).astype(np.float32)
        r_at, c_at, mask_at = (room.put(a).address for a in (r, c, mask))
        out, final, into, work = (
            room.take(4 * k).address
            for k in (3 * size * size, size * size, shaping.measure_floats(size), shaping.scratch_floats(size))
        )
        rows.append(
            shaping.face_of(area, option, shaping.FaceAddresses(r_at, c_at, out, final, mask_at, size, into, work))
        )
        controls = decide(CpuShaper(r, c, area).measure(option), area, CorrectionState(), option, time=0.0)
        coarseness = controls.grain.coarseness if controls.grain else 1
        told.append(shaping.control_of(controls, {coarseness: tile.address}))
    faces, control = (room.put(np.frombuffer(b"".join(each), np.uint8)).address for each in (rows, told))
    subjects = {
        "measure": timed(bench, room, shaping.measure_launches(size, count, faces)),
        "apply": timed(bench, room, shaping.apply_launches(size, count, faces, control)),
    }
    times = interleaved(subjects, bench.count(20, 1), bench.count(2, 0))
    room.close()
    least = {"measure": 24 * size * size * count, "apply": (24 + 4 + 4 + 4 + 12 + 4) * size * size * count}
    return {what: _told(ms, least[what], copies) for what, ms in times.items()}
