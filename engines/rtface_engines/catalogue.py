"""Lists engines that can be added, from each architecture's ``offers.toml`` (engines/README.md).

In a checkout, the folders of architectures lie next to the package; in a wheel, inside it. Other distributions
register their packages as entry points of the group ``rtface.engines``.
"""

from __future__ import annotations

import functools
import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtface.engine.recipe_tables import (
    Alignment,
    Batch,
    EngineControls,
    Family,
    Licence,
    Output,
    Port,
    Precisions,
    Psnr,
)
from rtface.errors import EngineError, MissingComponent, UsageError, log
from rtface.util import plugins
from rtface.util.install import plugin_line, reinstall_line
from rtface.util.spelling import hint
from rtface.util.toml_dataclass import from_table

FILE = "offers.toml"

PLUGINS = {"codeformer": "rtface-codeformer", "hifacegan": "rtface-hifacegan"}
"""Architectures with separate distributions, because their terms forbid commercial use."""


@dataclass(frozen=True, slots=True)
class Architecture:
    name: str
    family: Family = "CNN"
    paper: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """One published weights file; engines/README.md explains the keys."""

    name: str
    version: str
    summary: str
    keys: str
    variant: dict[str, Any] = field(default_factory=dict[str, Any])
    states: tuple[str, ...] = ("",)
    prefix: str = ""
    file: str = ""
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class OfferTable:
    """The contents of an ``offers.toml`` file."""

    architecture: Architecture
    licence: Licence
    input: Port
    output: Output
    psnr: Psnr
    offers: tuple[Published, ...]
    alignment: Alignment = field(default_factory=Alignment)
    batch: Batch = field(default_factory=Batch)
    precision: Precisions = field(default_factory=Precisions)
    controls: EngineControls = field(default_factory=EngineControls)


@dataclass(frozen=True, slots=True)
class Offer:
    """A network that can be added: the `folder` of its architecture, and the `table` that contains it."""

    folder: Path
    table: OfferTable
    published: Published

    @property
    def name(self) -> str:
        return self.published.name

    def keys(self) -> dict[str, tuple[int, ...]]:
        """Reads the names (without prefix) and shapes of the published tensors.

        Raises:
            EngineError: the list cannot be read.
        """
        path = self.folder / self.published.keys
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            for line in (line for line in lines if line.strip() and not line.startswith("#")):
                name, shape = line.split()
                shapes[name] = () if shape == "-" else tuple(map(int, shape.split("x")))
        except (OSError, ValueError) as error:
            raise EngineError("{path} cannot be read: {why}", code="offer_unreadable", path=path, why=error) from error
        return unprefixed(shapes, self.published.prefix)


def unprefixed(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    """Removes the prefix from tensor names, and drops names without it.

    If no name has the prefix, returns all names unchanged.
    """
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)} or shapes


def published_folder() -> Path:
    """Returns the folder of published architectures, in the checkout or wheel."""
    package = Path(__file__).resolve().parent
    packed = package / "_published" / "engines" / "published"
    return packed if packed.is_dir() else package.parent / "published"


def read_offers(folder: Path) -> list[Offer]:
    """Reads the offers of one architecture. Raises EngineError; the message contains the file and the key."""
    path = folder / FILE
    try:
        table = from_table(OfferTable, tomllib.loads(path.read_text(encoding="utf-8")), "")
    except OSError as error:
        raise EngineError(
            "{path} cannot be read: {why}", code="offer_unreadable", path=path, why=error.strerror
        ) from error
    except ValueError as error:  # UsageError, TOMLDecodeError and UnicodeDecodeError
        raise EngineError("{path}: {why}", code="offers_wrong", path=path, why=error) from error
    return [Offer(folder, table, published) for published in table.offers]


def find_offers() -> dict[str, Offer]:
    """Returns all offers by name. Skips unreadable folders with a warning."""
    by_name: dict[str, Offer] = {}
    for folder in (*sorted(path.parent for path in published_folder().glob(f"*/{FILE}")), *_plugins()):
        try:
            for offer in read_offers(folder):
                by_name.setdefault(offer.name, offer)
        except EngineError as error:
            log.warning("the offers of %s are omitted: %s", folder.name, error)
    return by_name


def _plugins() -> list[Path]:
    """Lists the architecture folders of installed plugins (entry points)."""
    folders: list[Path] = []
    for point in plugins.installed("engine").values():
        try:
            spec = importlib.util.find_spec(point.module)  # does not run a top-level package
        except (ImportError, ValueError):
            spec = None
        locations = list(spec.submodule_search_locations or ()) if spec else []
        folders += map(Path, locations)
        if not locations:
            owner = point.dist.name if point.dist else point.name
            log.warning("the offers of %s are omitted: there is no package %s", owner, point.module)
    return folders


def offer_named(name: str, offers: Mapping[str, Offer]) -> Offer:
    """Returns the offer of that name. Raises UsageError, which suggests the nearest name, if there is none. Raises
    MissingComponent if the distribution that contains it is not installed."""
    if name in offers:
        return offers[name]
    family = name.lower().split("-")[0]
    if family in PLUGINS and not any(o.table.architecture.name == family for o in offers.values()):
        raise MissingComponent(
            "{name} comes with a separate distribution, because its terms forbid commercial use; install it with: "
            "{repair}",
            code="add_distribution",
            name=name,
            repair=plugin_line(PLUGINS[family]),
        )
    valid = [*offers, *(architecture for architecture in PLUGINS if architecture not in offers)]
    available = f"available: {', '.join(offers)}" if offers else "this installation offers no engines"
    raise UsageError(
        "there is no offer {value!r}{hint}; {advice}",
        code="add_unknown",
        value=name,
        hint=hint(name, valid),
        advice=available,
    )


@functools.cache
def converter_root() -> Path:
    """Returns the PYTHONPATH entry for ``engines.convert``. Raises MissingComponent if the converter is missing."""
    folder = published_folder().parent
    if not (folder / "convert" / "__main__.py").is_file():
        raise MissingComponent(
            "the converter is missing in {folder}; repair it with: {repair}",
            code="converter_gone",
            folder=folder,
            repair=reinstall_line(),
        )
    return folder.parent
