"""RTMPS: publishing through a TLS proxy in front of nginx."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import OutputError
from rtface.live.sinks.stream_sink import StreamSink
from tests.live.feed import Feed, Watcher, form
from tests.live.servers import Nginx, proxied


def test_rtmps_publishes_and_looks_at_the_certificate(nginx: Nginx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    openssl, key, certificate = shutil.which("openssl"), tmp_path / "key.pem", tmp_path / "certificate.pem"
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    made = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    named = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run([*made.split(), *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with proxied(nginx.rtmp, lambda peer: (context.wrap_socket(peer, server_side=True), b"")) as port:
        url = f"rtmps://localhost:{port}/live/topsecret"
        sink = StreamSink(parse_address(url), Options(encode="software"))
        with pytest.raises(OutputError, match="certificate is not trusted"):
            sink.open(form(), sound=None)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        sink = StreamSink(parse_address(url), Options(encode="software"))
        sink.open(form(), sound=None)
        feed = Feed(sink, form(), sound=False, texture=True)
        with Watcher(nginx.url("topsecret"), tmp_path) as watcher:
            feed.until_seen(watcher, 0)
        assert sink.health.state == "live" and not sink.health.reopened
        sink.close()
