"""The stand-in for a GPU is itself proven: it has to fail where a real GPU would silently give wrong frames."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.device.cuda.fake_gpu import FakeGpu


def double(name, grid, block, address):
    """The only kernel here: doubles four floats."""
    values = (ctypes.c_float * 4).from_address(int(address))
    values[:] = [2 * x for x in values]


@pytest.fixture
def gpu():
    return FakeGpu(double)


def one_way(gpu, *, wait_for_copy=True, wait_for_kernel=True, synchronize=True):
    """Up on one stream, doubled on another, down on a third."""
    up, work, down = gpu.stream(), gpu.stream(), gpu.stream()
    host, device, back = gpu.pin(16), gpu.allocate(16), gpu.pin(16)
    host.bytes().view(np.float32)[:] = 1.5
    ready, doubled_, done = gpu.event(), gpu.event(), gpu.event()
    up.copy(device, host, 16)
    up.record(ready)
    if wait_for_copy:
        work.wait(ready)
    work.launch("double", (1, 1, 1), (1, 1, 1), np.uint64(device.address), writes=[device])
    work.record(doubled_)
    if wait_for_kernel:
        down.wait(doubled_)
    down.copy(back, device, 16)
    down.record(done)
    if synchronize:
        done.synchronize()
    return back.bytes().view(np.float32)[0]


def test_ordered_work_gives_its_result_when_waited_for(gpu):
    assert one_way(gpu) == 3.0


@pytest.mark.parametrize("missing", ["wait_for_copy", "wait_for_kernel", "synchronize"])
def test_every_missing_wait_is_found(gpu, missing):
    with pytest.raises(AssertionError, match=r"may still (write|read)"):
        one_way(gpu, **{missing: False})


def test_a_kernel_that_writes_more_than_it_names_is_found():
    gpu = FakeGpu(double, strict=True)
    stream, device, event = gpu.stream(), gpu.allocate(16), gpu.event()
    device.array[:] = 1
    stream.launch("double", (1, 1, 1), (1, 1, 1), np.uint64(device.address), reads=[device])
    stream.record(event)
    with pytest.raises(AssertionError, match="double writes memory that it does not name"):
        event.synchronize()
