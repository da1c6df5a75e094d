"""Fetching a published file: resumed where it broke off, and taken only when it is the one that was published."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rtface._version import __version__
from rtface.errors import DownloadError, UsageError, log
from rtface.redaction import redacted, shown
from rtface.util.urls import file_path

ByteProgress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and the size where it is known."""

_CHUNK = 1 << 18
_SPARE = 64 << 20  # what a disk shall have left
STALL_S = 30.0  # without a byte for so long a connection is given up
PAUSES_S = 1.0, 2.0, 4.0, 8.0  # before each further attempt; they start again after one that brought something


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file: where it is, and, as far as that is known, its size in bytes and its SHA-256 (hex)."""

    url: str
    bytes: int | None = None
    sha256: str | None = None


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(wanted: PublishedFile, target: Path, progress: ByteProgress) -> Path:
    """Fetches a file to `target` and gives back where it lies: `target`, or the file itself for a ``file://`` address.

    What has come lies beside it under ``.part`` until it is whole and is the right one; a broken download goes on from
    there, now or another day. A `target` that is right already is not fetched again.

    Raises:
        UsageError: the address is not http, https or file.
        DownloadError: it cannot be had, or is another file.
    """
    scheme = urlsplit(wanted.url).scheme.lower()
    if scheme == "file":
        return _local(wanted)
    if scheme not in ("http", "https"):
        raise UsageError(
            "{url} cannot be fetched: give an address of http, https or file", code="url_kind", url=shown(wanted.url)
        )
    if target.is_file() and _fault(wanted, target) is None:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _Download(wanted, target, progress).run()
    return target


def _local(wanted: PublishedFile) -> Path:
    path = Path(file_path(urlsplit(wanted.url).path))
    if not path.is_file():
        raise DownloadError("{path} is not there", code="checkpoint_gone", path=path)
    if fault := _fault(wanted, path):
        raise DownloadError(
            "{path} is not the published file: {fault}", code="file_not_published", path=path, fault=fault
        )
    return path


def _fault(wanted: PublishedFile, path: Path) -> str | None:
    """How a whole file differs from the published one; None where it does not."""
    size = path.stat().st_size
    if wanted.bytes is not None and size != wanted.bytes:
        return f"{size} bytes instead of {wanted.bytes}"
    if wanted.sha256 is not None and (found := digest(path)) != wanted.sha256:
        return f"SHA-256 {found} instead of {wanted.sha256}"
    return None


class _Again(Exception):
    """An attempt failed in a way that another may not; says why."""


class _Download:
    def __init__(self, wanted: PublishedFile, target: Path, progress: ByteProgress) -> None:
        self._wanted, self._target, self._progress = wanted, target, progress
        self._shown = shown(wanted.url)
        self._resumed = False
        of_url = hashlib.sha256(wanted.url.encode()).hexdigest()[:12]  # bytes of another address do not count
        self._part = target.with_name(f"{target.name}.{of_url}.part")

    @property
    def _have(self) -> int:
        """Bytes that have come."""
        return self._part.stat().st_size if self._part.is_file() else 0

    def run(self) -> None:
        while True:
            self._resumed = self._have > 0
            self._fetch()
            fault = _fault(self._wanted, self._part)
            if fault is None:
                break
            self._part.unlink()
            if not self._resumed:
                raise DownloadError(
                    "{url} is not the published file: {fault}; nothing of it was kept. Try again later, or get "
                    "the file elsewhere and give it with --from",
                    code="url_not_published",
                    url=self._shown,
                    fault=fault,
                )
            log.warning("what had been fetched of %s before does not fit; fetching it again", self._shown)
        self._part.replace(self._target)

    def _fetch(self) -> None:
        """Until the part is whole; again after what may pass."""
        pauses = iter(PAUSES_S)
        while True:
            before = self._have
            try:
                self._attempt(before)
                return
            except KeyboardInterrupt:
                if self._have:
                    log.warning("%s", self._kept())
                raise
            except DownloadError:
                raise
            except (_Again, OSError, http.client.HTTPException) as error:
                if final := _final(error):
                    raise DownloadError(
                        "{url} cannot be fetched: {why}", code="url_failed_final", url=self._shown, why=final
                    ) from error
                why = _why(error)
            if self._have > before:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None:
                raise DownloadError(
                    "{url} cannot be fetched: {why}; {rest}",
                    code="url_failed",
                    url=self._shown,
                    why=why,
                    rest=self._kept(),
                )
            log.info("%s: %s; once more in %g s", self._shown, why, pause)
            time.sleep(pause)

    def _kept(self) -> str:
        return (
            f"what has come ({self._have / 1e6:.1f} MB) is kept, and the same command goes on"
            if self._have
            else ("try again later, or get the file elsewhere and give it with --from")
        )

    def _attempt(self, have: int) -> None:
        if have and have == self._wanted.bytes:  # whole; whether it is right is seen later
            return
        headers = {"User-Agent": f"rtface/{__version__}", "Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={have}-"} if have else {}
        try:
            # Proxies come from the environment.
            with urllib.request.urlopen(
                urllib.request.Request(self._wanted.url, headers=headers), timeout=STALL_S
            ) as answer:
                self._take(answer, have if answer.status == HTTPStatus.PARTIAL_CONTENT else 0)
        except urllib.error.HTTPError as error:
            error.close()
            what = f"{error.code} {str(error.reason).splitlines()[0]}"
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                self._part.unlink()
                raise _Again("the server has no more of it; it begins anew") from error
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _Again(f"the server answers {what}") from error
            raise DownloadError(
                "{url} cannot be fetched: the server answers {status_text}; give another address with --url, or a "
                "file with --from",
                code="url_status",
                url=self._shown,
                status_text=what,
            ) from error

    def _take(self, answer: Any, done: int) -> None:
        """Writes what comes behind what is there."""
        self._resumed |= done > 0
        length = answer.headers.get("Content-Length", "")
        most = done + int(length) if length.isdigit() else self._wanted.bytes
        if None not in (most, self._wanted.bytes) and most != self._wanted.bytes:
            self._part.unlink(missing_ok=True)
            raise DownloadError(
                "{url} is not the published file: the server has {total} bytes instead of {expected}; give "
                "another address with --url, or a file with --from",
                code="url_size",
                url=self._shown,
                total=most,
                expected=self._wanted.bytes,
            )
        self._check_room((most or 0) - done)
        self._progress(done, most)
        with self._part.open("ab" if done else "wb") as file:
            while chunk := answer.read1(_CHUNK):
                done += len(chunk)
                try:
                    file.write(chunk)
                except OSError as error:
                    raise DownloadError(
                        "{path} cannot be written: {why}; make room, or move the cache with RTFACE_CACHE",
                        code="download_unwritable",
                        path=self._part,
                        why=error.strerror,
                    ) from error
                self._progress(done, most)
        if most is not None and done < most:
            raise _Again(f"the connection ended after {done} of {most} bytes")

    def _check_room(self, size: int) -> None:
        folder = self._part.parent
        if size + _SPARE > (free := shutil.disk_usage(folder).free):
            raise DownloadError(
                "{folder} has {free:.1f} MB free, and {size:.1f} are needed; make room, or move the cache with "
                "RTFACE_CACHE",
                code="cache_room",
                folder=folder,
                free=free / 1e6,
                size=(size + _SPARE) / 1e6,
            )


def _final(error: BaseException) -> str | None:
    """What another attempt would not change; None where it may."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({error.verify_message})"
    if isinstance(error, http.client.InvalidURL):
        return f"the address is not one that can be asked ({redacted(str(error))})"
    return None


def _why(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"nothing came for {STALL_S:g} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
