"""Opening of microphones: ALSA, AVFoundation and DirectShow."""

from __future__ import annotations

import errno
import os
import re
import sys
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from rtface.errors import InputError, InputMissing
from rtface.live.devices.camera import direct_show_name
from rtface.live.devices.v4l2 import read_text
from rtface.live.messages import SourceRequest
from rtface.live.sources.open_stream import OpenedInput

# PyAV's wheel searches ALSA's configuration and plugins in the folders of its build machine.
_ALSA = {"ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf", "ALSA_CONFIG_DIR": "/usr/share/alsa"}


def open_microphone(request: SourceRequest) -> OpenedInput:
    """Opens a microphone by number, name, or as its platform writes it.

    Raises:
        InputMissing: it is not there, or may not be opened.
        InputError: it is in use.
    """
    if request.format:  # a stand-in
        container = av.open(request.name, "r", format=request.format)
    elif sys.platform == "linux":
        container = _open_alsa(request.name)
    elif sys.platform == "darwin":
        container = _open(request.name, f":{request.name or 0}", "avfoundation", {})
    else:
        wanted = "0" if request.name in ("", "default") else request.name
        device = direct_show_name(wanted, "audio", "microphone")
        container = _open(request.name, f"audio={device}", "dshow", {"audio_buffer_size": "20"})
    return OpenedInput(container, None, container.streams.audio[0], Fraction(0))


def alsa_device(name: str, cards: str) -> str:
    """What ALSA calls a microphone.

    Args:
        name: "" for the default, a card's number or (part of) its name, or ALSA's own name as "plughw:1,0".
        cards: what /proc/asound/cards says.

    Raises:
        InputMissing: no card has that number or name.
    """
    if name in ("", "default"):
        return "default"
    found = re.findall(r"^\s*(\d+) \[(\S+)\s*\]: (.*)$", cards, re.MULTILINE)
    for number, short, long in found:
        if name == number or name.lower() in f"{short} {long}".lower():
            return f"plughw:{number}"
    if ":" in name or name in ("pulse", "pipewire", "sysdefault"):
        return name
    raise InputMissing("{name} is not there; rtface devices lists them", code="camera_gone", name=f"microphone {name}")


def _open_alsa(name: str) -> InputContainer:
    for variable, place in _ALSA.items():
        if Path(place).exists():
            os.environ.setdefault(variable, place)
    device = alsa_device(name, read_text(Path("/proc/asound/cards")))
    try:
        return _open(name, device, "alsa", {"channels": "2", "sample_rate": "48000"})
    except InputError:
        return _open(name, device, "alsa", {"channels": "1", "sample_rate": "48000"})  # hw: converts nothing


def _open(name: str, device: str, kind: str, options: dict[str, str]) -> InputContainer:
    called = f"microphone {name or 'default'}"
    try:
        return av.open(device, "r", format=kind, options=options)
    except av.FFmpegError as error:
        if error.errno == errno.EBUSY:
            raise InputError(
                '{name}: is in use by another program; close that first, or name ALSA\'s "default" or "pulse", '
                "which share it",
                code="microphone_busy",
                name=called,
            ) from None
        raise InputMissing(
            "{name}: cannot be opened ({why}); rtface devices lists them; where it may not be: sudo usermod -aG audio "
            "$USER, then log in again",
            code="microphone_failed",
            name=called,
            why=error.strerror,
        ) from None
