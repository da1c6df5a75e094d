"""Frames of a live source that the decoder would show though they are damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from pathlib import Path

import av
import pytest

from rtface.live.sources.read_worker import DamageFilter
from tests.media.conftest import make_film
from tests.media.encoded import torn_jpegs, with_bytes, without_frames, without_packets

FRAMES = 60


def decoded(path: Path) -> tuple[int, int]:
    """How many frames are shown, and how many are damaged."""
    with av.open(path) as box:
        decoder, shown = DamageFilter(box.streams.video[0], counts := Counter()), 0
        for packet in box.demux(video=0):
            shown += len(decoder.decode(packet)) if packet.size else 0
    return shown, counts["frames_corrupt"]


@pytest.mark.parametrize(("torn", "shown"), [((), FRAMES), (range(5, FRAMES, 10), FRAMES - 6), (range(FRAMES), 45)])
def test_torn_frames_are_left_out_unless_most_are(torn: Container[int], shown: int, tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.avi", frames=FRAMES, codec="mjpeg", pix_fmt="yuvj420p", size=(320, 240))
    broken = torn_jpegs(whole, tmp_path / "in.avi", torn)
    assert decoded(broken) == (shown, sum(n in torn for n in range(FRAMES)))


def test_damage_of_other_streams_is_shown_and_counted(tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.ts", frames=FRAMES, options={"g": "20", "crf": "8", "tune": "zerolatency"})
    assert decoded(whole) == (FRAMES, 0)
    shown, damaged = decoded(without_packets(whole, tmp_path / "in.ts", [40]))
    assert shown == FRAMES and 0 < damaged <= 20


def test_a_block_of_zeros_in_hevc_is_counted(tmp_path: Path) -> None:
    options = {"g": "20", "crf": "4", "tune": "zerolatency", "x265-params": "log-level=none"}
    whole = make_film(tmp_path / "whole.ts", frames=FRAMES, codec="libx265", options=options)
    assert decoded(whole) == (FRAMES, 0)
    shown, damaged = decoded(with_bytes(whole, tmp_path / "in.ts", {30: 230}, bytes(64)))
    assert shown == FRAMES and 0 < damaged <= 20


def test_missing_frames_are_counted(tmp_path: Path) -> None:
    whole = make_film(tmp_path / "whole.ts", frames=FRAMES, options={"g": "20", "tune": "zerolatency"})
    with av.open(without_frames(whole, tmp_path / "in.ts", range(30, 34))) as box:
        decoder = DamageFilter(box.streams.video[0], counts := Counter())
        shown = sum(len(decoder.decode(packet)) for packet in box.demux(video=0))
    assert (shown, counts["frames_missing"], counts["frames_corrupt"]) == (FRAMES - 4, 4, 6)
