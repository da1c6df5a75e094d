"""Tests that need a graphics card. Without one they are skipped and say why; with RTFACE_REQUIRE_GPU=1 they fail."""

from __future__ import annotations

import importlib.util
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from rtface.media import cuda_driver

# Cards of data centres that have decoders but no encoder.
_NO_ENCODER = re.compile(r"\b(A30|A100|A800|H100|H200|H800|H20|GH200|B100|B200|B300|GB200|GB300)\b")


def lacking(why: str) -> None:
    """Skips the test, or fails it where RTFACE_REQUIRE_GPU=1 says that a card must be here."""
    if os.environ.get("RTFACE_REQUIRE_GPU") == "1":
        pytest.fail(f"RTFACE_REQUIRE_GPU=1, but {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> str:
    """The card's name."""
    why = cuda_driver.absent()
    if why is not None:
        lacking(why)
    return cuda_driver.name()


@pytest.fixture(scope="session")
def nvenc(gpu: str) -> str:
    """The card's name, where it has an encoder."""
    if _NO_ENCODER.search(gpu):
        pytest.skip(f"{gpu} has no encoder")
    context: Any = av.CodecContext.create("h264_nvenc", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "nv12", Fraction(1, 25)
    try:
        context.open()
    except av.FFmpegError as error:
        lacking(f"{gpu} does not open h264_nvenc ({error})")
    return gpu


@pytest.fixture(scope="session")
def media() -> Any:
    """The helpers of tests/media: makes and reads small films."""
    spec = importlib.util.spec_from_file_location(
        "media_helpers", Path(__file__).parent.parent / "media" / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tools
