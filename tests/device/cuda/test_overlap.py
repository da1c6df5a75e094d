"""How much of the host's work the network hides, on the fake GPU's simulated clock."""

from __future__ import annotations

import pytest

from rtface.device.cuda.device import CudaDevice
from rtface.device.cuda.stream_thread import StreamThread
from tests.device.cuda.fake_gpu import FakeGpu
from tests.device.cuda.test_cuda_device import Only, film, run

HOST_MS = 9.0  # a 1080p frame with one face, measured; in three parts
FRAMES = 8


class TimedStreamThread(StreamThread):
    """A stream thread that gets its work when the thread that asks for it is so far."""

    def _put(self, item):
        super()._put(self.gpu.handing(item) if hasattr(self, "gpu") else item)


class TimedDevice(CudaDevice):
    """A CUDA device whose host work takes simulated time."""

    def _spend(self):
        self._streams.run(lambda: None).result()  # what was put before is not delayed by what follows
        self._streams.gpu.spend(HOST_MS / 3)

    def cut(self, frame, places):
        self._spend()
        return super().cut(frame, places)

    def shape(self, faces):
        corrections = super().shape(faces)
        self._spend()  # deciding, between measuring and applying
        return corrections

    def paste(self, frame, corrections):
        self._spend()
        return super().paste(frame, corrections)


@pytest.mark.parametrize(("network", "most"), [(0.0, 10.0), (10.0, 11.0), (20.0, 21.0)])
def test_the_network_runs_while_the_host_works(host_kernels, engine_on, network, most):
    gpu = FakeGpu(host_kernels)
    streams = TimedStreamThread(lambda: gpu)
    device, (engine, _) = TimedDevice(streams), engine_on(streams)
    gpu.cost = lambda what: network if what.startswith("graph of") else 0.02
    begun = gpu.now
    assert len(run(device, Only(engine), film(frames=FRAMES, faces=1))) == FRAMES
    begin_and_end = max(network, HOST_MS) + HOST_MS  # of the first frame and the last, which nothing overlaps
    assert (gpu.now - begun - begin_and_end) / (FRAMES - 1) <= most
    engine.close()
    device.close()
    streams.close()
    gpu.close()
