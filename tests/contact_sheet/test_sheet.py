"""``rtface try``: what the sheet shows is what a run gives there; its files, its command line and its errors."""

from __future__ import annotations

import shlex
from concurrent.futures import Future
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
from rtface.contact_sheet.restore import SheetRow
from rtface.contact_sheet.sheet import Sheet, draw, make_sheet
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Interrupted, UsageError
from rtface.frame import Frame
from rtface.media.read.source import FileSource
from rtface.pipeline import runtime
from rtface.protocols import Restored
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, film, still, write_film

SCENE = 36
"""Frames of a scene."""


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
    """Three scenes of 1.44 s, the portrait in another size."""

    def picture(t: int) -> np.ndarray:
        shown, _ = portrait(shift=(0.3 * t - 25, 0.0), scale=(0.9, 0.6, 1.1)[t // SCENE])
        return shown[:, :, :: -1 if t // SCENE == 1 else 1]

    return write_film(
        tmp_path_factory.mktemp("film") / "in.mkv", map(picture, range(3 * SCENE)), codec="ffv1", options={"g": "25"}
    )


def sheet_of(input: Path, count: int = 6, **options: Any) -> Sheet:
    return make_sheet(input, Options(**options), ["fake"], count)


@pytest.mark.slow
def test_a_crop_is_that_of_the_runs_frame(scenes: Path, tmp_path: Path, memory: Engines) -> None:
    """A run over the whole film, whose engine remembers from each scene's first frame on."""
    sheet = sheet_of(scenes, correct="always", count=2)
    assert len({int(row.time * 25 / SCENE) for row in sheet.rows}) > 1
    out = tmp_path / "out.mkv"
    rtface.run(scenes, out, correct="always")
    untouched, enhanced = (crops_of(path, sheet.rows) for path in (scenes, out))
    for row, before, after in zip(sheet.rows, untouched, enhanced, strict=True):
        assert np.array_equal(row.before, before)
        change = np.abs(after - before).mean()
        assert change > 0.5
        shown = row.crops["fake"].astype(float)
        # Without a lead-in the difference is nearly the whole change.
        assert np.abs(shown - after).mean() < 0.3 * change, row.time


def crops_of(path: Path, rows: list[SheetRow]) -> list[np.ndarray]:
    """The frames of a film where the rows show them, cut as they are."""
    source, device = FileSource(path), CpuDevice()
    found: dict[int, np.ndarray] = {}
    for item in source:
        for row in rows:
            if isinstance(item, Frame) and item.pts == row.pts:
                x, y = row.origin
                matrix = np.array([(1.0, 0.0, -x), (0.0, 1.0, -y)])
                found[item.pts] = device.view(item).crop(matrix, (len(row.before),) * 2).astype(float)
    source.close()
    return [found[row.pts] for row in rows]


def test_the_image_has_a_column_for_each_engine(
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
            "fake,other",
            "--count",
            "2",
            "--correct",
            "always",
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
        "--correct",
        "always",
    ]
    sheet = cv2.imread(str(tmp_path / "a film's.try.png"))
    assert sheet.shape[1] > 3 * 320 and sheet.shape[0] > 2 * 320
    top = sheet[40:360]
    columns = [top[:, 250 + k * 328 : 570 + k * 328].astype(int) for k in range(3)]
    assert np.abs(columns[1] - columns[0]).mean() > 0.0 and np.array_equal(columns[1], columns[2])
    again = CliRunner().invoke(app, ["try", str(film_), "--engines", "fake"])
    assert again.exit_code == 1
    assert "exists already" in again.stderr


def test_a_name_that_is_not_utf_8_can_be_drawn(tmp_path: Path, memory: Engines) -> None:
    sheet = sheet_of(still(tmp_path / "a.png"), correct="always")
    named, other = (draw(sheet, ["fake"], name) for name in ("latin\udce9.mp4", ""))
    assert not np.array_equal(named, other)


def test_the_steps_of_a_damaged_print_stand_above_its_face(tmp_path: Path, memory: Engines) -> None:
    """The face is the repaired print's; a film, which has no such steps, is refused."""
    picture, mask = portrait(blur=0)[0].copy(), np.zeros((180, 320), np.uint8)
    mask[60:64] = 255
    picture[mask > 0] = 255
    cv2.imwrite(str(tmp_path / "print.png"), picture[..., ::-1])
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    sheet = sheet_of(tmp_path / "print.png", correct="always", repair=tmp_path / "mask.png", colour="restore")
    assert [step for step, _ in sheet.steps][:2] == ["input", "damage filled"]
    assert (sheet.steps[0][1][61] == 255).all() and (sheet.steps[1][1][61] < 250).mean() > 0.9
    assert (sheet.rows[0].before < 255).any(2).mean() > 0.99
    with pytest.raises(UsageError, match="a single still"):
        sheet_of(film(tmp_path / "film.mkv", frames=2), colour="restore")


@pytest.mark.slow
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
    assert np.array_equal(after[:4], row.before[:4])
    assert not np.array_equal(after, row.before)


def test_a_still_and_a_folder_show_each_face_once(
    tmp_path: Path, memory: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    still(folder / "a.png")
    still(folder / "b.png", blur=4.0)
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    one = sheet_of(folder / "a.png", correct="always")
    both = sheet_of(folder, correct="always")
    assert [row.face.image for row in one.rows] == [folder / "a.png"]
    assert [row.face.image for row in both.rows] == [folder / "a.png", folder / "b.png"]
    assert "c.png" in caplog.text
    rtface.run(folder / "a.png", tmp_path / "out.png", correct="always")
    (x, y), side = one.rows[0].origin, len(one.rows[0].before)
    wanted = cv2.imread(str(tmp_path / "out.png"))[y : y + side, x : x + side, ::-1]
    assert np.abs(wanted.astype(int) - one.rows[0].crops["fake"]).max() <= 1


def test_a_film_without_a_face_is_said(tmp_path: Path, memory: Engines) -> None:
    path = film(tmp_path / "empty.mkv", frames=50, face=False)
    with pytest.raises(InputError, match="no face can be shown"):
        sheet_of(path)


def test_it_ends_when_told(scenes: Path, memory: Engines) -> None:
    import threading

    stop = threading.Event()
    with pytest.raises(Interrupted):
        make_sheet(
            scenes,
            Options(),
            ["fake"],
            stop=stop,
            status=lambda line: stop.set() if "searching" in line else None,
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["sheet.jpg"], "a sheet is a PNG"),
        (["--engines", "rtface-x"], "rtface-x"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, given: list[str], says: str) -> None:
    path = film(tmp_path / "in.mkv", frames=2)
    result = CliRunner().invoke(app, ["try", str(path), *given])
    assert result.exit_code == 2
    assert says in result.stderr
