"""The page for a call, and the work of the studio that waits meanwhile."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rtface_studio.commands import halt_films
from tests.studio.conftest import RunningStudio, check_accessible, expect, wait_for
from tests.studio.films import make_film
from tests.studio.test_access import ask, call
from tests.studio.test_live import RUN, STATUS, MadeRun, film, made_runs, until

__all__ = ["film", "made_runs"]
pytest.importorskip("skimage")
VIRTUAL = {"kind": "virtual camera", "address": "vcam:rtface", "name": "rtface"}
SINK = {"name": "vcam:", "detail": "rtface (/dev/video10)", "state": "live", "frames": 7}
LIVE = {**STATUS["source"], "state": "live"}


def run_of(wanted: bool | None = None, **status: Any) -> dict[str, Any]:
    """A made call, as the server tells it."""
    sinks = [{**SINK, "message": LIVE["message"], "wanted": wanted}]
    now = {**STATUS, "always": False, "faces": 1, "ladder": "", "source": LIVE, "sinks": sinks, **status}
    return {**RUN, "source": "camera:0", "output": "vcam:", "status": now}


def with_devices(page: Any, *found: dict[str, str], camera: str = "camera:0") -> None:
    cameras = [{"kind": "camera", "address": camera, "name": "Cam"}] if camera else []
    page.route("**/api/live/devices", lambda route: route.fulfill(json={"devices": [*cameras, *found], "overlays": []}))


def open_call(page: Any, studio: RunningStudio, **status: Any) -> None:
    """Opens the page of a made call; `tell` changes its state."""
    with_devices(page, VIRTUAL)
    page.route("**/api/live", lambda route: route.fulfill(json=run_of(**status)))
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_role("heading", name="In your call").wait_for()


def tell(studio: RunningStudio, *wanted: bool | None, **status: Any) -> None:
    studio.studio.events.publish("live", run_of(*wanted, **status))


@pytest.mark.slow
def test_a_call_begins_at_once_and_is_remembered(page: Any, studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=90, rate=2)  # stands in for the camera
    with_devices(page, camera=str(film))
    page.route("**/api/health", lambda route: route.fulfill(json={"findings": []}))
    page.keyboard.press("2")
    page.locator(".wipe[data-pairs]").wait_for(timeout=30_000)
    page.get_by_role("navigation").get_by_text("on", exact=True).wait_for()
    assert until(studio, "running")["output"] == "null:", "there is no virtual camera"
    power = page.get_by_role("switch", name="Enhance faces")
    page.locator("h1").click()
    page.keyboard.press(" ")
    expect(power).to_have_attribute("aria-checked", "false")
    assert not until(studio, "running")["status"]["enabled"]
    power.click()
    expect(power).to_have_attribute("aria-checked", "true")
    strength = page.get_by_role("slider", name="Strength")
    strength.press("ArrowLeft")
    presets = lambda: ask(studio, "GET", "/api/live/presets")[1]["presets"]  # noqa: E731
    wait_for(lambda: presets().get("last call", {}).get("settings", {}).get("strength") == 0.95)
    seconds = until(studio, "running")["status"]["seconds"]
    page.get_by_text("Vivid", exact=True).click()
    wait_for(lambda: presets()["last call"]["settings"].get("look") == "vivid", 60)
    status = until(studio, "running")["status"]
    assert (status["strength"], status["look"]) == (0.95, "vivid") and status["seconds"] >= seconds, "no restart"
    expect(page.get_by_role("radio", name="Vivid")).to_be_checked()
    check_accessible(page)
    page.get_by_role("button", name="Turn the camera off").click()
    page.get_by_role("heading", name="The camera is off").wait_for()
    page.reload()
    with page.expect_request("**/api/live/start") as asked:
        page.get_by_role("button", name="Turn the camera on").click()
    assert asked.value.post_data_json["settings"] == {"strength": 0.95, "light": 0, "look": "vivid"}
    page.locator(".wipe[data-pairs]").wait_for(timeout=30_000)
    call(studio, "POST", "/api/live/stop")


def test_a_call_says_whether_a_program_reads_it(page: Any, studio: RunningStudio) -> None:
    open_call(page, studio, wanted=False)
    page.get_by_text("choose the camera rtface").wait_for()
    page.get_by_text("No program reads it yet").wait_for()
    tell(studio, True)
    page.get_by_text("✓ A program reads it").wait_for()
    page.get_by_text("Others see the picture on this page.").wait_for()
    made = {**SINK, "message": LIVE["message"], "wanted": True, "detail": "rtface (PipeWire)"}
    tell(studio, sinks=[made])
    page.get_by_text("in a browser or OBS, choose the camera rtface").wait_for()
    assert not page.get_by_text("Zoom, Meet").count()
    tell(studio, None)
    page.get_by_text("does not report readers").wait_for()
    tell(studio, False, paused="no viewers")
    page.get_by_text("At rest: nobody looks").wait_for()
    check_accessible(page)


def test_a_call_shows_its_quality_and_figures_on_request(page: Any, studio: RunningStudio) -> None:
    open_call(page, studio, wanted=True)
    shown = page.locator("summary .badge[aria-hidden=false]")
    for ladder, quality in (("", "best"), ("full, key/2", "better"), ("small key/4, key/2", "good")):
        tell(studio, True, ladder=ladder)
        expect(shown).to_have_text(quality)
    tell(studio, True, ladder="", enabled=False)
    expect(shown).to_have_count(0)
    assert page.get_by_text("Frames per second").is_hidden()
    page.get_by_text("Quality", exact=True).click()
    page.get_by_text("Frames per second").wait_for()


def test_a_call_fits_a_phone_in_german(page: Any, studio: RunningStudio) -> None:
    open_call(page, studio, wanted=False)
    page.evaluate("localStorage.setItem('language', 'de'); localStorage.setItem('theme', 'dark')")
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.get_by_text("Noch liest sie kein Programm").wait_for()
    page.get_by_text("Qualität", exact=True).click()
    page.get_by_text("Bilder je Sekunde").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('.nav').scrollWidth") <= 390
    check_accessible(page)


def test_a_call_rests_when_nobody_reads_or_looks(page: Any, studio: RunningStudio) -> None:
    page.clock.install()
    asked: list[str] = []
    page.route("**/api/live/preview", lambda route: (asked.append(route.request.url), route.fulfill(status=204)))
    open_call(page, studio, wanted=False)
    wait_for(lambda: asked)
    page.clock.run_for(61_000)
    tell(studio, False, seconds=61)
    page.get_by_text("At rest: nobody looks").wait_for()
    before = len(asked)
    page.clock.run_for(5000)
    page.evaluate("fetch('/api/about')")
    assert len(asked) == before
    page.mouse.move(200, 200)
    tell(studio, False, seconds=66)
    page.get_by_text("At rest: nobody looks").wait_for(state="hidden")
    with page.expect_request("**/api/live/preview"):
        page.clock.run_for(1000)


def test_what_a_call_lacks_is_said_in_a_line(page: Any, studio: RunningStudio) -> None:
    with_devices(page, camera="")
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_role("heading", name="No camera was found.").wait_for()
    check_accessible(page)
    line = "sudo modprobe v4l2loopback devices=1 card_label=rtface"
    repair = {"code": "", "values": {}, "message": line}
    finding = {"name": "vcam", "state": "ok", "repair": line, "command": line, "messages": {"repair": repair}}
    page.route("**/api/health", lambda route: route.fulfill(json={"findings": [finding]}))
    page.route("**/api/live/start", lambda route: route.fulfill(json={**run_of(sinks=[]), "output": "null:"}))
    with_devices(page)
    page.get_by_role("button", name="Look again").click()
    page.get_by_text(line, exact=True).wait_for()
    asked: list[Any] = []
    page.route(
        "**/api/live/start", lambda route: (asked.append(route.request.post_data_json), route.fulfill(json=run_of()))
    )
    page.route("**/api/live/stop", lambda route: route.fulfill(json={**RUN, "state": "ended"}))
    with_devices(page, VIRTUAL)
    page.get_by_role("button", name="Look again").click()
    page.get_by_text("choose the camera rtface").wait_for()
    settings = {"look": "clear", "light": 0, "strength": 0.5}
    assert asked == [{"source": "camera:0", "output": "vcam:", "settings": settings}]


def test_a_camera_is_tested_while_no_run_holds_it(page: Any, studio: RunningStudio) -> None:
    film = make_film(studio.folder / "camera.mp4", seconds=3, rate=10)  # stands in for the camera
    page.route("**/api/live", lambda route: route.fulfill(json={**RUN, "state": "ended"}))
    with_devices(page, camera=str(film))
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_role("button", name="Test the camera").click()
    page.get_by_text("Look into the camera").wait_for()
    page.get_by_text("--look vivid", exact=True).wait_for(timeout=120_000)
    page.get_by_text("Brightness of your face").wait_for()
    assert page.locator("dialog img").evaluate("image => image.naturalWidth") == 2000
    check_accessible(page)
    page.get_by_role("button", name="Close").click()
    call(studio, "POST", "/api/live/start", source=str(film), output="null:", settings={"loop": True})
    page.get_by_role("button", name="Test the camera").click()
    page.locator(".toast", has_text="turn it off before the test").wait_for()
    call(studio, "POST", "/api/live/stop")


def test_a_call_leaves_another_run_until_asked(page: Any, studio: RunningStudio) -> None:
    asked: list[str] = []
    with_devices(page, VIRTUAL)
    page.route("**/api/live", lambda route: route.fulfill(json={**RUN, "output": "rtmp://host/app/…"}))
    page.route("**/api/live/st*", lambda route: (asked.append(route.request.url), route.fulfill(json=run_of(True))))
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_text("Another live run is on: film.mp4 → rtmp://host/app/…").wait_for()
    assert not asked
    page.get_by_role("button", name="End it and turn the camera on").click()
    page.get_by_text("✓ A program reads it").wait_for()
    assert [url.rpartition("/")[2] for url in asked] == ["stop", "start"]


def test_a_film_that_stood_in_for_a_camera_is_off(page: Any, studio: RunningStudio) -> None:
    ended = {**RUN, "output": "vcam:", "state": "ended"}
    with_devices(page, camera="")
    page.route("**/api/live", lambda route: route.fulfill(json=ended))
    page.route("**/api/live/start", lambda route: route.fulfill(json=run_of(True)))
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_role("heading", name="The camera is off").wait_for()
    with page.expect_request("**/api/live/start") as asked:
        page.get_by_role("button", name="Turn the camera on").click()
    assert asked.value.post_data_json["source"] == RUN["source"]


def test_what_a_call_refuses_is_said(page: Any, studio: RunningStudio) -> None:
    with_devices(page, VIRTUAL)
    failed = {**RUN, "state": "failed", "error": {"code": "", "values": {}, "message": "camera:0 is in use by zoom"}}
    page.route("**/api/live/start", lambda route: route.fulfill(json={**RUN, "state": "starting", "status": None}))
    page.route("**/api/live/start", lambda route: route.fulfill(json=failed))
    page.get_by_role("link", name="Call", exact=True).click()
    page.get_by_text("camera:0 is in use by zoom").wait_for()
    page.get_by_role("button", name="Turn the camera on").wait_for()


def test_work_of_the_studio_waits_for_a_call(
    page: Any, studio: RunningStudio, film: Path, made_runs: type[MadeRun]
) -> None:
    made_runs.gate.set()
    number = call(studio, "POST", "/api/films", path=str(film))[1]["id"]
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    wait_for(studio.studio.watched.is_set)
    assert call(studio, "POST", f"/api/films/{number}/analysis")[1]["state"] == "waiting"
    page.get_by_role("link", name="Films").click()
    page.goto(page.url.partition("#")[0] + f"#/films/{number}")
    page.get_by_text("Films wait while somebody watches the live run.").wait_for()
    page.get_by_text("or for the end of a call").wait_for()
    assert ask(studio, "GET", f"/api/films/{number}/frame?layer=before")[0] == 200
    assert ask(studio, "GET", f"/api/films/{number}/analysis")[1]["state"] == "waiting"
    call(studio, "POST", "/api/live/stop")
    wait_for(lambda: not studio.studio.watched.is_set())
    wait_for(lambda: ask(studio, "GET", f"/api/films/{number}/analysis")[1]["state"] != "waiting")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_analysis_that_runs_is_halted(studio: RunningStudio, tmp_path: Path) -> None:
    film = make_film(studio.folder / "long.mp4", seconds=60)
    number = call(studio, "POST", "/api/films", path=str(film))[1]["id"]
    call(studio, "POST", f"/api/films/{number}/analysis")
    task = f"/api/films/{number}/analysis"
    wait_for(lambda: ask(studio, "GET", task)[1].get("share"), 60)
    halt_films(True)
    time.sleep(0.5)
    before = ask(studio, "GET", task)[1]
    time.sleep(1.5)
    assert ask(studio, "GET", task)[1] == before and before["state"] == "running"
    halt_films(False)
    wait_for(lambda: ask(studio, "GET", task)[1] != before, 30)
    call(studio, "POST", task, action="stop")
