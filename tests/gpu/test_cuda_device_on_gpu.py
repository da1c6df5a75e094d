"""The enhance step on the GPU against the same step on the CPU: the scenarios that pass on the tests' own GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the frames of these tests are PyAV's")

# ruff: noqa: F401, F811
from rtface.device.cpu.device import CpuDevice
from rtface.engine.cuda.engine import GpuEngine
from rtface.frame import Color
from tests.device.cuda.test_cuda_device import (
    Only,
    compare,
    film,
    run,
    test_a_film_is_the_same_as_on_the_cpu,
    test_a_format_that_has_to_be_converted_says_so,
    test_crops_that_are_not_pasted_give_their_slots_back,
    test_the_loop_reserves_nothing_after_its_first_frames,
)
from tests.engine.cuda.test_stateless_engines import recipe, test_the_average_over_time_is_that_of_the_cpu
from tests.gpu.real_gpu import REHEARSAL, gpu_plan, open_engine


@pytest.fixture
def engine(streams: Any, recipe: Any) -> Iterator[tuple[GpuEngine, Any]]:
    """An engine without memory, in fp32, as `test_stateless_engines` has one."""
    plan, verdict = gpu_plan(streams, recipe, "f32")
    engine = GpuEngine(streams, recipe, plan, verdict, "for a test")
    yield engine, plan
    engine.close()


@pytest.mark.parametrize(
    ("fmt", "more"),
    [("nv12", {}), ("p010le", {"color": Color("bt2020", transfer="pq", primaries=9)})],
    ids=["nv12", "pq"],
)
@pytest.mark.parametrize("name", ["rtface-s", "rtface-m"])
def test_the_fastest_precision_is_near_the_cpus_frame(streams, device, on_cpu, name, fmt, more):
    """In half precision some samples round the other way, and none goes far."""
    engine, _ = open_engine(streams, name)
    mine = run(device, Only(engine), film(fmt, **more))
    theirs = run(CpuDevice(), Only(on_cpu[name]), film(fmt, **more))
    worst, share = compare(mine, theirs)
    bits = 6 if fmt == "p010le" else 0  # its samples lie in the upper ten bits of a word
    print(f"{engine.reason}: {worst >> bits} code values at most, {100 * share:.2f} % of the samples")
    assert worst >> bits <= 4 and share < 0.05
    engine.close()
