"""The fake GPU of tests/device/cuda, for engines."""

from tests.device.cuda.conftest import device, engine_on, host_kernels, on_cpu, owner, share_limit

__all__ = ["device", "engine_on", "host_kernels", "on_cpu", "owner", "share_limit"]
