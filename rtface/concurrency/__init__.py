"""Threads, queues and child processes.

`buffer` runs an iterator in a thread, lossless and bounded (films). `Mailbox` is a queue that keeps the newest
items and counts those it drops (live). `rtface.concurrency.child_process.ChildProcess` runs a function that may
block without end or crash; that function sees a `rtface.concurrency.child_main.ParentProcess`. Frames go between
the two in shared memory (`rtface.concurrency.shared_frames`).
"""
