"""Stores the running studio's address in a file for this user only."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rtface.errors import log
from rtface.util.file_lock import try_lock
from rtface.util.files import write_atomically
from rtface.util.paths import data_dir


def _files() -> tuple[Path, Path]:
    """Returns the paths of the address file and of the lock file."""
    return data_dir() / "studio-address", data_dir() / "studio-address.lock"


@contextmanager
def publish_address(address: str) -> Generator[None]:
    """Makes `running_address` return the address within the block. Does nothing if another studio is running."""
    file, lock = _files()
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            if try_lock(stack.enter_context(lock.open("a+b"))):
                write_atomically(file, f"{address}\n".encode(), private=True)
                stack.callback(file.unlink, True)
        except OSError as error:
            log.debug("later starts cannot detect this studio: %s", error)
        yield


def running_address() -> str | None:
    """Returns the address of this user's running studio, or None."""
    file, lock = _files()
    try:
        with lock.open("r+b") as lock_file:
            return None if try_lock(lock_file) else file.read_text("utf-8").strip()
    except OSError:
        return None
