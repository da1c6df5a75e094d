"""Moves a run in progress to another device: to a GPU that is ready, or away from a lost one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from rtface.errors import DeviceLost, Message, log
from rtface.protocols import Device, Runtime
from rtface.stats import Stats


class RuntimeSwitch:
    """Stores and replaces the runtime of a run. Not for use from several threads.

    Args:
        runtime: the first runtime.
        stats: gets a warning for each runtime that could not be opened.
        upgrade: runtime that takes over between two frames as soon as it is ready. A run thus starts on the CPU at
            once, and moves to the GPU when the GPU's plan has passed its gate.
        fallback: opens the runtime that takes over when a GPU is lost; without a fallback, the run ends. If the
            fallback cannot be opened, frames pass through unchanged.

    Attributes:
        runtime: the runtime of the next frame.
        upgrade: as in Args; None after the upgrade has taken over or failed.
        moved: function that is called after each change of `runtime`.
        works: False after a GPU was lost and the fallback could not be opened.
    """

    def __init__(
        self,
        runtime: Runtime,
        stats: Stats,
        *,
        upgrade: Future[Runtime] | None = None,
        fallback: Callable[[], Runtime] | None = None,
    ) -> None:
        self.runtime, self.upgrade, self._fallback, self._stats = runtime, upgrade, fallback, stats
        self.moved: Callable[[], None] = lambda: None
        self.works = True

    def move(self, to: Runtime) -> None:
        """Switches to another runtime from the next frame on."""
        self.runtime = to
        self.moved()

    def update(self) -> None:
        """Switches to the upgrade if it is ready. Called for each frame."""
        if self.upgrade is not None and self.upgrade.done():
            self._switch_to_upgrade(self.upgrade)

    def lost(self, error: DeviceLost, device: Device) -> None:
        """Switches to the fallback, because `device` stopped responding. Raises `error` if there is no fallback."""
        if self._fallback is None:
            raise error
        # A frame that was still on the lost GPU after the switch must not switch again.
        if device is self.runtime.device and self.works:
            self._switch_to_fallback(error)

    def _switch_to_upgrade(self, upgrade: Future[Runtime]) -> None:
        self.upgrade = None
        if (error := upgrade.exception()) is not None:
            self._stats.warn(
                "device",
                Message(
                    "the run stays on the {device}: {why}",
                    code="device_stays",
                    device=self.runtime.device.name,
                    why=error,
                ),
            )
            return
        previous = self.runtime
        self._fallback = lambda: previous
        self.move(upgrade.result())
        log.info("the run continues on the %s", self.runtime.device.name)

    def _switch_to_fallback(self, why: object) -> None:
        assert self._fallback is not None
        try:
            self.move(self._fallback())
        except Exception as error:  # noqa: BLE001 - whatever failed, frames still pass through
            self.works = False
            self._stats.warn(
                "stranded",
                Message(
                    "{what}, and no other device can be used ({why}): frames pass through unchanged; free memory or "
                    "restart the run",
                    code="device_gone",
                    what=why,
                    why=error,
                ),
            )
            return
        log.warning("%s; the run continues on the %s", why, self.runtime.device.name)
