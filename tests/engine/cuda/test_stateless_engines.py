"""Engines without memory on a GPU: neighbouring frames in one batch, other value ranges, and the average over time."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rtface.correct.temporal import TemporalAverage
from rtface.device.cpu.device import CpuDevice
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.golden import GoldenResult
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import load_recipe
from rtface.errors import EngineError
from rtface.stats import Stats
from tests.device.cuda.fake_gpu import FakeStream
from tests.device.cuda.gpu_rig import FakePlan, open_with
from tests.device.cuda.test_cuda_device import Only, compare, enhancer, film, near, one_by_one, run


@pytest.fixture
def recipe(make_engine):
    """A network that doubles contrast a little, on crops of 128 in values of −1…1."""
    folder = make_engine(
        "plain", ((1.2, -0.02),), size=128, range_="[-1.0, 1.0]", answer=lambda x: np.clip(1.2 * x - 0.11, 0, 1)
    )
    return load_recipe(folder / "recipe.toml")


@pytest.fixture
def engine(streams, recipe):
    made = open_with(streams, recipe)
    yield made
    made[0].close()


@pytest.mark.parametrize("fmt", ["yuv420p", pytest.param("yuv420p10be", marks=pytest.mark.slow)])
def test_the_average_over_time_is_that_of_the_cpu(engine, recipe, device, fmt, share_limit):
    """Frames that move, one that is missing, a cut and a pause; the second face leaves and comes again."""

    def frames():
        out = film(fmt, frames=9)
        out[3] = replace(out[3], faces=out[3].faces[:1])
        out[5] = replace(out[5], cut=True)
        return [replace(frame, pts=frame.pts + 25 * (k > 7)) for k, frame in enumerate(out)]

    on_cpu = HostEngine(recipe, device="onnx")
    theirs = run(CpuDevice(), Only(on_cpu), frames())
    mine = run(device, Only(engine[0]), frames())
    near(mine, theirs, max(1e-3, share_limit))
    without = run(CpuDevice(), Only(on_cpu), [replace(frame, new=True) for frame in frames()])
    assert compare(theirs, without)[0] > 3
    on_cpu.close()


def test_the_host_waits_for_no_network(engine, device, monkeypatch):
    network, plan = engine
    step = enhancer(device, Only(network), grain="none")
    one_by_one(step, film(frames=2, faces=1), lambda k: None)
    batches, ran, follow = len(plan.batches), [], TemporalAverage.follow

    def watched(self, *given, **more):
        ran.append(len(plan.batches))
        return follow(self, *given, **more)

    monkeypatch.setattr(TemporalAverage, "follow", watched)
    step.collect(step.submit(film(frames=3, faces=1)[2]))
    assert ran == [batches] and len(plan.batches) == batches + 1  # the GPU was not made to finish the network


def test_a_step_that_fails_leaves_no_average_behind(streams, engine, device, monkeypatch):
    stats, wrong, launch = Stats(), {"now": False}, FakeStream.launch
    step = enhancer(device, Only(engine[0]), stats)

    def launched(self, kernel, *args, **more):
        if wrong["now"] and kernel == "shape_average":
            raise EngineError("no more of this")
        launch(self, kernel, *args, **more)

    def before(k):
        wrong["now"] = k == 1
        if k == 2:
            assert all(record.correction.average.kept is None for record in step.tracks.states.values())

    monkeypatch.setattr(FakeStream, "launch", launched)
    out = one_by_one(step, film(frames=4), before)
    assert [frame.touched for frame in out] == [True, False, True, True] and stats.counters["faults"] == 1


def test_a_crop_too_small_for_the_gpu_is_said_at_once(streams, recipe):
    small = replace(recipe, input=replace(recipe.input, size=48))
    with pytest.raises(EngineError, match="uses crops of 48 px, but a GPU needs 64 px or more"):
        GpuEngine(streams, small, FakePlan(recipe, streams.gpu), GoldenResult(100.0, 50.0, 0.0), "for a test")


@pytest.mark.parametrize(("fidelity", "gain"), [(None, 0.5), (0.75, 0.75)])
def test_a_control_is_the_same_for_every_crop_of_a_batch(streams, make_faithful, device, fidelity, gain):
    recipe = replace(load_recipe(make_faithful() / "recipe.toml"), fidelity=fidelity)
    plan, seen = FakePlan(recipe, streams.gpu), []
    session = plan.session

    def noting(names, given):
        seen.append(given["w"].copy())
        return session.run(names, given)

    plan.session = SimpleNamespace(get_inputs=session.get_inputs, get_outputs=session.get_outputs, run=noting)
    engine = GpuEngine(streams, recipe, plan, GoldenResult(100.0, 50.0, 0.0), "for a test")
    assert {values.shape[0] for values in seen} == {1, 2, 4}
    assert all((values == np.float32(0.5)).all() for values in seen)
    seen.clear()
    assert all(frame.touched for frame in run(device, Only(engine), film(frames=3)))
    assert max(values.shape[0] for values in seen) > 1
    assert all((values == np.float32(gain)).all() for values in seen)
    engine.close()
