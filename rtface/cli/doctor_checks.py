"""Checks the installation for ``rtface doctor``. Each finding has a state and, for a fault, its repair."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rtface._version import __version__
from rtface.config.option_sources import load
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import Message, MissingComponent, RtfaceError, UsageError
from rtface.util.install import PIP, extra_line, reinstall_line
from rtface.util.paths import cache_dir, config_dir, data_dir

# Each of these installs cv2/, so any of them is enough.
OPENCV_WHEELS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
State = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds the result of one check.

    Attributes:
        name: subject of the check.
        state: "ok"; "warn": works, but not fully; "fault": a run will fail.
        detail: the result.
        repair: how to repair it; empty if no repair is needed.
    """

    name: str
    state: State
    detail: str
    repair: str = ""

    def to_dict(self) -> dict[str, object]:
        """Returns all attributes as a table. "messages" contains the texts with their codes; "command" is the command
        line of the repair."""
        messages = {"detail": Message(self.detail).to_dict(), "repair": Message(self.repair).to_dict()}
        command = self.repair if self.repair.startswith(("sudo ", "python ", "rtface ")) else ""
        return {
            **asdict(self),
            "messages": messages,
            "command": messages["repair"]["values"].get("line", command),
        }


def examine() -> list[Finding]:
    """Returns findings of all checks that need no film; never raises."""
    findings: list[Finding] = []
    for check in (
        check_python,
        check_packages,
        check_engines,
        check_tracker,
        check_folders,
        check_settings,
        check_openvino,
        check_nvidia,
        check_live,
    ):
        try:
            findings.extend(check())
        except Exception as error:  # noqa: BLE001 - a check that breaks is itself a finding
            name, why = check.__name__.removeprefix("check_"), f"{type(error).__name__}: {error}"
            findings.append(Finding(name, "fault", why, reinstall_line()))
    return findings


def check_python() -> Iterator[Finding]:
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", "ok", f"{system}, {os.cpu_count()} cores, {sys.executable}")
    yield Finding("rtface", "ok", f"{__version__} in {Path(__file__).parents[1]}")


def check_packages() -> Iterator[Finding]:
    for line in metadata.requires("rtface") or []:
        match = re.match(r"([A-Za-z0-9_.-]+)([^;]*)$", line)
        if match is None:  # has a marker, so it belongs to an extra
            continue
        names = OPENCV_WHEELS if match[1] in OPENCV_WHEELS else (match[1],)
        if version := next(filter(None, map(_installed, names)), None):
            yield Finding(match[1], "ok", version)
        else:
            yield Finding(match[1], "fault", Message("not installed", code="missing"), f"{PIP} '{line}'")


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def check_engines() -> Iterator[Finding]:
    recipes = find_recipes()
    if not recipes:
        yield Finding("engines", "fault", Message("none is installed", code="no_engines"), reinstall_line())
    for name, path in recipes.items():
        try:
            recipe = load_recipe(path)
            fault = recipe.fault(reread=True)
        except RtfaceError as error:
            is_added = not path.is_relative_to(Path(__file__).parents[1])
            repair = f"rtface engines remove {name}" if is_added else reinstall_line(path)
            yield Finding(f"engine {name}", "fault", error.message, repair)
            continue
        ok_detail = Message(
            "{version}, weights {size} MB, SHA-256 OK",
            code="weights",
            version=recipe.version,
            size=f"{recipe.weights.bytes / 1e6:.1f}",
        )
        fault_detail = Message("weights {path}: {why}", code="weights_fault", path=recipe.model_path, why=fault)
        result = ("fault", fault_detail, recipe.repair_line) if fault else ("ok", ok_detail, "")
        yield Finding(f"engine {name}", *result)


def check_tracker() -> Iterator[Finding]:
    from rtface.tracking import models

    for name in models.SHA256:
        try:
            models.path(name)
        except RtfaceError as error:
            repair = reinstall_line(models.file_of(name))
            yield Finding(f"tracker {name}", "fault", str(error).split("; repair")[0], repair)
        else:
            yield Finding(f"tracker {name}", "ok", Message("SHA-256 OK", code="sum"))


def check_folders() -> Iterator[Finding]:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = "{folder} cannot be written ({why}), so every start compiles the networks again"
        why = Message(text, code="cache", folder=folder, why=error.strerror)
        repair = Message("set RTFACE_CACHE to a writable folder", code="cache_repair")
        yield Finding("cache", "warn", why, repair)
    else:
        yield Finding("cache", "ok", str(folder))
    with suppress(UsageError):  # reported by commands that need it
        yield Finding("data", "ok", str(data_dir()))


def check_settings() -> Iterator[Finding]:
    path = (config_dir() or Path()) / "rtface.toml"
    try:
        loaded = load({})
    except RtfaceError as error:
        repair = Message("correct the file named in the message", code="settings_repair")
        yield Finding("configuration", "fault", error.message, repair)
        return
    changed = [f"{key} by {source}" for key, source in loaded.sources.items() if source != "default"]
    yield Finding("configuration", "ok", ", ".join(changed) or Message("defaults ({path})", code="defaults", path=path))


def check_openvino() -> Iterator[Finding]:
    from rtface.util.openvino_core import core

    for device in core().available_devices:
        name: Any = core().get_property(device, "FULL_DEVICE_NAME")
        capabilities: Any = core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        native = ", ".join(kind for kind in ("BF16", "FP16", "INT8") if kind in capabilities) or "FP32"
        flag = "cpu" if device == "CPU" else f"openvino:{device.lower()}"
        yield Finding(f"openvino {device}", "ok", f"{name} ({native}): --device {flag}")


def check_nvidia() -> Iterator[Finding]:
    from rtface.engine.cuda import driver

    try:
        nvidia = driver.driver()
    except RtfaceError as error:
        yield Finding("nvidia", "ok", Message("{why}; engines do not run on CUDA", code="no_cuda", why=error))
        return
    gpus = ", ".join(nvidia.gpus)
    if missing_names := ", ".join(driver.missing()):
        text = "{gpus}, driver for CUDA {version}; engines cannot run on CUDA without {names}"
        warning = Message(text, code="cuda_lacks", gpus=gpus, version=nvidia.cuda, names=missing_names)
        yield Finding("nvidia", "warn", warning, extra_line("rtx"))
    else:
        yield Finding("nvidia", "ok", f"{gpus}, driver for CUDA {nvidia.cuda}: --device cuda")


def check_live() -> Iterator[Finding]:
    from rtface.live.devices.listing import devices
    from rtface.live.sources import srt

    endpoints, unusable = devices()
    for device in endpoints:
        if device.kind != "microphone":
            names = ", ".join(device.users)
            yield Finding(
                device.address,
                "warn" if device.advice else "ok",
                Message(
                    "{where}: {state}, open in {names}" if names else "{where}: {state}",
                    code="device_open" if names else "device",
                    where=f"{device.name} ({device.node})" if device.node else device.name,
                    state=device.state or Message("available", code="is_there"),
                    names=names,
                ),
                device.advice,
            )
    for sink in unusable:  # most runs need no virtual camera
        state = "ok" if sink.name == "vcam" else "warn"
        yield Finding(sink.name, state, Message("cannot be used here", code="sink_unusable"), sink.unusable or "")
    try:
        srt.library()
    except MissingComponent as error:
        what = Message("SRT's library is not installed; only srt:// addresses need it", code="no_srt_library")
        yield Finding("srt", "ok", what, error.values["how"])
    else:
        yield Finding("srt", "ok", Message("libsrt is installed", code="srt"))
