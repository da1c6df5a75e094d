"""A server that breaks off, stalls, lies and changes its mind, as it is told."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Server:
    """Answers each request by the next of `acts`, then by `honest`; `asked` are the ranges that came."""

    url: str
    acts: list[Callable[[Any], None]] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    data: bytes = DATA
    tag: str = '"one"'

    def answer(self, request: Any) -> None:
        self.asked.append(request.headers.get("Range"))
        (self.acts.pop(0) if self.acts else self.honest)(request)

    def honest(self, request: Any) -> None:
        self.send(request)

    def send(self, request: Any, *, upto: int | None = None, length: int | None = None, ranges: bool = True) -> None:
        begin, wanted = 0, request.headers.get("Range")
        if wanted and ranges and request.headers.get("If-Range", self.tag) == self.tag:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(self.data):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.data)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        request.send_response(206 if begin else 200)
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}")
        request.send_header("Content-Length", str(len(self.data) - begin if length is None else length))
        request.send_header("ETag", self.tag)
        request.end_headers()
        request.wfile.write(self.data[begin:upto])
        request.close_connection = True

    def truncated(self, request: Any) -> None:
        self.send(request, upto=300_000)

    def stalled(self, request: Any) -> None:
        self.send(request, upto=200_000)
        request.wfile.flush()
        time.sleep(2.0)

    def without_ranges(self, request: Any) -> None:
        self.send(request, ranges=False)

    def failing(self, code: int) -> Callable[[Any], None]:
        return lambda request: request.send_error(code)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """One that runs inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                made.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    made = Server(f"http://127.0.0.1:{http.server_address[1]}/weights.pth")
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        http.shutdown()
        http.server_close()
