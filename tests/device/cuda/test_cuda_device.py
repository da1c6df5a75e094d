"""The enhance step on a GPU, against the same step on the CPU: frames, faults, slots, and several films at once."""

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


def enhancer(device, engines, stats=None, *, coded=None, **options):
    """The step of a film, without analysis."""
    runtime = Runtime(device, engines)
    helpers = Helpers(coded=coded)
    return FilmEnhancer(runtime, Options(**options), stats or Stats(), analysis=coded is not None, helpers=helpers)


def run(device, engines, frames, stats=None, **more):
    return list(join_fields(enhancer(device, engines, stats, **more)(split_fields(iter(frames)))))


def one_by_one(step, frames, before):
    """Each frame through the step, and back, after `before(k)`."""
    out = []
    for k, frame in enumerate(frames):
        before(k)
        out.append(step.collect(step.submit(frame)))
    return out


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


def near(mine, theirs, limit, unit=1):
    """They differ by one code value at most, in a share of samples below the limit."""
    worst, share = compare(mine, theirs)
    assert worst <= unit and share < limit


@pytest.mark.parametrize(
    ("fmt", "more"),
    [
        ("yuv420p", {}),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in ("rgb24", "gray")),
        ("yuv420p10be", {}),
        ("yuv420p", {"display": Display(fields="tff")}),
        ("yuv420p10le", {"color": Color("bt2020", transfer="pq", primaries=9)}),
        ("yuv420p", {"new": True, "flecks": True}),
    ],
    ids=["420", "rgb", "gray", "be", "tff", "pq", "still"],
)
def test_a_film_is_the_same_as_on_the_cpu(streams, device, on_cpu, fmt, more, engine_on, share_limit):
    engine, plan = engine_on(streams)
    mine, stats = run(device, Only(engine), film(fmt, **more)), Stats()
    theirs = run(CpuDevice(), Only(on_cpu["rtface-s"]), film(fmt, **more), stats)
    assert not stats.counters["faults"]
    near(mine, theirs, share_limit)
    assert np.mean(codes(mine[0])[0] != codes(film(fmt, **more)[0])[0]) > 0.01  # no comparison of untouched frames
    assert max(plan.batches) == 2


def test_the_gpu_sees_what_the_first_stage_made(streams, device, on_cpu, engine_on, share_limit):
    """Of frames in the host's memory, before they are uploaded."""
    engine, _ = engine_on(streams)
    mine = run(device, Only(engine), film(faces=1), coded=coded_stage(), region="head")
    theirs = run(CpuDevice(), Only(on_cpu["rtface-s"]), film(faces=1), coded=coded_stage(), region="head")
    assert np.mean(mine[0].image.to_ndarray() != film(faces=1)[0].image.to_ndarray()) > 0.05
    near(mine, theirs, share_limit)


def test_a_format_that_has_to_be_converted_says_so(streams, on_cpu, engine_on):
    said = []
    device = CudaDevice(streams, warn=lambda key, text: said.append(text))
    engine, _ = engine_on(streams)
    mine = run(device, Only(engine), film("rgb8"))
    assert [f.image.format.name for f in mine] == ["rgb24"] * 2
    assert said and "converted from rgb8 to rgb24" in said[0]
    device.close()


def test_crops_that_are_not_pasted_give_their_slots_back(streams, device):
    frame, matrix = film(frames=1)[0], np.array([[0.5, 0.0, -20.0], [0.0, 0.5, -10.0]])
    for _ in range(3):
        crops = device.cut(frame, [(matrix, 256), (matrix, 256)])
        reserved = streams.gpu.allocations
        device.drop(crops)
        device.drop(crops)  # once more does no harm
    assert streams.gpu.allocations == reserved


def test_what_cannot_be_corrected_passes_through(streams, device, engine_on):
    """Answers that are not numbers, and no memory for a frame with two faces after one with a single face."""
    wrong = {"now": False}
    engine, plan = engine_on(
        streams, capturable=False, spoil=lambda name, v: v * np.nan if wrong["now"] and name == "residual" else v
    )
    stats, frames = Stats(), [film(faces=1)[0], *film(frames=5)[1:]]
    given, whole = [codes(frame) for frame in frames], streams.gpu.memory

    def before(k):
        wrong["now"] = k == 3
        streams.gpu.memory = 0 if k == 1 else whole

    out = one_by_one(enhancer(device, Only(engine), stats), frames, before)
    assert [frame.touched for frame in out] == [True, False, True, False, True]
    for k in (1, 3):
        assert all(np.array_equal(a, b) for a, b in zip(codes(out[k]), given[k], strict=True))
    assert stats.counters["faults"] == 2 and plan.batches == [1, 2, 2, 2]


def test_a_lost_gpu_ends_a_film_and_live_goes_on_with_the_cpu(host_kernels, on_cpu, engine_on):
    for live in (False, True):
        streams = StreamThread(lambda: FakeGpu(host_kernels))
        device, stats = CudaDevice(streams), Stats()
        engine, _ = engine_on(streams)
        fallback = (lambda: Runtime(CpuDevice(), Only(on_cpu["rtface-s"]))) if live else None
        switch = RuntimeSwitch(Runtime(device, Only(engine)), stats, fallback=fallback)
        step, done = FilmEnhancer(switch, Options(), stats, analysis=False), []
        try:
            for k, frame in enumerate(film(frames=5)):
                streams.gpu.lost = k >= 2
                done.append(step.collect(step.submit(frame)).touched)
        except DeviceLost:
            assert not live
        assert done == ([True, True, False, True, True] if live else [True, True])
        engine.close()
        device.close()
        streams.close()


def test_the_loop_reserves_nothing_after_its_first_frames(streams, device, engine_on):
    engine, _ = engine_on(streams)
    step = enhancer(device, Only(engine))
    reserved = [streams.gpu.allocations for _ in step(iter(film(frames=5)))]
    assert reserved[2:] == [reserved[2]] * 3
