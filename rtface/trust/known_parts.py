"""Names the parts of a file by which a program may show it in another way, and which nothing else compares: what is not
in the tables of parts that say nothing more (`rtface.trust.part_tables`)."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from rtface.media.formats import mpegts
from rtface.media.formats.image_view import TIFF_READ
from rtface.media.formats.tiff_tags import Directory, order_of, read_directory
from rtface.media.read.probe import MediaInfo
from rtface.media.stills.dpx import DpxHeader, picture_end
from rtface.media.stills.image_read import Still
from rtface.trust.check_sidecar import Checked
from rtface.trust.packet_hashes import PacketHashes
from rtface.trust.part_tables import DPX, EXR, STREAM_TYPES, TABLES, XMP

Part: TypeAlias = "tuple[str, bytes]"
"""Where a part lies, by the names around it, and its content (of a long one the beginning)."""
_Data: TypeAlias = "bytes | mmap.mmap"
_Rules: TypeAlias = "dict[str, tuple[str, bool, re.Pattern[bytes], _Rules]]"
"""By kind: name, whether it repeats, form, and what may lie in it."""

# Bytes of a content that are compared; parts that are named; a tag's bytes; ticks from an index of Matroska to a block.
_LONGEST, _NAMED, _ID3V1, _NEAR = 1 << 16, 5, 128, 1
_PLACED = 44  # bytes at the end of a track's header: matrix and size
_TAPT = struct.Struct(">12x2I12x2I12x2I")  # clean, production and encoded size
_PACKET, _SYNC, _NULL, _SERVICES, _TICKS = 188, 0x47, 0x1FFF, 17, 90_000  # of MPEG-TS
_EARLY, _UNEVEN, _AHEAD = _TICKS // 10, _TICKS // 5, 10 * _TICKS  # of its clock, against the times of decoding
_TIMED, _CODECS = ("video", "audio"), ("05", "28", "2A", "38", "6A", "7A", "7F", "81")  # descriptors that name a codec
# CRC-32 of zlib, which begins with the last bit of a byte, of a table with its own behind it.
_FLIPPED, _WHOLE = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256)), 0xFFFFFFFF
_FILLED = (b"G\x1f\xff\x10" + b"\xff" * 184) * 8
_INDEX = re.compile(
    rb"\x06\x0e\x2b\x34\x02\x53\x01\x01\x0d\x01\x02\x01\x01\x10\x01.{1,400}?\x3f\x0d\0\x08(.{8})", re.DOTALL
)
_SEGMENT, _CLUSTER, _SEEK_HEAD, _CUES = "18538067", "1F43B675", "114D9B74", "1C53BB6B"
_VINT = rb"[\x80-\xff]|[\x40-\x7f].|[\x20-\x3f]..|[\x10-\x1f].{3}"
# How parts begin: kind, length, and what they call themselves; the order of bytes in a length, what it counts
# with the content, bytes behind that, and to what it is filled up.
_HEADS: dict[str, tuple[bytes, Literal["big", "little"], str, int, int]] = {
    "mov": (rb"(?P<s>.{4})(?P<k>.{4})", "big", "all", 0, 1),
    "matroska": (
        b"(?P<k>%b)(?P<s>%b|[\x08-\x0f].{4}|[\x04-\x07].{5}|[\2\3].{6}|\1.{7})" % (_VINT, _VINT),
        "big",
        "",
        0,
        1,
    ),
    "png": (rb"(?P<s>.{4})(?P<k>.{4})(?:(?<=iTXt)(?=(?P<own>XML:com.adobe.xmp)\0))?", "big", "", 4, 1),
    "jpeg": (
        rb"(?:[^\xff]|\xff[\0\xd0-\xd7])*+\xff++(?P<k>.)(?P<s>(?<=[\xd8\xd9])|..)"
        rb"(?:(?<=[\xe0-\xef]..)(?=(?P<own>JP|[^\0]{1,40})))?",
        "big",
        "own",
        0,
        1,
    ),
    "webp": (rb"(?P<k>.{4})(?P<s>.{4})", "little", "", 0, 2),
    "bmp": (rb"(?P<k>BM)(?P<s>.{4})", "little", "all", 0, 1),
    "descriptors": (rb"(?P<k>.)(?P<s>.)", "big", "", 0, 1),
    "photoshop": (rb"8BIM(?P<k>..)\0\0(?P<s>.{4})", "big", "", 0, 2),
}
# Tags of EXIF and TIFF that are looked at elsewhere, or describe: sizes, places of samples, texts, orientation.
_EXIF = {
    *range(256, 260),
    262,
    *range(269, 273),
    274,
    282,
    283,
    296,
    305,
    306,
    315,
    316,
    531,
    33432,
    36864,
    37121,
}.union((40960, 40962, 40963), range(40091, 40096))
_TIFF = _EXIF | {*TIFF_READ, 273, 277, 278, 279, 284, 317, *range(322, 326), 530, 700, 33723, 34377, 34675, 52545} - {
    254
}
# Names of XMP that describe: whose work it is, what it shows, how it was made.
_DESCRIPTIONS = tuple(f"{{{uri}}}" for uri in XMP.split())


@cache
def _rules(of: str) -> _Rules:
    levels: list[_Rules] = [{}]
    for line in TABLES[of].split("\n"):
        names, _, form = line.strip().partition(" ")
        depth, inside = len(line) - len(line.lstrip()), dict[str, Any]()
        del levels[depth + 1 :]
        for name, _, kind in (each.replace("~", " ").partition("=") for each in names.removesuffix("*").split("|")):
            pattern = re.compile(form.encode("latin-1"), re.DOTALL)
            levels[depth][kind or name] = name, names.endswith("*"), pattern, inside
        levels.append(inside)
    return levels[0]


def _split(data: _Data, of: str, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """The parts of a stretch: kind, and where the content begins and ends (before it begins: what follows is in it)."""
    head, order, counts, tail, pad = _HEADS[of]
    pattern = re.compile(head, re.DOTALL)
    while at < end and (found := pattern.match(data, at, end)):
        kind, coded, start = found["k"], found["s"], found.end()
        size, stop = int.from_bytes(coded, order), -1
        if of == "matroska":
            size = (size + 1) % (1 << 7 * len(coded)) - 1
        elif size == 1 and of == "mov":
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        stop = (
            (at if counts == "all" else start) + size - len(coded) * (counts == "own") if size or of != "mov" else end
        )
        if not start - (of == "matroska") <= stop <= end or not any(kind):
            break
        name = kind.hex().upper() if len(kind) < 4 or kind[0] < 32 else kind.decode("latin-1")
        own = found.groupdict().get("own")
        yield f"{name}/{own.decode('latin-1')}" if own else name, start, stop
        at = max(start, stop) + tail
        at += (at - start) % pad
        if kind in (b"\xd9", b"IEND"):
            break
    if at < end:
        yield "rest", at, end


def _track(data: _Data, at: int, end: int) -> str:
    """The name of an MP4 track, with what its own handler plays it as."""
    for name in ("mdia", "hdlr"):
        at, end = next((place for kind, *place in _split(data, "mov", at, end) if kind == name), (end, end))
    return f"trak/{data[at + 8 : at + 12].decode('latin-1')}"


def _unknown(data: _Data, of: str, at: int, end: int, place: str = "", inside: _Rules | None = None) -> Iterator[Part]:
    """The parts of a stretch that are not in a table, come twice, or have another form."""
    table = _rules(of)
    rules, seen = {**table["anywhere"][-1], **(table if inside is None else inside)}, set[str]()
    for kind, start, stop in _split(data, of, at, end):
        kind = _track(data, start, stop) if kind == "trak" else kind
        rule = rules.get(kind) or rules.get(kind[:1]) or rules.get("?")
        here = f"{place}/{rule[0] if rule and rule[0] != '?' else kind}"
        if rule and stop < start:
            rules |= rule[3]
            continue
        form = rule and (rule[2].match if rule[3] else rule[2].fullmatch)(data, start, stop)
        if rule is None or (rule[2].pattern and form is None) or (kind in seen and not rule[1]):
            yield here, data[start : min(stop, start + _LONGEST)]
        elif rule[3]:
            yield from _unknown(data, of, form.end() if form else start, stop, here, rule[3])
        seen.add(kind)


def _inside(data: _Data, at: int, end: int, *kinds: str) -> Iterator[tuple[int, int]]:
    """Where the contents of Matroska's elements of a kind lie, by the kinds around them from the outermost on."""
    for kind, start, stop in _split(data, "matroska", at, end):
        if kind == kinds[0]:
            yield from _inside(data, start, stop, *kinds[1:]) if kinds[1:] else ((start, stop),)


def _misleading(data: _Data, end: int) -> Iterator[Part]:
    """An index of Matroska that leads to where no such part lies: who seeks would be shown what is hidden there."""
    for begin, stop in _inside(data, 0, end, _SEGMENT):
        at, there, led, cues = begin, dict[int, tuple[str, int, int]](), list[tuple[int, str]](), list[dict[str, int]]()
        for kind, start, close in _split(data, "matroska", begin, stop):
            there[at - begin] = kind, start, close if close > start else stop
            at = max(start, close)
            for point in _inside(data, start, close, "BB") if kind == _CUES else ():
                time = _numbers(data, *point)
                cues += (time | _numbers(data, *place) for place in _inside(data, *point, "B7"))
            for seek in _inside(data, start, close, "4DBB") if kind == _SEEK_HEAD else ():
                said = _numbers(data, *seek)
                led += [(said["53AC"], f"{said['53AB']:X}")] if {"53AB", "53AC"} <= said.keys() else []
        led += [(cue.get("F1", -1), _CLUSTER) for cue in cues]
        if any(there.get(place, ("",))[0] != kind for place, kind in led) or not all(
            _leads(data, *there[cue["F1"]][1:], cue) for cue in cues
        ):
            yield "Segment/SeekHead, Cues", b""


def _numbers(data: _Data, at: int, end: int) -> dict[str, int]:
    """Elements of Matroska as numbers, by kind."""
    return {kind: int.from_bytes(data[start:stop], "big") for kind, start, stop in _split(data, "matroska", at, end)}


def _leads(data: _Data, at: int, end: int, cue: dict[str, int]) -> bool:
    """Whether a block of the track and the time that a cue names lies in its cluster, and where it says."""
    begin = next((int.from_bytes(data[slice(*place)], "big") for place in _inside(data, at, end, "E7")), 0)
    for kind, start, stop in _split(data, "matroska", at + cue.get("F0", 0), end):
        start = next(_inside(data, start, stop, "A1"), (start, stop))[0] if kind == "A0" else start
        wide = 1 + (data[start : start + 1] < b"\x80")
        track = int.from_bytes(data[start : start + wide], "big") & (1 << 7 * wide) - 1
        time = begin + int.from_bytes(data[start + wide : start + wide + 2], "big", signed=True)
        if kind in ("A0", "A3") and track == cue.get("F7") and abs(time - cue.get("B3", 0)) <= _NEAR:
            return True
        if "F0" in cue or kind == _CLUSTER:
            break
    return False


def film_parts(path: Path, info: MediaInfo, streams: Sequence[PacketHashes] = ()) -> Counter[Part]:
    """The parts of a film and of its streams that are not known; none of a container that rtface does not write."""
    of = next((each for each in ("mov", "matroska", "mpegts", "mxf") if info.format.startswith(each)), "")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = len(data) - (_ID3V1 if data[-_ID3V1:].startswith(b"TAG") else 0)
        if of in _HEADS:
            found = (part for part in _unknown(data, of, 0, end) if not _is_said(*part, info))
            found = chain(found, _misleading(data, end)) if of == "matroska" else found
        else:
            found = _of_transport(data, end, info, streams) if of == "mpegts" else _of_mxf(data, info) if of else ()
        coded = set[Part]().union(*(stream.parts for stream in streams))
        return Counter(coded) + Counter(
            (place, said[-_PLACED:] if place.endswith("/tkhd") else said) for place, said in found
        )


def _is_said(place: str, content: bytes, info: MediaInfo) -> bool:
    """Whether a part says what FFmpeg gives of the film, too."""
    name = place.rpartition("/")[2]
    if name == "tapt" and len(content) == _TAPT.size:
        shown = round(info.width * (info.aspect or 1)), info.height
        said = zip(_TAPT.unpack(content), (*shown, *shown, info.width, info.height), strict=True)
        return all(abs(size / (1 << 16) - number) <= 1 for size, number in said)
    if name in ("fiel", "FlagInterlaced"):  # one says 2 of fields, the other of frames; 0 is nothing
        own = content.lstrip(b"\0") or b"\0" if name == "FlagInterlaced" else content
        return info.codec == "hevc" or own[:1] in (  # whose fields FFmpeg takes for frames
            b"\0",
            b"\1" if (name == "fiel") == (info.display.fields == "progressive") else b"\2",
        )
    if name == "chpl":  # times of 100 ns, and titles behind their lengths
        titles = [chapter.metadata.get("title", "").encode()[:255] for chapter in info.chapters]
        own = re.fullmatch(
            b".{9}" + b"".join(b"(.{8})" + re.escape(bytes([len(each)]) + each) for each in titles), content, re.DOTALL
        )
        starts = [float(chapter.start - info.clock_start) * 1e7 for chapter in info.chapters]
        return own is not None and all(
            abs(int.from_bytes(a, "big") - b) < 5e5 for a, b in zip(own.groups(), starts, strict=True)
        )
    return False


def _of_transport(data: _Data, end: int, info: MediaInfo, coded: Sequence[PacketHashes]) -> Iterator[Part]:
    """What MPEG-TS says but for one programme, all of whose streams are played as they come and by its clock; and how
    it is called."""
    packets = np.frombuffer(data, np.uint8, end // _PACKET * _PACKET).reshape(-1, _PACKET)
    pids = (packets[:, 1].astype(np.int16) & 31) << 8 | packets[:, 2]
    wrong = (packets[:, 0] != _SYNC) & (packets[:, 0] > 0)
    wrong |= (pids != _NULL) & ((packets[:, 1] > 127) | (packets[:, 3] > 63))
    if wrong.any():
        yield "/sync_byte, transport_error_indicator, transport_scrambling_control", np.flatnonzero(wrong).tobytes()
    tables = sorted({*mpegts.sections(packets[pids == 0].tobytes() + _FILLED, {0})})
    places = {mpegts.word(one, at + 2) & _NULL for one in tables for at in range(8, len(one) - 7, 4)}
    tables += sorted({*mpegts.sections(packets[np.isin(pids, [*places])].tobytes() + _FILLED, places)})
    if any(zlib.crc32(one.translate(_FLIPPED)) != _WHOLE for one in tables):
        yield "/PAT, PMT with wrong checksums", b""
    kinds = [(one[0], one[5] & 1) for one in tables]  # of the table, and whether it is in force
    if len(places) != 1 or kinds != [(0, 1), (2, 1)] or mpegts.word(tables[0], 8) != mpegts.word(tables[1], 3):
        yield "/PAT, PMT", b"".join(tables)
        return
    for services in {*mpegts.sections(packets[pids == _SERVICES].tobytes() + _FILLED, {_SERVICES})}:
        if not mpegts.is_plain(services, mpegts.word(tables[0], 8)):
            yield "/SDT", services
    table, streams = tables[1], [*mpegts.streams(tables[1])]
    own, known = {pid for pid, *_ in streams}, {one.id: one for one in coded}
    played = np.isin(pids, [*own])
    if any(np.argmax(pids == pid) > np.argmax(played) for pid in (0, *places)):
        yield "/PAT, PMT behind what they name", b""
    for pid in own:
        steps = np.diff(packets[(pids == pid) & (packets[:, 3] & 16 > 0), 3] & 15) & 15
        if (steps > 1).any() or 2 * (steps == 0).sum() > steps.size:  # a packet may come twice
            yield f"/PID {pid}/continuity_counter", b""
    whole = table[12 : 12 + (mpegts.word(table, 10) & 0xFFF)]
    yield from chain(_of_stream("", b"", whole), _unknown(whole, "descriptors", 0, len(whole), "/PMT"))
    for pid, kind, said in streams:
        yield from _unknown(said, "descriptors", 0, len(said), "/PMT")
        if pid in known and known[pid].kind in (*_TIMED, "subtitle"):
            yield from _of_stream(known[pid].codec, bytes([kind]), said)
    clock = mpegts.word(table, 8) & _NULL
    for pid in {clock} - own | {*np.unique(pids).tolist()} - {0, _SERVICES, _NULL, *places, *own}:
        yield f"/PID {pid}", b""
    yield from _of_clock(packets, pids, clock, own, [pid for pid in own & {*known} if known[pid].kind in _TIMED])


def _of_stream(codec: str, kind: bytes, descriptors: bytes) -> Iterator[Part]:
    """What a table of MPEG-TS names as the codec of a stream, where it is not what muxers write for it."""
    for name, start, stop in _split(descriptors, "descriptors", 0, len(descriptors)):
        if name in _CODECS and descriptors[start - 2 : stop][::2][:2] != b"\x7f\6":  # for whom a sound is
            kind += descriptors[start - 2 : stop]
    if not re.fullmatch(STREAM_TYPES.get(codec, b"(?!)"), kind, re.DOTALL):
        yield f"/PMT/stream_type of {codec or 'the programme'}", kind


def _of_clock(
    packets: NDArray[np.uint8], pids: NDArray[np.int16], clock: int, own: set[int], timed: list[int]
) -> Iterator[Part]:
    """Packets that are scrambled or played as a trick, and a clock (PCR) that is not there, goes at another speed than
    the frames, or is past the time when something is decoded."""
    starts = np.flatnonzero(np.isin(pids, [*own]) & (packets[:, 1] & 64 > 0))
    begin = 4 + np.where(packets[starts, 3] & 32, packets[starts, 4].astype(np.int64) + 1, 0)
    heads = packets[starts[:, None], np.minimum(begin[:, None] + np.arange(19), _PACKET - 1)]
    coded = (heads[:, :3] == (0, 0, 1)).all(1) & ~np.isin(heads[:, 3], (0xBE, 0xBF))  # no section, filling or other
    if (coded & ((heads[:, 6] & 0xF0 != 0x80) | (heads[:, 7] & 8 > 0))).any():
        yield "/PES_scrambling_control, DSM_trick_mode_flag", b""
    coded &= (heads[:, 7] & 128 > 0) & np.isin(pids[starts], timed)
    starts, heads = starts[coded], heads[coded].astype(np.int64)
    a, b, c, d, e = np.where(heads[:, 7, None] & 64, heads[:, 14:], heads[:, 9:14]).T
    times = (a & 14) << 29 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
    ticks = np.flatnonzero((pids == clock) & (packets[:, 3] & 32 > 0) & (packets[:, 4] > 6) & (packets[:, 5] & 16 > 0))
    a, b, c, d, e = packets[ticks, 6:11].astype(np.int64).T
    clocks, mine = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7, pids[starts] == clock
    last, following = np.searchsorted(ticks, starts, "right") - 1, np.searchsorted(starts[mine], ticks)
    reached = following < mine.sum()
    if not reached.any():
        yield "/PCR", b""
        return
    late, steps = _signed(times - clocks[last]), _signed(np.diff(times[mine], prepend=times[mine][:1]))
    ahead, step = _signed(times[mine][following[reached]] - clocks[reached]), steps[following[reached]]
    if (
        late[mine & (last >= 0)].min() < -_EARLY  # of sound FFmpeg writes what is left at the end, whenever it is
        or late[last >= 0].max() > _AHEAD
        or (ahead - step).max() - ahead.min() > _UNEVEN
        or late[mine & (last >= 0)].max() - ahead.min() > _UNEVEN + 3 * steps.max()  # hardly any
    ):
        yield "/PCR", b""


def _signed(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Differences between times of 33 bits."""
    return (times + (1 << 32)) % (1 << 33) - (1 << 32)


def _of_mxf(data: _Data, info: MediaInfo) -> Iterator[Part]:
    """Whether an index ends before the film does."""
    lengths = [found[1] for found in _INDEX.finditer(data)]
    if lengths and sum(int.from_bytes(each, "big") for each in lengths) < round((info.duration_s or 0) * info.rate):
        yield "/IndexTableSegment/IndexDuration", b"".join(lengths)


def still_parts(still: Still) -> Counter[Part]:
    """The parts of a still that are not known."""
    data, meta, image = Path(still.path).read_bytes(), still.meta, still.frame.image
    size, iptc = b"".join((each - 1).to_bytes(3, "little") for each in (image.width, image.height)), meta.iptc or b""
    found = (
        _unknown(data, still.kind, {"png": 8, "webp": 12}.get(still.kind, 0), len(data)) if still.kind in _HEADS else ()
    )
    exif, own = meta.exif or b"", data if still.kind == "tiff" else b""
    return Counter(
        chain(
            (part for part in found if part[0] != "/VP8X" or part[1][4:] != size),
            _of_tags(
                {tag: said for tag, said in read_directory(own).items() if isinstance(said[2], bytes)}, _TIFF, "/TIFF"
            ),
            _of_tags(read_directory(exif), _EXIF, "/EXIF"),
            _of_xmp(meta.xmp or b""),
            _unknown(iptc, "photoshop", 14, len(iptc), "/Photoshop"),
            [("/EXIF/thumbnail", second)] if (second := _second_image(exif)) else (),
            _of_scan(data, still),
        )
    )


def _of_scan(data: bytes, still: Still) -> Iterator[Part]:
    """Fields of DPX and attributes of EXR that nothing else compares, and what lies behind a DPX."""
    if isinstance(still.scan, DpxHeader):
        begin, end = (
            struct.unpack_from(f"{still.scan.order}I", data, 4)[0],
            picture_end(data, len(still.frame.image.format.components)),
        )
        for name, (start, stop, form) in DPX.items():
            if stop <= begin and not re.fullmatch(form, data[start:stop], re.DOTALL):
                yield f"/DPX/{name}", data[start:stop]
        if end < len(data):
            yield "/DPX/rest", data[end : end + _LONGEST]
    elif still.scan:
        for name, (kind, _, value) in still.scan.attributes.items():
            form = EXR.get(name, rb".*" if kind == "string" or name in still.scan.view else rb"(?!)")
            if not re.fullmatch(form, value, re.DOTALL):
                yield f"/EXR/{name}", value


def _second_image(exif: bytes) -> bytes:
    """The directory of EXIF's thumbnail, and what lies behind it."""
    with suppress(struct.error):
        order, at = order_of(exif), struct.unpack_from(order_of(exif) + "I", exif, 4)[0]
        (place,) = struct.unpack_from(order + "I", exif, at + 2 + 12 * struct.unpack_from(order + "H", exif, at)[0])
        return exif[place:] if place else b""
    return b""


def _of_tags(tags: Directory, known: Container[int], place: str) -> Iterator[Part]:
    """Tags of EXIF and TIFF."""
    for tag, (_, _, value) in tags.items():
        if isinstance(value, dict):
            yield from _of_tags(value, known, place)
        elif tag not in known and any(value):
            yield f"{place}/tag {tag}", value


def _of_xmp(packet: bytes) -> Iterator[Part]:
    """Properties of XMP that are no descriptions."""
    try:
        parts = ElementTree.fromstring(packet.strip(b"\0\n\r\t ")).iter() if packet else ()
    except (ElementTree.ParseError, LookupError, ValueError):  # no XML, or of an encoding that is not known
        yield "/XMP", packet
        return
    for name, text in chain.from_iterable([(each.tag, each.text or ""), *each.attrib.items()] for each in parts):
        if not name.startswith(_DESCRIPTIONS):
            yield f"/XMP/{name}", text.strip().encode()


def check_parts(found: Checked, named: str, made: Counter[Part], read: Counter[Part]) -> None:
    """Notes the parts of an output that neither are known nor are the input's.

    Args:
        found: takes what comes out.
        named: stands in front of it.
        made, read: unknown parts of output and input.
    """
    strange = sorted({place.lstrip("/") for place, _ in made - read})
    if strange:
        said = f"{', '.join(strange[:_NAMED])}{f' and {len(strange) - _NAMED} more' if strange[_NAMED:] else ''}"
        found.gaps.append(f"{named}some programs may show it in another way than the input: {said}")
