"""Changes the device and the engines of a run between two frames: up to a GPU, or away from a lost one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic

from rtface.errors import DeviceLost, Message, log
from rtface.protocols import Device, Runtime
from rtface.stats import Stats

RETRY_S = 10.0
"""Where a GPU was lost and the fallback could not be opened, that is tried again after so long."""


class RuntimeSwitch:
    """Holds the runtime of the next frame. Not for use from several threads.

    Args:
        runtime: the first one.
        stats: gets a warning for what could not be opened.
        upgrade: takes over between two frames once it is done (a run starts at once on the CPU, and moves to
            the GPU when its plan has passed its gate).
        fallback: opens the runtime that takes over when a GPU is lost; without it the run ends there. Where it
            fails, frames pass through as they are, and it is tried again every 10 s.
        clock: seconds, rising.

    Attributes:
        runtime: of the next frame.
        upgrade: as above; None once it was taken or has failed.
        moved: called after each change of `runtime`.
    """

    def __init__(
        self,
        runtime: Runtime,
        stats: Stats,
        *,
        upgrade: Future[Runtime] | None = None,
        fallback: Callable[[], Runtime] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.runtime, self.upgrade, self._fallback, self._stats = runtime, upgrade, fallback, stats
        self._clock = clock
        self.moved: Callable[[], None] = lambda: None
        self._stranded: float | None = None  # since when no runtime works, by `clock`

    @property
    def works(self) -> bool:
        """False after a GPU was lost, while the fallback cannot be opened."""
        return self._stranded is None

    def move(self, to: Runtime) -> None:
        """Takes another runtime from the next frame on."""
        self.runtime = to
        self.moved()

    def update(self) -> None:
        """Takes the upgrade where it is done; tries the fallback again where it is time. For each frame."""
        if self.upgrade is not None and self.upgrade.done():
            self._take_upgrade(self.upgrade)
        if self._stranded is not None and self._clock() - self._stranded >= RETRY_S:
            self._take_fallback("the GPU is still lost")

    def lost(self, error: DeviceLost, device: Device) -> None:
        """`device` stopped answering: the fallback takes over. Raises `error` where there is none."""
        if self._fallback is None:
            raise error
        # A frame that was still on the lost GPU when the run had moved changes nothing.
        if device is self.runtime.device and self._stranded is None:
            self._take_fallback(error)

    def _take_upgrade(self, upgrade: Future[Runtime]) -> None:
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
        before = self.runtime
        self._fallback = lambda: before
        self.move(upgrade.result())
        log.info("the run goes on with the %s", self.runtime.device.name)

    def _take_fallback(self, why: object) -> None:
        assert self._fallback is not None
        try:
            self.move(self._fallback())
        except Exception as error:  # noqa: BLE001 - whatever it is, frames go on passing through
            self._stranded = self._clock()
            self._stats.warn(
                "stranded",
                Message(
                    "{what}, and nothing can take its place ({why}): frames pass through as they are; free memory or "
                    "start the run again",
                    code="device_gone",
                    what=why,
                    why=error,
                ),
            )
            return
        self._stranded = None
        log.warning("%s; the run goes on with the %s", why, self.runtime.device.name)
