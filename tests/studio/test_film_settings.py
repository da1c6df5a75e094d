"""Settings of a film: for all of it, by shot, by person; kept, shown and run alike."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import numpy as np
import pytest

from rtface.analysis.treatment import Treatment
from rtface.config.options import Options
from rtface.errors import UsageError
from rtface.jobs.queue.api import Queue
from rtface.pipeline.film import run_file
from rtface_studio.film_settings import FilmSettings
from rtface_studio.queue import estimate
from tests.studio.conftest import RunningStudio, wait_for
from tests.studio.films import make_film, newest
from tests.studio.test_access import ask, call

pytest.importorskip("skimage")


def picture(studio: RunningStudio, layer: str, settings: dict[str, Any], at: float = 0.5) -> bytes:
    given = quote(json.dumps(settings))
    status, data = ask(studio, "GET", f"{newest(studio)}/frame?time={at}&layer={layer}&settings={given}")
    assert status == 200, data
    return data


@pytest.fixture
def film(studio: RunningStudio) -> Path:
    path = make_film(studio.folder / "film.mp4")
    call(studio, "POST", "/api/films", path=str(path))
    return path


OFF = {"engine": "rtface-s", "shots": [{"start_s": 0.4, "end_s": 0.8, "on": False}]}


def test_a_shot_that_is_off_is_the_input_on_the_page(studio: RunningStudio, film: Path) -> None:
    before = picture(studio, "before", OFF)
    assert picture(studio, "after", OFF) == before
    assert picture(studio, "after", OFF, 0.9) != picture(studio, "before", OFF, 0.9)
    assert picture(studio, "invented", {"engine": "rtface-s"}) not in (before, picture(studio, "after", {}))


@pytest.mark.slow
def test_a_run_does_what_the_page_shows(studio: RunningStudio, film: Path) -> None:
    output = studio.folder / "out.mkv"
    status, value = call(studio, "POST", f"{newest(studio)}/command", output=str(output), settings=OFF)
    assert status == 200 and "--engine rtface-s" in value["command"] and "--shots" in value["command"]
    status, value = call(studio, "POST", f"{newest(studio)}/start", output=str(output), settings=OFF)
    item = Queue().item(value["item"])
    run_file(film, output.with_name("again.mkv"), Options.of({**item.options, "codec": "ffv1"}))

    def frames(path: Path) -> list[np.ndarray]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]

    same = [np.array_equal(a, b) for a, b in zip(frames(film), frames(output.with_name("again.mkv")), strict=True)]
    assert all(same[4:8]) and not all(same)
    wait_for(lambda: Queue().item(item.id).state in ("done", "failed"), 30)


def test_what_is_not_set_is_as_the_settings_file_has_it(studio: RunningStudio, film: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "rtface.toml").write_text('strength = 0\nengine = "rtface-s"\n')
    assert ask(studio, "GET", "/api/choices")[1]["defaults"]["strength"] == 0
    assert picture(studio, "after", {}) == picture(studio, "before", {})
    assert picture(studio, "after", {"strength": 1}) != picture(studio, "before", {})
    assert FilmSettings.of({}).for_run(tmp_path, film).engine == "rtface-s"


def test_what_is_waiting_keeps_its_settings(tmp_path: Path) -> None:
    first, second = (
        FilmSettings.of(
            {"shots": [{"start_s": 0, "end_s": 1, "strength": share}], "persons": {"P1": {"strength": share}}}
        )
        for share in (0.2, 0.9)
    )
    waiting = first.for_run(tmp_path, tmp_path / "film.mp4")
    assert waiting.shots and waiting.treatment
    written = [Path(waiting.shots).read_bytes(), Path(waiting.treatment).read_bytes()]
    second.for_run(tmp_path, tmp_path / "film.mp4")
    assert [Path(waiting.shots).read_bytes(), Path(waiting.treatment).read_bytes()] == written
    assert first.for_run(tmp_path, tmp_path / "film.mp4") == waiting


def test_settings_outlast_the_server_and_a_new_name(start_studio: Callable[[], RunningStudio]) -> None:
    first = start_studio()
    path = make_film(first.folder / "film.mp4")
    call(first, "POST", "/api/films", path=str(path))
    settings = OFF | {"persons": {"P2": {"on": False}}}
    assert call(first, "PUT", f"{newest(first)}/settings", **settings)[1] == settings
    first.close()
    path.rename(path.with_name("other.mp4"))
    second = start_studio()
    call(second, "POST", "/api/films", path=str(path.with_name("other.mp4")))
    assert ask(second, "GET", f"{newest(second)}/settings")[1] == settings


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"shots": 3},
        {"persons": []},
        {"codec": "ffv1"},
        {"shots": [{"start_s": 1}]},
        {"shots": [{"start_s": 2, "end_s": 1}]},
        {"shots": [{"start_s": 1, "end_s": math.inf}]},
        {"shots": [{"start_s": 10**400, "end_s": 10**401}]},
        {"shots": [{"start_s": 0, "end_s": 1, "on": 1}]},
        {"shots": [{"start_s": 0, "end_s": 1, "faces": "all"}]},
        {"shots": [{"start_s": 0, "end_s": 2}, {"start_s": 1, "end_s": 3}]},
        {"persons": {"anna": {"on": True}}},
        {"persons": {"P1": {"grain": "none"}}},
        {"persons": {"P1": {"strength": 2}}},
        {"persons": {"P1": {"name": "P2"}}},
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused(values: Any) -> None:
    with pytest.raises(UsageError):
        FilmSettings.of(values)


def test_persons_decide_where_they_are_alone() -> None:
    settings = FilmSettings.of(
        {
            "strength": 0.5,
            "shots": [{"start_s": 2, "end_s": 3, "strength": 0.8}],
            "persons": {"P1": {"strength": 0.5}, "P2": {"on": False}, "P3": {"strength": 0.75}},
        }
    )
    assert (settings.at(0, ["P1"]).strength, settings.at(0, ["P1"]).correct) == (0.25, "always")
    assert settings.at(0, ["P2"]).correct == "never"
    assert settings.at(2, ["P3"]) == Options(strength=0.8 * 0.75, correct="always")
    assert settings.treatment_of("P3") == Treatment(True, 0.75, reasons=("set for this person",))
    assert settings.at(0, ["P1", "P2"]) == settings.at(0) == Options(strength=0.5)


def test_who_is_named_by_hand_gets_the_weights_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "rtface.toml").write_text('person = ["anna=anna.png", "ben"]\n')
    settings = FilmSettings.of({"persons": {"P2": {"name": "anna"}, "P3": {"name": "anna", "strength": 0.5}}})
    assert settings.at(0).person == ("ben", "anna@P2,P3")
    assert (settings.at(0, ["P2"]).correct, settings.treatment_of("P2")) == ("auto", None)
    made = settings.for_run(tmp_path, tmp_path / "film.mp4")
    assert made.person == ("ben", "anna@P2,P3") and made.treatment is not None
    assert json.loads(made.treatment.read_text())["persons"] == {"anna": {"strength": 0.5}}


def test_previews_are_said_to_show_no_curve(tmp_path: Path) -> None:
    given = make_film(tmp_path / "in.mkv")
    said = {
        colour: {one["code"] for one in estimate(given, tmp_path / "out.mkv", Options(colour=colour))["messages"]}
        for colour in ("lock", "restore")
    }
    assert said["restore"] - said["lock"] == {"fading_preview"}
