"""The queue: what users and runners do to its items.

Its database holds no secrets: an address with a password or a query is in a file next to it, which is removed when the
item is done or removed. Two runners never take the same item. A runner holds the lock of a file as long as it lives;
the system frees it with the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any, Literal

from rtface.errors import Message, OutputError, UsageError, log
from rtface.jobs.queue.database import (
    TEXT,
    QueueDatabase,
    checked,
    encoded,
    item_of,
    plan_of,
    state_of,
    written,
)
from rtface.jobs.queue.item import Item, ItemProgress, State, Task
from rtface.redaction import shown
from rtface.util.file_lock import try_lock
from rtface.util.files import NEW
from rtface.util.foreign import file_name

_MOST = 2**63 - 1  # of SQLite's integers
Wish = Literal["pause", "cancel"]
Verb = Literal["pause", "resume", "cancel", "retry", "remove"]
_FREE = {"runner": None, "wish": None}
_END = _FREE | {"state": "cancelled"}
_AGAIN = (
    _FREE
    | dict.fromkeys(("share", "frames", "started_at", "ended_at"))
    | {"state": "waiting", "message": "", "began": 0}
)

CHANGES: dict[Verb, dict[State, dict[str, Any] | None]] = {
    "pause": {"waiting": {"state": "paused"}, "running": {"wish": "pause"}, "interrupted": _FREE | {"state": "paused"}},
    "resume": {"paused": {"state": "waiting"}, "running": {"wish": None}},
    "cancel": {"waiting": _END, "paused": _END, "interrupted": _END, "running": {"wish": "cancel"}},
    "retry": {"failed": _AGAIN, "cancelled": _AGAIN},
    "remove": dict.fromkeys(("waiting", "interrupted", "paused", "done", "failed", "cancelled")),
}
"""What each verb of a user does in each state in which it has an effect: columns to set; None deletes the item."""


class Store:
    """The queue; safe to use from several threads and processes.

    Args:
        path: file of the database; errors as of `QueueDatabase`.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock, self._database = path, clock, QueueDatabase(path)

    # What users do.

    def add(self, plan: dict[str, Any], flags: dict[str, Any] | None = None) -> int:
        """Appends an item and gives its id.

        Args:
            plan: see `Task`; its input may be an address with secrets.
            flags: see `Task`.

        Raises:
            UsageError: an item that is not finished writes one of its outputs.
        """
        input, flags = shown(plan["input"]), flags or {}
        kept = None if input == plan["input"] else self._keep_address(plan["input"])
        try:
            with self._database.transaction() as database:
                for row in database.execute("SELECT * FROM item WHERE state IN ('waiting', 'running', 'paused')"):
                    other = checked(row)
                    for path in sorted(written(plan, flags) & written(other["plan"], other["flags"])):
                        raise UsageError(
                            "{path}: item {item} of the queue writes that already; choose another name, or end it "
                            "with: rtface queue cancel {item}",
                            code="item_writes",
                            path=path,
                            item=row["id"],
                        )
                cursor = database.execute(
                    "INSERT INTO item (position, input, plan, flags, state, added_at) "
                    f"SELECT coalesce(max(position), 0) + 1, {TEXT}, ?, ?, 'waiting', ? FROM item",
                    (
                        encoded(input),
                        json.dumps(plan if kept is None else plan | {"input": f"@{kept}"}),
                        json.dumps(flags),
                        self._clock(),
                    ),
                )
                assert cursor.lastrowid is not None
                return cursor.lastrowid
        except BaseException:
            if kept is not None:
                kept.unlink(missing_ok=True)
            raise

    def _keep_address(self, address: str) -> Path:
        """Writes an address into a file that only the owner can read."""
        path = self.path.with_name(f"{self.path.stem}-address-{secrets.token_hex(8)}.txt")
        with self._database.errors(), os.fdopen(os.open(path, NEW, 0o600), "w", encoding="utf-8") as file:
            file.write(address + "\n")
            file.flush()
            os.fsync(file.fileno())
        return path

    def _forget_address(self, source: str) -> None:
        """Removes the file of `_keep_address`; a file of the user stays."""
        path = Path(source.removeprefix("@"))
        if path.parent == self.path.parent and path.name.startswith(f"{self.path.stem}-address-"):
            with contextlib.suppress(OSError):
                path.unlink()

    def items(self) -> list[Item]:
        """All items: running ones first, then waiting and paused ones in their order, then the ended ones; OutputError
        where one is damaged."""
        with self._database.connection() as database:
            rows = database.execute(
                "SELECT * FROM item ORDER BY CASE WHEN state = 'running' AND wish IS NOT 'pause' THEN 0 "
                "WHEN state IN ('running', 'waiting', 'paused') THEN 1 ELSE 2 END, "
                "CASE WHEN ended_at IS NULL THEN position END, ended_at, id"
            ).fetchall()
        found = list(map(checked, rows))
        alive = {row["runner"]: self._alive(row["runner"]) for row in found if row["runner"] is not None}
        return [item_of(row, alive) for row in found]

    def change(self, ids: Sequence[int], verb: Verb) -> None:
        """Does something to all of some items, or to none of them.

        Args:
            ids: numbers of the items.
            verb: a key of `CHANGES`.

        Raises:
            UsageError: there is no such item, or its state does not allow it.
        """
        changes, removed = CHANGES[verb], list[sqlite3.Row]()
        with self._database.transaction() as database:
            for number in ids:
                row = (
                    None
                    if number > _MOST
                    else database.execute("SELECT * FROM item WHERE id = ?", (number,)).fetchone()
                )
                if row is None:
                    raise UsageError(
                        "there is no item {item} in the queue; 'rtface queue list' shows all",
                        code="item_none",
                        item=number,
                    )
                state = state_of(row, {row["runner"]: self._alive(row["runner"])})
                if state not in changes:
                    halted = state == "running" and row["wish"] == "pause"
                    raise UsageError(
                        "{action}: item {item} is {state}, and has to be {states}; nothing was changed",
                        code="item_state",
                        action=verb,
                        item=number,
                        state=Message("paused in place", code="halted") if halted else state,
                        states=" or ".join(changes),
                    )
                columns = changes[state]
                if columns is None:
                    database.execute("DELETE FROM item WHERE id = ?", (number,))
                    removed.append(row)
                    continue
                if columns.get("state") == "cancelled":
                    columns = columns | {"ended_at": self._clock()}
                if verb == "retry":
                    last = database.execute("SELECT max(position) FROM item").fetchone()[0]
                    columns = columns | {"position": last + 1}
                database.execute(
                    f"UPDATE item SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                    (*columns.values(), number),
                )
        self._removed(removed)

    def _removed(self, rows: Sequence[sqlite3.Row]) -> None:
        """Removes the logs and addresses of items that were removed."""
        for row in rows:
            self._forget_address(plan_of(row).get("input", ""))
            with contextlib.suppress(OSError):
                self.log_path(row["id"]).unlink()

    def reorder(self, number: int, place: int) -> None:
        """Moves an item to a place among those that wait or are paused, 0 being the first."""
        with self._database.transaction() as database:
            ids = [
                row["id"]
                for row in database.execute(
                    "SELECT id FROM item WHERE state IN ('waiting', 'paused') OR wish = 'pause' ORDER BY position, id"
                )
            ]
            if number not in ids:
                raise UsageError(
                    "item {item} does not wait in the queue, so it has no place to move from; 'rtface queue list' "
                    "shows all",
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

    # What runners do.

    @contextmanager
    def runner(self) -> Generator[str]:
        """Registers this process as a runner inside the block, and gives the runner's id. Items of runners that are no
        more wait again; when the block ends, so do those that this one still has."""
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        path = self._lock_path(name)
        with self._database.errors():
            file = path.open("a+b")
            path.chmod(0o600)
        with file:
            try:
                held = try_lock(file)
            except OSError as error:
                raise OutputError(
                    "{folder}: this file system has no file locks ({why}), which the queue needs; set RTFACE_DATA "
                    "to a folder on a local disk",
                    code="file_locks",
                    folder=path.parent,
                    why=error.strerror,
                ) from error
            assert held, "the name is random"
            self.reclaim()
            try:
                yield name
            finally:
                with self._database.transaction() as database:
                    database.execute(
                        "UPDATE item SET state = 'waiting', runner = NULL, wish = NULL WHERE runner = ?", (name,)
                    )
        with contextlib.suppress(OSError):
            path.unlink()

    def reclaim(self) -> None:
        """Makes the items of runners that are no more wait again, or be what users wanted."""
        with self._database.transaction() as database:
            runners = [row["runner"] for row in database.execute("SELECT DISTINCT runner FROM item")]
            database.executemany(
                "UPDATE item SET state = CASE wish WHEN 'pause' THEN 'paused' WHEN 'cancel' THEN 'cancelled' "
                "ELSE 'waiting' END, runner = NULL, wish = NULL, left_s = NULL, fps = NULL WHERE runner = ?",
                [(name,) for name in runners if name is not None and not self._alive(name)],
            )
        for name in self._runners():
            if not self._alive(name):
                with contextlib.suppress(OSError):
                    self._lock_path(name).unlink()

    def has_runner(self) -> bool:
        """Whether a runner is at work, in this or another process."""
        return any(map(self._alive, self._runners()))

    def _runners(self) -> list[str]:
        """Runners that have a file, also of those that were killed."""
        before, after = self._lock_path("*").name.split("*")
        names = [path.name[len(before) : -len(after)] for path in self.path.parent.glob(f"{before}*{after}")]
        return [name for name in names if name != "waits"]

    def request_wait(self) -> BufferedRandom | None:
        """Has every runner halt its items while the file that this gives is open, in this process; None where another
        process asks for that already."""
        path = self._lock_path("waits")
        with self._database.errors():
            file = path.open("a+b")
            path.chmod(0o600)
        try:
            if try_lock(file):
                return file
        except OSError as error:
            log.debug("no lock on %s: %s", path, error)
        file.close()
        return None

    def waits(self) -> bool:
        """Whether runners are asked to wait."""
        return self._alive("waits")

    def take(self, runner: str) -> Task | None:
        """Gives the first waiting item to a runner; None when none waits. OutputError where it is damaged."""
        with self._database.transaction() as database:
            row = database.execute(
                "SELECT * FROM item WHERE state = 'waiting' ORDER BY position, id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            item = checked(row)
            database.execute(
                "UPDATE item SET state = 'running', runner = ?, wish = NULL, began = 0, attempts = attempts + 1, "
                "started_at = ?, ended_at = NULL, message = '', share = NULL, left_s = NULL, fps = NULL WHERE id = ?",
                (runner, self._clock(), item["id"]),
            )
        flags = item["flags"]
        if item["attempts"]:  # a job begins again once
            flags.pop("restart", None)
        return Task(item["id"], item["plan"], flags, bool(item["began"]))

    def requests(self, runner: str) -> dict[int, Wish | None]:
        """What users want of each item that a runner has."""
        with self._database.connection() as database:
            return {
                row["id"]: row["wish"]
                for row in database.execute("SELECT id, wish FROM item WHERE runner = ?", (runner,))
            }

    def note_progress(self, runner: str, number: int, progress: ItemProgress) -> None:
        """Records the progress of a running item. It need not outlast a power cut."""
        with self._database.transaction(durable=False) as database:
            database.execute(
                "UPDATE item SET share = ?, frames = ?, fps = ?, left_s = ?, began = 1 WHERE id = ? AND runner = ?",
                (progress.share, progress.frames, progress.fps, progress.left_s, number, runner),
            )

    def finish(self, runner: str, number: int, state: State, message: str = "") -> None:
        """Ends the attempt of a runner at an item."""
        with self._database.transaction() as database:
            row = database.execute("SELECT * FROM item WHERE id = ? AND runner = ?", (number, runner)).fetchone()
            ended = None if state in ("waiting", "paused") else self._clock()
            database.execute(
                "UPDATE item SET state = ?, message = ?, ended_at = ?, runner = NULL, wish = NULL, began = 0, "
                "fps = NULL, left_s = NULL, share = CASE WHEN ? = 'done' THEN 1.0 ELSE share END "
                "WHERE id = ? AND runner = ?",
                (state, json.dumps(Message(message).to_dict()), ended, state, number, runner),
            )
        if state == "done" and row is not None:
            self._forget_address(plan_of(row).get("input", ""))

    def log_path(self, number: int) -> Path:
        """File with what libraries and warnings said while an item ran; its lock is held by the item's process."""
        return self.path.with_name(f"{self.path.stem}-item-{number}.log")

    def _lock_path(self, runner: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-runner-{runner}.lock")

    def _alive(self, runner: str | None) -> bool:
        """Whether a runner lives, or who asks all to wait: whether the lock of its file is held."""
        if runner is None or not file_name(runner):
            return False
        try:
            with self._lock_path(runner).open("r+b") as file:
                return not try_lock(file)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # unknown: an item is never run twice at the same time
