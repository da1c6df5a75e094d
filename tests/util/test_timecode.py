"""Timecode: text and frame counts of SMPTE ST 12-1, drop-frame and not."""

from fractions import Fraction

import pytest

from rtface.util.timecode import Timecode, counted_rate, has_drop_frame, standard_rate

NTSC, NTSC60 = Fraction(30000, 1001), Fraction(60000, 1001)


@pytest.mark.parametrize(
    ("text", "rate", "frame"),
    [
        ("00:00:59;29", NTSC, 1799),
        ("00:01:00;02", NTSC, 1800),
        ("00:10:00;00", NTSC, 17982),
        ("00:01:00;04", NTSC60, 3600),
        ("01:00:00:00", NTSC, 108_000),
        ("00:00:01:119", Fraction(120), 239),
    ],
)
def test_text_and_frame_count(text: str, rate: Fraction, frame: int) -> None:
    assert Timecode.parse(text, rate).frame == frame
    assert str(Timecode.parse(text, rate)) == text


@pytest.mark.parametrize("rate", [NTSC, NTSC60, Fraction(120_000, 1001)])
def test_every_drop_frame_of_an_hour_comes_back(rate: Fraction) -> None:
    counted = counted_rate(rate)
    near = counted // 2  # half a second on both sides of every minute
    numbers = [n for minute in range(61) for n in range(minute * 60 * counted - near, minute * 60 * counted + near)]
    for n in numbers:
        timecode = Timecode.at(n, rate, drop=True)
        assert Timecode.parse(str(timecode), rate) == timecode


def test_a_colon_means_what_the_list_says() -> None:
    assert Timecode.parse("00:01:00:02", NTSC, drop=True).frame == 1800
    assert Timecode.parse("00:01:00;02", NTSC, drop=False).drop
    assert Timecode.parse("00:01:00,02", NTSC) == Timecode.parse("00:01:00;02", NTSC)


@pytest.mark.parametrize(
    ("text", "rate", "says"),
    [
        ("00:01:00;01", NTSC, "drop-frame leaves out frames 00 to 01"),
        ("00:00:00:25", Fraction(25), "frames 00 to 24"),
        ("24:00:00:00", Fraction(25), "not a time of day"),
        ("00:00:00;00", Fraction(25), "not at 25"),
        ("00:00:01.500", Fraction(25), "not a timecode"),
    ],
)
def test_what_is_no_timecode_is_refused(text: str, rate: Fraction, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Timecode.parse(text, rate)


def test_arithmetic_counts_across_midnight() -> None:
    late = Timecode.parse("23:59:59:20", Fraction(25))
    assert str(late.plus(10)) == "00:00:00:05"
    assert late.plus(10).since(late) == 10
    assert str(Timecode.at(-1, NTSC, drop=True)) == "23:59:59;29"


def test_rounded_rates_mean_exact_ones() -> None:
    assert standard_rate(Fraction(2997, 100)) == NTSC
    assert standard_rate(Fraction("23.976")) == Fraction(24000, 1001)
    assert standard_rate(Fraction("25.0001")) == 25
    assert standard_rate(Fraction("27.4")) == Fraction("27.4")
    assert has_drop_frame(Fraction("59.94"))
    assert not has_drop_frame(Fraction(24000, 1001))
    assert not has_drop_frame(Fraction(30))
