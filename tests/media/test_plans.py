"""What is decided before any work: encoders, formats, options, provenance."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import rtface
from rtface.errors import OutputError
from rtface.frame import Color, Display, Frame
from rtface.media.cuda import nvenc
from rtface.media.files.workfile import Target
from rtface.media.formats.color import ColorTags, HdrMetadata, color_of, orientation
from rtface.media.formats.pixel_format import nearest, pixel_format_info
from rtface.media.read.not_shown import find_lost_parts
from rtface.media.write.file_sink import FileSink
from rtface.media.write.stream_plan import plan_frames, plan_output
from rtface.stats import Stats


@pytest.mark.parametrize(
    ("have", "candidates", "want", "losses"),
    [
        ("yuv420p", ["yuv420p", "yuv444p"], "yuv420p", 0),
        ("yuvj420p", ["yuv422p", "yuv420p"], "yuv420p", 0),
        ("nv12", ["yuv444p", "yuv420p"], "yuv420p", 0),
        ("p010le", ["yuv420p", "yuv420p10le", "yuv422p10le"], "yuv420p10le", 0),
        ("yuv440p", ["yuv420p", "yuv444p"], "yuv444p", 0),
        ("yuv422p12le", ["yuv422p10le", "yuv420p12le"], "yuv420p12le", 1),
        ("yuv444p", ["yuv420p"], "yuv420p", 1),
        ("yuv420p10le", ["yuv420p"], "yuv420p", 1),
        ("gray", ["yuv420p", "gray10le"], "gray10le", 0),
        ("gray", ["yuv420p"], "yuv420p", 0),
        ("rgb24", ["yuv444p", "gbrp"], "gbrp", 0),
        ("rgb24", ["yuv420p", "yuv444p"], "yuv444p", 1),
        ("rgba", ["bgr24", "bgra"], "bgra", 0),
        ("rgb48be", ["rgb24", "rgb48le"], "rgb48le", 0),
    ],
)
def test_the_nearest_format(have: str, candidates: list[str], want: str, losses: int):
    best, lost = nearest(have, candidates, alpha=True)
    assert (best, len(lost)) == (want, losses), lost


@pytest.mark.parametrize(
    ("change", "suffix", "encoder"),
    [
        ({}, ".mp4", "libx264"),
        ({}, ".webm", "libvpx-vp9"),
        ({"pix_fmt": "yuv420p10le"}, ".webm", "libsvtav1"),
        ({"pix_fmt": "yuv420p16le"}, ".mkv", "ffv1"),
        ({"pix_fmt": "rgb24"}, ".mp4", "libx264rgb"),
        ({"pix_fmt": "yuv420p10le", "color": Color("bt2020", False, "hlg", 9)}, ".mp4", "libx265"),
        ({"pix_fmt": "rgba", "transparent": True}, ".mov", "qtrle"),
        ({"pix_fmt": "rgba", "transparent": True}, ".mkv", "ffv1"),
        ({"pix_fmt": "yuva444p10le", "transparent": True}, ".mov", "prores_ks"),
        ({"pix_fmt": "rgba", "transparent": False}, ".mov", "libx264rgb"),
    ],
)
def test_the_default_encoder_keeps_depth_and_chroma(media, tmp_path: Path, change: dict, suffix: str, encoder: str):
    opened = media.open(media.make_film(tmp_path / "in.mp4", frames=1))
    plan = plan_output(replace(opened.info, **change), tmp_path / f"out{suffix}")
    want, have = pixel_format_info(change.get("pix_fmt", "yuv420p")), pixel_format_info(plan.video.pix_fmt)
    assert plan.video.encoder == encoder and not plan.video.warnings
    assert have.bits >= want.bits and have.model == want.model and have.sampling == want.sampling


@pytest.mark.parametrize(
    ("size", "preset", "ahead"),
    [
        ((1920, 1080), None, None),
        ((7680, 4320), None, "10"),
        ((12000, 7500), "ultrafast", None),
    ],
)
def test_x264_looks_less_far_ahead_with_large_frames(
    media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], preset: str | None, ahead: str | None
):
    monkeypatch.setattr(nvenc, "check", lambda plan: None)  # opening it takes gigabytes
    opened = media.open(media.make_film(tmp_path / "in.mp4", frames=1))
    plan = plan_output(replace(opened.info, width=size[0], height=size[1]), tmp_path / "out.mp4", preset=preset)
    assert plan.video.options.get("rc-lookahead") == ahead


def test_strict_stops_where_something_would_be_lost(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.mkv", frames=2, size=(65, 47), codec="ffv1")
    opened = media.open(source)
    with pytest.raises(OutputError, match=r"cannot encode 65×47.*\(--strict\)"):
        plan_output(opened.info, tmp_path / "out.mp4", strict=True)
    plan_output(opened.info, tmp_path / "out.mkv", codec="ffv1", strict=True)


@pytest.mark.parametrize(("transfer", "said"), [(2, True), (16, False)])
def test_dolby_vision_that_others_misread_is_said(transfer: int, said: bool):
    lines = find_lost_parts(
        {}, {}, ColorTags(transfer=transfer), HdrMetadata(dynamic=("Dolby Vision",)), alpha=False, header=[]
    )
    assert any("profile 5" in line for line in lines) is said


def test_transparency_that_is_not_decoded_is_said(media, tmp_path: Path):
    source = media.make_film(
        tmp_path / "in.webm",
        frames=2,
        codec="libvpx-vp9",
        extra=lambda box: box.streams.video[0].metadata.update(alpha_mode="1"),
    )
    with pytest.raises(OutputError, match="transparency"):
        plan_output(media.open(source).info, tmp_path / "out.mkv", strict=True)
    rtface.run(source, tmp_path / "out.webm", correct="never", tracker="none")
    with av.open(tmp_path / "out.webm") as out:
        assert "alpha_mode" not in {key.lower() for key in out.streams.video[0].metadata}


def film_that_becomes_transparent(path: Path, codec: str, pix_fmt: str) -> Path:
    with av.open(path, "w") as film:
        stream = film.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for alpha in (255, 255, 90):
            picture = np.full((48, 64, 4), 120, np.uint8)
            picture[..., 3] = alpha
            image = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format=pix_fmt)
            film.mux(stream.encode(image))
        film.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"), [("ffv1", "yuva420p", ".mkv"), ("prores_ks", "yuva444p10le", ".mov")]
)
def test_transparency_that_begins_later_is_kept(media, tmp_path: Path, codec: str, pix_fmt: str, suffix: str):
    source, stats = film_that_becomes_transparent(tmp_path / f"in{suffix}", codec, pix_fmt), Stats()
    media.passthrough(source, tmp_path / f"out{suffix}", stats=stats)
    with av.open(tmp_path / f"out{suffix}") as film:
        alphas = [int(np.median(f.reformat(format="rgba").to_ndarray()[..., 3])) for f in film.decode(video=0)]
    assert alphas == [255, 255, 90] and "transparency" not in stats.warnings


def test_xyz_gets_the_matrix_of_its_size(media, tmp_path: Path):
    info = replace(media.open(media.make_film(tmp_path / "in.mp4", frames=1)).info, pix_fmt="xyz12le", tags=ColorTags())
    video = plan_output(replace(info, width=1998, height=1080), tmp_path / "out.mkv").video
    assert video.convert and (video.tags.matrix, video.tags.range) == (1, 1)


def test_frames_only_of_another_size(media, tmp_path: Path):
    """Comparison films: no other stream, and wider frames than the input's."""
    opened = media.open(media.make_film(tmp_path / "in.mp4", frames=3, sound="aac", chapters=[(0, 100, "One")]))
    plan = plan_frames(replace(opened.info, width=256), Target(tmp_path / "out.mkv", "out.mkv"))
    media.feed(
        (replace(item, image=item.image.reformat(256, 96)) for item in opened if isinstance(item, Frame)),
        FileSink(plan),
    )
    with av.open(str(tmp_path / "out.mkv")) as box:
        assert [s.type for s in box.streams] == ["video"] and not plan.notes
        assert [(f.width, f.height) for f in box.decode(video=0)] == [(256, 96)] * 3


@pytest.mark.parametrize(
    ("matrix", "turns", "mirror"),
    [
        ((65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), 0, False),
        ((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), 1, False),
        ((-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), 2, False),
        ((0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30), 3, False),
        ((-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), 0, True),
        ((65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), 2, True),
        ((0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30), 1, True),
        ((64000, 9000, 0, -9000, 64000, 0, 0, 0, 1 << 30), 0, False),
    ],
)
def test_display_matrices(matrix: tuple[int, ...], turns: int, mirror: bool):
    """A corner of the stored picture goes where the matrix says, when it is turned and mirrored as we read it."""
    assert orientation(matrix) == (turns, mirror)
    x, y = 3.0, 1.0
    for _ in range(turns):
        x, y = -y, x
    if mirror:
        x = -x
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    assert np.allclose([(a * 3 + c) / 65536, (b * 3 + d) / 65536], [x, y], atol=0.6)


@pytest.mark.parametrize(
    ("pix_fmt", "size", "tagged", "want"),
    [
        ("yuv420p", (320, 180), {}, Color("bt601")),
        ("yuv420p", (1280, 720), {}, Color("bt709")),
        ("yuv420p", (720, 576), {}, Color("bt601")),
        ("yuv420p", (320, 180), {"colorspace": 1}, Color("bt709")),
        ("yuvj420p", (320, 180), {}, Color("bt601", True)),
        ("rgb24", (64, 64), {}, Color("rgb", True)),
        ("gray", (64, 64), {}, Color("rgb", True)),
        ("gray", (64, 64), {"color_range": 1}, Color("rgb", False)),
        (
            "yuv420p10le",
            (64, 64),
            {"colorspace": 9, "color_trc": 16, "color_primaries": 9},
            Color("bt2020", False, "pq", 9),
        ),
    ],
)
def test_colour_that_is_left_open_is_decided(pix_fmt: str, size: tuple[int, int], tagged: dict[str, int], want: Color):
    image = av.VideoFrame(*size, pix_fmt)
    for name, value in tagged.items():
        setattr(image, name, value)
    assert color_of(image) == want
    assert color_of(image, codec="mjpeg").siting == "center" and color_of(image, siting="topleft").siting == "topleft"


def test_info_says_what_a_film_is(media, tmp_path: Path):
    source = media.make_film(
        tmp_path / "in.mkv",
        frames=50,
        sound="aac",
        aspect=Fraction(4, 3),
        chapters=[(0, 1000, "One")],
        metadata={"title": "T"},
    )
    opened = media.open(source)
    info = opened.info
    assert (info.width, info.height, info.display_width, info.display_height) == (128, 96, 171, 96)
    assert info.rate == 25 and info.has_audio and info.metadata["title"] == "T"
    assert info.duration_s == pytest.approx(2.0, abs=0.1) and abs(info.expected_frames - 50) <= 2
    assert [(s.kind, s.codec, s.enhanced) for s in info.streams] == [("video", "h264", True), ("audio", "aac", False)]
    assert [c.metadata["title"] for c in info.chapters] == ["One"]
    assert info.display == Display(aspect=Fraction(4, 3)) and info.tags == ColorTags(siting="left")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is filled by glibc")
def test_what_lay_in_memory_does_not_change_what_is_encoded(tmp_path: Path):
    """25 macroblocks a row; x264's look-ahead needs B-frames, and what moves."""
    code = """if True:
        import sys
        from fractions import Fraction
        import av, cv2, numpy as np
        from av.video.codeccontext import VideoCodecContext
        from rtface.media.write.encoders import VideoPlan, configure
        from rtface.media.formats.color import ColorTags
        context, rate = VideoCodecContext.create("libx264", "w"), Fraction(25)
        tags, options = ColorTags(2, 2, 2, 1), {"preset": "veryfast"}
        configure(context, VideoPlan("libx264", "yuv420p", 400, 202, rate, 1 / rate, tags, None, options=options))
        random = np.random.default_rng(0)
        scene = cv2.resize(random.integers(9, 246, (60, 90), dtype=np.uint8), (460, 303))
        for n in range(30):
            picture = scene[:, n : n + 400] + random.integers(-8, 9, (303, 400))
            image = av.VideoFrame.from_ndarray(picture.astype(np.uint8), "yuv420p")
            image.pts, image.time_base = n, 1 / rate
            sys.stdout.buffer.write(b"".join(map(bytes, context.encode(image))))
        sys.stdout.buffer.write(b"".join(map(bytes, context.encode(None))))
    """
    made = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"MALLOC_PERTURB_": fill}, stdout=subprocess.PIPE, check=True
        ).stdout
        for fill in ("0", "85")
    ]
    assert made[0] and made[0] == made[1]


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(25, 2)])
def test_mpeg2_notes_rates_beyond_its_usual_ones(media, tmp_path: Path, rate: Fraction):
    source = media.make_film(tmp_path / "in.mkv", frames=4, rate=rate)
    media.passthrough(source, tmp_path / "out.ts", codec="mpeg2video")
    with av.open(tmp_path / "out.ts") as out:
        assert out.streams.video[0].average_rate == rate
