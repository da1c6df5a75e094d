"""Live recordings that are signed once they are whole."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa", reason="the extra is not installed")

from rtface.analysis.track_report import Span, TrackReport
from rtface.config.addresses import live_scope, parse_address
from rtface.config.options import Options, check_scope
from rtface.errors import OutputError, UsageError
from rtface.live import sign_recordings
from rtface.live.session import Endpoints, run_live
from rtface.live.sign_recordings import RecordingSigner
from rtface.live.sinks.record_sink import RecordSink
from rtface.media.marks.provenance import describe
from rtface.report import Report
from rtface.trust.credentials import Credentials, read_credentials
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.trust.verify import verify
from tests.live.live_fakes import FORM, FakeSink, FakeSource, frame
from tests.live.test_run import PASSING, Run
from tests.trust.authority import Authority

TAGS = describe("rtface-s 0.1", "9.9", 0.8)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Those of a run whose recordings are signed."""
    return replace(PASSING, sign=Authority(tmp_path / "authority").issue())


def signed(path: Path, options: Options) -> list[str]:
    """A recording of five frames from second 1 on, on the last three of which a face was corrected; signed."""
    sink = RecordSink(parse_address(str(path)), options, metadata=TAGS)
    signer = RecordingSigner.asked(options, [sink, FakeSink()])
    assert signer is not None
    sink.open(FORM, sound=None)
    for number in range(5):
        sink.write(replace(frame(1_000_000 + 40_000 * number), corrected=number > 1, touched=number > 1))
    sink.close()
    span = Span(0.58, 0.7, True, 0.5, [], 3)
    track = TrackReport(3, 0.5, 0.7, 5, 90.0, {}, {}, 0.5, frames_corrected=3, spans=[span])
    return signer.sign("camera:0", Report("camera:0", "x", "1", "rtface-s", "cpu", tracks=[track]))


def titles(found: Credentials) -> list[str]:
    """Of what was signed as inputs, none of which has credentials itself."""
    inputs = found.manifest["ingredients"]
    assert not any("active_manifest" in one for one in inputs)
    return [one["title"] for one in inputs]


def actions(found: Credentials) -> list[dict[str, Any]]:
    """What was done to them."""
    return found.assertion("c2pa.actions")["actions"]


def test_a_recording_says_that_faces_were_corrected(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "talk.mp4"
    assert signed(path, options) == ["talk.mp4: signed"]
    found = read_credentials(path)
    assert found is not None and found.valid and titles(found) == ["camera:0"]
    edited = actions(found)[1]
    assert edited["digitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert [number for number, _ in found.sidecar_fields["changed"]] == [2, 3, 4]
    assert verify(path).credentials == "same"
    path.write_bytes(path.read_bytes().replace(b"rtface_engine", b"rtface_engynE"))
    assert verify(path).credentials == "differs"


def test_a_recording_that_holds_none_has_a_signed_sidecar(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "talk.mkv"
    assert "signed" in signed(path, options)[0]
    values = read_sidecar(sidecar_path(path))
    assert [number for number, _ in values["changed"]] == [2, 3, 4] and values["changes"] == ["corrected"]
    assert values["input"]["name"] == "camera:0" and "camera:0" in path.with_name("talk.mkv.rtface.json").read_text()
    found = verify(path)
    assert found.sidecar == "same" and any("signed it" in line for line in found.proofs)
    path.unlink()
    with pytest.raises(OutputError, match=r"talk\.mkv\.rtface\.json: exists already"):
        signed(path, options)


def test_a_recording_that_cannot_be_signed_is_reported(
    tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_file = sign_recordings.sign_file

    def sign(path: Path, *more: Any) -> None:
        if path.name == "a.mp4":
            raise OutputError(f"{path}: could not be signed")
        sign_file(path, *more)

    monkeypatch.setattr(sign_recordings, "sign_file", sign)
    sinks = [RecordSink(parse_address(str(tmp_path / name)), options, metadata=TAGS) for name in ("a.mp4", "b.mp4")]
    with Run(replace(options, report=tmp_path / "report.json"), sinks=sinks) as run:
        while not all(sink.health.frames for sink in sinks):
            run.source.give(frame(round(1e6 * time.monotonic())))
            time.sleep(0.02)
    assert isinstance(run.error, OutputError)
    assert "could not be signed" in json.loads((tmp_path / "report.json").read_bytes())["error"]
    assert read_credentials(tmp_path / "b.mp4") is not None


def test_a_recording_that_is_not_whole_is_not_signed(tmp_path: Path, options: Options) -> None:
    sink = RecordSink(parse_address(str(tmp_path / "talk.mp4")), options, metadata=TAGS)
    signer = RecordingSigner.asked(options, [sink])
    assert signer is not None
    sink.open(FORM, sound=None)
    sink.close()  # no frame came
    assert "incomplete" in signer.sign("camera:0", Report("camera:0", "x", "1", "e", "cpu"))[0]


def test_what_cannot_be_signed_is_said_before_the_run(tmp_path: Path) -> None:
    options = replace(PASSING, sign="none.pem,none.key")
    assert RecordingSigner.asked(options, [FakeSink()]) is None
    source, sink = FakeSource(), RecordSink(parse_address(str(tmp_path / "a.mp4")), options, metadata=TAGS)
    with pytest.raises(UsageError, match="give a certificate and its private key"):
        run_live(Endpoints(source, [sink]), options)
    assert source.health.state == "opening" and not list(tmp_path.iterdir())
    ends = parse_address("camera:0"), parse_address("vcam:")
    with pytest.raises(UsageError, match="--sign has no effect here"):
        check_scope(["sign"], options, live_scope(*ends, options))
    recorded = replace(options, also=tmp_path / "a.mp4")
    check_scope(["sign"], recorded, live_scope(*ends, recorded))
