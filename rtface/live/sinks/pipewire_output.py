"""Writes to a camera of PipeWire. It needs no kernel module."""

from __future__ import annotations

import threading
from fractions import Fraction

from rtface.errors import Message, MissingComponent
from rtface.frame import Bytes
from rtface.live.devices import pipewire
from rtface.live.devices.pipewire import OUTPUT, PipewireStream
from rtface.live.devices.pipewire_formats import fixed_format
from rtface.live.devices.v4l2 import FREE
from rtface.live.protocols import MediaDevice

NAME = "pipewire"
"""Name of this virtual camera, as in ``vcam:pipewire``."""
_LABEL = "rtface"  # name that programs show


def present() -> list[MediaDevice]:
    """Lists the camera that can be created."""
    if not pipewire.is_running():
        return []
    title = Message("{name}, created while rtface runs (PipeWire)", code="pipewire_camera", name=_LABEL)
    return [MediaDevice("virtual camera", f"vcam:{NAME}", title, state=FREE)]


class PipewireOutput:
    """A camera that exists while this object is open. Any number of programs can read it.

    Attributes:
        name: name that programs show.
        width, height: size of the frames.
        notes: notes for the user, one line each.
    """

    def __init__(self, width: int, height: int, rate: Fraction) -> None:
        """Creates the camera.

        Raises:
            MissingComponent, OutputError: PipeWire does not run or refuses; the message has a remedy.
        """
        if not pipewire.is_running():
            raise MissingComponent(
                "{why}; start it with: systemctl --user start pipewire wireplumber",
                code="pipewire_none",
                why=pipewire.MISSING,
            )
        self.name, self.width, self.height, self.notes = f"{_LABEL} (PipeWire)", width, height, list[str]()
        properties = {
            "media.class": "Video/Source",
            "media.role": "Camera",
            "node.name": _LABEL,
            "node.description": _LABEL,
        }
        form = fixed_format("yuv420p", width, height, (rate.numerator, rate.denominator))
        self._stream = PipewireStream(OUTPUT, properties, form, (width * height * 3 // 2, width))

    def watch(self, seconds: float, stop: threading.Event) -> bool:
        """Waits for a change. Returns whether a program reads the camera."""
        return not stop.is_set() and self._stream.wait(seconds)

    def write(self, frame: Bytes) -> None:
        """Submits an I420 frame without waiting. Raises OSError if PipeWire has ended."""
        self._stream.write(frame, self.width)

    def close(self) -> None:
        """Removes the camera."""
        self._stream.close()
