"""Findings of ``rtface doctor`` about cameras, virtual cameras and streams."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from rtface.errors import MissingComponent
from rtface.live.devices import v4l2
from rtface.live.devices.camera_modes import CameraMode, choose, modes_of
from rtface.live.devices.listing import devices, loopback
from rtface.live.sources import srt
from rtface.util.finding import Finding

MODULES = Path("/lib/modules")
CALL = (1280, 720), Fraction(30)
"""What a call wants of a camera."""


def check() -> Iterator[Finding]:
    """Findings on everything that a call or a stream needs. A stuck virtual camera is repaired."""
    if platform.system() == "Linux":
        yield from _module()
        yield from map(_virtual, filter(v4l2.is_loopback, v4l2.nodes()))
        yield from _cameras()
    else:
        yield from _outside()
    yield _srt()


def _module() -> Iterator[Finding]:
    name, version = "virtual camera", v4l2.loopback_version()
    if not version:
        try:
            listed = (MODULES / platform.release() / "modules.dep").read_text(errors="replace")
        except OSError:
            listed = ""
        here = "v4l2loopback.ko" in listed
        what = "v4l2loopback is not loaded" if here else "v4l2loopback is not installed"
        install = f"{v4l2.APT} && " if shutil.which("apt") else f"{v4l2.INSTALL}, then: "
        yield Finding(name, "ok", f"none ({what}); only calls need one", ("" if here else install) + v4l2.CREATE)
        return
    if not any(v4l2.is_loopback(node) for node in v4l2.nodes()):
        yield Finding(name, "warn", "none: v4l2loopback is loaded, but has no device", v4l2.RELOAD)
    old = version.startswith("0.12")
    yield Finding("v4l2loopback", "ok", f"{version}: " + (
        "programs that write without asking to stream leave it stuck; rtface repairs that" if old else
        "one program at a time reads a device"))


def _virtual(node: Path) -> Finding:
    device = loopback(node)
    name, where = f"virtual camera {device.name}", f"{device.address} ({node})"
    by = f" by {', '.join(device.users)}" if device.users else ""
    if device.state == "stuck":
        if v4l2.repair(node):
            return Finding(name, "ok", f"{where} was stuck (a known fault of v4l2loopback 0.12); repaired")
        return Finding(name, "warn", f"{where} is stuck (a known fault of v4l2loopback 0.12){by and f', open{by}'}",
                       f"close every program that has it open, then: {v4l2.RELOAD}")
    if device.state == "in use":
        return Finding(name, "warn", f"{where} is in use by another writer{by and f':{by[3:]}'}",
                       "end that one, or name another virtual camera")
    if device.state == "open to several writers":
        return Finding(name, "warn", f"{where} has exclusive_caps=0: browsers may not list it, and two writers would "
                       "mix", v4l2.RELOAD)
    if device.state == "no permission":
        return Finding(name, "warn", f"{where} may not be opened", v4l2.JOIN)
    if device.state != "free":
        return Finding(name, "warn", f"{where} cannot be opened: {device.state}", v4l2.RELOAD)
    return Finding(name, "ok", f"{where} is free{by and f', open{by}'}")


def _cameras() -> Iterator[Finding]:
    for node in v4l2.nodes():
        if v4l2.is_loopback(node):
            continue
        name, where = f"camera {node.name[5:]}", f"{v4l2.label(node)} ({node})"
        try:
            offered = modes_of(node)
        except PermissionError:
            yield Finding(name, "warn", f"{where} may not be opened", v4l2.JOIN)
            continue
        except OSError as error:
            yield Finding(name, "warn", f"{where} cannot be opened: {v4l2.why(error)}", "plug it in again")
            continue
        if offered:
            yield _camera(name, where, node, offered)


def _camera(name: str, where: str, node: Path, offered: list[CameraMode]) -> Finding:
    users = ", ".join(map(str, v4l2.users(node)))
    if users:
        return Finding(name, "warn", f"{where} is in use by {users}", "end that program, or its camera")
    size, rate = CALL
    best = choose(offered, size, rate)
    if best is not None and (best.width, best.height) == size and 0 < best.rate < rate:
        faster = max((mode for mode in offered if mode.rate >= rate), key=lambda mode: mode.width, default=None)
        return Finding(name, "warn", f"{where} gives {float(best.rate):g} fps at 1280×720, not {float(rate):g}",
                       f"--size {faster.width}x{faster.height}" if faster else "--fps " + f"{float(best.rate):g}")
    return Finding(name, "ok", f"{where} is free; for a call: {best}")


def _outside() -> Iterator[Finding]:
    from rtface.live.devices.pyvirtualcam_output import INSTALL, ONE

    virtual = [device for device in devices() if device.kind == "virtual camera"]
    for device in virtual:
        yield Finding("virtual camera", "ok", f"{device.address}: {device.name}. {ONE}"
                      if device.address == "vcam:obs" else f"{device.address}: {device.name}")
    if not virtual:
        yield Finding("virtual camera", "ok", "none; only calls need one", INSTALL.get(platform.system(), ""))


def _srt() -> Finding:
    try:
        srt.library()
    except MissingComponent as error:
        what, _, repair = str(error).rpartition(": ")
        return Finding("srt", "ok", f"{what}; only srt:// addresses need it", repair)
    return Finding("srt", "ok", "libsrt is there")
