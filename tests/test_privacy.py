"""Nothing leaves the machine, by what rtface imports either, and outputs have no names of persons."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rtface.analysis.track_report import TrackReport
from rtface.config.options import Options
from rtface.engine.learned import path_of
from rtface.report import Report, metadata_options
from rtface.trust.credentials_writing import manifest
from rtface.trust.sidecar import OutputDetails, option_fields
from tests.persons.made import ANNA, learnt

SCRIPT = """
import socket, sys, urllib.request
tried = []
def refuse(*args, **kwargs):
    tried.append(args)
    raise OSError("no network in this test")
urllib.request.urlopen = refuse
socket.socket.connect = lambda self, where: refuse(where) if self.family != socket.AF_UNIX else None
{imports}
import threading, time
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(2)
print(len(tried), "openvino_telemetry" in sys.modules and sys.modules["openvino_telemetry"] is not None)
"""


def run(imports: str, home: Path) -> str:
    environment = os.environ | {"HOME": str(home), "USERPROFILE": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(imports=imports)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2]


def test_openvino_sends_nothing_and_writes_no_home_file(tmp_path):
    assert (
        run(
            "import rtface.engine.backends.openvino, rtface.tracking.network, rtface.cli.doctor_checks\n"
            "rtface.cli.doctor_checks.examine()",
            tmp_path,
        )
        == "0 False"
    )
    assert not (tmp_path / "intel").exists()


def test_onnx_runtime_sends_nothing_and_keeps_no_device_id(tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is an extra")
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    script = (
        "import rtface; from rtface.engine.backends import onnx_runtime\n"
        "from rtface.engine.recipe import find_recipes\n"
        "onnx_runtime.runtime().InferenceSession(str(find_recipes()['rtface-s'].with_name('model.onnx')),"
        " providers=['CPUExecutionProvider'])"
    )
    subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, timeout=120, cwd=Path(__file__).parents[1]
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_goes_with_an_output_names_no_person(tmp_path):
    photo = tmp_path / "anna.jpg"
    stages = ("tag:name=P1=Anna;anna=Anna", f"picture:at=eyes,file={photo},size=2", "label:text=on/off")
    options = Options(person=(f"anna={photo}",), faces="1,P2,anna", stages=stages)
    track = TrackReport(1, 0.0, 1.0, 25, 90.0, {}, {}, 0.5, person="anna")
    report = Report("in.mkv", "out.mp4", "1", "rtface-s", "cpu", tracks=[track, replace(track, id=2, person="P2")])
    signed = manifest("in.mkv", options, report, OutputDetails())
    assert metadata_options(options)["faces"] == "1,p2,named"
    assert signed["assertions"][1]["data"]["options"] == {"faces": "1,p2,named", "stages": ["tag", "picture", "label"]}
    assert not re.search(rf"anna|{re.escape(str(tmp_path))}", json.dumps([signed, metadata_options(options)]), re.I)


def test_a_sidecar_names_persons_but_no_folder(tmp_path):
    photo = tmp_path / "anna.jpg"
    options = Options(
        person=(f"anna={photo},{photo}",),
        faces="anna",
        treatment=photo,
        stages=(f"picture:at=eyes,file={photo},size=2", "label:text=on/off"),
    )
    assert option_fields(options) == {
        "faces": "anna",
        "person": ["anna"],
        "treatment": "anna.jpg",
        "stages": ["picture:at=eyes,file=anna.jpg,size=2", "label:text=on/off"],
    }


def test_signed_outputs_do_not_name_who_was_learnt(tmp_path, monkeypatch):
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    learnt(path_of("anna"), ANNA)
    track = TrackReport(1, 0.0, 1.0, 25, 90.0, {}, {"engine": "rtface-s@anna"}, 0.5, person="anna")
    report = Report("in.mkv", "out.mp4", "1", "rtface-s@anna+rtface-s", "cpu", tracks=[track])
    signed = manifest("in.mkv", Options(person=("anna",)), report, OutputDetails())
    said = signed["assertions"][1]["data"]
    # Nor are there hashes by which films of one person could be told.
    assert said["engines"]["rtface-s@named"].keys() == {"version", "weights_sha256"}
    tags = metadata_options(Options(person=("anna",)))
    assert tags["person"] == "learnt" and "person" not in metadata_options(Options(person=("anna=a.jpg",)))
    assert "anna" not in json.dumps([signed, tags]).lower()
