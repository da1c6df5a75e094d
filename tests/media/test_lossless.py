"""With a lossless codec a film comes out as it went in, sample by sample, time by time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

# Source format, extension, codec asked for (None: the default at --crf 0).
EXACT = [
    ("yuv420p", ".mp4", None),
    ("yuvj420p", ".mp4", None),
    ("yuv420p10le", ".mp4", None),
    ("yuv422p10le", ".mkv", "ffv1"),
    ("yuv444p12le", ".mkv", "ffv1"),
    ("yuv420p16le", ".mkv", None),
    ("gray16le", ".mkv", None),
    ("gray12le", ".mp4", None),
    ("gbrp16le", ".mkv", None),
    ("yuv422p10le", ".mov", "x265"),
    ("yuv444p", ".webm", None),
    ("yuv420p", ".ts", None),
    ("yuv410p", ".mkv", "ffv1"),
    ("yuv411p", ".mkv", "ffv1"),
]


@pytest.mark.parametrize(("pix_fmt", "suffix", "codec"), EXACT, ids=lambda v: str(v))
def test_every_sample_comes_out_as_it_went_in(media, tmp_path: Path, pix_fmt: str, suffix: str, codec: str | None):
    source = media.make_film(
        tmp_path / "in.mkv",
        frames=4,
        pix_fmt=pix_fmt,
        codec=_holder(pix_fmt),
        options={"strict": "-2"} if pix_fmt in ("yuv410p",) else None,
    )
    output = tmp_path / f"out{suffix}"
    always = codec == "ffv1" or pix_fmt.endswith("16le")
    plan = media.passthrough(source, output, codec=codec, crf=None if always else 0)
    assert plan.video.lossless and not plan.video.warnings
    before, after = media.decoded(source), media.decoded(output)
    assert [s for _, s in after] == [s for _, s in before]
    shift = after[0][0] - before[0][0]
    assert all(abs(a - b - shift) <= 0.0005 for (a, _), (b, _) in zip(after, before, strict=True))
    assert suffix == ".ts" or shift == 0


def _holder(pix_fmt: str) -> str:
    return "mjpeg" if pix_fmt.startswith("yuvj") else "ffv1"


@pytest.mark.parametrize(
    ("size", "pix_fmt"),
    [((853, 131), "yuv420p"), ((129, 479), "yuv420p"), ((362, 512), "yuv411p"), ((361, 131), "yuv410p")],
)
def test_ffv1_takes_odd_sizes(media, tmp_path: Path, size: tuple[int, int], pix_fmt: str):
    source = media.make_film(
        tmp_path / "in.mkv", frames=2, size=size, codec="ffv1", pix_fmt=pix_fmt, options={"level": "1"}
    )
    media.passthrough(source, tmp_path / "out.mkv")
    assert [s for _, s in media.decoded(tmp_path / "out.mkv")] == [s for _, s in media.decoded(source)]


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
def test_gray_in_h264_keeps_its_luma(media, tmp_path: Path, pix_fmt: str):
    """H.264 decoders show monochrome as 4:2:0 with neutral chroma; the luma is what was there."""
    source = media.make_film(tmp_path / "in.mkv", frames=3, pix_fmt=pix_fmt, codec="ffv1")
    plan = media.passthrough(source, tmp_path / "out.mp4", crf=0)
    assert plan.video.pix_fmt == pix_fmt
    for (_, before), (_, after) in zip(media.decoded(source), media.decoded(tmp_path / "out.mp4"), strict=True):
        assert after[0] == before[0]
        assert all(
            set(np.frombuffer(p, np.uint8 if pix_fmt == "gray" else "<u2")) == {128 << (pix_fmt != "gray") * 2}
            for p in after[1:]
        )


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "suffix"),
    [
        ("rgb24", "png", ".mp4"),
        ("bgra", "ffv1", ".mp4"),
        ("gbrp", "libx265", ".mkv"),
    ],
)
def test_rgb_stays_rgb(media, tmp_path: Path, pix_fmt: str, codec: str, suffix: str):
    lossless = {"x265-params": "lossless=1:log-level=error"} if codec == "libx265" else {}
    source = tmp_path / ("in.mov" if codec == "png" else "in.mkv")
    media.make_film(source, frames=3, pix_fmt=pix_fmt, codec=codec, options=lossless)
    plan = media.passthrough(source, tmp_path / f"out{suffix}", crf=0)
    assert plan.video.encoder == "libx264rgb" and not plan.video.warnings
    assert media.decoded(tmp_path / f"out{suffix}", as_format="rgb24") == media.decoded(source, as_format="rgb24")


@pytest.mark.parametrize(("codec", "keeps"), [("ffv1", True), ("vp9", True), (None, False)])
def test_odd_sizes(media, tmp_path: Path, codec: str | None, keeps: bool):
    """H.264 refuses odd 4:2:0: one more column and row, with one warning, and every given sample intact."""
    source = media.make_film(tmp_path / "in.mkv", frames=2, size=(65, 47), codec="ffv1")
    output = tmp_path / "out.mkv"
    plan = media.passthrough(source, output, codec=codec, crf=None if codec == "ffv1" else 0)
    with av.open(str(source)) as a, av.open(str(output)) as b:
        for before, after in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert (after.width, after.height) == ((65, 47) if keeps else (66, 48))
            for old, new in zip(before.planes, after.planes, strict=True):
                x = np.frombuffer(old, np.uint8).reshape(-1, old.line_size)[: old.height, : old.width]
                y = np.frombuffer(new, np.uint8).reshape(-1, new.line_size)[: old.height, : old.width]
                assert (x == y).all()
    assert len(plan.video.warnings) == (0 if keeps else 1)


def test_a_tiny_picture(media, tmp_path: Path):
    source = media.make_film(tmp_path / "in.mkv", frames=3, size=(2, 2), codec="ffv1")
    media.passthrough(source, tmp_path / "out.mp4", crf=0)
    assert [s for _, s in media.decoded(tmp_path / "out.mp4")] == [s for _, s in media.decoded(source)]
