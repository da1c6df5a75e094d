"""The only place with threads, queues and child processes but for `rtface.pipeline.segments`.

`buffer` is lossless and bounded (films). `Mailbox` keeps the newest item only and counts what it drops (live).
`Child` is a process of its own for what can block for ever (`rtface.concurrency.isolate`; it sees its
`rtface.concurrency.child.
Parent`), with pictures in shared memory (`rtface.concurrency.shared_frames`).
"""

from rtface.concurrency.buffer import awaited, buffer, ended_by
from rtface.concurrency.mailbox import Mailbox

__all__ = ["Mailbox", "awaited", "buffer", "ended_by"]
