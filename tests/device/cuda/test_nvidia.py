"""NvidiaGpu's own code, run through cuda-python on a driver that is not there; and what is said without any driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtface.device.cuda import nvidia
from rtface.device.cuda.nvidia import count_gpus, failure
from rtface.errors import DeviceLost, EngineError, MissingComponent, OutOfDeviceMemory
from tests.device.cuda.host_kernels import compiler

HERE = Path(__file__).parent
TWICE = """
extern "C" void host_twice(const unsigned*, const unsigned*, void** a) {
  for (int i = 0; i < *(int*)a[1]; ++i) (*(float**)a[0])[i] *= 2;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of the driver that is not there."""
    pytest.importorskip("cuda.core", reason="cuda-python is not installed (extra cuda)")
    if sys.platform != "linux":
        pytest.skip("the driver that is not there is Linux's")
    folder = tmp_path_factory.mktemp("driver")
    build(HERE / "fake_libcuda.cpp", folder / "libcuda.so.1")
    return folder


def build(source, library):
    subprocess.run([compiler(), "-O1", "-std=c++17", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
                   check=True)


def run_with(driver, script, libraries, arguments):
    """What a script printed last, run in a process that finds that driver."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver), "FAKE_CUDA_KERNELS": ":".join(map(str, libraries)),
                                "FAKE_CUDA_ARGUMENTS": ",".join(f"{k}={n}" for k, n in arguments.items()),
                                "PYTHONPATH": str(HERE.parents[2])}
    run = subprocess.run([sys.executable, "-X", "faulthandler", str(HERE / script)], env=environment,
                         capture_output=True, text=True, cwd=HERE.parents[2], timeout=250)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(driver):
    """What nvidia_script.py saw."""
    (driver / "twice.cpp").write_text(TWICE)
    build(driver / "twice.cpp", driver / "twice.so")
    return run_with(driver, "nvidia_script.py", [driver / "twice.so"], {"twice": 2})


def test_a_gpu_says_what_it_is(seen):
    assert (seen["name"], seen["capability"], seen["driver"]) == ("Fake GPU", [9, 0], "13.0")


def test_copies_kernels_and_graphs_do_what_they_are_for(seen):
    assert seen["values"] == [12.0] * 4  # 1.5, doubled by a launch and twice by a graph that captured one
    assert seen["done"] is True
    assert seen["ms"] == 0.5
    assert seen["handle"] is True


def test_a_full_gpu_and_a_lost_one_are_told_apart(seen):
    kind, text = seen["full"]
    assert kind == "OutOfDeviceMemory"
    assert "no memory left to reserve 1024 MiB" in text
    assert [kind for kind, _ in seen["lost"]] == ["DeviceLost"] * 5
    assert all("CUDA_ERROR_LAUNCH_FAILED" in text for _, text in seen["lost"])


def test_memory_goes_back(seen):
    assert seen["freed"] == seen["free"]


def test_a_gpu_or_a_kernel_that_is_not_there_is_named(seen):
    assert seen["absent"] == ["MissingComponent", "device cuda:3 is not here: the driver knows 1 GPU"]
    assert seen["no kernel"] == ["EngineError", "the compiled kernels hold no thrice"]


def test_a_refused_kernel_differs_from_a_missing_one():
    class Cubin:
        def __init__(self, error):
            self.error = error

        def get_kernel(self, name):
            if self.error:
                raise RuntimeError(self.error)
            return name

    missing = Cubin("CUDA_ERROR_NOT_FOUND: named symbol not found")
    assert nvidia._kernel([missing, Cubin("")], "paste") == "paste"
    with pytest.raises(OutOfDeviceMemory, match="load the kernel paste"):
        nvidia._kernel([missing, Cubin("CUDA_ERROR_OUT_OF_MEMORY")], "paste")
    with pytest.raises(EngineError, match="CUDA_ERROR_NO_BINARY_FOR_GPU"):
        nvidia._kernel([Cubin("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image"), Cubin("")], "paste")


def test_without_a_driver_or_cuda_python_the_message_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[rtx\]'"):
        count_gpus()


@pytest.mark.parametrize(("text", "kind"), [
    ("CUDA_ERROR_OUT_OF_MEMORY: The API call failed", OutOfDeviceMemory),
    ("cudaErrorMemoryAllocation", OutOfDeviceMemory),
    ("CUDA_ERROR_ILLEGAL_ADDRESS", DeviceLost), ("cudaErrorLaunchFailure: x", DeviceLost),
    ("cudaErrorIllegalAddress", DeviceLost), ("CUDA_ERROR_INVALID_VALUE", EngineError), ("", EngineError)])
def test_every_failure_says_what_was_being_done(text, kind):
    error = failure(text, "copy")
    assert type(error) is kind
    assert "copy" in str(error)
