"""Writes to virtual cameras on Windows and macOS (OBS, Unity Capture)."""

from __future__ import annotations

import platform
import threading
from fractions import Fraction
from typing import Any

import numpy as np

from rtface.errors import Message, MissingComponent, OutputError
from rtface.frame import Bytes
from rtface.live.devices.listing import ffmpeg_devices
from rtface.live.protocols import MediaDevice

BACKENDS = {"Windows": {"obs": "OBS", "unitycapture": "Unity Capture"}, "Darwin": {"obs": "OBS"}}
"""Backends in pyvirtualcam with the names of their products, by system."""

INSTALL = {
    "Windows": "install OBS Studio 28 or newer (or Unity Capture)",
    "Darwin": "install OBS Studio 30 or newer, start its virtual camera once, allow it in System Settings, stop it",
}
ONE = "OBS has only one virtual camera, and only one program can feed it: click 'Stop Virtual Camera' in OBS"


def present() -> list[MediaDevice]:
    """Lists the installed virtual cameras."""
    names = [name for name, _ in ffmpeg_devices()]
    return [
        MediaDevice("virtual camera", f"vcam:{key}", f"{product} ({name})")
        for key, product in BACKENDS.get(platform.system(), {}).items()
        if (name := next((name for name in names if product.split()[0] in name), None))
    ]


def why_none() -> Message | None:
    """Explains how to install a virtual camera. Returns None if there is one."""
    system = platform.system()
    if system not in BACKENDS:
        return Message(
            "there are no virtual cameras for {system} that rtface can feed; publish a stream instead",
            code="vcam_system",
            system=system,
        )
    return (
        None if present() else Message("there is no virtual camera; {advice}", code="vcam_none", advice=INSTALL[system])
    )


class PyvirtualcamOutput:
    """A virtual camera of another program, through pyvirtualcam.

    Attributes:
        name: name that programs show.
        width, height: size of the frames that the camera accepts.
        notes: notes for the user, one line each.
    """

    def __init__(self, name: str, width: int, height: int, rate: Fraction) -> None:
        """Opens the camera.

        Args:
            name: "obs", "unitycapture", the name of a camera, or "" for the first available one.

        Raises:
            MissingComponent, OutputError: the camera is not available; the message contains the reason and a remedy.
        """
        system = platform.system()
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingComponent(
                "virtual cameras need pyvirtualcam ({why}): python -m pip install pyvirtualcam",
                code="pyvirtualcam_missing",
                why=error,
            ) from None
        if system not in BACKENDS and (why := why_none()) is not None:
            raise MissingComponent(why)
        backend = next(
            (key for key, product in BACKENDS[system].items() if name.casefold() in (key, product.casefold())), None
        )
        try:
            self._camera: Any = pyvirtualcam.Camera(
                width,
                height,
                float(rate),
                fmt=pyvirtualcam.PixelFormat.I420,
                backend=backend,
                device=None if backend else name or None,
            )
        except RuntimeError as error:  # the message has a line for each backend
            raise OutputError(
                "the virtual camera cannot be opened ({why}); {advice}; {one}",
                code="vcam_unopened",
                why="; ".join(line.strip() for line in str(error).splitlines() if line.strip()),
                advice=INSTALL[system],
                one=ONE,
            ) from None
        self.name = str(self._camera.device)
        self.width, self.height = width, height
        self.notes = [f"{self.name}: {ONE.split(':')[0]}"] if "OBS" in self.name else []

    def write(self, frame: Bytes) -> None:
        """Submits one frame without waiting; raises OSError on failure."""
        try:
            self._camera.send(np.asarray(frame))
        except RuntimeError as error:
            raise OSError(str(error)) from None

    def watch(self, seconds: float, stop: threading.Event) -> bool | None:
        """Waits for `seconds` or until `stop` is set. Returns None, because readers are not reported."""
        stop.wait(seconds)
        return None

    def close(self) -> None:
        """Releases the camera."""
        self._camera.close()
