"""Where the studio of this user runs now, so that a second start opens it: in a file that only its user can read."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rtface.errors import log
from rtface.util.file_lock import try_lock
from rtface.util.files import write_atomically
from rtface.util.paths import data_dir


def _files() -> tuple[Path, Path]:
    """The file with the address, and the one whose lock is held while the studio runs."""
    return data_dir() / "studio-address", data_dir() / "studio-address.lock"


@contextmanager
def found_at(address: str) -> Generator[None]:
    """Lets `running_address` find this studio inside the block, unless another one can be found already."""
    file, lock = _files()
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            if try_lock(stack.enter_context(lock.open("a+b"))):
                write_atomically(file, f"{address}\n".encode(), private=True)
                stack.callback(file.unlink, True)
        except OSError as error:
            log.debug("a second start will not find this studio: %s", error)
        yield


def running_address() -> str | None:
    """The address of a studio of this user that runs now."""
    file, lock = _files()
    try:
        with lock.open("r+b") as held:
            return None if try_lock(held) else file.read_text("utf-8").strip()
    except OSError:
        return None
