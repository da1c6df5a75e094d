"""The shaping's kernels compile for every card that NVRTC knows, without one."""

import re

import pytest

from rtface.device import nvrtc
from rtface.device.shaping import CODE, KERNELS


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_the_kernels_compile_and_spill_nothing(arch):
    pytest.importorskip("cuda.core", reason="cuda-core is not installed (pip install 'rtface[cuda]')")
    code, said = nvrtc.build(CODE.read_text(), arch, say=True)
    assert code.startswith(b"\x7fELF")
    for name in KERNELS:
        assert name.encode() in code
    if "spill" in said:
        spills = [line for line in said.splitlines() if "spill" in line]
        assert len(spills) == len(KERNELS)
        assert all(re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", s) for s in spills)
