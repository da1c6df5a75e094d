"""Writes to a virtual camera: v4l2loopback or PipeWire on Linux, OBS or Unity Capture elsewhere."""

from __future__ import annotations

import contextlib
import platform
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.errors import OutputError, RtfaceError, log
from rtface.frame import Frame
from rtface.live.backoff import Retry
from rtface.live.devices import pipewire
from rtface.live.protocols import EndpointHealth, LiveSink, MediaDevice, SoundFormat, VideoFormat
from rtface.live.sinks import pipewire_output, pyvirtualcam_output, v4l2_loopback
from rtface.live.sinks.camera_buffer import CameraBuffer, even
from rtface.live.sinks.pipewire_output import PipewireOutput
from rtface.live.sinks.pyvirtualcam_output import PyvirtualcamOutput
from rtface.live.sinks.v4l2_loopback import V4l2LoopbackOutput

CameraOutput = V4l2LoopbackOutput | PipewireOutput | PyvirtualcamOutput

POLL = 0.25
"""Seconds between two checks for readers, if the driver does not report them."""
_WAIT_POLL_S, _WAIT_RATE = 1.0, Fraction(30)  # while waiting for the first reader


def wait_for_reader(name: str, width: int, height: int, stop: threading.Event) -> None:
    """Keeps a virtual camera open until it is read or stopped.

    Writes a black frame, so that programs list the camera. Returns at once if the system does not report readers, and
    for PipeWire, whose readers do not follow from this camera to that of the run.

    Raises:
        MissingComponent, UsageError, OutputError: no camera exists, none has that name, or it is in use.
    """
    output = _open_black(name, width, height, _WAIT_RATE)
    try:
        kept = not isinstance(output, PipewireOutput)
        while kept and not stop.is_set() and output.watch(_WAIT_POLL_S, stop) is False:
            pass
    finally:
        output.close()


def _open_black(name: str, width: int, height: int, rate: Fraction) -> CameraOutput:
    """Opens the first available virtual camera with a name. Writes a black frame, so that readers find a camera before
    the first real frame."""
    output = _open(name, width, height, rate)
    try:
        output.write(CameraBuffer(output.width, output.height).data)
    except OSError as error:
        output.close()
        raise OutputError(
            "{name} accepts no frames: {why}", code="vcam_frames", name=output.name, why=error.strerror or error
        ) from None
    return output


def _open(name: str, width: int, height: int, rate: Fraction) -> CameraOutput:
    if platform.system() != "Linux":
        return PyvirtualcamOutput(name, width, height, rate)
    if name.casefold() == pipewire_output.NAME or (not name and v4l2_loopback.why_none() and pipewire.is_running()):
        return PipewireOutput(width, height, rate)
    first_node, *other_nodes = v4l2_loopback.find(name)
    try:
        return V4l2LoopbackOutput(first_node, width, height, rate)
    except OutputError:
        for node in other_nodes:
            with contextlib.suppress(OutputError):
                return V4l2LoopbackOutput(node, width, height, rate)
        raise


class VirtualCamera(LiveSink):
    """A virtual camera as a `LiveSink`; `rtface.live.sinks.camera_buffer` converts the colours.

    If the device fails later, it is reopened (until `close`); frames are dropped in between.
    """

    def __init__(self, endpoint: LiveAddress, *_: object, **__: object) -> None:
        """Creates the sink without opening it.

        Args:
            endpoint: a label, ``/dev/videoN``, "pipewire", "obs", "unitycapture", a camera's name, or "" for the first
                available one.
        """
        self._name = endpoint.name
        self._lock = threading.Lock()  # not held while a device opens or closes, or while the thread waits for it
        self._output: CameraOutput | None = None
        self._canvas: CameraBuffer | None = None
        self._notes: list[str] = []
        self._described = str(endpoint)
        self._health = EndpointHealth("opening")
        self._causes: Counter[str] = Counter()
        self._wanted: bool | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def described(self) -> str:
        return self._described

    @property
    def notes(self) -> list[str]:
        return self._notes

    @property
    def health(self) -> EndpointHealth:
        return replace(self._health, dropped=self._causes.total(), causes=dict(self._causes))

    @property
    def wanted(self) -> bool | None:
        return self._wanted

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Opens the device. Readers see a black picture until the first frame.

        Raises:
            MissingComponent, UsageError, OutputError: the camera is not available; the message has a remedy.
        """
        output = self._connect(form)
        self._notes += output.notes
        if sound:
            self._notes.append("a virtual camera carries no sound; choose the microphone in the call itself")
        self._described = f"virtual camera {output.name}, {output.width}×{output.height}"
        self._health = replace(self._health, size=(output.width, output.height))
        self._use(output)
        self._thread = start_thread("vcam", self._watch, output, form)

    def write(self, frame: Frame) -> None:
        """Writes a frame, or drops it while the device is away."""
        with self._lock:
            self._health = replace(self._health, frames=self._health.frames + 1)
            if self._output is None or self._canvas is None:
                self._causes["away"] += 1
                return
            self._canvas.draw(frame.image, frame.color, frame.display.aspect)
            try:
                self._output.write(self._canvas.data)
            except OSError as error:  # the watcher closes and reopens the device
                self._causes["away"] += 1
                self._output = None
                self._health = self._health.turned(
                    "away", f"the virtual camera accepts no frames: {error.strerror or error}"
                )
                log.warning("%s: %s", self._described, self._health.detail)

    def close(self) -> None:
        """Releases the device, so that other programs can use it."""
        with self._lock:
            self._output = None
            if self._health.state != "closed":
                self._health = self._health.turned("closed", "")
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)  # the thread may wait for an event of the device

    def _connect(self, form: VideoFormat) -> CameraOutput:
        width, height = even(form.width * form.aspect), even(form.height)
        return _open_black(self._name, width, height, form.rate)

    def _use(self, output: CameraOutput, reopened: int = 0) -> None:
        with self._lock:
            if self._health.state != "closed":
                self._output = output
                self._canvas = CameraBuffer(output.width, output.height)
                self._wanted = None
                self._health = replace(self._health, reopened=reopened)
                self._health = self._health.turned("live", output.name)

    def _watch(self, output: CameraOutput, form: VideoFormat) -> None:
        """Watches for readers. Reopens the device when it accepts no frames."""
        while True:
            while self._health.state == "live":
                self._wanted = output.watch(POLL, self._stop)
            output.close()  # `write` no longer uses the device
            retry = Retry()
            while not retry.wait(self._stop):
                try:
                    output = self._connect(form)
                    break
                except RtfaceError as error:
                    with self._lock:
                        if self._health.state == "away":
                            self._health = replace(self._health, detail=error.message)
            else:
                return
            self._use(output, self._health.reopened + 1)

    @classmethod
    def list(cls) -> Sequence[MediaDevice]:
        """Lists the virtual cameras with their state."""
        if platform.system() != "Linux":
            return pyvirtualcam_output.present()
        return [*v4l2_loopback.present(), *pipewire_output.present()]

    @classmethod
    def why_unusable(cls) -> str | None:
        """Explains how to get a virtual camera; None if there is one."""
        if platform.system() != "Linux":
            return pyvirtualcam_output.why_none()
        return None if pipewire.is_running() else v4l2_loopback.why_none()
