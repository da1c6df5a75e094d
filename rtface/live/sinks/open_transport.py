"""Chooses the transport for a URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from rtface.errors import UsageError
from rtface.live.sinks.local_transports import ListenTransport, UdpTransport
from rtface.live.sinks.rtmp import RtmpAddress, RtmpPublisher
from rtface.live.sinks.server_transport import PlainTcpConnection, ServerTransport
from rtface.live.sinks.stream_mux import DATAGRAM
from rtface.live.sinks.transport import Transport


def open_transport(url: str, changed: Callable[[], None]) -> Transport:
    """The transport for a URL, not yet started.

    Args:
        url: with its secrets.
        changed: told, on threads of the transport, when its status says something else.

    Raises:
        UsageError: nothing can be sent there.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in ("rtmp", "rtmps"):
        place = RtmpAddress.of(url)
        return ServerTransport("flv", lambda: RtmpPublisher(place), changed)
    if scheme == "srt":
        from rtface.live.sinks.srt_transport import SrtTransport

        return SrtTransport(url, changed)
    if scheme not in ("tcp", "udp"):
        raise UsageError(f"nothing can be sent over {scheme}")
    place, query = _place(parts), parse_qs(parts.query, keep_blank_values=True)
    if scheme == "udp":
        size = max(188, _number(query, "pkt_size", DATAGRAM) // 188 * 188)
        return UdpTransport(place, size, _number(query, "ttl", 0) or None, changed)
    if query.get("listen", ["0"])[0] != "0":
        return ListenTransport(place, changed)
    return ServerTransport("mpegts", lambda: PlainTcpConnection(place), changed)


def _place(parts: SplitResult) -> tuple[str, int]:
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None:
        raise UsageError(f"the address needs a port: {parts.scheme}://HOST:PORT")
    return parts.hostname or "127.0.0.1", port


def _number(query: dict[str, list[Any]], name: str, otherwise: int) -> int:
    try:
        return int(query[name][0]) if name in query else otherwise
    except ValueError:
        raise UsageError(f"{name} of the address is a whole number") from None
