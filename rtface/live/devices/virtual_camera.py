"""A virtual camera as the end of a live run: v4l2loopback on Linux, OBS's or Unity Capture's elsewhere."""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from fractions import Fraction
from typing import Literal

from av.error import FFmpegError

from rtface.concurrency.threads import start_thread
from rtface.config.addresses import LiveAddress
from rtface.config.options import Options
from rtface.errors import OutputError, RtfaceError, log
from rtface.frame import Frame
from rtface.live.devices.camera_buffer import CameraBuffer, even
from rtface.live.devices.pyvirtualcam_output import PyvirtualcamOutput
from rtface.live.devices.v4l2_loopback import V4l2LoopbackOutput, find
from rtface.live.protocols import EndpointHealth, LiveSink, SoundFormat, VideoFormat

CameraOutput = V4l2LoopbackOutput | PyvirtualcamOutput

POLL = 0.25
"""Seconds between two checks for readers, where the driver does not report them."""
_HELD_POLL, _HELD_RATE = 1.0, Fraction(30)
_RETRY_WAITS_S = (0.25, 0.5, 1.0)
_RETRY_S = 60.0
_LATER = 5.0


def open_output(name: str, width: int, height: int, pix_fmt: str, rate: Fraction) -> CameraOutput:
    """Opens the first virtual camera of that name that is available.

    Raises:
        MissingComponent, UsageError, OutputError: there is none, none of that name, or it is in use.
    """
    if platform.system() != "Linux":
        return PyvirtualcamOutput(name, width, height, pix_fmt, rate)
    refused: OutputError | None = None
    for node in find(name):
        try:
            return V4l2LoopbackOutput(node, width, height, pix_fmt, rate)
        except OutputError as error:
            refused = refused or error
    raise refused or OutputError("there is no virtual camera", code="vcam_none")


def open_virtual_camera(address: LiveAddress, options: Options, *, metadata: dict[str, str]) -> VirtualCamera:
    """The sink for ``vcam:NAME``, not yet opened."""
    return VirtualCamera(address.name)


def why_unusable(name: str) -> str | None:
    """Why no virtual camera can be fed here, as far as that is seen without opening one; None where one can."""
    if platform.system() != "Linux":
        return None
    try:
        find("")
    except RtfaceError as error:
        return str(error)
    return None


def wait_for_reader(name: str, width: int, height: int, stop: threading.Event) -> None:
    """Holds a virtual camera open with a black frame, so that programs list it, until one of them reads it or `stop`
    is set. Returns at once where the system does not tell of readers.

    Raises:
        MissingComponent, UsageError, OutputError: as `open_output`.
    """
    output = _open_black(name, width, height, "yuv420p", _HELD_RATE)
    try:
        while not stop.is_set() and output.watch(_HELD_POLL, stop) is False:
            pass
    finally:
        output.close()


def _open_black(name: str, width: int, height: int, pix_fmt: str, rate: Fraction) -> CameraOutput:
    """`open_output` with a black frame, so that readers find a camera where no other comes."""
    output = open_output(name, width, height, pix_fmt, rate)
    try:
        output.write(CameraBuffer(output.width, output.height, output.pix_fmt).data)
    except OSError as error:
        output.close()
        raise OutputError(
            "{name} takes no frames: {why}", code="vcam_frames", name=output.name, why=error.strerror or error
        ) from None
    return output


class VirtualCamera(LiveSink):
    """A virtual camera as a `LiveSink`; `rtface.live.devices.camera_buffer` converts the colours.

    A device that fails later is opened again until `close`; frames are dropped meanwhile.
    """

    def __init__(self, name: str = "") -> None:
        """
        Args:
            name: a label, ``/dev/videoN``, "obs", "unitycapture", a camera's name, or "" for the first available one.
        """
        self._name = name
        self._lock = threading.Lock()  # never held while a device is opened, closed or waited for
        self._output: CameraOutput | None = None
        self._canvas: CameraBuffer | None = None
        self._form: VideoFormat | None = None
        self._notes: list[str] = []
        self._described = f"virtual camera {name}".rstrip()
        self._state: Literal["opening", "live", "away", "closed"] = "opening"
        self._detail, self._since = "", time.monotonic()
        self._size: tuple[int, int] | None = None
        self._frames = self._dropped = self._reopened = 0
        self._causes: Counter[str] = Counter()
        self._wanted = True
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def described(self) -> str:
        return self._described

    @property
    def notes(self) -> list[str]:
        return list(self._notes)

    @property
    def health(self) -> EndpointHealth:
        with self._lock:
            return EndpointHealth(
                self._state,
                self._detail,
                self._since,
                self._frames,
                self._dropped,
                reopened=self._reopened,
                causes=dict(self._causes),
                size=self._size,
            )

    @property
    def wanted(self) -> bool:
        return self._wanted

    def open(self, form: VideoFormat, *, sound: SoundFormat | None) -> None:
        """Opens the device; readers see black until the first frame, and hear nothing.

        Raises:
            MissingComponent, UsageError, OutputError: it is not available; the message says what to do.
        """
        self._form = form
        output = self._connect()
        self._size = output.width, output.height
        self._described = f"virtual camera {output.name}, {output.width}×{output.height}"
        self._notes = [*self._differences(form), *output.notes]
        if sound:
            self._notes.append("a virtual camera carries no sound; choose the microphone in the call itself")
        with self._lock:
            self._take(output)
        self._thread = start_thread("vcam", self._watch)

    def write(self, frame: Frame) -> None:
        """Writes a frame, or drops it while the device is away. Never raises."""
        with self._lock:
            self._frames += 1
            if self._output is None or self._canvas is None or self._state != "live":
                self._drop("away")
                return
            try:
                self._canvas.draw(frame.image, frame.color, frame.display.aspect)
            except (FFmpegError, ValueError) as error:  # a frame that swscale cannot read
                self._drop("form")
                self._detail = f"a frame could not be converted: {error}"
                return
            try:
                self._output.write(self._canvas.data)
            except OSError as error:
                self._drop("away")
                self._lost(error)

    def _drop(self, cause: str) -> None:
        self._dropped += 1
        self._causes[cause] += 1

    def close(self) -> None:
        """Lets the device go, usable for the next."""
        self._stop.set()
        with self._lock:
            output, self._output, self._canvas = self._output, None, None
            if self._state != "closed":
                self._set("closed", "")
        if self._thread is not None:
            self._thread.join(1.0)  # it may be waiting for an event of the device
        if output is not None:
            output.close()

    def _connect(self) -> CameraOutput:
        form = self._form
        assert form is not None
        width, height = even(form.width * form.aspect), even(form.height)
        return _open_black(self._name, width, height, "nv12" if form.pix_fmt == "nv12" else "yuv420p", form.rate)

    def _differences(self, form: VideoFormat) -> list[str]:
        width, height = even(form.width * form.aspect), even(form.height)
        if form.aspect != 1:
            return [f"frames are made {width}×{height}: a virtual camera has square samples only"]
        if (width, height) != (form.width, form.height):
            return [
                f"frames are made {width}×{height} by repeating the last row or column: a virtual camera takes "
                "even sizes only"
            ]
        return []

    def _take(self, output: CameraOutput) -> None:
        self._output = output
        self._canvas = CameraBuffer(output.width, output.height, output.pix_fmt)
        self._wanted = True
        self._set("live", output.name)

    def _set(self, state: Literal["live", "away", "closed"], detail: str) -> None:
        self._state, self._detail, self._since = state, detail, time.monotonic()

    def _lost(self, error: OSError) -> None:
        """Under the lock: the watcher closes and opens."""
        self._set("away", f"the virtual camera takes no frames: {error.strerror or error}")
        log.warning("%s: %s", self._described, self._detail)

    def _watch(self) -> None:
        tries = 0
        while not self._stop.is_set():
            with self._lock:
                output, away, since = self._output, self._state == "away", self._since
                if away:
                    self._output = None  # from here on it is this thread's alone
            if output is not None and not away:
                tries = 0
                self._wanted = output.watch(POLL, self._stop) is not False
                continue
            if output is not None:
                output.close()
            long = time.monotonic() - since > _RETRY_S
            self._stop.wait(_LATER if long else _RETRY_WAITS_S[min(tries, len(_RETRY_WAITS_S) - 1)])
            tries += 1
            self._again()

    def _again(self) -> None:
        if self._stop.is_set():
            return
        try:
            output = self._connect()
        except RtfaceError as error:
            with self._lock:
                if self._state == "away":
                    self._detail = error.message
            return
        with self._lock:
            if not self._stop.is_set():
                self._reopened += 1
                self._take(output)
                return
        output.close()
