"""Crops of the host through engines on a GPU: answers, memory, failures, an end, and nobody who waits for them."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from rtface.engine.golden import load_golden, psnr
from rtface.errors import EngineError, OutOfDeviceMemory
from tests.engine.cuda.test_gpu_engine import bench  # noqa: F401

pytestmark = pytest.mark.slow


def crops_of(recipe, prefix=""):
    """Golden crops as 1×3×S×S, and their answers."""
    crops, answers = load_golden(recipe, prefix)
    return [np.ascontiguousarray(crop, np.float32)[None] for crop in crops], answers


@contextmanager
def held(engine):
    """Keeps the engine with its first crop meanwhile."""
    gate, begun, run = threading.Event(), threading.Event(), engine.hosted.run
    engine.hosted.run = lambda *given: (begun.set(), gate.wait(20), run(*given))
    first = engine.submit(crops_of(engine.recipe)[0][0])
    assert begun.wait(20)
    engine.hosted.run = run
    yield first, gate
    gate.set()


def test_golden_crops_and_next_frames_equal_the_cpus(streams, on_cpu, engine_on):
    engine, _ = engine_on(streams)
    firsts, answers = crops_of(engine.recipe)
    seconds, next_answers = crops_of(engine.recipe, "next_")
    with held(engine) as (alone, _):  # the others wait for it, and for each other
        first = [alone, *(engine.submit(crop) for crop in firsts[1:3])]
        second = [engine.submit(crop, after) for crop, after in zip(seconds, first, strict=False)]
    for promises, wanted in ((first, answers), (second, next_answers)):
        for promise, answer in zip(promises, wanted, strict=False):
            assert psnr(promise.result(20).pixels[0], answer) > engine.recipe.golden.psnr.f32
    cpu = on_cpu["rtface-s"]
    theirs = cpu.submit(seconds[0], cpu.submit(firsts[0])).result(20)
    mine = second[0].result()
    assert mine.occlusion.shape == theirs.occlusion.shape and np.allclose(mine.occlusion, theirs.occlusion, atol=1e-4)
    assert np.allclose(mine.log_scale, theirs.log_scale, atol=1e-3)


def test_crops_of_the_host_and_of_the_gpu_may_come_by_turns(streams, bench, on_cpu, engine_on):  # noqa: F811
    """One memory and one set of buffers on two streams; nothing is waited for between them but the answer before."""
    (engine, _), cpu = engine_on(streams), on_cpu["rtface-s"]
    (firsts, _), (seconds, _) = crops_of(engine.recipe), crops_of(engine.recipe, "next_")
    faces = bench(engine.size, 1)
    mine = theirs = None
    for crop, next_crop in [(firsts[0], seconds[0])] * 3:
        faces.put([crop[0]])
        on_gpu = engine.submit(faces.faces[0], mine)
        mine = engine.submit(next_crop, on_gpu)
        theirs = cpu.submit(next_crop, cpu.submit(crop, theirs))
        assert psnr(mine.result(20).pixels[0], theirs.result(20).pixels[0]) > 60


def test_a_nan_answer_is_an_error_and_clears_the_state(streams, engine_on):
    calls = []

    def spoil(name, values):
        calls.append(name)
        return values * np.nan if name == "residual" and calls.count(name) == 1 else values

    engine, _ = engine_on(streams, capturable=False, spoil=spoil)
    calls.clear()
    crops, answers = crops_of(engine.recipe)
    failed = engine.submit(crops[0])
    after = engine.submit(crops[0], failed)
    with pytest.raises(EngineError, match="rtface-s: the answer contains values that are not numbers"):
        failed.result(20)
    assert psnr(after.result(20).pixels[0], answers[0]) > engine.recipe.golden.psnr.f32


def test_without_memory_a_crop_fails_and_the_next_one_works(streams, engine_on):
    engine, _ = engine_on(streams)
    crops, answers = crops_of(engine.recipe)
    streams.run(lambda: setattr(streams.gpu, "refuse", 1)).result()
    with pytest.raises(OutOfDeviceMemory):
        engine.submit(crops[0]).result(20)
    assert psnr(engine.submit(crops[0]).result(20).pixels[0], answers[0]) > engine.recipe.golden.psnr.f32


def test_a_slow_engine_blocks_no_other_and_all_can_be_closed(streams, bench, engine_on):  # noqa: F811
    slow, quick = engine_on(streams)[0], engine_on(streams)[0]
    crops, answers = crops_of(slow.recipe)
    with held(slow) as (first, gate):
        waiting = [first, *(slow.submit(crop) for crop in crops[1:3])]
        faces = bench(quick.size, 2)
        faces.put([crop[0] for crop in crops[:2]])
        for promise in [*(quick.submit(face) for face in faces.faces), quick.submit(crops[0])]:
            promise.result(20)
        assert psnr(faces.get(faces.faces[1]), answers[1]) > slow.recipe.golden.psnr.f32
        assert not any(promise.done() for promise in waiting)
        threading.Timer(0.1, gate.set).start()
        slow.close()
        slow.close()
    assert all(promise.done() for promise in waiting)
    assert waiting[0].result().pixels.shape == (1, 3, 256, 256) and waiting[2].cancelled()
    with pytest.raises(EngineError, match="closed"):
        slow.submit(crops[0])


def test_the_state_of_another_engine_is_not_used(streams, engine_on):
    one, other = (engine_on(streams, name)[0] for name in ("rtface-m", "rtface-m-vivid"))
    crops, _ = crops_of(one.recipe)
    alone, own, others = one.submit(crops[0]), one.submit(crops[1]), other.submit(crops[1])
    for after, same in ((own, False), (others, True)):
        answer = one.submit(crops[0], after).result(20).pixels
        assert np.array_equal(answer, alone.result().pixels) == same
