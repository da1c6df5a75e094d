"""State that all routes share."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rtface_studio.events import EventHub
from rtface_studio.folders import AllowedFolders


@dataclass(slots=True)
class Studio:
    """State of one running studio.

    Attributes:
        folders: folders that the page may read and write.
        uploads: folder for uploaded films; one of `folders`.
        events: hub that sends changes to every open page; `publish` may be called from any thread.
        runners: queue runners that this studio started; they continue after it ends.
        remote: whether other machines may reach the studio.
        closing: stack of resources that are closed when the server ends.
    """

    folders: AllowedFolders
    uploads: Path
    remote: bool = False
    events: EventHub = field(default_factory=EventHub)
    runners: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])
    closing: ExitStack = field(default_factory=ExitStack)
