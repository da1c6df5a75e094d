"""docs/extending.md: every example on the page works, registered by the entry points on the page."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtface import Options
from rtface.cli.app import app
from rtface.config.addresses import LiveAddress, is_live, parse_address
from rtface.device.cpu.device import CpuDevice
from rtface.engine.backends.choose import open_engine
from rtface.engine.recipe import find_recipes, load_recipe
from rtface.errors import UsageError
from rtface.frame import Frame
from rtface.live.devices.listing import devices
from rtface.live.endpoint_factory import make_endpoints
from rtface.stages.runner import Stages
from rtface.stats import Stats
from rtface.tracking import create_tracker
from rtface.util import plugins
from tests.pipeline.fakes import face_at, frame_of, portrait

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
KINDS = {
    "stage": "visor",
    "tracker": "middle",
    "backend": "reference",
    "source": "ramp",
    "sink": "brightness",
    "command": "shades",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's module and its distribution, as an installer leaves them."""
    (tmp_path / "mine.py").write_text("\n".join(blocks("python")), encoding="utf-8")
    info = tmp_path / "mine-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 2.1\n")
    groups = re.findall(r'\[project.entry-points."(.+?)"\]\n(\w+) = "(.+?)"', blocks("toml")[0])
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {value}\n" for group, name, value in groups))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_the_page_registers_every_kind_and_imports_none() -> None:
    assert all(plugins.exists(kind, name) for kind, name in KINDS.items())
    assert set(KINDS) | {"engine", "farm"} == set(plugins.GROUPS) and "mine" not in sys.modules
    assert all(f"`{group}`" in PAGE for group in plugins.GROUPS.values())


def test_stage() -> None:
    image, points = portrait()
    stages = Stages.open(["visor"], stats := Stats())
    out = stages.process(frame_of(image, 0, faces=(face_at(points),)))
    stages.close()
    assert out.touched or not np.array_equal(out.image.to_ndarray(), frame_of(image, 0).image.to_ndarray())
    assert not stats.counters["stage_faults"]


def test_tracker() -> None:
    assert Options.of({"tracker": "middle"}).tracker == "middle"
    with pytest.raises(UsageError, match="auto, openvino or none"):
        Options.of({"tracker": "midle"})
    view = CpuDevice(1).view(frame_of(portrait()[0], 0))
    (face,) = create_tracker("middle", max_faces=1).update(view, 0.0)
    assert face.track_id == 1 and face.width == view.height / 2 and face.points.shape == (5, 2)


def test_backend() -> None:
    pytest.importorskip("onnxruntime")
    recipe = load_recipe(find_recipes()["rtface-s"])
    backend, plan, verdict, why = open_engine(recipe, "reference", 4)
    plan.close()
    assert verdict.passed and backend.device == "reference" and why.startswith("one thread of this CPU")


def test_source_and_sink(capsys: pytest.CaptureFixture[str]) -> None:
    source, sink = parse_address("ramp:up"), parse_address("brightness:here")
    assert is_live(source, sink) and (source, sink) == (LiveAddress("ramp", "up"), LiveAddress("brightness", "here"))
    assert "brightness:here" in [device.address for device in devices()[0]]
    ends = make_endpoints(source, sink, Options(), Stats())
    got: list[Frame] = []
    enough = threading.Event()

    def take(frame: Frame) -> None:
        ends.sinks[0].write(frame)
        got.append(frame)
        if len(got) == 3:
            enough.set()

    ends.source.start(take, lambda packet: None)
    assert enough.wait(10)
    ends.close()
    assert [*ends.notes, ends.source.sound_format, ends.source.video_format.width] == [None, 320]
    assert capsys.readouterr().out.split("\n")[:3] == ["brightness of here", "0.0", "1.0"]
    with pytest.raises(UsageError, match="ramp:up is an input"):
        make_endpoints(LiveAddress("camera", "0"), source, Options(), Stats())
    with pytest.raises(UsageError, match="brightness:here is an output"):
        make_endpoints(sink, LiveAddress("null", ""), Options(), Stats())


def test_command() -> None:
    said = CliRunner().invoke(app, ["shades", "--count", "3"])
    assert (said.exit_code, said.stdout) == (0, "0 127 255\n")
    assert CliRunner().invoke(app, ["shades", "--count", "1"]).exit_code == 2


def test_rtface_plugins_lists_them_with_their_distribution(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_that_name\n")
    rows = json.loads(CliRunner().invoke(app, ["plugins", "--json"]).stdout)
    listed = {(row["kind"], row["name"]): row for row in rows}
    assert {kind for kind, _ in listed} >= {"backend", "tracker", "source", "sink"}
    assert listed["backend", "cpu"]["unusable"] is None
    for kind, name in KINDS.items():
        row = listed[kind, name]
        assert (row["distribution"], row["version"]) == ("mine", "2.1")
        assert "ModuleNotFoundError" in row["unusable"]
