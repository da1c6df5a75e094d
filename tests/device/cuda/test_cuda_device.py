"""The enhance step on a GPU, against the same step on the CPU: frames, faults, slots, and several films at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.device.cpu.device import CpuDevice
from rtface.device.cuda.device import CudaDevice
from rtface.device.cuda.stream_thread import StreamThread
from rtface.enhance.corrector import Helpers
from rtface.enhance.film import FilmEnhancer
from rtface.enhance.runtime_switch import RuntimeSwitch
from rtface.errors import DeviceLost
from rtface.frame import Color, Display
from rtface.pipeline.chain import join_fields, split_fields
from rtface.protocols import Runtime
from rtface.stats import Stats
from rtface.util.av_arrays import plane_rows
from tests.device.cuda.gpu_rig import FakeGpu
from tests.pipeline.fakes import coded_stage, face_at, frame_of, portrait


class Only:
    """Engines by name, the first for everyone; or one for each face, in turn."""

    def __init__(self, *engines):
        self.engines, self.next = engines, 0

    def pick(self, *_):
        self.next += 1
        return self.engines[self.next % len(self.engines)]

    def named(self, name):
        return next(e for e in self.engines if e.name == name)


def film(fmt="yuv420p", frames=2, *, faces=2, flecks=False, **more):
    """A portrait that moves, and a second face that overlaps nothing."""
    out = []
    for t in range(frames):
        picture, points = portrait(480, 300, blur=1.2, scale=0.9, shift=(60 + 1.5 * t, 30 + 0.3 * t))
        if flecks:
            x, y = np.mean(points, 0).astype(int)
            picture[y - 1 : y + 2, x - 20 : x + 20 : 9] = 255
        seen = (face_at(points), face_at(points - [150.0, 10.0], 2))
        out.append(replace(frame_of(picture, t, fmt), faces=seen[:faces], **more))
    return out


def run(device, engines, frames, stats=None, *, coded=None, **options):
    step = FilmEnhancer(
        Runtime(device, engines),
        Options(**options),
        stats or Stats(),
        analysis=coded is not None,
        helpers=Helpers(coded=coded),
    )
    return list(join_fields(step(split_fields(iter(frames)))))


def planes(frame):
    return [np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].copy() for p in frame.image.planes]


def codes(frame):
    """The samples of all planes as whole numbers."""
    wide = frame.image.format.components[0].bits > 8
    kind = np.dtype((">" if frame.image.format.name.endswith("be") else "<") + ("u2" if wide else "u1"))
    # What a decoder pads its planes with is no sample.
    return [plane_rows(plane).reshape(-1).view(kind).astype(int) for plane in frame.image.planes]


def compare(mine, theirs):
    """The largest difference in code values, and the share of samples that differ."""
    differ = [np.abs(a - b) for x, y in zip(mine, theirs, strict=True) for a, b in zip(codes(x), codes(y), strict=True)]
    return max(int(d.max()) for d in differ), float(np.mean([np.mean(d > 0) for d in differ]))


@pytest.mark.parametrize(
    ("fmt", "more"),
    [
        ("yuv420p", {}),
        pytest.param("rgb24", {}, marks=pytest.mark.slow),
        pytest.param("gray", {}, marks=pytest.mark.slow),
        ("yuv420p10be", {}),
        ("yuv420p", {"display": Display(fields="tff")}),
        ("yuv420p10le", {"color": Color("bt2020", transfer="pq", primaries=9)}),
        ("yuv420p", {"new": True, "flecks": True}),
    ],
    ids=["420", "rgb", "gray", "be", "tff", "pq", "still"],
)
def test_a_film_is_the_same_as_on_the_cpu(streams, device, on_cpu, fmt, more, engine_on, share_limit):
    engine, plan = engine_on(streams)
    before = [codes(f) for f in film(fmt, **more)]
    mine, stats = run(device, Only(engine), film(fmt, **more)), Stats()
    theirs = run(CpuDevice(), Only(on_cpu["rtface-s"]), film(fmt, **more), stats)
    assert not stats.counters["faults"]
    worst, share = compare(mine, theirs)
    assert worst <= 1
    assert share < share_limit
    assert np.mean(codes(mine[0])[0] != before[0][0]) > 0.01  # no comparison of untouched frames
    assert max(plan.batches) == 2
    engine.close()


def test_the_gpu_sees_what_the_first_stage_made(streams, device, on_cpu, engine_on, share_limit):
    """Of frames in the host's memory, before they are uploaded."""
    engine, _ = engine_on(streams)
    mine = run(device, Only(engine), film(faces=1), coded=coded_stage(), region="head")
    theirs = run(CpuDevice(), Only(on_cpu["rtface-s"]), film(faces=1), coded=coded_stage(), region="head")
    assert np.mean(mine[0].image.to_ndarray() != film(faces=1)[0].image.to_ndarray()) > 0.05
    worst, share = compare(mine, theirs)
    assert worst <= 1 and share < share_limit
    engine.close()


def test_a_format_that_has_to_be_converted_says_so(streams, on_cpu, engine_on):
    said = []
    device = CudaDevice(streams, warn=lambda key, text: said.append(text))
    engine, _ = engine_on(streams)
    mine = run(device, Only(engine), film("rgb8"))
    assert [f.image.format.name for f in mine] == ["rgb24"] * 2
    assert said and "converted from rgb8 to rgb24" in said[0]
    engine.close()
    device.close()


def test_samples_beside_the_faces_stay_bit_for_bit(streams, device, engine_on):
    engine, _ = engine_on(streams)
    before = [planes(f) for f in film(faces=1)]
    for was, frame in zip(before, run(device, Only(engine), film(faces=1)), strict=True):
        x0, y0, x1, y1 = frame.faces[0].box
        change = planes(frame)[0].astype(int) - was[0]
        ys, xs = np.nonzero(change)
        assert xs.min() > x0 - 30 and xs.max() < x1 + 30 and ys.min() > y0 - 50 and ys.max() < y1 + 50
    engine.close()


def test_answers_that_are_not_numbers_let_the_frame_through(streams, device, engine_on):
    wrong = {"now": False}
    engine, _ = engine_on(
        streams, capturable=False, spoil=lambda name, v: v * np.nan if wrong["now"] and name == "residual" else v
    )
    stats, frames = Stats(), film(frames=4)
    before = [planes(f) for f in film(frames=4)]
    step = FilmEnhancer(Runtime(device, Only(engine)), Options(), stats, analysis=False)
    out = []
    for k, frame in enumerate(frames):
        wrong["now"] = k == 1
        out.append(step.collect(step.submit(frame)))
    assert [f.touched for f in out] == [True, False, True, True]
    assert all(np.array_equal(a, b) for a, b in zip(planes(out[1]), before[1], strict=True))
    assert stats.counters["faults"] == 1
    engine.close()


def test_a_lost_gpu_ends_a_film_and_live_goes_on_with_the_cpu(host_kernels, on_cpu, engine_on):
    for live in (False, True):
        streams = StreamThread(lambda: FakeGpu(host_kernels))
        device, stats = CudaDevice(streams), Stats()
        engine, _ = engine_on(streams)
        fallback = (lambda: Runtime(CpuDevice(), Only(on_cpu["rtface-s"]))) if live else None
        switch = RuntimeSwitch(Runtime(device, Only(engine)), stats, fallback=fallback)
        step = FilmEnhancer(switch, Options(), stats, analysis=False)
        done = []
        try:
            for k, frame in enumerate(film(frames=5)):
                streams.gpu.lost = k >= 2
                done.append(step.collect(step.submit(frame)).touched)
        except DeviceLost:
            assert not live
        assert done == ([True, True, False, True, True] if live else [True, True])
        device.close()
        streams.close()


def test_the_loop_reserves_nothing_after_its_first_frames(streams, device, engine_on):
    engine, _ = engine_on(streams)
    step = FilmEnhancer(Runtime(device, Only(engine)), Options(), Stats(), analysis=False)
    reserved = [streams.gpu.allocations for _ in step(iter(film(frames=5)))]
    assert reserved[2:] == [reserved[2]] * 3
    engine.close()


def test_crops_that_are_not_pasted_give_their_slots_back(streams, device):
    frame = film(frames=1)[0]
    matrix = np.array([[0.5, 0.0, -20.0], [0.0, 0.5, -10.0]])
    for _ in range(3):
        crops = device.cut(frame, [(matrix, 256), (matrix, 256)])
        reserved = streams.gpu.allocations
        device.drop(crops)
        device.drop(crops)  # once more does no harm
    assert streams.gpu.allocations == reserved
    assert device.cut(frame, []) == []


def test_a_frame_passes_through_where_not_even_that_gives_room(streams, device, engine_on):
    """The second frame is the first with two faces."""
    engine, plan = engine_on(streams)
    stats, frames = Stats(), film(frames=3)
    step = FilmEnhancer(Runtime(device, Only(engine)), Options(), stats, analysis=False)
    before, whole, out = planes(frames[1]), streams.gpu.memory, []
    for k, frame in enumerate(frames):
        streams.gpu.memory = 0 if k == 1 else whole
        out.append(step.collect(step.submit(frame if k else replace(frame, faces=frame.faces[:1]))))
    assert [frame.touched for frame in out] == [True, False, True]
    assert all(np.array_equal(a, b) for a, b in zip(planes(out[1]), before, strict=True))
    assert stats.counters["faults"] == 1
    assert plan.batches == [1, 2]
    engine.close()
