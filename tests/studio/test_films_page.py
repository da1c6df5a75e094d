"""From an empty page to an enhanced film, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from tests.studio.conftest import RunningStudio
from tests.studio.films import make_film

pytest.importorskip("skimage")


def open_film(page: Any, studio: RunningStudio) -> None:
    make_film(studio.folder / "film.mp4")
    page.get_by_role("button", name="Choose a film").click()
    page.locator("dialog .chooser-row", has_text="film.mp4").click()
    page.locator(".wipe[data-time]").wait_for(timeout=60_000)


def test_film_is_enhanced_in_four_clicks(page: Any, studio: RunningStudio) -> None:
    from axe_playwright_python.sync_playwright import Axe

    open_film(page, studio)  # two clicks
    page.get_by_text("Persons: 1.").wait_for(timeout=60_000)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    assert not found.response["violations"], found.generate_report()
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator("dialog").get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("link", name="Show it").click()
    page.get_by_role("link", name="Download").wait_for(timeout=60_000)
    page.get_by_text("What the file says").wait_for()
    assert page.locator("video").count() == 2
    assert (studio.folder / "film.enhanced.mp4").is_file()


def test_wipe_by_keyboard_and_undo(page: Any, studio: RunningStudio) -> None:
    open_film(page, studio)
    wipe = page.get_by_role("slider", name="Wipe")
    wipe.focus()
    page.keyboard.press("Home")
    assert wipe.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("ArrowRight")
    assert wipe.get_attribute("aria-valuenow") == "2"
    region = page.get_by_label("Region")
    region.select_option("head")
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    page.wait_for_function("document.querySelector('select[id]') && [...document.querySelectorAll('select')]"
                           ".some(s => s.value === 'face')")
    page.keyboard.press(".")
    page.wait_for_function("Number(document.querySelector('.wipe').dataset.time) > 0.55")


def test_queue_without_items_says_what_to_do(page: Any) -> None:
    page.get_by_role("link", name="Queue").click()
    page.get_by_text("Nothing is in the queue").wait_for()


@pytest.mark.parametrize("width", [390, 3840])
def test_nothing_is_wider_than_the_window(page: Any, studio: RunningStudio, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    open_film(page, studio)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
