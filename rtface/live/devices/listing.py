"""Lists cameras, microphones, and the targets of sinks, including sinks of plugins."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rtface.errors import Message
from rtface.live.devices import pipewire_camera, v4l2
from rtface.live.devices.v4l2 import CameraMode
from rtface.live.protocols import MediaDevice
from rtface.util import plugins

ASOUND = Path("/proc/asound")
_CLOSE_PROGRAM = Message("close that program, or turn its camera off", code="camera_in_use_repair")


def _cameras() -> Iterator[MediaDevice]:
    for node in v4l2.nodes():
        if v4l2.is_loopback(node):
            continue
        name, users = v4l2.label(node), v4l2.users(node)
        state, advice = (v4l2.IN_USE, _CLOSE_PROGRAM) if users else (v4l2.FREE, "")
        try:
            with v4l2.opened(node) as device:
                camera_modes = v4l2.modes(device)
        except PermissionError:
            camera_modes, state, advice = None, v4l2.FORBIDDEN, v4l2.JOIN
        except OSError:
            continue
        if camera_modes != []:  # skips the second device of a webcam, which has only metadata
            lines = shown(camera_modes or ())
            yield MediaDevice("camera", f"camera:{node.name[5:]}", name, str(node), state, advice, users, lines)


def _pipewire_cameras() -> Iterator[MediaDevice]:
    """Yields the cameras that only PipeWire has."""
    for node in pipewire_camera.cameras():
        if not Path(node.get("api.v4l2.path") or "-").exists():
            name = pipewire_camera.label(node)
            yield MediaDevice("camera", f"camera:{name}", Message("{name} (PipeWire)", code="by_pipewire", name=name))


def shown(camera_modes: Iterable[CameraMode]) -> tuple[str, ...]:
    """Formats camera modes, one line for each format: "mjpeg: 1280×720 (30 fps), 640×480 (30 fps)"."""
    lines: dict[str, list[str]] = {}
    for mode in camera_modes:
        lines.setdefault(mode.format, []).append(
            f"{mode.width}×{mode.height}" + (f" ({float(mode.rate):g} fps)" if mode.rate else "")
        )
    return tuple(f"{pix_fmt}: {', '.join(sizes)}" for pix_fmt, sizes in lines.items())


def _microphones() -> Iterator[MediaDevice]:
    """Yields the microphones that ALSA lists, by sound card and device."""
    # A line is "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1".
    for line in v4l2.read_text(ASOUND / "pcm").splitlines():
        parts = [part.strip() for part in line.split(":")]
        match = re.fullmatch(r"(\d+)-(\d+)", parts[0])
        if match and any(part.startswith("capture") for part in parts[3:]):
            card, number = int(match[1]), int(match[2])
            name = parts[1] or v4l2.read_text(ASOUND / f"card{card}" / "id", f"card {card}")
            yield MediaDevice("microphone", f"hw:{card},{number}", name)


def _other_platforms() -> Iterator[MediaDevice]:
    """Yields the cameras and microphones on Windows and macOS."""
    entries = ffmpeg_devices()
    numbered = platform.system() == "Darwin"
    for number, name in enumerate(name for name, types in entries if "video" in types):
        yield MediaDevice("camera", f"camera:{number if numbered else name}", name)
    yield from (MediaDevice("microphone", name, name) for name, types in entries if "audio" in types)


def ffmpeg_devices() -> list[tuple[str, list[str]]]:
    """Lists FFmpeg's device names on Windows and macOS, with their media types."""
    import av
    from av.error import FFmpegError

    try:
        entries = av.enumerate_input_devices("dshow" if platform.system() == "Windows" else "avfoundation")
    except (FFmpegError, ValueError, OSError):
        return []
    return [(entry.description or entry.name, entry.media_types) for entry in entries]


def devices() -> tuple[list[MediaDevice], list[plugins.Extension]]:
    """Lists all sources and targets, and the sinks that cannot be used. Opens devices to query them, but does not start
    them."""
    linux, unusable = platform.system() == "Linux", list[plugins.Extension]()
    media_devices = [*_cameras(), *_pipewire_cameras(), *_microphones()] if linux else [*_other_platforms()]
    for sink in plugins.extensions("sink"):
        targets, fault = (None, None) if sink.unusable else plugins.ask("sink", sink.name, "list")
        media_devices += targets or ()
        if sink.unusable or fault:
            unusable.append(replace(sink, unusable=sink.unusable or fault))
    return media_devices, unusable
