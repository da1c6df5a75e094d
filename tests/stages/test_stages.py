"""The stage interface: finding, options, order, faults, what a stage is given."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

import rtface
from rtface.errors import MissingComponent, UsageError
from rtface.frame import Color, Frame
from rtface.stages.entry_points import load_stage
from rtface.stages.options import Spec, described, file_options, make_stage
from rtface.stages.runner import FAULTS, Stages, before
from rtface.stats import Stats
from rtface.util import plugins
from tests.stages import trial_stages


def frame(pts: int = 0, fmt: str = "yuv420p", seed: int = 1) -> Frame:
    picture = np.random.default_rng(seed).integers(30, 220, (48, 64, 3), np.uint8)
    image = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=fmt)
    return Frame(image, pts, Fraction(1, 25), 1, color=Color("bt601"))


def samples(frame: Frame) -> np.ndarray:
    return np.concatenate([np.frombuffer(plane, np.uint8) for plane in frame.image.planes])


@pytest.fixture(autouse=True)
def forget() -> None:
    trial_stages.closed.clear()
    trial_stages.begun.clear()
    trial_stages.seen.clear()


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("label", "label", {}),
        ("label:", "label", {}),
        ("label:help", "label", None),
        ("label:text=AI", "label", {"text": "AI"}),
        ("label:text=Hello, world,size=0.1", "label", {"text": "Hello, world", "size": "0.1"}),
        ("label:text=a=b, size=1", "label", {"text": "a=b", "size": "1"}),
        (r"label:text=one\,two=2,size=1", "label", {"text": "one,two=2", "size": "1"}),
        ("tag:name=1=Anna;2=Ben", "tag", {"name": "1=Anna;2=Ben"}),
        ("lower-third:sub-title=C:/x", "lower-third", {"sub_title": "C:/x"}),
        ("mine.Frame:a=1", "mine.Frame", {"a": "1"}),
    ],
)
def test_a_spec_is_read(text: str, name: str, values: dict[str, str] | None) -> None:
    assert Spec.parse(text) == Spec(name, values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":a=1", "start with a name"),
        ("", "start with a name"),
        ("label:text", "'text' is not key=value"),
        ("label:a=1,a=2", "a appears twice"),
    ],
)
def test_a_spec_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Spec.parse(text)


def test_options_are_converted_by_check_and_default() -> None:
    bar = make_stage(Spec.parse("trial_stages.Bar:red=3,height=2.5,where=HALF,solid=no,label=x y"))
    assert (bar.red, bar.height, bar.where, bar.solid, bar.label) == (3, 2.5, "half", False, "x y")
    assert make_stage(Spec.parse("trial_stages.Bar")) == trial_stages.Bar()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "trial_stages.Bar:heigth=2",
            "--stage trial_stages.Bar: heigth is not an option: the nearest is height; the stage has "
            "red, height, where, solid, label",
        ),
        ("trial_stages.Bar:_count=2", "_count is not an option"),
        ("trial_stages.Bar:red=1.5", "--stage trial_stages.Bar: red must be a whole number"),
        ("trial_stages.Bar:where=hlaf", "the nearest is half"),
        ("trial_stages.Plain:x=1", "x is not an option; the stage has none"),
        ("trial_stages.Asks", "needs name=…: who"),
        ("trial_stages.Future", "uses version 2 of the stage interface, but this rtface has version 1: update"),
        ("trial_stages.Past", "uses version 0 of the stage interface, but this rtface has version 1: update the older"),
        ("trial_stages.Without", "is not a stage: it must be a class with api = 1"),
        ("trial_stages.Needy", "the stage trial_stages.Needy cannot start: OSError: no such device"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        Stages.open([text], Stats())
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["no_such_module.Stage", "trial_stages.Nothing"])
def test_what_cannot_be_loaded(name: str) -> None:
    with pytest.raises(MissingComponent, match=f"the stage {name} cannot be loaded"):
        load_stage(name)


def test_help_lists_the_keys() -> None:
    text = described("trial_stages.Bar")
    assert text.startswith("trial_stages.Bar: A bar at the upper edge.")
    for part in ("red=255", "0…255", "where=all", "solid=true", "height=8.0", "label="):
        assert part in text
    assert "_count" not in text
    with pytest.raises(UsageError, match=r"height=8\.0"):
        make_stage(Spec.parse("trial_stages.Bar:help"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with entry points, as an installer leaves it."""
    info = tmp_path / "someones_stages-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-stages\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rtface.stages]\nbroken = someones:Missing\nbar-of-theirs = trial_stages:Bar\n"
    )
    (tmp_path / "someones.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_stages_are_found_by_entry_points(installed: None) -> None:
    assert {"bar-of-theirs", "broken"} <= set(plugins.installed("stage"))
    assert "someones" not in sys.modules  # looking is not importing
    assert load_stage("bar-of-theirs") is trial_stages.Bar
    with pytest.raises(UsageError, match="there is no stage bar-of-their: the nearest is bar-of-theirs; installed are"):
        load_stage("bar-of-their")
    with pytest.raises(
        MissingComponent,
        match="the stage broken of someones-stages cannot be loaded from someones:Missing: ModuleNotFoundError",
    ):
        load_stage("broken")


def test_non_commercial_stages_are_refused_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_stages.Bar, "commercial_use", False, raising=False)
    monkeypatch.setattr(trial_stages.Bar, "licence", "CC BY-NC", raising=False)
    Stages.open(["trial_stages.Bar"], Stats()).close()
    with pytest.raises(UsageError, match=r"trial_stages\.Bar may not be used commercially \(CC BY-NC\)"):
        Stages.open(["trial_stages.Bar"], Stats(), commercial_use=True)
    with pytest.raises(UsageError, match="may not be used commercially"):
        rtface.Enhancer(stages=["trial_stages.Bar"], commercial_use=True)


def test_without_any_stage_installed_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtface.util.plugins.installed", lambda kind: {})
    with pytest.raises(UsageError, match=r"none is installed; install some with: .*plugins/rtface-overlays"):
        load_stage("blur")


def test_without_stages_nothing_happens() -> None:
    stages, given = Stages.open((), Stats()), frame()
    assert not stages
    assert stages.process(given) is given
    assert list(stages([given])) == [given]
    assert next(iter(stages.remember([given]))) is given


def test_stages_draw_in_order_and_are_timed() -> None:
    stats = Stats()
    stages = Stages.open(["trial_stages.Bar", "trial_stages.Bar:red=0,height=4"], stats)
    given = frame()
    below = given.image.to_ndarray(format="yuv420p")[8:48].copy()
    out = stages.process(given)
    assert out.touched and out.image is given.image
    picture = out.image.to_ndarray(format="rgb24").astype(int)
    assert (picture[:4] < 30).all()
    assert (picture[4:8, :, 0] > 220).all()
    np.testing.assert_array_equal(out.image.to_ndarray(format="yuv420p")[8:48], below)
    assert stages.names == ["trial_stages.Bar", "trial_stages.Bar 2"]
    assert {"stage trial_stages.Bar", "stage trial_stages.Bar 2"} <= set(stats.stages)
    stages.close()
    stages.close()
    assert trial_stages.closed == ["bar", "bar"]


def test_a_stage_is_told_of_the_run() -> None:
    Stages.open(["trial_stages.Bar"], Stats(), origin=2.0)
    Stages.open(["trial_stages.Bar"], Stats(), live=True)
    film, live = trial_stages.begun
    assert (film.live, film.elapsed(frame(75))) == (False, 1.0)
    assert live.live and live.origin > 0
    assert not frame().live and replace(frame(), captured_at=1.0).live


@pytest.mark.parametrize("how", ["raise", "none", "size"])
@pytest.mark.parametrize("fmt", ["yuv420p", "nv12", "yuv422p10le", "gray", "rgb24"])
def test_a_fault_leaves_the_picture_as_it_was_before_that_stage(fmt: str, how: str) -> None:
    stats = Stats()
    specs = ["trial_stages.Bar", f"trial_stages.Fails:how={how}", "trial_stages.Bar:red=0,height=2"]
    stages = Stages.open(specs, stats)
    alone = Stages.open(["trial_stages.Bar", "trial_stages.Bar:red=0,height=2"], Stats())
    out, wanted = stages.process(frame(fmt=fmt)), alone.process(frame(fmt=fmt))
    np.testing.assert_array_equal(samples(out), samples(wanted))
    assert stats.counters["stage_faults"] == 1
    assert "stays unchanged because the stage trial_stages.Fails" in stats.warnings["stage trial_stages.Fails"]


def test_five_faults_within_a_minute_switch_a_stage_off() -> None:
    stats = Stats()
    stages = Stages.open(["trial_stages.Fails:every=2", "trial_stages.Bar"], stats)
    for pts in range(20):
        stages.process(frame(pts))
    assert stats.counters["stage_faults"] == FAULTS == 5
    assert stats.stages["stage trial_stages.Fails"].count == 9  # pictures 0 to 8
    assert stats.stages["stage trial_stages.Bar"].count == 20
    assert "is switched off: it failed 5 times within a minute" in stats.warnings["stage trial_stages.Fails off"]
    assert trial_stages.closed == ["fails"]


def test_where_a_stage_that_hides_fails_nothing_shows() -> None:
    stats = Stats()
    stages = Stages.open(["trial_stages.Hides"], stats)
    for pts in range(12):
        out = stages.process(frame(pts)).image.to_ndarray(format="gray").astype(int)
        assert out.std() < 0.15 * frame().image.to_ndarray(format="gray").std()
    assert stats.counters["stage_faults"] == 12  # and it is not switched off
    assert "a whole frame is blurred" in stats.warnings["stage trial_stages.Hides"]


@pytest.mark.parametrize("where", ["make", "hides", "begin"])
def test_a_stage_that_ends_while_it_is_opened_is_a_usage_error(where: str) -> None:
    with pytest.raises(UsageError, match=r"trial_stages.Broken cannot"):
        Stages.open([f"trial_stages.Broken:where={where}"], Stats())
    Stages.open(["trial_stages.Broken:where=close"], Stats()).close()


def test_faults_that_are_rare_do_not_switch_it_off() -> None:
    stats = Stats()
    stages = Stages.open(["trial_stages.Fails"], stats)
    for n in range(20):
        stages.process(frame(n * 25 * 20))
    assert stats.counters["stage_faults"] == 20
    assert "stage trial_stages.Fails off" not in stats.warnings


def test_a_stage_that_needs_the_untouched_picture_gets_it_first() -> None:
    stages = Stages.open(["trial_stages.Bar", "trial_stages.Needs"], Stats())
    assert stages.needs_before
    given = frame()
    untouched = given.image.to_ndarray(format="yuv420p").copy()
    (item,) = stages.remember([given])
    item.image.make_writable()
    np.frombuffer(item.image.planes[0], np.uint8)[:] = 77  # what an enhancement does
    out = stages.process(item)
    np.testing.assert_array_equal(trial_stages.seen[0].before.to_ndarray(format="yuv420p"), untouched)
    luma = out.image.to_ndarray(format="yuv420p")[:48]
    np.testing.assert_array_equal(luma[8:, :32], untouched[8:48, :32])
    assert (luma[8:, 32:] == 77).all()
    assert len(set(luma[0])) == 1  # the bar was drawn over both halves


def test_other_formats_are_converted_before_a_stage() -> None:
    out = Stages.open(["trial_stages.Bar"], Stats()).process(frame(fmt="rgb8"))
    assert out.image.format.name == "rgb24"
    assert (out.image.to_ndarray()[:8] == (255, 0, 0)).all()


def test_a_picture_on_a_gpu_is_brought_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    host = frame(fmt="nv12")
    asked = []

    class OnGpu:
        format, sw_format = SimpleNamespace(name="cuda"), SimpleNamespace(name="nv12")

        def reformat(self, format: str) -> av.VideoFrame:
            asked.append(format)
            return host.image

    given = replace(host, image=OnGpu())
    kept = before(given)
    out = Stages.open(["trial_stages.Bar"], Stats()).process(given, kept)
    assert out.image is host.image and asked == ["nv12", "nv12"]
    assert np.ptp(samples(out)[:64].astype(int)) == 0


def test_a_decoder_keeps_its_own_picture() -> None:
    """Drawing into a picture that a decoder still predicts from must not reach it."""
    given = frame()
    other = av.VideoFrame.from_ndarray(given.image.to_ndarray(), "yuv420p")
    packets = []
    encoder = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p", Fraction(1, 25)
    for n in range(6):
        other.pts = n
        packets += encoder.encode(other)
    packets += encoder.encode(None)
    stages = Stages.open(["trial_stages.Bar:height=48"], Stats())

    def decoded(draw: bool) -> list[np.ndarray]:
        decoder = av.CodecContext.create("mpeg4", "r")
        decoder.extradata = encoder.extradata
        pictures = []
        for packet in [*packets, None]:
            for image in decoder.decode(packet):
                pictures.append(image.to_ndarray().copy())
                if draw:
                    stages.process(Frame(image, image.pts, Fraction(1, 25)))
        return pictures

    np.testing.assert_array_equal(decoded(True), decoded(False))


def test_options_that_name_files_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "installed", lambda kind: {"reader": None})
    monkeypatch.setattr("rtface.stages.options.load_stage", lambda name: trial_stages.Reader)
    given = "reader:file=a,font=b,mask=c,place=d,text=e,template=f"
    assert file_options(given) == {"file": "a", "font": "b", "mask": "c", "place": "d"}
    with pytest.raises(UsageError, match="there is no such overlay"):
        file_options("trial_stages.Reader")
