"""The process that runs the queue for the studio; it outlasts the page and the server."""

from __future__ import annotations

import os
import subprocess
import sys

from rtface.jobs.queue.api import Queue
from rtface.studio.context import Studio

_DETACHED = 0x00000208  # DETACHED_PROCESS and CREATE_NEW_PROCESS_GROUP, on Windows


def ensure_runner(studio: Studio) -> bool:
    """Starts ``rtface queue run`` where no runner is at work; it ends by itself when nothing waits any more.

    Returns:
        Whether one was started.
    """
    if Queue().store.has_runner():
        return False
    process = subprocess.Popen([sys.executable, "-P", "-m", "rtface", "queue", "run", "--quiet"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True, creationflags=_DETACHED if os.name == "nt" else 0)
    studio.runners.append(process)  # so that its end is collected while the studio runs
    return True
