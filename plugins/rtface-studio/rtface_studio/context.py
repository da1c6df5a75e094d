"""State that all routes share."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rtface_studio.events import EventHub
from rtface_studio.folders import AllowedFolders

_WAIT_S = 0.5  # interval for polling whether a live run has a viewer


@dataclass(slots=True)
class Studio:
    """State of one running studio.

    Attributes:
        folders: folders that the page may read and write.
        uploads: folder for uploaded films; one of `folders`.
        events: hub that sends changes to every open page; `publish` may be called from any thread.
        runners: queue runners that this studio started; they continue after it ends.
        remote: whether other machines may reach the studio.
        watched: event that is set while a live run has a viewer. Other work waits then, see `Turn`.
        closing: stack of resources that are closed when the server ends.
    """

    folders: AllowedFolders
    uploads: Path
    remote: bool = False
    events: EventHub = field(default_factory=EventHub)
    runners: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    watched: threading.Event = field(default_factory=threading.Event)
    closing: ExitStack = field(default_factory=ExitStack)


class Turn(asyncio.Semaphore):
    """Limits work that is done at the same time. None begins while a live run has a viewer.

    Args:
        studio: state with the event.
        value: maximum number of simultaneous holders.
    """

    def __init__(self, studio: Studio, value: int) -> None:
        super().__init__(value)
        self._watched = studio.watched

    async def acquire(self) -> Literal[True]:
        """Acquires the semaphore when no live run has a viewer."""
        while True:
            while self._watched.is_set():
                await asyncio.sleep(_WAIT_S)
            await super().acquire()
            if not self._watched.is_set():
                return True
            self.release()
