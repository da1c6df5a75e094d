"""``rtface analyze``: what is wrong with each face, and what a run would do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rtface.commands import shared
from rtface.commands.console import print_json, print_table
from rtface.progress import Meter


def analyze(
    context: typer.Context,
    input: Annotated[Path, typer.Argument(metavar="INPUT", show_default=False, help="A film, a still or a folder.")],
    engine: shared.Engine = None,
    device: shared.Device = None,
    tracker: shared.Tracker = None,
    max_faces: shared.MaxFaces = None,
    start: shared.Start = None,
    end: shared.End = None,
    threads: shared.Threads = None,
    sequence: shared.Sequence = None,
    fps: shared.Fps = None,
    config: shared.Config = None,
    json: shared.Json = False,
    verbose: shared.Verbose = 0,
    quiet: shared.Quiet = False,
) -> None:
    """Show, face track by face track, what is wrong with it and the treatment that 'rtface run' would choose.

    With --json the answer is a treatment file: edit it and give it to 'rtface run --treatment'.
    """
    console = shared.console_for(verbose, quiet)
    with shared.stop_on_signals() as stop, shared.boundary(console, stop=stop):
        options = shared.load_options(context, config, console)
        from rtface import __version__
        from rtface.run import analyze_file
        from rtface.stats import Stats

        tracks = analyze_file(input, options, stats=Stats(), progress=Meter(console, input.name), stop=stop.event)
        console.clear()
        if json:
            print_json({"rtface_version": __version__, "input": str(input), "tracks": tracks}, indent=2)
        elif tracks:
            print_table([["TRACK", "FROM", "TO", "WIDTH", "TREATMENT", "WHAT IS WRONG"], *map(_cells, tracks)])
        else:
            console.say(f"{input}: no face found")


def _cells(track: dict[str, Any]) -> list[str]:
    analysis: dict[str, float] = track["analysis"]
    worst = sorted(analysis.items(), key=lambda pair: -pair[1])
    return [str(track["id"]), f"{track['first_s']:.2f} s", f"{track['last_s']:.2f} s",
            f"{track['mean_width_px']:.0f} px", "", ", ".join(f"{name} {value:.2f}" for name, value in worst)]
