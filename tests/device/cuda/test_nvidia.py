"""What is said of what CUDA reports; the rest of NvidiaGpu is in `test_rehearsal`."""

from __future__ import annotations

import pytest

from rtface.device.cuda import nvidia
from rtface.device.cuda.nvidia import failure
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory


def test_a_refused_kernel_differs_from_a_missing_one():
    class CUDAError(Exception):
        """As cuda.core's own, which has no public name."""

    class Cubin:
        def __init__(self, error):
            self.error = error

        def get_kernel(self, name):
            if self.error:
                raise CUDAError(self.error)
            return name

    missing = Cubin("CUDA_ERROR_NOT_FOUND: named symbol not found")
    assert nvidia.find_kernel([missing, Cubin("")], "paste") == "paste"
    with pytest.raises(OutOfDeviceMemory, match="load the kernel paste"):
        nvidia.find_kernel([missing, Cubin("CUDA_ERROR_OUT_OF_MEMORY")], "paste")
    with pytest.raises(EngineError, match="CUDA_ERROR_NO_BINARY_FOR_GPU"):
        nvidia.find_kernel([Cubin("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image"), Cubin("")], "paste")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY: The API call failed", OutOfDeviceMemory),
        ("cudaErrorMemoryAllocation", OutOfDeviceMemory),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLost),
        ("cudaErrorLaunchFailure: x", DeviceLost),
        ("CUDA_ERROR_INVALID_VALUE", EngineError),
        ("", EngineError),
    ],
)
def test_every_failure_says_what_was_being_done(text, kind):
    error = failure(text, "copy")
    assert type(error) is kind
    assert "copy" in str(error)
