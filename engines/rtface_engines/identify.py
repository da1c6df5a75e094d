"""Recognises a network from the names and shapes of its tensors."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rtface.errors import InputError, UsageError
from rtface.util.install import plugin_line
from rtface_engines.catalogue import PLUGINS, Offer, unprefixed
from rtface_engines.checkpoint import Contents, tensors


def quote_path(path: Path) -> str:
    """Quotes a path for a shell if it needs quotes."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """Tensors that are missing, unexpected, or of another shape. `total` is the expected number."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    total: int

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def __str__(self) -> str:
        parts = (
            [f"{len(self.missing)} of {self.total} tensors are missing (first: {self.missing[0]})"]
            if self.missing
            else []
        )
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} do not belong to the network (first: {self.unexpected[0]})")
        parts += [f"{len(self.reshaped)} have another shape (first: {self.reshaped[0]})"] if self.reshaped else []
        return ", ".join(parts)


def compare(contents: Contents, offer: Offer) -> TensorDifference:
    """Compares a file's tensors with the tensors of an offer's network."""
    expected = offer.keys()
    shapes = unprefixed(tensors(contents, offer.published.states), offer.published.prefix)
    return TensorDifference(
        [name for name in expected if name not in shapes],
        [name for name in shapes if name not in expected],
        [name for name in expected if name in shapes and shapes[name] != expected[name]],
        len(expected),
    )


def recognise(path: Path, contents: Contents, sha256: str, offers: Iterable[Offer]) -> Offer:
    """Returns the offer whose weights `path` contains.

    If several offers fit, the published SHA-256 decides. If no SHA-256 matches, raises UsageError, because the user
    must choose an offer. If no offer fits, raises InputError; the message contains the nearest offer.
    """
    differences = {offer.name: (compare(contents, offer), offer) for offer in offers}
    fitting = [offer for difference, offer in differences.values() if not difference.count]
    published = [offer for offer in fitting if offer.published.sha256 == sha256]
    if len(fitting) == 1 or published:
        return (published or fitting)[0]
    if fitting:
        names = [offer.name for offer in fitting]
        suggested = next((o.name for o in fitting if o.published.file.lower() == path.name.lower()), names[0])
        names_text = f"{', '.join(names[:-1])} and {names[-1]}"
        raise UsageError(
            "{path} fits {names}, and its SHA-256 matches no published file; give the engine, as in: rtface engines "
            "add {name} --from {typed}",
            code="weights_ambiguous",
            path=path,
            names=names_text,
            name=suggested,
            typed=quote_path(path),
        )
    if not differences:
        raise InputError(
            "{path} cannot be recognised: this installation offers no engines", code="weights_no_offer", path=path
        )
    name, (difference, _) = min(differences.items(), key=lambda item: item[1][0].count)
    if 2 * len(difference.missing) < difference.total:
        raise InputError(
            "{path} does not contain the weights of a known engine; the nearest is {name}: {difference}",
            code="weights_nearest",
            path=path,
            name=name,
            difference=difference,
        )
    architectures = {offer.table.architecture.name for _, offer in differences.values()}
    plugins = [f"{name} ({plugin_line(package)})" for name, package in PLUGINS.items() if name not in architectures]
    raise InputError(
        "{path} does not contain the weights of an engine that can be added ({difference}){advice}",
        code="weights_of_none",
        path=path,
        difference=", ".join(differences),
        advice=f"; separate distributions contain {' and '.join(plugins)}" if plugins else "",
    )


def check(path: Path, contents: Contents, offer: Offer, offers: Mapping[str, Offer]) -> None:
    """Raises InputError if `path` does not contain the weights of `offer`. The message contains the offers that fit, or
    the differences."""
    difference = compare(contents, offer)
    if not difference.count:
        return
    fitting = [other.name for other in offers.values() if not compare(contents, other).count]
    if fitting:
        raise InputError(
            "{path} contains the weights of {others}, not of {name}; add it with: rtface engines add "
            "{other} --from {typed}",
            code="weights_of_other",
            path=path,
            name=offer.name,
            others=" or ".join(fitting),
            other=fitting[0],
            typed=quote_path(path),
        )
    raise InputError(
        "{path} does not contain the weights of {name}: {difference}",
        code="weights_not_of",
        path=path,
        name=offer.name,
        difference=difference,
    )
