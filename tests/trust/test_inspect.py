"""``rtface inspect``: what films and stills say about themselves."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.errors import InputError
from rtface.media.formats.image_meta import segment
from rtface.trust.inspection import inspect_file, iptc_datasets, xmp_properties
from tests.pipeline.run_media import film, still

pytestmark = pytest.mark.usefixtures("engines")

COMPOSITE = "compositeWithTrainedAlgorithmicMedia"


def test_a_film_says_what_was_done(tmp_path: Path) -> None:
    rtface.run(film(tmp_path / "in.mkv", frames=3), tmp_path / "out.mp4", sidecar=True)
    found = inspect_file(tmp_path / "out.mp4")
    assert found.source_type is not None and found.source_type.endswith(COMPOSITE)
    assert found.xmp["Iptc4xmpExt:DigitalSourceType"].endswith(COMPOSITE)
    assert found.rtface["rtface_engine"] and found.credentials is None
    assert found.sidecar is not None and found.sidecar["changes"] == ["corrected"] and not found.sidecar["signed"]


def test_a_film_that_says_nothing(tmp_path: Path) -> None:
    found = inspect_file(film(tmp_path / "in.mkv", frames=2, face=False))
    assert (found.source_type, found.rtface, found.xmp, found.sidecar) == (None, {}, {}, None)
    assert found.tags["encoder"].startswith("Lavf")


def test_credentials_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("c2pa")
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    rtface.run(still(tmp_path / "in.png"), tmp_path / "out.png", credentials=True)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "out.png")])
    assert result.exit_code == 0 and "signed by a key of this computer" in result.stdout
    assert "action c2pa.edited (compositeWithTrainedAlgorithmicMedia)" in result.stdout
    said = json.loads(CliRunner().invoke(app, ["inspect", str(tmp_path / "out.png"), "--json"]).stdout)
    assert said["credentials"]["valid"] and said["rtface"]["digital_source_type"].endswith(COMPOSITE)


def iptc_segment() -> bytes:
    data = b"".join(
        b"\x1c\x02" + struct.pack(">BH", number, len(text)) + text
        for number, text in ((80, b"Ada"), (25, b"one"), (25, b"two"), (99, b"unknown"))
    )
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)


def test_iptc_of_a_jpeg(tmp_path: Path) -> None:
    still(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment(0xED, iptc_segment()) + data[2:])
    assert inspect_file(tmp_path / "a.jpg").iptc == {"creator": "Ada", "keywords": "one; two"}


@pytest.mark.parametrize("end", range(0, 60, 7))
def test_truncated_iptc_is_read_as_far_as_it_goes(end: int) -> None:
    assert len(list(iptc_datasets(iptc_segment()[:end]))) <= 3


def test_xmp_that_cannot_be_read() -> None:
    assert xmp_properties(b"<x:xmpmeta") == {}
    assert xmp_properties(b'<!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>') == {}


def test_files_that_cannot_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    good = still(tmp_path / "a.png")
    run = CliRunner().invoke
    assert run(app, ["inspect", str(tmp_path / "none.mp4")]).exit_code == 1
    result = run(app, ["inspect", str(tmp_path / "text.mp4"), str(good)])
    assert result.exit_code == 1 and "a.png" in result.stdout and "Traceback" not in result.stderr


def test_an_image_that_is_not_read_is_not_said_to_be_silent(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    run = CliRunner().invoke
    result = run(app, ["inspect", str(tmp_path / "a.heic")])
    assert result.exit_code == 1 and "(HEIC)" in result.stdout
    for name in ("digital source type", "rtface", "XMP", "IPTC", "tags"):
        assert f"  {name}: not read\n" in result.stdout
    result = run(app, ["inspect", "--json", str(tmp_path / "a.heic")])
    assert result.exit_code == 1 and json.loads(result.stdout)["read"] is False


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "ts", "png", "jpg", "tiff", "webp"])
def test_every_kind_of_output_says_what_was_done(kind: str, tmp_path: Path) -> None:
    picture = kind in ("png", "jpg", "tiff", "webp")
    source = still(tmp_path / "in.png") if picture else film(tmp_path / "in.mkv", frames=2)
    rtface.run(source, tmp_path / f"out.{kind}", sidecar=True)
    found = inspect_file(tmp_path / f"out.{kind}")
    assert found.sidecar is not None and found.sidecar["changes"] == ["corrected"]
    assert (found.source_type or "").endswith("" if kind == "ts" else COMPOSITE)
    assert found.notes == []


def test_a_folder_and_a_sidecar(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    still(tmp_path / "in" / "a.png")
    with pytest.raises(InputError, match="is a folder, and there is no sidecar of it"):
        inspect_file(tmp_path / "in")
    rtface.run(tmp_path / "in", tmp_path / "out", sidecar=True)
    found = inspect_file(tmp_path / "out")
    assert found.sidecar is not None and found.sidecar["changes"] == ["corrected"]
    with pytest.raises(InputError, match=r"is a sidecar; name what it is about \(out\)"):
        inspect_file(tmp_path / "out.rtface.json")
