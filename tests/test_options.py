"""Options: defaults, checks, and which source wins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from rtface.config.look import VIVID_DETAIL
from rtface.config.option_sources import load, read_file
from rtface.config.options import OPTIONS, Options, Scope, Trait, check_scope
from rtface.errors import UsageError
from rtface.util import parse
from rtface.util.parse import format_time, parse_time
from rtface.util.spelling import nearest


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "settings"))


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_beat_environment_beat_file_beat_defaults(tmp_path):
    file = toml(tmp_path, "strength = 0.25\ncrf = 30\nmax-faces = 2\n")
    loaded = load({"strength": 0.75}, config=file, environ={"RTFACE_STRENGTH": "0.5", "RTFACE_CRF": "20"})
    assert (loaded.options.strength, loaded.options.crf, loaded.options.max_faces) == (0.75, 20.0, 2)
    assert loaded.options.grain == "match"
    assert loaded.sources["strength"] == "--strength"
    assert loaded.sources["crf"] == "RTFACE_CRF"
    assert loaded.sources["max_faces"] == str(file)
    assert loaded.sources["grain"] == "default"


def test_file_in_the_configuration_folder_is_read(tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "rtface.toml").write_text('grain = "none"\n')
    assert load({}, environ={}).options.grain == "none"


def test_the_config_flag_overrides_the_environment(tmp_path):
    named, other = tmp_path / "named.toml", toml(tmp_path, "crf = 1\n")
    named.write_text("crf = 2\n")
    environ = {"RTFACE_CONFIG": str(named)}
    assert load({}, environ=environ).options.crf == 2
    assert load({}, config=other, environ=environ).options.crf == 1


def test_values_of_every_kind_come_from_text():
    loaded = load(
        {},
        environ={
            "RTFACE_START": "00:01:30.250",
            "RTFACE_END": "95",
            "RTFACE_OVERWRITE": "yes",
            "RTFACE_FPS": "30000/1001",
            "RTFACE_THREADS": "2",
            "RTFACE_REPORT": "a.json",
            "RTFACE_FACES": "3, 1",
            "RTFACE_GRAIN": "None",
        },
    )
    options = loaded.options
    assert (options.start, options.end, options.overwrite, options.threads) == (90.25, 95.0, True, 2)
    assert options.fps == Fraction(30000, 1001)
    assert options.report == Path("a.json")
    assert options.faces == "3,1"
    assert options.grain == "none"


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("strength", 1.5, "the nearest is 1"),
        ("strength", -1, "the nearest is 0"),
        ("strength", "much", "between 0 and 1"),
        ("strength", float("nan"), "between 0 and 1"),
        ("strength", True, "between 0 and 1"),
        ("region", "haed", "the nearest is head"),
        ("colour", "fade", "must be lock or restore, not 'fade'"),
        ("grain", "nothing", "must be match, less or none, not 'nothing'"),
        ("faces", "larges", "the nearest is largest"),
        ("faces", "1,-2", "must be all, largest, or track numbers and persons as 1,P2,anna, not '1,-2'"),
        ("person", "anna@", "as anna@P2, not 'anna@'"),
        ("person", "anna@P2,ben", "as anna@P2"),
        ("device", "gpu", "openvino:npu or onnx, not 'gpu'"),
        ("faces", "0,1", "track numbers"),
        ("max_faces", 0, "the nearest is 1"),
        ("max_faces", 1.5, "a whole number"),
        ("max_faces", float("inf"), "the nearest is 1000"),
        ("crf", 99, "the nearest is 63"),
        ("threads", 0, "the nearest is 1"),
        ("start", "1:75", "HH:MM:SS.mmm"),
        ("start", -1, "HH:MM:SS.mmm"),
        ("fps", "1/0", "30000/1001"),
        ("overwrite", "treu", "true or false"),
        ("engine", "", "must be a name"),
        ("report", "", "path"),
    ],
)
def test_a_bad_value_says_which_and_the_nearest(key, value, names):
    with pytest.raises(UsageError, match=key) as caught:
        Options.of({key: value})
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_source_of_a_bad_value_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"^RTFACE_STRENGTH must be"):
        load({}, environ={"RTFACE_STRENGTH": "2"})
    with pytest.raises(UsageError, match=r"^--max-faces must be"):
        load({"max_faces": 0}, environ={})
    file = toml(tmp_path, "strength = 2\n")
    with pytest.raises(UsageError, match=r"some\.toml: strength must be"):
        load({}, config=file, environ={})


def test_unknown_keys_name_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="the nearest is strength"):
        read_file(toml(tmp_path, "strenght = 0.5\n"))
    with pytest.raises(UsageError, match="the nearest is max_faces"):
        Options.of({"maxfaces": 3})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("strength = \n", "not valid TOML"),
        (None, "cannot be read: No such file"),
        (f"{'x' * 500_000} = 1", "is not an option"),
        (f"strength = {'9' * 400}", "strength must be a number"),
        (f"start = {'9' * 400}", "start must be seconds"),
        (f"faces = '{'9' * 5000}'", "faces must be"),
        (f"device = 'cuda:{'9' * 5000}'", "device must be"),
        (f"fps = {'9' * 400}", "fps must be"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, text, says):
    path = toml(tmp_path, text) if text is not None else tmp_path / "absent.toml"
    with pytest.raises(UsageError, match=says) as caught:
        load({}, config=path, environ={})
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_end_has_to_come_after_start():
    with pytest.raises(UsageError, match="must come after start"):
        Options.of({"start": 5, "end": 4})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90.5", 90.5), (7, 7.0), ("01:30", 90.0), ("1:01:30.5", 3690.5), ("0:00:00,040", 0.04), ("00:00:00.", 0.0)],
)
def test_times(text, seconds):
    assert parse_time(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("seconds", [0.0, 0.04, 59.9994, 3599.999, 3600.0, 86399.123])
def test_a_printed_time_can_be_given_back(seconds):
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=0.0006)


@pytest.mark.parametrize("text", ["", "1:2:3:4", "abc", "1:60", "inf", "nan", None, True])
def test_what_is_no_time(text):
    with pytest.raises(ValueError):
        parse_time(text)


def test_where_pictures_are_decoded_and_encoded():
    assert (Options().decode, Options().encode) == ("auto", "auto")
    loaded = load({"decode": "CUDA:1"}, environ={"RTFACE_ENCODE": "Cuda"}).options
    assert (loaded.decode, loaded.encode) == ("cuda:1", "cuda")
    for bad in ("cuda:", "cuda:x", "nvdec", ""):
        with pytest.raises(UsageError, match="decode must be auto, software, cuda or cuda:N"):
            Options(decode=bad)
    with pytest.raises(UsageError, match="encode must be auto, cuda or software"):
        Options(encode="cuda:1")  # type: ignore[arg-type]


def test_every_option_declares_its_check_and_scope():
    assert set(OPTIONS) == set(Options.__dataclass_fields__)
    assert all(option.scope and option.help for option in OPTIONS.values())


@pytest.mark.parametrize(
    ("key", "value", "run", "says"),
    [
        (
            "bitrate",
            "2M",
            Scope.FILM | Scope.ENCODED,
            "--bitrate has no effect here: it is for published streams; leave it out",
        ),
        ("control", 0, Scope.FILM, "live runs of the command"),
        ("loop", True, Scope.LIVE | Scope.CAMERA, "it is for films as the source of a live run; leave it out"),
        ("turn", 90, Scope.FILM, "it is for live runs"),
        ("latency", 20, Scope.FILM | Scope.ENCODED, "live runs; leave it out; a run is live where INPUT or OUTPUT is"),
        ("start", 3, Scope.LIVE | Scope.CONSOLE, "films; leave it out; a run is live where INPUT or OUTPUT is"),
        ("size", "320x180", Scope.LIVE, "it is for cameras"),
        ("fps", 30, Scope.FILM | Scope.ENCODED, "it is for a folder of stills with --sequence or cameras"),
        ("crf", 20, Scope.FILM, "an OUTPUT that is a film or live recordings"),
        ("start", 3, Scope.STILLS, "it is for films"),
        ("start", 3, Scope.LIVE | Scope.CAMERA, "it is for films"),
        ("bitrate", "2M", Scope.LIVE | Scope.RECORDED, "it is for published streams"),
        ("preset", "fast", Scope.LIVE | Scope.CAMERA, "live recordings or published streams"),
        ("preset", "fast", Scope.LIVE | Scope.RECORDED, None),
        ("encode", "cuda", Scope.LIVE | Scope.PUBLISHED, None),
        ("max_faces", 3, Scope.LIVE, None),
        ("fps", 30, Scope.LIVE | Scope.CAMERA, None),
        ("fps", 30, Scope.FILM | Scope.SEQUENCE, None),
        ("latency", 100.0, Scope.FILM, None),  # the default asks for nothing
    ],
)
def test_a_given_option_without_effect_is_refused(key, value, run, says):
    options = Options.of({key: value})
    check_scope([], options, run)  # as from the environment or a file, which hold for every run
    if says is None:
        check_scope([key], options, run)
        return
    with pytest.raises(UsageError) as caught:
        check_scope([key], options, run)
    assert says in str(caught.value)


def test_only_the_command_line_gives_options_for_this_run(tmp_path):
    file = toml(tmp_path, "latency = 30\n")
    loaded = load({"stages": ["x"], "max_faces": 2}, config=file, environ={"RTFACE_LIGHT": "0.5"})
    assert loaded.given == {"stages", "max_faces"}
    assert (loaded.options.latency, loaded.options.light) == (30, 0.5)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("gpu", None), ("auto", None), ("zwei", None), ("lokc", "lock"), ("loc", "lock"), ("restor", "restore")],
)
def test_a_hint_is_near(written, meant):
    assert nearest(written, ("locale", "lock", "restore", "cpu", "largest")) == meant


def test_a_share_may_be_written_in_percent():
    assert load({"strength": "50%"}, environ={}).options.strength == 0.5
    with pytest.raises(UsageError, match=r"^--strength must be a number between 0 and 1, not 'half'$"):
        load({"strength": "half"}, environ={})


@pytest.mark.parametrize(("written", "share"), [("50%", 0.5), ("0.5", 0.5), (1, 1.0), ("1%", 0.01)])
def test_a_processor_budget_is_a_share_of_all_cores(written, share):
    assert load({"cpu_budget": written}, environ={}).options.cpu_budget == share


@pytest.mark.parametrize("wrong", ["0", "0.5%", "50", "150%", "-1", "half", "nan", ""])
def test_a_wrong_processor_budget_is_refused(wrong):
    with pytest.raises(UsageError, match=r"^--cpu-budget must be a share from 1% to 100%, as in 50% or 0.5, not "):
        load({"cpu_budget": wrong}, environ={})


@pytest.mark.parametrize("name", OPTIONS)
def test_the_traits_of_an_option_go_together(name):
    option = OPTIONS[name]
    traits = option.traits
    assert option.check is not parse.path or traits & (Trait.READS | Trait.ONCE), "what a path is for is said"
    assert not traits & Trait.FREE or not traits & Trait.NAMED, "what is said is no choice"
    assert not traits & Trait.FILM_PAGE or option.scope & Scope.FILM
    assert not traits & Trait.LIVE_PAGE or option.scope & (Scope.LIVE | Scope.PLAYED)
    assert not traits & Trait.NAMED or option.scope & (Scope.FILM | Scope.LIVE)


@pytest.mark.parametrize(
    ("given", "look", "detail"),
    [
        ({}, "clear", 1.0),
        ({"look": "Faithful"}, "faithful", 0.0),
        ({"look": "vivid"}, "vivid", VIVID_DETAIL),
        ({"look": 1}, "faithful", 0.0),
        ({"look": "75%"}, "clear", 0.5),
        ({"look": 0.25}, "vivid", 0.5 * (1.0 + VIVID_DETAIL)),
    ],
)
def test_a_look_is_a_word_or_a_number(given, look, detail):
    options = Options.of(given)
    assert (options.look_name, options.detail) == (look, pytest.approx(detail))
    assert Options.of(options.to_dict()) == options
