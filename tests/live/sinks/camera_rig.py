"""Stand-ins for what a virtual camera writes to, and frames for it."""

from __future__ import annotations

import os
import time
from enum import Enum
from fractions import Fraction
from pathlib import Path
from types import ModuleType

from rtface.config.addresses import LiveAddress
from rtface.frame import Color, Frame
from rtface.live.protocols import TIME_BASE, VideoFormat
from rtface.live.sinks.virtual_camera import VirtualCamera
from tests.live.sinks.test_camera_buffer import noise

COLOR = Color("bt601")


def camera(name=""):
    return VirtualCamera(LiveAddress("vcam", name))


def form(width=64, height=48, pix_fmt="yuv420p", rate=30, aspect=1):
    return VideoFormat(width, height, pix_fmt, Fraction(rate), COLOR, Fraction(aspect))


def frame(width=64, height=48, pix_fmt="yuv420p", seed=0):
    return Frame(noise(width, height, pix_fmt, seed), 0, TIME_BASE, color=COLOR, captured_at=time.monotonic())


def descriptor(device):
    """The file descriptor that this process has open on a device's node."""
    (found,) = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd) == str(device)]
    return found


class StandIn(ModuleType):
    """pyvirtualcam, with a camera that is there or complains as its backends do."""

    def __init__(self, complaint=""):
        super().__init__("pyvirtualcam")
        self.made, self.fails = [], False
        module = self

        class Camera:
            device = "OBS Virtual Camera"

            def __init__(self, width, height, fps, *, fmt, device=None, backend=None):
                if complaint:
                    raise RuntimeError(complaint)
                self.asked, self.sent, self.closed = (width, height, fps, fmt.name, device, backend), [], False
                module.made.append(self)

            def send(self, frame):
                if module.fails:
                    raise RuntimeError("the queue is gone")
                self.sent.append(frame.copy())

            def close(self):
                self.closed = True

        self.Camera = Camera
        self.PixelFormat = Enum("PixelFormat", "I420")
