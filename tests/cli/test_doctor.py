"""``rtface doctor`` and ``rtface engines``: each fault is found, with the line that repairs it and exit code 1."""

from __future__ import annotations

import json
from importlib import metadata

from typer.testing import CliRunner

from rtface.cli import doctor_checks
from rtface.cli.app import app
from rtface.engine.cuda import driver
from rtface.engine.listing import EngineInfo
from rtface.errors import MissingComponent
from rtface.tracking import models
from rtface.util.install import extra_line


def findings(look):
    return {finding.name: finding for finding in look()}


def test_json_lists_every_finding_and_the_exit_code_follows(monkeypatch):
    good = doctor_checks.Finding("python", "ok", "3.11")
    bad = doctor_checks.Finding("cv2", "fault", "cannot be imported", "pip install it")
    for found, code in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(doctor_checks, "examine", lambda found=found: found)
        result = CliRunner().invoke(app, ["doctor", "--json"])
        assert result.exit_code == code
        answer = json.loads(result.stdout)
        assert answer["ok"] is (code == 0)
        assert answer["findings"] == [finding.to_dict() for finding in found]
    few = doctor_checks.Finding("vcam", "ok", "cannot be used here", "make one")
    monkeypatch.setattr(doctor_checks, "examine", lambda: [good, bad, few])
    result = CliRunner().invoke(app, ["doctor"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok", "fault", "->", "-", "->"]
    assert "-> pip install it" in result.stdout
    assert "1 fault found" in result.stderr


def test_this_installation_has_what_a_run_needs():
    states = {finding.name: finding.state for finding in doctor_checks.examine()}
    for name in ("python", "numpy", "av", "openvino", "openvino CPU", "cache"):
        assert states[name] == "ok", name


def test_every_fault_has_a_repair_and_a_broken_check_is_a_fault(monkeypatch):
    def broken():
        raise RuntimeError("no such thing")
        yield

    broken.__name__ = "check_folders"
    monkeypatch.setattr(doctor_checks, "check_folders", broken)
    found = {finding.name: finding for finding in doctor_checks.examine()}
    assert found["folders"].state == "fault"
    assert "no such thing" in found["folders"].detail
    assert all(finding.repair for finding in found.values() if finding.state == "fault")


def test_a_package_that_is_absent(monkeypatch):
    def version(name):
        if name == "av":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    real = metadata.version
    monkeypatch.setattr(doctor_checks.metadata, "version", version)
    found = findings(doctor_checks.check_packages)
    assert (found["av"].state, found["numpy"].state) == ("fault", "ok")
    assert found["av"].repair.startswith("python -m pip install 'av")


def test_a_damaged_model_and_an_unwritable_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SHA256", dict.fromkeys(models.SHA256, "0" * 64))
    models.path.cache_clear()
    assert {finding.state for finding in doctor_checks.check_tracker()} == {"fault"}
    models.path.cache_clear()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path / "file"))
    finding = findings(doctor_checks.check_folders)["cache"]
    assert finding.state == "warn"
    assert "RTFACE_CACHE" in finding.repair


def test_a_bad_configuration_file_is_found(tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "rtface.toml").write_text("strenght = 1\n")
    finding = findings(doctor_checks.check_settings)["configuration"]
    assert finding.state == "fault"
    assert "nearest is strength" in finding.detail


def test_nvidia_driver_and_what_is_missing_beside_it(monkeypatch):
    def absent():
        raise MissingComponent("there is no NVIDIA driver")

    monkeypatch.setattr(driver, "driver", absent)
    finding = findings(doctor_checks.check_nvidia)["nvidia"]
    assert (finding.state, finding.repair) == ("ok", "")
    assert "no NVIDIA driver" in finding.detail
    monkeypatch.setattr(driver, "driver", lambda: driver.Driver("13.1", ("NVIDIA L4",)))
    monkeypatch.setattr(driver, "missing", lambda: ["cuda-core", "onnx"])
    finding = findings(doctor_checks.check_nvidia)["nvidia"]
    assert (finding.state, finding.repair) == ("warn", extra_line("rtx"))
    assert finding.detail == "NVIDIA L4, driver for CUDA 13.1; engines cannot run on CUDA without cuda-core, onnx"
    monkeypatch.setattr(driver, "missing", list)
    assert findings(doctor_checks.check_nvidia)["nvidia"].detail == "NVIDIA L4, driver for CUDA 13.1: --device cuda"


def list_engines(rows):
    return lambda *, measure, device, threads, commercial_use: rows


def test_engines_table_and_json(monkeypatch):
    rows = [
        EngineInfo(
            "rtface-m",
            "1",
            "our own",
            "Apache-2.0",
            "Apache-2.0",
            True,
            "CC0 faces",
            512,
            1_000_000,
            2_000_000,
            None,
            True,
            12.34,
            "cpu",
            "bf16",
        ),
        EngineInfo("other", fault="weights missing"),
    ]
    monkeypatch.setattr("rtface.engine.listing.list_engines", list_engines(rows))
    result = CliRunner().invoke(app, ["engines"])
    assert result.exit_code == 1
    assert "rtface-m (default)" in result.stdout
    assert "12.3 ms" in result.stdout
    assert "2.0 MB" in result.stdout
    assert "engine other: weights missing" in result.stderr
    result = CliRunner().invoke(app, ["engines", "--json"])
    assert [row["name"] for row in json.loads(result.stdout)] == ["rtface-m", "other"]
    monkeypatch.setattr("rtface.engine.listing.list_engines", list_engines(rows[:1]))
    assert CliRunner().invoke(app, ["engines"]).exit_code == 0
