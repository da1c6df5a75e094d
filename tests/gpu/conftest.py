"""Tests that need an NVIDIA GPU. Without one they are skipped and say why; with RTFACE_REQUIRE_GPU=1 they fail."""

import os
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from rtface.engine.cuda import driver as nvidia
from rtface.media.cuda import driver
from tests.device.cuda.conftest import closing, device, on_cpu
from tests.engine.conftest import make_engine
from tests.gpu.required import lacking, need

__all__ = ["device", "make_engine", "on_cpu"]
# GPUs of data centres that have decoders but no encoder.
_NO_ENCODER = re.compile(r"\b(A30|A100|A800|H100|H200|H800|H20|GH200|B100|B200|B300|GB200|GB300)\b")

if os.environ.get("RTFACE_REQUIRE_GPU") == "1":
    need("av")  # whole modules are skipped without it


@pytest.fixture(scope="session")
def share_limit() -> float:
    """The share of samples that may round to another code value than on the CPU: another library's fp32 sums in another
    order, about 1e-5 of full scale apart. The rehearsal's network is the CPU's own."""
    return 4e-4 if os.environ.get("RTFACE_GPU_REHEARSAL") == "1" else 5e-3


@pytest.fixture(scope="session", autouse=True)
def gpu_name() -> str:
    """The GPU's name."""
    why = driver.absent()
    if why is not None:
        lacking(why)
    return nvidia.driver().gpus[0]


@pytest.fixture(scope="session")
def cuda_python(gpu_name: str) -> None:
    """cuda-python and NVRTC, which everything but FFmpeg's own codecs needs."""
    for module in ("cuda.core", "cuda.bindings.driver", "cuda.bindings.nvrtc"):
        need(module)


@pytest.fixture
def streams(cuda_python: None) -> Iterator[Any]:
    """The stream thread of GPU 0 with every kernel; memory that is left fails the test."""
    from tests.gpu.real_gpu import open_streams

    streams = open_streams()
    yield streams
    streams.run(streams.gpu.close).result()  # raises where memory is left
    streams.close()


@pytest.fixture
def engine_on(streams: Any) -> Iterator[Any]:
    """Opens a shipped engine on a GPU, in fp32, whose answers are those of the CPU: (streams, name="rtface-s")
    → the engine, and what notes its `batches`."""
    from tests.gpu.real_gpu import open_engine

    yield from closing(open_engine, precision="f32", most=4)  # fewer shapes to choose kernels for


@pytest.fixture(scope="session")
def gpu_kernels(cuda_python: None) -> Iterator[Any]:
    """All kernels, run by the GPU (`host_kernels.Runner`)."""
    from rtface.device.cuda import modules
    from tests.gpu.real_gpu import GpuKernels

    kernels = GpuKernels(modules.open_gpu())
    yield kernels
    kernels.close()


@pytest.fixture(scope="session")
def nvenc(gpu_name: str) -> str:
    """The GPU's name, where it has an encoder."""
    av = need("av")
    if _NO_ENCODER.search(gpu_name):
        pytest.skip(f"{gpu_name} has no encoder")
    context = av.CodecContext.create("h264_nvenc", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "nv12", Fraction(1, 25)
    try:
        context.open()
    except av.FFmpegError as error:
        lacking(f"{gpu_name} does not open h264_nvenc ({error})")
    return gpu_name


@pytest.fixture(scope="session")
def media() -> Any:
    """The helpers of tests/media: makes and reads small films."""
    from tests.media.conftest import Tools

    return Tools
