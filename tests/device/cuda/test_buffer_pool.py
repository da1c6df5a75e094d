"""Buffers on a GPU that are used again."""

from rtface.device.cuda.buffer_pool import GrowingBuffer
from tests.device.cuda.fake_gpu import FakeGpu


def test_a_buffer_that_grows_often_is_reserved_seldom():
    gpu = FakeGpu()
    buffer = GrowingBuffer(gpu)
    for nbytes in range(10_000, 300_000, 10_000):  # faces that come nearer
        buffer.need(nbytes)
        assert buffer.on_gpu().nbytes >= nbytes
    assert gpu.allocations <= 6
    buffer.close()
    gpu.close()
