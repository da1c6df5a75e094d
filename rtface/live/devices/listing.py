"""List of cameras, the screen, virtual cameras and microphones with their addresses."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rtface.live.devices import v4l2
from rtface.live.devices.camera_modes import CameraMode, modes_of
from rtface.live.devices.screen import why_unusable

Kind = Literal["camera", "screen", "virtual camera", "microphone"]
ASOUND = Path("/proc/asound")


@dataclass(frozen=True, slots=True)
class MediaDevice:
    """One device.

    Attributes:
        kind: what it is.
        address: what to type, as "camera:0", "screen:", "vcam:rtface".
        name: its own.
        node: its path, "" where it has none.
        state: "free", "in use", "stuck", "open to several writers", "no permission", or "" where that is not known.
        users: who has it open: programs with their pid.
        modes: a line for each size and format.
    """

    kind: Kind
    address: str
    name: str
    node: str = ""
    state: str = ""
    users: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All attributes as a table."""
        return asdict(self)


def devices() -> list[MediaDevice]:
    """All devices that can be queried. Opens devices for the query, never starts one."""
    found = [*_linux_video(), *microphones()] if platform.system() == "Linux" else [*_outside()]
    return [*found, MediaDevice("screen", "screen:", "the whole screen")] if not why_unusable("screen") else found


def _linux_video() -> list[MediaDevice]:
    virtual, cameras = list[MediaDevice](), list[MediaDevice]()
    for node in v4l2.nodes():
        if v4l2.is_loopback(node):
            virtual.append(loopback(node))
        elif camera := _camera(node):
            cameras.append(camera)
    labels = [device.name for device in virtual]
    return cameras + [
        device if labels.count(device.name) == 1 else replace(device, address=f"vcam:{device.node}")
        for device in virtual
    ]


def _camera(node: Path) -> MediaDevice | None:
    """None where a device is no camera (a webcam has a second one for its statistics)."""
    name, number = v4l2.label(node), node.name[5:]
    users = tuple(map(str, v4l2.users(node)))
    try:
        offered = modes_of(node)
    except PermissionError:
        return MediaDevice("camera", f"camera:{number}", name, str(node), "no permission", users)
    except OSError:
        return None
    if not offered:
        return None
    return MediaDevice(
        "camera", f"camera:{number}", name, str(node), "in use" if users else "free", users, shown(offered)
    )


def shown(offered: Iterable[CameraMode]) -> tuple[str, ...]:
    """A line for each format: "mjpeg: 1280×720 (30 fps), 640×480 (30 fps)"."""
    lines: dict[str, list[str]] = {}
    for mode in offered:
        lines.setdefault(mode.format, []).append(
            f"{mode.width}×{mode.height}" + (f" ({float(mode.rate):g} fps)" if mode.rate else "")
        )
    return tuple(f"{pix_fmt}: {', '.join(sizes)}" for pix_fmt, sizes in lines.items())


def loopback(node: Path) -> MediaDevice:
    """State of a loopback device; repairs nothing."""
    name = v4l2.label(node)
    users = tuple(map(str, v4l2.users(node)))
    try:
        can = v4l2.query(node)
    except PermissionError:
        state = "no permission"
    except OSError as error:
        state = v4l2.why(error)
    else:
        if not can.captures and not can.outputs:
            state = "stuck"
        elif not can.outputs:
            state = "in use"
        elif v4l2.mixes(can):
            state = "open to several writers"
        else:
            state = "free"
    return MediaDevice("virtual camera", f"vcam:{name or node}", name, str(node), state, users)


def microphones() -> list[MediaDevice]:
    """Microphones of Linux: ALSA's, by sound card and device."""
    found: list[MediaDevice] = []
    # A line is "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1".
    for line in v4l2.read_text(ASOUND / "pcm").splitlines():
        parts = [part.strip() for part in line.split(":")]
        match = re.fullmatch(r"(\d+)-(\d+)", parts[0])
        if match and any(part.startswith("capture") for part in parts[3:]):
            card, number = int(match[1]), int(match[2])
            name = parts[1] or v4l2.read_text(ASOUND / f"card{card}" / "id", f"card {card}")
            found.append(MediaDevice("microphone", f"hw:{card},{number}", name))
    return found


def _outside() -> list[MediaDevice]:
    """Devices of Windows and macOS, as FFmpeg lists them."""
    import av
    from av.error import FFmpegError

    from rtface.live.devices.pyvirtualcam_output import BACKENDS

    system = platform.system()
    try:
        listed = av.enumerate_input_devices("dshow" if system == "Windows" else "avfoundation")
    except (FFmpegError, ValueError, OSError):
        listed = []
    found: list[MediaDevice] = []
    for kind, word, prefix in (("camera", "video", "camera:"), ("microphone", "audio", "")):
        mine = [entry for entry in listed if word in entry.media_types]
        for number, entry in enumerate(mine):
            name = entry.description or entry.name
            own = f"{prefix}{number}" if prefix and system == "Darwin" else f"{prefix}{name}"
            found.append(MediaDevice(kind, own, name))  # pyright: ignore[reportArgumentType]
    known = [entry.description or entry.name for entry in listed]
    for key, shown_as in BACKENDS.get(system, {}).items():
        word = "OBS" if key == "obs" else "Unity"
        if name := next((name for name in known if word in name), None):
            found.append(MediaDevice("virtual camera", f"vcam:{key}", f"{shown_as} ({name})"))
    return found
