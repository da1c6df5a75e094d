"""The fake GPU of tests/device/cuda, for engines."""

from tests.device.cuda.conftest import engine_on, host_kernels, owner, share_limit

__all__ = ["engine_on", "host_kernels", "owner", "share_limit"]
