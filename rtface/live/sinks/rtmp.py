"""Publishing to an RTMP server: connecting, asking for the stream, and FLV into messages.

FFmpeg's own client blocks for ever when a server stalls, holds Python's lock while it connects, and tells nothing of
what the server took; and no key has to go through a library that may print it.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rtface._version import __version__
from rtface.errors import UsageError
from rtface.live.sinks import rtmp_wire as wire
from rtface.live.sinks.tcp_channel import ConnectionLost, TcpChannel, reason
from rtface.redaction import keep_secret, redacted

# Seconds for each answer of the server while connecting.
ANSWER = 4.0
_STREAM_CHANNEL = {wire.AUDIO: 4, wire.DATA: 5, wire.VIDEO: 6}
_PING, _PONG = 6, 7


@dataclass(frozen=True, slots=True)
class RtmpAddress:
    """Where an RTMP URL leads.

    Attributes:
        host, port, secure: of the server.
        app: of the application, with its instance where the URL has one.
        key: of the stream, with its query. Secret.
    """

    host: str
    port: int
    secure: bool
    app: str
    key: str

    @classmethod
    def of(cls, url: str) -> RtmpAddress:
        """UsageError where the URL names no application or stream."""
        keep_secret(url)  # servers repeat it
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        path = parts.path.strip("/").split("/")
        if not parts.hostname or port == -1 or len(path) < 2 or not path[-1]:
            raise UsageError(
                "an RTMP address ends in the application and the stream's key, as HOST/live/KEY", code="rtmp_key"
            )
        if parts.username:
            raise UsageError(
                "rtface does not log in to RTMP servers; leave USER:PASSWORD@ out of the address and use the key",
                code="rtmp_login",
            )
        secure = parts.scheme.lower() == "rtmps"
        head = 2 if len(path) > 2 and ":" not in path[1] else 1
        key = "/".join(path[head:]) + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port or (443 if secure else 1935), secure, "/".join(path[:head]), key)

    @property
    def address(self) -> str:
        """URL of the application, as servers expect it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.secure else 1935
        return f"rtmp{'s' * self.secure}://{host}{'' if self.port == usual else f':{self.port}'}/{self.app}"


class RtmpPublisher(TcpChannel):
    """A stream that an RTMP server has agreed to take.

    Args:
        place: where to.
        timeout: seconds for connecting, and for each of the server's answers.

    Raises:
        ConnectionLost: the server is not there, does not answer, or refuses.
    """

    def __init__(self, place: RtmpAddress, timeout: float = ANSWER) -> None:
        self._place, self._reader, self._tags = place, wire.RtmpReader(), wire.FlvTagParser()
        self._stream = 0
        try:
            self._socket = socket.create_connection((place.host, place.port), timeout)
        except OSError as error:
            raise ConnectionLost(reason(error)) from None
        try:
            if place.secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=place.host)
            self._shake_hands()
            self._negotiate()
        except OSError as error:
            self._socket.close()
            raise ConnectionLost(reason(error)) from None
        except (ConnectionLost, ValueError) as error:
            self._socket.close()
            why = str(error) if isinstance(error, ConnectionLost) else "it does not speak RTMP"
            raise ConnectionLost(why) from None
        super().__init__(self._socket)

    def put(self, data: bytes) -> None:
        """Takes a piece of an FLV file, its header first."""
        for kind, time_ms, body in self._tags.feed(data):
            if kind == wire.DATA:
                body = wire.encode("@setDataFrame") + body
            super().put(
                wire.message(kind, body, stream=self._stream, channel=_STREAM_CHANNEL.get(kind, 5), time=time_ms)
            )

    def received(self, data: bytes) -> None:
        try:
            for kind, body in self._reader.feed(data):
                reply = self._service(kind, body)
                if reply:
                    super().put(reply)
                if kind == wire.COMMAND:
                    self._refused(wire.decode(body))
        except ValueError:
            raise ConnectionLost("it no longer speaks RTMP") from None

    def end_stream(self) -> None:
        key = self._place.key
        super().put(
            wire.message(wire.COMMAND, wire.encode("FCUnpublish", 6, None, key))
            + wire.message(wire.COMMAND, wire.encode("deleteStream", 7, None, self._stream))
        )

    def _shake_hands(self) -> None:
        ours = struct.pack(">II", int(time.monotonic() * 1000) & 0xFFFFFFFF, 0) + os.urandom(1528)
        self._socket.sendall(b"\x03" + ours)
        theirs = self._exactly(1 + 1536)
        if theirs[0] != 3:
            raise ValueError("version")
        self._socket.sendall(theirs[1:])
        self._exactly(1536)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        until = time.monotonic() + ANSWER
        while len(data) < size:
            if time.monotonic() > until:
                raise ConnectionLost("it does not answer")
            got = self._socket.recv(size - len(data))
            if not got:
                raise ConnectionLost("it closed the connection; is it an RTMP server?")
            data += got
        return bytes(data)

    def _negotiate(self) -> None:
        place = self._place
        self._socket.sendall(
            wire.message(wire.SET_CHUNK_SIZE, struct.pack(">I", wire.CHUNK), channel=2)
            + wire.message(
                wire.COMMAND,
                wire.encode(
                    "connect",
                    1,
                    {
                        "app": place.app,
                        "type": "nonprivate",
                        "flashVer": f"FMLE/3.0 (compatible; rtface/{__version__})",
                        "tcUrl": place.address,
                    },
                ),
                chunk=wire.CHUNK,
            )
        )
        self._await_response(1, f"the application {place.app}")
        self._socket.sendall(
            b"".join(
                wire.message(wire.COMMAND, wire.encode(*command))
                for command in (
                    ("releaseStream", 2, None, place.key),
                    ("FCPublish", 3, None, place.key),
                    ("createStream", 4, None),
                )
            )
        )
        number = self._await_response(4, "a new stream")
        self._stream = int(number[3]) if len(number) > 3 and isinstance(number[3], float) else 1
        self._socket.sendall(
            wire.message(
                wire.COMMAND, wire.encode("publish", 5, None, place.key, "live"), stream=self._stream, channel=8
            )
        )
        self._await_response(None, "the stream's key")

    def _await_response(self, transaction: int | None, wanted: str) -> list[Any]:
        """Waits for the result of a command, None for the word that publishing has begun."""
        until = time.monotonic() + ANSWER
        while time.monotonic() < until:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionLost(f"it closed the connection when asked for {wanted}; check application and key")
            for kind, body in self._reader.feed(data):
                if reply := self._service(kind, body):
                    self._socket.sendall(reply)
                if kind != wire.COMMAND:
                    continue
                values = wire.decode(body)
                if values[:1] == ["_result"] and values[1:2] == [transaction]:
                    return values
                if values[:1] == ["_error"] and values[1:2] in ([2.0], [3.0]):
                    continue  # servers may not know releaseStream and FCPublish
                self._refused(values)
                if transaction is None and str(_information(values).get("code")).endswith("Publish.Start"):
                    return values
        raise ConnectionLost("it does not answer")

    def _refused(self, values: list[Any]) -> None:
        """Raises ConnectionLost where a command refuses or ends the stream."""
        given = _information(values)
        if values[:1] == ["_error"] or values[:1] == ["close"] or given.get("level") == "error":
            words = " ".join(str(given.get("description") or given.get("code") or "without a reason").split())
            raise ConnectionLost(f"it refuses the stream: {redacted(words)[:200]}; check application and key")
        if str(given.get("code")).endswith(("UnpublishNotify", "Unpublish.Success", "Connect.Closed")):
            raise ConnectionLost("it ended the stream")

    def _service(self, kind: int, body: bytes) -> bytes:
        """What has to be answered at once, or nothing."""
        if kind == wire.CONTROL and len(body) >= 6 and struct.unpack(">H", body[:2])[0] == _PING:
            return wire.message(wire.CONTROL, struct.pack(">H", _PONG) + body[2:6], channel=2)
        return b""


def _information(values: list[Any]) -> dict[str, Any]:
    """The information object of a command: level, code and description."""
    return values[3] if len(values) > 3 and isinstance(values[3], dict) else {}
