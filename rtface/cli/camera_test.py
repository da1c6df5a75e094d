"""``rtface camera-test``: shows what light and each look would change on a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli import early_checks
from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_table, print_text
from rtface.cli.signals import StopRequest
from rtface.config.addresses import LiveAddress, live_scope, parse_address, resolve_address
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import check_scope


@command("engine", "look", "size", "fps", "tracker", "device", "threads", "overwrite")
def camera_test(
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="A camera, a live stream, or a film.")] = "camera:",
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to write.")] = Path("camera-test.png"),
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show what rtface would change on your camera, and what that costs.

    Records five seconds, tries light and each look on them, and writes your face before and after. Nothing is
    sent, and no other file is written.
    """
    source = parse_address(resolve_address(camera))
    check_scope(loaded.given, loaded.options, live_scope(source, LiveAddress("null", ""), loaded.options))
    early_checks.check_names(loaded.options)
    from rtface._version import __version__
    from rtface.live.camera_trial import try_camera
    from rtface.media.marks.provenance import describe
    from rtface.media.stills.images import plan_image, write_image

    plan = plan_image(image, overwrite=loaded.options.overwrite)
    test = try_camera(source, loaded.options, stop=stop.event, status=console.status)
    write_image(test.shown, plan, tags=describe(str(test.table["engine"]), __version__, 1.0))
    console.log(f"{image} written: your face before and after")
    if json:
        print_json({"image": str(image), **test.table}, indent=2)
        return
    print_text(test.heading)
    print_table([["SETTING", "DETAIL", "BRIGHTNESS", "CORES", "WHAT YOU WOULD SEE"], *test.rows])
    print_text(test.advice)
