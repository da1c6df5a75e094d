"""Closed captions (CEA-608): a track of them stays in MOV; those that are lost are said to be."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import av
import pytest

from rtface.errors import OutputError
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats
from tests.media.encoded import captioned_h264

CODES = (
    "9420 9420 94ae 94ae 9470 9470 c845 4c4c 4f80 942f 942f",
    "942c 942c 9420 9420 94ae 94ae 9470 9470 574f 524c c480 942f 942f",
)
SCC = f"Scenarist_SCC V1.0\n\n00:00:00:06\t{CODES[0]}\n\n00:00:00:24\t{CODES[1]}\n\n"


@pytest.fixture(scope="module")
def captioned(media, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def track(box: Any) -> Callable[[], None]:
        read = av.open(io.BytesIO(SCC.encode()), format="scc")
        stream = box.add_stream_from_template(read.streams.subtitles[0], opaque=True)

        def write() -> None:
            for packet in read.demux():
                if packet.size:
                    packet.stream, packet.duration = stream, 594
                    box.mux(packet)
            read.close()

        return write

    return media.make_film(tmp_path_factory.mktemp("film") / "in.mov", frames=40, extra=track)


def test_a_caption_track_stays_in_mov(media, captioned: Path, tmp_path: Path):
    media.passthrough(captioned, tmp_path / "out.mov")
    packets = list[list[bytes]]()
    for path in (captioned, tmp_path / "out.mov"):
        with av.open(str(path)) as box:
            packets.append([bytes(packet) for packet in box.demux(box.streams.subtitles[0]) if packet.size > 2])
    assert packets[0] == packets[1] and len(packets[0]) >= 2
    with pytest.raises(OutputError, match=r"eia_608\); name the output out\.mov"):
        media.passthrough(captioned, tmp_path / "out.mkv")


@pytest.mark.parametrize(("codec", "said"), [("ffv1", True), ("libx264", False)])
def test_captions_that_begin_later_are_not_lost_in_silence(media, tmp_path: Path, codec: str, said: bool):
    captioned_h264(tmp_path / "in.h264", [b"", b"", b"\x94\x20"])
    stats, opened = Stats(), media.open(tmp_path / "in.h264")
    plan = plan_output(opened.info, tmp_path / "out.mkv", codec=codec, strict=True)
    with pytest.raises(OutputError, match="captions of later frames") if said else nullcontext():
        media.feed(opened, FileSink(plan, stats))
    plan = media.passthrough(tmp_path / "in.h264", tmp_path / "out.mkv", codec=codec, stats=stats)
    assert not [line for line in plan.video.warnings if "captions" in line]
    assert ("captions" in stats.warnings) == said
