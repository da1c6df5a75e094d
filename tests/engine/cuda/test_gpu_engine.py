"""Engines on a GPU: answers to the golden crops, batches, memories, graphs, and what happens when memory runs out."""

from concurrent.futures import Future
from contextlib import suppress
from unittest.mock import MagicMock

import numpy as np
import pytest

from rtface.device.cuda.frame_slots import FaceSlot
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.golden import load_golden, psnr
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory
from tests.device.cuda.fake_gpu import FakeStream
from tests.device.cuda.gpu_rig import FakeGpu, hold


class Bench:
    """Puts crops on the GPU and fetches what became of them."""

    def __init__(self, streams, size, count):
        self.streams, self.size = streams, size
        gpu = streams.gpu
        self.faces = [streams.run(lambda: FaceSlot.reserve(gpu, size)).result() for _ in range(count)]
        self.pinned = streams.run(lambda: gpu.pin(12 * size**2)).result()

    def _wait(self, copy):
        def go():
            event = self.streams.gpu.event()
            copy()
            self.streams.compute.record(event)
            event.synchronize()

        self.streams.run(go).result()

    def put(self, crops):
        for face, crop in zip(self.faces, crops, strict=True):
            self.pinned.bytes().view(np.float32)[: crop.size] = crop.ravel()
            self._wait(lambda f=face: self.streams.compute.copy(f.memory, self.pinned, 12 * self.size**2))

    def get(self, face):
        at = face.restored - face.memory.address
        self._wait(lambda: self.streams.compute.copy(self.pinned, face.memory, 12 * self.size**2, source_at=at))
        return self.pinned.bytes().view(np.float32)[: 3 * self.size**2].reshape(3, self.size, self.size).copy()

    def close(self):
        with suppress(DeviceLost):  # what a lost GPU held is lost with it
            for memory in (*(f.memory for f in self.faces), self.pinned):
                self.streams.run(memory.close).result()


@pytest.fixture
def bench(streams):
    made = []

    def make(size, count):
        made.append(Bench(streams, size, count))
        return made[-1]

    yield make
    for one in made:
        one.close()


def quality(engine, faces, after=None):
    """dB of the first golden crop's answer."""
    crops, answers = load_golden(engine.recipe)
    faces.put(crops[:1])
    engine.submit(faces.faces[0], after).result(10)
    return psnr(faces.get(faces.faces[0]), answers[0])


@pytest.mark.parametrize(("name", "capturable"), [("rtface-s", True), ("rtface-m", False)])
def test_golden_crops_and_the_frames_after_them_in_batches(streams, bench, name, capturable, engine_on):
    engine, plan = engine_on(streams, name, capturable=capturable)
    firsts, first_answers = load_golden(engine.recipe)
    seconds, second_answers = load_golden(engine.recipe, "next_")
    faces = bench(engine.size, len(firsts))
    replays = streams.gpu.replays
    before = [None] * len(firsts)
    for crops, answers in ((firsts, first_answers), (seconds, second_answers)):
        faces.put(crops)
        gate = hold(streams)
        before = [engine.submit(face, after) for face, after in zip(faces.faces, before, strict=True)]
        gate.set()
        for promise in before:
            promise.result(10)
        worst = min(psnr(faces.get(face), answer) for face, answer in zip(faces.faces, answers, strict=True))
        assert worst > engine.recipe.golden.psnr.f32
    assert plan.batches == 2 * {6: [4, 2], 3: [4]}[len(firsts)]  # three crops and an empty row
    assert (streams.gpu.replays - replays > 0) == capturable
    engine.close()
    assert plan.closed


def test_the_loop_reserves_nothing_and_memories_are_used_again(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    crops, _ = load_golden(engine.recipe)
    faces = bench(engine.size, 2)
    faces.put(crops[:2])
    before = [None, None]
    for k in range(12):  # more frames than there are places: those of frames gone by are free again
        before = [engine.submit(face, after) for face, after in zip(faces.faces, before, strict=True)]
        [promise.result(10) for promise in before]
        if k == 1:
            reserved = streams.gpu.allocations
    assert streams.gpu.allocations == reserved


def test_what_comes_after_a_failure_begins_without_memory(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    failed = Future()
    failed.set_exception(EngineError("not a number"))
    assert quality(engine, bench(engine.size, 1), failed) > engine.recipe.golden.psnr.f32


def test_with_too_little_memory_the_batch_is_halved_and_said(host_kernels, caplog, engine_on):
    whole = StreamThread(lambda: FakeGpu(host_kernels))
    engine_on(whole)[0].close()
    whole.close()
    # Four crops at a time want eight slots beside the engine. Its golden crops had four at the peak.
    streams = StreamThread(lambda: FakeGpu(host_kernels, memory=whole.gpu.peak + 2 * FaceSlot.bytes_of(256)))
    with caplog.at_level("WARNING"):
        engine, plan = engine_on(streams)
    assert engine.max_batch == 2
    assert "batches of 2 instead of 4" in caplog.text
    bench = Bench(streams, engine.size, 3)
    bench.put(load_golden(engine.recipe)[0][:3])
    gate = hold(streams)
    promises = [engine.submit(face) for face in bench.faces]
    gate.set()
    [p.result(10) for p in promises]
    assert psnr(bench.get(bench.faces[2]), load_golden(engine.recipe)[1][2]) > 50
    assert plan.batches == [2, 1]
    bench.close()
    engine.close()
    streams.gpu.memory = 1 << 20
    with pytest.raises(OutOfDeviceMemory):
        engine_on(streams)
    streams.close()
    streams.gpu.close()


def test_a_crop_without_memory_fails_and_the_next_one_works(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    faces = bench(engine.size, 1)
    before = [engine.submit(faces.faces[0]) for _ in range(2)]  # who hold what is remembered so far
    streams.run(lambda: setattr(streams.gpu, "refuse", 1)).result()
    held = [engine.submit(faces.faces[0]) for _ in range(3)]
    with pytest.raises(OutOfDeviceMemory):
        [promise.result(10) for promise in (*held, *before)]
    assert quality(engine, faces) > 50


def test_a_lost_gpu_fails_promises_and_a_closed_engine_refuses(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    faces = bench(engine.size, 1)
    streams.gpu.lost = True
    with pytest.raises(DeviceLost):
        engine.submit(faces.faces[0]).result(10)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(faces.faces[0])


@pytest.mark.parametrize("wrong", [lambda batch, captured: captured and batch == 4, lambda batch, captured: batch == 1])
def test_a_wrong_answer_of_a_batch_or_graph_is_refused(streams, engine_on, wrong):
    with pytest.raises(EngineError, match="rtface-s does not match its reference's answers on this GPU"):
        engine_on(streams, wrong=wrong)


def test_a_capture_that_fails_costs_the_graphs_only(streams, bench, caplog, engine_on, monkeypatch):
    refused = EngineError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED when rtface wanted to capture a graph")
    monkeypatch.setattr(FakeStream, "capture", MagicMock(side_effect=refused))
    with caplog.at_level("WARNING"):
        engine, _ = engine_on(streams)
    assert [r.getMessage().partition(": CUDA")[0] for r in caplog.records] == [
        f"rtface-s: batches of {n} run slower, without a CUDA graph" for n in (4, 2, 1)
    ]
    assert quality(engine, bench(engine.size, 1)) > 50


def test_nan_answers_stay_nan_until_they_are_checked(streams, bench, engine_on):
    engine, _ = engine_on(streams, spoil=lambda name, values: values * np.nan if name == "residual" else values)
    faces = bench(engine.size, 1)
    quality(engine, faces)
    x, y, w, h = engine.recipe.region
    assert np.isnan(faces.get(faces.faces[0])[:, y : y + h, x : x + w]).all()
