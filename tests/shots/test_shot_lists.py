"""Lists of shots as files: CSV, CMX 3600 EDL; written, read back, and refused with a place."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from rtface.errors import InputMissing, UsageError
from rtface.shots.clock import FilmClock
from rtface.shots.files import check_shots_file, read_shots, scenes_text
from rtface.shots.scenes import Scene, SceneRecorder
from rtface.shots.settings import AS_RUN, Shot, ShotList, ShotSettings
from rtface.util.timecode import Timecode

NTSC = Fraction(30000, 1001)
CLOCK = FilmClock(Fraction(25), length=Fraction(60))
EVENT = "{:03d}  AX       V     C        00:00:00:00 00:00:04:00 {} {}\n"


def shots_of(tmp_path: Path, name: str, text: str, clock: FilmClock = CLOCK) -> tuple[ShotList, list[str]]:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_shots(path, clock)


def refused(tmp_path: Path, name: str, text: str, clock: FilmClock = CLOCK) -> str:
    with pytest.raises(UsageError) as error:
        shots_of(tmp_path, name, text, clock)
    return str(error.value)


def test_csv_takes_timecodes_and_film_times(tmp_path: Path) -> None:
    shots, notes = shots_of(
        tmp_path,
        "a.csv",
        "start,end,strength,correct,off,comment\n"
        "0,4.0,50%,,,first\n00:00:08:00,00:00:12:00,,always,,\n0:00:20.000,,,,yes,\n40,,,,,\n",
    )
    assert [(shot.begin, shot.end) for shot in shots.shots] == [(0, 4), (8, 12), (20, 40)]
    assert shots.at(3.9) == ShotSettings(strength=0.5)
    assert shots.at(5.0) == AS_RUN
    assert shots.at(8.0).correct == "always"
    assert shots.at(39.0).correct == "never"
    assert shots.at(45.0) == AS_RUN
    assert notes == ["a.csv: 3 of 4 shots have settings"]


def test_csv_of_a_spreadsheet_with_semicolons(tmp_path: Path) -> None:
    shots, _ = shots_of(tmp_path, "a.csv", "\ufeffStart;End;Strength\n1;2;0,5\n")
    assert shots.at(1.0) == ShotSettings(strength=0.5)


def test_edl_settings_stand_below_the_event(tmp_path: Path) -> None:
    text = (
        "TITLE: x\nFCM: NON-DROP FRAME\n\n"
        + EVENT.format(1, "01:00:00:00", "01:00:04:00")
        + "* FROM CLIP NAME: a\n* RTFACE: strength=0.5\n* RTFACE: correct = always\n"
        + EVENT.format(2, "01:00:04:00", "01:00:04:00")
        + "002  BX       V     D    012 00:00:00:00 00:00:04:00 01:00:04:00 01:00:08:00\n* RTFACE: OFF\n"
        + "003  AX       A     C        00:00:00:00 00:00:04:00 01:00:00:00 01:00:40:00\n"
        + EVENT.format(4, "01:00:10:00", "01:00:12:00")
    )
    clock = FilmClock(Fraction(25), start=Timecode.parse("01:00:00:00", Fraction(25)), length=Fraction(60))
    shots, notes = shots_of(tmp_path, "a.edl", text, clock)
    assert shots.at(2.0) == ShotSettings("always", 0.5)
    assert shots.at(6.0).correct == "never"
    assert shots.at(11.0) == AS_RUN
    assert notes == ["a.edl: 2 of 3 shots have settings"]


@pytest.mark.parametrize(
    ("fcm", "text", "frame"),
    [
        ("DROP FRAME", "01:10:00:00", 17_982),
        ("NON-DROP FRAME", "01:10:00;00", 17_982),
        ("NON-DROP FRAME", "01:10:00:00", 18_000),
    ],
)
def test_edl_drop_frame(tmp_path: Path, fcm: str, text: str, frame: int) -> None:
    """Ten minutes after the first frame at 01:00:00;00: 17982 frames of drop-frame, 18000 of non-drop."""
    drop = ";" if frame == 17_982 else ":"
    clock = FilmClock(NTSC, start=Timecode.parse(f"01:00:00{drop}00", NTSC))
    shots, _ = shots_of(
        tmp_path,
        "a.edl",
        f"FCM: {fcm}\n" + EVENT.format(1, text, f"01:10:04{drop}00") + "* RTFACE: strength=0\n",
        clock,
    )
    assert shots.at(float(frame / NTSC)).strength == 0.0
    assert shots.at(float((frame - 1) / NTSC)) == AS_RUN


def test_borders_allow_for_rounded_timestamps_and_fields() -> None:
    """Matroska rounds to a millisecond; a second field is half a frame late. Both stay in their frame's shot."""
    clock = FilmClock(NTSC)
    shots = ShotList([Shot(clock.time_at(10), clock.time_at(20), ShotSettings(strength=0.5))], early=clock.early)
    inside = [n for n in range(30) if shots.at(round(1000 * n / float(NTSC)) / 1000)]
    assert inside == list(range(10, 20))
    assert [n for n in range(30) if shots.at((n + 0.5) / float(NTSC))] == list(range(10, 20))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "start,end,strenght\n0,1,0.5\n", "line 1: column 'strenght' is unknown: the nearest is strength"),
        ("a.csv", "start,end,strength\n0,1,2\n", "a.csv, line 2: strength must be a number between 0 and 1"),
        ("a.csv", "end,strength\n1,1\n", "there is no column start"),
        ("a.csv", "start,strength\nx,1\n", "line 2: 'x' is neither a timecode"),
        ("a.csv", "start,end,strength\n5,4,1\n", "line 2: a shot must end after it begins"),
        ("a.csv", "start,end,strength\n0,5,1\n4,6,1\n", "the shots of line 2 and line 3 overlap"),
        ("a.csv", "start,end,strength\n100,101,1\n", "all shots with settings lie outside the film (line 2)"),
        ("a.csv", "start,off,correct\n0,yes,always\n", "correct appears twice"),
        ("a.csv", "start,strength\n0,1,2\n", "has 3 cells for 2 columns"),
        ("a.edl", "* RTFACE: off\n" + EVENT.format(1, "00:00:00:00", "00:00:01:00"), "line 1: settings belong below"),
        (
            "a.edl",
            EVENT.format(1, "00:00:00:00", "00:00:01:00") + "* RTFACE: strenth=1\n",
            "'strenth' is not a setting of a shot: the nearest is strength",
        ),
        ("a.edl", EVENT.format(1, "00:00:00:28", "00:00:01:00"), "line 1: timecode 00:00:00:28 has frame 28"),
        (
            "a.edl",
            EVENT.format(1, "00:00:02:00", "00:00:01:00") + "* RTFACE: off",
            "line 1: a shot must end after it begins",
        ),
        ("a.edl", "hello\n", "contains no event of a CMX 3600 EDL"),
        ("a.edl", "FCM: DROP FRAME\n" + EVENT.format(1, "00:00:02:00", "00:00:03:00"), "drop-frame timecode exists at"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    assert says in refused(tmp_path, name, text)


def test_timecodes_need_the_film_to_say_where_it_begins(tmp_path: Path) -> None:
    """An EDL that begins at one hour, for a film of a minute without a timecode: the message names --timecode."""
    text = EVENT.format(1, "01:00:00:00", "01:00:04:00") + "* RTFACE: off\n"
    assert "--timecode" in refused(tmp_path, "a.edl", text)
    other = FilmClock(NTSC, start=Timecode.parse("01:00:00;00", NTSC))
    assert "is non-drop, but that of the film (01:00:00;00) is drop-frame" in refused(tmp_path, "a.edl", text, other)


def test_some_shots_outside_are_noted(tmp_path: Path) -> None:
    _, notes = shots_of(tmp_path, "a.csv", "start,end,strength\n0,5,1\n70,75,1\n")
    assert notes[0].startswith("a.csv: 1 of 2 shots with settings lie outside the film")


def test_a_list_without_settings_says_how_to_give_some(tmp_path: Path) -> None:
    shots, notes = shots_of(tmp_path, "a.edl", EVENT.format(1, "00:00:00:00", "00:00:04:00"))
    assert not shots
    assert "* RTFACE: strength=0.5" in notes[0]


def test_what_is_checked_before_a_film_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.edl"):
        check_shots_file(tmp_path / "a.txt")
    with pytest.raises(InputMissing, match="analyze INPUT --scenes"):
        check_shots_file(tmp_path / "a.csv")


def recorded(clock: FilmClock) -> SceneRecorder:
    found = SceneRecorder()
    found.clock = clock
    at = clock.time_at
    found.scenes = [Scene(at(0), at(48), 48), Scene(at(48), at(1800), 1752), Scene(at(1800), at(1900), 100)]
    return found


@pytest.mark.parametrize("kind", [".csv", ".edl"])
@pytest.mark.parametrize(
    "clock",
    [
        CLOCK,
        FilmClock(NTSC, Fraction(1, 30), start=Timecode.parse("00:59:58;00", NTSC)),
        FilmClock(
            Fraction(24000, 1001), Fraction(7), Fraction(7), Timecode.parse("23:59:59:12", Fraction(24000, 1001))
        ),
    ],
    ids=["25", "29.97 drop-frame", "across midnight"],
)
def test_scenes_are_read_back_as_shots(tmp_path: Path, kind: str, clock: FilmClock) -> None:
    text = scenes_text(Path("a" + kind), recorded(clock), "film.mp4")
    text = filled(kind, text)
    shots, notes = shots_of(tmp_path, "a" + kind, text, clock)
    assert notes == [f"a{kind}: 1 of 3 shots have settings"]
    early = float(clock.early)
    inside = [n for n in (0, 47, 48, 49, 1799, 1800) if shots.at(float(clock.time_at(n)) + early / 2)]
    assert inside == [48, 49, 1799]


@pytest.mark.parametrize(("reel", "said"), [("A001C002", "A001C002"), (None, "AX"), ("tape 1 of 2", "AX")])
def test_events_name_the_reel_of_the_film(reel: str | None, said: str) -> None:
    text = scenes_text(Path("a.edl"), recorded(replace(CLOCK, reel=reel)), "film.mp4")
    assert [line.split()[1] for line in text.splitlines() if line[:1].isdigit()] == [said] * 3


def filled(kind: str, text: str) -> str:
    """The text with a strength for the second scene."""
    if kind == ".csv":
        lines = text.splitlines()
        cells = lines[2].split(",")
        cells[lines[0].split(",").index("strength")] = "0.5"
        return "\n".join([*lines[:2], ",".join(cells), *lines[3:]])
    before, mark, after = text.partition("003  AX")
    return f"{before}* RTFACE: strength=0.5\n{mark}{after}"


def test_uneven_frames_are_noticed() -> None:
    found = recorded(CLOCK)
    assert found.even
    found.scenes[1].frames -= 2
    assert not found.even
