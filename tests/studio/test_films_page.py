"""From an empty page to an enhanced film, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import numpy as np
import pytest

from rtface.errors import Message
from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.item import ItemProgress
from rtface_studio.folders import AllowedFolders
from rtface_studio.queue import moment_of
from tests.studio.conftest import RunningStudio, check_accessible, expect
from tests.studio.films import make_film, newest
from tests.studio.test_access import ask

pytest.importorskip("skimage")


ANALYSED = {
    "tracks": {"1": {"first_s": 0, "last_s": 1.2, "on": True, "strength": 1}},
    "persons": {"P1": {"tracks": [1], "first_s": 0, "seconds": 1.2, "face": None}},
    "scenes": [{"start_s": 0.0, "end_s": 1.2}],
}


def is_analysed(page: Any) -> None:
    """Every film is analysed already, and has one shot and one person: nothing is computed for that."""

    def answer(route: Any) -> None:
        route.fulfill(json={"state": "done", "result": ANALYSED})

    page.context.route("**/api/films/*/analysis", answer)


def is_drawn(page: Any) -> None:
    """Every picture of a film is the same one, as large as it, with a face: no engine is opened for that."""
    import cv2

    picture = cv2.imencode(".jpg", np.full((288, 320, 3), 90, np.uint8))[1].tobytes()

    def answer(route: Any) -> None:
        time = parse_qs(urlsplit(route.request.url).query)["time"][0]
        told = {"x-faces": "1", "x-frame-time": time, "x-nose": "null"}
        route.fulfill(body=picture, content_type="image/jpeg", headers=told)

    page.context.route("**/api/films/*/frame?*", answer)


def open_film(page: Any, studio: RunningStudio, height: int | None = None, *, work: bool = False) -> None:
    """Opens a film by two clicks. With `work` the studio analyses it and makes its pictures; else both are made ones,
    or those of a route of the page."""
    if not work:
        is_analysed(page)
        is_drawn(page)
    if height:
        page.set_viewport_size({"width": 1280, "height": height})
    make_film(studio.folder / "film.mp4")
    page.get_by_role("button", name="Choose a film").click()
    page.locator("dialog .chooser-row", has_text="film.mp4").click()
    page.locator(".wipe[data-time]").wait_for(timeout=60_000)


def keeps(name: str) -> Callable[[Any], bool]:
    """Tells an answer that keeps a setting from those of earlier changes."""
    return lambda answer: "/settings?" in answer.url and name in answer.request.post_data_json


@pytest.mark.slow
def test_film_is_enhanced_in_four_clicks(page: Any, studio: RunningStudio) -> None:
    open_film(page, studio, work=True)  # two clicks
    page.get_by_text("Persons: 1.").wait_for(timeout=60_000)
    page.get_by_role("img", name="Timeline: shots: 1, persons: 1").wait_for()
    assert page.locator(".timeline-span.on").count() == 1
    assert float(page.get_by_role("meter", name="Low resolution").get_attribute("value")) > 0.1
    check_accessible(page)
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("link", name="Show it").click()
    page.get_by_role("link", name="Download", exact=True).wait_for(timeout=60_000)
    page.get_by_text("What the file says").wait_for()
    assert page.locator("video").count() == 2
    assert (studio.folder / "film.enhanced.mp4").is_file()
    page.get_by_text("Faces followed: 1; corrected: 1. Engine: rtface-m.").wait_for()
    with page.expect_download() as report:
        page.get_by_role("link", name="Download the whole report").click()
    assert json.loads(report.value.path().read_text())["treatments"]
    time = float(page.locator(".wipe.zoomed[data-time]").get_attribute("data-time"))
    page.get_by_role("button", name="▸").click()  # one frame, of ten a second
    page.locator(f".wipe[data-time^='{time + 0.1:.1f}']").wait_for()
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("Everything is as it should be.").wait_for(timeout=30_000)
    check_accessible(page)


def test_a_photo_is_seen_before_its_wipe_is_ready(page: Any, studio: RunningStudio) -> None:
    is_analysed(page)
    is_drawn(page)
    held: list[Any] = []
    page.context.route("**/api/films/*/frame?*layer=after", lambda route: held.append(route))  # it takes its time
    with page.expect_request(lambda request: "layer=after" in request.url):
        page.locator("input[type=file]").set_input_files(make_film(studio.folder / "film.mp4", seconds=0.5))
    page.wait_for_function("() => document.querySelector('.wipe:not(.empty) img')?.naturalWidth > 0")
    line = page.locator(".wipe-line")
    assert len(held) == 1 and not line.is_visible() and not page.locator(".wipe[data-time]").count()
    held[0].fallback()
    page.locator(".wipe[data-time]").wait_for()
    assert line.is_visible()


def test_the_moment_is_that_of_the_face_that_gained_most() -> None:
    def track(gain: float, *turned: float, corrected: int = 5) -> dict[str, Any]:
        doubts = [{"at_s": gain + each, "box": [0, 0, 9, 9], "turned": each} for each in turned]
        return {"frames_corrected": corrected, "mean_width_px": 50.0, "treatment": {"gain_db": gain}, "doubts": doubts}

    found = moment_of([track(1.0, 3.0), track(2.0, 30.0, 5.0), track(4.0, 1.0, corrected=0)])
    assert found and found["at_s"] == 7.0
    assert moment_of([track(3.0) | {"doubts": []}, {"frames_corrected": 1}]) is None  # of an older run


def test_the_first_page_says_what_it_does(page: Any, studio: RunningStudio) -> None:
    page.get_by_role("heading", name="Clearer faces in films, photos and video calls").wait_for()
    page.wait_for_function("() => document.querySelector('.introduction img').naturalWidth > 100")
    page.get_by_role("link", name="Start a call").click()
    page.get_by_role("heading", name="Call", exact=True).wait_for()
    ask(studio, "POST", "/api/films", json.dumps({"path": str(make_film(studio.folder / "film.mp4"))}).encode())
    page.get_by_role("link", name="Films").click()
    page.wait_for_function("() => document.querySelector('.film-card img')?.naturalWidth > 100")
    assert not page.locator(".introduction").count()


def test_the_chooser_finds_by_name_and_closes_by_back(page: Any, studio: RunningStudio) -> None:
    for name in ("a.mp4", "a.enhanced.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4"):
        (studio.folder / name).touch()
    page.get_by_role("button", name="Choose a film").click()
    page.get_by_role("button", name="Open all 6").wait_for()
    page.get_by_label("Find by name").fill("A.")
    assert page.locator("dialog .chooser-row:visible").count() == 2
    page.go_back()
    page.locator("dialog").wait_for(state="detached")
    assert page.url.endswith("#/films") or "#" not in page.url


def test_a_folder_is_allowed_where_files_are_chosen(page: Any, studio: RunningStudio, tmp_path: Path) -> None:
    (disk := tmp_path / "disk").mkdir()
    make_film(disk / "a.mp4", seconds=0.3)
    studio.studio.folders = AllowedFolders(studio.studio.folders.roots, tmp_path / "folders.json")
    is_analysed(page)
    page.get_by_role("button", name="Choose a film").click()
    page.locator("dialog summary").click()
    where, allow = page.get_by_label("Allow another folder"), page.get_by_role("button", name="Allow", exact=True)
    where.fill(str(tmp_path / "none"))
    allow.click()
    page.locator("dialog .help.bad", has_text="none: No such file").wait_for()
    where.fill(str(disk))
    allow.click()
    row = page.locator("dialog .chooser-row", has_text="a.mp4")
    row.locator("img").wait_for()
    page.wait_for_function("() => document.querySelector('.chooser-row img').naturalWidth > 0")
    row.click()
    page.get_by_role("heading", name="a.mp4").wait_for()
    assert ask(studio, "DELETE", f"/api/files/folders?folder={disk}")[1]["added"] == []
    assert ask(studio, "GET", f"/api/files/picture?path={disk / 'a.mp4'}")[0] == 400


def test_a_copy_goes_on_when_its_page_is_left(page: Any, studio: RunningStudio, tmp_path: Path) -> None:
    held: list[Any] = []
    page.route("**/api/files/upload*", lambda route: held.append(route))
    with page.expect_request("**/api/files/upload*"):
        page.locator("input[type=file]").set_input_files(make_film(tmp_path / "phone.mp4", seconds=0.5))
    page.get_by_role("link", name="Queue").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    page.get_by_text("Copying phone.mp4").wait_for()
    held[0].continue_()
    page.get_by_text("phone.mp4 is copied").wait_for()
    page.get_by_text("Copying phone.mp4").wait_for(state="hidden")


def test_several_films_are_copied_and_started_at_once(page: Any, studio: RunningStudio, tmp_path: Path) -> None:
    films = [make_film(tmp_path / name, seconds=0.3) for name in ("a.mp4", "b.mp4")]
    (wrong := tmp_path / "letter.mp4").write_text("no film")
    page.locator("input[type=file]").set_input_files([films[0], wrong, films[1]])
    page.locator(".toast", has_text="letter.mp4").wait_for()
    page.get_by_role("link", name="b.mp4").wait_for()
    assert {file.name for file in studio.studio.uploads.iterdir()} >= {"a.mp4", "b.mp4"}
    page.route("**/start", lambda route: route.fulfill(json={"item": 1}))
    started: list[Any] = []
    page.on("request", lambda request: started.append(request.post_data_json) if "/start" in request.url else None)
    page.get_by_role("button", name="Enhance all 2").click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("2 are in the queue.").wait_for()
    assert sorted(Path(one["output"]).name for one in started) == ["a.enhanced.mp4", "b.enhanced.mp4"]


def test_two_pages_of_a_film_show_each_other_s_changes(page: Any, studio: RunningStudio) -> None:
    open_film(page, studio)
    other = page.context.new_page()
    other.goto(page.url)
    other.locator(".wipe[data-time]").wait_for()
    with page.expect_response("**/settings?*"):
        page.get_by_label("Engine", exact=True).select_option("rtface-s")
    expect(other.get_by_label("Engine", exact=True)).to_have_value("rtface-s")
    with other.expect_response("**/settings?*") as kept:
        other.get_by_label("Region", exact=True).select_option("head", force=True)
    assert kept.value.json() == {"engine": "rtface-s", "region": "head", "shots": [], "persons": {}}
    other.close()


def test_zoomed_pictures_are_moved_and_seen_from_edge_to_edge(page: Any, studio: RunningStudio) -> None:
    is_analysed(page)
    open_film(page, studio, height=1000, work=True)
    page.get_by_text("Persons: 1.").wait_for(timeout=60_000)  # the first look may move time and line
    page.locator(".wipe .doing").wait_for(state="hidden", timeout=60_000)
    page.keyboard.press("z")  # it fits at more than 100 and 200 %, which are left out
    page.get_by_role("button", name="400 %").wait_for()
    page.wait_for_function("() => document.querySelector('.wipe.zoomed')?.scrollWidth > 1000")
    line = page.get_by_role("slider", name="Wipe")
    nose = line.get_attribute("aria-valuenow")
    assert 40 < int(nose) < 60 and nose != "50", "the line goes through the face"
    offset = "document.querySelector('.wipe').scroll{}"
    top, left = page.evaluate(offset.format("Top")), page.evaluate(offset.format("Left"))
    box = page.locator(".wipe").bounding_box()
    x, y = box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y - 40, steps=4)
    page.mouse.up()
    assert (page.evaluate(offset.format("Left")), page.evaluate(offset.format("Top"))) == (left + 60, top + 40)
    assert line.get_attribute("aria-valuenow") == nose
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_function(f"() => {offset.format('Left')} < {left}")
    page.mouse.click(x, y)
    assert line.get_attribute("aria-valuenow") != nose
    left = (
        "() => { const e = document.querySelector('.wipe.zoomed'); e.scrollTo(0, 0); return "
        "e.querySelector('.wipe-pictures').getBoundingClientRect().left - e.getBoundingClientRect().left; }"
    )
    assert page.evaluate(left) == 0


def test_a_film_is_seen_by_keyboard(page: Any, studio: RunningStudio) -> None:
    found = {"tracks": {}, "persons": {}, "scenes": [{"start_s": 0.0, "end_s": 0.8}, {"start_s": 0.8, "end_s": 1.2}]}
    page.route("**/api/films/*/analysis", lambda route: route.fulfill(json={"state": "done", "result": found}))
    open_film(page, studio)
    page.get_by_role("img", name="Timeline: shots: 2, persons: 0").wait_for()
    wipe = page.get_by_role("slider", name="Wipe")
    wipe.focus()
    page.keyboard.press("Home")
    assert wipe.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("ArrowRight")
    assert wipe.get_attribute("aria-valuenow") == "2"
    page.get_by_text("Size, region, grain").click()
    region = page.get_by_label("Region", exact=True)
    region.select_option("head")
    expect(region).to_have_value("head")
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    expect(region).to_have_value("auto")
    page.keyboard.press(".")
    page.wait_for_function("() => Number(document.querySelector('.wipe').dataset.time) > 0.55")
    position = page.get_by_role("slider", name="Position in the film")
    page.keyboard.press("ArrowDown")
    assert float(position.input_value()) == pytest.approx(0.8)
    page.keyboard.press("ArrowUp")
    assert float(position.input_value()) == 0
    area = page.locator(".timeline-area").bounding_box()
    page.mouse.click(area["x"] + area["width"] / 2, area["y"] + 5)
    assert float(position.input_value()) == pytest.approx(0.6, abs=0.06)
    page.locator("h1").click()
    page.keyboard.press("Space")  # some seconds, before and after
    page.wait_for_function("() => document.querySelector('.wipe[data-at]')?.dataset.at > 0.3", timeout=60_000)
    page.keyboard.press(".")
    page.get_by_role("button", name="Play 4 seconds").wait_for()
    page.locator(".wipe[data-at]").wait_for(state="detached")


def test_a_film_is_enlarged(page: Any, studio: RunningStudio) -> None:
    open_film(page, studio)
    page.get_by_text("Persons: 1.").wait_for(timeout=60_000)
    page.get_by_label("P1", exact=True).select_option("off")
    page.get_by_text("Size, region, grain").click()
    page.route("**/api/films/*/analysis", lambda route: route.fulfill(json={"state": "running"}))
    with page.expect_request("**/analysis") as analysed, page.expect_response(keeps("scale")) as kept:
        page.get_by_label("Size", exact=True).select_option("Twice")
    assert analysed.value.post_data_json == {"scale": "2", "look": "clear"}
    assert kept.value.json() == {"scale": "2", "shots": [], "persons": {}}
    page.get_by_role("img", name="Timeline: shots: 1, persons: 0").wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator("dialog summary", has_text="command line").click()
    page.locator("dialog code", has_text="--scale 2").wait_for()


def test_the_first_look_is_at_the_face_that_gains_most(page: Any, studio: RunningStudio) -> None:
    turned = Message("it is turned away", code="because_pose").to_dict()
    tracks = {
        "1": {
            "first_s": 0,
            "last_s": 1.0,
            "on": False,
            "strength": 0,
            "gain_db": 0.01,
            "mean_width_px": 90,
            "verdict": {"word": "left alone", "because": [{"code": "", "message": "nothing to gain"}]},
        },
        "2": {
            "first_s": 0.8,
            "last_s": 1.0,
            "on": True,
            "strength": 0.5,
            "gain_db": 0.94,
            "mean_width_px": 50,
            "verdict": {"word": "clearly visible", "asked": 1, "applied": 1, "because": []},
        },
        "3": {
            "first_s": 0,
            "last_s": 0.4,
            "on": True,
            "strength": 1,
            "gain_db": 0.12,
            "mean_width_px": 60,
            "verdict": {"word": "hardly visible", "asked": 1, "applied": 0.42, "because": [turned]},
        },
    }
    found = {"state": "done", "result": {"tracks": tracks, "persons": {}, "scenes": []}}
    page.route("**/api/films/*/analysis", lambda route: route.fulfill(json=found))
    open_film(page, studio)
    page.wait_for_function("() => Math.abs(document.querySelector('.wipe').dataset.time - 0.9) < 0.06")
    for said in (
        "already clean, so nothing to gain",
        "asked 100%, applied 42%, because it is turned away",
    ):
        page.get_by_text(said, exact=True).wait_for()
    page.get_by_role("slider", name="Strength", exact=True).fill("0.5")
    page.get_by_text("asked 50%, applied 21%, because it is turned away", exact=True).wait_for()
    boxes = [page.locator(name).bounding_box() for name in (".timeline-area", ".timeline > input")]
    (left, width), (other, wider) = ((box["x"], box["width"]) for box in boxes)
    assert other + 8 == pytest.approx(left, abs=1) and wider - 16 == pytest.approx(width, abs=1), "one ruler"
    german = page.evaluate(
        """async (track) => {
        (await import("/page/lib/text.js")).setLanguage("de");
        const { verdict } = await import("/page/views/films/analysis.js");
        return verdict(track).map((part) => part.textContent).join(": ");
    }""",
        tracks["3"],
    )
    assert german == "kaum sichtbar: verlangt 100\xa0%, angewandt 42\xa0%, Grund: es ist weggedreht"


def test_what_shows_more_is_one_press_away(page: Any, studio: RunningStudio) -> None:
    twice = Message("{--scale:2} enlarges", code="propose_twice", width=74, option="scale", value="2").to_dict()
    others = [
        Message("{--look:vivid} draws more", code="propose_vivid", option="look", value="vivid").to_dict(),
        Message("others draw more", code="propose_engine", option="engine").to_dict(),
    ]
    found = {"tracks": {}, "persons": {}, "scenes": []}

    def answer(route: Any) -> None:
        proposals = others if route.request.post_data_json["scale"] == "2" else [twice]
        route.fulfill(json={"state": "done", "result": found | {"proposals": proposals}})

    page.route("**/api/films/*/analysis", answer)
    open_film(page, studio)
    page.get_by_text("Faces are small (74 px)").wait_for()
    page.get_by_role("button", name="Size: twice").click()
    expect(page.get_by_label("Size", exact=True)).to_have_value("2")
    page.get_by_text("Little of the correction will be visible").wait_for()
    page.get_by_role("button", name="Look: vivid").click()
    page.get_by_role("radio", name="Vivid", checked=True).wait_for()
    page.get_by_role("link", name="Another engine").click()
    page.get_by_role("heading", name="Engines", exact=True).wait_for()


def test_engines_are_compared_on_a_face_of_the_film(page: Any, studio: RunningStudio) -> None:
    is_analysed(page)
    open_film(page, studio, work=True)
    page.get_by_role("link", name="Engines").click()
    page.get_by_role("button", name="Compare on a face").click()
    page.locator(".engine-faces figure", has_text="rtface-s").wait_for(timeout=60_000)


def test_an_item_is_paused_and_removed_on_its_page(page: Any, studio: RunningStudio) -> None:
    item = Queue().add(make_film(studio.folder / "film.mp4", seconds=0.3), studio.folder / "out.mp4")
    page.evaluate(f"location.hash = '#/queue/{item.id}'")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").wait_for()
    assert Queue().item(item.id).state == "paused"
    with Queue().store.runner():  # one that has begun is halted in place, and a cancel asks
        Queue().resume(item.id)
        Queue().store.take()
        Queue().store.note_progress(item.id, ItemProgress(0.5, 2, 1.0, 3.0))
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("paused · 50% · Nothing is lost").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Keep going").click()
        assert Queue().item(item.id).state == "paused"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop this film").click()
    page.get_by_role("button", name="Remove from the list").click()
    page.get_by_text("Nothing is in the queue").wait_for()


def test_the_page_of_a_result_names_a_source_that_was_moved(page: Any, studio: RunningStudio) -> None:
    source, output = make_film(studio.folder / "film.mp4"), studio.folder / "out.mp4"
    item = Queue().add(source, output)
    make_film(output)
    with Queue().store.runner():
        Queue().store.take()
        Queue().store.finish(item.id, "done")
    source.rename(studio.folder / "moved.mp4")
    page.evaluate(f"location.hash = '#/queue/{item.id}'")
    page.get_by_text(f"{source} does not exist. Restore the file").wait_for()


def test_a_recording_without_its_length_is_seen_to_its_end(page: Any, studio: RunningStudio) -> None:
    whole = make_film(studio.folder.parent / "whole.mkv")
    with (
        av.open(str(whole)) as source,
        (studio.folder / "film.mkv").open("wb", buffering=0) as file,
        av.open(SimpleNamespace(write=file.write), "w", format="matroska") as cut,
    ):  # it cannot go back to write it
        stream = cut.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                cut.mux(packet)
    is_analysed(page)
    page.get_by_role("button", name="Choose a film").click()
    page.locator("dialog .chooser-row", has_text="film.mkv").click()
    page.get_by_text("/ 0:01.2").wait_for(timeout=60_000)
    page.locator("h1").click()
    for _ in range(2):
        page.keyboard.press("l")
    page.get_by_text("0:01.1 / 0:01.2").wait_for()
    page.locator(".wipe[data-time^='1.1']").wait_for()
    assert page.evaluate("import('/page/lib/text.js').then(({ clock }) => clock(9.9999999, true))") == "0:10.0"


def test_messages_are_in_german_by_their_codes(page: Any) -> None:
    page.get_by_label("Language").select_option("de")
    for code, values, said in (
        (
            "interrupted_segments",
            {"done": 1, "count": 7, "folder": "/o.rtface"},
            "unterbrochen; 1 von 7 Abschnitten sind fertig und bleiben in /o.rtface",
        ),
        (
            "item_died",
            {"path": "/l", "why": {"code": "process_ended", "values": {"exit": 3}, "message": "it ended"}},
            "sein Prozess endete mit Code 3; was es gemeldet hat, steht in /l",
        ),
        ("ended_film", {"count": 1, "faces": 1, "corrected": 0}, "1 Bild, 1 mit Gesichtern, 0 korrigiert"),
        (
            "interrupted",
            {"more": ["; once; ", {"code": "source_ended", "values": {}, "message": "; it is"}]},
            "unterbrochen; once; die Quelle hat beendet",
        ),
        ("of_a_plugin", {}, "its own words"),
    ):
        shown = page.evaluate(
            """async (item) => (await import("/page/views/queue/item.js")).saying(
                { ...item, state: "cancelled", message: "its own words" })""",
            {"code": code, "values": values},
        )
        assert shown == said


def test_the_queue_is_seen_from_every_view_and_tidied_at_once(page: Any, studio: RunningStudio) -> None:
    for name in ("a", "b", "c"):
        Queue().add(make_film(studio.folder / f"{name}.mp4", seconds=0.3), studio.folder / f"{name}.out.mp4")
    received = list[str]()
    page.on("websocket", lambda socket: socket.on("framereceived", lambda text: received.append(str(text))))
    page.reload()
    link = page.get_by_role("navigation").get_by_role("link", name="Queue")
    link.get_by_text("3", exact=True).wait_for()
    link.click()
    page.get_by_role("button", name="Pause all").hover()
    page.mouse.down()
    queue = Queue()
    queue.move(3, "first")  # what the server tells while a button is pressed takes no click away
    received.clear()
    while not any('"queue"' in message for message in received):
        page.wait_for_timeout(20)
    page.mouse.up()
    page.get_by_text("paused", exact=True).nth(2).wait_for()
    assert {item.state for item in queue.items()} == {"paused"}
    queue.resume(1)
    with queue.store.runner():  # a runner that works on nothing
        queue.store.take()
        queue.store.note_progress(1, ItemProgress(0.5, 12, 24.0, 90.0))
        page.wait_for_function("() => document.title.startsWith('50%')")
        page.get_by_text("1:30 – 1:52 until all are done.").wait_for()
        queue.store.finish(1, "done", Message("a copy", code="ended_copy"))
    page.locator(".toast", has_text="a.out.mp4 is done").wait_for()
    page.locator(".badge", has_text="unchanged").wait_for()
    queue.cancel(2)
    page.get_by_text("cancelled", exact=True).wait_for()
    page.get_by_role("button", name="Remove ended items").click()
    page.locator("main").get_by_text("a.out.mp4").wait_for(state="detached")  # the last of them
    assert [item.id for item in queue.items()] == [3]


def test_nothing_is_wider_than_the_window(page: Any, studio: RunningStudio) -> None:
    for width in (390, 3840):
        page.set_viewport_size({"width": width, "height": 900})
        if width == 390:
            open_film(page, studio)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        frame, picture = (page.locator(name).bounding_box()["height"] for name in (".wipe", ".wipe-pictures"))
        assert picture <= frame + 1  # nothing of the picture is cut off


def test_shots_and_the_map_are_seen_at_once(page: Any, studio: RunningStudio) -> None:
    found = {
        "tracks": {"1": {"first_s": 0, "last_s": 1.2, "on": True, "strength": 1}},
        "persons": {"P1": {"tracks": [1]}},
        "scenes": [{"start_s": 0.0, "end_s": 0.8}, {"start_s": 0.8, "end_s": 1.2}],
    }
    page.route("**/api/films/*/analysis", lambda route: route.fulfill(json={"state": "done", "result": found}))
    open_film(page, studio)
    page.locator("summary", has_text="This shot").click()
    with page.expect_response(lambda answer: "layer=after" in answer.url and "shots" in answer.url):
        page.get_by_label("Faces", exact=True).select_option("off")
    assert page.locator(".timeline-span.on").count() == 1
    with page.expect_response("**/frame?*layer=after*"):
        page.get_by_label("P1", exact=True).select_option("off")
    assert page.locator(".timeline-span.on").count() == 0 and page.locator(".timeline-span.off").count() == 1
    with page.expect_response("**/frame?*layer=invented*"):
        page.get_by_label("On the right").select_option("invented")
    with page.expect_response("**/api/films/*/settings*"):
        page.get_by_role("button", name="Back to the defaults").click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("The same on the command line").click()
    page.get_by_text("rtface run").wait_for()
    page.get_by_label("Quality").select_option("Smaller file")
    page.locator("dialog code", has_text="--crf 23").wait_for()
    page.get_by_label("Quality").select_option("Lossless (FFV1)")
    page.locator("dialog code", has_text="film.enhanced.mkv --sidecar --codec ffv1").wait_for()
    page.get_by_label("Type of file").select_option("QuickTime")
    page.locator("dialog code", has_text="film.enhanced.mov").wait_for()
    page.get_by_label("Write to").fill("/elsewhere.mp4")
    page.locator("dialog").get_by_role("button", name="Start", exact=True).click()
    page.locator("dialog .field", has_text="is outside the folders").get_by_label("Write to").fill("x")
    page.locator("dialog .help.bad").first.wait_for(state="hidden")
    assert page.get_by_label("Replace the file").is_hidden()
    page.get_by_text("Only a part").click()
    page.get_by_label("Write to").fill(str(studio.folder / "x.mp4"))
    page.get_by_label("From", exact=True).fill("abc")
    page.locator("dialog").get_by_role("button", name="Start", exact=True).click()
    page.locator("dialog .field", has_text="write 90.5 or").get_by_label("From", exact=True).wait_for()


def test_persons_are_seen_before_the_analysis_ends(page: Any, studio: RunningStudio) -> None:
    state = {
        "state": "running",
        "share": 0.5,
        "scenes": [{"start_s": 0.0, "end_s": 0.8}],
        "tracks": {"1": {"first_s": 0, "last_s": 1.2, "on": True, "strength": 1}},
        "persons": {"P1": {"tracks": [1], "first_s": 0, "seconds": 0.6, "face": None}},
    }
    page.route("**/api/films/*/analysis", lambda route: route.fulfill(json=state))
    page.route("**/api/persons", lambda route: route.fulfill(json={"persons": ["anna"]}))
    open_film(page, studio)
    page.get_by_role("img", name="Timeline: shots: 1, persons: 1").wait_for()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator(".person")).to_have_count(1)
    page.get_by_label("P1", exact=True).select_option("off")
    page.locator("summary", has_text="This shot").click()
    with page.expect_response(keeps("shots")) as kept:
        page.get_by_label("Faces", exact=True).select_option("off")
    assert kept.value.request.post_data_json["shots"] == [{"start_s": 0.0, "end_s": 0.8, "on": False}]
    with page.expect_response("**/settings*"):
        page.get_by_label("P1", exact=True).select_option("on")
    whole = {**state, "scenes": [{"start_s": 0.0, "end_s": 1.2}]}
    with page.expect_response("**/settings*") as kept:
        number = newest(studio).rpartition("/")[2]
        studio.studio.events.publish(f"film/{number}/analysis", {"state": "done", "result": whole})
    assert kept.value.request.post_data_json["shots"] == [{"start_s": 0.0, "end_s": 1.2, "on": False}]
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    with page.expect_response("**/settings*") as kept:
        page.get_by_label("Who is P1?").select_option("anna")
    named = {"on": True, "name": "anna"}
    assert kept.value.request.post_data_json["persons"] == {"P1": named}
    with page.expect_response("**/settings*") as kept:
        page.get_by_label("P1", exact=True).select_option("")
    assert kept.value.request.post_data_json["persons"] == {"P1": {"name": "anna"}}


def test_a_column_of_the_sheet_is_taken_for_the_film(page: Any, studio: RunningStudio) -> None:
    result = {
        "image": "/page/icon.svg",
        "engines": ["rtface-s"],
        "command": "x",
    }
    page.route("**/api/films/*/sheet", lambda route: route.fulfill(json={"state": "done", "result": result}))
    open_film(page, studio)
    page.get_by_role("button", name="rtface-s", exact=True).click()
    expect(page.get_by_label("Engine", exact=True)).to_have_value("rtface-s")


def test_a_film_that_was_left_is_not_changed(page: Any, studio: RunningStudio) -> None:
    open_film(page, studio)
    with page.expect_response("**/settings*"):
        page.get_by_label("Engine", exact=True).select_option("rtface-s")
    page.locator("h1").click()
    held: list[Any] = []
    page.route("**/frame?*", lambda route: held.append(route))
    with page.expect_request("**/frame?*"):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # wanted as soon as the first is shown
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/films/" in request.url else None)
    page.get_by_role("link", name="Queue").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    page.keyboard.press("Control+z")
    page.evaluate("(async () => { for (let k = 0; k < 5; k++) await fetch('/api/about'); })()")
    assert len(held) == 1 and asked == []


def test_the_result_of_a_part_is_seen_beside_that_part(page: Any, studio: RunningStudio) -> None:
    whole, part = (make_film(studio.folder / name, seconds) for name, seconds in (("a.mp4", 1.2), ("b.mp4", 0.5)))
    item = Queue().add(whole, part, start=0.6, overwrite=True).to_dict() | {"state": "done", "shown": True}
    moment = {"at_s": 0.8, "box": [120, 80, 200, 180]}
    page.route("**/api/queue/1/report", lambda route: route.fulfill(json={"moment": moment}))
    page.route("**/api/queue", lambda route: route.fulfill(json={"items": [item | {"still": False}], "running": False}))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/frame/" in request.url else None)
    page.evaluate("location.hash = '#/queue/1'")
    source = "document.querySelector('video[aria-label=Source]')"
    page.wait_for_function(f"() => Math.abs({source}?.currentTime - 0.6) < 0.03")
    page.locator(".wipe.zoomed[data-time^='0.2']").wait_for()  # at the face, enlarged, with the line across it
    assert sorted(url.rpartition("/frame/")[2][:15] for url in asked) == ["result?time=0.2", "source?time=0.8"]
    assert page.get_by_role("slider", name="Wipe").get_attribute("aria-valuenow") == "50"
    box, line = page.locator(".wipe").bounding_box(), page.locator(".wipe-line").bounding_box()
    assert 0.4 < (line["x"] - box["x"]) / box["width"] < 0.6


def test_report_has_persons_and_doubtful_places(page: Any) -> None:
    track = {
        "id": 1,
        "person": "anna",
        "first_s": 0,
        "last_s": 2,
        "mean_width_px": 90,
        "frames": 50,
        "strength": 1,
        "treatment": {"on": True, "reasons": []},
    }
    tracks = [
        track | {"frames_corrected": 30},
        track | {"id": 2, "first_s": 5, "last_s": 6.5, "frames_corrected": 10},
        track | {"id": 3, "person": "P2", "frames_corrected": 0},
        track | {"id": 4, "person": "unknown", "frames_corrected": 5},
    ]
    doubtful = [{"at_s": 5.5, "track": 2, "reasons": ["turned by 40°", "its points jump"]}]
    page.route(
        "**/api/queue/1/report",
        lambda route: route.fulfill(json={"treatments": tracks, "engines": {}, "doubtful": doubtful}),
    )
    page.evaluate("""async () => {
        const { reportCard } = await import("/page/views/queue/report.js");
        document.querySelector("main").append(reportCard({ id: 1 }));
    }""")
    page.get_by_text("anna: seen for 0:03.5, corrected on 40 frames.").wait_for()
    page.get_by_text("turned by 40°, its points jump").wait_for()
    page.get_by_text("P2: seen for 0:02.0, corrected on 0 frames.", exact=True).wait_for()
    assert page.get_by_text("unknown: ").count() == 0
