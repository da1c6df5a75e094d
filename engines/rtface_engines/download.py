"""Downloads a published file, resumes after interruptions, and verifies it."""

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
"""Function that is called with the bytes received and the size (None if unknown)."""

_CHUNK = 1 << 18
_SPARE_BYTES = 64 << 20  # disk space that must remain unused
STALL_S = 30.0  # time without data after which a connection is closed
PAUSES_S = 1.0, 2.0, 4.0, 8.0  # pauses before retries; after data arrived, the sequence starts again


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file. Its size in bytes and its SHA-256 (hex) are None if unknown."""

    url: str
    bytes: int | None = None
    sha256: str | None = None


def digest(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(wanted: PublishedFile, target: Path, progress: ByteProgress) -> Path:
    """Downloads a file to `target` unless it exists. Returns its path.

    For a ``file://`` address, returns the path of that file. A later call resumes an incomplete download from a
    ``.part`` file next to `target`.

    Raises:
        UsageError: the address is not http, https or file.
        DownloadError: the file cannot be downloaded, or differs from the published file.
    """
    scheme = urlsplit(wanted.url).scheme.lower()
    if scheme == "file":
        return _local(wanted)
    if scheme not in ("http", "https"):
        raise UsageError(
            "{url} cannot be downloaded: give an http, https or file address", code="url_kind", url=shown(wanted.url)
        )
    if target.is_file() and _fault(wanted, target) is None:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _Download(wanted, target, progress).run()
    return target


def _local(wanted: PublishedFile) -> Path:
    path = Path(file_path(urlsplit(wanted.url).path))
    if not path.is_file():
        raise DownloadError("{path} does not exist", code="checkpoint_gone", path=path)
    if fault := _fault(wanted, path):
        raise DownloadError(
            "{path} is not the published file: {fault}", code="file_not_published", path=path, fault=fault
        )
    return path


def _fault(wanted: PublishedFile, path: Path) -> str | None:
    """Describes how a file differs from the published file. Returns None if it does not."""
    size = path.stat().st_size
    if wanted.bytes is not None and size != wanted.bytes:
        return f"{size} bytes instead of {wanted.bytes}"
    if wanted.sha256 is not None and (actual := digest(path)) != wanted.sha256:
        return f"SHA-256 {actual} instead of {wanted.sha256}"
    return None


class _RetryableError(Exception):
    """An attempt failed and can be retried. The message contains the reason."""


class _Download:
    def __init__(self, wanted: PublishedFile, target: Path, progress: ByteProgress) -> None:
        self._wanted, self._target, self._progress = wanted, target, progress
        self._shown = shown(wanted.url)
        self._resumed = False
        of_url = hashlib.sha256(wanted.url.encode()).hexdigest()[:12]  # data from different addresses must not mix
        self._part = target.with_name(f"{target.name}.{of_url}.part")

    @property
    def _received(self) -> int:
        """Number of bytes received so far."""
        return self._part.stat().st_size if self._part.is_file() else 0

    def run(self) -> None:
        while True:
            self._resumed = self._received > 0
            self._fetch()
            fault = _fault(self._wanted, self._part)
            if fault is None:
                break
            self._part.unlink()
            if not self._resumed:
                raise DownloadError(
                    "{url} is not the published file: {fault}; the download was deleted. Try again later, or "
                    "get the file elsewhere and pass it with --from",
                    code="url_not_published",
                    url=self._shown,
                    fault=fault,
                )
            log.warning("the earlier part of %s does not match; downloading the file again", self._shown)
        self._part.replace(self._target)

    def _fetch(self) -> None:
        """Downloads until the ``.part`` file is complete. Retries after temporary errors."""
        pauses = iter(PAUSES_S)
        while True:
            before = self._received
            try:
                self._attempt(before)
                return
            except KeyboardInterrupt:
                if self._received:
                    log.warning("%s", self._kept())
                raise
            except DownloadError:
                raise
            except (_RetryableError, OSError, http.client.HTTPException) as error:
                if final := _permanent(error):
                    raise DownloadError(
                        "{url} cannot be downloaded: {why}", code="url_failed_final", url=self._shown, why=final
                    ) from error
                why = _why(error)
            if self._received > before:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None:
                raise DownloadError(
                    "{url} cannot be downloaded: {why}; {rest}",
                    code="url_failed",
                    url=self._shown,
                    why=why,
                    rest=self._kept(),
                )
            log.info("%s: %s; trying again in %g s", self._shown, why, pause)
            time.sleep(pause)

    def _kept(self) -> str:
        return (
            f"the part received ({self._received / 1e6:.1f} MB) is kept; the same command resumes the download"
            if self._received
            else ("try again later, or get the file elsewhere and pass it with --from")
        )

    def _attempt(self, have: int) -> None:
        if have and have == self._wanted.bytes:  # the file is complete; the caller verifies it
            return
        headers = {"User-Agent": f"rtface/{__version__}", "Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={have}-"} if have else {}
        try:
            # urllib reads proxies from environment variables.
            with urllib.request.urlopen(
                urllib.request.Request(self._wanted.url, headers=headers), timeout=STALL_S
            ) as answer:
                self._append(answer, have if answer.status == HTTPStatus.PARTIAL_CONTENT else 0)
        except urllib.error.HTTPError as error:
            error.close()
            what = f"{error.code} {str(error.reason).splitlines()[0]}"
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                self._part.unlink()
                raise _RetryableError("the server cannot resume the download; starting again") from error
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _RetryableError(f"the server answered {what}") from error
            raise DownloadError(
                "{url} cannot be downloaded: the server answered {status_text}; pass another address with --url, or a "
                "file with --from",
                code="url_status",
                url=self._shown,
                status_text=what,
            ) from error

    def _append(self, answer: Any, done: int) -> None:
        """Appends a response to the ``.part`` file."""
        self._resumed |= done > 0
        length = answer.headers.get("Content-Length", "")
        most = done + int(length) if length.isdigit() else self._wanted.bytes
        if None not in (most, self._wanted.bytes) and most != self._wanted.bytes:
            self._part.unlink(missing_ok=True)
            raise DownloadError(
                "{url} is not the published file: the server's file has {total} bytes instead of {expected}; "
                "pass another address with --url, or a file with --from",
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
                        "{path} cannot be written: {why}; free some space, or move the cache with RTFACE_CACHE",
                        code="download_unwritable",
                        path=self._part,
                        why=error.strerror,
                    ) from error
                self._progress(done, most)
        if most is not None and done < most:
            raise _RetryableError(f"the connection ended after {done} of {most} bytes")

    def _check_room(self, size: int) -> None:
        folder = self._part.parent
        if size + _SPARE_BYTES > (free := shutil.disk_usage(folder).free):
            raise DownloadError(
                "{folder} has {free:.1f} MB free, but {size:.1f} MB are needed; free some space, or move the cache "
                "with RTFACE_CACHE",
                code="cache_room",
                folder=folder,
                free=free / 1e6,
                size=(size + _SPARE_BYTES) / 1e6,
            )


def _permanent(error: BaseException) -> str | None:
    """Describes a permanent error. Returns None if a retry may succeed."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted on this machine ({error.verify_message})"
    if isinstance(error, http.client.InvalidURL):
        return f"the address cannot be used ({redacted(str(error))})"
    return None


def _why(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"no data arrived for {STALL_S:g} s"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
