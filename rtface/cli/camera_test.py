"""``rtface camera-test``: shows what each look and brightening would change on a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_table, print_text
from rtface.cli.signals import StopRequest
from rtface.config.addresses import LiveAddress, check_addresses, live_scope, parse_address, resolve_address
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import check_scope
from rtface.errors import UsageError


@command("engine", "look", "size", "fps", "tracker", "device", "threads", "overwrite")
def camera_test(
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="A camera, a live stream, or a film.")] = "camera:",
    image: Annotated[Path, typer.Argument(metavar="IMAGE.png", help="The image to write.")] = Path("camera-test.png"),
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show what rtface would change on your camera, and what that costs.

    Records five seconds, tries each look and brightening on them, and writes your face before and after. Nothing is
    sent, and no other file is written.
    """
    source, null = parse_address(resolve_address(camera)), LiveAddress("null", "")
    check_addresses(source, null)
    check_scope(loaded.given, loaded.options, live_scope(source, null, loaded.options))
    if image.suffix.lower() != ".png":
        raise UsageError("{path}: the image is a PNG file; write NAME.png instead", code="image_name", path=image)
    from rtface._version import __version__
    from rtface.live.camera_trial import try_camera
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.media.marks.provenance import describe
    from rtface.media.stills.images import ImagePlan, write_image
    from rtface.pipeline.compare import pair_frame
    from rtface.util.machine import cores

    inputs = [Path(source.name)] if source.kind == "file" else []
    (target,) = check_outputs([OutputPath(image)], inputs=inputs, overwrite=loaded.options.overwrite)
    test = try_camera(source, loaded.options, stop=stop.event, status=lambda step: console.status(f"{source}: {step}"))
    console.clear()
    write_image(pair_frame(test.shown), ImagePlan(target, "png"), tags=describe(test.engine, __version__, 1.0))
    if json:
        print_json({"image": str(target.path), **test.to_dict()}, indent=2)
        return
    faults = "".join(f", {name} {score:.2f}" for name, score in test.faults)
    print_text(
        f"{test.camera}: {test.frames} frames, face {test.width:.0f} px wide, brightness {test.brightness:.0%}{faults}",
        f"reading the camera and finding your face: {test.cores:.2f} of {cores()} cores",
    )
    heads = ["SETTING", "DETAIL", "BRIGHTNESS", "CORES", "WHAT YOU WOULD SEE"]
    cells = [
        [one.setting, f"x {one.detail:.2f}", f"{one.brightness:.0%}", f"{one.cores:.2f}", one.words]
        for one in test.trials
    ]
    print_table([heads, *cells])
    print_text(test.advice)
    console.log(f"{target.path} written: before and after")
