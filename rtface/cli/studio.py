"""``rtface app``: the studio, a page in the browser for films, the queue, live runs, engines and health."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import command
from rtface.cli.console import Console
from rtface.cli.signals import StopRequest


@command()
def studio(
    *,
    folder: Annotated[list[Path] | None, typer.Option("--folder", metavar="DIR", show_default=False, help=(
        "A folder that the page may read films from and write to; may be given several times. Without it your folder "
        "of videos, the current folder, and the folder of uploads."))] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="Port; 0 takes a free one.")] = 8790,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    console: Console,
    stop: StopRequest,
) -> None:
    """Open the studio: a page in your browser for films, the queue, live runs, engines and health.

    Its server answers this machine only, and only who has the address with the token, which is another one at each
    start. Jobs in the queue continue when the page or the server is closed.
    """
    from rtface.live.control.control_routes import open_in_browser
    from rtface.studio.context import Studio
    from rtface.studio.folders import AllowedFolders
    from rtface.studio.server import StudioServer

    uploads = upload_folder()
    uploads.mkdir(parents=True, exist_ok=True)
    server = StudioServer(Studio(AllowedFolders([*(folder or usual_folders()), uploads]), uploads), port=port)
    typer.echo(server.address)  # with its secret, which the console's own functions remove
    console.say("studio: open this address in a browser of this machine; Ctrl-C ends it; jobs continue")

    def started() -> None:
        if browser and not open_in_browser(server.address):
            console.say("studio: there is no browser here to open it in")

    server.run(stop.event, started)


def usual_folders() -> list[Path]:
    """The user's folder of videos, where there is one, and the current folder."""
    import platformdirs

    folders = [Path(platformdirs.user_videos_dir()), Path.cwd()]
    return [folder for folder in folders if folder.is_dir()]


def upload_folder() -> Path:
    """The folder that uploaded films are written to: ``uploads`` in the data folder."""
    from rtface.util.paths import data_dir

    return data_dir() / "uploads"
