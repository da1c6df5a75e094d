"""Opens cameras and microphones through V4L2, ALSA, AVFoundation and DirectShow."""

from __future__ import annotations

import errno
import os
import re
import sys
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from rtface.errors import InputError, InputMissing, Message
from rtface.live.devices import pipewire_camera, v4l2
from rtface.live.devices.listing import ffmpeg_devices
from rtface.live.devices.v4l2 import USUAL_RATE, USUAL_SIZE, CameraMode, choose, formats, modes, read_text
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import OpenedInput

# PyAV's wheel would search for ALSA's configuration in folders of its build machine.
_ALSA = {"ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf", "ALSA_CONFIG_DIR": "/usr/share/alsa"}


def open_camera(request: SourceRequest) -> OpenedInput:
    """Opens a camera by number, name or device file.

    Raises:
        InputMissing: the camera does not exist, or access is denied.
        InputError: the camera is in use, or delivers no frames.
    """
    if request.format:  # another FFmpeg input replaces the device
        container = av.open(request.name, "r", format=request.format)
    elif sys.platform == "linux":
        return _open_linux(request)
    else:
        container = _open_elsewhere(request)
    return _input(container, request)


def _open_linux(request: SourceRequest) -> OpenedInput:
    """Opens a camera of V4L2, or one that only PipeWire has."""
    try:
        return _open_v4l2(request)
    except InputMissing:
        if (node := pipewire_camera.find(request.name)) is None:
            raise
        return pipewire_camera.open_pipewire(request, node)


def device_of(name: str) -> str:
    """Returns the device file of a Linux camera. `name` is its number, device file or (part of) its name; "" and
    "0" mean the first camera that is not virtual.

    Raises:
        InputMissing: there is no such camera.
    """
    if name.startswith("/dev/"):
        return name
    if name in ("", "0"):  # /dev/video0 may be a virtual camera that was loaded before the first real one
        first = (str(node) for node in v4l2.nodes() if not v4l2.is_loopback(node) and _captures(str(node)))
        if (device := next(first, "")) or name:
            return device or str(v4l2.DEVICES / "video0")
        raise InputMissing("there is no camera; connect one, or give a film instead", code="camera_none")
    if name.isdigit():
        return str(v4l2.DEVICES / f"video{int(name)}")
    text = name.lower()
    labels = [(int(node.name[5:]), v4l2.label(node).lower()) for node in v4l2.nodes()]
    for number, _ in sorted((entry for entry in labels if text in entry[1]), key=lambda entry: entry[1] != text):
        if _captures(device := str(v4l2.DEVICES / f"video{number}")):
            return device
    raise _missing(f"camera {name}")


def _missing(name: str) -> InputMissing:
    return InputMissing("there is no {name}; 'rtface devices' lists the available ones", code="camera_gone", name=name)


def _captures(device: str) -> bool:
    """Tests whether a device delivers frames. A camera may have a second device, which has only metadata."""
    try:
        with v4l2.opened(device) as file:
            return bool(formats(file))
    except PermissionError:
        return True  # opening it later reports the reason
    except OSError:
        return False


def _open_v4l2(request: SourceRequest) -> OpenedInput:
    device = device_of(request.name)
    title = f"camera {request.name or 0}" if not request.name.startswith("/dev/") else device
    try:
        with v4l2.opened(device) as file:
            mode = choose(modes(file), request.size, request.fps)
            captures = mode is not None or bool(formats(file))
        if not captures:
            raise InputError(
                "{name}: delivers no frames; if it is a virtual camera, start the program that writes to it; otherwise "
                "choose a camera that 'rtface devices' lists",
                code="camera_silent",
                name=title,
            )
        container = av.open(device, "r", format="v4l2", options=_v4l2_options(mode, request))
        # The driver uses the monotonic clock.
        return _input(container, request, monotonic=True, label=v4l2.label(Path(device)))
    except (OSError, av.FFmpegError) as error:
        if error.errno == errno.EACCES:
            raise InputMissing(
                "{name}: you have no permission to open it; add yourself to its group: {line}, then log in again",
                code="camera_forbidden",
                name=title,
                line=v4l2.ADD,
            ) from None
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise _missing(title) from None
        if error.errno == errno.EBUSY:
            who = ", ".join(v4l2.users(Path(os.path.realpath(device))))
            raise InputError(
                "{name}: is in use by {who}; close that program first",
                code="camera_used",
                name=title,
                who=who or Message("another program", code="another_program"),
            ) from None
        raise InputError(
            "{name}: cannot be opened ({why}); 'rtface devices' lists all devices",
            code="camera_failed",
            name=title,
            why=error.strerror,
        ) from None


def _v4l2_options(mode: CameraMode | None, request: SourceRequest) -> dict[str, str]:
    if mode is None:  # FFmpeg may support formats that `modes` does not list
        width, height = request.size or USUAL_SIZE
        return {"video_size": f"{width}x{height}", "framerate": str(request.fps or USUAL_RATE)}
    options = {"input_format": mode.format, "video_size": f"{mode.width}x{mode.height}"}
    if mode.rate:
        options["framerate"] = str(mode.nearest(request.fps or USUAL_RATE))
    return options


def _input(
    container: InputContainer, request: SourceRequest, *, monotonic: bool = False, label: str = ""
) -> OpenedInput:
    video = container.streams.video[0]
    context = video.codec_context
    rate = Fraction(video.average_rate or USUAL_RATE)
    requested: list[str] = []
    if request.size and request.size != (context.width, context.height):
        requested.append(f"{request.size[0]}×{request.size[1]}")
    if request.fps and abs(rate / request.fps - 1) > Fraction(1, 50):
        requested.append(f"{float(request.fps):g} fps")
    actual = f"the camera delivers {context.width}×{context.height} at {float(rate):.4g} fps"
    notes = [f"{actual}; {' at '.join(requested)} was requested"] if requested else []
    context.thread_type, context.thread_count = "SLICE", 1
    return OpenedInput(container, video, None, rate, monotonic=monotonic, notes=notes, label=label)


def _open_elsewhere(request: SourceRequest) -> InputContainer:
    """Opens a macOS or Windows camera with the first options it accepts."""
    width, height = request.size or USUAL_SIZE
    size, rate = {"video_size": f"{width}x{height}"}, {"framerate": str(float(request.fps or USUAL_RATE))}
    if sys.platform == "darwin":
        kind, url = "avfoundation", f"{request.name or 0}:none"
        attempts = [size | rate | {"pixel_format": "nv12"}, size | rate, rate, size, {}]
    else:
        kind, url = "dshow", f"video={direct_show_name(request.name or '0', 'video', 'camera')}"
        buffer = {"rtbufsize": "100M"}
        attempts = [buffer | size | rate, buffer | size | {"vcodec": "mjpeg"}, buffer | size, buffer]
    why = ""
    for options in attempts:
        try:
            return av.open(url, "r", format=kind, options=options)
        except av.FFmpegError as error:
            why = error.strerror
    raise InputMissing(
        "camera {name}: cannot be opened ({why}); 'rtface devices' lists all devices; another program may be using it, "
        "or the system's privacy settings may block it",
        code="camera_unopened",
        name=request.name or 0,
        why=why,
    )


def _is_virtual(name: str) -> bool:
    return "virtual" in name.lower() or name.startswith("Unity Video Capture")


def direct_show_name(name: str, media: str, device: str) -> str:
    """Finds a DirectShow device by number or part of its name. Virtual cameras have the last numbers, so that number 0
    is not rtface's own output. Raises InputMissing for an unknown number."""
    names = sorted((entry for entry, types in ffmpeg_devices() if media in types), key=_is_virtual)
    if not name.isdigit():
        return next((entry for entry in names if name.lower() in entry.lower()), name)
    if int(name) >= len(names):
        raise _missing(f"{device} {name}")
    return names[int(name)]


def open_microphone(request: SourceRequest) -> OpenedInput:
    """Opens a microphone by number, name, or the platform's own notation.

    Raises:
        InputMissing: the microphone does not exist, or access is denied.
        InputError: the microphone is in use.
    """
    if request.format:  # another FFmpeg input replaces the device
        container = av.open(request.name, "r", format=request.format)
    elif sys.platform == "linux":
        container = _open_alsa(request.name)
    elif sys.platform == "darwin":
        container = _open(request.name, f":{request.name or 0}", "avfoundation", {})
    else:
        name = "0" if request.name in ("", "default") else request.name
        device = direct_show_name(name, "audio", "microphone")
        container = _open(request.name, f"audio={device}", "dshow", {"audio_buffer_size": "20"})
    return OpenedInput(container, None, container.streams.audio[0], Fraction(0))


def alsa_device(name: str, cards: str) -> str:
    """Returns ALSA's name of a microphone.

    Args:
        name: "" for the default, a card's number or (part of) its name, or ALSA's own name, such as "plughw:1,0".
        cards: content of /proc/asound/cards.

    Raises:
        InputMissing: no card has that number or name.
    """
    if name in ("", "default"):
        return "default"
    entries = re.findall(r"^\s*(\d+) \[(\S+)\s*\]: (.*)$", cards, re.MULTILINE)
    for number, card_id, description in entries:
        if name == number or name.lower() in f"{card_id} {description}".lower():
            return f"plughw:{number}"
    if ":" in name or name in ("pulse", "pipewire", "sysdefault"):
        return name
    raise _missing(f"microphone {name}")


def _open_alsa(name: str) -> InputContainer:
    for variable, path in _ALSA.items():
        if Path(path).exists():
            os.environ.setdefault(variable, path)
    device = alsa_device(name, read_text(Path("/proc/asound/cards")))
    try:
        return _open(name, device, "alsa", {"channels": "2", "sample_rate": "48000"})
    except InputError:
        return _open(name, device, "alsa", {"channels": "1", "sample_rate": "48000"})  # "hw:" devices convert nothing


def _open(name: str, device: str, kind: str, options: dict[str, str]) -> InputContainer:
    title = f"microphone {name or 'default'}"
    try:
        return av.open(device, "r", format=kind, options=options)
    except av.FFmpegError as error:
        if error.errno == errno.EBUSY:
            raise InputError(
                '{name}: is in use by another program; close that program first, or use ALSA\'s "default" or "pulse", '
                "which share it",
                code="microphone_busy",
                name=title,
            ) from None
        raise InputMissing(
            "{name}: cannot be opened ({why}); 'rtface devices' lists all devices; without permission: sudo usermod "
            "-aG audio $USER, then log in again",
            code="microphone_failed",
            name=title,
            why=error.strerror,
        ) from None
