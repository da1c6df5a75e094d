"""``rtface engines add``, ``remove`` and ``offers``, for engines of other publishers."""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_table
from rtface.cli.signals import interrupted_by_signals
from rtface.config.option_sources import LoadedOptions

if TYPE_CHECKING:
    from rtface_engines.add import AddCallbacks
    from rtface_engines.catalogue import Offer


Python = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help=("A Python interpreter with torch for the conversion; RTFACE_TORCH_PYTHON sets it permanently."),
    ),
]


def _names(incomplete: str) -> list[str]:
    from rtface_engines.catalogue import find_offers

    return [name for name in find_offers() if name.startswith(incomplete)]


def _added_names(incomplete: str) -> list[str]:
    from rtface_engines.folder import engines_folder

    return [
        path.parent.name for path in engines_folder().glob("*/recipe.toml") if path.parent.name.startswith(incomplete)
    ]


@command("commercial_use", "threads")
def add(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            show_default=False,
            autocompletion=_names,
            help=("An engine listed by 'rtface engines offers'; may be omitted with --from."),
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help=("Read the weights from this file (.pth, .ckpt, .safetensors, .onnx) instead of downloading them."),
        ),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option("--accept-license", "--accept-licence", help=("Accept the licence without being asked.")),
    ] = False,
    python: Python = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help=("Download the published file from this URL (http, https, file)."))
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing engine of that name.")] = False,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """Add a published engine, from a local file or by download."""
    with interrupted_by_signals():
        options = loaded.options
        from rtface_engines.add import AddRequest
        from rtface_engines.add import add as work

        added = work(
            AddRequest(name, file, url, python, overwrite, options.commercial_use, options.threads),
            _callbacks(console, accept),
        )
        console.clear()
        if json:
            print_json(added.to_json(), indent=2)
        console.log(
            f"{added.name}: {added.backend} in {added.precision}, {added.psnr:.1f} dB against its golden crops "
            f"({added.required:g} needed), {added.ms:.0f} ms per face"
        )
        console.log(f"{added.folder} written; use it with: rtface run INPUT OUTPUT --engine {added.name}")


@command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=_added_names, help="An engine that you added.")],
    *,
    console: Console,
) -> None:
    """Remove an engine that you added."""
    from rtface_engines.folder import remove as work

    console.log(f"{work(name)} removed")


@command()
def offers(
    *,
    json: Json = False,
    console: Console,
) -> None:
    """List engines that can be added, with their licences."""
    from rtface.engine.recipe import find_recipes
    from rtface.util.install import plugin_line
    from rtface_engines.catalogue import PLUGINS, find_offers

    catalogue, installed = find_offers(), find_recipes()
    if json:
        print_json([_json_row(offer) | {"added": name in installed} for name, offer in catalogue.items()], indent=2)
        return
    print_table(
        [
            ["ENGINE", "KIND", "LICENCE", "COMMERCIAL USE", "FILE", "STATE", "WHAT"],
            *(_table_row(offer, name in installed) for name, offer in catalogue.items()),
        ]
    )
    for name, package in PLUGINS.items():
        if not any(offer.table.architecture.name == name for offer in catalogue.values()):
            console.log(f"{name} comes with a separate distribution, not for commercial use: {plugin_line(package)}")


def _json_row(offer: Offer) -> dict[str, Any]:
    licence, published = offer.table.licence, offer.published
    return {
        "name": offer.name,
        "version": published.version,
        "summary": published.summary,
        "family": offer.table.architecture.family,
        "licence_code": licence.code,
        "licence_weights": licence.weights,
        "commercial_use": licence.commercial_use,
        "data": licence.data,
        "terms": licence.terms,
        "size": offer.table.input.size,
        "file": published.file,
        "url": published.url,
        "bytes": published.bytes,
        "sha256": published.sha256,
    }


def _table_row(offer: Offer, added: bool) -> list[str]:
    published, licence = offer.published, offer.table.licence
    size = f" ({published.bytes / 1e6:.0f} MB)" if published.bytes else ""
    state = "added" if added else "to download" if published.url else "with --from"
    return [
        offer.name,
        offer.table.architecture.family,
        licence.shown,
        "allowed" if licence.commercial_use else "forbidden",
        published.file + size,
        state,
        published.summary,
    ]


def _callbacks(console: Console, accept: bool) -> AddCallbacks:
    from rtface_engines.add import AddCallbacks
    from rtface_engines.environment import SetupOutput

    progress = _InstallProgress(console)

    def confirm(lines: list[str]) -> str | None:
        console.clear()
        for line in lines:
            console.log(line)
        if accept:
            return "--accept-license"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        try:
            return "on a terminal" if typer.confirm("rtface: do you accept this?", err=True) else None
        except typer.Abort:  # Ctrl-C or end of input
            raise KeyboardInterrupt from None

    return AddCallbacks(SetupOutput(console.log, progress.show), progress.share, progress.bytes, confirm)


class _InstallProgress:
    """Shows progress: on a terminal, a status line; elsewhere, a line per step and every 10 s."""

    def __init__(self, console: Console) -> None:
        self._console, self._step, self._at = console, "", 0.0

    def show(self, line: str) -> None:
        if self._console.live or monotonic() - self._at > 10:
            self._at = monotonic()
            self._console.status(line)

    def share(self, what: str, done: float) -> None:
        if self._console.live:
            self._console.status(f"{what}, {done:.0%}" if done else what)
        elif what != self._step:
            self._console.status(what)
        self._step = what

    def bytes(self, done: int, total: int | None) -> None:
        suffix = f" of {total / 1e6:.1f} MB, {done / total:.0%}" if total else " MB"
        self.show(f"{done / 1e6:.1f}{suffix}")
