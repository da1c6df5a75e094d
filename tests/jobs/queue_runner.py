"""A runner in a process of its own: ``python -m tests.jobs.queue_runner DATABASE [AT_ONCE]``."""

from __future__ import annotations

import sys

from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.runner import Runner
from tests.jobs.queue_children import TARGET

if __name__ == "__main__":
    at_once = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    print("outcome", Runner(Queue(sys.argv[1]).store, at_once=at_once, target=TARGET).run(), flush=True)
