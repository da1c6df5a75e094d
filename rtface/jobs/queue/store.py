"""Stores the queue, with its operations for users and for the runner.

The database contains no secrets: an address with a password or query must be in a file, whose path the item contains.
Only one runner works at a time. It holds a file lock, which the system releases when the process ends.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any, Literal

from rtface.errors import Message, UsageError
from rtface.jobs.queue.database import QueueDatabase, item_of, state_of, values_of
from rtface.jobs.queue.item import Item, ItemProgress, State, Task
from rtface.redaction import shown
from rtface.util.file_lock import try_lock

_MAX_INTEGER = 2**63 - 1  # SQLite's largest integer
# Seconds within which a process that has just ended, or only checked for a runner, releases a lock.
_PATIENCE_S = 1.0
Lock = Literal["runner", "waits"]
"""Lock held by the process that runs the queue ("runner"), or by one for which it halts its items ("waits")."""
Verb = Literal["pause", "resume", "cancel", "retry", "remove"]
_END = {"wish": None, "state": "cancelled"}
_RESET = dict.fromkeys(("wish", "share", "frames", "started_at", "ended_at")) | {
    "state": "waiting",
    "message": "{}",
}

CHANGES: dict[Verb, dict[State, dict[str, Any] | None]] = {
    "pause": {
        "waiting": {"state": "paused"},
        "running": {"wish": "pause"},
        "interrupted": _END | {"state": "paused"},
    },
    "resume": {"paused": {"state": "waiting"}, "running": {"wish": None}},
    "cancel": {"waiting": _END, "paused": _END, "interrupted": _END, "running": {"wish": "cancel"}},
    "retry": {"failed": _RESET, "cancelled": _RESET},
    "remove": dict.fromkeys(("waiting", "interrupted", "paused", "done", "failed", "cancelled")),
}
"""Columns that each operation sets, by states that allow the operation; None deletes the item."""


class Store:
    """Stores the queue, safely for several threads and processes.

    Args:
        path: file of the database; for errors see `QueueDatabase`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._database = path, QueueDatabase(path)

    # Operations of users.

    def add(self, plan: dict[str, Any], flags: dict[str, Any] | None = None) -> int:
        """Appends an item and returns its id.

        Args:
            plan: see `Task`.
            flags: see `Task`.

        Raises:
            UsageError: another unfinished item writes to one of the outputs, or the input is an address with secrets.
        """
        flags = flags or {}
        if shown(plan["input"]) != plan["input"]:
            raise UsageError(
                "{address}: the queue does not store the user name, password or query of an address; write the whole "
                "address to a file that only you can read, and give @FILE",
                code="queue_secret",
                address=shown(plan["input"]),
            )
        with self._database.transaction() as database:
            for row in database.execute("SELECT * FROM item WHERE state IN ('waiting', 'running', 'paused')"):
                other_outputs = values_of(row)["plan"]["outputs"].values()
                for path in (path for path in plan["outputs"].values() if path in other_outputs):
                    raise UsageError(
                        "{path}: item {item} of the queue already writes this file; choose another name, or cancel "
                        "that item with: rtface queue cancel {item}",
                        code="item_writes",
                        path=path,
                        item=row["id"],
                    )
            cursor = database.execute(
                "INSERT INTO item (position, plan, flags, state, added_at) "
                "SELECT coalesce(max(position), 0) + 1, ?, ?, 'waiting', ? FROM item",
                (json.dumps(plan), json.dumps(flags), time.time()),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def items(self) -> list[Item]:
        """Returns all items. Running items come first, then waiting and paused ones in order, then ended ones."""
        with self._database.connection() as database:
            rows = database.execute(
                "SELECT * FROM item ORDER BY CASE WHEN state = 'running' AND wish IS NOT 'pause' THEN 0 "
                "WHEN state IN ('running', 'waiting', 'paused') THEN 1 ELSE 2 END, "
                "CASE WHEN ended_at IS NULL THEN position END, ended_at, id"
            ).fetchall()
            alive = self.held("runner")
            return [item_of(row, alive) for row in rows]

    def change(self, ids: Sequence[int], verb: Verb) -> None:
        """Applies an operation to all given items. If it fails, none is changed.

        Args:
            ids: numbers of the items.
            verb: a key of `CHANGES`.

        Raises:
            UsageError: there is no such item, or its state does not allow the operation.
        """
        changes = CHANGES[verb]
        with self._database.transaction() as database:
            alive = self.held("runner")  # until this transaction ends, no runner can take an item
            for number in ids:
                row = database.execute("SELECT * FROM item WHERE id = ?", (min(number, _MAX_INTEGER),)).fetchone()
                if row is None:
                    raise UsageError(
                        "there is no item {item} in the queue; 'rtface queue list' shows all",
                        code="item_none",
                        item=number,
                    )
                state = state_of(row, alive)
                if state not in changes:
                    halted = state == "running" and row["wish"] == "pause"
                    raise UsageError(
                        "{action}: item {item} is {state}, but must be {states}; nothing was changed",
                        code="item_state",
                        action=verb,
                        item=number,
                        state=Message("paused in place", code="halted") if halted else state,
                        states=" or ".join(changes),
                    )
                columns = changes[state]
                if columns is None:
                    database.execute("DELETE FROM item WHERE id = ?", (number,))
                    continue
                if columns.get("state") == "cancelled":
                    columns = columns | {"ended_at": time.time()}
                if verb == "retry":
                    last = database.execute("SELECT max(position) FROM item").fetchone()[0]
                    columns = columns | {"position": last + 1}
                database.execute(
                    f"UPDATE item SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                    (*columns.values(), number),
                )
        for number in ids if verb == "remove" else ():
            with contextlib.suppress(OSError):
                self.log_path(number).unlink()

    def reorder(self, number: int, place: int) -> None:
        """Moves an item among the waiting and paused ones. The first place is 0."""
        with self._database.transaction() as database:
            ids = [
                row["id"]
                for row in database.execute(
                    "SELECT id FROM item WHERE state IN ('waiting', 'paused') OR wish = 'pause' ORDER BY position, id"
                )
            ]
            if number not in ids:
                raise UsageError(
                    "item {item} is not waiting in the queue, so it cannot be moved; 'rtface queue list' shows all",
                    code="item_no_place",
                    item=number,
                )
            ids.remove(number)
            ids.insert(place, number)
            first = database.execute("SELECT coalesce(min(position), 0) FROM item").fetchone()[0]
            database.executemany(
                "UPDATE item SET position = ? WHERE id = ?",
                [(first + place, number) for place, number in enumerate(ids)],
            )

    # Operations of the runner.

    @contextmanager
    def runner(self) -> Generator[None]:
        """Makes this process the queue's runner inside the block. If the previous runner was killed, its items wait
        again, or get the state that users requested. Items that still run when the block ends wait again.

        Raises:
            UsageError: another runner is at work.
        """
        lock = self.hold("runner")
        if lock is None:
            raise UsageError(
                "another process already runs this queue, including newly added items; to run more items at once, end "
                "it and start again with --at-once",
                code="queue_runs",
            )
        with lock:
            with self._database.transaction() as database:
                database.execute(
                    "UPDATE item SET state = CASE wish WHEN 'pause' THEN 'paused' WHEN 'cancel' THEN 'cancelled' "
                    "ELSE 'waiting' END, wish = NULL, left_s = NULL, fps = NULL WHERE state = 'running'"
                )
            try:
                yield
            finally:
                with self._database.transaction() as database:
                    database.execute("UPDATE item SET state = 'waiting', wish = NULL WHERE state = 'running'")

    def take(self) -> Task | None:
        """Marks the first waiting item as running. Returns its task, or None if no item waits."""
        with self._database.transaction() as database:
            row = database.execute(
                "SELECT * FROM item WHERE state = 'waiting' ORDER BY position, id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            item = values_of(row)
            database.execute(
                "UPDATE item SET state = 'running', wish = NULL, attempts = attempts + 1, started_at = ?, "
                "ended_at = NULL, message = '{}', share = NULL, left_s = NULL, fps = NULL WHERE id = ?",
                (time.time(), item["id"]),
            )
        flags = item["flags"]
        if item["attempts"]:  # only the first attempt restarts the job
            flags.pop("restart", None)
        return Task(item["id"], item["plan"], flags)

    def requests(self) -> dict[int, str | None]:
        """Returns what users have requested for each running item."""
        with self._database.connection() as database:
            return {
                row["id"]: row["wish"] for row in database.execute("SELECT id, wish FROM item WHERE state = 'running'")
            }

    def note_progress(self, number: int, progress: ItemProgress) -> None:
        """Records the progress of a running item."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE item SET share = ?, frames = ?, fps = ?, left_s = ? WHERE id = ?",
                (progress.share, progress.frames, progress.fps, progress.left_s, number),
            )

    def finish(self, number: int, state: State, message: str = "") -> None:
        """Records the end of an attempt at an item."""
        ended_at = None if state in ("waiting", "paused") else time.time()
        with self._database.transaction() as database:
            database.execute(
                "UPDATE item SET state = ?, message = ?, ended_at = ?, wish = NULL, fps = NULL, "
                "left_s = NULL, share = CASE WHEN ? = 'done' THEN 1.0 ELSE share END WHERE id = ?",
                (state, json.dumps(Message(message).to_dict()), ended_at, state, number),
            )

    def log_path(self, number: int) -> Path:
        """Returns the path of an item's log of warnings and library output. The item's process locks this file."""
        return self.path.with_name(f"{self.path.stem}-item-{number}.log")

    def hold(self, name: Lock) -> BufferedRandom | None:
        """Acquires a lock. Returns its file, which releases the lock when closed; None if another process holds it."""
        until, path = time.monotonic() + _PATIENCE_S, self._lock_path(name)
        with self._database.errors():
            file = path.open("a+b")
            path.chmod(0o600)
            while not try_lock(file):
                if time.monotonic() > until:
                    file.close()
                    return None
                time.sleep(_PATIENCE_S / 20)
        return file

    def held(self, name: Lock) -> bool:
        """Tells whether a process holds a lock. If unknown, returns True: an item must never run twice at once."""
        try:
            with self._lock_path(name).open("r+b") as file:
                return not try_lock(file)
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _lock_path(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{name}.lock")
