"""List of what a live run can read and write: cameras, microphones, and the targets of sinks, those of plugins too."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rtface.errors import Message
from rtface.live.devices import v4l2
from rtface.live.devices.v4l2 import CameraMode
from rtface.live.protocols import MediaDevice
from rtface.util import plugins

ASOUND = Path("/proc/asound")
_END = Message("end that program, or its camera", code="camera_in_use_repair")


def _cameras() -> Iterator[MediaDevice]:
    for node in v4l2.nodes():
        if v4l2.is_loopback(node):
            continue
        name, users = v4l2.label(node), v4l2.users(node)
        state, advice = (v4l2.IN_USE, _END) if users else (v4l2.FREE, "")
        try:
            with v4l2.opened(node) as device:
                offered = v4l2.modes(device)
        except PermissionError:
            offered, state, advice = None, v4l2.FORBIDDEN, v4l2.JOIN
        except OSError:
            continue
        if offered != []:  # a webcam has a second device, for its statistics
            lines = shown(offered or ())
            yield MediaDevice("camera", f"camera:{node.name[5:]}", name, str(node), state, advice, users, lines)


def shown(offered: Iterable[CameraMode]) -> tuple[str, ...]:
    """A line for each format: "mjpeg: 1280×720 (30 fps), 640×480 (30 fps)"."""
    lines: dict[str, list[str]] = {}
    for mode in offered:
        lines.setdefault(mode.format, []).append(
            f"{mode.width}×{mode.height}" + (f" ({float(mode.rate):g} fps)" if mode.rate else "")
        )
    return tuple(f"{pix_fmt}: {', '.join(sizes)}" for pix_fmt, sizes in lines.items())


def _microphones() -> Iterator[MediaDevice]:
    """Microphones of Linux: ALSA's, by sound card and device."""
    # A line is "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1".
    for line in v4l2.read_text(ASOUND / "pcm").splitlines():
        parts = [part.strip() for part in line.split(":")]
        match = re.fullmatch(r"(\d+)-(\d+)", parts[0])
        if match and any(part.startswith("capture") for part in parts[3:]):
            card, number = int(match[1]), int(match[2])
            name = parts[1] or v4l2.read_text(ASOUND / f"card{card}" / "id", f"card {card}")
            yield MediaDevice("microphone", f"hw:{card},{number}", name)


def _outside() -> Iterator[MediaDevice]:
    """Devices of Windows and macOS."""
    found = ffmpeg_devices()
    numbered = platform.system() == "Darwin"
    for number, name in enumerate(name for name, types in found if "video" in types):
        yield MediaDevice("camera", f"camera:{number if numbered else name}", name)
    yield from (MediaDevice("microphone", name, name) for name, types in found if "audio" in types)


def ffmpeg_devices() -> list[tuple[str, list[str]]]:
    """Names of the devices that FFmpeg lists on Windows and macOS, each with its types of media."""
    import av
    from av.error import FFmpegError

    try:
        listed = av.enumerate_input_devices("dshow" if platform.system() == "Windows" else "avfoundation")
    except (FFmpegError, ValueError, OSError):
        return []
    return [(entry.description or entry.name, entry.media_types) for entry in listed]


def devices() -> tuple[list[MediaDevice], list[plugins.Extension]]:
    """All sources and targets that can be queried, and the sinks that cannot be used here. Opens devices for the query,
    never starts one."""
    linux, unusable = platform.system() == "Linux", list[plugins.Extension]()
    found = [*_cameras(), *_microphones()] if linux else [*_outside()]
    for sink in plugins.extensions("sink"):
        targets, fault = (None, None) if sink.unusable else plugins.ask("sink", sink.name, "list")
        found += targets or ()
        if sink.unusable or fault:
            unusable.append(replace(sink, unusable=sink.unusable or fault))
    return found, unusable
