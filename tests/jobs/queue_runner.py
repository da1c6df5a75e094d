"""A runner in a process of its own: ``python -m tests.jobs.queue_runner DATABASE``."""

from __future__ import annotations

import sys

from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.runner import Runner
from tests.jobs.queue_children import TARGET

if __name__ == "__main__":
    Runner(Queue(sys.argv[1]).store, target=TARGET).run()
