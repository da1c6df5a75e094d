"""Runs threads, queues and child processes.

`buffer` runs an iterator in a thread, lossless, in limited memory (films). `Mailbox` is a queue that keeps the newest
items and reports those it drops (live). `rtface.concurrency.child_process.ChildProcess` runs a function that may
block forever or crash, and passes it a `rtface.concurrency.child_main.ParentProcess`. Parent and child exchange frames
through shared memory (`rtface.concurrency.shared_frames`).
"""
