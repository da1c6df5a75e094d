"""``rtface verify OUTPUT INPUT`` names what a container says apart from all that it compares."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import rtface
from rtface.errors import InputError
from rtface.media.formats import matroska
from rtface.media.stills.exr import ExrHeader
from rtface.trust.check_input import check_input
from rtface.trust.check_packets import check_packets
from rtface.trust.check_sidecar import Checked
from rtface.trust.packet_hashes import cut_short, hash_packets
from rtface.trust.sidecar import read_sidecar
from rtface.util.av_arrays import encode_by

SAID = {"input": {}, "output": {"lossless": False}, "changed": [], "streams": [], "options": {}}
TURNED = (-65536, 0, 0, 0, -65536, 0, 64 << 16, 48 << 16, 1 << 30)
MADE = b"\x9a\x81\2\x54\xb2\x81\4"  # FlagInterlaced and DisplayUnit
SUFFIXES = (".mp4", ".mov", ".mkv", ".ts", ".mxf")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A film with sound in each container."""
    folder = tmp_path_factory.mktemp("films")
    for suffix in SUFFIXES:
        with av.open(str(folder / f"film{suffix}"), "w") as made:
            codec = "mpeg2video" if suffix == ".mxf" else "libx264"
            video, sound = made.add_stream(codec, rate=25, options={"bf": "0"}), None
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            if suffix != ".mxf":
                sound = made.add_stream("flac" if suffix == ".mkv" else "aac", rate=48000)
            for number in range(10):
                picture = np.full((72, 64), 90 + 5 * number, np.uint8)
                made.mux(video.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
                if sound:
                    kind = sound.codec_context.format.name
                    block = av.AudioFrame(kind, sound.codec_context.layout.name, 1920)
                    for plane in block.planes:
                        plane.update(bytes(plane.buffer_size))
                    block.sample_rate, block.pts = 48000, 1920 * number
                    made.mux(sound.encode(block))
            made.mux([*video.encode(None), *(sound.encode(None) if sound else ())])
    return {suffix: folder / f"film{suffix}" for suffix in SUFFIXES}


def answer(output: Path, source: Path) -> str:
    """What is wrong, what was not compared; nothing where all is the same."""
    found = check_input(output, source, SAID if output.suffix in SUFFIXES else None)
    return "; ".join(found.problems + found.gaps)


def put(box: bytes, place: int, value: bytes) -> Callable[[bytes], bytes]:
    """Writes over the last box of a kind."""

    def change(data: bytes) -> bytes:
        at = data.rindex(box) + place
        return data[:at] + value + data[at + len(value) :]

    return change


def behind(kind: bytes, body: bytes, *around: bytes) -> Callable[[bytes], bytes]:
    """Adds a box at the end of the file, or of the boxes around it, the last of which ends there, too."""

    def change(data: bytes) -> bytes:
        added = struct.pack(">I4s", 8 + len(body), kind) + body
        for name in around:
            at = data.rindex(name) - 4
            data = data[:at] + struct.pack(">I", struct.unpack_from(">I", data, at)[0] + len(added)) + data[at + 4 :]
        return data + added

    return change


def element(*path: int, body: bytes = b"") -> Callable[[bytes], bytes]:
    """Adds an element at the end of a Matroska film."""

    def change(data: bytes) -> bytes:
        added = body
        for kind in reversed(path):
            added = matroska.element(kind, added)
        at = data.index(b"\x18\x53\x80\x67\x01") + 4
        size = struct.unpack_from(">Q", data, at)[0] + len(added)
        return data[:at] + struct.pack(">Q", size) + data[at + 8 :] + added

    return change


def again(*kinds: int) -> Callable[[bytes], bytes]:
    """An element a second time."""

    def change(data: bytes) -> bytes:
        _, start, _ = matroska.head(data[40:], 0) or (0, 0, 0)
        begin = 40 + start
        for kind in kinds:
            at, body, end = next((s, b, e) for k, s, b, e in matroska.elements(data, begin, len(data)) if k == kind)
            whole, begin = data[at:end], body
        return element(body=whole)(data)

    return change


def packets(change: Callable[[bytearray], None]) -> Callable[[bytes], bytes]:
    """Changes the packets of a transport stream."""

    def changed(data: bytes) -> bytes:
        parts = [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]
        for part in parts:
            change(part)
        return b"".join(parts)

    return changed


def marked(pid: int, place: int, bit: int) -> Callable[[bytes], bytes]:
    def change(packet: bytearray) -> None:
        if (packet[1] & 31) << 8 | packet[2] == pid:
            packet[place] |= bit

    return packets(change)


def clocked(change: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """Changes the clock of a transport stream, in ticks of 90 kHz."""

    def changed(packet: bytearray) -> None:
        if packet[3] & 32 and packet[4] > 6 and packet[5] & 16:
            clock = int.from_bytes(packet[6:11], "big")
            packet[6:11] = (change(clock >> 7) % (1 << 33) << 7 | clock & 127).to_bytes(5, "big")

    return packets(changed)


def unclocked(packet: bytearray) -> None:
    if packet[3] & 32 and packet[4] > 6:
        packet[5] &= 0xEF


def table(was: bytes, now: bytes, *, summed: bool = True) -> Callable[[bytes], bytes]:
    """Changes the table of the streams (PMT) of a transport stream."""

    def change(packet: bytearray) -> None:
        if packet[1] & 31 == 16 and packet[2] == 0:
            section = bytearray(packet[5 : 4 + packet[7]].replace(was, now, 1))
            section[2] += len(now) - len(was)
            flipped = bytes(int(f"{byte:08b}"[::-1], 2) for byte in section)
            crc = int(f"{zlib.crc32(flipped) ^ 0xFFFFFFFF:032b}"[::-1], 2) ^ (not summed)
            packet[5:] = (section + struct.pack(">I", crc)).ljust(183, b"\xff")

    return packets(change)


def scrambled(packet: bytearray) -> None:
    at = 4 + (1 + packet[4] if packet[3] & 32 else 0)
    if packet[2] == 1 and packet[1] == 65:
        packet[at + 6] |= 32


MP4 = {
    "smhd": put(b"smhd", 8, b"\xff\0"),  # the left side only
    "vmhd": put(b"vmhd", 8, b"\0\x24"),
    "soun/tkhd": put(b"tkhd", 36, b"\3\xe7"),  # a layer
    "vide/tkhd": lambda data: put(b"tkhd", 38, b"\0\1")(data[: data.rindex(b"trak")]) + data[data.rindex(b"trak") :],
    "dref": put(b"dref", 20, b"\0\0\0\0"),  # the samples lie in another file
    "mvhd": put(b"mvhd", 88, b"\0\0\1\0"),  # a selection
    "rmra": behind(b"rmra", b"", b"moov"),
    "moov": behind(b"moov", b""),
    "moov/trak/": behind(b"trak", b"\0\0\0\x18freehdlr\0\0\0\0\0\0\0\0soun", b"moov"),  # is no sound
    "meta": behind(b"meta", bytes(40)),
    "stbl/stsd": put(b"stsd", 11, b"\2"),
    "moov/mvhd": put(b"mvhd", 65, b"\x55"),  # the picture is moved
    "trak/vide/tkhd": lambda data: (
        put(b"tkhd", 69, b"\x55")(data[: data.rindex(b"trak")]) + data[data.rindex(b"trak") :]
    ),
    "stsd/avc1": put(b"avc1", 11, b"\x54"),  # the samples lie in another file
    "avc1/avcC": put(b"avcC", 5, b"\x4d"),  # another profile than that of the parameter sets
    "ftyp": put(b"ftyp", 4, b"zzzz"),
    "stbl/stss": put(b"stss", 15, b"\5"),  # the first frame cannot be decoded by itself
    "index that contradicts itself": put(b"stsz", 12, b"\0\0\0\x59"),
    "its container has an index": put(b"stss", 8, b"\0\0\0\x59"),
    "tapt": behind(b"tapt", b"\0\0\0\x14clef" + struct.pack(">3I", 0, 999 << 16, 48 << 16), b"moov"),
}


def without_header(data: bytes) -> bytes:
    """Empty space in place of FLAC's CodecPrivate."""
    at = data.index(b"fLaC") - 3
    return data[:at] + bytes([0xEC, data[at + 2] + 1]) + data[at + 2 :]


MATROSKA = {
    "EditionFlagHidden": element(0x1043A770, 0x45B9, 0x45BD, body=b"\1"),
    "ChapterAtom/B6": element(0x1043A770, 0x45B9, 0xB6, 0xB6),
    "Tracks": again(0x1654AE6B),
    "Info": again(0x1549A966),
    "3EB923": element(0x3EB923, body=b"next"),
    "Tracks/TrackEntry": lambda data: data.replace(b"fLaC", b"fLaX", 1),  # FFmpeg does without it
    "Segment/Tracks/TrackEntry": without_header,
    "TrackEntry": lambda data: data.replace(b"\x01\x64\0", b"\x01\x4d\0", 1),
    "Cluster/SimpleBlock": lambda data: data.replace(b"\x81\0\0\x80", b"\x81\0\0\x88", 1),  # is not shown
    "BlockAdditional": element(0x1F43B675, 0xA0, 0x75A1, 0xA6, 0xA5, body=b"\xb5\0\x3c\0\1\4"),
    "DocType": lambda data: data.replace(b"matroska", b"matrosko", 1),
    "SeekHead, Cues": put(b"\xf1\x82", 2, b"\2\x90"),
    "Segment/SeekHead, Cues": put(b"\x1c\x53\xbb\x6b\x53\xac\x82", 7, b"\6\xca"),
    "Cluster/5854": element(0x1F43B675, 0x5854, body=b"\1"),
}
TRANSPORT = {
    "transport_error_indicator": marked(257, 1, 128),
    "transport_scrambling_control": marked(257, 3, 128),
    "PES_scrambling_control": packets(scrambled),
    "PMT/stream_type of h264": table(b"\x1b\xe1\0", b"\6\xe1\0"),
    "PMT/stream_type of aac": table(b"\x0f\xe1\1", b"\x82\xe1\1"),
    "/stream_type of aac": table(b"\x0f\xe1\1\xf0\0", b"\x0f\xe1\1\xf0\3\x6a\1\0"),
    "PMT/stream_type of the programme": table(b"\xe1\0\xf0\0", b"\xe1\0\xf0\6\5\4HDMV"),
    "PAT, PMT with wrong checksums": table(b"", b"", summed=False),
    "PAT, PMT behind": lambda data: data[188 * 3 :] + data[: 188 * 3],
    "continuity_counter": marked(257, 3, 15),
    "PID 300": lambda data: data + b"G\x01\x2c\x10" + bytes(184),
    "SDT": lambda data: data.replace(b"\x48\x12\1\6", b"\x48\x12\2\6"),  # radio
    "PAT, PMT": lambda data: data + data[188 * 2 : 188 * 3].replace(b"\x1b", b"\x02"),
}


@pytest.mark.parametrize(
    ("suffix", "said", "change"),
    [
        *((suffix, said, change) for suffix in (".mp4", ".mov") for said, change in MP4.items()),
        *((".mkv", said, change) for said, change in MATROSKA.items()),
        *((".ts", said, change) for said, change in TRANSPORT.items()),
        (".ts", "PCR", clocked(lambda ticks: ticks - 20 * 90_000)),
        (".ts", "PCR", clocked(lambda ticks: ticks + 20_000)),  # past the times of decoding
        (".ts", "PCR", clocked(lambda ticks: ticks // 9)),
        (".ts", "PCR", packets(unclocked)),
        (".mkv", "SeekHead, Cues", put(b"\xbb\x8f\xb3\x81", 4, b"\x50")),  # the time, and the place in a cluster
        (".mkv", "SeekHead, Cues", put(b"\xf0\x81", 2, b"\x33")),
        (
            ".mkv",
            "Cluster/SimpleBlock",
            lambda data: data.replace(b"\x81\0\0\x80", b"\x81\0\0\x81", 1),
        ),  # may be left out
        (".mp4", "stsd/mp4b", put(b"mp4a", 0, b"mp4b")),
        (".mp4", "stsd/mp4a", put(b"esds", 0, b"esdz")),  # FFmpeg may do without it
        (".mp4", "mp4a/esds", put(b"esds", 21, b"\x15")),
        (".mp4", "stbl/stsd", put(b"stsd", 7, b"\1")),
        (".mxf", "IndexDuration", put(b"\x3f\x0d\0\x08", 11, b"\5")),
    ],
)
def test_a_part_that_is_not_known_is_named(
    films: dict[str, Path], tmp_path: Path, suffix: str, said: str, change: Callable[[bytes], bytes]
) -> None:
    film, false = films[suffix], tmp_path / f"false{suffix}"
    false.write_bytes(change(film.read_bytes()))
    assert said in answer(false, film)
    assert said not in answer(film, false)  # an input may say it


@pytest.mark.parametrize(
    ("suffix", "was", "now"),
    [
        (".mkv", b"fLaC\x80\0\0\x22\x12\0", b"fLaC\x80\0\0\x22\x10\0"),  # blocks of another size
        (".ts", b"\xff\xf1\x4c", b"\xff\xf1\x50"),  # another rate in each packet
        (".mp4", b"\x05\x80\x80\x80\x05\x11\x90", b"\x05\x80\x80\x80\x05\x12\x10"),
    ],
)
def test_copied_sound_has_the_header_of_the_input(
    films: dict[str, Path], tmp_path: Path, suffix: str, was: bytes, now: bytes
) -> None:
    data, false = films[suffix].read_bytes(), tmp_path / f"false{suffix}"
    false.write_bytes(data.replace(was, now))
    assert was in data and "its header, by which the packets are decoded" in answer(false, films[suffix])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_honest_copy_has_known_parts(films: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    copy = shutil.copy(films[suffix], tmp_path / f"copy{suffix}")
    assert not answer(Path(copy), films[suffix])


@pytest.mark.parametrize(("number", "samples", "said"), [(2, 1800, True), (2, 10, False), (0, 1024, False)])
def test_samples_cut_out_of_packets_are_found(films: dict[str, Path], number: int, samples: int, said: bool) -> None:
    """As DiscardPadding of Matroska does, and the delay of an encoder at the beginning."""
    made, source = hash_packets(films[".mkv"]), hash_packets(films[".mkv"])
    made[1].trimmed[number] = 0, samples
    found = Checked()
    check_packets(found, made, source, (0.0, 0.0), (None, None))
    assert bool(found.problems) == said


@pytest.mark.parametrize(("samples", "said"), [(1024, False), (1924, True)])
def test_sound_behind_priming_is_not_cut_away(films: dict[str, Path], tmp_path: Path, samples: int, said: bool) -> None:
    """By less than packets may come early."""
    (tmp_path / "false.mp4").write_bytes(put(b"elst", 16, struct.pack(">i", samples))(films[".mp4"].read_bytes()))
    assert ("900 samples of packet 0 are cut away" in answer(tmp_path / "false.mp4", films[".mp4"])) == said


def test_pcm_that_an_edit_list_cuts_is_found(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mov"), "w") as made:
        sound = made.add_stream("pcm_s16le", rate=48000, layout="mono")
        made.mux([*coded(made.add_stream("libx264", rate=25, options={"bf": "0"}), 1)])
        for number in range(5):
            block = av.AudioFrame.from_ndarray(np.full((1, 1200), 9 + number, np.int16), "s16", "mono")
            block.sample_rate, block.pts = 48000, 1200 * number
            made.mux(sound.encode(block))
    data = (tmp_path / "in.mov").read_bytes()
    at = data.index(b"elst") + 16
    (tmp_path / "false.mov").write_bytes(data[:at] + struct.pack(">i", 700) + data[at + 4 :])
    assert not answer(tmp_path / "in.mov", tmp_path / "in.mov")
    assert "cut away" in answer(tmp_path / "false.mov", tmp_path / "in.mov")


@pytest.mark.parametrize(
    ("there", "then", "said"),
    [
        (b"\x55\xb1\x81\1", b"\2", ""),
        (b"\x55\xba\x81\1", b"\0", "TransferCharacteristics"),
        (b"\x55\xbb\x81\1", b"\0", "Primaries"),
        (b"\x55\xbb\x81\1", b"\1\x55\xbb\x81\1", "Primaries"),
        (b"\x55\xb9\x81\1", b"\0", ""),  # as GStreamer writes it
        (b"\x55\xb9\x81\1", b"\2", "other colours than its frames (range 2"),
        (b"\x55\xb9\x81\2", b"\1", "other colours than its frames (range 1"),
        (b"\x55\xb9\x81\1", b"\1\x55\xd0\x87\x55\xd9\x84\x44\x7a\0\0", "MasteringMetadata"),
        *((b"\x54\xb2\x81\4", b"\4\x9a\x81" + one, "") for one in (b"\0", b"\2")),
        (b"\x54\xb2\x81\4", b"\4\x9a\x81\1", "FlagInterlaced"),
        (b"\x54\xb2\x81\4", b"\4\x9a\x82\0\1", "FlagInterlaced"),
    ],
)
def test_colours_in_the_header_alone_are_found(tmp_path: Path, there: bytes, then: bytes, said: str) -> None:
    film, false = tmp_path / "film.mkv", tmp_path / "false.mkv"
    with av.open(str(film), "w") as made:
        made.mux([*coded(made.add_stream("libx264", rate=25), 1, limits=2 if there[-1] == 2 else 1)])
    assert said or not answer(film, film)
    data, grown = film.read_bytes().replace(there, there[:-1] + then, 1), len(then) - 1
    room = b"\x55\xee\x81\0\xec\1" + bytes(6) + b"\2\0\0"  # a number and empty space, behind the colours
    for kind, size in ((b"\xe0", 0x9D), (b"\x55\xb0", 0x90))[: 1 + (there[0] == 0x55)]:
        assert kind + bytes([size]) in data and room in data
        data = data.replace(kind + bytes([size]), kind + bytes([size + grown]), 1)
    data = data.replace(room, b"\xec" + bytes([0x80 | len(room) - 2 - grown]) + bytes(len(room) - 2 - grown), 1)
    false.write_bytes(data)
    assert said in answer(false, film) if said else not answer(false, film)


def coded(video: av.VideoStream, colours: int, first: int = 0, limits: int = 1) -> Iterator[av.Packet[av.VideoStream]]:
    """Three frames."""
    video.width, video.height, video.pix_fmt, context = 64, 48, "yuv420p", video.codec_context
    context.color_range, context.color_primaries, context.color_trc, context.colorspace = limits, *[colours] * 3
    for number in range(first, first + 3):
        image = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
        image.pts, image.time_base = number, Fraction(1, 25)
        yield from video.encode(image)
    yield from video.encode(None)


@pytest.mark.parametrize(("colours", "said"), [(1, ""), (9, "frame 3: colours")])
def test_colours_that_change_on_the_way_are_found(tmp_path: Path, colours: int, said: str) -> None:
    """In MPEG-TS each part brings its own parameter sets."""
    for name, second in (("in.ts", 1), ("out.ts", colours)):
        with av.open(str(tmp_path / name), "w") as made, av.open(str(tmp_path / "other.ts"), "w") as other:
            video = made.add_stream("libx264", rate=25, options={"bf": "0"})
            made.mux([*coded(video, 1)])
            for packet in coded(other.add_stream("libx264", rate=25, options={"bf": "0"}), second, 3):
                packet.stream = video
                made.mux(packet)
    assert said in answer(tmp_path / "out.ts", tmp_path / "in.ts")
    assert said or not answer(tmp_path / "out.ts", tmp_path / "in.ts")


@pytest.mark.parametrize(("blue", "said"), [(60, ""), (61, "samples outside the faces are not the input's")])
def test_a_byte_that_says_nothing_is_not_compared(tmp_path: Path, blue: int, said: str) -> None:
    """FFV1 has RGB of 8 bits in four bytes, the last of which is free."""
    for name, kind, value in (("in.mkv", "gbrp", 60), ("out.mkv", "bgr0", blue)):
        with av.open(str(tmp_path / name), "w") as made:
            video = made.add_stream("libx264rgb" if kind == "gbrp" else "ffv1", rate=25, options={"qp": "0"})
            video.width, video.height, video.pix_fmt = 64, 48, "bgr24" if kind == "gbrp" else kind
            rgb = np.full((48, 64, 3), (200, 90, value), np.uint8)
            image = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=video.pix_fmt)
            made.mux([*video.encode(image), *video.encode(None)])
    found = answer_lossless(tmp_path / "out.mkv", tmp_path / "in.mkv")
    assert said in found if said else "samples" not in found


def answer_lossless(output: Path, source: Path) -> str:
    return "; ".join(check_input(output, source, SAID | {"output": {"lossless": True}}).problems)


def test_what_packets_cut_away_is_read(films: dict[str, Path], tmp_path: Path) -> None:
    data = films[".mkv"].read_bytes()
    with av.open(str(films[".mkv"])) as source:
        sound = next(bytes(packet) for packet in source.demux(audio=0) if packet.size)
    for name, padding in (("in", b""), ("cut", matroska.element(0x75A2, struct.pack(">q", 20_000_000)))):
        block = matroska.element(0xA1, b"\x82\0\0\0" + sound)
        cluster = matroska.element(
            0x1F43B675, matroska.element(0xE7, b"\2\0") + matroska.element(0xA0, block + padding)
        )
        (tmp_path / f"{name}.mkv").write_bytes(element(body=cluster)(data))
    assert "960 samples of packet" in answer(tmp_path / "cut.mkv", tmp_path / "in.mkv")


def with_units(film: Path, target: Path, unit: bytes) -> None:
    """A film with a unit in front of each picture."""
    with av.open(str(film)) as source, av.open(str(target), "w") as made:
        streams = [made.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                said = packet
                if not packet.stream_index:
                    said = av.Packet(struct.pack(">I", len(unit)) + unit + bytes(packet))
                    said.pts, said.dts, said.time_base = packet.pts, packet.dts, packet.time_base
                    said.duration, said.is_keyframe = packet.duration, packet.is_keyframe
                said.stream = streams[packet.stream_index]
                made.mux(said)


@pytest.mark.parametrize("body", [b"\xb5\0\x31GA94\3\x41\xff\xfc\x94\x20\xff", b"\xb4\0\x50\0\0\1\x79\1\2\3"])
def test_captions_that_the_input_lacks_are_found(films: dict[str, Path], tmp_path: Path, body: bytes) -> None:
    """In front of each picture: registered user data with text of CEA-608; with LCEVC, which PyAV has no name for."""
    message = b"\x06\x04" + bytes([len(body)]) + body.replace(b"\0\0\1", b"\0\0\3\1") + b"\x80"
    with_units(films[".mp4"], tmp_path / "said.mp4", message)
    assert "frame 0: captions" in answer(tmp_path / "said.mp4", films[".mp4"])
    assert "frame 0" not in answer(films[".mp4"], tmp_path / "said.mp4")


X264 = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + b"x264 - core 164"


@pytest.mark.parametrize(
    ("codec", "said", "unit"),
    [
        ("libx264", "SEI 13", b"\x06\x0d\1\x40\x80"),  # the picture freezes
        ("libx264", "SEI 150", b"\x06\x96\1\x40\x80"),
        ("libx264", "T.35 b5003c00010401", b"\x06\4\x08\xb5\0\x3c\0\1\4\1\x40\x80"),
        ("libx264", "SEI 5", b"\x06\5\x1f" + X264[:16] + b"x264 - a true story" + b"\x80"),
        ("libx264", "", b"\x06\5\x1f" + X264 + b"\x80"),
        ("libx264", "SEI -1", b"\x06\1\xff\1\x80"),
        ("libx264", "unit 20", b"\x74\x80\0\x07\x88\x84"),
        ("libx264", "", b"\x09\xf0"),
        ("libx264", "parameter sets", b"sequence"),
        ("libx265", "SEI 142", b"\x4e\1\x8e\1\x40\x80"),
        ("libx265", "unit 62", b"\x7c\1\x19\x08"),
        ("libx265", "layer 1", b"\2\x09\xd0"),
    ],
)
def test_units_that_our_encoders_do_not_write_are_named(tmp_path: Path, codec: str, said: str, unit: bytes) -> None:
    film, false = tmp_path / "film.mp4", tmp_path / "false.mp4"
    with av.open(str(film), "w") as made:
        made.mux(
            [*coded(made.add_stream(codec, rate=25, options={"preset": "ultrafast", "x265-params": "log-level=0"}), 1)]
        )
    if unit == b"sequence":  # of another level
        data = film.read_bytes()
        at = data.index(b"avcC") + 12
        unit = data[at : at + int.from_bytes(data[at - 2 : at], "big")]
        with_units(film, false, unit)
        assert not answer(false, film)
        unit = unit[:3] + bytes([unit[3] + 1]) + unit[4:]
    with_units(film, false, unit)
    assert said in answer(false, film) if said else not answer(false, film)
    assert "some programs" not in answer(film, false)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("place", [1, 2, 11])  # profile, bits, and the size in its own sequence header
def test_the_record_of_av1_is_its_sequence_header(tmp_path: Path, suffix: str, place: int) -> None:
    film, false = tmp_path / f"film{suffix}", tmp_path / f"false{suffix}"
    with av.open(str(film), "w") as made:
        made.mux([*coded(made.add_stream("libsvtav1", rate=25, options={"preset": "12"}), 1)])
    data = bytearray(film.read_bytes())
    data[data.index(b"\x81\0\x0c\0\x0a\x0d\0\0") + place] ^= 64
    false.write_bytes(data)
    assert "parameter sets" in answer(false, film)
    assert not answer(film, false)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films with two pictures: an input, and what rtface makes of it in each container."""
    folder = tmp_path_factory.mktemp("second")
    with av.open(str(folder / "in.mkv"), "w") as made:
        videos = [made.add_stream("libx264", rate=25, options={"bf": "0"}) for _ in range(2)]
        videos[1].codec_context.sample_aspect_ratio = Fraction(4, 3)
        made.mux([packet for video in videos for packet in coded(video, 1)])
    for suffix in (".mp4", ".mov", ".mkv"):
        rtface.run(folder / "in.mkv", folder / f"out{suffix}", tracker="none", codec="libx264")
    return {suffix: folder / f"out{suffix}" for suffix in (".mp4", ".mov", ".mkv")} | {"in": folder / "in.mkv"}


@pytest.mark.parametrize(
    ("suffix", "said", "change"),
    [
        (".mp4", "other colours than its frames", put(b"nclx", 4, struct.pack(">3H", 9, 16, 9))),
        (".mov", "other colours than its frames", put(b"nclc", 4, struct.pack(">3H", 9, 16, 9))),
        (".mp4", "rotated", put(b"tkhd", 44, struct.pack(">9i", *TURNED))),
        (".mp4", "shows the picture at 144", put(b"tkhd", 80, b"\0\x90")),
        (".mkv", "the shape of its samples is", put(MADE, 0, b"\x54\xb0\x81\x60\xec\x81\0")),
        (".mkv", "hides another part", put(MADE, 0, b"\x54\xcc\x81\x08\xec\x81\0")),
    ],
)
def test_a_second_picture_is_shown_as_the_inputs(
    second: dict[str, Path], tmp_path: Path, suffix: str, said: str, change: Callable[[bytes], bytes]
) -> None:
    data, false = second[suffix].read_bytes(), tmp_path / f"false{suffix}"
    assert "stream 1 (video)" not in answer(second[suffix], second["in"])
    false.write_bytes(change(data))
    assert false.read_bytes() != data
    found = answer(false, second["in"])
    assert "stream 1 (video)" in found and said in found


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def in_front(added: bytes, at: int = 2) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + added + data[at:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, 2 + len(body)) + body


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:h="%b" %b/></rdf:RDF></x:xmpmeta>'
)
GAIN = XMP % (b"http://ns.adobe.com/hdr-gain-map/1.0/", b'h:GainMapMax="5"')
TURN = XMP % (b"http://ns.adobe.com/tiff/1.0/", b'h:Orientation="6"')
TITLE = XMP % (b"http://purl.org/dc/elements/1.1/", b'h:title="A"')
THUMBNAIL = (
    struct.pack("<2sHIHIH", b"II", 42, 8, 0, 14, 1) + struct.pack("<HHII", 513, 4, 1, 32) + bytes(4) + b"\xff\xd8"
)
BOX = b"JP\2\x11\0\0\0%c\0\0\1\0%b"  # of a JPEG: number of the box, of the segment, length, kind
PHOTOSHOP = b"Photoshop 3.0\x008BIM\x04\x0c\0\0\0\0\0\4abcd"


@pytest.mark.parametrize(
    ("name", "said", "change"),
    [
        ("a.png", "rest", lambda data: data + data),
        ("a.png", "Orientation", in_front(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TURN), 33)),
        (
            "a.png",
            "XMP",
            in_front(chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<?xml version="1.0" encoding="no"?><a/>'), 33),
        ),
        ("a.png", "zzzz", in_front(chunk(b"zzzz", b""), 33)),
        ("a.png", "tEXt", in_front(chunk(b"tEXt", b"Raw profile type exif\0\nexif"), 33)),
        ("a.png", "", in_front(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TITLE), 33)),
        ("a.png", "", in_front(chunk(b"tEXt", b"Comment\0hello"), 33)),
        ("a.jpg", "rest", lambda data: data + data),
        ("a.jpg", "GainMapMax", in_front(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + GAIN))),
        ("a.jpg", "thumbnail", in_front(segment(0xE1, b"Exif\0\0" + THUMBNAIL))),
        ("a.jpg", "E0/JFIF", lambda data: data[:4] + b"\0\x13" + data[6:18] + b"\1\1red" + data[20:]),  # a thumbnail
        ("a.jpg", "Photoshop/040C", in_front(segment(0xED, PHOTOSHOP))),
        ("a.jpg", "E0/JFXX", in_front(segment(0xE0, b"JFXX\0\x10"))),
        ("a.jpg", "", in_front(segment(0xFE, b"hello\xff\xd9"))),
        ("a.jpg", "EB/JP", in_front(segment(0xEB, BOX % (1, b"RESI")))),
        ("a.jpg", "EB/JP", in_front(segment(0xEB, BOX % (1, b"jumb") + b"\0\0\0\x1ejumdjs01"))),
        ("a.jpg", "", in_front(segment(0xEB, BOX % (1, b"jumb") + b"\0\0\0\x1ejumdc2pa"))),
        ("a.jpg", "", in_front(segment(0xEB, BOX % (2, b"jumb") + b"what follows"))),
        ("a.webp", "RIFF", lambda data: data + data),
        ("a.bmp", "rest", lambda data: data + b"more"),
    ],
)
def test_a_part_of_a_still_that_is_not_known_is_named(
    tmp_path: Path, name: str, said: str, change: Callable[[bytes], bytes]
) -> None:
    source, false = tmp_path / name, tmp_path / f"false-{name}"
    cv2.imwrite(str(source), np.full((48, 64, 3), 90, np.uint8))
    false.write_bytes(change(source.read_bytes()))
    assert said in answer(false, source) if said else not answer(false, source)
    assert not answer(false, false)


def at(place: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + value + data[place + len(value) :]


def attribute(name: bytes, kind: bytes, value: bytes) -> Callable[[bytes], bytes]:
    """A further attribute of an EXR, whose blocks come later then."""
    added = name + b"\0" + kind + b"\0" + struct.pack("<I", len(value)) + value

    def change(data: bytes) -> bytes:
        end = ExrHeader.read(data).end - 1
        (first,) = struct.unpack_from("<Q", data, end + 1)
        places = struct.unpack_from(f"<{(first - end - 1) // 8}Q", data, end + 1)
        moved = struct.pack(f"<{len(places)}Q", *(each + len(added) for each in places))
        return data[:end] + added + b"\0" + moved + data[first:]

    return change


@pytest.mark.parametrize(
    ("kind", "said", "change"),
    [
        ("dpx", "DPX/encryption key", at(660, b"\0\0\0\5")),
        ("dpx", "DPX/sign", at(780, b"\0\0\0\1")),
        ("dpx", "DPX/padding", at(812, b"\0\0\0\4")),
        ("dpx", "DPX/image offset", at(1408, b"\0\0\0\x32")),
        ("dpx", "DPX/border", at(1620, b"\0\x0a")),
        ("dpx", "DPX/rest", lambda data: data + b"more"),
        ("dpx", "", at(160, b"another program")),
        ("exr", "EXR/colorInteropID", attribute(b"colorInteropID", b"string", b"lin_ap0_scene")),
        ("exr", "EXR/preview", attribute(b"preview", b"preview", struct.pack("<II", 1, 1) + b"red\xff")),
        ("exr", "EXR/multiView", attribute(b"multiView", b"stringvector", struct.pack("<I", 4) + b"left")),
        ("exr", "", attribute(b"comments", b"string", b"of a day at sea")),
    ],
)
def test_fields_of_scans_and_renderings_are_the_inputs(
    tmp_path: Path, kind: str, said: str, change: Callable[[bytes], bytes]
) -> None:
    source, false = tmp_path / f"in.{kind}", tmp_path / f"false.{kind}"
    image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")
    source.write_bytes(encode_by(kind, image.reformat(format="gbrpf32le" if kind == "exr" else "rgb48be")))
    false.write_bytes(change(source.read_bytes()))
    assert said in answer(false, source) if said else not answer(false, source)
    assert not answer(false, false)


def test_what_else_a_folder_holds_is_named(tmp_path: Path) -> None:
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "in" / "notes.txt").write_text("")
    assert not answer(tmp_path / "out", tmp_path / "in")
    (tmp_path / "out" / ".b.png").write_bytes(b"")
    (tmp_path / "out" / "more").mkdir()
    assert ".b.png, more" in answer(tmp_path / "out", tmp_path / "in")


@pytest.mark.parametrize(("count", "taken"), [(1000, True), (2000, False)])
def test_a_sidecar_names_no_more_boxes_than_faces_fit(tmp_path: Path, count: int, taken: bool) -> None:
    """Each is searched for a face, which took minutes."""
    said = SAID | {
        "format": "rtface sidecar",
        "version": 1,
        "tags": {},
        "marks": {},
        "changed": [[0, [[0, 0, 9, 9]] * count]],
    }
    said |= {"output": {"name": "a.mp4", "lossless": False}, "input": {"name": "b.mp4"}}
    said |= {"frames": {"of": "frames", "time_base": "1/25", "rows": []}}
    (tmp_path / "a.mp4.rtface.json").write_text(json.dumps(said))
    with nullcontext() if taken else pytest.raises(InputError, match="changed"):
        read_sidecar(tmp_path / "a.mp4.rtface.json")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_what_a_camera_says_of_a_photo_stays_known(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / "plain.jpg"), np.full((48, 64, 3), 90, np.uint8))
    exif = struct.pack(">2sHIHHHIII", b"MM", 42, 8, 1, 34665, 4, 1, 26, 0)
    exif += struct.pack(">HHHI4sI", 1, 37500, 7, 4, b"MAKE", 0)
    photo = in_front(segment(0xE1, b"Exif\0\0" + exif) + segment(0xED, PHOTOSHOP))
    (tmp_path / "in.jpg").write_bytes(photo((tmp_path / "plain.jpg").read_bytes()))
    rtface.run(tmp_path / "in.jpg", tmp_path / f"out{suffix}", tracker="none")
    assert "some programs" not in answer(tmp_path / f"out{suffix}", tmp_path / "in.jpg")


def test_sound_that_ends_early_is_no_other_clock(tmp_path: Path) -> None:
    """FFmpeg writes the last packet of sound to MPEG-TS at the end of the film, whenever it is to be heard."""
    film = tmp_path / "film.ts"
    with av.open(str(film), "w") as made:
        video, sound = made.add_stream("libx264", rate=25, options={"bf": "0"}), made.add_stream("aac", rate=48000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            made.mux(video.encode(av.VideoFrame.from_ndarray(np.full((72, 64), 90 + number, np.uint8), "yuv420p")))
            if number < 12:
                block = av.AudioFrame("fltp", sound.codec_context.layout.name, 1920)
                for plane in block.planes:
                    plane.update(bytes(plane.buffer_size))
                block.sample_rate, block.pts = 48000, 1920 * number
                made.mux(sound.encode(block))
        made.mux([*video.encode(None), *sound.encode(None)])
    assert not check_input(film, film, SAID).gaps


def test_a_film_whose_rate_falls_is_not_cut_short(tmp_path: Path) -> None:
    """FFmpeg counts an MP4's length by decoding times, which B-frames have earlier than they are shown."""
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as made:
        video = made.add_stream("libx264", rate=25, options={"bf": "3", "b-adapt": "0"})
        video.width, video.height, video.pix_fmt, video.codec_context.time_base = 64, 48, "yuv420p", Fraction(1, 25)
        for number in range(18):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 90 + 5 * number, np.uint8), "yuv420p")
            picture.pts, picture.time_base = number if number < 6 else 6 + 5 * (number - 6), Fraction(1, 25)
            made.mux(video.encode(picture))
        made.mux(video.encode(None))
    assert not cut_short(hash_packets(film))
