"""Publishes to an RTMP server with FFmpeg's client, on a thread."""

from __future__ import annotations

import errno
import re
import ssl
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import av.logging
from av.container.core import Flags

from rtface.concurrency.threads import start_thread
from rtface.errors import UsageError
from rtface.live.sinks.tcp_channel import TICK, ConnectionLost, SendQueue, reason
from rtface.redaction import keep_secret, redacted

SILENT_S = 5.0
"""Time limit in seconds for each response of the server, and for the server to accept data."""
# Causes by keywords in FFmpeg's log, for errors that do not report the cause.
_LOG_CAUSES = {
    "resolve hostname": "the host is unknown",
    "owner does not match": "its certificate is for another host",
    "certificate": "its certificate is not trusted",
    "tls:": "a TLS connection to it failed",
    "handshake": "it closed the connection; is it an RTMP server?",
}
_CHUNK_BYTES = 8 << 10


def checked_url(url: str) -> str:
    """Returns an RTMP URL for FFmpeg. Raises UsageError if the application or the stream key is missing."""
    keep_secret(url)  # hides the URL in messages, because servers repeat it
    parts = urlsplit(url)
    try:
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        usable = False
    path = parts.path.strip("/").split("/")
    if not usable or len(path) < 2 or not path[-1]:
        raise UsageError(
            "an RTMP address must end with the application and the stream key, as in HOST/live/KEY", code="rtmp_key"
        )
    if parts.username:
        raise UsageError(
            "rtface does not log in to RTMP servers; leave USER:PASSWORD@ out of the address and use the key",
            code="rtmp_login",
        )
    return parts.scheme.lower() + url[len(parts.scheme) :]


class RtmpLink(SendQueue):
    """Publishes to an RTMP server until the connection is lost or closed.

    FFmpeg's muxer "fifo" connects and writes in its own thread, without holding the GIL. Unlike PyAV, it passes options
    to the protocol. A thread that hangs is abandoned.

    Args:
        url: result of `checked_url`.
        bitrate: bits a second; the kernel buffers half a second of them.

    Raises:
        ConnectionLost: the server does not exist, does not respond, or rejects the stream.
    """

    def __init__(self, url: str, bitrate: int) -> None:
        super().__init__()
        options: dict[str, object] = {
            "rw_timeout": int(SILENT_S * 1_000_000),
            "send_buffer_size": max(32 << 10, bitrate // 32),  # the kernel doubles it
            "tcp_nodelay": 1,
        }
        if url.startswith("rtmps"):
            options |= {"tls_verify": 1} | ({"ca_file": certificates} if (certificates := _certificate_file()) else {})
        format_opts = ":".join(f"{key}=" + re.sub(r"([\\:'])", r"\\\1", str(value)) for key, value in options.items())
        self._container = av.open(
            url,
            "w",
            format="fifo",
            container_options={"fifo_format": "data", "queue_size": "1", "format_opts": format_opts},
        )
        self._container.flags |= Flags.flush_packets.value
        self._stream = self._container.add_data_stream()
        self._count = 0
        self._lost = threading.Event()
        self._ending = False
        self._why = ""
        with av.logging.Capture(local=False) as lines:
            av.logging.set_level(av.logging.ERROR)
            try:
                self._write(b"")
                self._write(b"")  # waits until FFmpeg has sent the first packet, so the server has accepted the stream
            except (av.FFmpegError, OSError) as error:
                raise ConnectionLost(_refusal(error, " ".join(line[2] for line in lines))) from None
            finally:
                av.logging.set_level(None)
        self._progress_at = time.monotonic()
        self._thread = start_thread("rtmp", self._send)

    def step(self) -> None:
        """Waits up to `TICK`, and updates `idle`.

        Raises:
            ConnectionLost: the connection was lost.
        """
        self.idle = time.monotonic() - self._progress_at if self.waiting_bytes else 0.0
        if self._lost.wait(TICK):
            raise ConnectionLost(self._why)

    def close(self) -> None:
        """Ends the stream. Abandons a thread that hangs."""
        self._ending = True
        self._available.set()
        self._thread.join(0.0 if self._lost.is_set() else 0.2)

    def _write(self, data: bytes) -> None:
        packet: av.Packet[Any] = av.Packet(data)
        packet.stream, packet.time_base, packet.pts = self._stream, Fraction(1, 1000), self._count
        packet.dts = self._count
        self._count += 1
        self._container.mux_one(packet)

    def _send(self) -> None:
        try:
            while not self._ending:
                if head := self._next_bytes(_CHUNK_BYTES):
                    self._write(bytes(head))
                    self._remove(len(head))
                    self.accepted, self._progress_at = self.accepted + len(head), time.monotonic()
                else:
                    self._progress_at = time.monotonic()
                    self._wait_for_bytes()
            if self.waiting_bytes:  # closing would continue to send; the process ends anyway
                return
        except (av.FFmpegError, OSError) as error:
            self._why = "it accepts no more data" if isinstance(error, TimeoutError) else _reason(error)
            self._lost.set()
            time.sleep(4 * SILENT_S)  # PyAV closes while holding the GIL, so FFmpeg's thread must end first
        with suppress(av.FFmpegError, OSError):
            self._container.close()


def _certificate_file() -> str | None:
    """Returns the file of Python's trusted certificates; None uses the system's default."""
    paths = ssl.get_default_verify_paths()
    files = [paths.cafile, paths.capath and f"{paths.capath}/ca-certificates.crt"]
    return next((file for file in files if file and Path(file).is_file()), None)


def _refusal(error: Exception, log: str) -> str:
    """Explains why a server was not reached, from FFmpeg's error and log."""
    if match := re.search(r"Server error: ([^\n]*)", log):
        return f"it rejects the stream: {redacted(match[1].strip())[:200]}; check application and key"
    if isinstance(error, ConnectionRefusedError | TimeoutError):
        return reason(error)
    return next((why for word, why in _LOG_CAUSES.items() if word in log), _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, av.EOFError) or getattr(error, "errno", None) == errno.EIO:
        return "it closed the connection; check application and key"
    if isinstance(error, PermissionError):
        return "it ended the stream"
    return reason(error) if isinstance(error, OSError) else "the connection was lost"
