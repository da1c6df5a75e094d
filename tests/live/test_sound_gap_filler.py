"""The sound of a run without gaps: real frames go through, silence fills what is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rtface.live.protocols import EndpointHealth, SoundFormat, SoundPacket
from rtface.live.sound_gap_filler import SoundGapFiller
from rtface.live.sources.sound_to_aac import silent_frame

FORM = SoundFormat(48_000, 1)
STEP = 1024 / 48_000


class Track:
    """A source of sound, and a `SoundGapFiller` on a clock of the test's, ticking 20 times a second."""

    def __init__(self) -> None:
        self.now, self.lost, self.heard = 100.0, False, list[SoundPacket]()
        output = SimpleNamespace(sound=self.heard.append)
        self.steady = SoundGapFiller(FORM, self, output, clock=lambda: self.now)
        self.steady.begin(self.now)
        self._next = self.now

    @property
    def health(self) -> EndpointHealth:
        return EndpointHealth("away" if self.lost else "live", "", 0.0)

    def run(self, seconds: float, *, sound: bool, late: float = 0.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            if sound:
                self.steady.put(SoundPacket(b"tone", self.now - STEP - late, STEP))
            self.steady.tick()

    @property
    def real(self) -> list[float]:
        return [s.time for s in self.heard if s.data == b"tone"]

    def gap(self) -> float:
        """The longest hole or overlap between two frames."""
        return max(abs(b.time - a.time - a.duration) for a, b in zip(self.heard, self.heard[1:], strict=False))


def test_sound_that_comes_goes_through_untouched():
    track = Track()
    track.run(3, sound=True)
    assert len(track.real) == len(track.heard) >= 139 and track.gap() < 1e-6


@pytest.mark.parametrize("late", [0.05, 0.6])
def test_a_lost_source_is_filled_at_once_and_sound_comes_back(late: float):
    track = Track()
    track.run(2, sound=True, late=late)
    track.lost, lost_at = True, track.now
    track.run(5, sound=False)
    assert track.heard[-1].time > track.now - 0.1
    assert {s.data for s in track.heard if s.time > lost_at} == {silent_frame(FORM)}
    track.lost = False
    track.run(2, sound=True, late=late)
    assert track.gap() < STEP and track.real[-1] > track.now - late - 3 * STEP
    back = next(t for t in track.real if t > lost_at)
    assert back < lost_at + 5 + 3 * STEP
    track.lost = False


def test_late_sound_follows_silence_from_the_first_frame():
    track = Track()
    track.run(8, sound=False)
    track.run(2, sound=True)
    assert track.heard[0].time == 100.0 and track.gap() < STEP
    assert track.real[0] == pytest.approx(108, abs=0.1) and len(track.real) > 85


def test_sound_held_back_by_the_network_is_kept():
    track = Track()
    track.run(2, sound=True)
    held = track.now
    track.run(0.8, sound=False)
    for number in range(37):
        track.steady.put(SoundPacket(b"tone", held + number * STEP, STEP))
    assert len(track.real) == len(track.heard) and track.gap() < 1e-6


def test_frames_lost_on_the_way_leave_no_hole():
    track = Track()
    track.run(1, sound=True)
    track.steady.put(SoundPacket(b"tone", track.now + 0.5, STEP))
    assert track.gap() < STEP and len(track.heard) - len(track.real) > 20
