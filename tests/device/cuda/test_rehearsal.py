"""The tests for machines with a GPU (tests/gpu), on the tests' own driver: none shall first fail on a GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtface.device.cuda import nvrtc
from tests.device.cuda.gpu_rig import SOURCES, STRUCTS
from tests.device.cuda.host_kernels import compile_kernels, compiled, kept

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder that holds `fake_libcuda.cpp` as libcuda."""
    pytest.importorskip("cuda.core", reason="cuda-python is not installed (extra cuda)")
    if sys.platform != "linux":
        pytest.skip("the tests' own driver is built on Linux")
    folder = tmp_path_factory.mktemp("driver")
    library = compiled("fake_libcuda", (HERE / "fake_libcuda.cpp").read_text(), "-O1", "-ldl")
    (folder / "libcuda.so.1").symlink_to(library)
    return folder


def machine(folder, sources):
    """The environment of a machine with that driver, whose kernels the host runs."""
    hosts = [compile_kernels(source, kernels, STRUCTS.get(source)) for source, kernels in sources.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTFACE_CACHE", str(kept()))
        for source in sources:
            nvrtc.compile(source.read_text(), (9, 0))  # NVRTC itself does not bear such a driver
    arguments = ",".join(f"{name}={len(types)}" for table in sources.values() for name, types in table.items())
    return os.environ | {
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_CUDA_KERNELS": ":".join(str(host.path) for host in hosts),
        "FAKE_CUDA_ARGUMENTS": arguments,
        "RTFACE_GPU_REHEARSAL": "1",
        "RTFACE_REQUIRE_GPU": "1",
        "RTFACE_CACHE": str(kept()),
    }


@pytest.fixture(scope="module")
def whole(driver):
    """A machine with all kernels of rtface."""
    return machine(driver, SOURCES)


def rehearse(machine, *arguments):
    """Runs pytest there; how many tests had which outcome."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(command, env=machine, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (\w+)", run.stdout.splitlines()[-1])}
    print(counts)
    return counts


def test_memory_streams_graphs_and_errors_of_a_gpu(driver):
    from tests.gpu.test_nvidia_gpu import KERNELS, SOURCE

    (driver / "own.cu").write_text(SOURCE)
    counts = rehearse(machine(driver, {driver / "own.cu": KERNELS}), "tests/gpu/test_nvidia_gpu.py")
    assert counts["passed"] >= 4 and counts["skipped"] == 1  # a driver that is not there takes no time


REHEARSED = {
    "test_kernels_on_gpu": "yuv420p-bt601 or p010le-bt2020 or batches or crowd or several_sides "
    "or several_sizes or (averages and box) or one_coloured or bottom_up",
    "test_engine_on_gpu": "(every_size and rtface-s) or failure",
    "test_cuda_device_on_gpu": "cpu and (420 or pq) or reserves or average",
    "test_keys_on_gpu": "420 or live_no or turns",
    "test_in_place_on_gpu": "where_they_were_decoded or tracker",
}
"""Modules of tests/gpu, and which of their tests are enough."""


@pytest.mark.slow
@pytest.mark.parametrize(("modules", "passed"), [(list(REHEARSED)[:2], 22), (list(REHEARSED)[2:], 13)])
def test_what_a_gpu_will_run_runs(whole, modules, passed):
    """At least so many pass."""
    some = " or ".join(f"{module} and ({REHEARSED[module]})" for module in modules)
    counts = rehearse(whole, *(f"tests/gpu/{module}.py" for module in modules), "-k", some, "-rs")
    assert counts.get("passed", 0) >= passed and not counts.get("skipped", 0)
