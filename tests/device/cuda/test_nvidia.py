"""What is said of what CUDA reports; the rest of Gpu is in `test_rehearsal`."""

import pytest

from rtface.device.cuda.gpu import failure
from rtface.errors import DeviceLost, EngineError, OutOfDeviceMemory


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY: The API call failed", OutOfDeviceMemory),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLost),
        ("cudaErrorLaunchFailure: x", DeviceLost),
        ("CUDA_ERROR_INVALID_VALUE", EngineError),
    ],
)
def test_every_failure_says_what_was_being_done(text, kind):
    error = failure(text, "copy")
    assert type(error) is kind
    assert "copy" in str(error)
