"""The kernels of the fake GPU, for runs on it."""

from tests.device.cuda.conftest import host_kernels

__all__ = ["host_kernels"]
