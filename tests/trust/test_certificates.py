"""Credentials by certificates of an authority made here, with time stamps of a server made here."""

from __future__ import annotations

import datetime
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("c2pa", reason="the extra is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import rtface
from rtface.cli.app import app
from rtface.errors import UsageError
from rtface.trust.credentials import read_anchors, read_credentials
from rtface.trust.sidecar import sidecar_path, to_bytes
from rtface.trust.signing_key import SigningKey
from rtface.trust.verify import verify
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")
PEM = serialization.Encoding.PEM


@dataclass
class Authority:
    """A certificate authority, in files."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.issue("ca", self._key)

    @property
    def anchor(self) -> Path:
        return self.folder / "ca.pem"

    def issue(
        self, name: str, key: Any = None, purpose: x509.ObjectIdentifier | None = None, *, ended: bool = False
    ) -> str:
        """Makes NAME.pem, of which the authority's own certificate is the end, and NAME.key; "NAME.pem,NAME.key"."""
        key, ca = key or ec.generate_private_key(ec.SECP256R1()), purpose is None
        subject, issuer = (
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Made here"),
                    x509.NameAttribute(NameOID.COMMON_NAME, text),
                ]
            )
            for text in (name, "ca")
        )
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=-1 if ended else 9))
            .add_extension(x509.BasicConstraints(ca, None), True)
            .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        if purpose is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([purpose]), purpose == ExtendedKeyUsageOID.TIME_STAMPING)
        above = b"" if ca else self.anchor.read_bytes()
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(PEM) + above)
        paths[1].write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        paths[1].chmod(0o600)
        return ",".join(map(str, paths))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def newsroom(authority: Authority) -> str:
    return authority.issue("Newsroom", purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION)


@dataclass
class StampServer:
    """A time-stamp server (RFC 3161): OpenSSL's answers, or `answer` instead; only so many."""

    address: str
    asked: int = 0
    answer: bytes | None = None
    only: int | None = None


@pytest.fixture
def server(authority: Authority) -> Iterator[StampServer]:
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl, which makes time stamps, is not here")
    folder = authority.folder
    authority.issue("clock", rsa.generate_private_key(65537, 2048), ExtendedKeyUsageOID.TIME_STAMPING)
    (folder / "serial").write_text("01\n")
    (folder / "clock.cnf").write_text(
        f"[clock]\nserial = {folder}/serial\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\n"
        "digests = sha256, sha384, sha512\naccuracy = secs:1\ness_cert_id_alg = sha256\n"
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stamps.asked += 1
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            if stamps.only is not None and stamps.asked > stamps.only:
                self.send_error(503)
                return
            if stamps.answer is None:
                subprocess.run(
                    [
                        "openssl",
                        "ts",
                        "-reply",
                        "-queryfile",
                        "query",
                        "-config",
                        "clock.cnf",
                        "-section",
                        "clock",
                        "-signer",
                        "clock.pem",
                        "-inkey",
                        "clock.key",
                        "-chain",
                        "ca.pem",
                        "-out",
                        "reply",
                    ],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                )
            data = (folder / "reply").read_bytes() if stamps.answer is None else stamps.answer
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        stamps = StampServer(f"http://127.0.0.1:{made.server_port}/stamp")
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield stamps
        made.shutdown()


def test_a_signer_is_trusted_by_the_anchor_that_is_named(tmp_path: Path, authority: Authority, newsroom: str) -> None:
    out = tmp_path / "out.mp4"
    report = rtface.run(film(tmp_path / "in.mkv", frames=2), out, sign=newsroom)
    assert "out.mp4: signed" in report.notes
    found = read_credentials(out, read_anchors(authority.anchor))
    assert found is not None and (found.signer, found.valid, found.trusted) == ("Newsroom", True, True)
    assert found.lines()[0] == "credentials signed by Newsroom: the content is as it was signed"
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").anchor
    for anchors in (None, read_anchors(other)):
        found = read_credentials(out, anchors)
        assert found is not None and found.valid and not found.trusted
    result = CliRunner().invoke(app, ["verify", str(out), "--trust", str(authority.anchor)])
    assert result.exit_code == 0 and "not proven" not in result.stderr and "signed by Newsroom" in result.stderr
    (tmp_path / "text.pem").write_text("no certificate")
    for name, says in (("text.pem", "is no certificate in PEM form"), ("none.pem", "cannot be read")):
        result = CliRunner().invoke(app, ["verify", str(out), "--trust", str(tmp_path / name)])
        assert result.exit_code == 2 and says in result.stderr


@pytest.mark.parametrize("name", ["out.mkv", "out.ts", "out/"])
def test_a_sidecar_needs_a_signer_whom_trust_vouches_for(
    tmp_path: Path, authority: Authority, newsroom: str, name: str
) -> None:
    out, source = tmp_path / name, film(tmp_path / "in.mkv", frames=2)
    (tmp_path / "stills").mkdir()
    stills = still(tmp_path / "stills/1.png").parent
    rtface.run(stills if name.endswith("/") else source, f"{tmp_path}/{name}", sign=newsroom, sidecar=True)
    side = sidecar_path(out)
    honest = side.read_bytes()
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")

    def answer(values: dict[str, Any], key: str | None = None, trust: Path | None = authority.anchor) -> str:
        values = {name: value for name, value in values.items() if name != "signature"}
        if key is not None:
            certificate, secret = (Path(name).read_bytes() for name in key.split(","))
            values["signature"] = SigningKey(certificate, secret, "es256").sign(to_bytes(values))
        side.write_bytes(to_bytes(values))
        return verify(out, trust=trust).sidecar

    values = json.loads(honest)
    assert verify(out, trust=authority.anchor).same and verify(out).same
    assert not verify(out, trust=other.anchor).same
    ended = authority.issue("Old", purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION, ended=True)
    self_made = other.issue("Newsroom", purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION)
    assert answer(values, newsroom) == "same"
    assert answer(values | {"changes": []}, self_made) == "differs"
    assert answer(values, ended) == answer(values, ended, None) == "differs"
    assert answer(values) == "differs" and answer(values | {"options": {"credentials": True}}, trust=None) == "differs"
    side.write_bytes(to_bytes(values | {"signature": None}))
    assert verify(out).sidecar == "differs"
    inside = tmp_path / "out.mp4"
    rtface.run(source, inside, sign=newsroom)
    assert verify(inside, trust=authority.anchor).same and not verify(inside, trust=other.anchor).same


def test_a_certificate_that_has_ended_or_is_for_another_use(tmp_path: Path, authority: Authority) -> None:
    source = still(tmp_path / "in.png")
    unfit = "cannot be used for credentials"
    for spec, says in (
        (authority.issue("old", purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION, ended=True), "is valid from"),
        (authority.issue("web", purpose=ExtendedKeyUsageOID.SERVER_AUTH), unfit),
        (authority.issue("another ca"), unfit),
    ):
        with pytest.raises(UsageError, match=says):
            rtface.run(source, tmp_path / "out.png", sign=spec)
    assert not (tmp_path / "out.png").exists()


def test_a_time_stamp_is_in_the_signature(
    tmp_path: Path, authority: Authority, newsroom: str, server: StampServer
) -> None:
    out = tmp_path / "out.png"
    rtface.run(still(tmp_path / "in.png"), out, sign=newsroom, timestamp=server.address)
    assert server.asked == 2  # before the work, and for the signature
    found = read_credentials(out, read_anchors(authority.anchor))
    assert found is not None and found.trusted and found.time is not None and found.time_trusted
    made = datetime.datetime.fromisoformat(found.time)
    assert abs(datetime.datetime.now(datetime.UTC) - made) < datetime.timedelta(minutes=5)
    found = read_credentials(out)
    assert found is not None and found.valid and "by an unknown time-stamp server" in found.lines()[0]
    rtface.run(tmp_path / "in.png", out, sign=newsroom, overwrite=True)
    assert server.asked == 2


def test_a_server_without_time_stamps_ends_the_run_early(tmp_path: Path, newsroom: str, server: StampServer) -> None:
    server.answer = b"not found"
    for address in (server.address, "http://127.0.0.1:9/stamp", "clock.example"):
        with pytest.raises(UsageError, match=r"^timestamp=.*(no time stamp came|is no address)") as caught:
            rtface.run(still(tmp_path / "in.png"), tmp_path / "out.png", sign=newsroom, timestamp=address)
        assert "\n" not in str(caught.value) and not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("job", [False, True])
def test_a_film_that_cannot_be_signed_is_described(
    job: bool, tmp_path: Path, newsroom: str, server: StampServer
) -> None:
    source, out, said = film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", tmp_path / "report.json"
    command = [
        "run",
        str(source),
        str(out),
        "--sign",
        newsroom,
        "--timestamp",
        server.address,
        "--checksums",
        "--sidecar",
        "--report",
        str(said),
        *(["--job", str(tmp_path / "job")] if job else []),
    ]
    server.only = 2 if job else 1  # it answers before the work
    ended = CliRunner().invoke(app, command)
    report = json.loads(said.read_bytes())
    assert ended.exit_code == 1 and report["error"] in " ".join(ended.output.split())
    assert "it is whole, without credentials" in report["error"]
    assert (report["frames_out"], report["partial"], report["interrupted"]) == (3, None, False)
    found = verify(out, input=source)
    assert (found.files, found.sidecar, found.input) == ("same",) * 3 and read_credentials(out) is None
    server.only = None
    assert CliRunner().invoke(app, command + ([] if job else ["--overwrite"])).exit_code == 0
    found = verify(out, input=source)
    assert (found.files, found.sidecar, found.credentials, found.input) == ("same",) * 4
    assert json.loads(said.read_bytes())["error"] is None
