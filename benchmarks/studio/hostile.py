"""Sends hostile requests to a studio, and says whether it leaked anything or stopped answering.

    python -m benchmarks.studio.hostile [--requests 10000] [--clients 200] [--tls]

The requests vary paths (climbing out of folders, encoded twice, with control characters), hosts, origins, methods,
tokens, bodies, cut-short requests and WebSocket handshakes. First the clients connect: two thirds of them never send a
request, the others never read. With --tls (needs openssl) the studio asks for a password, a tenth of the requests is
sent without TLS, and two thirds of the clients never begin a handshake. Prints JSON: responses by status, the time of
an honest request meanwhile (milliseconds, 50th, 95th and 99th percentile), memory before and after in MB, and what
leaked. Exit code 1 where something leaked, a response had a status of 500, or an honest request had none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np

from rtface_studio.app_command import remote_access
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer

SENDERS = 8
"""Hostile requests at a time."""
PASSWORD = "correct horse battery"
SECRET = b"5ecret-of-another-folder"
PATHS = (
    "/",
    "/page/../server.py",
    "/page/%2e%2e/server.py",
    "/page/..%2fserver.py",
    "/page/%252e%252e/server.py",
    "//etc/passwd",
    "/api/files?folder={up}",
    "/api/files?folder=%2F",
    "/api/films",
    "/api/files?folder={films}%2F..%2Fsecret",
    "/api/files?folder={films}%00",
    "/api/films/1/media",
    "/api/films/..%2F1/media",
    "/api/films/99999999999999999999/frame",
    "/api/queue/1/media/result",
    "/api/queue/-1/pause",
    "/api/queue/99999999999999999999/pause",
    "/api/films/1/frame?settings={{",
    "/api/text",
    "/api/about",
    "/api/events",
    "/\x01",
    "/" + "a" * 9000,
)
BODIES = (b"", b"{", b"[]", b'{"path": "/etc/passwd"}', b'{"path": 7}', b"\xff" * 100, b"[" * 60_000, b"x" * 100_000)


def main() -> None:
    """Attacks, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--tls", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["RTFACE_DATA"] = str(Path(name) / "data")
        for folder in ("films", "secret"):
            (Path(name) / folder).mkdir()
        (Path(name) / "secret" / "file").write_bytes(SECRET)
        films = Path(name) / "films"
        (Path(name) / "password").write_text(PASSWORD)
        remote = None
        if asked.tls:
            remote = remote_access("0.0.0.0", make_certificate(Path(name)), Path(name) / "password", [])
        server = StudioServer(Studio(AllowedFolders([films]), films / "uploads"), port=0, remote=remote)
        stop, ready = threading.Event(), threading.Event()
        thread = threading.Thread(target=server.run, args=(stop, ready.set))
        thread.start()
        ready.wait(20)
        try:
            found = attack(Target.of(server, tls=asked.tls), films, asked.requests, asked.clients)
        finally:
            stop.set()
            thread.join(20)
    print(json.dumps(found))
    sys.exit(1 if found["leaks"] or found["unanswered"] or "500" in found["statuses"] else 0)


def make_certificate(folder: Path) -> str:
    """CERT,KEY of a certificate that vouches for itself, written to a folder by openssl."""
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )
    return f"{folder / 'cert.pem'},{folder / 'key.pem'}"


@dataclass(frozen=True, slots=True)
class Target:
    """A studio that is attacked.

    Attributes:
        port: on this machine.
        right: the header of requests that may see everything.
        secrets: what no answer may hold.
        tls: None without TLS.
    """

    port: int
    right: str
    secrets: tuple[bytes, ...]
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, server: StudioServer, *, tls: bool = False) -> Target:
        """A studio that is serving; with `tls` its password is `PASSWORD`."""
        secrets = SECRET, b"Traceback", server.token.encode()
        if not tls:
            return cls(server.port, f"Authorization: Bearer {server.token}", secrets)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        target = cls(server.port, "", secrets, context)
        login = target.ask(target.request("POST", "/login", body=urlencode({"password": PASSWORD}).encode()), 5.0)
        proof = login.decode("latin-1").partition("set-cookie: ")[2].partition(";")[0]
        key = login.decode("latin-1").partition("?key=")[2].split()[0]
        return cls(server.port, f"Cookie: {proof}\r\nX-Rtface-Key: {key}", (*secrets, proof.encode()), context)

    def request(self, method: str, path: str, *headers: str, host: str | None = None, body: bytes = b"") -> bytes:
        """The bytes of a request."""
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {f'127.0.0.1:{self.port}' if host is None else host}",
            *(line for line in headers if line),
            *([f"Content-Length: {len(body)}"] if body else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def connect(self, *, plain: bool = False) -> socket.socket:
        """A connection; `plain` without TLS even so."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        return client if plain or self.tls is None else self.tls.wrap_socket(client)

    def ask(self, data: bytes, patience: float = 0.3, *, plain: bool = False) -> bytes:
        """What the studio sends within some time; b"" for nothing."""
        answer = b""
        try:
            with self.connect(plain=plain) as client:
                client.settimeout(patience)
                client.sendall(data)
                while len(answer) < 1 << 16 and (piece := client.recv(1 << 16)):
                    answer += piece
                    if b"\r\n\r\n" in answer:
                        break
        except OSError:
            pass
        return answer


def attack(target: Target, films: Path, count: int, clients: int) -> dict[str, Any]:
    """Sends hostile requests; what came of them, as in the module's description.

    Args:
        target: what is attacked.
        films: its allowed folder; a folder beside it may hold `SECRET`, which must not be answered.
        count: requests.
        clients: connections that are open meanwhile.
    """
    draw, before, statuses, leaks, honest = random.Random(7), _memory_mb(), Counter[str](), list[str](), list[float]()
    idle = [target.connect(plain=number % 3 != 1) for number in range(clients)]
    for client in idle[1::3]:  # ask, and never read
        client.sendall(target.request("GET", "/page/style.css", target.right) * 20)
    unanswered = 0
    lock = threading.Lock()

    def send(data: bytes, name: str, plain: bool) -> None:
        answer = target.ask(data, plain=plain)
        with lock:
            statuses[answer.split(b" ", 2)[1].decode("latin-1") if answer.startswith(b"HTTP/") else "none"] += 1
            if any(secret in answer for secret in target.secrets):
                leaks.append(name)

    with ThreadPoolExecutor(SENDERS) as senders:
        sent = deque[Future[None]]()
        for number in range(count):
            path = draw.choice(PATHS).format(films=quote(str(films), safe=""), up=quote(str(films.parent), safe=""))
            right = target.right
            token = draw.choice(("", "Authorization: Bearer x", right, right, right, "Cookie: rtface-app=\x07"))
            extra = draw.choice(
                (
                    "",
                    "",
                    "",
                    "Origin: http://evil.example",
                    "Sec-Fetch-Site: cross-site",
                    "Origin: null",
                    "Transfer-Encoding: chunked",
                    "Content-Length: 5\r\nContent-Length: 6",
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                )
            )
            method = draw.choice(
                (
                    "GET",
                    "GET",
                    "GET",
                    "POST",
                    "POST",
                    "PUT",
                    "DELETE",
                    "TRACE",
                    "CONNECT",
                    "FOO",
                    "GET /x HTTP/1.1\r\nX:",
                )
            )
            data = target.request(
                method,
                path,
                token,
                extra,
                host=draw.choice((None,) * 6 + ("evil.example", "")),
                body=draw.choice(BODIES),
            )
            data = data[: draw.randrange(len(data))] if draw.random() < 0.1 else data
            sent.append(senders.submit(send, data, f"{method[:10]} {path[:60]}", number % 10 == 9))
            if len(sent) > SENDERS:
                sent.popleft().result()
            if number % 50 == 0:
                began = time.perf_counter()
                said = target.ask(target.request("GET", "/api/about", right), 5.0)
                honest.append(1e3 * (time.perf_counter() - began))
                unanswered += b" 200 " not in said[:20]
    for client in idle:
        client.close()
    return {
        "statuses": dict(statuses),
        "leaks": leaks[:10],
        "unanswered": unanswered,
        "honest_ms": [round(float(ms), 1) for ms in np.percentile(honest, (50, 95, 99))],
        "memory_mb": [before, _memory_mb()],
    }


def _memory_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
