"""Connects over SRT with the system's libsrt, because PyAV's wheel has none.

The process that reads or writes the stream calls the library. This needs no bridge process with passphrase and stream
key on its command line, and no second copy of the stream over a local port. Calls wait in the library without holding
the GIL, in a process that can be killed.
"""

from __future__ import annotations

import ctypes
import platform
import socket
import struct
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rtface.errors import InputError, InputMissing, MissingComponent, UsageError
from rtface.redaction import shown

# Bytes of one message: the customary seven packets of a transport stream.
MESSAGE = 1316
# Numbers of libsrt's options (srt.h); they have not changed since version 1.3.
_SENDING, _CONNECT_MS, _IDLE_MS, _LATENCY, _PASSPHRASE, _KEY, _STREAM_ID, _UNSENT = 21, 36, 55, 23, 26, 27, 46, 19
_INVALID = -1
# Time limit to reach a peer, and time without data after which the peer is lost.
_TIMEOUT_MS = 3000
# Latencies of at least this value are microseconds, as in FFmpeg and OBS. Smaller values are milliseconds, as in SRT's
# own tools.
_MICROSECONDS = 10_000
_BAD_SECRET, _NO_SECRET = 10, 11
LIBRARY_NAMES = (
    "libsrt-gnutls.so.1.5",
    "libsrt-openssl.so.1.5",
    "libsrt.so.1.5",
    "libsrt-gnutls.so.1.4",
    "libsrt-openssl.so.1.4",
    "libsrt.so.1.4",
    "libsrt.so.1",
    "libsrt.so",
    "/opt/homebrew/lib/libsrt.dylib",
    "/usr/local/lib/libsrt.dylib",
    "libsrt.dylib",
    "srt.dll",
    "libsrt.dll",
)


@lru_cache(maxsize=1)
def library() -> Any:
    """Loads and starts libsrt.

    Raises:
        MissingComponent: libsrt is not installed.
    """
    for name in LIBRARY_NAMES:
        with suppress(OSError):
            srt = ctypes.CDLL(name)
            srt.srt_getlasterror_str.restype = srt.srt_rejectreason_str.restype = ctypes.c_char_p
            srt.srt_startup()
            srt.srt_setloglevel(0)
            return srt
    install = {"Linux": "sudo apt install libsrt1.5-openssl", "Darwin": "brew install srt"}.get(
        platform.system(), "put srt.dll on PATH (it comes with OBS Studio and FFmpeg builds)"
    )
    raise MissingComponent("srt:// needs SRT's library: {how}", code="no_srt", how=install)


class SrtConnection:
    """One SRT connection. PyAV can `read` it like a file.

    Args:
        url: "srt://host:port?mode=…&passphrase=…&streamid=…&latency=…"; the mode is "caller" or "listener", the latency
            in milliseconds (or microseconds, from 10000 on).
        sending: whether this end sends.

    Raises:
        InputMissing: no peer responds.
        InputError: the peer rejects the connection.
        MissingComponent: libsrt is not installed.
        UsageError: the URL is invalid.
    """

    def __init__(self, url: str, *, sending: bool) -> None:
        self._name = shown(url)
        # Not urlsplit's query: stream IDs begin with "#!::".
        query = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
        mode = query.get("mode", "caller")
        if mode not in ("caller", "listener"):
            raise UsageError(
                "{name}: mode={mode} is unknown; use caller or listener",
                code="srt_mode",
                name=self._name,
                mode=mode,
            )
        parts = urlsplit(url.partition("?")[0])
        host = parts.hostname or "0.0.0.0"  # a listener without a host listens on all addresses
        port = None
        with suppress(ValueError):
            port = parts.port
        if not port:
            raise UsageError("{name}: needs a port, such as srt://host:9000", code="srt_port", name=self._name)
        self._library = library()
        address = self._address(host, port)
        self._socket: int = self._check(self._library.srt_create_socket())
        try:
            self._configure(query, sending)
            if mode == "listener":
                listening = self._socket
                self._check(self._library.srt_bind(listening, address, len(address)))
                self._check(self._library.srt_listen(listening, 1))
                self._socket = self._check(self._library.srt_accept(listening, None, None))
                self._library.srt_close(listening)
            elif self._library.srt_connect(self._socket, address, len(address)) == _INVALID:
                raise self._connection_error()
        except BaseException:
            self.close()
            raise

    def read(self, size: int = MESSAGE) -> bytes:
        """Waits for the next message, and returns it whole; ignores `size`. Returns b"" if the peer is gone."""
        buffer = ctypes.create_string_buffer(2048)
        size = self._library.srt_recv(self._socket, buffer, len(buffer))
        return buffer.raw[:size] if size > 0 else b""

    def send(self, data: bytes) -> None:
        """Sends one message of at most `MESSAGE` bytes. Waits while the buffer is full.

        Raises:
            ConnectionError: the peer is gone.
        """
        if self._library.srt_send(self._socket, data, len(data)) == _INVALID:
            raise ConnectionError(self._error())

    @property
    def unsent(self) -> int:
        """Number of messages that the peer has not confirmed yet."""
        value, size = ctypes.c_int(), ctypes.c_int(4)
        self._library.srt_getsockflag(self._socket, _UNSENT, ctypes.byref(value), ctypes.byref(size))
        return value.value

    def close(self) -> None:
        """Ends the connection and every waiting `read` and `send`. Safe to call twice."""
        if self._socket != _INVALID:
            self._library.srt_close(self._socket)
            self._socket = _INVALID

    def _configure(self, query: dict[str, str], sending: bool) -> None:
        self._set(_SENDING, int(sending))
        self._set(_CONNECT_MS, _TIMEOUT_MS)
        self._set(_IDLE_MS, _TIMEOUT_MS)
        for name, option in (("passphrase", _PASSPHRASE), ("streamid", _STREAM_ID)):
            if query.get(name):
                data = query[name].encode()
                if self._library.srt_setsockflag(self._socket, option, data, len(data)) == _INVALID:
                    rule = "10 to 79 characters" if name == "passphrase" else "at most 512 characters"
                    raise UsageError(
                        "{name}: SRT does not accept this {option}; it must have {rule}",
                        code="srt_option",
                        name=self._name,
                        option=name,
                        rule=rule,
                    )
        for name, option in (("pbkeylen", _KEY), ("latency", _LATENCY)):
            if query.get(name):
                if not query[name].isdigit():
                    raise UsageError(
                        "{name}: {option} must be a number, not {value}",
                        code="srt_number",
                        name=self._name,
                        option=name,
                        value=query[name],
                    )
                value = int(query[name])
                self._set(option, value // 1000 if name == "latency" and value >= _MICROSECONDS else value)

    def _set(self, option: int, value: int) -> None:
        self._check(self._library.srt_setsockflag(self._socket, option, ctypes.byref(ctypes.c_int(value)), 4))

    def _address(self, host: str, port: int) -> bytes:
        """Returns a socket address as the bytes of the C structure."""
        try:
            info = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, UnicodeError):
            raise InputMissing(
                "{name}: the host {host} cannot be found; check its name and the network",
                code="stream_host",
                name=self._name,
                host=host,
            ) from None
        family, address = info[0], tuple[Any, ...](info[4])
        head = (
            struct.pack("BB", 16 if family == socket.AF_INET else 28, family)
            if sys.platform == "darwin"
            else struct.pack("=H", family)
        )
        packed = socket.inet_pton(family, str(address[0]).partition("%")[0])
        if family == socket.AF_INET:
            return head + struct.pack("!H", port) + packed + bytes(8)
        return head + struct.pack("!HI", port, 0) + packed + struct.pack("=I", int(address[3]))

    def _check(self, result: int) -> int:
        if result == _INVALID:
            raise InputError(
                "{name}: SRT cannot be used ({why})", code="srt_unusable", name=self._name, why=self._error()
            )
        return result

    def _connection_error(self) -> InputError:
        reason = self._library.srt_getrejectreason(self._socket)
        if reason in (_BAD_SECRET, _NO_SECRET):
            return InputError(
                "{name}: the passphrase differs from that of the other end; check passphrase=…",
                code="srt_passphrase",
                name=self._name,
            )
        if reason > 0 and reason != 16:
            text = self._library.srt_rejectreason_str(reason).decode("ascii", "replace")
            return InputError(
                "{name}: the other end rejects the connection ({why}); check streamid and settings",
                code="srt_refused",
                name=self._name,
                why=text,
            )
        return InputMissing(
            "{name}: nothing answers there; start the other end, or check host and port",
            code="srt_silent",
            name=self._name,
        )

    def _error(self) -> str:
        return self._library.srt_getlasterror_str().decode("ascii", "replace").strip()
