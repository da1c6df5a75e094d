"""Signed outputs: credentials inside films and stills, signed sidecars, keys, and what ``rtface verify`` says."""

from __future__ import annotations

import json
import stat
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("c2pa", reason="the extra is not installed")

import rtface
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.errors import Interrupted, MissingComponent, UsageError
from rtface.jobs import FilmJob, folder_of
from rtface.trust import credentials, signing_key
from rtface.trust.credentials import read_credentials
from rtface.trust.signing_key import SigningKey
from rtface.trust.verify import verify
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_film_is_signed_last_with_its_times(tmp_path: Path, data: Path) -> None:
    source = film(tmp_path / "in.mkv", frames=6, sound=True)
    report = rtface.run(source, tmp_path / "out.mp4", credentials=True, sidecar=True, checksums=True)
    found = read_credentials(tmp_path / "out.mp4")
    assert found is not None and found.valid and not found.trusted and "proves no name" in " ".join(report.notes)
    assert [action["action"] for action in found.actions] == ["c2pa.opened", "c2pa.edited", "c2pa.transcoded"]
    edited = found.actions[1]
    assert edited["digitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert edited["changes"][0]["region"][0]["time"] == {"type": "npt", "start": "0.000", "end": "0.200"}
    assert found.faces is not None and found.faces["treatments"][0]["frames_corrected"] == 6
    assert found.inputs == [{"title": "in.mkv", "credentials": False}]
    checked = verify(tmp_path / "out.mp4", input=source)
    assert (checked.files, checked.sidecar, checked.credentials, checked.input) == ("same",) * 4
    if sys.platform != "win32":
        assert stat.S_IMODE((data / "signing" / "key.pem").stat().st_mode) == 0o600


def test_the_credentials_of_the_input_stay_inside(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3), tmp_path / "once.mov", credentials=True)
    rtface.run(tmp_path / "once.mov", tmp_path / "twice.mp4", credentials=True)
    found = read_credentials(tmp_path / "twice.mp4")
    assert found is not None and found.valid
    assert found.inputs == [{"title": "once.mov", "credentials": True}]


def test_a_film_without_faces_says_of_no_edit(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3, face=False), tmp_path / "out.mp4", credentials=True)
    found = read_credentials(tmp_path / "out.mp4")
    assert found is not None and [a["action"] for a in found.actions] == ["c2pa.opened", "c2pa.transcoded"]


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif", "out.webp"])
def test_stills_are_signed(tmp_path: Path, name: str) -> None:
    source = still(tmp_path / name.replace("out", "in"))
    rtface.run(source, tmp_path / name, credentials=True)
    assert verify(tmp_path / name).credentials == "same"
    assert "some programs" not in str(
        verify(tmp_path / name, input=source)
    )  # they are no part that shows anything else
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2 if name != "out.tif" else 9000] ^= 1  # C2PA's box lies at the end or the beginning
    (tmp_path / name).write_bytes(data)
    assert verify(tmp_path / name).credentials == "differs"


def test_a_folder_of_stills_is_signed_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    still(tmp_path / "photos" / "a.png")
    rtface.run(tmp_path / "photos", tmp_path / "out", credentials=True)
    assert verify(tmp_path / "out" / "a.png").credentials == "same"
    assert any("signed it" in line for line in verify(tmp_path / "out").proofs)


def test_a_container_without_credentials_has_a_signed_sidecar(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mkv", credentials=True)
    assert any("signed it" in line for line in verify(tmp_path / "out.mkv").proofs)
    sidecar = tmp_path / "out.mkv.rtface.json"
    sidecar.write_text(sidecar.read_text().replace('"changes": ["corrected"]', '"changes": []'))
    assert "the sidecar was changed after it was signed" in verify(tmp_path / "out.mkv").problems


def test_credentials_at_an_address_are_not_checked(tmp_path: Path) -> None:
    photo, place = still(tmp_path / "in.jpg"), "https://example.invalid/manifest"
    data, xmp = (
        photo.read_bytes(),
        (
            'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
            '22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" '
            f'dcterms:provenance="{place}"/></rdf:RDF></x:xmpmeta>'
        ).encode(),
    )
    photo.write_bytes(data[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp + data[2:])
    ended = CliRunner().invoke(app, ["verify", str(photo)])
    assert ended.exit_code == 4 and "lie at an address" in ended.output and not verify(photo).problems


def test_a_job_is_signed_once_it_is_joined(tmp_path: Path) -> None:
    job = FilmJob.open(film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", Options(credentials=True))
    assert isinstance(job, FilmJob)
    job.run()
    found = verify(tmp_path / "out.mp4", input=tmp_path / "in.mkv")
    assert found.same and (found.credentials, found.sidecar) == ("same", "same")


def test_a_job_that_is_ended_after_its_signature_continues(tmp_path: Path) -> None:
    source, stop, done = film(tmp_path / "in.mkv", frames=3), threading.Event(), tmp_path / "out.mp4"
    values = Options(credentials=True, checksums=True)
    with pytest.raises(Interrupted):
        FilmJob.open(source, done, values).run(
            stop=stop, building=lambda what, _: stop.set() if what.startswith("checksums") else None
        )
    FilmJob.open(source, done, values).run()
    assert verify(done, input=source).same and not folder_of(done).exists()


def test_tampering_with_a_signed_film_is_found(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", credentials=True)
    data = bytearray((tmp_path / "out.mp4").read_bytes())
    assert "do not cover" not in CliRunner().invoke(app, ["verify", str(tmp_path / "out.mp4")]).stderr
    (tmp_path / "out.mp4").write_bytes(data + b"\0\0\0\x10freespyspyok")
    assert "do not cover 8 bytes" in CliRunner().invoke(app, ["verify", str(tmp_path / "out.mp4")]).stderr
    data[data.index(b"mdat") + 100] ^= 1
    (tmp_path / "out.mp4").write_bytes(data)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "out.mp4")])
    assert result.exit_code == 3 and "its content was changed after it was signed" in result.stderr


def test_keys_and_certificates_that_cannot_be_used(tmp_path: Path, data: Path) -> None:
    SigningKey.load(None)
    certificate, key = (data / "signing" / name for name in ("certificate.pem", "key.pem"))
    source, out = film(tmp_path / "in.mkv", frames=2, face=False), tmp_path / "out.mp4"
    rtface.run(source, out, sign=f"{certificate},{key}", overwrite=True)
    assert (found := read_credentials(out)) is not None and found.valid
    out.unlink()
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    another = _another_key(tmp_path)
    for spec, said in (
        (f"{other},{key}", "is no certificate"),
        (f"{certificate},{certificate}", "others may read"),
        (f"{certificate}", "name two files"),
        (f"{tmp_path / 'none'},{key}", "cannot be read"),
        (f"{certificate},{another}", "is not that of the certificate"),
    ):
        if said == "others may read" and sys.platform == "win32":
            continue
        if said == "others may read":
            certificate.chmod(0o644)
        with pytest.raises(UsageError, match=said):
            rtface.run(source, out, sign=spec)
    assert not out.exists()
    with pytest.raises(UsageError, match="timestamp"):
        rtface.run(source, out, timestamp="http://127.0.0.1:9")


def _another_key(folder: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / "another.pem"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    return path


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, signed = film(tmp_path / "in.mkv", frames=2, face=False), tmp_path / "signed.mp4"
    rtface.run(source, signed, credentials=True)

    def missing(*_: object) -> object:
        raise signing_key.missing_extra()

    monkeypatch.setattr(credentials, "library", missing)
    monkeypatch.setattr("rtface.trust.signing.library", missing)
    with pytest.raises(MissingComponent, match=r"not installed; install it with: .*\[credentials\]"):
        rtface.run(source, tmp_path / "out.mp4", credentials=True)
    assert not (tmp_path / "out.mp4").exists()
    rtface.run(source, tmp_path / "out.mp4")  # nothing changes for who does not ask
    found = verify(signed, input=source)
    assert found.credentials == "not checked" and any("not installed" in note for note in found.notes)


def test_what_a_truncated_film_says(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", credentials=True)
    whole = (tmp_path / "out.mp4").read_bytes()
    (tmp_path / "out.mp4").write_bytes(whole[:-200])
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "out.mp4"), "--json"])
    assert result.exit_code == 3 and json.loads(result.stdout)["credentials"] == "differs"
