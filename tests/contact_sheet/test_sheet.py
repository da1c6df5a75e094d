"""``rtface try``: what the sheet shows is what a run gives there; its files, its command line and its errors."""

from __future__ import annotations

import base64
import shlex
from concurrent.futures import Future
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import rtface
from rtface.cli import early_checks
from rtface.cli.app import app
from rtface.config.options import Options
from rtface.contact_sheet.draw import write_text
from rtface.contact_sheet.page import page as page_of
from rtface.contact_sheet.restore import SheetRow, Variant, at_strength
from rtface.contact_sheet.sheet import Sheet, SheetOptions, make_sheet
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Interrupted
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.pipeline import runtime
from rtface.protocols import Restored
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, film, still, write_film

SCENE = 40
"""Frames of a scene."""
HALF, FULL = Variant("fake", 0.5), Variant("fake", 1.0)


class SlowMemory(FakeEngine):
    """A recurrent engine that needs 20 frames to be itself: its pattern grows with the answers before."""

    recurrent = True

    def __init__(self, cell: int = 32) -> None:
        super().__init__()
        y, x = np.mgrid[: self.size, : self.size] // cell
        self._grid = np.where((x + y) % 2, 0.15, -0.15).astype(np.float32)

    def submit(self, crops: np.ndarray, after: Any = None) -> Future[Restored]:
        before = after.result().state if after is not None else 0
        answer: Future[Restored] = Future()
        share = np.float32(min(1.0, (before + 1) / 20))
        answer.set_result(Restored(np.clip(crops + share * self._grid, 0, 1), state=before + 1))
        return answer


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines(SlowMemory())
    monkeypatch.setattr(runtime, "EngineSet", lambda *a, **k: made)
    return made


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of 1.6 s, the portrait in another size."""

    def picture(t: int) -> np.ndarray:
        shown, _ = portrait(shift=(0.3 * t - 25, 0.0), scale=(0.9, 0.6, 1.1)[t // SCENE])
        return shown[:, :, :: -1 if t // SCENE == 1 else 1]

    return write_film(
        tmp_path_factory.mktemp("film") / "in.mkv", map(picture, range(3 * SCENE)), codec="ffv1", options={"g": "25"}
    )


def sheet_of(input: Path, *variants: Variant, count: int = 6, **options: Any) -> Sheet:
    return make_sheet(input, Options(**options), SheetOptions(variants or (HALF, FULL), count, 600.0))


def test_names_that_are_not_utf_8_can_be_drawn() -> None:
    sheet = np.zeros((40, 200, 3), np.uint8)
    write_text(sheet, "latin\udce9.mp4", (0, 27), 17, (255, 255, 255))
    assert sheet.any()


@pytest.mark.slow
def test_a_crop_is_that_of_the_runs_frame(scenes: Path, tmp_path: Path, memory: Engines) -> None:
    """A run over the whole film, whose engine remembers from each scene's first frame on."""
    sheet = sheet_of(scenes, correct="always", count=3)
    assert len({int(row.shown.time * 25 / SCENE) for row in sheet.rows}) > 1
    out = tmp_path / "out.mkv"
    rtface.run(scenes, out, correct="always", strength=0.5)
    untouched, enhanced = (crops_of(path, sheet.rows) for path in (scenes, out))
    for row, before, after in zip(sheet.rows, untouched, enhanced, strict=True):
        assert np.array_equal(row.shown.before, before)
        change = np.abs(after - before).mean()
        assert change > 0.5
        shown = at_strength(row.shown.before, row.crops["fake"], 0.5)
        # Without a lead-in the difference is nearly the whole change.
        assert np.abs(shown - after).mean() < 0.3 * change, row.shown.time


def crops_of(path: Path, rows: list[SheetRow]) -> list[np.ndarray]:
    """The frames of a film where the rows show them, cut as they are."""
    source, device = FileSource(path), CpuDevice()
    found: dict[int, np.ndarray] = {}
    for item in source:
        for row in rows:
            if isinstance(item, Frame) and item.pts == row.shown.pts:
                found[item.pts] = device.view(item).crop(row.shown.matrix, (row.shown.side,) * 2).astype(float)
    source.close()
    return [found[row.shown.pts] for row in rows]


def test_files_hold_everything_and_name_the_command(
    scenes: Path, tmp_path: Path, memory: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(early_checks, "check_names", lambda options: None)
    film_ = tmp_path / "a film's.mkv"
    film_.write_bytes(scenes.read_bytes())
    result = CliRunner().invoke(
        app,
        [
            "try",
            str(film_),
            "--engines",
            "fake",
            "--strengths",
            "50%,1",
            "--count",
            "2",
            "--correct",
            "always",
            "--budget",
            "600",
        ],
    )
    assert result.exit_code == 0, result.stderr
    words = shlex.split(result.stdout)
    assert words == [
        "rtface",
        "run",
        str(film_),
        "a film's.enhanced.mkv",
        "--engine",
        "fake",
        "--strength",
        "1",
        "--correct",
        "always",
    ]
    sheet = cv2.imread(str(tmp_path / "a film's.try.png"))
    assert sheet.shape[1] > 3 * 320
    page = Page((tmp_path / "a film's.try.html").read_text(encoding="utf-8"))
    assert page.radios == [False, True] * 2
    assert page.ranges == 2
    assert page.loads == {"data"}
    assert page.title == "a film's.mkv: 2 faces"
    # Of each face the input and the variant that is checked are seen, also without a script.
    assert page.images[:3] == [
        ("face 1, input", True),
        ("face 1, fake, strength 0.5", False),
        ("face 1, fake, strength 1", True),
    ]
    assert [seen for _, seen in page.images[3:]] == [True, False, True]
    assert page.labels <= page.ids
    assert len(page.labels) == 2
    again = CliRunner().invoke(app, ["try", str(film_), "--engines", "fake"])
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_the_pages_images_are_the_crops_exactly(memory: Engines, tmp_path: Path) -> None:
    (row,) = sheet_of(still(tmp_path / "a.png"), correct="always").rows
    page = Page(page_of([row], [FULL], "A face", "rtface", lambda variant: "rtface run", "clear"))
    data = [np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8) for address in page.addresses]
    before, after = (cv2.imdecode(image, cv2.IMREAD_COLOR)[..., ::-1] for image in data)
    assert np.array_equal(before, row.shown.before)
    assert np.array_equal(after, row.crops["fake"])


@pytest.mark.slow
def test_the_map_is_drawn_where_the_run_changed_the_face(tmp_path: Path) -> None:
    source = still(tmp_path / "a.png")
    names = [
        "try",
        str(source),
        str(tmp_path / "sheet.png"),
        "--engines",
        "rtface-s",
        "--strengths",
        "1",
        "--invented",
        "--correct",
        "always",
    ]
    result = CliRunner().invoke(app, names)
    assert result.exit_code == 0, result.stderr
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    assert page.images[0][0].startswith("a scale of colours")
    assert page.images[-1] == ("face 1, rtface-s, invented", False)
    legend, before, after, mapped = (
        cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR).astype(int)
        for address in page.addresses
    )
    assert legend.shape == (64, 384, 3)
    drawn, changed = ((one != after).any(2) for one in (mapped, before))
    assert 0.1 < changed.mean() < 0.9
    assert drawn[changed].mean() > 0.99 and not drawn[~changed].any()
    refused = CliRunner().invoke(app, [*names, "--overwrite", "--keyframe", "4"])
    assert refused.exit_code == 2 and "leave --keyframe out" in refused.stderr


class Page(HTMLParser):
    """What a page consists of: its title, radio buttons (whether checked), sliders, images (text, whether seen),
    addresses and their kinds, ids, and those that name sections."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.radios: list[bool] = []
        self.ranges = 0
        self.images: list[tuple[str, bool]] = []
        self.addresses: list[str] = []
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.labels: set[str] = set()
        self.title = ""
        self._tag = ""
        self.feed(text)
        assert "http:" not in text
        assert "https:" not in text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given, self._tag = dict(attrs), tag
        if tag == "img":
            self.images.append((given["alt"] or "", "hidden" not in given))
            self.addresses.append(given["src"] or "")
        if given.get("id"):
            self.ids.add(str(given["id"]))
        if tag == "section":
            self.labels.add(str(given["aria-labelledby"]))
        if given.get("type") == "radio":
            self.radios.append("checked" in given)
        if given.get("type") == "range":
            self.ranges += 1
            assert given["aria-label"]
        self.loads |= {(value or "").partition(":")[0] for key, value in attrs if key in ("src", "href")}

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.title += data


def test_interlaced_film_shows_the_same_field_on_both_sides(tmp_path: Path, memory: Engines) -> None:
    """Two fields of different light: outside the face before and after are equal."""

    def picture(t: int) -> np.ndarray:
        shown = portrait(shift=(0.5 * t, 0.0))[0].copy()
        shown[1::2] //= 2
        return shown

    path = write_film(
        tmp_path / "in.mkv",
        map(picture, range(40)),
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "top": "1", "qscale": "2", "b": "8000000"},
    )
    (row,) = sheet_of(path, correct="always").rows
    after = row.crops["fake"]
    assert row.shown.field == 0
    assert np.array_equal(after[:4], row.shown.before[:4])
    assert not np.array_equal(after, row.shown.before)


def test_a_still_and_a_folder_show_each_face_once(tmp_path: Path, memory: Engines) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    still(folder / "a.png")
    still(folder / "b.png", blur=4.0)
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    one = sheet_of(folder / "a.png", correct="always")
    both = sheet_of(folder, correct="always")
    assert [row.choice.face.image for row in one.rows] == [folder / "a.png"]
    assert [row.choice.face.image for row in both.rows] == [folder / "a.png", folder / "b.png"]
    assert "1 images could not be read" in both.notes[0]
    rtface.run(folder / "a.png", tmp_path / "out.png", correct="always")
    (x, y), side = (-one.rows[0].shown.matrix[:, 2]).astype(int), one.rows[0].shown.side
    wanted = cv2.imread(str(tmp_path / "out.png"))[y : y + side, x : x + side, ::-1]
    assert np.abs(wanted.astype(int) - one.rows[0].crops["fake"]).max() <= 1


def test_a_clean_face_is_shown_as_a_run_leaves_it(tmp_path: Path, memory: Engines) -> None:
    path = write_film(tmp_path / "clean.mkv", [portrait(640, 480, blur=0, scale=2.2)[0]] * 40)
    sheet = sheet_of(path, correct="never")
    (row,) = sheet.rows
    assert np.array_equal(row.crops["fake"], row.shown.before)
    track = row.tracks["fake"]
    assert track is not None
    assert not track.treatment["on"]


def test_a_policy_is_asked_about_the_users_options_only(
    tmp_path: Path, memory: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.toml").write_text('forbid = ["faces", "show"]\n')
    monkeypatch.setenv("RTFACE_POLICY", str(tmp_path / "policy.toml"))
    still(tmp_path / "a.png")
    assert len(sheet_of(tmp_path / "a.png", Variant("rtface-s", 1.0), correct="always").rows) == 1


def test_no_face_says_how_much_was_searched(tmp_path: Path, memory: Engines) -> None:
    path = film(tmp_path / "empty.mkv", frames=50, face=False)
    with pytest.raises(InputError, match=r"no face was found on 4 of 4 frames between 0:00:00\.000 and 0:00:01\."):
        sheet_of(path)


@pytest.mark.slow
def test_a_sheet_says_that_it_leaves_fading_in(tmp_path: Path, memory: Engines) -> None:
    sheet = sheet_of(write_film(tmp_path / "in.mkv", [portrait()[0]] * 40), colour="restore")
    assert any(note.startswith("--colour restore: the sheet shows the input as it is") for note in sheet.notes)


@pytest.mark.slow
def test_little_time_shows_fewer_faces_and_says_so(scenes: Path, memory: Engines) -> None:
    times = iter(range(0, 100_000, 20))
    sheet = make_sheet(
        scenes, Options(correct="always"), SheetOptions((FULL,), 3, 60.0), clock=lambda: float(next(times))
    )
    assert len(sheet.rows) < 3
    assert any("--budget" in note for note in sheet.notes)


def test_it_ends_when_told(scenes: Path, memory: Engines) -> None:
    import threading

    stop = threading.Event()
    with pytest.raises(Interrupted):
        make_sheet(
            scenes,
            Options(),
            SheetOptions((FULL,)),
            stop=stop,
            status=lambda line: stop.set() if "searching" in line else None,
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--strengths", "2"], "--strengths must be a number between 0 and 1"),
        (["--engines", ","], "--engines must be"),
        (["--strengths", ",".join(str(k / 20) for k in range(20))], "columns are more than"),
        (["sheet.jpg"], "a sheet is an image and a page"),
        (["--engines", "rtface-x"], "rtface-x"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, given: list[str], says: str) -> None:
    path = film(tmp_path / "in.mkv", frames=2)
    result = CliRunner().invoke(app, ["try", str(path), *given])
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_frame_within_a_dissolve_is_not_shown(tmp_path: Path, memory: Engines) -> None:
    """The portrait dissolves into a picture without a face: 1 s, after which the film ends."""
    other = np.random.default_rng(0).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    scene = cv2.resize(other, (320, 180), interpolation=cv2.INTER_CUBIC).astype(float)

    def picture(t: int) -> np.ndarray:
        share = np.clip((t - 25) / 25, 0, 1)
        return np.asarray((1 - share) * portrait(shift=(0.3 * t, 0.0))[0] + share * scene, np.uint8)

    source = write_film(tmp_path / "in.mkv", map(picture, range(60)), codec="ffv1", options={"g": "12"})
    sheet = sheet_of(source, correct="always", count=3)
    assert sheet.rows
    assert all(row.shown.time <= 29 / 25 for row in sheet.rows), [row.shown.time for row in sheet.rows]
