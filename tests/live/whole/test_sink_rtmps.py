"""RTMPS: publishing through a TLS proxy in front of nginx."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import OutputError
from rtface.live.sinks.stream_sink import StreamSink
from tests.live.feed import Feed, Watcher, form
from tests.live.servers import Nginx


class TlsProxy:
    """TLS in front of a port of loopback, with a certificate of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("openssl makes the certificate")
        self.certificate = folder / "certificate.pem"
        subprocess.run(
            [
                openssl,
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                str(folder / "key.pem"),
                "-out",
                str(self.certificate),
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "key.pem")
        self._context, self._to = context, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer = self._listener.accept()[0]
                with suppress(OSError):
                    near, far = (
                        self._context.wrap_socket(peer, server_side=True),
                        socket.create_connection(("127.0.0.1", self._to)),
                    )
                    threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
                    threading.Thread(target=self._carry, args=(far, near), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.close()

    def close(self) -> None:
        self._listener.close()


def test_rtmps_publishes_and_looks_at_the_certificate(nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    proxy = TlsProxy(tmp_path, nginx.rtmp)
    try:
        url = f"rtmps://localhost:{proxy.port}/live/topsecret"
        sink = StreamSink(parse_address(url), Options(encode="software"))
        with pytest.raises(OutputError, match="certificate is not trusted"):
            sink.open(form(), sound=None)
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
        sink = StreamSink(parse_address(url), Options(encode="software"))
        sink.open(form(), sound=None)
        feed = Feed(sink, form(), sound=False, texture=True)
        with Watcher(nginx.url("topsecret"), tmp_path) as watcher:
            feed.until_seen(watcher, 0)
        assert sink.health.state == "live" and not sink.health.reopened
        sink.close()
    finally:
        proxy.close()
