"""What a test of a camera measures, with the real tracker and engine, and how the command shows it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from rtface.cli.app import app
from rtface.config.addresses import parse_address
from rtface.config.options import Options
from rtface.errors import InputError, InputMissing, Interrupted
from rtface.frame import Frame
from rtface.live.camera_trial import CameraTrial, try_camera
from rtface.live.run_state import Endpoints
from tests.live.live_fakes import FORM, FakeSink, FakeSource, flat_image

RATE = 15
CAMERA, OPTIONS = parse_address("camera:"), Options(device="cpu")


def astronaut(blur: float, light: float) -> av.VideoFrame:
    """The astronaut's face, 105 pixels wide."""
    from skimage import data

    rgb = data.astronaut()[:240, 60:380]
    rgb = cv2.GaussianBlur(rgb, (0, 0), blur) if blur else rgb
    return av.VideoFrame.from_ndarray(np.rint(rgb * light).astype(np.uint8), "rgb24").reformat(format="yuv420p")


class Camera(FakeSource):
    """Gives one image, `count` times."""

    def __init__(self, image: av.VideoFrame, count: int = 1000, rate: int = RATE) -> None:
        super().__init__(replace(FORM, width=image.width, height=image.height, rate=Fraction(rate)))
        self.image, self._count, self._rate, self.closing = image, count, rate, threading.Event()

    def start(self, frame, sound) -> None:
        super().start(frame, sound)
        threading.Thread(target=self._play).start()

    def _play(self) -> None:
        for _ in range(self._count):
            if self.closing.wait(1 / self._rate):
                return
            now, color = time.monotonic(), self.video_format.color
            self.give(Frame(self.image, round(1e6 * now), Fraction(1, 1_000_000), color=color, captured_at=now))
        self.ended = True

    def close(self) -> None:
        super().close()
        self.closing.set()


def tried(camera: FakeSource, options: Options = OPTIONS, **more) -> CameraTrial:
    """Tests a camera for two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        ends = Endpoints(camera, [FakeSink()], silent=True)
        patch.setattr("rtface.live.camera_trial.make_endpoints", lambda *_: ends)
        return try_camera(CAMERA, options, **{"seconds": 2.0, **more})


@pytest.fixture(scope="module")
def soft() -> CameraTrial:
    return tried(Camera(astronaut(2.0, 0.3)))


def figures(test: CameraTrial, name: str) -> list:
    """One figure of every trial."""
    return [one[name] for one in test.table["trials"]]


def test_a_dark_and_soft_face_gains_from_light_and_detail(soft):
    assert figures(soft, "option") == ["light", "look", "look", "look"]
    assert figures(soft, "value") == [0.8, "clear", "faithful", "vivid"]
    dark = soft.table["brightness"]
    light, *looks = figures(soft, "brightness")
    assert light > dark + 0.1 and looks == pytest.approx([dark] * 3, abs=0.02)
    clear, faithful, vivid = figures(soft, "detail")[1:]
    assert 1.05 < faithful < clear < vivid
    assert figures(soft, "helps")[:2] == [True, True]
    assert soft.advice.startswith("visible changes: --light 0.8, --look clear")
    assert soft.advice.endswith(". Use --look clear --light 0.8")
    assert soft.table["trials"][1]["verdict"]["word"].endswith("visible") and "applied 100 %" not in soft.rows[1][4]
    assert {"under exposure", "low resolution"} <= {name for name, _ in soft.table["faults"]}


def test_the_figures_are_those_of_the_recording(soft):
    assert soft.table["camera"] == "fake source" and 20 <= soft.table["frames"] <= 2.5 * RATE
    assert 80 < soft.table["width"] < 130 and 0.15 < soft.table["brightness"] < 0.3
    assert all(0.01 < cores < 16 for cores in figures(soft, "cores"))
    assert json.loads(json.dumps(soft.table))["advice"]["code"] == "camera_helps"


def test_the_image_shows_the_camera_and_each_trial_in_order(soft):
    tiles = np.split(soft.shown.image.to_ndarray(format="gray8")[28:].astype(float), 5, axis=1)
    before, light, clear, faithful, vivid = tiles
    assert light.mean() > 1.3 * before.mean() and abs(clear.mean() - before.mean()) < 3
    detail = [abs(tile - before).mean() for tile in (faithful, clear, vivid)]
    assert 0 < detail[0] < detail[1] < detail[2]


def test_a_sharp_and_light_face_gains_nothing():
    test = tried(Camera(astronaut(0.0, 1.0)))
    assert test.advice.code == "camera_good", test.table
    assert figures(test, "detail") == pytest.approx([1.0] * 4, abs=0.05) and not any(figures(test, "helps"))
    camera, _, *looks = np.split(test.shown.image.to_ndarray(format="gray8")[28:].astype(float), 5, axis=1)
    assert all(np.abs(look - camera).mean() < 2.0 for look in looks)  # up to the place of the tile


def test_a_fault_that_no_setting_mends_is_not_called_good():
    test = tried(Camera(astronaut(2.0, 1.0)), replace(OPTIONS, strength=0.0))
    assert test.advice.code == "camera_same" and not any(figures(test, "helps")), test.table


def test_without_a_face_it_ends_after_a_bounded_recording():
    with pytest.raises(InputError, match="no face was found on 150 frames; sit in front"):
        tried(Camera(flat_image(), 400, rate=200), seconds=3.0)


def test_a_stop_and_a_missing_camera_end_it():
    class Missing(FakeSource):
        def start(self, frame, sound) -> None:
            raise InputMissing("camera 0 is in use by zoom")

    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        tried(Camera(flat_image()), stop=stop)
    with pytest.raises(InputMissing, match="in use by zoom"):
        tried(Missing())


@pytest.fixture
def told(soft, monkeypatch, tmp_path):
    """Runs the command with a camera that was tested before."""
    monkeypatch.setattr("rtface.live.camera_trial.try_camera", lambda *_, **__: soft)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["camera-test", *words])


def test_the_command_writes_the_pair_and_a_table(told, tmp_path):
    done = told()
    assert done.exit_code == 0 and "camera-test.png written" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("fake source: ") and lines[1].startswith("SETTING ")
    settings = ["--light 0.8", "--look clear", "--look faithful", "--look vivid"]
    assert [line.split("  ")[0] for line in lines[2:6]] == settings
    assert lines[6].startswith("visible changes: --light 0.8, ")
    pair = cv2.imread(str(tmp_path / "camera-test.png"))
    assert pair.shape[:2] == (400, 2000) and pair[:, 400:800].mean() > 1.3 * pair[:, :400].mean()
    again = told("--json")
    assert again.exit_code == 1 and "--overwrite" in again.stderr
    table = json.loads(told("--json", "--overwrite").stdout)
    assert table["image"].endswith("camera-test.png") and len(table["trials"]) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("camera:", "a.txt"), "has no extension of an image format"),
        (("vcam:",), "vcam: is an output"),
        (("a.mp4", "--size", "640x480"), "--size has no effect here"),
        (("camera:", "--engine", "nope"), "unknown engine 'nope'"),
    ],
)
def test_a_wrong_argument_is_told_before_the_camera_is_opened(words, said):
    done = CliRunner().invoke(app, ["camera-test", *words])
    assert done.exit_code == 2 and said in done.stderr
