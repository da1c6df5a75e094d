"""``rtface verify OUTPUT INPUT`` confirms no forgery, whatever its sidecar says, and every honest output."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from typer.testing import CliRunner

import rtface
from rtface.cli.app import app
from rtface.frame import Display, Frame, Quantisers
from rtface.media.formats import matroska, mp4
from rtface.media.formats.color import ColorTags, HdrMetadata
from rtface.media.formats.filled import container_end
from rtface.media.formats.image_view import tiff_view
from rtface.media.read.probe import Chapter, StreamInfo
from rtface.media.read.source import FileSource
from rtface.trust.check_input import check_input
from rtface.trust.check_layout import check_layout, check_streams
from rtface.trust.check_packets import check_packets
from rtface.trust.check_sidecar import Checked, check_sidecar
from rtface.trust.frame_comparison import FrameComparison
from rtface.trust.packet_hashes import PacketHashes, cut_short, hash_packets
from rtface.trust.sidecar import layout_of, read_sidecar, sidecar_path
from tests.media.conftest import passthrough
from tests.pipeline.fakes import FakeEngine, portrait
from tests.pipeline.run_media import Engines, still, write_film

FACES, FRAMES, SIZE = 3, 6, (320, 180)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film with sound, half of it with a face, and its outputs with sidecars, lossless and lossy."""
    from rtface.pipeline import runtime

    made = tmp_path_factory.mktemp("films")
    gradient = np.tile(np.linspace(20, 230, SIZE[0])[None, :, None], (SIZE[1], 1, 3)).astype(np.uint8)
    faces = [portrait(shift=(0.5 * t, 0.0))[0] for t in range(FACES)]
    source = write_film(
        made / "in.mkv", [*faces, *(np.roll(gradient, 3 * t, axis=1) for t in range(FRAMES - FACES))], sound=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "EngineSet", lambda *a, **k: Engines(FakeEngine(amount=0.15)))
        rtface.run(source, made / "out.mkv", sidecar=True)
        rtface.run(source, made / "out.mp4", sidecar=True, codec="libx264")
    return {"in": source, "lossless": made / "out.mkv", "lossy": made / "out.mp4"}


def forged(output: Path, target: Path, change: Callable[[int, np.ndarray], np.ndarray]) -> Path:
    """The film with changed frames, encoded as it was, and its sound."""
    with av.open(str(output)) as source, av.open(str(target), "w") as made:
        lossless = output.suffix == ".mkv"
        video = made.add_stream("ffv1" if lossless else "libx264", rate=25, options={} if lossless else {"crf": "18"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound = made.add_stream_from_template(source.streams.audio[0])
        packets = []
        for packet in source.demux():
            if packet.stream.type == "audio" and packet.size:
                packets.append(packet)
            elif packet.stream.type == "video":
                for frame in packet.decode():
                    array = change(round(frame.time * 25), frame.to_ndarray())
                    made.mux(video.encode(av.VideoFrame.from_ndarray(array, "yuv420p")))
        made.mux(video.encode(None))
        for packet in packets:
            packet.stream = sound
            made.mux(packet)
    return target


def painted(array: np.ndarray) -> np.ndarray:
    """A frame with another square in a corner, 2 % of it."""
    array[4:36, 4:36] = 255 - array[4:36, 4:36]
    return array


def answer(found: Checked) -> str:
    return "differs" if found.problems else "not checked" if found.gaps else "same"


def checked(films: dict[str, Path], kind: str, output: Path | None = None, **more: Any) -> Checked:
    values = read_sidecar(sidecar_path(films[kind])) | more
    values["input"].pop("sha256")
    return check_input(output or films[kind], films["in"], values)


@pytest.mark.parametrize("kind", ["lossless", "lossy"])
def test_an_honest_output_is_confirmed(films: dict[str, Path], tmp_path: Path, kind: str) -> None:
    assert answer(checked(films, kind)) == "same"
    again = forged(films[kind], tmp_path / films[kind].name, lambda _, array: array)
    assert answer(checked(films, kind, again)) == "same"


@pytest.mark.parametrize("kind", ["lossless", "lossy"])
def test_one_frame_is_found_at_each_position(films: dict[str, Path], tmp_path: Path, kind: str) -> None:
    for place in range(FRAMES):
        false = forged(
            films[kind],
            tmp_path / f"{place}{films[kind].suffix}",
            lambda number, array, place=place: painted(array) if number == place else array,
        )
        assert any(line.startswith(f"frame {place}") for line in checked(films, kind, false).problems)


def darker(array: np.ndarray) -> np.ndarray:
    array[: SIZE[1]] = np.maximum(array[: SIZE[1]], 26) - 10
    return array


def tinted(array: np.ndarray) -> np.ndarray:
    array[SIZE[1] : SIZE[1] * 5 // 4] += 11
    return array


def hatched(array: np.ndarray) -> np.ndarray:
    """A sign whose blocks keep their means."""
    sign = array[64:96, 64:96].astype(int) + np.where(np.arange(32) // 4 % 2, 30, -30)
    array[64:96, 64:96] = sign.clip(0, 255)
    return array


@pytest.mark.parametrize(("blocks", "named"), [(1, False), (4, True)])
def test_one_step_for_a_large_frame_bounds_nothing(blocks: int, named: bool) -> None:
    """x264 says that of the first block."""
    picture = np.random.default_rng(2).integers(60, 180, (96, 64), dtype=np.uint8)
    steps = Quantisers(np.full((blocks, blocks), 2, np.float32), 64 // blocks, "h264")
    compared = FrameComparison(Checked(), {}, lossless=False, known=True)
    for number in range(3):
        old, new = (
            Frame(av.VideoFrame.from_ndarray(picture + more, "yuv420p"), number, Fraction(1), quantisers=steps)
            for more in (np.uint8(0), np.uint8(9))
        )
        compared.frame(number, new, old)
    compared.end()
    assert bool(compared.found.problems) == named


@pytest.mark.parametrize(("stroke", "named"), [(1, False), (4, True)])
def test_a_quantiser_leaves_noise_and_no_strokes(stroke: int, named: bool) -> None:
    """Of the same error."""
    picture = np.random.default_rng(2).integers(60, 180, (96, 64), dtype=np.uint8)
    sign = np.where((np.arange(64)[:, None] // stroke + np.arange(64) // stroke) % 2, 17, -17)
    compared = FrameComparison(Checked(), {}, lossless=False, known=True)
    for number in range(3):
        false = picture.copy()
        false[:64] = picture[:64] + sign
        new, old = (
            Frame(
                av.VideoFrame.from_ndarray(array, "yuv420p"),
                number,
                Fraction(1),
                quantisers=Quantisers(np.full((4, 4), 12, np.float32), 16, "h264"),
            )
            for array in (false, picture)
        )
        compared.frame(number, new, old)
    compared.end()
    assert bool(compared.found.problems) == named


@pytest.mark.parametrize("change", [darker, tinted, hatched])
def test_what_all_frames_share_is_no_error_of_an_encoder(
    films: dict[str, Path], tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Nothing stands out in the film, but its quantiser leaves no such error."""
    false = forged(films["lossy"], tmp_path / "false.mp4", lambda _, array: change(array))
    assert "outside the faces it differs by" in str(checked(films, "lossy", false).problems)


def test_a_codec_without_loss_makes_no_error(films: dict[str, Path], tmp_path: Path) -> None:
    """Its sidecar says that the film is lossy."""
    for added, said in ((0, False), (4, True)):
        false = forged(films["lossless"], tmp_path / "false.mkv", lambda _, array, added=added: array + np.uint8(added))
        found = checked(films, "lossy", false)
        assert ("outside the faces it differs by" in str(found.problems)) == said


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_two_frames_that_differ_little_stand_in_their_order(
    films: dict[str, Path], tmp_path: Path, places: tuple[int, int]
) -> None:
    """One of them is the other's, too: within the error of the worst encoders, but further than this one's."""
    with av.open(str(films["in"])) as source:
        frames = [frame.to_ndarray() for frame in source.decode(video=0)]
    number = count()
    false = forged(
        films["lossy"],
        tmp_path / "false.mp4",
        lambda _, array: frames[places[1]] if next(number) == places[0] else array,
    )
    assert f"frame {places[0]} is not the input's: it is more like the frame" in str(
        checked(films, "lossy", false).problems
    )


def flashes(path: Path, change: Callable[[np.ndarray], np.ndarray] = lambda gray: gray) -> Path:
    """Black frames behind one of noise, which an encoder cannot keep as it keeps black."""
    noise = np.random.default_rng(1).integers(0, 256, SIZE[::-1]).astype(np.uint8)
    black = np.zeros_like(noise)
    return write_film(path, [change(noise), *[black] * 4], codec="ffv1" if path.suffix == ".mkv" else "libx264")


def shifted(gray: np.ndarray) -> np.ndarray:
    return np.roll(gray, 1, axis=1)


def lit(gray: np.ndarray) -> np.ndarray:
    return np.where(gray > 235, gray, gray + 20).astype(np.uint8)


@pytest.mark.parametrize("change", [shifted, lit, painted])
def test_a_frame_is_judged_by_its_own_texture_too(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    source, values = flashes(tmp_path / "in.mkv"), {"input": {}, "output": {"lossless": False}, "changed": []}
    values |= {"streams": [], "options": {}}
    honest = check_input(flashes(tmp_path / "out.mp4"), source, values)
    assert answer(honest) == "not checked" and "finer than most" in honest.gaps[0]  # it may be blurred
    false = check_input(flashes(tmp_path / "false.mp4", change), source, values)
    assert [line[:7] for line in false.problems] == ["frame 0"]


@pytest.mark.parametrize("coarse", ["blurred", "noisy"])
def test_a_film_that_is_coarse_hides_no_other_face(tmp_path: Path, coarse: str) -> None:
    """Another picture of 48×48 samples in every frame, no block of which is more than 60 levels off."""
    rng = np.random.default_rng(2)
    faces = [portrait(shift=(2.0 * t, 0.0))[0].mean(2) + rng.normal(0, 6, SIZE[::-1]) for t in range(4)]

    def film(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
        frames = [np.clip(change(gray), 0, 255).astype(np.uint8) for gray in faces]
        return write_film(path, frames, codec="ffv1" if path.suffix == ".mkv" else "libx264")

    def coarser(gray: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(gray, (0, 0), 1.5) if coarse == "blurred" else gray + rng.normal(0, 9, gray.shape)

    def false(gray: np.ndarray) -> np.ndarray:
        gray = gray.copy()
        gray[16:64, 16:64] += np.kron([[60, -60, 60], [-60, 60, -60], [60, -60, 60]], np.ones((16, 16)))
        return coarser(gray)

    values = {"input": {}, "output": {"lossless": False}, "changed": [], "streams": [], "options": {}}
    source = film(tmp_path / "in.mkv", lambda gray: gray)
    assert answer(check_input(film(tmp_path / "out.mp4", coarser), source, values)) == "same"
    assert "differs by" in str(check_input(film(tmp_path / "false.mp4", false), source, values).problems)


TURNED = (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)


def test_what_is_said_of_the_picture_is_the_inputs(films: dict[str, Path]) -> None:
    def said(made: dict[str, Any], source: dict[str, Any] | None = None, *dropped: str) -> str:
        found = Checked()
        check_layout(found, replace(info, **made), replace(info, **(source or {})), (1.0, 1.0), dropped)
        return "differs" if found.problems else "not checked" if found.gaps else "same"

    opened = FileSource(films["in"])
    info = opened.info
    opened.close()
    hdr, sdr = ColorTags(1, 9, 16, 9), ColorTags(1, 1, 1, 1)
    chapters = [Chapter(Fraction(k), Fraction(k + 1), {"title": f"{k}"}) for k in range(4)]
    for made, source in (
        ({"tags": ColorTags(1, siting="left")}, {}),
        ({"aspect": None}, {"aspect": Fraction(1)}),
        ({"chapters": chapters[1:]}, {"chapters": chapters[1:]}),
        ({"chapters": chapters[1:3]}, {"chapters": chapters[1:], "end": Fraction(3)}),
        ({"hdr": HdrMetadata(light=(1000, 400))}, {"hdr": HdrMetadata(light=(1000, 400))}),
        ({"matrix": TURNED}, {"matrix": (*TURNED[:6], 1080 << 16, 0, 1 << 30)}),
    ):  # of Matroska, and of a phone
        assert said(made, source) == "same"
    for made, source in (
        ({"tags": ColorTags(1, 0, 0, 0)}, {"tags": sdr}),
        ({"tags": ColorTags(1, 1, 1, 0)}, {"tags": sdr}),
        ({"crop": None}, {"crop": (0, 0, 0, 40)}),
        ({}, {"hdr": HdrMetadata(light=(1000, 400))}),
        ({}, {"views": {"STEREO3D": "01"}}),
        ({"pix_fmt": "yuv420p", "tags": sdr}, {"pix_fmt": "gbrp"}),
        ({"pix_fmt": "yuv422p10le", "tags": sdr}, {"pix_fmt": "yuv420p", "tags": replace(sdr, range=2)}),  # ProRes
        ({"tags": replace(sdr, siting="top")}, {"tags": replace(sdr, siting="left")}),
    ):
        assert said(made, source) == "not checked"
    assert said({"chapters": []}, {"chapters": chapters}) == said({"tags": hdr}) == "not checked"
    assert said({"chapters": []}, {"chapters": chapters}, "chapters") == "same"
    for made, source in (
        ({"tags": hdr}, {"tags": sdr}),
        ({"tags": sdr}, {"tags": replace(sdr, range=2)}),
        ({"pix_fmt": "yuv422p10le", "tags": hdr}, {"pix_fmt": "yuv420p", "tags": sdr}),
        ({"aspect": Fraction(4)}, {}),
        ({"crop": (0, 0, 0, 40)}, {}),
        ({"display": Display(quarter_turns=2)}, {}),
        ({"matrix": (64540, 11380, 0, -11380, 64540, *TURNED[5:])}, {}),
        ({"matrix": (*TURNED[:6], 85 << 16, 0, 1 << 30)}, {"matrix": TURNED}),
        ({"matrix": (*TURNED[:2], 1 << 20, *TURNED[3:])}, {"matrix": TURNED}),
        ({"hdr": HdrMetadata(light=(4000, 400))}, {"hdr": HdrMetadata(light=(1000, 400))}),
        ({"views": {"STEREO3D": "01"}}, {}),
        ({"unseen": ["it is Dolby Vision"]}, {}),
        ({"display": Display(fields="tff")}, {}),
        ({"chapters": chapters}, {}),
        ({"chapters": [replace(chapters[1], metadata={"title": "lie"})]}, {"chapters": chapters}),
        ({"chapters": [replace(chapters[2], start=Fraction(5, 2))]}, {"chapters": chapters}),
    ):
        assert said(made, source) == "differs"


TRACKS = [
    StreamInfo(k, kind, "", None, Disposition(flags), {}, not k, cast("Any", None), attached=attached)
    for k, (kind, flags, attached) in enumerate(
        [("video", 1, None), ("audio", 1, None), ("subtitle", 0, None), ("attachment", 0, ("a.ttf", "font/ttf", "1"))]
    )
]


@pytest.mark.parametrize(
    ("place", "other", "form", "said"),
    [
        (1, {}, "matroska", "same"),
        (1, {"disposition": Disposition(0)}, "matroska", "not checked"),
        (1, {"disposition": Disposition(0)}, "mpegts", "same"),
        (2, {"disposition": Disposition.default}, "mov", "same"),
        (2, {"disposition": Disposition.default}, "matroska", "differs"),
        (2, {"disposition": Disposition.forced}, "mov", "differs"),
        (1, {"disposition": Disposition(0)}, "mov", "not checked"),  # players leave out what is not enabled
        (3, {"attached": ("a.ttf", "font/ttf", "2")}, "matroska", "differs"),
        (3, {"attached": None, "kind": "data"}, "mov", "not checked"),
    ],
)
def test_attachments_and_default_streams_are_the_inputs(
    films: dict[str, Path], place: int, other: dict[str, Any], form: str, said: str
) -> None:
    opened = FileSource(films["in"])
    opened.close()
    source, found = replace(opened.info, streams=TRACKS, format="matroska"), Checked()
    made = [replace(one, **other) if k == place else one for k, one in enumerate(TRACKS)]
    check_streams(found, replace(source, streams=made, format=form), source, [(0, 0), (1, 1), (2, 2)])
    assert answer(found) == said


@pytest.mark.parametrize(
    ("kind", "name", "place", "form"),
    [("lossless", b"\x44\x89\x88", 3, ">d"), ("lossless", b"\x18\x53\x80\x67\x01", 8, ">I")],
    ids=["Matroska", "Matroska segment"],
)
def test_lengths_that_a_header_shortens_are_found(
    films: dict[str, Path], tmp_path: Path, kind: str, name: bytes, place: int, form: str
) -> None:
    """FFmpeg reads on to the last packet, and other players stop before."""
    data = bytearray(films[kind].read_bytes())
    at = data.rindex(name) + place
    (length,) = struct.unpack_from(form, data, at)
    struct.pack_into(form, data, at, length / 2 if form == ">d" else length // 2)
    (short := tmp_path / films[kind].name).write_bytes(data)
    assert "some players stop" in str(checked(films, kind, short).problems)
    with short.open("ab") as file:  # another size, as where the container was written again
        file.write(matroska.void(16) if kind == "lossless" else struct.pack(">I4s8x", 16, b"free"))
    assert answer(check_sidecar(short, read_sidecar(sidecar_path(films[kind])))) == "differs"


def written_again(source: Path, target: Path, **flags: str) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as film, av.open(str(target), "w", options=flags) as made:
        streams = [made.add_stream_from_template(stream) for stream in film.streams]
        for packet in film.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    return target


@pytest.mark.parametrize(("codec", "short"), [("mpeg2video", False), ("mpeg2video", True), ("libx264", True)])
def test_lengths_of_an_mxf_are_found(tmp_path: Path, codec: str, short: bool) -> None:
    """GStreamer stops there."""
    with av.open(str(film := tmp_path / "film.mxf"), "w") as made:
        video = made.add_stream(codec, rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        made.mux([packet for _ in range(8) for packet in video.encode(av.VideoFrame(64, 48, "yuv420p"))])
        made.mux(video.encode(None))
    if short:  # of tracks and their packages
        film.write_bytes(
            film.read_bytes().replace(struct.pack(">HHq", 0x0202, 8, 8), struct.pack(">HHq", 0x0202, 8, 4))
        )
    assert bool(cut_short(hash_packets(film))) == short


@pytest.mark.parametrize(
    ("change", "said"), [("open", "same"), ("padded", "same"), ("spaced", "same"), ("short", "differs")]
)
def test_what_lies_behind_the_packets_hides_none(
    films: dict[str, Path], tmp_path: Path, change: str, said: str
) -> None:
    film = written_again(films["lossy"], tmp_path / "out.mp4", movflags="faststart")
    data = bytearray(film.read_bytes())
    at = data.rindex(b"mdat") - 4
    size = struct.unpack_from(">I", data, at)[0]
    struct.pack_into(">I", data, at, {"open": 0, "short": size // 2}.get(change, size))
    if change == "spaced":
        data[at - 4 : at] = b"xml "  # the empty box in front of the packets
    film.write_bytes(data + bytes(512 if change == "padded" else 0))
    assert answer(checked(films, "lossy", film)) == said


@pytest.mark.parametrize(
    ("name", "flags", "doubt"),
    [
        ("out.mp4", "frag_keyframe", "fragments behind an index"),
        ("out.mp4", "empty_moov", ""),
        ("out.avi", "", "which rtface does not write"),
    ],
)
def test_containers_in_which_some_players_stop(
    films: dict[str, Path], tmp_path: Path, name: str, flags: str, doubt: str
) -> None:
    kind, options = ("lossy", {"movflags": flags, "frag_duration": "100000"}) if flags else ("lossless", {})
    film = written_again(films[kind], tmp_path / name, **options)
    if not doubt:  # of a live film the length is unknown: all ones
        film.write_bytes(re.sub(rb"(?<=mdhd.{16}).{4}", b"\xff" * 4, film.read_bytes(), flags=re.DOTALL))
    found = checked(films, kind, film)
    said = [line for line in found.gaps + found.problems if "stop" in line]
    assert len(said) == bool(doubt) and doubt in str(said) and ("may stop" in str(found.gaps)) == bool(doubt)


@pytest.mark.parametrize("whole", [True, False])
def test_an_open_segment_reaches_the_end_of_its_file(films: dict[str, Path], tmp_path: Path, whole: bool) -> None:
    """As a program writes it that cannot go back in its output."""
    data = bytearray(films["lossless"].read_bytes())
    at = data.index(b"\x18\x53\x80\x67\x01") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    (film := tmp_path / "open.mkv").write_bytes(data if whole else data[:-1])
    assert (container_end(film) == film.stat().st_size) == whole


@pytest.mark.parametrize(
    ("suffix", "before", "after", "said"),
    [
        (".mp4", b"nclx" + struct.pack(">3H", 1, 1, 1), b"nclx" + struct.pack(">3H", 9, 16, 9), "primaries 9, and 1"),
        (".mp4", b"pasp" + struct.pack(">2I", 1, 1), b"pasp" + struct.pack(">2I", 2, 1), "shape 1, and its header 2"),
        (".mp4", struct.pack(">2I", 64 << 16, 64 << 16), struct.pack(">2I", 128 << 16, 64 << 16), "at 128×64"),
        (".mp4", b"clli" + struct.pack(">2H", 1000, 400), b"clli" + struct.pack(">2H", 100, 40), "(light)"),
        (".mkv", b"\x55\xbb\x81\x01", b"\x55\xbb\x81\x09", "primaries 9, and 1"),
        (".mkv", b"\x55\xbc\x82\x03\xe8", b"\x55\xbc\x82\x00\x64", "(light)"),
    ],
    ids=["colours", "shape", "size", "light", "Matroska colours", "Matroska light"],
)
def test_a_header_that_contradicts_the_frames(
    tmp_path: Path, suffix: str, before: bytes, after: bytes, said: str
) -> None:
    """Players that believe it show another film; FFmpeg believes the frames."""
    film = io.BytesIO()
    light = HdrMetadata(light=(1000, 400))
    with av.open(film, "w", format={".mp4": "mp4", ".mkv": "matroska"}[suffix]) as made:
        video = made.add_stream("libx264", rate=25)
        video.width = video.height = 64
        video.codec_context.color_primaries = video.codec_context.color_trc = video.codec_context.colorspace = 1
        video.codec_context.color_range, video.codec_context.sample_aspect_ratio = 1, Fraction(1)
        video.codec_context.options = {"x264-params": "cll=1000,400"}
        made.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        made.mux(video.encode(None))
    if suffix == ".mp4":
        mp4.note_picture(film, 0, (64, 64), hdr=light)
    else:
        assert matroska.note_picture(film, 0, (64, 64), Fraction(1), hdr=light)
    data = film.getvalue()
    for name, value in (("honest", data), ("false", data[::-1].replace(before[::-1], after[::-1], 1)[::-1])):
        (tmp_path / f"{name}{suffix}").write_bytes(value)
    honest, false = (layout_of(tmp_path / f"{name}{suffix}")["unseen"] for name in ("honest", "false"))
    assert not honest and len(false) > 0 and said in false[0]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_track_is_as_wide_as_its_picture_is_shown(tmp_path: Path, suffix: str) -> None:
    """Some players show a film as wide as the track says, whatever the shape of its samples."""
    source, output = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    with av.open(str(source), "w") as made:
        video = made.add_stream("libx264", rate=25)
        video.width, video.height, video.codec_context.sample_aspect_ratio = 90, 64, Fraction(64, 45)
        made.mux([*video.encode(av.VideoFrame(90, 64, "yuv420p")), *video.encode(None)])
    passthrough(source, output)
    with output.open("rb") as file:
        assert mp4.read_header(file, 0).shown_size == (128 << 16, 64 << 16)
    assert not layout_of(output)["unseen"]


@pytest.mark.parametrize(
    ("codec", "form", "matrix", "color_range"),
    [
        ("mjpeg", "yuvj420p", 1, 2),
        ("libvpx", "yuv420p", 1, 2),
        ("dnxhd", "yuv422p", 5, 1),
        ("mpeg2video", "yuv420p", 1, 2),
        ("prores_ks", "yuv422p10le", 1, 2),
        ("ffv1", "yuv420p", 6, 1),
    ],
)
def test_what_decoders_make_up_is_no_contradiction(
    tmp_path: Path, codec: str, form: str, matrix: int, color_range: int
) -> None:
    film = tmp_path / f"film{'.mov' if codec == 'dnxhd' else '.mkv'}"
    with av.open(str(film), "w") as made:
        video = made.add_stream(codec, rate=25, options={"profile": "dnxhr_hq"} if codec == "dnxhd" else {})
        video.width, video.height, video.pix_fmt = 256, 128, form
        video.codec_context.color_primaries = video.codec_context.color_trc = 1
        video.codec_context.colorspace, video.codec_context.color_range = matrix, color_range
        made.mux(video.encode(av.VideoFrame(256, 128, form)))
        made.mux(video.encode(None))
    opened, found = FileSource(film), Checked()
    opened.close()
    assert not opened.info.unseen
    tags = replace(opened.info.tags, matrix={5: 6, 6: 5}.get(matrix, matrix))
    check_layout(found, opened.info, replace(opened.info, tags=tags), (0.0, 0.0))
    assert answer(found) == "same" or opened.info.tags.matrix == 2


def test_an_exchanged_attachment_is_found(films: dict[str, Path], tmp_path: Path) -> None:
    made = tmp_path / "font.mkv"
    with av.open(str(films["lossless"])) as source, av.open(str(made), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in source.streams]
        container.metadata.update(source.metadata)
        container.add_attachment("a.ttf", "font/ttf", b"another font")
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    values = read_sidecar(sidecar_path(films["lossless"]))
    assert "its attachments differ" in str(check_sidecar(made, values).problems)
    assert "'a.ttf' is not the input's" in str(checked(films, "lossless", made).problems)


@pytest.mark.parametrize(("box", "places"), [((0, 0, *SIZE), range(FRAMES)), ((0, 0, 64, 64), (1, 4))])
def test_one_box_is_found_at_each_position(
    films: dict[str, Path], tmp_path: Path, box: tuple[int, ...], places: Sequence[int]
) -> None:
    """Everything may be painted in a box that is believed."""
    boxes = dict(read_sidecar(sidecar_path(films["lossless"]))["changed"])
    for place in places:
        changed = [
            [number, [*boxes.get(number, []), *([list(box)] if number == place else [])]] for number in range(FRAMES)
        ]
        assert answer(checked(films, "lossless", changed=changed)) == "not checked"
    false = forged(films["lossless"], tmp_path / "false.mkv", lambda _, array: painted(array))
    everywhere = [[number, [*boxes.get(number, []), list(box)]] for number in range(FRAMES)]
    assert answer(checked(films, "lossless", false, changed=everywhere)) == "not checked"


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("lossy", []),
        ("lossless", [[k, None] for k in range(FRAMES)]),
        ("lossless", [[k, [[0, 0, *SIZE]]] for k in range(FRAMES)]),
    ],
)
def test_all_frames_forged_alike_are_not_confirmed(
    films: dict[str, Path], tmp_path: Path, kind: str, changed: list[Any]
) -> None:
    false = forged(films[kind], tmp_path / f"false{films[kind].suffix}", lambda _, array: array[:, ::-1].copy())
    assert answer(checked(films, kind, false, changed=changed)) != "same"
    some = forged(films[kind], tmp_path / f"some{films[kind].suffix}", lambda _, array: painted(array))
    assert answer(checked(films, kind, some, changed=changed)) != "same"


@pytest.mark.parametrize("kind", ["turned", "lit"])
def test_another_picture_in_a_box_is_not_confirmed(films: dict[str, Path], tmp_path: Path, kind: str) -> None:
    ((x0, y0, x1, y1),) = dict(read_sidecar(sidecar_path(films["lossless"]))["changed"])[1]

    def other(number: int, array: np.ndarray) -> np.ndarray:
        if number == 1:
            box = array[y0:y1, x0:x1]
            box[:] = box[::-1] if kind == "turned" else np.where(box < 128, box + 16, box - 16)
        return array

    false = forged(films["lossless"], tmp_path / "false.mkv", other)
    assert "further from the input's than a correction" in checked(films, "lossless", false).gaps[0]


def test_one_packet_is_found_at_each_position(films: dict[str, Path]) -> None:
    made, source = hash_packets(films["lossless"]), hash_packets(films["in"])

    def said(rows: list[tuple[int, str]]) -> str:
        found, sound = Checked(), made[1]
        check_packets(
            found, [made[0], PacketHashes(sound.kind, sound.codec, sound.base, rows)], source, (0.0, 0.0), (None, None)
        )
        return answer(found)

    rows = made[1].rows
    assert len(rows) > 5 and said(rows) == "same"
    moved = round(0.2 / made[1].base)
    for k, (pts, md5) in enumerate(rows):
        for other in ([(pts, "0" * 32)], [], [(pts + moved, md5)], [(pts, md5)] * 2):
            assert said([*rows[:k], *other, *rows[k + 1 :]]) == "differs"
    slightly = round(0.03 / made[1].base)
    assert {said([(pts + late, md5) for pts, md5 in rows]) for late in (moved, slightly, -slightly)} == {"differs"}
    assert said([(pts, f"{pts:032}") for pts, _ in rows]) == "not checked"
    found = Checked()
    check_packets(found, made[:1], source, (0.0, 0.0), (None, None))
    assert "is not in it" in found.gaps[0]


def packets(texts: Sequence[tuple[int, str]] = (), **others: Any) -> list[PacketHashes]:
    """The packets of a film with subtitles, times and durations in milliseconds."""
    base = Fraction(1, 1000)
    return [
        PacketHashes("video", "ffv1", base),
        PacketHashes("subtitle", "ass", base, list(texts), **({"durations": [200] * len(texts)} | others)),
    ]


@pytest.mark.parametrize(
    ("made", "cut", "said"),
    [
        (packets([(0, "yes"), (400, "no"), (800, "yes"), (1200, "yes")]), (None, None), "same"),
        (packets([(0, "yes"), (400, "no"), (800, "yes"), (1200, "yes")]), (None, Fraction(99)), "same"),
        (
            packets([(0, "yes"), (400, "no"), (1200, "yes"), (1200, "yes")]),
            (None, None),
            "differs",
        ),  # a text that is twice
        (packets([(0, "yes"), (1200, "yes")]), (None, Fraction(99)), "differs"),  # texts left out far from the border
        (packets([(0, "yes"), (400, "no"), (800, "yes")]), (None, Fraction(11, 10)), "same"),
        (
            packets([(0, "yes"), (400, "no"), (800, "yes"), (1200, "yes")], durations=[200, 1, 200, 200]),
            (None, None),
            "differs",
        ),
        (packets([(0, "yes"), (400, "no"), (800, "yes"), (1200, "yes")], setup="other"), (None, None), "differs"),
    ],
)
def test_texts_are_the_inputs_for_as_long(
    made: list[PacketHashes], cut: tuple[Fraction | None, Fraction | None], said: str
) -> None:
    source, found = packets([(0, "yes"), (400, "no"), (800, "yes"), (1200, "yes")], setup="header"), Checked()
    check_packets(found, made, source, (0.0, 0.0), cut)
    assert answer(found) == said


def test_what_a_decoder_is_told_is_compared(films: dict[str, Path], tmp_path: Path) -> None:
    """The rate of PCM stands in the container only, and the header of other sound beside its packets."""
    pcm = tmp_path / "pcm.mkv"
    with av.open(str(pcm), "w") as made:
        video, sound = made.add_stream("ffv1", rate=25), made.add_stream("pcm_s16le", rate=48000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        made.mux([*video.encode(av.VideoFrame(64, 48, "yuv420p")), *video.encode(None)])
        block = av.AudioFrame("s16", "stereo", 1024)
        block.sample_rate = 48000
        block.planes[0].update(bytes(range(256)) * 16)  # else it holds what the memory held
        made.mux([*sound.encode(block), *sound.encode(None)])
    data, slow = pcm.read_bytes(), tmp_path / "slow.mkv"
    slow.write_bytes(data.replace(*(b"\xb5\x88" + struct.pack(">d", rate) for rate in (48000, 24000))))
    found = Checked()
    check_packets(found, hash_packets(slow), hash_packets(pcm), (0.0, 0.0), (None, None))
    assert "24000 Hz" in found.problems[0]

    again = tmp_path / "again.mkv"
    with (
        av.open(str(films["lossless"])) as source,
        av.open(str(again), "w", options={"reserve_index_space": "500"}) as made,
    ):
        streams = [made.add_stream_from_template(stream) for stream in source.streams]
        made.metadata.update(source.metadata)
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    values = read_sidecar(sidecar_path(films["lossless"]))
    assert answer(check_sidecar(again, values)) == "same"
    values["streams"][1]["setup"] = "0" * 32
    assert "codec parameters" in check_sidecar(again, values).problems[-1]


def test_colours_inside_a_box_are_compared(films: dict[str, Path], tmp_path: Path) -> None:
    boxes = dict(read_sidecar(sidecar_path(films["lossless"]))["changed"])

    def other(number: int, array: np.ndarray) -> np.ndarray:
        if number == 1:
            x0, y0, x1, y1 = boxes[1][0]
            chroma = array[SIZE[1] :].reshape(2, SIZE[1] // 2, SIZE[0] // 2)
            chroma[0, y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] += 40
        return array

    false = forged(films["lossless"], tmp_path / "false.mkv", other)
    assert "further from the input's than a correction" in checked(films, "lossless", false).gaps[0]


def test_samples_of_another_shape_are_not_compared(tmp_path: Path) -> None:
    for name, kind in (("a.mkv", "yuv420p"), ("b.mkv", "yuv422p")):
        with av.open(str(tmp_path / name), "w") as made:
            video = made.add_stream("ffv1", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, kind
            made.mux([*video.encode(av.VideoFrame(64, 48, kind)), *video.encode(None)])
    assert "sample format" in check_input(tmp_path / "a.mkv", tmp_path / "b.mkv", None).gaps[0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("in.png", "same"),
        ("in.bmp", "same"),
        ("turned.tif", "differs"),
        ("pages.tif", "differs"),
        ("profile.png", "differs"),
        ("adobe.jpg", "differs"),
        ("in.jpg", "same"),
        ("gamma.png", "differs"),
        ("frames.png", "differs"),
        ("turned.png", "differs"),
        ("late.png", "not checked"),
        ("srgb.png", "same"),
        ("wide.png", "differs"),
        ("adobergb.png", "differs"),
        ("tall.jpg", "differs"),
        ("wide.bmp", "differs"),
    ],
)
def test_what_a_still_says_beside_its_samples_is_compared(tmp_path: Path, made: str, said: str) -> None:
    import tifffile

    image = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    for name in ("in.png", "in.bmp"):
        cv2.imwrite(str(tmp_path / name), image)
    rgb = np.ascontiguousarray(image[..., ::-1])
    tifffile.imwrite(tmp_path / "turned.tif", rgb, extratags=[(274, 3, 1, 3, True)])
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([rgb, 255 - rgb]), photometric="rgb")
    cv2.imwrite(str(tmp_path / "in.jpg"), image)
    data = (tmp_path / "in.jpg").read_bytes()  # JFIF's segment has 18 bytes
    (tmp_path / "adobe.jpg").write_bytes(data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + data[20:])
    data = (tmp_path / "in.png").read_bytes()
    colours = struct.pack("<HHHIHHI", 1, 40961, 3, 1, 65535, 0, 0)
    turned = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
    for name, chunks in (
        ("profile", [(b"iCCP", b"name\0\0" + zlib.compress(bytes(200)))]),
        ("gamma", [(b"gAMA", b"\0\x0f\0\0")]),
        ("srgb", [(b"sRGB", b"\0")]),
        ("wide", [(b"pHYs", struct.pack(">IIB", 1000, 2000, 1))]),
        ("adobergb", [(b"eXIf", b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 34665, 4, 1, 26, 0) + colours)]),
        ("turned", [(b"eXIf", turned)]),
        ("frames", [(b"acTL", struct.pack(">II", 1, 1)), (b"fdAT", b"\0\0\0\0")]),
    ):
        more = b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        (tmp_path / f"{name}.png").write_bytes(data[:33] + more + data[33:])
    gamma = (tmp_path / "gamma.png").read_bytes()
    (tmp_path / "late.png").write_bytes(gamma[:33] + gamma[49:-12] + gamma[33:49] + gamma[-12:])
    data = (tmp_path / "in.jpg").read_bytes()
    (tmp_path / "tall.jpg").write_bytes(data[:13] + b"\0\0\2\0\1" + data[18:])
    data = (tmp_path / "in.bmp").read_bytes()
    (tmp_path / "wide.bmp").write_bytes(data[:38] + struct.pack("<ii", 1000, 3000) + data[46:])
    source = tmp_path / {"jpg": "in.jpg", "late.png": "gamma.png"}.get(
        made if made == "late.png" else made[-3:], "in.png"
    )
    assert answer(check_input(tmp_path / made, source, None)) == said


def tiff(path: Path, **changed: tuple[str, tuple[int, ...]] | None) -> Path:
    """Writes an RGB TIFF of 8 bits; the tags that are `changed` have their number behind a letter."""
    width, height, order = 16, 12, ("H", (8, 8, 8))
    tags = {256: ("H", (width,)), 257: ("H", (height,)), 258: order, 259: ("H", (1,)), 262: ("H", (2,))}
    tags |= {273: ("I", (8,)), 277: ("H", (3,)), 278: ("H", (height,)), 279: ("I", (3 * width * height,))}
    tags |= {int(name[1:]): said for name, said in changed.items() if said}
    data = bytearray(b"II*\0\0\0\0\0" + bytes(range(192)) * 3)
    entries = b""
    for number, (form, values) in sorted(tags.items()):
        body = struct.pack(f"<{len(values)}{form}", *values).ljust(4, b"\0")
        if len(body) > 4:
            data += body
            body = struct.pack("<I", len(data) - len(body))
        kind, count = {"H": 3, "I": 4, "q": 5}[form], len(values)
        entries += struct.pack("<HHI", number, kind, count) + body
    struct.pack_into("<I", data, 4, len(data))
    path.write_bytes(data + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"t254": ("I", (4,))},  # a mask
        {"t262": ("H", (1,))},  # grey
        {"t262": ("H", (34892,))},  # of a sensor
        {"t282": ("q", (1 << 32 | 1,)), "t283": ("q", (1 << 32 | 2,))},  # samples twice as wide as high
        {"t301": ("H", tuple(range(768)))},  # a curve
        {"t318": ("q", (3 << 32 | 1, 3 << 32 | 1))},  # white
        {"t338": ("H", (1,))},  # transparency
        {"t339": ("H", (3, 3, 3))},  # floating point
        {"t341": ("H", (9, 9, 9))},  # white at 9
    ],
)
def test_what_a_tiff_says_of_its_samples_is_compared(
    tmp_path: Path, changed: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    plain, said = tiff(tmp_path / "in.tif"), tiff(tmp_path / "said.tif", **changed)
    assert answer(check_input(said, plain, None)) == "differs"
    assert answer(check_input(said, said, None)) == "same"


def test_damaged_tags_of_a_tiff_are_no_fault(tmp_path: Path) -> None:
    assert not tiff_view({258: 1 << 62})
    plain = tiff(tmp_path / "in.tif")
    for damaged in ({"t278": ("H", (1, 2))}, {"t262": ("H", (2, 2))}, {"t296": ("H", (9,)), "t283": ("q", (5,))}, {}):
        damaged |= {"t274": ("H", (1, 1)), "t700": ("I", (1 << 31,)), "t34675": ("I", (7,))}
        said = tiff(tmp_path / "said.tif", **damaged)
        assert answer(check_input(said, plain, None)) in ("differs", "same")
        rtface.run(said, tmp_path / "out.tif", tracker="none", overwrite=True)


@pytest.mark.parametrize("tag", [{"t301": ("H", tuple(range(768)))}, {"t318": ("q", (3 << 32 | 1, 3 << 32 | 1))}])
def test_what_a_tiff_says_of_its_samples_is_kept(tmp_path: Path, tag: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    source = tiff(tmp_path / "in.tif", **tag, t282=("q", (1 << 32 | 204,)), t283=("q", (1 << 32 | 98,)))
    rtface.run(source, tmp_path / "out.tif", tracker="none")
    assert answer(check_input(tmp_path / "out.tif", source, None)) == "same"


def test_tags_of_values_stay_with_their_kind_of_samples(tmp_path: Path) -> None:
    """Range and curve of YCbCr are none of the RGB that is written."""
    import tifffile

    limits, curve = ("q", (1 << 32, 1 << 32 | 255) * 3), ("H", tuple(range(768)))
    source, output = tmp_path / "in.tif", tmp_path / "out.tif"
    for kind, kept in ((2, {301, 532}), (6, set[int]())):
        tiff(source, t262=("H", (kind,)), t530=("H", (1, 1)), t532=limits, t301=curve, t318=("q", (1 << 32 | 3,) * 2))
        rtface.run(source, output, tracker="none", overwrite=True)
        assert {301, 318, 532} & {*tifffile.TiffFile(output).pages.first.tags.keys()} == {318, *kept}
    tiff(source, t262=("H", (6,)), t530=("H", (1, 1)), t532=limits)
    rtface.run(source, output, tracker="none", overwrite=True)
    assert answer(check_input(output, source, None)) == "not checked"  # as the samples became RGB


@pytest.mark.parametrize(("drop", "said"), [("audio", "same"), ("1", "same"), ("subtitle", "not checked")])
def test_a_stream_that_the_run_left_out_is_not_missing(films: dict[str, Path], drop: str, said: str) -> None:
    made, source, found = hash_packets(films["lossless"]), hash_packets(films["in"]), Checked()
    check_packets(found, made[:1], source, (0.0, 0.0), (None, None), (drop,))
    assert answer(found) == said and "is not in it" in (found.notes or found.gaps)[0]


def test_pcm_is_compared_however_it_is_cut(tmp_path: Path) -> None:
    """Containers cut PCM at places of their own."""
    sound = np.random.default_rng(1).integers(-9000, 9000, (1, 5000)).astype(np.int16)
    said = dict[str, list[PacketHashes]]()
    for name, length, changed in (("in", 900, 0), ("out", 1536, 0), ("false", 1536, 1)):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as made:
            video, track = made.add_stream("ffv1", rate=25), made.add_stream("pcm_s16le", rate=48000)
            video.width, video.height, video.pix_fmt, track.layout = 64, 48, "yuv420p", "mono"
            made.mux([*video.encode(av.VideoFrame(64, 48, "yuv420p")), *video.encode(None)])
            sound[0, 4000] += changed
            for start in range(0, 5000, length):
                block = av.AudioFrame.from_ndarray(sound[:, start : start + length], "s16", "mono")
                block.sample_rate, block.pts = 48000, start
                made.mux(track.encode(block))
        said[name] = hash_packets(tmp_path / f"{name}.mkv", pieces=True)
    for name, answers in (("out", "same"), ("false", "differs")):
        found = Checked()
        check_packets(found, said[name], said["in"], (0.0, 0.0), (None, None))
        assert answer(found) == answers


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8"])
def test_a_gap_in_pcm_becomes_silence_of_its_length(tmp_path: Path, codec: str) -> None:
    """MOV holds no times of PCM, so that the sound behind a gap would come too early."""
    source, output, kind = tmp_path / "in.mkv", tmp_path / "out.mov", "s16" if codec == "pcm_s16le" else "u8"
    noise = np.random.default_rng(1).integers(1, 127, (1, 9600)).astype(np.int16 if kind == "s16" else np.uint8)
    with av.open(str(source), "w") as box:
        video, sound = box.add_stream("mpeg4", rate=25), box.add_stream(codec, rate=48000)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 48, "yuv420p", "mono"
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
            picture.pts = number
            box.mux(video.encode(picture))
        for start in (0, 57600):
            for at in range(0, 9600, 960):
                block = av.AudioFrame.from_ndarray(noise[:, at : at + 960], kind, "mono")
                block.sample_rate, block.pts = 48000, start + at
                box.mux(sound.encode(block))
        box.mux([*video.encode(None), *sound.encode(None)])
    passthrough(source, output)
    with av.open(str(output)) as made:
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in made.decode(audio=0)])
    assert samples.size == 67200
    np.testing.assert_array_equal(samples[57600:], noise[0])
    assert set(samples[9600:57600].tolist()) == {0 if kind == "s16" else 128}
    found = Checked()
    check_packets(found, *(hash_packets(path, pieces=True) for path in (output, source)), (0.0, 0.0), (None, None))
    assert answer(found) == "same"


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mov", "pcm_s16le")])
def test_sound_that_an_edit_list_cuts_away_need_not_be_in(tmp_path: Path, suffix: str, codec: str) -> None:
    source, output = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    with av.open(str(source), "w") as box:
        video, sound = box.add_stream("mpeg4", rate=25), box.add_stream(codec, rate=48000)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 48, "yuv420p", "mono"
        noise = np.random.default_rng(1).integers(-9000, 9000, (40, 1, 1200)).astype(np.int16)
        for number, samples in enumerate(noise):
            block = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            block.sample_rate, block.pts = 48000, number * 1200
            box.mux([*video.encode(av.VideoFrame(64, 48, "yuv420p")), *sound.encode(block)])
        box.mux([*video.encode(None), *sound.encode(None)])
    data = bytearray(source.read_bytes())
    struct.pack_into(">i", data, data.rindex(b"elst") + 16, 24500)  # samples before the first that is shown
    source.write_bytes(data)
    passthrough(source, output)
    made, theirs = (hash_packets(path, pieces=True) for path in (output, source))
    for said in ("same", "differs"):
        found = Checked()
        check_packets(found, made, theirs, (0.0, 0.0), (None, None))
        assert answer(found) == said
        made[1].hidden.add(len(made[1].rows) - 1)


def test_sounds_stand_in_the_order_of_the_input() -> None:
    picture, english, french = (
        PacketHashes(kind, codec, Fraction(1, 1000), [(0, name)], index=k)
        for k, (kind, codec, name) in enumerate([("video", "h264", "p"), ("audio", "aac", "e"), ("audio", "aac", "f")])
    )
    for made, said in ([picture, english, french], "same"), ([picture, french, english], "differs"):
        found = Checked()
        check_packets(found, made, [picture, english, french], (0.0, 0.0), (None, None))
        assert answer(found) == said


@pytest.mark.parametrize(
    ("made", "said"),
    [("xbcdefghiy", "not checked"), ("bcdefgh", "not checked"), ("abcdXfghij", "differs"), ("abcdfghij", "differs")],
)
def test_fitted_sound_is_the_inputs_but_for_its_ends(made: str, said: str) -> None:
    def film(pieces: str) -> list[PacketHashes]:
        base = Fraction(1, 1000)
        sound = PacketHashes("audio", "pcm_s16le", base, list(enumerate(pieces)), index=1)
        return [PacketHashes("video", "mpeg2video", base, [(0, "p")]), sound]

    found = Checked()
    check_packets(found, film(made), film("abcdefghij"), (0.0, 0.0), (None, None), fitted=True)
    assert answer(found) == said


def test_the_exit_code_tells_what_was_not_compared(films: dict[str, Path], tmp_path: Path) -> None:
    labelled, folders = tmp_path / "label.mkv", (tmp_path / "out", tmp_path / "in")
    rtface.run(films["in"], labelled, tracker="none", stages=["label"], sidecar=True)
    for folder, name in zip(folders, ("a.png", "b.png"), strict=True):
        folder.mkdir()
        still(folder / name, face=False)
    for output, source in ((labelled, films["in"]), folders):
        ended = CliRunner().invoke(app, ["verify", str(output), str(source)])
        assert ended.exit_code == 4 and "not checked" in ended.output
