"""The only place with threads, queues and child processes but for `rtface.segments`.

`buffer` is lossless and bounded (films). `Mailbox` keeps the newest item only and counts what it drops (live).
`Child` is a process of its own for what can block for ever (`rtface.flow.isolate`; it sees its `rtface.flow.child.
Parent`), with pictures in shared memory (`rtface.flow.shared_frames`).
"""

from rtface.flow.buffer import awaited, buffer, ended_by
from rtface.flow.mailbox import Mailbox

__all__ = ["Mailbox", "awaited", "buffer", "ended_by"]
