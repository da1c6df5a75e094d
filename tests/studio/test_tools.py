"""Engines, health and settings over HTTP and in a real browser."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rtface.cli.doctor_checks import Finding
from rtface.config.addresses import parse_address
from rtface.config.options import OPTIONS
from rtface.errors import Message, RtfaceError
from rtface_studio.catalogue import catalogue
from rtface_studio.commands import json_of, run_command
from rtface_studio.events import EventHub
from rtface_studio.live_run import LivePlan
from tests.studio.conftest import RunningStudio
from tests.studio.test_access import ask, call


def setting(found: Any, name: str) -> Any:
    return next(one for one in found["settings"] if one["name"] == name)


def test_a_setting_is_changed_in_the_file_and_taken_back(studio: RunningStudio, tmp_path: Path) -> None:
    file = tmp_path / "config" / "rtface.toml"
    file.parent.mkdir()
    file.write_text('# for calls\ngrain = "none"\n')
    found = ask(studio, "GET", "/api/settings")[1]
    assert found["file"] == str(file) and setting(found, "grain")["source"] == str(file)
    assert setting(found, "strength")["source"] == "default"
    status, found = call(studio, "PUT", "/api/settings/strength", value="70%")
    assert status == 200 and setting(found, "strength")["value"] == "0.7"
    call(studio, "PUT", "/api/settings/grain", value="match")
    assert file.read_text() == '# for calls\ngrain = "match"\nstrength = 0.7\n'
    call(studio, "PUT", "/api/settings/grain", value=None)
    assert file.read_text() == "# for calls\nstrength = 0.7\n"
    for name, value in (("strength", "7"), ("strenght", "1"), ("start", "1"), ("strength", [1])):
        assert call(studio, "PUT", f"/api/settings/{name}", value=value)[0] == 400, name
    assert file.read_text() == "# for calls\nstrength = 0.7\n" and len(list(file.parent.iterdir())) == 1


def test_settings_that_cannot_go_together_are_not_kept(studio: RunningStudio, tmp_path: Path) -> None:
    """Nor is one taken back that another needs; the page shows all of them afterwards, as before."""
    photo = tmp_path / "anna.jpg"
    photo.write_bytes(b"")
    for name, value, status in (
        ("faces", "anna", 400),
        ("person", f"anna={photo}", 200),
        ("faces", "anna", 200),
        ("person", None, 400),
        ("faces", None, 200),
        ("person", None, 200),
    ):
        assert call(studio, "PUT", f"/api/settings/{name}", value=value)[0] == status, (name, value)
        assert ask(studio, "GET", "/api/settings")[0] == 200


def test_settings_changed_at_once_are_all_kept(studio: RunningStudio, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (real := tmp_path / "dotfiles.toml").write_text("")
    (file := tmp_path / "config" / "rtface.toml").symlink_to(real)
    values = {"strength": "0.5", "correct": "always", "region": "head", "grain": "none", "max_faces": "3", "crf": "20"}
    with ThreadPoolExecutor(6) as pages:
        asked = [
            pages.submit(call, studio, "PUT", f"/api/settings/{name}", value=value) for name, value in values.items()
        ]
        assert [one.result()[0] for one in asked] == [200] * 6
    assert file.is_symlink() and {line.partition(" ")[0] for line in real.read_text().splitlines()} == set(values)


def test_a_secret_in_the_settings_stays(studio: RunningStudio, tmp_path: Path) -> None:
    file = tmp_path / "config" / "rtface.toml"
    file.parent.mkdir()
    file.write_text(text := 'sign = "https://user:secret@tsa.example/x?key=abc"\n')
    seen = setting(ask(studio, "GET", "/api/settings")[1], "sign")["value"]
    assert "secret" not in seen
    for value in (seen, None):
        status, refusal = call(studio, "PUT", "/api/settings/sign", value=value)
        assert status == 400 and str(file) in refusal["error"]
    assert file.read_text() == text


def test_settings_with_files_stay_on_this_machine(studio: RunningStudio, tmp_path: Path) -> None:
    studio.studio.remote = True
    for name, value in (
        ("slate", "/etc/hostname"),
        ("stages", "picture:file=/etc/hostname"),
        ("sign", "a,b"),
        ("audio", "@/etc/hostname"),
    ):
        assert call(studio, "PUT", f"/api/settings/{name}", value=value)[0] == 400
    assert call(studio, "PUT", "/api/settings/strength", value="0.5")[0] == 200


def test_no_setting_names_a_module(studio: RunningStudio, tmp_path: Path) -> None:
    """Every later run would import it; stages that are installed are set as before."""
    pytest.importorskip("rtface_overlays")
    for value in ("/x/a.mp4", "os.path", "os:system", "label:text=x;os.path"):
        assert call(studio, "PUT", "/api/settings/stages", value=value)[0] == 400, value
    for value in ("label:text=On air", "blur", "label:text=a;blur", "picture:file=/x/a.png"):
        assert call(studio, "PUT", "/api/settings/stages", value=value)[0] == 200, value


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_what_is_no_text_is_refused(studio: RunningStudio, text: str) -> None:
    folder = str(studio.folder)
    live = {"source": "camera:0", "output": "null:", "settings": {}}
    for method, path, body in (
        ("POST", "/api/films", {"path": f"{folder}/{text}"}),
        ("PUT", "/api/live/presets/x", {"source": text}),
        ("PUT", "/api/settings/slate", {"value": text}),
        ("PUT", "/api/live/presets/x", {text: [text]}),
        ("POST", "/api/live/start", live | {"source": f"camera:{text}"}),
        ("POST", "/api/live/start", live | {"settings": {"also": f"{folder}/{text}"}}),
        ("POST", "/api/live/start", live | {"settings": {"stages": [f"label:text={text}"]}}),
    ):
        assert call(studio, method, path, **body)[0] == 400, (path, body)
    assert call(studio, "PUT", "/api/live/presets/x", source=float("nan"))[0] == 400
    assert call(studio, "POST", "/api/films", path=f"{folder}/{'y' * 300}.mp4")[0] == 400
    assert call(studio, "PUT", "/api/live/presets/x", source="camera:Kamera für 日本 🙂")[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_a_name_that_is_no_text_hides_no_other(studio: RunningStudio) -> None:
    for name in (b"\xff.mp4", "Jürgen 🙂.mp4".encode()):
        Path(os.fsdecode(os.fsencode(studio.folder) + b"/" + name)).touch()
    status, found = ask(studio, "GET", f"/api/files?folder={studio.folder}")
    assert (status, [entry["name"] for entry in found["entries"]]) == (200, ["Jürgen 🙂.mp4"])


def test_an_error_of_a_command_is_said_without_its_prefix() -> None:
    with pytest.raises(RtfaceError, match=r"^/nowhere\.mp4: "):
        asyncio.run(json_of("try", "--", "/nowhere.mp4", "sheet.png"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_command_ends_with_a_studio_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mkv")
    script = (
        "import asyncio, sys; from rtface_studio.commands import run_command; asyncio.run(run_command(*sys.argv[1:]))"
    )
    studio = subprocess.Popen([sys.executable, "-c", script, "analyze", str(tmp_path / "film.mkv")])
    with (tmp_path / "film.mkv").open("wb") as film:  # the analysis reads
        studio.kill()
        studio.wait()
        reader_gone = select.poll()
        reader_gone.register(film, select.POLLERR)
        assert reader_gone.poll(60_000)


def test_no_python_file_of_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of the studio start in the folder of the studio, which may hold anybody's films."""
    for name in ("typer", "av", "numpy", "rtface"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    assert "Usage" in asyncio.run(run_command("plugins", "--help"))
    live = LivePlan(parse_address("camera:nowhere"), parse_address("null:"), {}).command()[0]
    subprocess.run([*live[: live.index("run")], "--version"], check=True)
    assert not (tmp_path / "ran").exists()


def test_a_look_that_fails_is_made_again() -> None:
    hub, looks = EventHub(), [OSError("disk full"), 1, 1, None, 2]

    async def look() -> int | None:
        found = looks.pop(0) if looks else 2
        if isinstance(found, OSError):
            raise found
        return found

    async def watch() -> list[Any]:
        socket = Page()
        serving = asyncio.create_task(hub.serve(socket))  # type: ignore[arg-type]
        for _ in range(2):
            hub.follow("queue", look, 0.001)
        while len(socket.sent) < 2:
            await asyncio.sleep(0.001)
        serving.cancel()
        return socket.sent

    assert asyncio.run(asyncio.wait_for(watch(), 10)) == [
        {"topic": "queue", "value": 1},
        {"topic": "queue", "value": 2},
    ]


class Page:
    """A WebSocket of a page that reads everything."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def accept(self) -> None:
        pass

    async def receive(self) -> Any:
        await asyncio.sleep(3600)

    async def send_json(self, message: Any) -> None:
        self.sent.append(message)


def test_a_file_that_cannot_be_changed_by_line_stays(studio: RunningStudio, tmp_path: Path) -> None:
    file = tmp_path / "config" / "rtface.toml"
    file.parent.mkdir()
    file.write_text('stages = [\n  "label",\n]\n')
    status, value = call(studio, "PUT", "/api/settings/stages", value="blur")
    assert status == 400 and "edit it so that it contains" in value["error"]
    assert file.read_text() == 'stages = [\n  "label",\n]\n' and len(list(file.parent.iterdir())) == 1


def test_an_option_that_a_policy_sets_is_locked(
    studio: RunningStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("strength = 0.5\n")
    monkeypatch.setattr("rtface.config.policy.site_path", lambda: policy)
    monkeypatch.setattr("rtface.config.options.site_path", lambda: policy)
    monkeypatch.setattr("rtface_studio.settings.site_path", lambda: policy)
    assert setting(ask(studio, "GET", "/api/settings")[1], "strength")["value"] == "0.5"
    assert setting(ask(studio, "GET", "/api/settings")[1], "strength")["locked"] == str(policy)
    status, value = call(studio, "PUT", "/api/settings/strength", value="1")
    assert status == 400 and str(policy) in value["error"]


def test_health_lists_findings(studio: RunningStudio) -> None:
    status, found = ask(studio, "GET", "/api/health")
    assert status == 200 and any(one["messages"]["detail"]["code"] for one in found["findings"])


def test_engines_are_listed_and_added_only_with_consent(studio: RunningStudio, tmp_path: Path) -> None:
    status, found = ask(studio, "GET", "/api/engines")
    assert status == 200 and "rtface-s" in [one["name"] for one in found["engines"]] and found["offers"]
    assert call(studio, "POST", "/api/engines/add", name="gfpgan-1.4")[0] == 400
    outside, inside = tmp_path / "weights.pth", studio.folder / "weights.pth"
    for file in (outside, inside):
        file.write_bytes(b"no weights")
    assert call(studio, "POST", "/api/engines/add", file=str(outside), accepted=True)[0] == 400
    status, value = call(studio, "POST", "/api/engines/add", file=str(inside), accepted=True)
    assert status == 422 and value["error"]
    assert call(studio, "DELETE", "/api/engines/rtface-s")[0] == 422, "what comes with rtface stays"
    assert call(studio, "DELETE", "/api/engines/--help")[0] == 400


def test_settings_are_grouped_and_in_german(page: Any) -> None:
    page.get_by_label("Language").select_option("de")
    page.get_by_role("link", name="Einstellungen").click()
    often = page.get_by_role("region", name="Oft gebraucht")
    often.get_by_text("Wie viel feine Einzelheiten").first.wait_for()
    assert often.get_by_role("row").count() < 12 and page.get_by_text("cpu_budget").is_hidden()
    page.get_by_role("searchbox").fill("cpu_budget")
    page.get_by_text("cpu_budget", exact=True).wait_for()
    assert {text for one in OPTIONS.values() if not (text := one.unset).isdigit()} - {""} <= {
        text["en"] for key, text in catalogue().items() if key.startswith("values.")
    }


@pytest.mark.slow
def test_tools_in_the_browser(page: Any, studio: RunningStudio) -> None:
    page.get_by_role("link", name="Engines").click()
    page.get_by_role("heading", name="rtface-s").wait_for()
    page.get_by_role("button", name="Add an engine").click()
    page.locator("dialog").get_by_label("Engine", exact=True).select_option("gfpgan-1.3")
    page.locator("dialog").get_by_text("copyright 2021").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Health").click()
    page.get_by_text("Check again").wait_for()
    page.get_by_role("cell", name="numpy").wait_for(timeout=30_000)
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("searchbox", name="Search").fill("strength")
    page.get_by_role("button", name="Change strength").click()
    page.get_by_role("slider", name="strength").press("ArrowLeft")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("settings file", exact=True).wait_for()
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    page.get_by_text("settings file", exact=True).wait_for(state="hidden")


def test_what_is_not_there_is_not_good_and_its_line_is_copied(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = [
        Finding("numpy", "ok", "2.0").to_dict(),
        Finding("group", "ok", "none", "ask somebody").to_dict(),
        Finding(
            "virtual camera", "ok", "none", Message("install it, then: {line}", code="it", line="sudo modprobe x")
        ).to_dict(),
    ]
    page.route("**/api/health", lambda route: route.fulfill(json={"findings": found}))
    page.get_by_role("link", name="Health").click()
    page.get_by_role("button", name="Copy").click()  # one: the other repair is no command
    assert page.evaluate("navigator.clipboard.readText()") == "sudo modprobe x"
    assert page.locator("tbody tr").first.inner_text().startswith("○ not installed")
