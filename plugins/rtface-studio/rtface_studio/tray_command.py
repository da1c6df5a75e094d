"""``rtface tray``: shows a tray icon that keeps a virtual camera ready."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import command
from rtface.cli.console import Console
from rtface.cli.signals import StopRequest
from rtface.errors import MissingComponent, UsageError
from rtface.util.events import read_events

if TYPE_CHECKING:
    from rtface_studio.tray.view import TrayIcon, TrayView


@command()
def tray(
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="The camera, as for rtface run.")] = "camera:0",
    output: Annotated[str, typer.Argument(metavar="VCAM", help="The virtual camera.")] = "vcam:",
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- OPTIONS",
            show_default=False,
            help=("Options of rtface run, for example: rtface tray camera:0 vcam: -- --strength 0.8"),
        ),
    ] = None,
    *,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show a tray icon that keeps a virtual camera ready.

    Its menu turns the enhancement on or off, opens the studio, and sets whether the icon starts at login. On Linux,
    the physical camera is off while no program reads the virtual camera. On other systems it stays on.
    """
    from rtface.config.addresses import parse_address
    from rtface_studio.catalogue import system_language
    from rtface_studio.live_run import LivePlan, LiveRun
    from rtface_studio.tray.app import TrayApp
    from rtface_studio.tray.camera_run import CameraRun

    source, sink = parse_address(camera), parse_address(output)
    if source.kind != "camera" or sink.kind != "vcam":
        raise UsageError(
            "{camera} {output}: rtface tray needs a camera and a virtual camera, as in: rtface tray camera:0 vcam:",
            code="tray_ends",
            camera=camera,
            output=output,
        )
    if sys.platform == "linux" and source.name in ("", "0"):
        from rtface.live.devices import v4l2
        from rtface.live.devices.capture import device_of

        # The name, unlike the number, stays the same if the camera is plugged in elsewhere.
        source = replace(source, name=v4l2.label(Path(device_of(source.name))) or source.name)
    plan = LivePlan(source, sink, {}, tuple(options or ()))
    _check(plan.command()[0])
    make_icon = _icon_factory()

    def wait(width: int, height: int, stopped: threading.Event) -> None:
        from rtface.live.sinks.virtual_camera import wait_for_reader

        wait_for_reader(sink.name, width, height, stopped)

    camera_run = CameraRun(lambda: LiveRun(plan), wait)
    pythonw = Path(sys.executable).with_name("pythonw.exe")  # opens no console window
    python = str(pythonw) if sys.platform == "win32" and pythonw.is_file() else sys.executable
    command_line = [python, "-P", "-m", "rtface", "tray", camera, output, *(["--", *options] if options else [])]
    app = TrayApp(camera_run, command_line, lambda line: console.log(line, "warning"), stop.event, system_language())
    app.icon = make_icon(app.view(), console.log)
    camera_run.changed = app.refresh
    camera_run.begin()
    try:
        app.icon.run(stop.event)
    finally:
        app.close()


def _icon_factory() -> Callable[[TrayView, Callable[[str], None]], TrayIcon]:
    """Returns the class that shows the icon on this desktop. Raises MissingComponent if its package is missing."""
    from rtface.util.install import plugin_line

    try:
        if sys.platform == "linux":
            from rtface_studio.tray.status_notifier import StatusNotifier

            return StatusNotifier
        from rtface_studio.tray.pystray_icon import PystrayIcon
    except ImportError as error:
        raise MissingComponent(
            "the tray icon needs the package {name}: {repair}",
            code="tray_package",
            name=error.name,
            repair=plugin_line("rtface-studio", "tray"),
        ) from error
    return lambda view, show: PystrayIcon(view)


def _check(command: list[str]) -> None:
    """Checks the options of the live run. Raises UsageError for wrong options."""
    end = command.index("run") + 1
    result = subprocess.run(
        [*command[:end], "--dry-run", *command[end:]], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if result.returncode:
        raise UsageError(read_events(result.stderr.splitlines()) or "rtface run could not be started")
