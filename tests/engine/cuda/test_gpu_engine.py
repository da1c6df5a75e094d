"""Engines on a GPU: answers to the golden crops, batches, memories, graphs, and what happens when memory runs out."""

from __future__ import annotations

import gc
from contextlib import suppress

import numpy as np
import pytest

from rtface.device.cuda.face_slots import FaceSlot
from rtface.device.cuda.stream_thread import StreamThread
from rtface.engine.plan import load_golden, psnr
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory, UsageError
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
    del before
    gc.collect()
    engine.close()


def test_what_comes_after_a_failure_begins_without_memory(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    crops, answers = load_golden(engine.recipe)
    faces = bench(engine.size, 1)
    faces.put(crops[:1])
    from concurrent.futures import Future

    failed = Future()
    failed.set_exception(EngineError("not a number"))
    engine.submit(faces.faces[0], failed).result(10)
    assert psnr(faces.get(faces.faces[0]), answers[0]) > engine.recipe.golden.psnr.f32
    engine.close()


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
    worst = min(psnr(bench.get(f), a) for f, a in zip(bench.faces, load_golden(engine.recipe)[1], strict=False))
    assert worst > 50
    assert plan.batches == [2, 1]
    bench.close()
    engine.close()
    streams.close()
    streams.gpu.close()


def free_idle(streams):
    """What is needed next has to be reserved."""
    streams.run(lambda: [free() for free in streams.idle]).result()


def test_running_out_while_it_runs_halves_too_and_loses_no_crop(streams, bench, caplog, engine_on):
    engine, plan = engine_on(streams)
    crops, answers = load_golden(engine.recipe)
    faces = bench(engine.size, len(crops))
    faces.put(crops)
    streams.run(lambda: setattr(streams.gpu, "refuse", 1)).result()
    free_idle(streams)  # the next memories have to be reserved, and the GPU refuses once
    gate = hold(streams)
    promises = [engine.submit(face) for face in faces.faces]
    gate.set()
    [p.result(10) for p in promises]
    assert engine.max_batch == 2 and max(plan.batches) <= 2
    assert "batches of 2 instead of 4" in caplog.text
    assert all(psnr(faces.get(f), a) > 50 for f, a in zip(faces.faces, answers, strict=True))
    engine.close()


def test_a_crop_without_memory_is_retried_when_there_is_some(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    crops, answers = load_golden(engine.recipe)
    faces = bench(engine.size, 1)
    faces.put(crops[:1])
    for refused in (50, 0):
        streams.run(lambda refused=refused: setattr(streams.gpu, "refuse", refused)).result()
        if refused:
            free_idle(streams)
            with pytest.raises(OutOfDeviceMemory):
                engine.submit(faces.faces[0]).result(10)
        else:
            engine.submit(faces.faces[0]).result(10)
    assert engine.max_batch == 1 and psnr(faces.get(faces.faces[0]), answers[0]) > 50
    engine.close()


def test_a_gpu_without_room_for_a_single_crop_says_so(host_kernels, engine_on):
    streams = StreamThread(lambda: FakeGpu(host_kernels, memory=1 << 20))
    with pytest.raises(OutOfDeviceMemory):
        engine_on(streams)
    streams.close()
    streams.gpu.close()


def test_a_lost_gpu_fails_every_promise(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    faces = bench(engine.size, 1)
    streams.gpu.lost = True
    with pytest.raises(DeviceLost):
        engine.submit(faces.faces[0]).result(10)
    engine.close()


def test_crops_of_another_kind_are_refused_with_what_is_wanted(streams, bench, engine_on):
    engine, _ = engine_on(streams)
    for crops, got in (
        (np.zeros((1, 3, 256, 256)), r"float64 \(1, 3, 256, 256\)"),
        (np.zeros((2, 3, 256, 256), np.float32), r"float32 \(2, 3, 256, 256\)"),
    ):
        with pytest.raises(UsageError, match=f"takes crops of 256 that lie on the GPU, or a.* in float32, got {got}"):
            engine.submit(crops)
    with pytest.raises(UsageError, match="of 256"):
        engine.submit(bench(512, 1).faces[0])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.submit(bench(256, 1).faces[0])


@pytest.mark.parametrize(
    ("wrong", "most", "graphs", "says"),
    [
        (lambda batch, captured: captured and batch == 4, 4, {1, 2}, "graph of 4 crops gives"),
        (lambda batch, captured: batch == 4, 2, {1, 2}, "batches of 4 give"),
    ],
)
def test_a_batch_size_or_graph_that_answers_wrongly_is_not_used(
    streams, bench, caplog, engine_on, wrong, most, graphs, says
):
    with caplog.at_level("WARNING"):
        engine, _ = engine_on(streams, wrong=wrong)
    assert says in caplog.text
    assert engine.max_batch == most
    assert {n for n in engine.batches.graphs if n <= most} == graphs
    crops, answers = load_golden(engine.recipe)
    faces = bench(engine.size, 3)
    faces.put(crops[:3])
    gate = hold(streams)
    promises = [engine.submit(face) for face in faces.faces]
    gate.set()
    [p.result(10) for p in promises]
    assert all(psnr(faces.get(f), a) > 50 for f, a in zip(faces.faces, answers, strict=False))
    engine.close()


def test_an_engine_that_answers_a_single_crop_wrongly_is_refused(streams, engine_on):
    with pytest.raises(EngineError, match="rtface-s does not give its reference's answers on this GPU"):
        engine_on(streams, wrong=lambda batch, captured: True)


def test_a_capture_that_fails_costs_the_graphs_only(streams, bench, caplog, engine_on, monkeypatch):
    def refuse(self, build):
        raise EngineError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED when rtface wanted to capture a graph")

    monkeypatch.setattr(FakeStream, "capture", refuse)
    with caplog.at_level("WARNING"):
        engine, _ = engine_on(streams)
    assert [r.getMessage() for r in caplog.records] == [
        "rtface-s runs without CUDA graphs, which is slower: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED when rtface wanted "
        "to capture a graph"
    ]
    crops, answers = load_golden(engine.recipe)
    faces = bench(engine.size, 1)
    faces.put(crops[:1])
    engine.submit(faces.faces[0]).result(10)
    assert psnr(faces.get(faces.faces[0]), answers[0]) > 50
    engine.close()


def test_nan_answers_stay_nan_until_they_are_checked(streams, bench, engine_on):
    engine, _ = engine_on(streams, spoil=lambda name, values: values * np.nan if name == "residual" else values)
    faces = bench(engine.size, 1)
    faces.put(load_golden(engine.recipe)[0][:1])
    engine.submit(faces.faces[0]).result(10)
    x, y, w, h = engine.recipe.region
    assert np.isnan(faces.get(faces.faces[0])[:, y : y + h, x : x + w]).all()
    engine.close()
