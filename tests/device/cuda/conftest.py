"""Fixtures of a fake GPU that runs the real kernels on the host."""

import gc

import pytest

from tests.engine.conftest import make_engine

__all__ = ["make_engine"]


@pytest.fixture(scope="session")
def host_kernels():
    """All kernels, run by the host."""
    from tests.device.cuda.gpu_rig import build_kernels

    return build_kernels()


@pytest.fixture(scope="session")
def share_limit():
    """The share of samples that may round to another code value than on the CPU, whose network the fake GPU runs."""
    return 4e-4


@pytest.fixture(scope="session")
def on_cpu():
    """Shipped engines on the CPU, in fp32, by name; each is opened when it is first asked for."""
    from rtface.engine.host_engine import HostEngine
    from rtface.engine.recipe import find_recipes, load_recipe

    class Engines(dict):
        def __missing__(self, name):
            self[name] = HostEngine(load_recipe(find_recipes()[name]), device="onnx")
            return self[name]

    engines = Engines()
    assert engines["rtface-s"].name == "rtface-s"  # now: tests/engine closes what a test opens
    yield engines
    for engine in engines.values():
        engine.close()


def closing(open_engine, **usual):
    """Opens engines as that does, and closes them at the end of the test."""
    opened = []

    def open_one(*given, **more):
        opened.append(open_engine(*given, **usual, **more))
        return opened[-1]

    yield open_one
    gc.collect()
    for engine, _ in opened:
        engine.close()


@pytest.fixture
def engine_on(streams):
    """Opens a shipped engine on a GPU: (streams, name="rtface-s") → it, and what notes its `batches`."""
    from tests.device.cuda.gpu_rig import engine_on

    yield from closing(engine_on)


@pytest.fixture
def streams(host_kernels):
    """The stream thread of a fake GPU that checks what kernels write; a leak fails the test."""
    from rtface.device.cuda.stream_thread import StreamThread
    from tests.device.cuda.gpu_rig import FakeGpu

    streams = StreamThread(lambda: FakeGpu(host_kernels, strict=True))
    yield streams
    streams.close()
    if not streams.gpu.lost:
        streams.gpu.close()


@pytest.fixture
def device(streams):
    """A CUDA device on the fake GPU."""
    from rtface.device.cuda.device import CudaDevice

    device = CudaDevice(streams)
    yield device
    device.close()
