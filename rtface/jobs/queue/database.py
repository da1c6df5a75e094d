"""The queue's database: SQLite in WAL mode, readable and writable by its owner only.

Each change is one transaction, so that a crash leaves either all of it or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rtface.errors import Message, OutputError, RtfaceError, UsageError
from rtface.jobs.queue.item import Item, State

VERSION = 6
_COLUMNS = "id", "flags", "share", "frames", "fps", "left_s", "attempts", "added_at", "started_at", "ended_at"
_LOCK_WAIT_S = 30.0  # how long to wait for other processes that write
_SCHEMA = """
CREATE TABLE item (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    position INTEGER NOT NULL,      -- order of the waiting items
    plan TEXT NOT NULL,             -- JSON: `rtface.pipeline.plan.RunPlan.to_dict`
    flags TEXT NOT NULL,            -- JSON: --workers, --restart, --farm
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'done', 'failed', 'cancelled')),
    wish TEXT CHECK (wish IN ('pause', 'cancel')),  -- action requested by a user, still to be done by the runner
    message TEXT NOT NULL DEFAULT '{}',  -- JSON: message text, code and values
    share REAL, frames INTEGER, fps REAL, left_s REAL,  -- share: 0…1, done; left_s: seconds remaining
    attempts INTEGER NOT NULL DEFAULT 0,
    added_at REAL NOT NULL, started_at REAL, ended_at REAL  -- seconds since 1970
);
CREATE INDEX item_state ON item (state, position);
"""


class QueueDatabase:
    """Opens the queue's database anew for each call. Several threads and processes may use it.

    Args:
        path: file of the database; a missing file or folder is created.

    Raises:
        OutputError: the database is damaged, or cannot be read or written; nothing was changed.
        UsageError: another version of rtface created the database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.errors():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # An existing file is not opened, because closing it would release this process's locks on it.
            with contextlib.suppress(FileExistsError):  # SQLite gives its other files the same mode
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with self.connection() as database:
            self._prepare(database)

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Creates the tables of a new database, or checks an existing one."""
        with contextlib.suppress(sqlite3.OperationalError):  # raised while another process switches the mode
            database.execute("PRAGMA journal_mode = WAL")
        with _committed(database):
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            if version == 0 and tables == 0:
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise UsageError(
                    "{path} was created by another program or version of rtface (format {found}, expected {wanted}); "
                    "use that program, or move the file away to start a new queue",
                    code="queue_version",
                    path=self.path,
                    found=version,
                    wanted=VERSION,
                )
            elif (fault := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(fault)

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        """Opens the database for the block."""
        with (
            self.errors(),
            contextlib.closing(sqlite3.connect(self.path, timeout=_LOCK_WAIT_S, isolation_level=None)) as database,
        ):
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA synchronous = FULL")
            yield database

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Opens the database for one transaction. The changes of the block are committed at its end, or not at all."""
        with self.connection() as database, _committed(database):
            yield database

    @contextmanager
    def errors(self) -> Generator[None]:
        """Converts errors of SQLite and the file system to one-line messages."""
        try:
            yield
        except RtfaceError:
            raise
        except (sqlite3.OperationalError, OSError) as error:
            raise OutputError(
                "{path}: the queue cannot be used ({why}); check the disk and the permissions, or set RTFACE_DATA "
                "to another folder",
                code="queue_unusable",
                path=getattr(error, "filename", None) or self.path,
                why=getattr(error, "strerror", error),
            ) from error
        except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: damaged JSON
            why = " ".join(str(error).split())
            raise OutputError(
                "{path}: the queue's database is damaged ({why}); nothing was changed. Move it away to begin a "
                "new queue; 'sqlite3 FILE .recover' reads what is left of it",
                code="queue_damaged",
                path=self.path,
                why=why,
            ) from error


@contextmanager
def _committed(database: sqlite3.Connection) -> Generator[None]:
    database.execute("BEGIN IMMEDIATE")
    with database:
        yield


def values_of(row: sqlite3.Row) -> dict[str, Any]:
    """Returns the columns of an item, with JSON decoded. Raises ValueError if they are damaged."""
    values: dict[str, Any] = dict(row)
    return values | {key: json.loads(values[key]) for key in ("plan", "flags", "message")}


def state_of(row: sqlite3.Row, alive: bool) -> State:
    """Returns the state of an item; `alive` tells whether a runner exists."""
    return "interrupted" if row["state"] == "running" and not alive else row["state"]


def item_of(row: sqlite3.Row, alive: bool) -> Item:
    """Returns an item as users see it. `alive` tells whether a runner exists."""
    state, values = state_of(row, alive), values_of(row)
    if state == "running" and row["wish"] == "pause":  # already paused, but its runner has not yet updated the database
        state = "paused"
        values |= {"fps": None, "left_s": None}
    plan = values["plan"]
    return Item(
        input=plan["input"],
        output=plan["output"],
        options=plan["options"],
        state=state,
        message=Message.of(values["message"]),
        **{key: values[key] for key in _COLUMNS},
    )
