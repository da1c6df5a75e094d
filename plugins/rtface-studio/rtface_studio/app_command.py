"""``rtface app``: starts the studio, a page in the browser."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from rtface.cli.command import command
from rtface.cli.console import Console
from rtface.cli.signals import StopRequest
from rtface.errors import UsageError
from rtface.util.foreign import first_line

if TYPE_CHECKING:
    from rtface_studio.server import RemoteAccess


@command()
def studio(
    *,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            show_default=False,
            help=(
                "A folder that the page may read and write; repeat for more. Default: your video and picture folders, "
                "the current folder, the upload folder, and folders added on the page."
            ),
        ),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65_535, help="Port; 0 chooses a free one.")] = 8790,
    host: Annotated[
        str,
        typer.Option(metavar="ADDR", help=("Address to listen on. Other machines need --tls and a password.")),
    ] = "127.0.0.1",
    tls: Annotated[
        str | None,
        typer.Option(
            "--tls", metavar="CERT,KEY", show_default=False, help=("Certificate and key for HTTPS, both PEM files.")
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            show_default=False,
            help=("Require the password in the first line of this file; RTFACE_APP_PASSWORD can contain it instead."),
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST",
            show_default=False,
            help=(
                "Another name by which other machines reach this one; repeat for more. The host name and addresses are "
                "always included."
            ),
        ),
    ] = None,
    keep_address: Annotated[
        bool,
        typer.Option(
            "--keep-address",
            help=(
                "Use the same address and token at later starts, for example for an OBS dock. The token is stored in a "
                "file that only you can read."
            ),
        ),
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    console: Console,
    stop: StopRequest,
) -> None:
    """Open the studio: a page in your browser for films, the queue, live runs, engines and health.

    By default, only this machine can reach its server, and only with the token in the address. The token changes at
    each start, unless --keep-address is given. Jobs in the queue continue when the page or the server is closed.
    """
    import platformdirs

    from rtface.concurrency.threads import start_thread
    from rtface.live.control.browser import open_in_browser
    from rtface.util.paths import data_dir
    from rtface_studio.access import kept_token
    from rtface_studio.context import Studio
    from rtface_studio.folders import AllowedFolders
    from rtface_studio.running import publish_address, running_address
    from rtface_studio.server import StudioServer

    uploads = data_dir() / "uploads"
    default_folders = (Path(platformdirs.user_videos_dir()), Path(platformdirs.user_pictures_dir()), Path.cwd())
    uploads.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    uploads.mkdir(exist_ok=True, mode=0o700)
    remote = remote_access(host, tls, password_file, names or [])
    folder_list = None if folder or remote else data_dir() / "studio" / "folders.json"
    if keep_address and (remote is not None or not port):
        raise UsageError(
            "--keep-address: with --tls the address contains no token, and with --port 0 no fixed port; omit one "
            "of the two options",
            code="keep_address_tls",
        )
    try:
        server = StudioServer(
            Studio(AllowedFolders([*(folder or filter(Path.is_dir, default_folders)), uploads], folder_list), uploads),
            host=host,
            port=port,
            remote=remote,
            token=kept_token(data_dir() / "studio-token") if keep_address else "",
        )
    except UsageError:  # the port may be in use by a studio that is already running
        address = running_address()
        if address is None or urlsplit(address).port != port:
            raise
        typer.echo(address)
        console.log("studio: already running at this address, with the folders from its start")
        if browser:
            open_in_browser(address, wait=True)
        return
    typer.echo(server.address)  # not by the console, which would remove the token
    place = "on this machine" if remote is None else "on any machine that reaches this one, and log in"
    console.log(f"studio: open this address in a browser {place}; Ctrl-C ends the studio; jobs continue")

    def open_page() -> None:
        if not open_in_browser(server.address):
            console.log("studio: no browser was found; open the address yourself")

    if browser:
        start_thread("browser", open_page)  # on a thread, because the server does not respond yet
    with publish_address(server.address):
        server.run(stop.event)


def remote_access(host: str, tls: str | None, password_file: Path | None, names: list[str]) -> RemoteAccess | None:
    """Creates remote access from ``--tls`` and the password. Returns None if neither is given.

    Raises:
        UsageError: only one of the two is given, or the password is missing or too short.
    """
    from rtface_studio.password import LEAST_LENGTH
    from rtface_studio.server import RemoteAccess, is_loopback

    password = os.environ.get("RTFACE_APP_PASSWORD", "")
    if password_file is not None:
        try:
            password = first_line(password_file)
        except OSError as error:
            raise UsageError(
                "--password-file {path}: cannot be read ({why})",
                code="password_unreadable",
                path=password_file,
                why=error.strerror,
            ) from None
    if tls is None and (password_file is None or is_loopback(host)):
        return None
    certificate, comma, key = (tls or "").partition(",")
    if not comma:
        raise UsageError(
            "--tls needs a certificate and its key, such as --tls cert.pem,key.pem; docs/studio.md shows a command "
            "that creates both",
            code="tls_form",
        )
    if len(password) < LEAST_LENGTH:
        raise UsageError(
            "--tls needs a password of at least {least} characters; pass --password-file FILE, or set "
            "RTFACE_APP_PASSWORD",
            code="tls_password",
            least=LEAST_LENGTH,
        )
    node = socket.gethostname()
    return RemoteAccess(
        password, Path(certificate), Path(key), frozenset(name.lower() for name in (*names, node, f"{node}.local"))
    )
