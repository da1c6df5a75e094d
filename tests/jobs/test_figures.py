"""What the figures of segments say together."""

from __future__ import annotations

from typing import Any

import pytest

from rtface.jobs.figures import JobFigures, merged
from rtface.report import Report, TrackReport


def test_segments_of_unlike_engines_are_said() -> None:
    figures, report = JobFigures(), Report("in.mkv", "out.mkv", "0", "rtface-m", "cpu")
    figures.devices |= {"cpu (openvino, bf16, 1 thread)": None, "cpu (openvino, bf16, 3 threads)": None}
    figures.fill(report)
    assert "3 threads" in report.device
    assert any("--threads" in note for note in report.notes)


@pytest.mark.parametrize("order", [1, -1])
def test_a_face_of_two_segments_has_the_reasons_of_what_was_done(order: int) -> None:
    def part(frames: int, on: bool, **treatment: Any) -> TrackReport:
        return TrackReport(1, 0.0, 1.0, frames, 90.0, {}, {"on": on, **treatment}, float(on),
                           frames_corrected=on * frames)

    some = part(20, True, gain_db=0.4, reasons=["+0.4 dB expected, visible"])
    most = part(40, False, gain_db=0.01, reasons=["nothing to gain"])
    told = merged(*(some, most)[::order]).treatment
    assert (told["on"], told["gain_db"], told["reasons"]) == (True, 0.4, ["+0.4 dB expected, visible"])
