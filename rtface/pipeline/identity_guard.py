"""Makes ready what guards the identity of faces in a run (`--guard`)."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from rtface.engine.engine_set import engine_names, inventive_engines
from rtface.enhance.identity_guard import FILM_S, IdentityGuard
from rtface.frame import Bytes, Float32
from rtface.options import EnhanceOptions
from rtface.persons.guard import FILTERING, INVENTIVE
from rtface.stats import Stats

if TYPE_CHECKING:
    from rtface.persons.network import PersonNetwork

_turn = threading.Lock()


def open_guard(options: EnhanceOptions, stats: Stats, *, period: float = FILM_S) -> IdentityGuard | None:
    """What guards the identity of faces; None where no engine is watched.

    The network is loaded once in a process, here where the run's engine is watched; else when such an engine, named by
    a treatment file or a shot, is looked at first.

    Args:
        options: `guard`, and the engine.
        period: seconds between looks at a track.

    Raises:
        MissingComponent: the network is not there.
    """
    if options.guard == "off":
        return None
    inventive, others = inventive_engines(), FILTERING if options.guard == "on" else None
    if not (inventive or others):
        return None
    if others or not inventive.isdisjoint(engine_names(options.engine, options.fidelity)):
        with _turn:
            _network()
    return IdentityGuard(_embedding, lambda name: INVENTIVE if name in inventive else others, stats, period=period)


@cache
def _network() -> PersonNetwork:
    from rtface.persons.network import PersonNetwork  # loads OpenVINO

    return PersonNetwork()


def _embedding(chip: Bytes) -> Float32:
    """The embedding of a chip; segments of a film are processed in several threads, which take turns."""
    with _turn:
        return _network()(chip)
