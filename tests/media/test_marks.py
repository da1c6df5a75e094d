"""What outputs say of themselves: by what was changed on their frames, and by what their input said."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from rtface.frame import Frame
from rtface.media.formats.image_meta import read_meta
from rtface.media.marks.provenance import (
    DIGITAL_SOURCE_TYPE,
    ENHANCED,
    GENERATED,
    Change,
    append_xmp_box,
    describe,
    own_tags,
    source_type_of,
    true_tags,
    xmp,
)
from rtface.media.stills.images import plan_image, read_image, write_image
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from tests.media.conftest import make_film, passthrough

TAGS = describe("rtface-m 1", "0.1.0", 0.75, {"grain": "match"})
CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="reel 4"><Iptc4xmpExt:DigitalSourceType>'
    + CAPTURE.encode()
    + b"</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def said(path: Path) -> dict[str, str]:
    """The tags of a film that rtface writes, by name."""
    with av.open(str(path)) as box:
        assert len(list(box.decode(video=0)))
        return own_tags(box.metadata)


def packet_of(path: Path) -> bytes:
    """The XMP packet of an MP4 or MOV; the last box of the file."""
    data = path.read_bytes()
    at = data.rfind(bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"))
    return b"" if at < 0 else data[at + 16 :]


@pytest.mark.parametrize(
    ("change", "own", "source"),
    [
        (Change.NOTHING, "", ""),
        (Change.NOTHING, CAPTURE, CAPTURE),
        (Change.FILTERED, CAPTURE, ENHANCED),
        (Change.FILTERED, DIGITAL_SOURCE_TYPE, DIGITAL_SOURCE_TYPE),
        (Change.CORRECTED | Change.FILTERED, ENHANCED, DIGITAL_SOURCE_TYPE),
        (Change.GENERATED | Change.CORRECTED, DIGITAL_SOURCE_TYPE, GENERATED),
        (Change.CORRECTED, "digsrctype:trainedAlgorithmicMedia", "digsrctype:trainedAlgorithmicMedia"),
    ],
)
def test_the_strongest_source_type_that_is_true(change: Change, own: str, source: str) -> None:
    tags = true_tags(TAGS, change, {"digital_source_type": own} if own else {})
    assert tags.get("digital_source_type", "") == source
    assert ("enhanced_by" in tags) is bool(change)
    assert ("rtface_engine" in tags) is bool(change & Change.CORRECTED)


def test_what_a_stage_drew_is_said() -> None:
    tags = {"enhanced_by": "rtface 0.1.0", "rtface_options": "stages=label"}
    assert true_tags(TAGS | tags, Change.DRAWN) == tags


@pytest.mark.parametrize(
    ("suffix", "own"),
    [
        (".mp4", ""),
        (".mov", "a source " + 60 * "é"),
        (".mov", GENERATED),
        (".mkv", CAPTURE),
        (".mkv", "a source " + 60 * "é"),
        (".webm", GENERATED),
    ],
)
def test_each_container_says_what_was_done(tmp_path: Path, suffix: str, own: str) -> None:
    source = make_film(
        tmp_path / "in.mkv",
        frames=3,
        metadata={"title": "Kept"}
        | ({"digital_source_type": own, "enhanced_by": "rtface 0.0.1 and longer than ours"} if own else {}),
    )
    kept = {"digital_source_type": own, "enhanced_by": "rtface 0.0.1 and longer than ours"} if own else {}
    out = tmp_path / f"out{suffix}"
    for corrected, marks in ((False, {}), (False, {"filtered": True}), (True, {}), (True, {"generated": True})):
        passthrough(source, out, tags=TAGS, corrected=corrected, marks=marks)
        change = Change.of(frame(corrected=corrected, **marks))
        assert said(out) == true_tags(TAGS, change, kept)
        with av.open(str(out)) as box:
            assert "Kept" in {box.metadata.get(name) for name in ("title", "TITLE")}
        if suffix in (".mp4", ".mov"):
            packet = packet_of(out)
            assert bool(packet) is bool(change)
            assert source_type_of(packet) == (said(out)["digital_source_type"] if change else "")


def frame(**marks: bool) -> Any:
    """A stand-in for a frame with these marks."""
    return SimpleNamespace(
        **{"touched": False, "corrected": False, "filtered": False, "generated": False, "filled": None} | marks
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_xmp_of_a_film_is_kept(tmp_path: Path, suffix: str) -> None:
    source, out = make_film(tmp_path / "in.mp4", frames=3), tmp_path / f"out{suffix}"
    with source.open("rb+") as file:
        append_xmp_box(file, PACKET)
    passthrough(source, out, tags=TAGS, corrected=False)
    assert said(out) == {"digital_source_type": CAPTURE}
    assert packet_of(out) == (PACKET if suffix != ".mkv" else b"")
    passthrough(source, out, tags=TAGS)
    assert said(out) == TAGS
    if suffix != ".mkv":
        assert source_type_of(packet_of(out)) == DIGITAL_SOURCE_TYPE
        assert b'dc:source="reel 4"' in packet_of(out) and CAPTURE.encode() not in packet_of(out)


@pytest.mark.parametrize(
    ("suffix", "marks"), [(".mp4", {}), (".mkv", {"filtered": True}), (".mkv", {}), (".mp4", {"corrected": True})]
)
def test_the_mark_of_an_interrupted_film_is_true(media, tmp_path: Path, suffix: str, marks: dict[str, bool]) -> None:
    opened = media.open(make_film(tmp_path / "in.mkv", frames=30, metadata={"digital_source_type": CAPTURE}))
    plan = plan_output(opened.info, tmp_path / f"out{suffix}")
    plan.metadata.update(TAGS)
    sink = FileSink(plan)
    media.feed((replace(item, **marks) if isinstance(item, Frame) else item for item in opened), sink, 20)
    partial = sink.abort(keep_partial=True)
    assert partial and said(Path(partial)) == true_tags(
        TAGS, Change.of(frame(**marks)), {"digital_source_type": CAPTURE}
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_unfinished_film_never_says_untouched(media, tmp_path: Path, suffix: str) -> None:
    """What a killed run leaves was not completed: its header says the most that may be true."""
    opened = media.open(make_film(tmp_path / "in.mkv", frames=40, metadata={"digital_source_type": CAPTURE}))
    plan = plan_output(opened.info, tmp_path / f"out{suffix}", preset="ultrafast")
    plan.metadata.update(TAGS)
    sink = FileSink(plan)
    media.feed(opened, sink, 39)
    left = sink.work.read_bytes()
    sink.abort(keep_partial=False)
    assert DIGITAL_SOURCE_TYPE.encode() in left and CAPTURE.encode() not in left


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_each_still_says_what_was_done(tmp_path: Path, suffix: str) -> None:
    image = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90, np.uint8), "rgb24")
    made = tmp_path / f"in{suffix}"
    write_image(Frame(image, 0, Fraction(1, 25)), plan_image(made))
    assert b"rtface" not in made.read_bytes()
    still = read_image(made)
    for marks, source in (
        ({}, CAPTURE),
        ({"touched": True}, CAPTURE),
        ({"corrected": True}, DIGITAL_SOURCE_TYPE),
        ({"touched": True, "generated": True}, GENERATED),
    ):
        still.meta.xmp = PACKET
        out = tmp_path / f"out{suffix}"
        write_image(replace(still.frame, **marks), plan_image(out, overwrite=True), still=still, tags=TAGS)
        found = read_image(out).meta.xmp or b""
        assert source_type_of(found) == source and b"reel 4" in found
        assert (b"rtface" in out.read_bytes()) is bool(marks)
    assert suffix == ".tif" or read_meta(out.read_bytes()).xmp


@pytest.mark.parametrize(
    "property",
    [
        b' Iptc4xmpExt:DigitalSourceType="%s"',
        b" Iptc4xmpExt:DigitalSourceType='%s'",
        b'><Iptc4xmpExt:DigitalSourceType rdf:resource="%s"/></rdf:Description',
        b"><a:DigitalSourceType>%s</a:DigitalSourceType></b",
    ],
)
def test_a_source_type_is_found_however_it_is_written(property: bytes) -> None:
    packet = b"<rdf:RDF><rdf:Description" + property % CAPTURE.encode() + b"></rdf:RDF>"
    assert source_type_of(packet) == CAPTURE
    new = xmp(TAGS, packet)
    assert source_type_of(new) == DIGITAL_SOURCE_TYPE and CAPTURE.encode() not in new
