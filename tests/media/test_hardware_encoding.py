"""NVENC: what its options mean, when it is chosen, and that software writes the same file where it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from rtface.errors import OutputError, UsageError
from rtface.media.cuda import driver, nvenc
from rtface.media.cuda.nvenc import Encoding
from rtface.media.formats.color import HdrMetadata
from rtface.media.write import frame_encoder
from rtface.media.write.encoders import FAMILIES, SPEEDS, accel, check
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_output
from rtface.stats import Stats

needs_no_driver = pytest.mark.skipif(driver.absent() is None, reason="a CUDA driver is here")


@pytest.fixture
def info(media: Any, tmp_path: Path):
    """What is known of a small film; keyword arguments change it."""
    opened = media.open(media.make_film(tmp_path / "in.mp4", frames=3))
    return lambda **change: replace(opened.info, **change)


@pytest.fixture
def willing(monkeypatch: pytest.MonkeyPatch):
    """A GPU whose encoders open; gives the plans that were opened."""
    plans: list[Any] = []
    monkeypatch.setattr(driver, "absent", lambda device=0: None)

    def opened(plan: Any) -> None:
        plans.append(plan)
        if not plan.encoder.endswith("_nvenc"):
            check(plan)

    monkeypatch.setattr(nvenc, "check", opened)
    return plans


# -- what the options mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_ffmpeg_knows_every_option_that_is_set(codec):
    """Checked against the encoder's own table, which needs no GPU; opening one needs it for everything else."""
    known = {o.name: o for o in av.CodecContext.create(codec, "w").supported_options.private}
    family = FAMILIES[codec]
    assert {"cq", "preset", "rc", "tune", "gpu"} <= set(known)
    assert known["cq"].min == 0
    presets = {choice.name for choice in known["preset"].choices}
    assert set(SPEEDS.values()) <= presets and family.speed in presets
    assert "vbr" in {choice.name for choice in known["rc"].choices}
    if family.lossless:
        assert "lossless" in {choice.name for choice in known["tune"].choices}
    assert family.formats and set(family.formats) <= {f.name for f in av.Codec(codec, "w").video_formats or []}


@pytest.mark.parametrize(
    ("codec", "crf", "preset", "want"),
    [
        ("h264_nvenc", None, None, {"rc": "vbr", "b": "0", "cq": "20", "preset": "p5"}),
        ("hevc_nvenc", 17.5, "fast", {"rc": "vbr", "b": "0", "cq": "17.5", "preset": "p4"}),
        ("hevc_nvenc", 0, "veryslow", {"tune": "lossless", "b": "0", "preset": "p7"}),
        ("av1_nvenc", 0, None, {"rc": "vbr", "b": "0", "cq": "1", "preset": "p5"}),
    ],
)
def test_quality_and_speed(info, willing, tmp_path, codec, crf, preset, want):
    """--crf is NVENC's target quality on the same scale, --preset its speed under either name."""
    plan = plan_output(info(), tmp_path / "out.mkv", codec=codec, crf=crf, preset=preset).video
    assert {k: v for k, v in plan.options.items() if k != "chroma_sample_location"} == want
    assert plan.lossless == (crf == 0 and codec != "av1_nvenc") and willing == [plan]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"codec": "h264_nvenc", "encode": Encoding("software")}, "contradict"),
        ({"codec": "libx264", "encode": Encoding("cuda")}, "has no GPU encoder"),
    ],
)
def test_what_cannot_be_asked_for(info, tmp_path, options, why):
    with pytest.raises(UsageError, match=why):
        plan_output(info(), tmp_path / "out.mkv", **options)


# -- when it is chosen ----------------------------------------------------------------------------------------------


TEN = {"pix_fmt": "p010le", "on_gpu": True}


@pytest.mark.parametrize(
    ("change", "options", "want"),
    [
        ({}, {}, "libx264"),
        ({}, {"encode": Encoding("cuda", 1)}, "h264_nvenc"),
        ({}, {"encode": Encoding("cuda"), "codec": "AV1"}, "av1_nvenc"),
        ({"pix_fmt": "nv12", "on_gpu": True}, {}, "h264_nvenc"),
        ({"pix_fmt": "nv12", "on_gpu": True}, {"codec": "libx264"}, "libx264"),
        ({"pix_fmt": "nv12", "on_gpu": True}, {"encode": Encoding("software")}, "libx264"),
        ({"pix_fmt": "nv12", "on_gpu": True}, {"crf": 0}, "libx264"),
        (TEN, {}, "hevc_nvenc"),
        (TEN | {"hdr": HdrMetadata(light=(1000, 400))}, {}, "libx265"),
        (TEN | {"hdr": HdrMetadata(light=(1000, 400))}, {"codec": "hevc_nvenc"}, "hevc_nvenc"),
        ({"pix_fmt": "yuv420p12le"}, {"encode": Encoding("cuda")}, "libx265"),
        ({"pix_fmt": "yuv422p10le"}, {"encode": Encoding("cuda")}, "hevc_nvenc"),
    ],
)
def test_when_the_gpu_encodes(info, willing, tmp_path, change, options, want):
    output = plan_output(info(**change), tmp_path / "out.mkv", **options)
    plan = output.video
    assert plan.encoder == want
    if want.endswith("_nvenc"):
        assert plan.device == options.get("encode", Encoding()).device
        assert plan.on_gpu == change.get("on_gpu", False)
        assert plan.described == f"{want} on cuda:{plan.device}"
    elif options.get("encode") == Encoding("cuda"):
        assert len(output.warnings) == 1


def test_named_it_may_lose_what_it_says(info, willing, tmp_path):
    """Who names the encoder gets it, with the warnings of any encoder; --strict stops."""
    twelve = info(pix_fmt="yuv420p12le")
    plan = plan_output(twelve, tmp_path / "out.mkv", codec="hevc_nvenc")
    assert plan.video.pix_fmt == "p010le" and plan.video.warnings == ["hevc_nvenc: 12 bits a sample become 10"]
    hdr = plan_output(info(hdr=HdrMetadata(light=(1, 1))), tmp_path / "out.mkv", codec="hevc_nvenc")
    assert "cannot carry the HDR" in hdr.video.warnings[0]
    with pytest.raises(OutputError, match="--strict"):
        plan_output(twelve, tmp_path / "out.mkv", codec="hevc_nvenc", strict=True)


def test_pictures_on_the_gpu_are_handed_over_as_they_are(info, willing, tmp_path, monkeypatch):
    plan = plan_output(info(pix_fmt="nv12", on_gpu=True), tmp_path / "out.mkv").video
    made = accel(plan)
    assert made is not None and made.options == {"primary_ctx": "1"}
    assert accel(replace(plan, on_gpu=False)) is None
    there: Any = SimpleNamespace(format=SimpleNamespace(name="cuda"), width=plan.width, height=plan.height)
    here = av.VideoFrame(plan.width, plan.height, "yuv420p")
    assert frame_encoder.fit(there, plan) is there
    assert frame_encoder.fit(here, plan).format.name == "nv12"  # PyAV uploads it
    monkeypatch.setattr(frame_encoder, "software", lambda image: here if image is there else image)
    software = plan_output(info(pix_fmt="nv12", on_gpu=True), tmp_path / "o.mkv", encode=Encoding("software")).video
    assert frame_encoder.fit(there, replace(software, pix_fmt="yuv420p")) is here


def test_a_gpu_that_would_have_to_pad_gets_pictures_of_the_host(info, willing, tmp_path):
    plan = plan_output(info(pix_fmt="nv12", on_gpu=True, width=127), tmp_path / "o.mkv", codec="h264_nvenc").video
    assert plan.width == 128 and not plan.on_gpu


# -- when it is refused ---------------------------------------------------------------------------------------------


@needs_no_driver
@pytest.mark.parametrize(
    ("options", "software", "late"),
    [
        ({"codec": "h264_nvenc", "preset": "p6", "crf": 20}, {"codec": "libx264", "crf": 20}, False),
        ({"codec": "h264_nvenc", "preset": "faster"}, {"codec": "libx264", "preset": "faster"}, True),
        ({"codec": "av1_nvenc", "preset": "fast"}, {"codec": "libsvtav1"}, False),
        ({"encode": Encoding("cuda")}, {}, True),
    ],
)
def test_software_writes_the_same_file(media, tmp_path, monkeypatch, options, software, late):
    """One warning, and not a byte of difference to asking for software; `late`: FFmpeg refuses, not our check."""
    if late:
        monkeypatch.setattr(driver, "absent", lambda device=0: None)
    source = media.make_film(tmp_path / "in.mp4", frames=6, sound="aac")
    stats, quiet = Stats(), Stats()
    plan = media.passthrough(source, tmp_path / "a.mp4", stats=stats, **options)
    want = media.passthrough(source, tmp_path / "b.mp4", stats=quiet, **software)
    assert plan.video.encoder == want.video.encoder
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    (said,) = stats.warnings.values()
    assert f"{want.video.encoder} encodes instead" in said and not quiet.warnings


@needs_no_driver
def test_where_the_gpu_was_only_the_better_choice_a_note_says_so(info, tmp_path):
    plan = plan_output(info(pix_fmt="nv12", on_gpu=True), tmp_path / "out.mp4")
    assert plan.video.encoder == "libx264" and not plan.warnings
    assert any("h264_nvenc cannot be used" in note for note in plan.notes)


def test_fields_are_not_the_gpus(info, willing, tmp_path):
    film = info()
    fields = replace(film, interlaced=True, display=replace(film.display, fields="tff"))
    plan = plan_output(fields, tmp_path / "out.mp4", codec="h264_nvenc")
    assert plan.video.encoder == "libx264" and plan.video.fields == "tff"
    assert "no longer encode interlaced" in plan.warnings[0]


@needs_no_driver
def test_an_encoder_that_opens_once_and_not_again_leaves_nothing(info, willing, tmp_path):
    """A GPU's sessions can run out between the plan and the first picture."""
    plan = plan_output(info(pix_fmt="nv12", on_gpu=True), tmp_path / "out.mp4")
    assert plan.video.on_gpu
    with pytest.raises(OutputError, match=r"h264_nvenc on cuda:0 cannot be opened .* --encode software"):
        FileSink(plan, Stats())
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
