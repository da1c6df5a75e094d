"""Keyframes on the GPU against the same on the CPU: the scenarios that pass on the tests' own GPU."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("av", reason="the frames of these tests are PyAV's")

# ruff: noqa: F401, F811
from rtface.device.cpu.device import CpuDevice
from rtface.engine.cuda.engine import GpuEngine
from tests.device.cuda.test_cuda_device import compare, film
from tests.device.cuda.test_gpu_keys import (
    Engines,
    engines,
    enhance,
    host,
    test_a_film_is_the_same_as_on_the_cpu,
    test_a_large_engine_that_remembers_may_have_key_frames_too,
    test_live_no_frame_waits_for_the_slow_engine,
)
from tests.engine.cuda.test_gpu_engine import bench
from tests.engine.cuda.test_gpu_hosted import test_crops_of_the_host_and_of_the_gpu_may_come_by_turns
from tests.engine.cuda.test_stateless_engines import recipe
from tests.gpu.real_gpu import gpu_plan, open_engine


@pytest.fixture
def open_plain(streams: Any, recipe: Any) -> Iterator[Callable[[], GpuEngine]]:
    """Opens an engine without memory on the GPU, for crops of 128, in fp32."""
    engine = GpuEngine(streams, recipe, *gpu_plan(streams, recipe, "f32"), "for a test")
    yield lambda: engine
    engine.close()
