"""Gpu on the driver that is here: memory, copies, events, kernels, graphs, threads and errors."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rtface.device.cuda.gpu import Gpu
from rtface.errors import DeviceLost, OutOfDeviceMemory
from tests.gpu.real_gpu import REHEARSAL, CountedGpu

SOURCE = """
extern "C" __global__ void twice(float* values, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] *= 2.0f;
}
extern "C" __global__ void sums(const float* a, float* out, int count, int rounds) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float total = 0.0f;
  for (int r = 0; r < rounds; ++r) total += a[(i + r) % count];
  if (i < count) out[i] = total;
}
"""
KERNELS = {"twice": (np.uint64, np.int32), "sums": (np.uint64, np.uint64, np.int32, np.int32)}
COUNT = 1 << 20


@pytest.fixture
def gpu(cuda_python: None) -> Iterator[Gpu]:
    """GPU 0, which gets back what was reserved."""
    gpu: Any = CountedGpu(Gpu(0, {SOURCE: KERNELS}))
    yield gpu
    for piece in gpu.pieces:
        piece.close()
    gpu.close()


def wait(gpu: Gpu, stream: Any) -> None:
    event = gpu.event()
    stream.record(event)
    event.synchronize()


def launch(stream: Any, memory: Any, count: int = COUNT) -> None:
    stream.launch("twice", (-(-count // 256), 1, 1), (256, 1, 1), np.uint64(memory.address), np.int32(count))


def test_what_goes_up_comes_down_in_the_order_of_the_waits(gpu: Gpu, gpu_name: str) -> None:
    """Without the waits a copy of 4 MiB and a kernel would run beside each other."""
    assert gpu.name == gpu_name and gpu.capability >= (7, 0) and float(gpu.driver) >= 12
    up, work, down = gpu.stream(), gpu.stream(), gpu.stream()
    host, back = gpu.pin(4 * COUNT), gpu.pin(4 * COUNT)
    memory, other = gpu.allocate(4 * COUNT), gpu.allocate(4 * COUNT)
    values = np.random.default_rng(0).random(COUNT, np.float32)
    for k in range(50):
        host.bytes().view(np.float32)[:] = values + k
        arrived, doubled, done = gpu.event(), gpu.event(), gpu.event()
        up.copy(memory, host, 2 * COUNT)
        up.copy(memory, host, 2 * COUNT, to_at=2 * COUNT, source_at=2 * COUNT)
        up.record(arrived)
        work.wait(arrived)
        launch(work, memory)
        work.copy(other, memory, 4 * COUNT)
        work.record(doubled)
        down.wait(doubled)
        down.copy(back, other, 4 * COUNT)
        down.record(done)
        done.synchronize()
        np.testing.assert_array_equal(back.bytes().view(np.float32), 2 * (values + k))


@pytest.mark.skipif(REHEARSAL, reason="a driver that is not there takes no time")
def test_events_tell_time_and_wake_other_threads(gpu: Gpu) -> None:
    stream, memory, out = gpu.stream(), gpu.allocate(4 * COUNT), gpu.allocate(4 * COUNT)
    begin, half, end = (gpu.event(timed=True) for _ in range(3))

    def work(rounds: int) -> None:
        args = np.uint64(memory.address), np.uint64(out.address), np.int32(COUNT), np.int32(rounds)
        stream.launch("sums", (COUNT // 256, 1, 1), (256, 1, 1), *args)

    work(10)
    stream.record(begin)
    work(2000)
    stream.record(half)
    work(6000)
    stream.record(end)
    assert not end.event.is_done
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: (end.synchronize(), seen.append(end.event.is_done)))
    waiter.start()
    waiter.join(60)
    assert seen == [True]
    first, second = half.event - begin.event, end.event - half.event
    assert 0.0 < first < second
    assert 2.0 < second / first < 4.5


def test_a_graph_is_run_when_it_is_replayed(gpu: Gpu) -> None:
    stream, memory, pinned = gpu.stream(), gpu.allocate(4 * COUNT), gpu.pin(4 * COUNT)
    pinned.bytes().view(np.float32)[:] = 1.0
    launch(stream, pinned)  # by its address; the tests of kernels rest on this
    stream.copy(memory, pinned, 4 * COUNT)
    launch(stream, memory, 1)
    handles: list[int] = []

    def fails() -> None:
        launch(stream, memory)
        raise ValueError("the build fails")

    with pytest.raises(ValueError, match="the build fails"):
        stream.capture(fails)

    def build() -> None:
        launch(stream, memory)
        stream.call(handles.append)
        launch(stream, memory)

    graph = stream.capture(build)
    for _ in range(3):
        stream.replay(graph)
    stream.copy(pinned, memory, 4 * COUNT)
    wait(gpu, stream)
    values = pinned.bytes().view(np.float32)
    assert values[0] == 256.0 and (values[1:] == 128.0).all()
    assert handles == [stream.handle]
    graph.close()


def test_memory_runs_out_with_a_word_and_goes_back(gpu: Gpu) -> None:
    free = gpu.free_bytes()
    with pytest.raises(OutOfDeviceMemory, match="no memory left to reserve"):
        gpu.allocate(free + (1 << 30))
    for _ in range(16):  # others use the GPU as well, so what is free tells nothing; four times its memory does
        piece = gpu.allocate(free // 4)
        piece.close()
        piece.close()


@pytest.mark.skipif(not REHEARSAL, reason="a real GPU is not lost on request")
def test_a_lost_gpu_is_told_by_every_call(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, memory, pinned, done = gpu.stream(), gpu.allocate(16), gpu.pin(16), gpu.event()
    graph = stream.capture(lambda: launch(stream, memory, 4))
    stream.record(done)
    monkeypatch.setenv("FAKE_CUDA_FAILS", "719")
    for step in (
        lambda: stream.copy(memory, pinned, 16),
        done.synchronize,
        lambda: stream.replay(graph),
        lambda: launch(stream, memory, 4),
    ):
        with pytest.raises(DeviceLost, match="CUDA_ERROR_LAUNCH_FAILED"):
            step()
    monkeypatch.undo()
    graph.close()
