"""Which outlet a URL means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from rtface.errors import UsageError
from rtface.live.sinks.local_outlets import DatagramOutlet, ViewersOutlet
from rtface.live.sinks.outlet import Outlet
from rtface.live.sinks.rtmp import Place, Publisher
from rtface.live.sinks.server_outlet import Plain, ServerOutlet
from rtface.live.sinks.stream_mux import DATAGRAM


def open_outlet(url: str, changed: Callable[[], None]) -> Outlet:
    """The outlet for a URL, not yet started.

    Args:
        url: with its secrets.
        changed: told, on threads of the outlet, when its status says something else.

    Raises:
        UsageError: nothing can be sent there.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in ("rtmp", "rtmps"):
        place = Place.of(url)
        return ServerOutlet("flv", lambda: Publisher(place), changed)
    if scheme == "srt":
        from rtface.live.sinks.srt_outlet import SrtOutlet

        return SrtOutlet(url, changed)
    if scheme not in ("tcp", "udp"):
        raise UsageError(f"nothing can be sent over {scheme}")
    place, query = _place(parts), parse_qs(parts.query, keep_blank_values=True)
    if scheme == "udp":
        size = max(188, _number(query, "pkt_size", DATAGRAM) // 188 * 188)
        return DatagramOutlet(place, size, _number(query, "ttl", 0) or None, changed)
    if query.get("listen", ["0"])[0] != "0":
        return ViewersOutlet(place, changed)
    return ServerOutlet("mpegts", lambda: Plain(place), changed)


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
