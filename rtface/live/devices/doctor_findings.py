"""Findings of ``rtface doctor`` about cameras, virtual cameras and streams."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

from rtface.errors import Message, MissingComponent
from rtface.live.devices import v4l2
from rtface.live.devices.camera_modes import CameraMode, choose, modes_of
from rtface.live.devices.listing import devices, loopback
from rtface.live.sources import srt
from rtface.util.finding import Finding

MODULES = Path("/lib/modules")
CALL = (1280, 720), Fraction(30)
"""What a call wants of a camera."""
_JOIN = Message("{line}, then log in again", code="repair_join", line=v4l2.ADD)


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
        here = "v4l2loopback.ko" in v4l2.read_text(MODULES / platform.release() / "modules.dep")
        what = (
            Message("none (v4l2loopback is not loaded); only calls need one", code="camera_module_off")
            if here
            else Message("none (v4l2loopback is not installed); only calls need one", code="no_camera_module")
        )
        install = (
            f"{v4l2.APT} && {v4l2.CREATE}"
            if shutil.which("apt")
            else Message(f"{v4l2.INSTALL}, then: {{line}}", code="install_loopback", line=v4l2.CREATE)
        )
        yield Finding(name, "ok", what, v4l2.CREATE if here else install)
        return
    if not any(v4l2.is_loopback(node) for node in v4l2.nodes()):
        yield Finding(
            name,
            "warn",
            Message("none: v4l2loopback is loaded, but has no device", code="no_loopback_device"),
            v4l2.RELOAD,
        )
    yield Finding(
        "v4l2loopback",
        "ok",
        Message(
            "{version}: programs that write without asking to stream leave it stuck; rtface repairs that",
            code="loopback_old",
            version=version,
        )
        if version.startswith("0.12")
        else Message("{version}: one program at a time reads a device", code="loopback", version=version),
    )


def _virtual(node: Path) -> Finding:
    device = loopback(node)
    name, where = f"virtual camera {device.name}", f"{device.address} ({node})"
    names = ", ".join(device.users)

    found = partial(Message, where=where, names=names)
    if device.state == "stuck":
        if v4l2.repair(node):
            return Finding(
                name, "ok", found("{where} was stuck (a known fault of v4l2loopback 0.12); repaired", code="repaired")
            )
        stuck = (
            found("{where} is stuck (a known fault of v4l2loopback 0.12), open by {names}", code="stuck_open")
            if names
            else found("{where} is stuck (a known fault of v4l2loopback 0.12)", code="stuck")
        )
        return Finding(
            name,
            "warn",
            stuck,
            Message("close every program that has it open, then: {line}", code="stuck_repair", line=v4l2.RELOAD),
        )
    if device.state == "in use":
        used = (
            found("{where} is in use by another writer: {names}", code="written_by")
            if names
            else found("{where} is in use by another writer", code="written")
        )
        return Finding(
            name, "warn", used, Message("end that one, or name another virtual camera", code="written_repair")
        )
    if device.state == "open to several writers":
        return Finding(
            name,
            "warn",
            found(
                "{where} has exclusive_caps=0: browsers may not list it, and two writers would mix",
                code="several_writers",
            ),
            v4l2.RELOAD,
        )
    if device.state == "no permission":
        return Finding(name, "warn", found("{where} may not be opened", code="forbidden"), _JOIN)
    if device.state != "free":
        return Finding(name, "warn", _closed(where, device.state), v4l2.RELOAD)
    return Finding(
        name,
        "ok",
        found("{where} is free, open by {names}", code="free_open")
        if names
        else found("{where} is free", code="is_free"),
    )


def _closed(where: str, why: str) -> Message:
    return Message("{where} cannot be opened: {why}", code="closed", where=where, why=why)


def _cameras() -> Iterator[Finding]:
    for node in v4l2.nodes():
        if v4l2.is_loopback(node):
            continue
        name, where = f"camera {node.name[5:]}", f"{v4l2.label(node)} ({node})"
        try:
            offered = modes_of(node)
        except PermissionError:
            yield Finding(name, "warn", Message("{where} may not be opened", code="forbidden", where=where), _JOIN)
            continue
        except OSError as error:
            yield Finding(name, "warn", _closed(where, v4l2.why(error)), Message("plug it in again", code="plug"))
            continue
        if offered:
            yield _camera(name, where, node, offered)


def _camera(name: str, where: str, node: Path, offered: list[CameraMode]) -> Finding:
    users = ", ".join(map(str, v4l2.users(node)))
    if users:
        return Finding(
            name,
            "warn",
            Message("{where} is in use by {names}", code="camera_in_use", where=where, names=users),
            Message("end that program, or its camera", code="camera_in_use_repair"),
        )
    size, rate = CALL
    best = choose(offered, size, rate)
    if best is not None and (best.width, best.height) == size and 0 < best.rate < rate:
        faster = max((mode for mode in offered if mode.rate >= rate), key=lambda mode: mode.width, default=None)
        return Finding(
            name,
            "warn",
            Message(
                "{where} gives {given} fps at 1280×720, not {wanted}",
                code="camera_slow",
                where=where,
                given=f"{float(best.rate):g}",
                wanted=f"{float(rate):g}",
            ),
            f"--size {faster.width}x{faster.height}" if faster else "--fps " + f"{float(best.rate):g}",
        )
    return Finding(name, "ok", Message("{where} is free; for a call: {mode}", code="camera", where=where, mode=best))


def _outside() -> Iterator[Finding]:
    from rtface.live.devices.pyvirtualcam_output import INSTALL, ONE

    virtual = [device for device in devices() if device.kind == "virtual camera"]
    for device in virtual:
        yield Finding(
            "virtual camera",
            "ok",
            f"{device.address}: {device.name}. {ONE}"
            if device.address == "vcam:obs"
            else f"{device.address}: {device.name}",
        )
    if not virtual:
        yield Finding(
            "virtual camera",
            "ok",
            Message("none; only calls need one", code="no_virtual_camera"),
            INSTALL.get(platform.system(), ""),
        )


def _srt() -> Finding:
    try:
        srt.library()
    except MissingComponent as error:
        return Finding(
            "srt",
            "ok",
            Message("srt:// needs SRT's library; only srt:// addresses need it", code="no_srt_library"),
            error.values["how"],
        )
    return Finding("srt", "ok", Message("libsrt is there", code="srt"))
