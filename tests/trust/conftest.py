"""The same engine and kernels as for other runs."""

from tests.pipeline.conftest import engines, host_kernels

__all__ = ["engines", "host_kernels"]
