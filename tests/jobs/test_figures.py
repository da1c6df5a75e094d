"""What the figures of segments say together."""

from __future__ import annotations

from rtface.jobs.figures import JobFigures
from rtface.report import Report


def test_segments_of_unlike_engines_are_said() -> None:
    figures, report = JobFigures(), Report("in.mkv", "out.mkv", "0", "rtface-m", "cpu")
    figures.devices |= {"cpu (openvino, bf16, 1 thread)": None, "cpu (openvino, bf16, 3 threads)": None}
    figures.fill(report)
    assert "3 threads" in report.device
    assert any("--threads" in note for note in report.notes)
