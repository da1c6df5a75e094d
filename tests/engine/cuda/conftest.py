"""The fake GPU of tests/device/cuda, for engines."""

from tests.device.cuda.conftest import device, engine_on, host_kernels, on_cpu, share_limit, streams

__all__ = ["device", "engine_on", "host_kernels", "on_cpu", "share_limit", "streams"]
