"""Masks of the damage of photographs in the studio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import av
import cv2
import numpy as np
import pytest

from rtface.errors import InputError
from rtface.frame import Box, Bytes, Frame
from rtface.repair.repairer import Proposal
from tests.studio.conftest import RunningStudio, check_accessible, expect, wait_for
from tests.studio.test_access import ask
from tests.studio.test_films import post

WIDTH, HEIGHT = 96, 64
GREEN = 0, 200, 0


class FakeRepairer:
    """Proposes the left quarter of a photograph, and fills with green."""

    regions: list[Box | None]
    proposed = 0

    def __init__(self) -> None:
        self.regions = []

    def propose(self, frame: Frame) -> Proposal:
        self.proposed += 1
        if frame.image.width == 7:
            raise InputError("narrow: cannot be proposed; scan it again", code="narrow")
        mask = np.zeros((frame.image.height, frame.image.width), np.uint8)
        mask[:, : frame.image.width // 4] = 255
        return Proposal(mask, 0.25, 0.0)

    def fill(self, frame: Frame, mask: Bytes, region: Box | None = None) -> Frame:
        self.regions.append(region)
        pixels = frame.image.to_ndarray(format="rgb24")
        pixels[mask > 127] = GREEN
        return replace(frame, image=av.VideoFrame.from_ndarray(pixels, "rgb24"))


@pytest.fixture(autouse=True)
def repairer(monkeypatch: pytest.MonkeyPatch) -> FakeRepairer:
    fake = FakeRepairer()

    def opened(*_: object) -> FakeRepairer:
        return fake

    monkeypatch.setattr("rtface_studio.damage.open_repairer", opened)
    return fake


def open_photo(studio: RunningStudio, name: str = "photo.png", width: int = WIDTH, height: int = HEIGHT) -> str:
    """Opens a grey photograph; gives the address of its routes."""
    cv2.imwrite(str(studio.folder / name), np.full((height, width, 3), 120, np.uint8))
    status, value = post(studio, "/api/films", path=str(studio.folder / name))
    assert status == 200, value
    return f"/api/films/{value['id']}"


def decoded(data: bytes) -> Any:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), int)


def layer(mask: Any) -> bytes:
    """A mask as the page sends it."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = mask
    return cv2.imencode(".png", pixels)[1].tobytes()


def marked(left: int, right: int) -> Any:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, left:right] = 255
    return mask


def kept(studio: RunningStudio, name: str = "photo") -> Any:
    path = studio.folder / "damage" / f"{name}.png.png"
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.exists() else None


def test_a_mask_is_proposed_changed_filled_and_kept(studio: RunningStudio, repairer: FakeRepairer) -> None:
    photo = open_photo(studio)
    proposed = decoded(ask(studio, "GET", f"{photo}/mask")[1])
    assert proposed.shape == (HEIGHT, WIDTH, 4) and (proposed[0, :, 3] > 0).sum() == WIDTH // 4
    assert tuple(proposed[0, 0]) == (0, 0, 255, 255)
    assert decoded(ask(studio, "GET", f"{photo}/whole")[1]).shape == (HEIGHT, WIDTH, 3)
    assert ask(studio, "PUT", f"{photo}/mask", layer(marked(48, 96)))[1] == {"state": "proposed"}
    assert kept(studio) is None
    part = decoded(ask(studio, "GET", f"{photo}/filled?left=40&top=8&right=300&bottom=40")[1])
    assert part.shape == (32, 56, 3)
    assert abs(part[16, 40] - GREEN).max() < 12 > abs(part[16, 2] - 120).max()
    assert repairer.regions == [(40, 8, 96, 40)] and repairer.proposed == 1
    assert ask(studio, "PUT", f"{photo}/mask?keep=1", layer(marked(0, 9)))[1] == {"state": "kept"}
    assert np.array_equal(kept(studio), marked(0, 9))
    again = decoded(ask(studio, "GET", f"{photo}/mask")[1])
    assert np.array_equal(again[..., 3], marked(0, 9)) and repairer.proposed == 1
    assert (decoded(ask(studio, "GET", f"{photo}/mask?again=1")[1])[0, :, 3] > 0).sum() == WIDTH // 4


def test_a_kept_mask_is_that_of_the_run_until_switched_off(studio: RunningStudio) -> None:
    photo = open_photo(studio)
    run = {"output": str(studio.folder / "out.png")}
    assert ask(studio, "GET", f"{photo}/settings")[1] == {"shots": [], "persons": {}}
    ask(studio, "PUT", f"{photo}/mask?keep=1", layer(marked(0, 9)))
    settings = ask(studio, "GET", f"{photo}/settings")[1]
    assert settings["repair"] is True
    command = post(studio, f"{photo}/command", **run, settings=settings)[1]["command"]
    assert f"--repair {studio.folder / 'damage' / 'photo.png'}" in command
    assert "--repair" not in post(studio, f"{photo}/command", **run, settings={})[1]["command"]
    (studio.folder / "damage" / "photo.png.png").unlink()
    assert "--repair" not in post(studio, f"{photo}/command", **run, settings=settings)[1]["command"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"II*\0" + layer(marked(0, 9))[4:],
        layer(np.zeros((8, 8))),
        cv2.imencode(".png", marked(0, 9))[1].tobytes(),
    ],
    ids=len,
)
def test_what_is_no_mask_is_refused(studio: RunningStudio, data: bytes) -> None:
    photo = open_photo(studio)
    status, answer = ask(studio, "PUT", f"{photo}/mask?keep=1", data)
    assert status == 400 and answer["code"] == "mask_layer" and kept(studio) is None


@pytest.mark.parametrize("part", ["left=0&top=0", "left=96&top=0&right=99&bottom=9", "left=5&top=5&right=5&bottom=9"])
def test_a_part_outside_the_photograph_is_refused(studio: RunningStudio, part: str) -> None:
    assert ask(studio, "GET", f"{open_photo(studio)}/filled?{part}")[0] == 400


def test_masks_stay_in_the_allowed_folders(studio: RunningStudio, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (studio.folder / "damage").symlink_to(elsewhere)
    status, answer = ask(studio, "PUT", f"{open_photo(studio)}/mask?keep=1", layer(marked(0, 9)))
    assert status == 400 and "outside" in answer["error"] and not list(elsewhere.iterdir())
    assert ask(studio, "GET", "/api/films/7/mask")[0] == 404


def test_a_mask_of_another_size_is_refused_in_one_line(studio: RunningStudio) -> None:
    photo = open_photo(studio)
    (studio.folder / "damage").mkdir()
    cv2.imwrite(str(studio.folder / "damage" / "photo.png.png"), np.zeros((9, 9), np.uint8))
    status, answer = ask(studio, "GET", f"{photo}/mask")
    assert status == 400 and "size" in answer["error"] and "\n" not in answer["error"]


def test_a_mask_from_elsewhere_waits_for_approval(studio: RunningStudio) -> None:
    photo = open_photo(studio)
    (studio.folder / "damage").mkdir()
    cv2.imwrite(str(studio.folder / "damage" / "photo.png.png"), marked(0, 9))
    assert np.array_equal(decoded(ask(studio, "GET", f"{photo}/mask")[1])[..., 3], marked(0, 9))
    assert post(studio, f"{photo}/mask")[1] == {"state": "looked"}
    post(studio, f"{photo}/album", action="accept")
    assert ask(studio, "GET", f"{photo}/settings")[1]["repair"] is True


def test_a_replaced_photograph_is_not_served(studio: RunningStudio, tmp_path: Path) -> None:
    photo, outside = open_photo(studio), tmp_path / "outside.png"
    (studio.folder / "photo.png").rename(outside)
    (studio.folder / "photo.png").symlink_to(outside)
    for part in ("whole", "mask", "filled?left=0&top=0&right=9&bottom=9", "album"):
        assert ask(studio, "GET", f"{photo}/{part}")[0] in (400, 404), part


def test_photographs_too_large_for_the_page(studio: RunningStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface_studio.damage.MOST_PIXELS", WIDTH * HEIGHT - 1)
    status, answer = ask(studio, "GET", f"{open_photo(studio)}/whole")
    assert status == 400 and "rtface run --repair" in answer["error"]


def test_an_album_keeps_only_what_was_looked_at(studio: RunningStudio) -> None:
    first, second, *_ = (open_photo(studio, f"{name}.png") for name in "bac")
    open_photo(studio, "d.png", width=7)
    ask(studio, "PUT", f"{second}/mask?keep=1", layer(marked(0, 9)))
    album = lambda: ask(studio, "GET", f"{first}/album")[1]  # noqa: E731
    states = lambda: {photo["name"]: photo["state"] for photo in album()["photos"]}  # noqa: E731
    assert list(states()) == ["a.png", "b.png", "c.png", "d.png"]
    post(studio, f"{first}/album", action="propose")
    task = wait_for(lambda: found if (found := album()["task"])["state"] == "done" else None)
    assert [message["code"] for message in task["result"]["failed"]] == ["narrow"]
    assert states() == {"a.png": "kept", "b.png": "proposed", "c.png": "proposed", "d.png": "none"}
    assert post(studio, f"{first}/mask")[1] == {"state": "looked"}
    ask(studio, "PUT", f"{first}/mask", layer(marked(3, 5)))
    post(studio, f"{first}/album", action="accept")
    assert states() == {"a.png": "kept", "b.png": "kept", "c.png": "proposed", "d.png": "none"}
    assert np.array_equal(kept(studio, "b"), marked(3, 5)) and kept(studio, "c") is None


def test_a_deleted_copy_takes_its_mask_along(studio: RunningStudio) -> None:
    picture = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    copy = Path(ask(studio, "PUT", "/api/files/upload?name=photo.png", picture)[1]["path"])
    photo = f"/api/films/{post(studio, '/api/films', path=str(copy))[1]['id']}"
    assert ask(studio, "PUT", f"{photo}/mask?keep=1", layer(marked(0, 9)))[0] == 200
    assert (copy.parent / "damage" / "photo.png.png").is_file()
    assert ask(studio, "DELETE", f"{photo}?copy=1")[0] == 200
    assert not list((copy.parent / "damage").iterdir())


def red(page: Any, x: float, y: float) -> int:
    """How opaque the page's mask is at a pixel."""
    script = "([x, y]) => document.querySelector('.damage-mask').getContext('2d').getImageData(x, y, 1, 1).data[3]"
    return page.evaluate(script, [x, y])


def stroke(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Paints a line over the photograph, from and to points in shares of its size."""
    box = page.locator(".wipe-pictures").bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    drag(page, x0, y0, x1 - x0, y1 - y0)


def drag(page: Any, x: float, y: float, right: float, down: float, button: str = "left") -> None:
    """Drags from a place of the window."""
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up(button=button)


def show_damage(page: Any, photo: str) -> None:
    page.goto(page.url.split("#")[0] + f"#{photo.removeprefix('/api')}/damage")
    page.locator(".wipe[data-ready]").wait_for()


def test_a_person_corrects_the_mask_fills_and_keeps_it(page: Any, studio: RunningStudio) -> None:
    photo = open_photo(studio, width=480, height=320)
    show_damage(page, photo)
    assert red(page, 20, 100) == 255 and red(page, 300, 100) == 0
    page.keyboard.press("]")
    stroke(page, (0.5, 0.5), (0.75, 0.5))
    assert red(page, 300, 160) == 255
    page.keyboard.press("e")
    stroke(page, (0.05, 0.1), (0.2, 0.1))
    assert red(page, 50, 32) == 0 and red(page, 300, 160) == 255
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('.damage-mask')")
    assert red(page, 50, 32) == 255 and red(page, 300, 160) == 0
    page.keyboard.press("Control+Shift+z")
    wait_for(lambda: red(page, 300, 160) == 255)
    assert page.locator(".wipe-line").is_hidden()
    page.keyboard.press("f")
    page.get_by_text("Filled in").wait_for()
    assert page.locator(".wipe-line").is_visible() and page.locator(".damage-mask").is_hidden()
    filled = "document.querySelector('.wipe-pictures > canvas').getContext('2d').getImageData(300, 160, 1, 1).data"
    assert np.abs(np.subtract(page.evaluate(f"[...{filled}]")[:3], GREEN)).max() < 12
    check_accessible(page)
    page.get_by_role("button", name="Keep the mask").click()
    page.get_by_text("The mask is kept.").wait_for()
    assert kept(studio)[160, 300] == 255 and kept(studio)[32, 300] == 0
    page.get_by_role("link", name="Back to the photo").click()
    expect(page.get_by_label("Fill the damage that the kept mask marks")).to_be_checked()
    page.get_by_role("link", name="Repair damage").click()
    page.get_by_text("The mask is kept.").wait_for()
    assert red(page, 300, 160) == 255
    page.get_by_role("button", name="No damage").click()
    assert red(page, 300, 160) == red(page, 20, 100) == 0


def test_zoom_pan_and_the_visible_part_first(page: Any, studio: RunningStudio) -> None:
    photo = open_photo(studio, width=480, height=320)
    show_damage(page, photo)
    view, surface = page.locator(".wipe"), page.locator(".wipe-pictures")
    box = surface.bounding_box()
    x, y = box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.mouse.wheel(0, -2000)
    page.get_by_role("button", name="400 %").wait_for()
    now = surface.bounding_box()
    assert now["width"] == 4 * 480
    assert abs(now["x"] + 0.75 * now["width"] - x) < 2 and abs(now["y"] + 0.5 * now["height"] - y) < 2
    scroll = lambda: view.evaluate("(view) => [view.scrollLeft, view.scrollTop]")  # noqa: E731
    left, top = scroll()
    page.keyboard.down(" ")
    drag(page, x, y, -60, -40)
    page.keyboard.up(" ")
    drag(page, x, y, 20, 10, button="middle")
    assert scroll() == [left + 40, top + 30] and red(page, 360, 160) == 0
    drag(page, x, y, 5, 0)  # near the middle of the photograph, as it was moved
    assert red(page, 0.75 * 480 + 12, 160 + 8) == 255
    asked: list[list[int]] = []

    def note(request: Any) -> None:
        if "/filled" in request.url:
            asked.append([int(float(value)) for _, value in parse_qsl(urlsplit(request.url).query)])

    page.on("request", note)
    page.get_by_role("button", name="Fill", exact=True).click()
    page.get_by_text("Filled in").wait_for()
    first, whole = asked
    assert whole == [0, 0, 480, 320] and 0 < first[0] < 360 < first[2] <= 480 and 0 < first[1] < 160 < first[3] < 320
    page.keyboard.press("-")
    page.get_by_role("button", name="320 %").wait_for()


def test_the_pressure_of_a_pen_is_the_size(page: Any, studio: RunningStudio) -> None:
    show_damage(page, open_photo(studio, width=480, height=320))
    page.keyboard.press("n")
    page.evaluate("""() => {
        const surface = document.querySelector(".wipe-pictures"), view = surface.parentElement;
        view.setPointerCapture = () => {}; // there is no such pen
        const box = surface.getBoundingClientRect();
        const fire = (target, kind, x, pressure, button) => target.dispatchEvent(new PointerEvent(kind, {
            pointerType: "pen", button, pressure, bubbles: true, cancelable: true,
            clientX: box.left + x * box.width, clientY: box.top + box.height / 2 }));
        for (const [x, pressure, button] of [[0.25, 0.2, 0], [0.5, 1, 0], [0.25, 0.8, 5]]) { // 5: the eraser end
            fire(surface, "pointerdown", x, pressure, button);
            fire(view, "pointerup", x, 0, button);
        }
    }""")
    assert [red(page, 240, y) > 0 for y in (160, 164, 167)] == [True, True, False]
    assert red(page, 120, 160) == 0
    page.keyboard.press("Control+z")
    wait_for(lambda: red(page, 120, 160) > 100)
    assert red(page, 120, 162) == 0, "a lighter stroke is thinner"


def test_an_album_is_looked_through_and_accepted(page: Any, studio: RunningStudio) -> None:
    first, _, _ = (open_photo(studio, f"{name}.png", 480, 320) for name in "abc")
    show_damage(page, first)
    page.get_by_role("heading", name="Photo 1 of 3").wait_for()
    stroke(page, (0.5, 0.5), (0.75, 0.5))
    page.keyboard.press("ArrowRight")  # the stroke is sent, though it is not kept
    page.get_by_role("heading", name="b.png").wait_for()
    page.get_by_role("button", name="Accept all that I have looked at (2)").wait_for()
    page.get_by_role("button", name="Propose for all").click()
    cards = page.locator(".film-card")
    expect(cards.nth(2)).to_contain_text("proposed")
    page.get_by_role("button", name="Previous photo").click()
    page.get_by_role("heading", name="a.png").wait_for()
    page.locator(".wipe[data-ready]").wait_for()
    assert red(page, 300, 160) == 255
    page.get_by_role("button", name="Accept all that I have looked at (2)").click()
    page.get_by_text("The masks are kept beside the photos.").wait_for()
    assert [cards.nth(k).locator(".badge").inner_text() for k in range(3)] == ["kept", "kept", "proposed"]
    assert kept(studio, "a")[160, 300] == 255 and kept(studio, "b")[160, 300] == 0 and kept(studio, "c") is None
    check_accessible(page)


def test_a_mask_can_be_painted_where_none_can_be_proposed(page: Any, studio: RunningStudio) -> None:
    def answer(route: Any) -> None:
        route.abort() if route.request.method == "GET" else route.fallback()

    page.context.route("**/mask", answer)
    photo = open_photo(studio, width=480, height=320)
    page.goto(page.url.split("#")[0] + f"#{photo.removeprefix('/api')}/damage")
    page.locator(".toast.bad").wait_for()
    stroke(page, (0.5, 0.5), (0.75, 0.5))
    page.keyboard.press("k")
    page.get_by_text("The mask is kept.").wait_for()
    assert kept(studio)[160, 300] == 255 and kept(studio)[160, 20] == 0
