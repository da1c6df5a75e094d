"""Scans of films: DPX sequences in and out, with their headers, numbers, rate and timecode."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile

import rtface
from rtface.errors import InputError, OutputError, UsageError
from rtface.geometry.color_curves import curve_of
from rtface.media.stills.dpx import DpxHeader, decode_dpx, new_dpx, rewrite_dpx, with_timecode
from rtface.media.stills.exr import ExrHeader, decode_exr, rewrite_exr, shown
from rtface.media.stills.exr import light_of as exr_light
from rtface.media.stills.image_read import read_image
from rtface.media.stills.sequence import SequenceSource
from rtface.util.av_arrays import copy_image
from rtface.util.timecode import Timecode
from tests.media.conftest import samples
from tests.media.encoded import encoded
from tests.pipeline.run_media import film, portrait

RATE = Fraction(24)
LOG, LINEAR, VIDEO = 1, 2, 6


def coded(light: np.ndarray) -> np.ndarray:
    """Printing density, 10 bits, of light where diffuse white is 1 (Cineon's formula)."""
    black = 10 ** ((95 - 685) * 0.002 / 0.6)
    return np.clip(np.round(685 + np.log10(np.maximum(light * (1 - black) + black, 1e-9)) * 0.6 / 0.002), 0, 1023)


def scan(path: Path, *, number: int = 0, transfer: int = LOG, fmt: str = "gbrp10be", face: bool = True) -> Path:
    """A DPX that FFmpeg encoded, with header fields, user data and a timecode as a scanner writes them."""
    picture = portrait(shift=(0.5 * number, 0.0))[0] if face else np.full((180, 320, 3), 90 + number, np.uint8)
    if transfer == LOG:
        planes = coded((picture / 255.0) ** 2.2).astype("<u2")
        image = av.VideoFrame(320, 180, "gbrp10le")
        for plane, k in zip(image.planes, (1, 2, 0), strict=True):
            padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
            padded[:, :320] = planes[..., k]
            plane.update(padded.tobytes())
        image = image.reformat(format=fmt) if fmt != "gbrp10le" else image
    else:
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format=fmt)
    image.pts = 0
    data = encoded(image, "dpx")
    order = ">" if data[:4] == b"SDPX" else "<"
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    head = bytearray(data[:at].ljust(2048, b"\0")) + b"scanner's own data".ljust(512, b"\1")
    struct.pack_into(f"{order}I", head, 4, len(head))
    struct.pack_into(f"{order}I", head, 16, len(head) + len(data) - at)
    struct.pack_into(f"{order}III", head, 24, 1664, 384, 512)
    head[160:170], head[260:272] = b"scanner\0\0\0", b"Reel 4, nitr"
    head[801] = head[802] = transfer
    head[1664:1680] = b"KU12345678901234"  # keycode
    struct.pack_into(f"{order}f", head, 1724, 24.0)
    return_to = with_timecode(bytes(head) + data[at:], Timecode.parse("01:00:00:00", RATE).plus(number))
    path.write_bytes(return_to)
    return path


def scans(folder: Path, count: int = 3, first: int = 86_400, **options: object) -> Path:
    folder.mkdir()
    for number in range(count):
        scan(folder / f"reel4_{first + number:07d}.dpx", number=number, **options)
    return folder


def differing(one: Path, other: Path) -> np.ndarray:
    """Places of the bytes that differ in two files of one size."""
    a, b = (np.frombuffer(path.read_bytes(), np.uint8) for path in (one, other))
    assert len(a) == len(b)
    return np.flatnonzero(a != b)


@pytest.mark.parametrize(
    ("fmt", "transfer"),
    [("gbrp10be", LOG), ("rgb24", VIDEO), ("gray16le", LINEAR)],
)
@pytest.mark.usefixtures("engines")
def test_only_samples_of_faces_change_in_the_files(tmp_path: Path, fmt: str, transfer: int) -> None:
    source = scans(tmp_path / "in", fmt=fmt, transfer=transfer)
    report = rtface.run(source, f"{tmp_path}/out/", sequence=True)
    assert report.frames_corrected == 3 and report.timecode == "01:00:00:00"
    assert f"DPX of {10 if '10' in fmt else 8 if fmt == 'rgb24' else 16} bits" in report.notes[0]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"reel4_008640{k}.dpx" for k in range(3)]
    for path in source.iterdir():
        places = differing(path, tmp_path / "out" / path.name)
        assert len(places) and places[0] >= 2560  # header, keycode and user data stay
        before, after = (decode_dpx(p.read_bytes()) for p in (path, tmp_path / "out" / path.name))
        changed = np.abs(before.to_ndarray(format="gray16le").astype(int) - after.to_ndarray(format="gray16le")) > 512
        assert not changed[:, :40].any() and not changed[:, -40:].any() and changed[60:120, 130:190].any()


@pytest.mark.usefixtures("engines")
def test_a_log_face_is_corrected_like_the_same_face_in_video(tmp_path: Path) -> None:
    scans(tmp_path / "log", 1)
    scans(tmp_path / "video", 1, transfer=VIDEO, fmt="rgb48be")
    seen = {}
    for name in ("log", "video"):
        rtface.run(tmp_path / name, f"{tmp_path}/{name}-out/", sequence=True)
        pair = []
        for folder in (tmp_path / name, tmp_path / f"{name}-out"):
            still = read_image(folder / "reel4_0086400.dpx")
            rgb = still.frame.image.to_ndarray(format="rgb48le").astype(np.float32).transpose(2, 0, 1) / 65535
            curve = curve_of(still.frame.color)
            pair.append(rgb if curve is None else curve.forward(np.ascontiguousarray(rgb)))
        seen[name] = (pair[1] - pair[0])[:, 60:120, 130:190]
    assert np.corrcoef(seen["log"].ravel(), seen["video"].ravel())[0, 1] > 0.9
    assert 0.7 < seen["log"].std() / seen["video"].std() < 1.4


def test_a_wrong_transfer_in_a_header_is_overruled(tmp_path: Path) -> None:
    source = scans(tmp_path / "in", 1)
    for path in source.iterdir():
        data = bytearray(path.read_bytes())
        data[801] = VIDEO
        path.write_bytes(bytes(data))
    assert SequenceSource(source).info.color.transfer == "sdr"
    log = SequenceSource(source, transfer="log")
    assert next(iter(log)).color.transfer == log.info.color.transfer == "log" and "--transfer" in log.info.notes[0]


@pytest.mark.usefixtures("engines")
def test_headers_of_older_ffmpeg_are_not_taken_for_linear(tmp_path: Path) -> None:
    data = bytearray(scan(tmp_path / "a.dpx", transfer=LINEAR, face=False).read_bytes())
    assert DpxHeader.read(bytes(data)).family == "linear"
    data[160:173] = b"Lavc59.37.100"
    assert DpxHeader.read(bytes(data)).family == "sdr"


def test_rate_timecode_and_gaps_come_from_the_scans(tmp_path: Path) -> None:
    source = scans(tmp_path / "in", 4, face=False)
    (source / "reel4_0086402.dpx").unlink()
    report = rtface.run(source, tmp_path / "out.mov", sequence=True, codec="prores")
    assert report.timecode == "01:00:00:00" and any("(86402)" in line for line in report.warnings)
    with av.open(str(tmp_path / "out.mov")) as box:
        assert box.streams.video[0].frames == 4
        assert box.streams.video[0].average_rate == 24 and box.streams.video[0].metadata["timecode"] == "01:00:00:00"
    cut = rtface.run(source, f"{tmp_path}/cut/", sequence=True, start=1 / 24, timecode="02:00:00:00")
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["reel4_0086401.dpx", "reel4_0086403.dpx"]
    assert cut.timecode == "02:00:00:01"
    header = DpxHeader.read((tmp_path / "cut" / "reel4_0086401.dpx").read_bytes())
    assert header.timecode == ("02:00:00:01", False)


@pytest.mark.usefixtures("engines")
def test_a_scan_that_cannot_be_read_goes_along_as_it_is(tmp_path: Path) -> None:
    source = scans(tmp_path / "in", 3)
    broken, other = source / "reel4_0086401.dpx", source / "reel4_0086402.dpx"
    broken.write_bytes(broken.read_bytes()[:5000])
    other.write_bytes(b"")
    report = rtface.run(source, f"{tmp_path}/out/", sequence=True)
    assert report.frames_out == 1 and (tmp_path / "out" / broken.name).read_bytes() == broken.read_bytes()
    assert all(any(path.name in line for line in report.warnings) for path in (broken, other))
    with pytest.raises(InputError, match="strict"):
        rtface.run(source, f"{tmp_path}/strict/", sequence=True, strict=True)


@pytest.mark.usefixtures("engines")
def test_log_scans_become_a_film_sample_by_sample(tmp_path: Path) -> None:
    source = scans(tmp_path / "in", 2, face=False)
    rtface.run(source, tmp_path / "out.mkv", sequence=True, codec="ffv1")
    with av.open(str(tmp_path / "out.mkv")) as box:
        for path, frame in zip(sorted(source.iterdir()), box.decode(video=0), strict=True):
            assert samples(frame) == samples(decode_dpx(path.read_bytes()))


@pytest.mark.usefixtures("engines")
def test_sixteen_bit_tiff_sequences_keep_names_and_profile(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in (8, 9, 10):
        picture = portrait(shift=(number, 0))[0].astype(np.uint16) * 257
        tifffile.imwrite(tmp_path / "in" / f"a{number}.tif", picture, photometric="rgb", iccprofile=b"profile" * 20)
    rtface.run(tmp_path / "in", f"{tmp_path}/out/", sequence=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a10.tif", "a8.tif", "a9.tif"]
    with tifffile.TiffFile(tmp_path / "out" / "a8.tif") as file:
        assert file.pages.first.dtype == np.uint16 and file.pages.first.tags[34675].value == b"profile" * 20


def test_a_single_dpx_still(tmp_path: Path, engines: object) -> None:
    path = scan(tmp_path / "in.dpx")
    rtface.run(path, tmp_path / "out.dpx")
    assert differing(path, tmp_path / "out.dpx")[0] >= 2560
    rtface.run(path, tmp_path / "out.png")
    assert cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_padding_bits_are_kept_and_packings_refused(tmp_path: Path) -> None:
    data = bytearray(scan(tmp_path / "a.dpx").read_bytes())
    data[2560 + 3] |= 3  # the two bits after three samples of 10
    image = decode_dpx(bytes(data))
    changed = copy_image(image)
    rows = np.frombuffer(changed.planes[0], "<u2").reshape(180, -1)
    rows[90, 100] ^= 512
    out = rewrite_dpx(bytes(data), changed)
    assert np.flatnonzero(np.frombuffer(out, np.uint8) != np.frombuffer(bytes(data), np.uint8)).size == 1
    data = bytearray(scan(tmp_path / "b.dpx", fmt="gbrp12be", transfer=VIDEO).read_bytes())
    struct.pack_into(">H", data, 804, 0)  # 12 bits packed without filling
    packed = bytes(data)
    image = decode_dpx(packed)
    changed = copy_image(image)
    np.frombuffer(changed.planes[1], "<u2").reshape(180, -1)[5, 5] ^= 1
    assert rewrite_dpx(packed, image) == packed
    with pytest.raises(OutputError, match="TIFF"):
        rewrite_dpx(packed, changed)
    with pytest.raises(OutputError, match="cannot hold an image"):
        rewrite_dpx(bytes(data), image.reformat(160, 90))


@pytest.mark.parametrize("drop", [False, True])
def test_header_fields(drop: bool) -> None:
    rate = Fraction(30_000, 1001)
    timecode = Timecode.parse("00:59:59;28" if drop else "00:59:59:28", rate)
    image = av.VideoFrame(16, 16, "gbrp10le")
    header = DpxHeader.read(new_dpx(image, transfer="log", rate=rate, timecode=timecode, creator="x"))
    assert (header.rate, header.timecode_at(rate), header.family, header.bits) == (rate, timecode, "log", 10)
    bare = DpxHeader.read(new_dpx(image, transfer="sdr", rate=None, timecode=None, creator="x"))
    assert (bare.rate, bare.timecode, bare.aspect) == (None, None, None)
    with pytest.raises(ValueError, match="no DPX header"):
        DpxHeader.read(b"SDPX")


# -- OpenEXR --------------------------------------------------------------------------------------------------------


def light_of(path: Path) -> np.ndarray:
    """Linear light of an EXR, 3×h×w, by PyAV alone."""
    with av.open(str(path)) as box:
        frame = next(box.decode(video=0))
    kind = "<f2" if "f16" in frame.format.name else "<f4"
    planes = [np.frombuffer(p, kind).reshape(p.height, -1)[:, : p.width] for p in frame.planes]
    return np.stack([planes[2], planes[0], planes[1]]).astype(np.float32)


def with_header(data: bytes, **said: object) -> bytes:
    """An EXR with further attributes, or others."""
    file, out = opened(data), io.BytesIO()
    file.header().update(said)
    file.write(out)
    return out.getvalue()


def opened(data: bytes) -> OpenEXR.File:
    return OpenEXR.File(io.BytesIO(data), separate_channels=True)


def exr(path: Path, *, format: str = "half", compression: str = "zip16", face: bool = True) -> Path:
    picture = portrait()[0] if face else np.full((180, 320, 3), 90, np.uint8)
    light = (picture / 255.0) ** 2.2
    light[:20, :20] = 7.5  # a lamp: more than white
    image = av.VideoFrame(320, 180, "gbrpf32le")
    for plane, k in zip(image.planes, (1, 2, 0), strict=True):
        padded = np.zeros((plane.height, plane.line_size // 4), "<f4")
        padded[:, :320] = light[..., k]
        plane.update(padded.tobytes())
    image.pts = 0
    time = OpenEXR.TimeCode()
    time.hours = 1
    data = encoded(image, "exr", format=format, compression=compression)
    path.write_bytes(with_header(data, framesPerSecond=RATE, timeCode=time, owner="archive"))
    return path


@pytest.mark.parametrize(("format", "compression"), [("half", "zip16"), ("float", "none")])
@pytest.mark.usefixtures("engines")
def test_exr_sequences_keep_what_is_not_a_face(tmp_path: Path, format: str, compression: str) -> None:
    (tmp_path / "in").mkdir()
    for number in (1001, 1002):
        exr(tmp_path / "in" / f"s.{number}.exr", format=format, compression=compression)
    report = rtface.run(tmp_path / "in", f"{tmp_path}/out/", sequence=True, correct="always")
    assert report.frames_corrected == 2 and report.timecode == "01:00:00:00"
    before, after = (tmp_path / name / "s.1002.exr" for name in ("in", "out"))
    one, other = (ExrHeader.read(path.read_bytes()) for path in (before, after))
    assert one == other and one.rate == 24
    kept = opened(after.read_bytes()).header()
    assert kept["owner"] == "archive" and kept["rtface_engine"] == "fake"
    a, b = light_of(before), light_of(after)
    changed = (a != b).any(0)
    assert not changed[:20, :40].any() and not changed[:, -40:].any() and changed[60:120, 130:190].mean() > 0.5
    assert a.max() == b.max() == 7.5
    seen = [shown(light)[:, 60:120, 130:190] for light in (a, b)]
    assert 0.05 < np.abs(seen[1] - seen[0]).mean() < 0.2  # the fake engine's pattern is ±0.15


@pytest.mark.usefixtures("engines")
def test_exr_without_a_face_is_copied_and_stills_work(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    plain = exr(tmp_path / "in" / "1.exr", face=False)
    rtface.run(tmp_path / "in", f"{tmp_path}/out/", sequence=True)
    assert (tmp_path / "out" / "1.exr").read_bytes() == plain.read_bytes()
    face = exr(tmp_path / "face.exr")
    rtface.run(face, tmp_path / "better.exr")
    assert (light_of(face) != light_of(tmp_path / "better.exr")).any()
    with pytest.raises(UsageError, match="holds linear light"):
        rtface.run(film(tmp_path / "film.mkv", frames=1), f"{tmp_path}/x/", codec="exr", dry_run=True)


def test_other_channels_and_windows_of_an_exr_stay(tmp_path: Path) -> None:
    data, broken = exr(tmp_path / "a.exr").read_bytes(), tmp_path / "z.exr"
    depth = data.replace(b"B\0\1\0", b"Z\0\1\0", 1)  # in place of blue
    window = data.index(b"dataWindow\0box2i\0") + 21
    for other in (depth, data[:window] + struct.pack("<4i", 0, 0, -5, 179) + data[window + 16 :]):
        broken.write_bytes(other)
        with pytest.raises(InputError, match="unsupported EXR"):
            read_image(broken)
    windows = [
        tuple(np.array(corner, np.int32) for corner in both) for both in (((10, 5), (329, 184)), ((0, 0), (339, 189)))
    ]
    data = with_header(data, dataWindow=windows[0], displayWindow=windows[1])
    image = decode_exr(data)
    assert (image.width, image.height) == (340, 190)
    rows = np.frombuffer(image.planes[0], "<u2").reshape(190, -1)
    rows[105, 110] ^= 4096  # line 100, column 100 of the data window
    rows[0, 0] ^= 4096  # outside of it
    (tmp_path / "b.exr").write_bytes(rewrite_exr(data, image))
    (tmp_path / "a.exr").write_bytes(data)
    places = np.argwhere(light_of(tmp_path / "a.exr") != light_of(tmp_path / "b.exr"))
    assert places.tolist() == [[1, 105, 110]]


def test_light_and_what_is_shown_of_it_are_inverse() -> None:
    light = np.array([0, 1e-3, 0.18, 0.74, 0.76, 1.0, 1.5], np.float32)
    values = shown(light)
    assert np.abs(exr_light(values) - light).max() < 1e-3 and np.all(np.diff(values) > 0) and values[-1] < 1
    with np.errstate(over="raise"):
        assert shown(np.array([np.nan, -1, np.inf, 3e38, -3e38])).tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("damage", [slice(0, 40), slice(0, 700), slice(0, 3000)])
def test_damaged_exr_and_dpx_are_input_errors(
    tmp_path: Path, damage: slice, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (exr(tmp_path / "a.exr"), scan(tmp_path / "a.dpx")):
        path.write_bytes(path.read_bytes()[damage])
        with pytest.raises(InputError):
            read_image(path)
    assert not capsys.readouterr().out  # which may be a program's: the library prints there what it leaves out


def test_more_samples_than_a_run_can_hold_are_refused(tmp_path: Path) -> None:
    data = exr(tmp_path / "a.exr").read_bytes()
    windows = (np.array((0, 0), np.int32), np.array((30_000, 20_000), np.int32))
    at = data.index(b"dataWindow\0box2i\0") + 21
    (tmp_path / "a.exr").write_bytes(data[:at] + b"".join(each.tobytes() for each in windows) + data[at + 16 :])
    with pytest.raises(InputError, match=r"30001×20001; the limit|cannot be read"):
        read_image(tmp_path / "a.exr")


def test_a_timecode_of_another_type_is_none(tmp_path: Path) -> None:
    data = exr(tmp_path / "a.exr").read_bytes().replace(b"timeCode\0timecode", b"timeCode\0whatever")
    image = decode_exr(data)
    assert ExrHeader.read(data).timecode is None
    assert rewrite_exr(data, image, timecode=Timecode.parse("02:00:00:00", RATE)) == data
