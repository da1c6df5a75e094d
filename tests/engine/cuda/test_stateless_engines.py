"""Engines without memory on a GPU: neighbouring frames in one batch, other value ranges, and the average over time."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from rtface.config.options import Options
from rtface.correct import TemporalAverage
from rtface.device.cpu.device import CpuDevice
from rtface.engine.cuda.engine import GpuEngine
from rtface.engine.golden import GoldenResult
from rtface.engine.host_engine import HostEngine
from rtface.engine.recipe import load_recipe
from rtface.enhance.film import FilmEnhancer
from rtface.errors import EngineError
from rtface.protocols import Runtime
from rtface.stats import Stats
from tests.device.cuda.gpu_rig import FakePlan, open_with
from tests.device.cuda.test_cuda_device import Only, compare, film, run
from tests.engine.conftest import TEMPLATE
from tests.engine.tiny_onnx import convolutions, faithful


@pytest.fixture
def recipe(tmp_path):
    """A network that doubles contrast a little, on crops of 128 in values of −1…1."""
    data = convolutions(128, [(1.2, -0.02)])
    (tmp_path / "model.onnx").write_bytes(data)
    crops = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    given = crops.astype(np.float32).transpose(0, 3, 1, 2) / 255
    np.savez(tmp_path / "golden.npz", crops=crops, restored=np.clip((1.2 * (2 * given - 1) - 0.02 + 1) / 2, 0, 1))
    (tmp_path / "recipe.toml").write_text(
        TEMPLATE.format(
            name="plain", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), size=128, range="[-1.0, 1.0]"
        )
    )
    return load_recipe(tmp_path / "recipe.toml")


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
    worst, share = compare(mine, theirs)
    assert worst <= 1 and share < max(1e-3, share_limit)
    without = run(CpuDevice(), Only(on_cpu), [replace(frame, new=True) for frame in frames()])
    assert compare(theirs, without)[0] > 3
    on_cpu.close()


def test_the_host_waits_for_no_network(engine, device, monkeypatch):
    network, plan = engine
    step = FilmEnhancer(Runtime(device, Only(network)), Options(grain="none"), Stats(), analysis=False)
    for frame in film(frames=2, faces=1):
        step.collect(step.submit(frame))
    batches, ran, follow = len(plan.batches), [], TemporalAverage.follow

    def watched(self, *given, **more):
        ran.append(len(plan.batches))
        return follow(self, *given, **more)

    monkeypatch.setattr(TemporalAverage, "follow", watched)
    step.collect(step.submit(film(frames=3, faces=1)[2]))
    assert ran == [batches] and len(plan.batches) == batches + 1  # the GPU was not made to finish the network


def test_a_step_that_fails_leaves_no_average_behind(streams, engine, device, monkeypatch):
    network, _ = engine
    stats = Stats()
    step = FilmEnhancer(Runtime(device, Only(network)), Options(), stats, analysis=False)
    frames = film(frames=4)
    launch = type(streams.compute).launch

    def fails(self, kernel, *args, **more):
        if kernel == "shape_average":
            raise EngineError("no more of this")
        launch(self, kernel, *args, **more)

    out = []
    for k, frame in enumerate(frames):
        monkeypatch.setattr(type(streams.compute), "launch", fails if k == 1 else launch)
        out.append(step.collect(step.submit(frame)).touched)
        if k == 1:
            assert all(record.correction.average.kept is None for record in step.tracks.states.values())
    assert out == [True, False, True, True] and stats.counters["faults"] == 1


def test_a_crop_too_small_for_the_gpu_is_said_at_once(streams, recipe):
    small = replace(recipe, input=replace(recipe.input, size=48))
    with pytest.raises(EngineError, match="takes crops of 48, and on a GPU they have to be 64 or more"):
        GpuEngine(streams, small, FakePlan(recipe, streams.gpu), GoldenResult(100.0, 50.0, 0.0), "for a test")


@pytest.mark.parametrize(("fidelity", "gain"), [(None, 0.5), (0.75, 0.75)])
def test_a_control_is_the_same_for_every_crop_of_a_batch(streams, tmp_path, device, fidelity, gain):
    data = faithful(128)
    (tmp_path / "model.onnx").write_bytes(data)
    (tmp_path / "recipe.toml").write_text(
        TEMPLATE.format(
            name="faithful", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), size=128, range="[0.0, 1.0]"
        ).replace("[controls]", '[controls]\nfidelity = { name = "w", default = 0.5 }')
    )
    crops = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    answers = 0.5 * crops.astype(np.float32).transpose(0, 3, 1, 2) / 255  # with the control at its default
    np.savez(tmp_path / "golden.npz", crops=crops, restored=answers)
    recipe = replace(load_recipe(tmp_path / "recipe.toml"), fidelity=fidelity)
    plan, seen = FakePlan(recipe, streams.gpu), []
    session = plan.session.run
    plan.session = type(
        "Session",
        (),
        {
            "get_inputs": plan.session.get_inputs,
            "get_outputs": plan.session.get_outputs,
            "run": lambda self, names, given: seen.append(given["w"].copy()) or session(names, given),
        },
    )()
    engine = GpuEngine(streams, recipe, plan, GoldenResult(100.0, 50.0, 0.0), "for a test")
    assert {values.shape[0] for values in seen} == {1, 2, 4}
    assert all((values == np.float32(0.5)).all() for values in seen)
    seen.clear()
    step = FilmEnhancer(Runtime(device, Only(engine)), Options(), Stats(), analysis=False)
    assert all(frame.touched for frame in step(iter(film(frames=3))))
    assert max(values.shape[0] for values in seen) > 1
    assert all((values == np.float32(gain)).all() for values in seen)
    engine.close()
