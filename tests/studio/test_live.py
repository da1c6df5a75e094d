"""Live runs over HTTP and in a real browser: the run is a separate process."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rtface.config.addresses import parse_address
from rtface.engine import learned
from rtface.errors import Message, RtfaceError, UsageError
from rtface_studio import live_run
from rtface_studio.catalogue import catalogue
from tests.persons.made import ANNA, BEN, learnt
from tests.studio.conftest import RunningStudio, check_accessible, expect, wait_for
from tests.studio.films import make_film
from tests.studio.test_access import ask, call
from tests.studio.test_stills import make_photo
from tests.util.mutations import mutated

pytest.importorskip("skimage")


def until(studio: RunningStudio, state: str) -> dict[str, Any]:
    """The live run, once it is in this state."""
    look = lambda: ask(studio, "GET", "/api/live")[1]  # noqa: E731
    return wait_for(lambda: run if (run := look())["state"] == state else None, 20)


@pytest.fixture
def film(studio: RunningStudio) -> Path:
    return make_film(studio.folder / "film.mp4", seconds=90, rate=2)  # longer than a test takes on a busy machine


class MadeRun:
    """A live run without a process, which ends when `gate` is opened."""

    made: ClassVar[list[MadeRun]] = []
    gate: ClassVar[threading.Event] = threading.Event()

    def __init__(self, plan: live_run.LivePlan) -> None:
        self.plan, self.alive, self.stops, self.ended = plan, True, 0, threading.Event()
        self.made.append(self)

    def state(self) -> dict[str, Any]:
        return {
            "state": "running" if self.alive else "ended",
            "strength": self.plan.options.get("strength"),
            "status": {"watched": True},
        }

    def ends(self, seconds: float) -> bool:
        return self.ended.wait(0.01)

    def stop(self) -> None:
        self.stops += 1
        self.gate.wait(10)
        self.alive = False
        self.ended.set()


@pytest.fixture
def made_runs(monkeypatch: pytest.MonkeyPatch) -> type[MadeRun]:
    monkeypatch.setattr(MadeRun, "made", [])
    monkeypatch.setattr(MadeRun, "gate", threading.Event())
    monkeypatch.setattr("rtface_studio.live.LiveRun", MadeRun)
    return MadeRun


def test_stop_during_a_restart_ends_the_run(studio: RunningStudio, film: Path, made_runs: type[MadeRun]) -> None:
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    with ThreadPoolExecutor() as pages:
        restarts = [pages.submit(call, studio, "POST", "/api/live/restart", settings={})]
        wait_for(lambda: made_runs.made[0].stops == 1)
        stop = pages.submit(call, studio, "POST", "/api/live/stop")
        wait_for(lambda: made_runs.made[0].stops == 2)
        made_runs.gate.set()
        assert stop.result()[1]["state"] == restarts[0].result()[1]["state"] == "ended"
    assert len(made_runs.made) == 1


def test_the_queue_waits_for_a_run_with_a_viewer(studio: RunningStudio, film: Path, made_runs: type[MadeRun]) -> None:
    made_runs.gate.set()
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    waits = lambda: ask(studio, "GET", "/api/queue")[1]["waits"]  # noqa: E731
    wait_for(waits)
    assert call(studio, "POST", "/api/live/films_wait", value=False)[1]["films_wait"] is False
    wait_for(lambda: not waits())
    call(studio, "POST", "/api/live/films_wait", value=True)
    wait_for(waits)
    call(studio, "POST", "/api/live/stop")
    wait_for(lambda: not waits())


def test_a_restart_keeps_always_and_records_anew(studio: RunningStudio, film: Path, made_runs: type[MadeRun]) -> None:
    made_runs.gate.set()
    (recording := studio.folder / "rec.mkv").touch()
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    asked = {"also": str(recording), "correct": "always"}
    assert call(studio, "POST", "/api/live/restart", settings=asked)[0] == 200
    options = made_runs.made[1].plan.options
    assert (options["also"], options["correct"]) == (str(studio.folder / "rec-2.mkv"), "always")
    call(studio, "POST", "/api/live/stop")


def test_two_restarts_leave_one_run(studio: RunningStudio, film: Path, made_runs: type[MadeRun]) -> None:
    made_runs.gate.set()
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    with ThreadPoolExecutor() as pages:
        asked = [
            pages.submit(call, studio, "POST", "/api/live/restart", settings={"strength": share})
            for share in (0.2, 0.4)
        ]
        assert [one.result()[0] for one in asked] == [200, 200]
    assert [run.alive for run in made_runs.made] == [False, False, True]
    call(studio, "POST", "/api/live/stop")
    assert not any(run.alive for run in made_runs.made)


@pytest.mark.slow
def test_a_run_is_started_changed_and_stopped(studio: RunningStudio, film: Path) -> None:
    recording = studio.folder / "recording.mkv"
    start = {"source": str(film), "output": "null:", "settings": {"strength": 0.5, "also": str(recording)}}
    assert call(studio, "POST", "/api/live/set", name="strength", value=1)[0] == 404
    assert call(studio, "POST", "/api/live/start", **start)[0] == 200
    status = until(studio, "running")["status"]
    assert status["strength"] == 0.5 and status["enabled"] and status["sinks"][1]["name"] == str(recording)
    assert call(studio, "POST", "/api/live/start", **start)[0] == 400, "two runs"
    wait_for(lambda: ask(studio, "GET", "/api/live")[1]["status"]["sinks"][1]["frames"] >= 2, 60)
    assert call(studio, "POST", "/api/live/set", name="enabled", value=False)[1]["enabled"] is False
    for name, value in (
        ("strength", 2),
        ("strength", 10**400),
        ("enabled", 2),
        ("look", "crisp"),
        ("quit", True),
        ([], 1),
    ):
        assert call(studio, "POST", "/api/live/set", name=name, value=value)[0] == 400, (name, value)
    for path, body in (("overlays", {"stages": ["blur"]}), ("set", {"name": "look", "value": "vivid"})):
        status, refusal = call(studio, "POST", f"/api/live/{path}", **body)
        assert (status, refusal["kind"]) == (400, "RestartNeeded"), refusal
    assert call(studio, "POST", "/api/live/restart", settings={"light": 0.25})[0] == 200
    assert until(studio, "running")["status"]["light"] == 0.25
    assert call(studio, "POST", "/api/live/stop")[1]["state"] == "ended"
    assert recording.stat().st_size > 1000


@pytest.mark.slow
def test_persons_in_view_over_http(studio: RunningStudio, film: Path) -> None:
    assert call(studio, "POST", "/api/live/persons")[0] == 404
    assert call(studio, "POST", "/api/live/start", source=str(film), output="null:", settings={})[0] == 200
    assert until(studio, "running")["status"]["persons"] is None
    assert call(studio, "POST", "/api/live/persons")[0] == 200
    persons = wait_for(lambda: until(studio, "running")["status"]["persons"], 60)
    assert persons == [{"name": "P1", "in_view": True, "strength": 1.0}]
    assert call(studio, "POST", "/api/live/person", name="P1", strength=0)[1]["persons"][0]["strength"] == 0
    assert until(studio, "running")["status"]["persons"][0]["strength"] == 0
    for body in ({"name": "P1"}, {"name": "P1", "strength": 2}, {"name": "all", "strength": 1}, {"strength": 1}):
        assert call(studio, "POST", "/api/live/person", **body)[0] == 400, body
    status, picture = ask(studio, "GET", "/api/live/face?name=P1")
    assert status == 200 and picture.startswith(b"\xff\xd8")
    assert ask(studio, "GET", "/api/live/face?name=P7")[0] == 404
    call(studio, "POST", "/api/live/stop")


def test_a_run_that_still_starts_is_not_called_silent(
    studio: RunningStudio, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = live_run.subprocess.Popen
    monkeypatch.setattr(live_run.subprocess, "Popen", lambda *a, **k: popen(["cat"], *a[1:], **k))
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    refused, answer = call(studio, "POST", "/api/live/set", name="strength", value=0.5)
    assert refused == 400 and "still starting" in answer["error"]
    call(studio, "POST", "/api/live/stop")


def test_what_a_killed_run_said_before_is_no_error(
    studio: RunningStudio, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, line = live_run.subprocess.Popen, "echo 'rtface: film.mp4 → null:' >&2; kill -9 $$"
    monkeypatch.setattr(live_run.subprocess, "Popen", lambda *a, **k: popen(["sh", "-c", line], *a[1:], **k))
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    assert until(studio, "failed")["error"]["code"] == "run_died"


def test_a_run_that_has_to_be_killed_is_said(
    studio: RunningStudio, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, begun = live_run.subprocess.Popen, studio.folder / "begun"
    line = f"trap '' TERM; touch {begun}; while :; do sleep 0.1; done"
    monkeypatch.setattr(live_run.subprocess, "Popen", lambda *a, **k: popen(["sh", "-c", line], *a[1:], **k))
    monkeypatch.setattr(live_run, "TERMINATE_S", 0.2)
    call(studio, "POST", "/api/live/start", source=str(film), output="null:")
    wait_for(begun.exists)
    stopped = call(studio, "POST", "/api/live/stop")[1]
    assert (stopped["state"], stopped["error"]["code"]) == ("failed", "run_killed")


@pytest.mark.slow
def test_a_run_ends_when_the_studio_is_killed(film: Path) -> None:
    code = """if True:
        import sys, time
        from rtface.config.addresses import LiveAddress
        from rtface_studio.live_run import LivePlan, LiveRun
        run = LiveRun(LivePlan(LiveAddress("file", sys.argv[1]), LiveAddress("null", ""), {}))
        deadline = time.monotonic() + 60
        while run.port is None and time.monotonic() < deadline:
            time.sleep(0.05)
        print(run.port, flush=True)
        time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", code, str(film)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        socket.create_connection(("127.0.0.1", port), 2.0).close()
        parent.kill()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 2.0).close()
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError("the run still answers")


def test_what_is_not_allowed_starts_nothing(studio: RunningStudio) -> None:
    for body in (
        {"source": "/etc/passwd"},
        {"source": "@/etc/passwd"},
        {"source": "env:HOME"},
        {"source": "concat://x"},
        {"source": "file:///etc/passwd"},
        {"source": "--help"},
        {"source": None},
        {"source": "null:"},
        {"output": "/etc/x.mkv"},
        {"output": "camera:0"},
        {"settings": {"also": "/etc/x.mkv"}},
        {"settings": []},
        {"settings": {"strength": 7}},
        {"settings": {"control": 1}},
        {"settings": {"stages": ["os.path"]}},
        {"settings": {"stages": ["picture:file=/etc/passwd"]}},
        {"settings": {"stages": 3}},
        {"settings": {"person": ["anna=/etc/passwd"]}},
        {"settings": {"person": "anna"}},
        {"settings": {"person": [1]}},
        {"settings": {"faces": "anna"}},
    ):
        status, value = call(studio, "POST", "/api/live/start", **{"source": "camera:0", "output": "null:"} | body)
        assert status == 400 and value["error"], body
    assert ask(studio, "GET", "/api/live")[1]["state"] == "none"


def test_addresses_are_not_in_the_command_line(studio: RunningStudio) -> None:
    plan = live_run.plan_live_run(studio.studio.folders, "rtmp://u:secret@host/app/key", "null:", {})
    command, given = plan.command()
    assert "secret" not in " ".join(command) and "key" not in " ".join(command) and "secret" in str(given)
    assert "secret" not in str(plan.source)


def test_photos_of_persons_are_those_of_the_folders(studio: RunningStudio) -> None:
    photo = studio.folder / "anna.png"
    photo.touch()
    settings = {"person": [f"anna={photo}", "ben"], "faces": "anna", "region": "head", "look": 0}
    command, _ = live_run.plan_live_run(studio.studio.folders, "camera:0", "null:", settings).command()
    assert [word for word in command if "anna" in word] == [f"--person=anna={photo}", "--faces=anna"]
    assert {"--person=ben", "--region=head", "--look=0"} <= set(command)


def test_a_virtual_camera_by_its_path_stays_an_output(studio: RunningStudio) -> None:
    plan = live_run.plan_live_run(studio.studio.folders, "/dev/video0", "vcam:/dev/video10", {})
    ends = [parse_address(end) for end in plan.command()[0][-2:]]
    assert ends == [plan.source, plan.output]


@pytest.mark.slow
def test_changed_presets_are_shown_or_left_out(start_studio: Callable[[], RunningStudio]) -> None:
    """Whatever somebody else wrote, no request ends as a fault."""
    studio = start_studio()
    preset = {"source": "camera:0", "output": "null:", "settings": {"strength": "1"}}
    assert call(studio, "PUT", "/api/live/presets/call", **preset)[0] == 200
    (file,) = (studio.folder.parent / "data").glob("live-presets.json")
    for data in mutated(json.loads(file.read_bytes()), 150):
        file.write_bytes(data)
        assert ask(studio, "GET", "/api/live/presets")[0] < 500, data[:200]


def test_presets_outlast_the_server(start_studio: Callable[[], RunningStudio]) -> None:
    preset = {"source": "camera:0", "output": "vcam:", "settings": {"strength": 0.5}}
    first = start_studio()
    assert call(first, "PUT", "/api/live/presets/call", **preset)[0] == 200
    for address in ("rtmp://live.example/app/key", "\n rtmp://live.example/app/key", "srt://host:9?passphrase=x"):
        status, value = call(first, "PUT", "/api/live/presets/stream", **preset | {"output": address})
        assert status == 400 and "key or password" in value["error"]
    first.close()
    second = start_studio()
    assert ask(second, "GET", "/api/live/presets")[1] == {"presets": {"call": preset}}
    (file,) = (second.folder.parent / "data").glob("live-presets.json")
    assert not (file.stat().st_mode | file.parent.stat().st_mode) & 0o077
    assert call(second, "DELETE", "/api/live/presets/call")[1] == {"presets": {}}


STATUS = {
    "enabled": True,
    "strength": 0.5,
    "look": "clear",
    "light": 0,
    "cpu_budget": 1,
    "paused": "",
    "losses": [],
    "messages": [],
    "source": {"name": "film.mp4", "state": "away", "message": Message("nothing comes").to_dict()},
    "sinks": [],
    "persons": None,
    "latency_ms": {},
    "dropped": {},
    "fps": 30,
    "faces": 0,
    "ladder": "full, small key/2",
    "cpu_share": None,
    "seconds": 1,
}
RUN = {"state": "running", "source": "film.mp4", "output": "null:", "settings": {}, "error": None, "status": STATUS}


@pytest.mark.parametrize(("path", "answer"), [("", RUN), ("/devices", {"devices": [], "overlays": []})])
def test_a_live_view_that_was_left_as_it_loaded_ends(page: Any, path: str, answer: Any) -> None:
    held: list[Any] = []
    page.clock.install()
    page.route("**/api/live", lambda route: route.fulfill(json=RUN))
    page.route("**/api/live/devices", lambda route: route.fulfill(json={"devices": [], "overlays": []}))
    page.route(f"**/api/live{path}", lambda route: held.append(route))  # in place of the one above
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/live/preview" in request.url else None)
    with page.expect_request(f"**/api/live{path}"):
        page.get_by_role("link", name="Live").click()
    page.get_by_role("link", name="Queue").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    held[0].fulfill(json=answer)
    page.evaluate("(async () => { for (let k = 0; k < 5; k++) await fetch('/api/about'); })()")
    before = len(asked)
    page.clock.run_for(5000)
    page.evaluate("fetch('/api/about')")
    page.keyboard.press("?")
    page.locator("dialog", has_text="Undo").wait_for()
    assert "Stronger" not in page.locator("dialog").inner_text()
    assert len(asked) == before <= 1


def test_what_a_live_run_refuses_is_said(page: Any) -> None:
    page.route("**/api/live", lambda route: route.fulfill(json=RUN))
    for path, why in (("preview", "4 previews are open; close one"), ("set", "the run is gone")):
        page.route(f"**/api/live/{path}", lambda route, *, why=why: route.fulfill(status=400, json={"error": why}))
    page.get_by_role("link", name="Live").click()
    page.get_by_text("4 previews are open").wait_for()
    page.get_by_text("film.mp4: nothing comes", exact=True).wait_for()
    page.get_by_text("Figures").click()
    page.get_by_text("full; light engine, restored on one frame of 2").wait_for()
    page.get_by_text("The computer is busy, so faces get less than they could: light engine").wait_for()
    page.locator("h1").click()
    page.keyboard.press("+")
    page.locator(".toast", has_text="the run is gone").wait_for()
    page.get_by_label("Strength").first.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('.live-side output').textContent === '50 %'")  # not 45


def test_a_run_that_does_nothing_says_why_and_offers_more(page: Any) -> None:
    status = {**STATUS, "always": False, "faces": 1, "remarks": []}
    asked: list[Any] = []

    def set_value(route: Any) -> None:
        asked.append(body := route.request.post_data_json)
        status[body["name"]] = body["value"]
        route.fulfill(json={key: status[key] for key in ("enabled", "always", "strength", "look", "light")})

    clear = Message("your picture is clear: nothing to gain", code="live_clear").to_dict()
    status["remarks"] = [
        clear,
        Message("your face is dim or lit from one side: Light improves that", code="live_dim").to_dict(),
    ]
    page.route("**/api/live", lambda route: route.fulfill(json={**RUN, "status": status}))
    page.route("**/api/live/set", set_value)
    page.get_by_role("link", name="Live").click()
    page.get_by_text("your picture is clear: nothing to gain").wait_for()
    page.get_by_role("button", name="Light", exact=True).click()
    page.get_by_role("button", name="Enhance anyway").click()
    page.get_by_role("button", name="Only where it helps").wait_for()
    page.get_by_text("Vivid", exact=True).click()
    expect(page.get_by_role("radio", name="Vivid")).to_be_checked()
    names = {"light": 0.8, "always": True, "look": "vivid"}
    assert asked == [{"name": name, "value": value} for name, value in names.items()]
    refused = {"error": "restart it", "kind": "RestartNeeded"}
    page.route("**/api/live/set", lambda route: route.fulfill(status=400, json=refused))
    page.get_by_text("Faithful", exact=True).click()
    with page.expect_request("**/api/live/restart") as renewed:
        page.locator(".toast").get_by_role("button", name="Restart the run").click()
    assert renewed.value.post_data_json["settings"]["look"] == "faithful"


def test_a_run_that_starts_shows_its_own_settings(page: Any) -> None:
    run = {**RUN, "state": "starting", "status": None, "settings": {"strength": 0.3}}
    page.route("**/api/live", lambda route: route.fulfill(json=run))
    page.get_by_role("link", name="Live").click()
    page.get_by_text("The run is starting").wait_for()
    assert page.get_by_label("Strength").first.input_value() == "0.3"


def test_a_call_is_looked_at_first(page: Any) -> None:
    found = [
        {"kind": "camera", "address": "camera:0", "name": "Cam"},
        {"kind": "virtual camera", "address": "vcam:rtface", "name": "rtface"},
        {"kind": "output", "address": "wall:hall", "name": "The wall"},
    ]
    asked: list[Any] = []
    page.route("**/api/live/devices", lambda route: route.fulfill(json={"devices": found, "overlays": []}))
    page.route(
        "**/api/live/start",
        lambda route: (asked.append(route.request.post_data_json), route.fulfill(status=400, json={"error": "no"})),
    )
    page.get_by_role("link", name="Live").click()
    page.get_by_role("radio", name="Clear", checked=True).wait_for()
    page.get_by_text("choose this virtual camera as your camera").wait_for()
    for name in ("Look first", "Start"):
        with page.expect_response("**/api/live/start"):
            page.get_by_role("button", name=name, exact=True).click()
    assert [(one["source"], one["output"]) for one in asked] == [("camera:0", "null:"), ("camera:0", "vcam:rtface")]
    page.get_by_label("To", exact=True).select_option("The wall (wall:hall)")  # a plugin's


def test_how_to_get_a_virtual_camera_is_said_on_the_spot(page: Any) -> None:
    line = "sudo modprobe v4l2loopback devices=1 card_label=rtface"
    repair = {"code": "", "values": {}, "message": line}
    finding = {"name": "vcam", "state": "ok", "repair": line, "command": line, "messages": {"repair": repair}}
    found: list[Any] = []
    page.route("**/api/health", lambda route: route.fulfill(json={"findings": [finding]}))
    page.route("**/api/live/devices", lambda route: route.fulfill(json={"devices": found, "overlays": []}))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("link", name="Live").click()
    page.get_by_role("button", name="How to get one").click()
    page.get_by_text("options v4l2loopback devices=1 card_label=rtface | sudo tee").wait_for()
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_text("Copied to the clipboard.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == line
    page.get_by_role("button", name="Look again").last.click()
    page.locator(".toast", has_text="No virtual camera was found.").wait_for()
    found.append({"kind": "virtual camera", "address": "vcam:rtface", "name": "rtface"})
    page.get_by_role("button", name="Look again").last.click()
    page.get_by_text("choose this virtual camera as your camera").wait_for()
    assert page.get_by_label("To", exact=True).input_value() == "vcam:rtface"


def test_a_missing_camera_is_said_of_that_source_alone(page: Any) -> None:
    found: list[Any] = []
    page.route("**/api/live/devices", lambda route: route.fulfill(json={"devices": found, "overlays": []}))
    page.get_by_role("link", name="Live").click()
    page.get_by_text("No camera was found.").wait_for()
    page.get_by_label("From").select_option("stream")
    page.get_by_text("No camera was found.").wait_for(state="detached")
    page.get_by_label("From").select_option("camera:")
    found.append({"kind": "camera", "address": "camera:0", "name": "Cam"})
    page.get_by_role("button", name="Look again").first.click()
    page.get_by_text("No camera was found.").wait_for(state="detached")
    assert page.get_by_label("From").input_value() == "camera:0"


def test_a_page_that_is_loaded_again_knows_the_source(page: Any) -> None:
    ended = {**RUN, "state": "ended", "source": "/films/a.mp4", "output": "rtmp://host/app/…"}
    page.route("**/api/live", lambda route: route.fulfill(json=ended))
    page.get_by_role("link", name="Live").click()
    page.wait_for_function("() => document.querySelector('.live-source input')?.value === '/films/a.mp4'")
    assert (
        not page.get_by_text("The run has ended.").count()
        and not page.locator(".live-output .field input").first.input_value()
    )


@pytest.mark.slow
def test_live_view_shows_and_changes_a_run(page: Any, studio: RunningStudio, film: Path) -> None:
    page.get_by_role("link", name="Live").click()
    page.get_by_label("From").select_option("film")
    page.get_by_label("Path").fill(str(film))
    page.get_by_text("Whose faces").click()
    page.get_by_role("button", name="Add a person by a photo").click()
    page.get_by_label("Name", exact=True).fill("anna")
    page.get_by_label("Photo", exact=True).fill(str(make_photo(studio.folder / "anna.png")))
    page.get_by_label("Photo", exact=True).press("Tab")
    page.get_by_label("Enhance", exact=True).select_option("anna")
    page.get_by_label("Engine", exact=True).select_option("rtface-s")
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator(".wipe[data-pairs]").wait_for(timeout=30_000)
    for key, place in (("Home", "0%"), ("End", "100%"), ("Home", "0%")):
        page.get_by_role("slider", name="Wipe between before and after").press(key)
        expect(page.locator(".wipe-line")).to_have_attribute("style", f"left: {place};")
    page.locator("h1").click()
    page.keyboard.down("b")  # only before, over the whole width
    expect(page.get_by_role("img", name="Before")).to_have_css("clip-path", "inset(0px 0% 0px 0px)")
    page.keyboard.up("b")
    assert until(studio, "running")["settings"]["faces"] == "anna"
    assert until(studio, "running")["settings"]["engine"] == "rtface-s"
    page.get_by_label("Enhance", exact=True).select_option("all")
    page.get_by_role("button", name="Apply").last.click()
    expect(page.get_by_label("Enhance", exact=True)).to_have_value("all")
    wait_for(lambda: until(studio, "running")["settings"]["faces"] == "all", 60)
    page.locator(".wipe[data-pairs]").wait_for(timeout=30_000)
    page.get_by_role("checkbox", name="Enhance anna").uncheck(timeout=15_000)
    expect(page.get_by_role("slider", name="Strength of anna")).to_have_value("0")
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    expect(page.get_by_role("checkbox", name="Enhance anna")).to_be_checked()
    (anna,) = until(studio, "running")["status"]["persons"]
    assert (anna["name"], anna["strength"]) == ("anna", 1.0)
    strength = page.get_by_role("slider", name="Strength", exact=True)
    strength.focus()
    page.keyboard.press("Home")
    power = page.get_by_role("switch", name="Enhance faces")
    power.click()
    expect(power).to_have_attribute("aria-checked", "false")
    assert until(studio, "running")["status"]["strength"] == 0
    assert not until(studio, "running")["status"]["enabled"]
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    expect(power).to_have_attribute("aria-checked", "true")
    check_accessible(page)
    page.reload()  # the run goes on without the page
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("The run has ended.").wait_for()
    assert page.get_by_role("button", name="Start", exact=True).is_visible()


def test_an_overlay_without_what_it_needs_begins_no_run(studio: RunningStudio, film: Path) -> None:
    pytest.importorskip("rtface_overlays")
    with pytest.raises(UsageError, match="lower-third needs title="):
        live_run.plan_live_run(studio.studio.folders, str(film), "null:", {"stages": ["lower-third:subtitle=Host"]})
    assert live_run.plan_live_run(studio.studio.folders, str(film), "null:", {"stages": ["lower-third:title=Anna"]})


@pytest.mark.slow
def test_overlays_change_while_the_run_continues(page: Any, studio: RunningStudio, film: Path) -> None:
    pytest.importorskip("rtface_overlays")

    def drawn() -> list[str]:
        return until(studio, "running")["settings"].get("stages", [])

    def eventually(*stages: str) -> None:
        wait_for(lambda: drawn() == list(stages))

    page.get_by_role("link", name="Live").click()
    page.get_by_label("From").select_option("film")
    page.get_by_label("Path").fill(str(film))
    page.get_by_text("Overlays", exact=True).click()
    page.get_by_role("checkbox", name="Label").check()
    page.get_by_label("Label: Text").fill("On air, live")
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator(".wipe[data-pairs]").wait_for(timeout=30_000)
    assert drawn() == ["label:text=On air\\, live"]
    page.get_by_role("checkbox", name="Lower third").check()
    page.get_by_role("button", name="Show Lower third now").click()
    place = page.get_by_role("listitem").filter(has=page.get_by_role("checkbox", name="Lower third"))
    place.get_by_text("lower-third needs title:").wait_for()
    page.get_by_label("Lower third: Title").fill("Anna")
    page.get_by_role("button", name="Hide Label").wait_for()
    assert drawn() == ["label:text=On air\\, live"], "nothing is on the air before its button is pressed"
    page.get_by_role("button", name="Show Lower third now").click()
    eventually("label:text=On air\\, live", "lower-third:title=Anna")
    expect(page.get_by_role("slider", name="Wipe between before and after")).to_have_attribute("aria-valuenow", "0")
    page.get_by_label("Lower third: Title").fill("")
    page.get_by_text("lower-third needs title:").wait_for()
    assert drawn() == ["label:text=On air\\, live", "lower-third:title=Anna"], "what was drawn stays"
    page.get_by_label("Lower third: Title").fill("\ue000")
    place.get_by_text("Choose another under Font").wait_for()
    page.get_by_label("Lower third: Title").fill("Ben")
    eventually("label:text=On air\\, live", "lower-third:title=Ben")
    page.get_by_label("Label: Place").select_option("top")
    eventually("label:text=On air\\, live,place=top", "lower-third:title=Ben")
    check_accessible(page)
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    eventually("label:text=On air\\, live", "lower-third:title=Ben")
    expect(page.get_by_label("Label: Place")).to_have_value("auto")
    page.keyboard.press("Control+z")
    eventually("label:text=On air\\, live", "lower-third:title=Anna")
    expect(page.get_by_label("Lower third: Title")).to_have_value("Anna")
    page.get_by_role("checkbox", name="Name tags").check()
    expect(page.get_by_label("Name tags: Name")).to_be_focused()
    page.keyboard.type("Eve")  # no button
    eventually("label:text=On air\\, live", "lower-third:title=Anna", "tag:name=Eve")
    page.get_by_role("checkbox", name="Name tags").uncheck()
    eventually("label:text=On air\\, live", "lower-third:title=Anna")
    assert until(studio, "running")["status"]["messages"] == []
    assert call(studio, "POST", "/api/live/overlays", stages=["picture:file=/etc/passwd"])[0] == 400
    assert call(studio, "POST", "/api/live/overlays", stages=["os.path"])[0] == 400
    page.route(
        "**/api/live/overlays",
        lambda route: route.fulfill(status=400, json={"error": "start the run again", "kind": "RestartNeeded"}),
    )
    page.get_by_role("checkbox", name="Lower third").uncheck()
    expect(page.get_by_role("button", name="Restart the run")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("The run has ended.").wait_for()


def test_a_person_is_learnt_in_the_studio(
    studio: RunningStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo(studio.folder / "anna.png")
    asked = {"name": "Anna", "source": str(photo), "agreed": True}
    (studio.folder / "list.m3u8").write_text("#EXTM3U\n")
    sources = ("/etc/passwd", "vcam:x", "", str(studio.folder / "list.m3u8"))
    for wrong in ({"agreed": False}, {"name": "P1"}, *({"source": source} for source in sources)):
        status, value = call(studio, "POST", "/api/persons/learn", **asked | wrong)
        assert status in (400, 422) and f"messages.{value['code']}" in catalogue(), wrong
    learnt(learned.path_of("anna"), ANNA)
    found = ask(studio, "GET", "/api/persons")[1]
    assert (found["persons"], found["here"]) == (["anna"], True)
    assert call(studio, "POST", "/api/persons/learn", **asked)[0] == 200
    learning = lambda: ask(studio, "GET", "/api/persons")[1]["learning"]  # noqa: E731
    wait_for(lambda: learning()["state"] not in ("waiting", "running"), 60)
    assert learning()["state"] == "failed" and "photos without their copies" in learning()["error"]["message"]
    assert ask(studio, "DELETE", "/api/persons/anna")[1]["persons"] == []


@pytest.mark.parametrize("code", ["learn_nothing", "learn_too_short"])
def test_the_studio_says_why_nothing_was_kept(
    code: str, studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def json_of(*words: str, receive: Any, **how: Any) -> None:
        values = {"share": "12 %", "gained": "+0.01 dB in calls"}
        receive({"event": "message", "code": code, "message": "nothing was kept", "values": values})
        raise RtfaceError("rtface learn ended with code 1")

    monkeypatch.setattr("rtface_studio.persons.json_of", json_of)
    photo = make_photo(studio.folder / "anna.png")
    assert call(studio, "POST", "/api/persons/learn", name="Anna", source=str(photo), agreed=True)[0] == 200
    learning = lambda: ask(studio, "GET", "/api/persons")[1]["learning"]  # noqa: E731
    wait_for(lambda: learning()["state"] not in ("waiting", "running"), 60)
    assert learning()["error"]["code"] == code


def test_the_page_can_fill_in_every_text() -> None:
    """It knows values by their name alone: no format, and no option."""
    texts = [text for languages in catalogue().values() for text in languages.values()]
    assert [text for text in texts if re.search(r"\{(?!\w+\})", text)] == []


@pytest.mark.slow
def test_who_cancels_leaves_no_folder(studio: RunningStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (python := tmp_path / "python").write_text("#!/bin/sh\necho missing\n")  # it says that it has everything
    python.chmod(0o755)
    monkeypatch.setenv("RTFACE_TORCH_PYTHON", str(python))
    film = make_film(studio.folder / "long.mp4", seconds=60.0)
    assert call(studio, "POST", "/api/persons/learn", name="Anna", source=str(film), agreed=True)[0] == 200

    def looks() -> bool:
        state = ask(studio, "GET", "/api/persons")[1]["learning"]
        assert state["state"] in ("waiting", "running"), state
        return state.get("code") == "learn_looking"

    wait_for(looks, 60)
    assert [*learned.unfinished().iterdir()]
    assert call(studio, "POST", "/api/persons/stop")[0] == 200
    wait_for(lambda: not [*learned.unfinished().iterdir()])


def test_the_page_guides_who_is_learnt(page: Any, studio: RunningStudio) -> None:
    learnt(learned.path_of("ben"), BEN)
    page.route("**/api/persons/learn", lambda route: route.fulfill(json={"learning": {"state": "waiting"}}))
    page.get_by_role("link", name="Live").click()
    page.get_by_text("Learnt persons").click()
    page.get_by_role("checkbox", name="Use the weights learnt for ben").check()
    page.get_by_text("Whose faces").click()
    page.get_by_label("Enhance", exact=True).select_option("ben")
    page.get_by_role("button", name="Learn a person").click()
    page.get_by_role("dialog").get_by_label("Name", exact=True).fill("Ben")
    page.get_by_role("checkbox", name="I agree, or the person in the pictures does").check()
    page.get_by_role("button", name="Start learning").click()
    page.get_by_text("This replaces the earlier weights of ben").wait_for()
    page.get_by_role("button", name="Back", exact=True).last.click()
    page.get_by_role("dialog").get_by_label("Name", exact=True).fill("Anna")
    page.get_by_role("button", name="Start learning").click()

    def tell(**state: Any) -> None:
        studio.studio.events.publish("persons", state, keep=True)

    seen = {"doing": "camera", "share": 0.5, "left_s": 12, "picture": "data:image/jpeg;base64,"}
    tell(state="running", missing=["left", "blink"], **seen)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("turn your head to your left 0:12").wait_for()
    assert dialog.get_by_text("✓ lift your chin").is_visible() and dialog.get_by_text("○ blink").is_visible()
    learnt(learned.path_of("anna"), ANNA)
    tell(state="done", result={"name": "Anna", "gains": {"call": 0.41}, "seconds": 70.2})
    dialog.get_by_text("Anna was learnt in 70 s: 0.41 dB in calls").wait_for()
    page.keyboard.press("Escape")
    expect(page.get_by_role("checkbox", name="Use the weights learnt for anna")).to_be_checked()
