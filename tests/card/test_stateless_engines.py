"""Engines without memory on a card: neighbouring frames in one batch, other value ranges, and the average over time."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import numpy as np
import pytest
from card_rig import FakePlan
from test_cuda_device import Only, codes, compare, film, run

from rtface.config import Options
from rtface.device.cpu import CpuDevice
from rtface.device.cuda import CudaDevice
from rtface.engine import LoadedEngine
from rtface.engine.card_engine import CardEngine
from rtface.engine.plan import Verdict
from rtface.engine.recipe import load_recipe
from rtface.enhance import Enhance
from rtface.errors import EngineError
from rtface.stats import Stats
from tests.engine.conftest import TEMPLATE
from tests.engine.tiny_onnx import convolutions


@pytest.fixture
def recipe(tmp_path):
    """A network that doubles contrast a little, on crops of 128 in values of −1…1."""
    data = convolutions(128, [(1.2, -0.02)])
    (tmp_path / "model.onnx").write_bytes(data)
    crops = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    given = crops.astype(np.float32).transpose(0, 3, 1, 2) / 255
    np.savez(tmp_path / "golden.npz", crops=crops, restored=np.clip((1.2 * (2 * given - 1) - 0.02 + 1) / 2, 0, 1))
    (tmp_path / "recipe.toml").write_text(TEMPLATE.format(
        name="plain", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), size=128, range="[-1.0, 1.0]"))
    return load_recipe(tmp_path / "recipe.toml")


@pytest.fixture
def engine(owner, recipe):
    plan = FakePlan(recipe, owner.card)
    engine = CardEngine(owner, recipe, plan, Verdict(100.0, 50.0, 0.0), "for a test")
    plan.batches.clear()
    yield engine, plan
    engine.close()


def test_a_film_is_the_same_as_on_the_cpu(owner, engine, recipe):
    device, on_cpu = CudaDevice(owner), LoadedEngine(recipe, device="onnx")
    mine = run(device, Only(engine[0]), film())
    theirs = run(CpuDevice(), Only(on_cpu), film())
    worst, share = compare(mine, theirs)
    assert worst <= 1 and share < 1e-3
    assert np.mean(codes(mine[0])[0] != codes(film()[0])[0]) > 0.01
    on_cpu.close()
    device.close()


def test_neighbouring_frames_share_a_batch(owner, engine):
    device = CudaDevice(owner)
    step = Enhance(device, Only(engine[0]), Options(), Stats(), analysis=False)
    jobs = [step.submit(frame) for frame in film(frames=1, faces=1)]  # what has to be reserved is reserved
    assert step.collect(jobs.pop()).touched
    engine[1].batches.clear()
    begun, gate = threading.Event(), threading.Event()
    slots = [step.submit(frame) for frame in film(frames=3, faces=1)]
    for job in slots:
        step.collect(job)
    owner.run(lambda: (begun.set(), gate.wait(10)))
    assert begun.wait(10)
    jobs = [step.submit(frame) for frame in film(frames=3, faces=1)]
    gate.set()
    assert all(step.collect(job).touched for job in jobs)
    assert engine[1].batches[-1] == 3
    device.close()


def test_a_crop_too_small_for_the_card_is_said_at_once(owner, recipe):
    small = replace(recipe, input=replace(recipe.input, size=48))
    with pytest.raises(EngineError, match="takes crops of 48, and on a card they have to be 64 or more"):
        CardEngine(owner, small, FakePlan(recipe, owner.card), Verdict(100.0, 50.0, 0.0), "for a test")
