"""Lossless in, lossless out; made for editing in and out; and one line where a class is not kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from rtface.errors import OutputError
from rtface.media.files.workfile import Target
from rtface.media.formats.coding import Coding, coding_of
from rtface.media.formats.color import HdrMetadata
from rtface.media.write.stream_plan import plan_frames, plan_output

LOSSLESS_265 = {"x265-params": "lossless=1:log-level=error"}


def coding(path: Path) -> Coding:
    with av.open(str(path)) as box:
        return coding_of(box.streams.video[0].codec_context)


# Codec, samples, options, container of the input, of the output, and the encoder that keeps every sample.
KEPT = [
    ("ffv1", "yuv420p", {}, ".mkv", ".mkv", "ffv1"),
    ("huffyuv", "yuv422p", {}, ".avi", ".mkv", "ffv1"),
    ("magicyuv", "yuv444p", {}, ".avi", ".mov", "magicyuv"),
    ("v210", "yuv422p10le", {}, ".mov", ".mov", "v210"),
    ("jpeg2000", "yuv422p10le", {"pred": "dwt53"}, ".mkv", ".mkv", "ffv1"),
    ("libx264", "yuv420p", {"qp": "0"}, ".mp4", ".mp4", "libx264"),
    ("libx264", "yuv444p", {"crf": "0"}, ".mkv", ".mov", "libx264"),
    ("libx265", "yuv420p10le", LOSSLESS_265, ".mp4", ".mkv", "libx265"),
    ("qtrle", "rgb24", {}, ".mov", ".mov", "qtrle"),
    ("rawvideo", "bgr24", {}, ".nut", ".mov", "rawvideo"),
    ("libx264rgb", "bgr24", {"qp": "0"}, ".mkv", ".mp4", "libx264rgb"),
]


@pytest.mark.parametrize(("codec", "pix_fmt", "options", "held", "suffix", "encoder"), KEPT, ids=str)
def test_lossless_stays_lossless(
    media, tmp_path: Path, codec: str, pix_fmt: str, options: dict[str, str], held: str, suffix: str, encoder: str
):
    source = media.make_film(tmp_path / f"in{held}", frames=5, pix_fmt=pix_fmt, codec=codec, options=options)
    plan = media.passthrough(source, tmp_path / f"out{suffix}", strict=True)
    assert (plan.video.encoder, plan.video.coding, plan.video.warnings) == (encoder, "lossless", [])
    before, after = (
        media.decoded(path, as_format="rgb24" if pix_fmt in ("rgb24", "bgr24") else "")
        for path in (source, tmp_path / f"out{suffix}")
    )
    assert [s for _, s in after] == [s for _, s in before]
    assert coding(tmp_path / f"out{suffix}").kind == "lossless"


@pytest.mark.parametrize(
    ("suffix", "options"), [(".mp4", {}), (".webm", {}), (".mkv", {"crf": 20}), (".mov", {"codec": "prores"})]
)
def test_a_lossless_input_that_becomes_lossy_is_one_line(media, tmp_path: Path, suffix: str, options: dict):
    opened = media.open(media.make_film(tmp_path / "in.mkv", frames=2, codec="ffv1"))
    plan = plan_output(opened.info, tmp_path / f"out{suffix}", **options)
    assert len(plan.video.warnings) == 1 and plan.video.coding != "lossless"
    with pytest.raises(OutputError, match=r"is lossless \(FFV1\) and becomes lossy.*\.mkv output.*\(--strict\)"):
        plan_output(opened.info, tmp_path / f"out{suffix}", strict=True, **options)


def test_crf_0_keeps_a_lossless_input(media, tmp_path: Path):
    opened = media.open(media.make_film(tmp_path / "in.mkv", frames=2, codec="ffv1"))
    plan = plan_output(opened.info, tmp_path / "out.mp4", strict=True, crf=0)
    assert plan.video.encoder == "libx264" and plan.video.lossless and not plan.video.warnings
    hdr = replace(opened.info, hdr=HdrMetadata(light=(1000, 400)), pix_fmt="yuv420p10le")
    assert plan_output(hdr, tmp_path / "out.mkv").video.encoder == "ffv1"  # the container carries it


@pytest.mark.parametrize(
    ("codec", "profile", "name", "pix_fmt", "suffix"),
    [
        ("prores_ks", "proxy", "ProRes Proxy", "yuv422p10le", ".mov"),
        ("prores_ks", "4444xq", "ProRes XQ", "yuv444p10le", ".mov"),
        ("dnxhd", "dnxhr_lb", "DNxHR LB", "yuv422p", ".mov"),
    ],
)
def test_what_is_made_for_editing_keeps_its_profile(
    media, tmp_path: Path, codec: str, profile: str, name: str, pix_fmt: str, suffix: str
):
    source = media.make_film(
        tmp_path / "in.mov", frames=2, pix_fmt=pix_fmt, codec=codec, size=(320, 180), options={"profile": profile}
    )
    plan = media.passthrough(source, tmp_path / f"out{suffix}", strict=codec == "dnxhd")
    assert plan.video.encoder == codec and plan.video.coding == "mezzanine"
    assert coding(source) == coding(tmp_path / f"out{suffix}") == Coding("mezzanine", name, profile)


@pytest.mark.parametrize(
    ("codec", "suffix", "says"),
    [
        ("prores_ks", ".mp4", r"ProRes HQ.*a \.mov or \.mkv output"),
        ("dnxhd", ".mkv", r"DNxHR HQX.*a \.mov output"),
    ],
)
def test_made_for_editing_becomes_lossy_with_one_line(media, tmp_path: Path, codec: str, suffix: str, says: str):
    source = media.make_film(
        tmp_path / "in.mov",
        frames=2,
        pix_fmt="yuv422p10le",
        codec=codec,
        size=(320, 180),
        options={"profile": "dnxhr_hqx"} if codec == "dnxhd" else {},
    )
    opened = media.open(source)
    assert len(plan_output(opened.info, tmp_path / f"out{suffix}").video.warnings) == 1
    with pytest.raises(OutputError, match=rf"is made for editing \(.*{says}.*\(--strict\)"):
        plan_output(opened.info, tmp_path / f"out{suffix}", strict=True)


def test_interlaced_dnxhr_falls_back_and_says_so(media, tmp_path: Path):
    """DNxHR knows no fields: the encoder refuses, and the default takes over."""
    source = media.make_film(
        tmp_path / "in.mov",
        frames=2,
        pix_fmt="yuv422p10le",
        codec="dnxhd",
        size=(320, 180),
        options={"profile": "dnxhr_hqx"},
    )
    opened = media.open(source)
    info = replace(opened.info, interlaced=True, display=replace(opened.info.display, fields="tff"))
    plan = plan_output(info, tmp_path / "out.mov")
    assert plan.video.encoder == "libx264" and "becomes lossy" in plan.video.warnings[0]


@pytest.mark.parametrize(
    ("codec", "options", "suffix", "kind"),
    [
        ("libx264", {"crf": "18"}, ".mp4", "lossy"),
        ("libx264", {"qp": "1"}, ".ts", "lossy"),
        ("libx264", {"qp": "0"}, ".mp4", "lossless"),
        ("libx264", {"qp": "0"}, ".ts", "lossless"),
        ("libx265", LOSSLESS_265, ".mp4", "lossless"),
        ("libx265", LOSSLESS_265, ".ts", "lossless"),
        ("libx265", {"x265-params": "log-level=error"}, ".mkv", "lossy"),
        ("libx265", {"x265-params": "cu-lossless=1:log-level=error"}, ".mkv", "lossy"),
        ("jpeg2000", {"pred": "dwt97int"}, ".mkv", "lossy"),
    ],
)
def test_what_parameter_sets_say(media, tmp_path: Path, codec, options, suffix, kind):
    film = media.make_film(tmp_path / f"in{suffix}", frames=4, codec=codec, options=options)
    assert media.open(film).info.coding.kind == kind


@pytest.mark.parametrize("extradata", [b"", b"\1", b"\1d\0\n\xff\xe1\0\x20\x67\xf4", b"\0\0\1\x67\xf4\0\n", bytes(40)])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_parameter_sets_that_are_cut_off_say_lossy(codec: str, extradata: bytes):
    context = av.CodecContext.create(codec, "r")
    context.extradata = extradata
    assert coding_of(context).kind == "lossy"


def test_a_comparison_film_stays_small(media, tmp_path: Path):
    opened = media.open(media.make_film(tmp_path / "in.mkv", frames=2, codec="ffv1"))
    plan = plan_frames(opened.info, Target(tmp_path / "pairs.mkv", "pairs.mkv"))
    assert plan.video.encoder == "libx264" and not plan.video.warnings
