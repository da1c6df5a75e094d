"""The last line of ``rtface live``."""

from __future__ import annotations

import io

from rtface.cli.console import Console
from rtface.cli.live import show_done
from rtface.report import Report


def test_frames_time_and_rate_belong_together() -> None:
    """The rate is that of the frames that were shown, without what it takes to start and to end."""
    report, stream = Report("in", "out", "1.0", "none", "cpu", frames_out=152, seconds=12.1, fps=19.7), io.StringIO()
    show_done(report, Console(stream=stream))
    assert "152 frames in 8 s (19.7 fps; 12 s with start and end)" in stream.getvalue()
