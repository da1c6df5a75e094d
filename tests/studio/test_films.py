"""Films and the queue over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from rtface.jobs.queue.api import Queue
from rtface_studio.analysis import FilmTasks
from rtface_studio.catalogue import catalogue
from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from tests.studio.conftest import RunningStudio, wait_for
from tests.studio.films import make_film, newest
from tests.studio.test_access import ask

pytest.importorskip("skimage")


def post(studio: RunningStudio, route: str, /, **body: Any) -> tuple[int, Any]:
    return ask(studio, "POST", route, json.dumps(body).encode())


def test_film_outside_missing_or_damaged_is_refused(studio: RunningStudio) -> None:
    (studio.folder / "text.mp4").write_text("no film")
    assert post(studio, "/api/films", path="/etc/passwd")[0] == 400
    assert post(studio, "/api/films", path=str(studio.folder / "none.mp4"))[0] == 404
    status, value = post(studio, "/api/films", path=str(studio.folder / "text.mp4"))
    assert status == 422 and "text.mp4" in value["error"]
    assert ask(studio, "GET", "/api/films/7/frame")[0] == 404
    assert post(studio, "/api/films")[0] == 400


def test_frames_and_settings_of_a_film(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4")
    status, value = post(studio, "/api/films", path=str(film))
    assert status == 200 and (value["width"], value["height"], value["sound"]) == (320, 288, False)
    assert post(studio, "/api/films", path=str(film))[1]["id"] == value["id"]
    settings = quote('{"engine": "rtface-s"}')
    pictures = [
        ask(studio, "GET", f"{newest(studio)}/frame?time=0.5&layer={layer}&settings={settings}")
        for layer in ("before", "after")
    ]
    assert all(status == 200 and data[:2] == b"\xff\xd8" for status, data in pictures) and pictures[0] != pictures[1]
    for wrong in (
        "time=x",
        "time=-1",
        "layer=both",
        "side=9",
        'settings=["a"]',
        'settings={"output":"x"}',
        'settings={"strength":7}',
        "time=60",
    ):
        status, answer = ask(studio, "GET", f"{newest(studio)}/frame?{quote(wrong, safe='=&')}")
        assert status in (400, 422) and "log" not in answer["error"], (wrong, answer)


def test_replaced_films_are_opened_again(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=0.5)
    first = post(studio, "/api/films", path=str(film))[1]
    old = newest(studio)
    make_film(studio.folder / "longer.mp4", seconds=1.0).replace(film)
    for method, route in (("GET", "frame"), ("POST", "start"), ("POST", "analysis")):
        status, value = ask(studio, method, f"{old}/{route}", None if method == "GET" else b"{}")
        assert status == 404 and "film.mp4 was changed" in value["error"]
    second = post(studio, "/api/films", path=str(film))[1]
    assert second["id"] != first["id"] and second["duration_s"] > first["duration_s"]
    assert ask(studio, "GET", "/api/films")[1]["films"] == [second]
    film.unlink()
    film.symlink_to(make_film(studio.folder.parent / "outside.mp4", seconds=0.5))
    assert ask(studio, "GET", f"{newest(studio)}/frame")[0] == 400


def test_films_stay_open_over_a_restart(studio: RunningStudio, start_studio: Any) -> None:
    names = ("kept.mp4", "changed.mp4", "left.mp4")
    kept, changed, left = (
        post(studio, "/api/films", path=str(make_film(studio.folder / name, seconds=0.3)))[1] for name in names
    )
    assert [film["id"] for film in ask(studio, "DELETE", f"/api/films/{left['id']}")[1]["films"]] == [
        changed["id"],
        kept["id"],
    ]
    studio.close()
    make_film(studio.folder / "changed.mp4", seconds=0.5)
    again = start_studio()
    assert ask(again, "GET", "/api/films")[1]["films"] == [kept]
    assert ask(again, "GET", f"/api/films/{kept['id']}/settings")[0] == 200
    assert ask(again, "GET", f"/api/films/{left['id']}")[0] == 404
    assert post(again, "/api/films", path=kept["path"])[1] == kept


def test_copies_are_deleted_where_that_is_asked_for(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=0.3)
    copy = Path(ask(studio, "PUT", "/api/files/upload?name=film.mp4", film.read_bytes())[1]["path"])
    own, copied = (post(studio, "/api/films", path=str(path))[1] for path in (film, copy))
    assert (own["copied"], copied["copied"]) == (False, True)
    assert ask(studio, "DELETE", f"/api/films/{own['id']}?copy=1")[0] == 400
    item = Queue().add(copy, studio.folder / "out.mp4")
    assert ask(studio, "DELETE", f"/api/films/{copied['id']}?copy=1")[0] == 400
    Queue().cancel(item.id)
    assert ask(studio, "DELETE", f"/api/films/{copied['id']}?copy=1")[1]["films"] == [own]
    assert film.is_file() and not copy.exists()


@pytest.mark.slow
def test_frames_of_two_films_by_turns(studio: RunningStudio) -> None:
    films = [make_film(studio.folder / name, seconds=0.5) for name in ("a.mp4", "b.mp4")]
    numbers = [post(studio, "/api/films", path=str(film))[1]["id"] for film in films]

    def look(number: int) -> list[int]:
        return [
            ask(studio, "GET", f"/api/films/{number}/frame?time={at}&settings=%7B%22engine%22:%22rtface-s%22%7D")[0]
            for at in (0.1, 0.2)
        ]

    with ThreadPoolExecutor(4) as tabs:
        assert [*tabs.map(look, numbers * 2)] == [[200, 200]] * 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_no_films(studio: RunningStudio) -> None:
    os.mkfifo(studio.folder / "pipe.mp4")
    assert post(studio, "/api/films", path=str(studio.folder / "pipe.mp4"))[0] == 400


def test_an_output_is_replaced_only_where_that_is_asked_for(studio: RunningStudio) -> None:
    post(studio, "/api/films", path=str(make_film(studio.folder / "film.mp4", seconds=0.3)))
    (there := studio.folder / "there.mp4").write_bytes(b"old")
    film = newest(studio)
    for more, status in (({}, 507), ({"overwrite": "yes"}, 400)):
        assert post(studio, f"{film}/start", output=str(there), **more)[0] == status
    found = post(studio, f"{film}/command", output=str(there), overwrite=True)[1]
    assert found["command"].endswith(" --overwrite")
    status, found = post(studio, f"{film}/start", output=str(there), overwrite=True)
    assert status == 200 and Queue().item(found["item"]).options["overwrite"] is True
    Queue().cancel(found["item"])


def test_a_part_and_a_comparison_are_asked_for(studio: RunningStudio) -> None:
    post(studio, "/api/films", path=str(make_film(studio.folder / "film.mp4", seconds=0.6)))
    film, more = newest(studio), {"start": "0:00.2", "end": "0.5", "compare": True}
    (studio.folder / "there.mp4").touch()
    for name, there in (("there.mp4", True), ("out.mp4", False)):
        found = post(studio, f"{film}/command", output=str(studio.folder / name), **more)[1]
        assert found["exists"] is there and (found["bytes"] is None) is there
    assert "--start 0.2 --end 0.5" in found["command"] and "out.before-after.mp4" in found["command"]
    assert post(studio, f"{film}/start", output=str(studio.folder / "out.mp4"), start="x")[0] == 400
    assert found["crf"] == 17
    status, found = post(studio, f"{film}/start", output=str(studio.folder / "out.mp4"), crf=24, **more)
    assert status == 200, found
    options = Queue().item(found["item"]).options
    assert (options["start"], options["end"]) == (0.2, 0.5) and options["compare"].endswith("out.before-after.mp4")
    assert options["crf"] == 24
    Queue().cancel(found["item"])


def test_quality_is_asked_for_from_that_of_the_settings_on(
    studio: RunningStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(studio, "/api/films", path=str(make_film(studio.folder / "film.mp4", seconds=0.3)))
    monkeypatch.setenv("RTFACE_CRF", "30")
    film = newest(studio)
    assert post(studio, f"{film}/command", output=str(studio.folder / "out.mp4"))[1]["crf"] == 30
    found = post(studio, f"{film}/command", output=str(studio.folder / "out.mkv"), codec="ffv1")[1]
    assert found["crf"] is None and found["bytes"] is not None


def test_refused_outputs_are_said_in_both_languages(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=0.3)
    post(studio, "/api/films", path=str(film))
    (studio.folder / "there.mp4").touch()
    for name in ("film.mp4", "none/out.mp4", "", "out.xyz", "there.mp4", "../out.mp4"):
        status, found = post(studio, f"{newest(studio)}/start", output=f"{studio.folder}/{name}")
        assert status in (400, 507) and f"messages.{found['code']}" in catalogue(), found


@pytest.mark.slow
def test_start_makes_an_item_that_a_process_of_its_own_runs(studio: RunningStudio, start_studio: Any) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=0.5)
    post(studio, "/api/films", path=str(film))
    outside = studio.folder.parent / "out.mp4"
    assert post(studio, f"{newest(studio)}/start", output=str(outside))[0] == 400
    wanted = ask(studio, "GET", f"{newest(studio)}/output")[1]["output"]
    status, value = post(studio, f"{newest(studio)}/start", output=wanted, settings={"engine": "rtface-s"})
    assert status == 200, value
    studio.close()  # the job goes on without the server
    queue = Queue()
    wait_for(lambda: queue.item(value["item"]).state in ("done", "failed"), 60)
    assert queue.item(value["item"]).state == "done", queue.item(value["item"]).message
    assert Path(wanted).is_file()
    again = start_studio()
    (item,) = ask(again, "GET", "/api/queue")[1]["items"]
    assert item["state"] == "done" and item["shown"]
    assert ask(again, "GET", "/api/queue/1/media/result", Range="bytes=4-7")[1] == b"ftyp"
    assert "rtface" in json.dumps(ask(again, "GET", "/api/queue/1/inspect/result")[1])
    assert ask(again, "POST", "/api/queue/1/pause")[0] == 400
    assert ask(again, "POST", "/api/queue/1/jump")[0] == 400
    for place in (0, 10**40, True, "next"):
        assert post(again, "/api/queue/1/move", place=place)[0] == 400
    outside = studio.folder.parent / "outside.json"
    outside.write_text('{"options": {"strength": 1}}')
    sidecar = Path(f"{wanted}.rtface.json")
    sidecar.write_text("[1]")
    assert ask(again, "GET", "/api/queue/1/report")[0] == 422
    sidecar.unlink()
    sidecar.symlink_to(outside)
    assert ask(again, "GET", "/api/queue/1/report")[0] == 400
    for number in (7, 10**30, "9" * 5000):
        assert ask(again, "POST", f"/api/queue/{number}/pause")[0] == 400
        assert ask(again, "GET", f"/api/queue/{number}/media/result")[0] == 400
    assert ask(again, "POST", "/api/queue/1/remove")[1]["items"] == []


def test_media_of_items_outside_the_folders_are_not_served(studio: RunningStudio, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    film = make_film(elsewhere / "film.mp4", seconds=0.3)
    item = Queue().add(film, elsewhere / "out.mp4")
    status, value = ask(studio, "GET", "/api/queue")
    assert status == 200 and not value["items"][0]["shown"] and not value["running"]
    for which in ("source", "result"):
        assert ask(studio, "GET", f"/api/queue/{item.id}/media/{which}")[0] == 400


def test_a_film_named_as_a_page_is_downloaded(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4", seconds=0.3)
    items, kinds = [Queue().add(film, studio.folder / "a.mp4")], list[tuple[str | None, str | None]]()
    for name in ("film.html", "film.svg", "film.xhtml", "film"):
        (other := studio.folder / name).write_bytes(film.read_bytes())
        items.append(Queue().add(other, studio.folder / f"{name}.out.mp4"))
    for item in items:
        connection = http.client.HTTPConnection("127.0.0.1", studio.server.port, timeout=20)
        connection.request(
            "GET", f"/api/queue/{item.id}/media/source", headers={"Authorization": f"Bearer {studio.server.token}"}
        )
        response = connection.getresponse()
        assert response.read() == film.read_bytes()
        kinds.append((response.headers["content-type"], response.headers["content-disposition"]))
        connection.close()
    assert kinds[0] == ("video/mp4", None)
    assert all(kind == "application/octet-stream" and str(how).startswith("attachment") for kind, how in kinds[1:])


def test_analysis_has_faces_and_can_be_stopped(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4")
    post(studio, "/api/films", path=str(film))
    assert post(studio, f"{newest(studio)}/analysis")[1]["state"] in ("none", "waiting", "running")
    found = until(studio, f"{newest(studio)}/analysis")
    assert ask(studio, "GET", found["result"]["persons"]["P1"]["face"])[1].startswith(b"\xff\xd8")
    for label in ("P9", "..", "P1%2f..", "x"):
        assert ask(studio, "GET", f"{newest(studio)}/faces/{label}")[0] == 404
    other = make_film(studio.folder / "other.mp4", seconds=4)
    post(studio, "/api/films", path=str(other))
    post(studio, f"{newest(studio)}/analysis")
    post(studio, f"{newest(studio)}/analysis", action="stop")
    assert until(studio, f"{newest(studio)}/analysis")["state"] == "stopped"


@pytest.mark.slow
def test_another_size_is_analysed_anew(studio: RunningStudio) -> None:
    post(studio, "/api/films", path=str(make_film(studio.folder / "film.mp4", seconds=0.5)))
    route, widths = f"{newest(studio)}/analysis", list[float]()
    for scale in ("", "2", "2"):
        assert post(studio, route, scale=scale)[1]["state"] in (
            ("done",) if len(widths) == 2 else ("waiting", "running")
        )
        widths.append(until(studio, route)["result"]["tracks"]["1"]["mean_width_px"])
    assert widths[1] == widths[2] == pytest.approx(2 * widths[0], rel=0.05)
    post(studio, route, scale="100p")
    assert until(studio, route)["error"]["code"] == "scale_smaller"


def test_pictures_that_a_killed_studio_left_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (left := tmp_path / "rtface-studio-left").mkdir()
    for name in ("lock", "P1.png"):
        (left / name).touch()
    first, second = (Studio(AllowedFolders([tmp_path]), tmp_path) for _ in range(2))
    folders = [FilmTasks(studio).folder(1).parent for studio in (first, second)]
    assert not left.exists() and sorted(tmp_path.iterdir()) == sorted(folders)
    first.closing.close()
    second.closing.close()
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_contact_sheet_of_a_film(studio: RunningStudio) -> None:
    film = make_film(studio.folder / "film.mp4")
    post(studio, "/api/films", path=str(film))
    assert post(studio, f"{newest(studio)}/sheet", settings={"codec": "ffv1"})[0] == 400
    assert ask(studio, "GET", f"{newest(studio)}/sheet.png")[0] == 404
    post(studio, f"{newest(studio)}/sheet", settings={"grain": "none"})
    found = until(studio, f"{newest(studio)}/sheet")
    assert found["state"] == "done", found
    assert "--grain none" in found["result"]["command"]
    assert ask(studio, "GET", f"{newest(studio)}/sheet.png")[1][1:4] == b"PNG"


def until(studio: RunningStudio, route: str) -> Any:
    """The state of a task, once it has ended."""
    look = lambda: ask(studio, "GET", route)[1]  # noqa: E731
    return wait_for(lambda: found if (found := look())["state"] not in ("none", "waiting", "running") else None, 60)


@pytest.mark.parametrize("then", ["3", ""])
def test_of_sizes_in_quick_succession_the_last_is_analysed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    studio, begun, finished, tell = Studio(AllowedFolders([tmp_path]), tmp_path), list[str](), list[str](), list[Any]()

    async def look() -> None:
        tasks, states = FilmTasks(studio), asyncio.Queue[str]()
        may_end, killed, dead, told = (asyncio.Event() for _ in range(4))

        async def child(*words: str, receive: Any) -> Any:
            begun.append("".join(word.partition("=")[2] for word in words if word.startswith("--scale")))
            tell.append(receive)
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                killed.set()
                await dead.wait()  # a process takes time to end
                raise
            finished.append(begun[-1])
            return {"scale": begun[-1]}

        async def until(state: str) -> None:
            while await states.get() != state:
                pass

        monkeypatch.setattr("rtface_studio.analysis.json_of", child)
        monkeypatch.setattr(studio.events, "publish", lambda _, state, keep: states.put_nowait(state["state"]))
        await tasks.analyse(1, tmp_path, {})
        await until("running")
        asked = [asyncio.ensure_future(tasks.analyse(1, tmp_path, {"scale": scale})) for scale in ("2", then)]
        await killed.wait()
        dead.set()
        await asyncio.gather(*asked)
        await until("running")
        tell[0]({"event": "progress", "tracks": {"1": "of the first size"}})  # it was on its way
        asyncio.get_running_loop().call_soon_threadsafe(told.set)
        await told.wait()
        assert "tracks" not in tasks.of(1, "analysis").state
        may_end.set()
        await until("done")
        await tasks.analyse(1, tmp_path, {"scale": then})
        assert tasks.of(1, "analysis").state == {"state": "done", "result": {"scale": then}}

    with studio.closing:
        asyncio.run(look())
    assert (begun, finished) == (["", then], [then])
