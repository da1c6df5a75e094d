"""A photograph in the studio, from opening to its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.item import ItemProgress
from rtface_studio.queue import seconds_of
from tests.studio.conftest import RunningStudio, check_accessible, wait_for
from tests.studio.films import newest
from tests.studio.test_access import ask
from tests.studio.test_films import post

pytest.importorskip("skimage")


def make_photo(path: Path) -> Path:
    """Writes a blurred portrait (scikit-image's astronaut)."""
    from skimage.data import astronaut

    face = cv2.resize(np.asarray(astronaut()[:256, 100:356]), (96, 96), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), cv2.resize(face, (256, 256), interpolation=cv2.INTER_CUBIC)[..., ::-1])
    return path


def enhance(studio: RunningStudio, name: str = "photo.png") -> Path:
    """Opens a photo and enhances it through the queue; gives the result's path."""
    value = post(studio, "/api/films", path=str(make_photo(studio.folder / name)))[1]
    assert (value["kind"], value["width"], value["height"]) == ("still", 256, 256)
    output = ask(studio, "GET", f"{newest(studio)}/output")[1]["output"]
    status, started = post(studio, f"{newest(studio)}/start", output=output, settings={"strength": 0.9})
    assert status == 200, started
    first = lambda: ask(studio, "GET", "/api/queue")[1]["items"][0]  # noqa: E731
    item = wait_for(lambda: found if (found := first())["state"] in ("done", "failed") else None, 60)
    assert item["state"] == "done" and item["still"] and Path(output).is_file(), item
    return Path(output)


@pytest.mark.slow
def test_photo_is_enhanced_through_the_queue(studio: RunningStudio) -> None:
    enhance(studio)
    before, after = (ask(studio, "GET", f"{newest(studio)}/frame?layer={layer}")[1] for layer in ("before", "after"))
    assert before[:2] == after[:2] == b"\xff\xd8" and before != after
    for which in ("source", "result"):
        assert ask(studio, "GET", f"/api/queue/1/frame/{which}")[1][:2] == b"\xff\xd8"
    report = ask(studio, "GET", "/api/queue/1/report")[1]
    (face,) = report["treatments"]
    assert face["frames_corrected"] == 1 and report["options"]["strength"] == 0.9
    assert face["spans"][0]["strength"] * 0.9 == pytest.approx(face["strength"], abs=0.002)
    assert post(studio, "/api/queue/1/verify")[1]["same"]


def test_the_time_of_all_that_waits_is_told(studio: RunningStudio) -> None:
    for name in ("a", "b"):
        Queue().add(make_photo(studio.folder / f"{name}.png"), studio.folder / f"{name}.out.png")
    assert seconds_of(replace(Queue().items()[0], input=f"/{'x' * 300}.mp4")) is None  # no name that can be asked for
    left = lambda: ask(studio, "GET", "/api/queue")[1]["left"]  # noqa: E731
    one = wait_for(lambda: found if (found := left())["all"] else None, 60)
    assert one["seconds"] > 0
    assert 1.5 * one["seconds"] <= one["most"]
    assert post(studio, "/api/queue/1/pause")[1]["left"]["seconds"] == one["seconds"] / 2
    assert post(studio, "/api/queue/2/cancel")[1]["left"] == {"seconds": None, "most": None, "all": True}


def test_a_run_s_own_speed_corrects_what_was_announced(studio: RunningStudio) -> None:
    for name in ("a", "b"):
        Queue().add(make_photo(studio.folder / f"{name}.png"), studio.folder / f"{name}.out.png")
    left = lambda: ask(studio, "GET", "/api/queue")[1]["left"]  # noqa: E731
    wait_for(lambda: left()["all"], 60)
    with (queue := Queue()).store.runner():  # a runner that works on nothing
        queue.store.take()
        queue.store.note_progress(1, ItemProgress(0.5, 12, 1.0, 6.0))  # half of what was to take 4 s takes 6 s
        assert left() == {"seconds": 6.0 + 12.0, "most": 1.25 * 18.0, "all": True}


@pytest.mark.slow
def test_a_photo_that_no_browser_shows_is_shown(studio: RunningStudio) -> None:
    output = enhance(studio, "photo.tif")
    before, after = (ask(studio, "GET", f"{newest(studio)}/frame?layer={layer}")[1] for layer in ("before", "after"))
    pictures = [ask(studio, "GET", f"/api/queue/1/frame/{which}")[1] for which in ("source", "result")]
    shown = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (before, after, *pictures)]
    assert {image.shape for image in shown} == {(256, 256, 3)}
    # What the page shows is what the file holds, but for two codings as JPEG.
    assert np.abs(shown[3].astype(int) - cv2.imread(str(output))).mean() < 2
    assert np.abs(shown[0].astype(int) - shown[2]).mean() < 2 < np.abs(shown[1].astype(int) - shown[0]).max()


@pytest.mark.slow
def test_result_of_a_photo_on_a_narrow_page(page: Any, studio: RunningStudio) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    enhance(studio)
    page.goto(page.url.split("#")[0] + "#/queue/1")
    page.locator(".wipe[data-time]").wait_for()
    page.get_by_text("Kind of origin (IPTC)").wait_for()
    page.get_by_text("Faces followed: 1; corrected: 1. Engine: rtface-m.").wait_for()
    assert not page.locator("video").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    check_accessible(page)


def test_a_face_that_is_left_alone_can_be_enhanced(page: Any, studio: RunningStudio) -> None:
    from skimage.data import astronaut

    cv2.imwrite(str(studio.folder / "clean.png"), np.asarray(astronaut()[:256, 100:356])[..., ::-1])
    page.get_by_role("button", name="Choose a film").click()
    page.locator("dialog .chooser-row", has_text="clean.png").click()
    page.get_by_text("1 is left alone: already clean, so nothing to gain.").wait_for(timeout=60_000)
    assert "film" not in page.locator("main").inner_text().lower().replace("another film or photo", "")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("The result would be a re-encoded copy").wait_for()
    assert page.get_by_label("Write to").input_value().endswith("clean.unchanged.png")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Enhance anyway").click()
    page.get_by_text("1 face on this frame.", exact=True).wait_for(timeout=60_000)
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("The same on the command line").click()
    page.get_by_text("--correct always").wait_for()
    assert page.get_by_text("The result would be a re-encoded copy").count() == 0
