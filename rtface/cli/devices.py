"""``rtface devices``: lists sources and targets of live runs, with their names for commands."""

from __future__ import annotations

from dataclasses import asdict

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text


@command()
def devices(*, json: Json = False, console: Console) -> None:
    """List cameras, virtual cameras, microphones and plugins' outputs, with their state."""
    from rtface.live.devices.listing import devices as find_devices

    listed, unusable = find_devices()
    if json:
        print_json([asdict(device) for device in listed], indent=2)
        return
    for kind, plural in (
        ("camera", "cameras"),
        ("virtual camera", "virtual cameras"),
        ("microphone", "microphones"),
        ("output", "outputs of plugins"),
    ):
        matching = [device for device in listed if device.kind == kind]
        if not matching and kind == "output":
            continue
        remedy = "; connect one, or give a film instead" if kind == "camera" else ""
        print_text(f"{plural}:" if matching else f"{plural}: none{remedy}")
        width = max((len(device.address) for device in matching), default=0)
        for device in matching:
            users = f" by {', '.join(device.users)}" if device.users else ""
            details = ", ".join(part for part in (device.node, device.state + users) if part)
            print_text(f"  {device.address:{width}}  {device.name}{f' ({details})' * bool(details)}")
            for line in device.modes:
                print_text(f"  {'':{width}}    {line}")
    for sink in unusable:
        console.log(f"{sink.name}: {sink.unusable}")
