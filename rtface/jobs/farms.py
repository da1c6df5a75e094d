"""Workers of a cluster, from plugins of kind "farm". The scheme of ``--farm``'s address selects the plugin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from rtface.errors import UsageError
from rtface.jobs.folder import JobFolder
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step
from rtface.util import plugins
from rtface.util.install import plugin_line


class Workers(Protocol):
    """Represents the workers of a job in other processes."""

    @property
    def steps(self) -> Mapping[Any, Step]:
        """The progress of each worker."""
        ...

    def wait(self, timeout: float) -> bool:
        """Waits for results, at most `timeout` seconds. Returns whether any segment is missing."""
        ...

    def end(self) -> None:
        """Ends the work."""
        ...


Farm: TypeAlias = Callable[[JobFolder, JobPlan, str, Callable[[str], object]], Workers]
"""The entry point of a farm plugin: starts the workers at an address. Its `check` rejects invalid addresses."""


def farm_of(address: str) -> Farm:
    """Finds the farm plugin of an address, which validates the address.

    Raises:
        UsageError: no installed plugin supports this scheme, or the address is invalid.
    """
    name = re.split(r"\+|://", address)[0]
    if not plugins.exists("farm", name):
        raise UsageError(
            "--farm {address}: give the address of a cluster's scheduler, such as dask://host:8786; this needs "
            "rtface-farm; install it with: {repair}",
            code="farm_address",
            address=address,
            repair=plugin_line("rtface-farm"),
        )
    farm: Any = plugins.load("farm", name)
    farm.check(address)
    return farm
