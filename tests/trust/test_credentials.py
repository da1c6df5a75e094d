"""Signed outputs: credentials inside films and stills, signed sidecars, keys, and what ``rtface verify`` says."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("c2pa", reason="the extra is not installed")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import rtface
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import Interrupted, MissingComponent, UsageError
from rtface.jobs.folder import folder_of
from rtface.jobs.job import FilmJob
from rtface.trust.credentials import read_anchors, read_credentials
from rtface.trust.sidecar import sidecar_path, signed_bytes, to_bytes
from rtface.trust.signing import SigningKey
from rtface.trust.verify import verify
from tests.pipeline.run_media import film, still
from tests.trust.authority import Authority

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def newsroom(authority: Authority) -> str:
    return authority.issue()


def test_a_film_is_signed_last(tmp_path: Path, newsroom: str) -> None:
    source = film(tmp_path / "in.mkv", frames=6, sound=True)
    report = rtface.run(source, tmp_path / "out.mp4", sign=newsroom, sidecar=True)
    found = read_credentials(tmp_path / "out.mp4")
    assert found is not None and found.valid and not found.trusted and "out.mp4: signed" in report.notes
    assert found.lines()[2:] == [
        "made of in.mkv",
        "action c2pa.opened",
        "action c2pa.edited (compositeWithTrainedAlgorithmicMedia)",
        "action c2pa.transcoded",
    ]
    checked = verify(tmp_path / "out.mp4", input=source)
    assert (checked.sidecar, checked.credentials, checked.input) == ("same",) * 3


def test_credentials_alone_name_the_areas_and_the_input(tmp_path: Path, newsroom: str) -> None:
    source, out = film(tmp_path / "in.mkv", frames=6), tmp_path / "out.mp4"
    rtface.run(source, out, sign=newsroom)
    assert not sidecar_path(out).exists()
    found = verify(out, input=source)
    assert found.same and any("6 with boxes" in line for line in found.proofs)
    other = verify(out, input=film(tmp_path / "other.mkv", frames=6, face=False))
    assert other.input == "differs" and any("(SHA-256)" in line for line in other.problems)


def test_the_credentials_of_the_input_stay_inside(tmp_path: Path, newsroom: str) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3, face=False), tmp_path / "once.mov", sign=newsroom)
    found = read_credentials(tmp_path / "once.mov")
    assert found is not None and found.lines()[3:] == ["action c2pa.opened", "action c2pa.transcoded"]
    rtface.run(tmp_path / "once.mov", tmp_path / "twice.mp4", sign=newsroom)
    found = read_credentials(tmp_path / "twice.mp4")
    assert found is not None and found.valid and "made of once.mov, which has credentials too" in found.lines()


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif", "out.webp"])
def test_stills_are_signed(tmp_path: Path, newsroom: str, name: str) -> None:
    rtface.run(still(tmp_path / name.replace("out", "in")), tmp_path / name, sign=newsroom)
    assert verify(tmp_path / name).credentials == "same"
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2 if name != "out.tif" else 9000] ^= 1  # C2PA's box lies at the end or the beginning
    (tmp_path / name).write_bytes(data)
    assert verify(tmp_path / name).credentials == "differs"


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_each_kind_of_key_signs_a_sidecar(tmp_path: Path, authority: Authority, kind: str) -> None:
    keys: dict[str, Any] = {
        "ec": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    (tmp_path / "photos").mkdir()
    still(tmp_path / "photos" / "a.png")
    rtface.run(tmp_path / "photos", tmp_path / "out", sign=authority.issue(key=keys[kind]()))
    assert verify(tmp_path / "out" / "a.png").credentials == "same"
    assert any("signed it" in line for line in verify(tmp_path / "out", trust=authority.anchor).proofs)


def test_a_signed_sidecar_is_as_its_signer_left_it(tmp_path: Path, authority: Authority, newsroom: str) -> None:
    out, other = tmp_path / "out.mkv", Authority(tmp_path / "other")
    rtface.run(film(tmp_path / "in.mkv", frames=2), out, sign=newsroom)
    side = sidecar_path(out)
    honest: dict[str, Any] = json.loads(side.read_bytes())
    assert verify(out).same and verify(out, trust=authority.anchor).same

    def said(values: dict[str, Any], key: str | None = None, trust: Path | None = authority.anchor) -> str:
        if key is not None:
            certificate, secret = (Path(name).read_bytes() for name in key.split(","))
            values = values | {"signature": SigningKey(certificate, secret, "es256").sign(signed_bytes(values))}
        side.write_bytes(to_bytes(values))
        found = verify(out, trust=trust)
        return str(found.problems) if found.sidecar == "differs" else found.sidecar

    changed = honest | {"changes": []}
    unsigned = {name: value for name, value in changed.items() if name != "signature"}
    assert said(honest, newsroom) == "same"
    assert "no certificate of --trust vouches" in said(changed, other.issue())
    assert "no certificate of --trust vouches" in said(honest, trust=other.anchor)
    assert "changed after it was signed" in said(changed) and "changed after" in said(changed | {"signature": None})
    assert "no signature" in said(unsigned) and "no signature" in said(unsigned, trust=None)


def test_credentials_are_trusted_by_the_anchor_that_is_named(
    tmp_path: Path, authority: Authority, newsroom: str
) -> None:
    out = tmp_path / "out.mp4"
    rtface.run(film(tmp_path / "in.mkv", frames=2), out, sign=newsroom)
    found = read_credentials(out, read_anchors(authority.anchor))
    assert found is not None and (found.valid, found.trusted) == (True, True)
    assert not verify(out, trust=Authority(tmp_path / "other").anchor).same
    result = CliRunner().invoke(app, ["verify", str(out), "--trust", str(authority.anchor)])
    assert result.exit_code == 0 and "signed by Newsroom: the content is as it was signed" in result.stderr
    (tmp_path / "text.pem").write_text("no certificate")
    for name in ("text.pem", "none.pem"):
        result = CliRunner().invoke(app, ["verify", str(out), "--trust", str(tmp_path / name)])
        assert result.exit_code == 2 and "is not a readable certificate in PEM format" in result.stderr


def test_a_job_that_is_ended_after_its_signature_continues(tmp_path: Path, newsroom: str) -> None:
    source, stop, done = film(tmp_path / "in.mkv", frames=3), threading.Event(), tmp_path / "out.mp4"
    values = Options(sign=newsroom)
    with pytest.raises(Interrupted):
        FilmJob.open(source, done, values).run(
            stop=stop, building=lambda what, _: stop.set() if what.startswith("sidecar") else None
        )
    assert read_credentials(done) is not None and not sidecar_path(done).exists()
    FilmJob.open(source, done, values).run()
    found = verify(done, input=source)
    assert (found.sidecar, found.credentials, found.input) == ("same",) * 3 and not folder_of(done).exists()


def test_tampering_with_a_signed_film_is_found(tmp_path: Path, newsroom: str) -> None:
    out = tmp_path / "out.mp4"
    rtface.run(film(tmp_path / "in.mkv", frames=3), out, sign=newsroom)
    data = out.read_bytes()
    out.write_bytes(data[:-200])
    result = CliRunner().invoke(app, ["verify", str(out), "--json"])
    assert result.exit_code == 3 and json.loads(result.stdout)["credentials"] == "differs"
    at = data.index(b"mdat") + 100
    out.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    result = CliRunner().invoke(app, ["verify", str(out)])
    assert result.exit_code == 3 and "its content was changed after it was signed" in result.stderr


def test_keys_and_certificates_that_cannot_be_used(tmp_path: Path, authority: Authority, newsroom: str) -> None:
    certificate, key = newsroom.split(",")
    other, unfit = authority.issue("Other").split(","), "cannot be used for credentials"
    for spec, said in (
        (f"{key},{key}", "give a certificate and its private key"),
        (certificate, "give a certificate and its private key"),
        (f"{certificate},{other[1]}", unfit),
        (authority.issue("old", ended=True), unfit),
        (authority.issue("web", web=True), unfit),
        (authority.issue("small", rsa.generate_private_key(65537, 1024)), "C2PA does not allow such keys"),
    ):
        with pytest.raises(UsageError, match=said):
            rtface.run(still(tmp_path / "in.png"), tmp_path / "out.png", sign=spec)
    if sys.platform != "win32":
        Path(key).chmod(0o644)
        with pytest.raises(UsageError, match="everybody can read"):
            rtface.run(tmp_path / "in.png", tmp_path / "out.png", sign=newsroom)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("job", [False, True])
def test_a_film_that_cannot_be_signed_is_described(
    job: bool, tmp_path: Path, newsroom: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, said = film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", tmp_path / "report.json"
    command = ["run", str(source), str(out), "--sign", newsroom, "--sidecar", "--report", str(said)]
    command += ["--workers", "1"] if job else []
    with monkeypatch.context() as patch:
        full = "rtface.trust.credentials_writing.WorkFile"
        patch.setattr(full, lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        ended = CliRunner().invoke(app, command)
    report = json.loads(said.read_bytes())
    assert ended.exit_code == 1 and report["error"] in " ".join(ended.output.split())
    assert "it is complete, but has no credentials" in report["error"] and report["frames_out"] == 3
    found = verify(out, input=source)
    assert (found.sidecar, found.input) == ("same", "same") and read_credentials(out) is None
    assert CliRunner().invoke(app, command + ([] if job else ["--overwrite"])).exit_code == 0
    found = verify(out, input=source)
    assert (found.sidecar, found.credentials, found.input) == ("same",) * 3


def test_without_the_extra_one_line_names_it(tmp_path: Path, newsroom: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, signed = film(tmp_path / "in.mkv", frames=2, face=False), tmp_path / "signed.mp4"
    rtface.run(source, signed, sign=newsroom)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(MissingComponent, match=r"not installed; install it with: .*\[credentials\]"):
        rtface.run(source, tmp_path / "out.mp4", sign=newsroom)
    assert not (tmp_path / "out.mp4").exists()
    found = verify(signed, input=source)
    assert found.credentials == "not checked" and any("not installed" in note for note in found.notes)
