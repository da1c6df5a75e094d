"""The kernels compile for every GPU that NVRTC knows, without one, and are kept."""

import re
import sys

import pytest

from rtface.device.cuda import batch, kernels, nvrtc, shaping
from rtface.errors import EngineError, MissingComponent

SMALL = 'extern "C" __global__ void nothing(float* x) { *x = fmaf(*x, 2.0f, 1.0f); }'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    needed()
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def needed() -> None:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed (pip install -e '.[cuda]')")


SLOW = [("sm_75", shaping), ("sm_90", kernels), ("sm_120", shaping), ("sm_120", batch)]


@pytest.mark.parametrize(
    ("arch", "program"), [("sm_75", batch), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)]
)
def test_the_kernels_compile_and_spill_nothing(arch, program):
    needed()
    code, account = nvrtc.build(program.CODE.read_text(), arch, verbose=True)
    assert code.startswith(b"\x7fELF")
    for name in program.KERNELS:
        assert f"'{name}'".encode() in account.encode() and name.encode() in code
    if "spill" in account:
        spills = [line for line in account.splitlines() if "spill" in line]
        assert len(spills) == len(program.KERNELS)
        assert all(re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", s) for s in spills)


def test_what_was_compiled_is_kept_whole(cache, monkeypatch, tmp_path):
    first = nvrtc.compile(SMALL, (9, 0))
    (kept,) = cache.iterdir()
    assert kept.name.startswith("sm_90-") and kept.read_bytes().endswith(first)
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "build", lambda *_, **__: pytest.fail("compiled again"))
        assert nvrtc.compile(SMALL, (9, 0)) == first
    kept.write_bytes(kept.read_bytes()[:-3])
    assert nvrtc.compile(SMALL, (9, 0)) == first and kept.read_bytes().endswith(first)
    nvrtc.compile(SMALL.replace("1.0f", "3.0f"), (9, 0))
    nvrtc.compile(SMALL, (8, 0))
    assert len(list(cache.iterdir())) == 3
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))  # a folder that cannot be written to
    assert nvrtc.compile(SMALL, (9, 0)) == first


def test_errors_say_what_to_do(cache):
    with pytest.raises(EngineError, match="expected an expression"):
        nvrtc.compile("__global__ void f() { int x = ; }", (9, 0))
    with pytest.raises(EngineError, match=r"sm_999.*pip install -U nvidia-cuda-nvrtc"):
        nvrtc.compile(SMALL, (99, 9))
    assert not cache.exists()


def test_without_cuda_core_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[cuda\]'"):
        nvrtc.compile(SMALL, (9, 0))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingComponent, match=r"pip install .*\[cuda\]'"):
        nvrtc.build(SMALL, "sm_90")
