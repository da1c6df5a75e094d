"""The connections of the local server: how many there may be, and who makes room for whom."""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

log = logging.getLogger("rtface")

ADDRESS = "127.0.0.1"
CONNECTIONS = 16
STREAMS = 4
"""Of the connections those whose answers go on (previews): the others are always left for commands."""


class LimitedServer(ThreadingHTTPServer):
    """A server on `ADDRESS` whose handlers find what they answer in `routes`.

    Attributes:
        streams: taken by answers that go on.
    """

    daemon_threads = True
    block_on_close = False
    # Elsewhere it only skips the wait after a server that ended; on Windows it would let two have one port.
    allow_reuse_address = os.name != "nt"
    request_queue_size = CONNECTIONS

    def __init__(self, routes: Any, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.routes = routes
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self.streams = threading.BoundedSemaphore(STREAMS)
        self._reading: dict[socket.socket, None] = {}  # connections whose request has not come yet, oldest first
        self._lock = threading.Lock()
        super().__init__((ADDRESS, port), handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks a DNS server for our name
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False) and not (self._give_up_oldest() and self._room.acquire(timeout=0.5)):
            busy = b'{"error": "too many connections"}\n'
            request.settimeout(0.0)
            try:
                request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n" + busy)
            except OSError as error:
                log.debug("control: %s", error)
            self.shutdown_request(request)
            return
        with self._lock:
            self._reading[request] = None
        super().process_request(request, client_address)

    def request_came(self, connection: socket.socket) -> None:
        """Its request was read: the connection is not given up any more."""
        with self._lock:
            self._reading.pop(connection, None)

    def _give_up_oldest(self) -> bool:
        """Ends the connection that has been without a request for longest; False where there is none."""
        with self._lock:
            oldest = next(iter(self._reading), None)
            if oldest is None:
                return False
            del self._reading[oldest]
        try:
            oldest.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("control: %s", error)
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.request_came(request)
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("control: a connection ended", exc_info=True)  # the peer went away, or was too slow
