"""Corrections for tests of the CPU device."""

from collections.abc import Sequence

import numpy as np

from rtface.device.cpu.device import CpuDevice, HostCorrection
from rtface.frame import Frame


def composite(
    device: CpuDevice,
    frame: Frame,
    pixels: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    matrices: Sequence[np.ndarray],
) -> Frame:
    """The frame with N corrections: pixels S×S×3, masks S×S, matrices 2×3."""
    return device.paste(frame, [HostCorrection(*one) for one in zip(pixels, masks, matrices, strict=True)])
