"""``rtface devices``: cameras, the screen, virtual cameras and microphones, each with the name that commands take."""

from __future__ import annotations

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text


@command()
def devices(*, json: Json = False, console: Console) -> None:
    """List cameras with their modes, the screen, virtual cameras with their state, and microphones."""
    from rtface.live.devices.listing import devices as find_devices

    found = find_devices()
    if json:
        print_json([device.to_json() for device in found], indent=2)
        return
    for kind, plural in (
        ("camera", "cameras"),
        ("screen", "screen"),
        ("virtual camera", "virtual cameras"),
        ("microphone", "microphones"),
    ):
        mine = [device for device in found if device.kind == kind]
        print_text(f"{plural}:" if mine else f"{plural}: none")
        width = max((len(device.address) for device in mine), default=0)
        for device in mine:
            by = f" by {', '.join(device.users)}" if device.users else ""
            what = ", ".join(part for part in (device.node, device.state + by) if part)
            print_text(f"  {device.address:{width}}  {device.name}{f' ({what})' * bool(what)}")
            for line in device.modes:
                print_text(f"  {'':{width}}    {line}")
    if not any(device.kind == "virtual camera" for device in found):
        console.log("no virtual camera: 'rtface doctor' says how to get one")
