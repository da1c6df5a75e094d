"""Opening of the screen, whole or a part of it: X11, GDI on Windows, AVFoundation on macOS."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer

from rtface.errors import InputError, InputMissing, UsageError
from rtface.live.devices.camera_modes import USUAL_RATE
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import OpenedInput

_PART = re.compile(r"(\d{2,5})x(\d{2,5})\+(\d{1,5})\+(\d{1,5})")


@dataclass(frozen=True, slots=True)
class ScreenPart:
    """A rectangle of the screen in pixels: its size, and the place of its upper left corner."""

    width: int
    height: int
    x: int
    y: int


def parse_part(name: str) -> ScreenPart | None:
    """The part that an address names after "screen:" (``1280x720+100+50``, as X11 does); None for the whole screen.

    Raises:
        UsageError: it is written otherwise.
    """
    if not name:
        return None
    match = _PART.fullmatch(name)
    if match is None:
        raise UsageError(
            "screen:{name}: write screen: for the whole screen, or screen:1280x720+100+50 for a part of that "
            "size, 100 pixels from its left and 50 from its upper edge",
            code="screen_form",
            name=name,
        )
    return ScreenPart(*map(int, match.groups()))


def why_unusable(name: str, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str | None:
    """Why this session's screen cannot be read, with what to do; None where it may be tried.

    Args:
        name: of the extension, "screen".
        environ: of the process.
        platform: as `sys.platform`.
    """
    if platform in ("darwin", "win32"):
        return None
    if environ.get("WAYLAND_DISPLAY"):
        return (
            "Wayland shows its screen to no program that asks like this; log in to an Xorg session, or capture "
            "the screen with OBS and give rtface OBS's stream"
        )
    if not environ.get("DISPLAY"):
        return "there is no screen in this session (DISPLAY is not set); start rtface in a terminal of the desktop"
    return None


def open_screen(request: SourceRequest) -> OpenedInput:
    """Opens the screen, or the part that the request names.

    Raises:
        InputMissing: there is no screen, or it may not be read.
        InputError: the part is not within the screen.
        UsageError: the part is written wrong.
    """
    part, rate = parse_part(request.name), request.fps or USUAL_RATE
    if (why := why_unusable("screen")) is not None:
        raise InputMissing("screen: {why}", code="screen_fault", why=why)
    try:
        container = _open(part, rate)
    except av.ArgumentError:
        raise InputError(
            "screen:{name}: that part is not within the screen; name one that is", code="screen_part", name=request.name
        ) from None
    except (av.FFmpegError, ValueError) as error:
        raise InputMissing(
            "screen: cannot be read ({why}); the system's privacy settings may refuse it, or the session has ended",
            code="screen_unreadable",
            why=getattr(error, "strerror", None) or error,
        ) from None
    video = container.streams.video[0]
    return OpenedInput(container, video, None, Fraction(video.average_rate or rate))


def _open(part: ScreenPart | None, rate: Fraction) -> InputContainer:
    options = {"framerate": str(rate)}
    if sys.platform == "darwin":
        if part is not None:
            raise InputMissing("a part of the screen cannot be named on macOS; give screen:", code="screen_macos")
        return av.open(
            "Capture screen 0:none",
            "r",
            format="avfoundation",
            options=options | {"capture_cursor": "1", "pixel_format": "nv12"},
        )
    if part is not None:
        options["video_size"] = f"{part.width}x{part.height}"
    if sys.platform == "win32":
        place = {"offset_x": str(part.x), "offset_y": str(part.y)} if part is not None else {}
        return av.open("desktop", "r", format="gdigrab", options=options | place)
    place = {"grab_x": str(part.x), "grab_y": str(part.y)} if part is not None else {}
    return av.open(os.environ["DISPLAY"], "r", format="x11grab", options=options | place)
