"""The kernels on the GPU against the CPU device: every test of tests/device that is given something to run kernels
with is a test here too, and is given the GPU.

Those whose parameter is annotated `HostKernels` are the host's alone: they ask what only a compiled library can tell,
or launch nothing.
"""

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

pytest.importorskip("av", reason="the frames of these tests are PyAV's")

from tests.device.cuda import test_batch_kernels, test_kernels, test_kernels_paste, test_shape_kernels
from tests.device.cuda.host_kernels import HostKernels

RUNNERS = {"host", "shaper", "batcher"}
"""What the host's tests call that which runs kernels."""


def shared(module: ModuleType) -> dict[str, Callable[..., None]]:
    """A module's tests that a GPU can do too."""
    tests = {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_")
        and any(
            key in RUNNERS and parameter.annotation is not HostKernels
            for key, parameter in inspect.signature(test).parameters.items()
        )
    }
    assert tests, f"{module.__name__} has no test for a GPU any more; see RUNNERS"
    return tests


for _module in (test_batch_kernels, test_kernels, test_kernels_paste, test_shape_kernels):
    _tests = shared(_module)
    assert not globals().keys() & _tests.keys(), "two tests of one name"
    globals().update(_tests)


@pytest.fixture
def host(gpu_kernels):
    """The GPU, which is to be used."""
    gpu_kernels.clear()
    yield gpu_kernels
    assert gpu_kernels.launched, "the test ran nothing on the GPU"


shaper = batcher = host
