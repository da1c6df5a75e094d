"""Names the parts of a file by which a program may show it in another way, and which nothing else compares: what is not
in the tables of parts that say nothing more (`rtface.trust.part_tables`)."""

from __future__ import annotations

import mmap
import re
import struct
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from rtface.media.formats import mpegts
from rtface.media.formats.image_view import TIFF_READ
from rtface.media.formats.matroska import head
from rtface.media.formats.tiff_tags import Directory, order_of, read_directory
from rtface.media.read.probe import MediaInfo
from rtface.media.stills.image_read import Still
from rtface.trust import part_tables
from rtface.trust.check_sidecar import Checked

Part: TypeAlias = "tuple[str, bytes]"
"""Where a part lies, by the names around it, and its content (of a long one the beginning)."""
_Data: TypeAlias = "bytes | mmap.mmap"
_Split: TypeAlias = "Callable[[_Data, int, int], Iterator[tuple[str, int, int]]]"
"""The parts of a stretch: name, and where its content begins and ends (before it begins: all that follows)."""

_LONGEST = 1 << 16  # bytes of a content that are compared
_ID3V1 = 128
_NAMED = 5  # parts that are named
_PLACED = 44  # bytes at the end of a track's header: matrix and size
_TAPT = struct.Struct(">12x2I12x2I12x2I")  # clean, production and encoded size
_MOVED_S = 0.05
_PACKET, _SYNC, _NULL, _SERVICES, _TICKS = 188, 0x47, 0x1FFF, 17, 90_000  # of MPEG-TS
_FILLED = (b"G\x1f\xff\x10" + b"\xff" * 184) * 8
# Tags of EXIF and TIFF that are looked at elsewhere, or describe: sizes, places of samples, texts, orientation.
_SHAPE = {
    *range(256, 260),
    262,
    269,
    270,
    271,
    272,
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
    40960,
    40962,
    40963,
}
_EXIF = _SHAPE | {36864, 37121, *range(40091, 40096)}
_TIFF = _SHAPE | {*TIFF_READ, 273, 277, 278, 279, 284, 317, *range(322, 326), 530, 700, 33723, 34377, 34675, 52545} - {
    254
}
_UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes of a number by its type
_SAMPLES_AT = (513, 273)
_INDEX = re.compile(
    rb"\x06\x0e\x2b\x34\x02\x53\x01\x01\x0d\x01\x02\x01\x01\x10\x01.{1,400}?\x3f\x0d\0\x08(.{8})", re.DOTALL
)
# Names of XMP that describe: whose work it is, what it shows, how it was made.
_DESCRIPTIONS = tuple(
    f"{{{uri}}}"
    for uri in (
        "adobe:ns:meta/",
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "http://www.w3.org/XML/1998/namespace",
        "http://purl.org/dc/elements/1.1/",
        "http://ns.adobe.com/xap/1.0/",
        "http://ns.adobe.com/xap/1.0/rights/",
        "http://ns.adobe.com/photoshop/1.0/",
        "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    )
)


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    repeats: bool
    form: re.Pattern[bytes]
    inside: dict[str, _Rule]


@cache
def _rules(table: str) -> dict[str, _Rule]:
    levels = [dict[str, _Rule]()]
    for line in filter(None, table.splitlines()):
        names, _, form = line.strip().partition(" ")
        depth, inside = len(line) - len(line.lstrip()), dict[str, _Rule]()
        del levels[depth + 1 :]
        for each in names.removesuffix("*").split("|"):
            name, _, kind = each.replace("\\x20", " ").partition("=")
            pattern = re.compile(form.encode("latin-1"), re.DOTALL)
            levels[depth][kind or name] = _Rule(name, names.endswith("*"), pattern, inside)
        levels.append(inside)
    return levels[0]


def _unknown(
    data: _Data, at: int, end: int, split: _Split, table: str, place: str = "", inside: dict[str, _Rule] | None = None
) -> Iterator[Part]:
    """The parts of a stretch that are not in a table, come twice, or have another form."""
    anywhere = _rules(table).get("anywhere")
    rules = {**(anywhere.inside if anywhere else {}), **(inside or _rules(table))}
    seen = set[str]()
    for kind, start, stop in split(data, at, end):
        rule = rules.get(kind) or rules.get("?")
        here = f"{place}/{rule.name if rule and rule.name != '?' else kind}"
        if stop < start and rule:  # an open one
            rules |= rule.inside
            continue
        form = rule and (rule.form.match if rule.inside else rule.form.fullmatch)(data, start, stop)
        if rule is None or (rule.form.pattern and not form) or (kind in seen and not rule.repeats):
            yield here, data[start : min(stop, start + _LONGEST)]
        elif rule.inside:
            yield from _unknown(data, form.end() if form else start, stop, split, table, here, rule.inside)
        seen.add(kind)


def _boxes(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Boxes of an MP4 or MOV; a track has the name of its handler, and texts of tags the first letter of theirs."""
    while at < end:
        size, kind = struct.unpack_from(">I4s", data[at : at + 16].ljust(16, b"\0"))
        start = at + (16 if size == 1 else 8)
        stop = at + int.from_bytes(data[at + 8 : start], "big") if size == 1 else at + size if size else end
        if not start <= stop <= end or not any(kind):
            yield "rest", at, end
            return
        name = "©" if kind[:1] == b"\xa9" else kind.decode("latin-1")
        if name == "trak":
            handler = re.compile(rb"hdlr.{8}(\w{4})", re.DOTALL).search(data, start, stop)
            name = f"trak/{handler[1].decode() if handler else ''}"
        yield name, start, stop
        at = stop


def _elements(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Elements of a Matroska film by their ids."""
    while at < end:
        kind, body, size = head(data[at : at + 12], 0) or (0, 0, -1)
        if not kind or at + body + size > end:
            yield "rest", at, end
            return
        yield f"{kind:X}", at + body, at + body + size
        at += body + max(0, size)


def _chunks(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Chunks of a PNG."""
    while at < end:
        size, kind = struct.unpack_from(">I4s", data[at : at + 8].ljust(8, b"\0"))
        start, last = at + 8, at + 12 + size
        if last > end or at > len(data) or data[at - 8 : at - 4] == b"IEND":
            yield "rest", at, end
            return
        xmp = data[start : start + 17] == b"XML:com.adobe.xmp"
        yield "XMP" if xmp else kind.decode("latin-1"), start + 17 * xmp, last - 4
        at = last


def _riff(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Chunks of a WebP."""
    last = min(end, 8 + int.from_bytes(data[4:8], "little"))
    at = 12
    while at + 8 <= last:
        size, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4].decode("latin-1")
        yield kind, at + 8, min(at + 8 + size, last)
        at += 8 + size + size % 2
    if last < end:
        yield "rest", last, end


def _segments(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Segments of a JPEG, with what they call themselves; samples belong to the one in front of them."""
    marker, scan = re.compile(rb"\xff+([^\xff])", re.DOTALL), re.compile(rb"\xff+[^\0\xff\xd0-\xd7]")
    while at < end:
        found = marker.match(data, at)
        if not found:
            yield "rest", at, end
            return
        name, start = found[1].hex().upper(), found.end()
        size = 0 if name in ("D8", "D9") else int.from_bytes(data[start : start + 2], "big")
        at = start + size
        if name == "DA":
            at = after.start() if (after := scan.search(data, at)) else end
        own = data[start + 2 : start + 40].split(b"\0")[0].decode("latin-1").replace(" ", "_")
        yield name + (f"/{own}" if "E0" <= name <= "EF" else ""), start, at
        if name == "D9" and at < end:
            yield "rest", at, end
            return


def film_parts(path: Path, info: MediaInfo) -> Counter[Part]:
    """The parts of a film that are not known; none of a container that rtface does not write."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data) - (_ID3V1 if data[-_ID3V1:].startswith(b"TAG") else 0)
        if info.format.startswith("mpegts"):
            return Counter(_of_transport(data, end))
        if info.format.startswith("mxf"):
            return Counter(_of_mxf(data, info))
        split, table = (_boxes, part_tables.MP4) if info.format.startswith("mov") else (_elements, part_tables.MATROSKA)
        known = info.format.startswith(("mov", "matroska"))
        found = _unknown(data, 0, end, split, table) if known else ()
        return Counter(_own(part) for part in found if not _is_said(*part, info))


def _own(part: Part) -> Part:
    """The part without what each file says in its own way."""
    place, content = part
    return place, content[-_PLACED:] if place.endswith("/tkhd") else content


def _is_said(place: str, content: bytes, info: MediaInfo) -> bool:
    """Whether a part says what FFmpeg gives of the film, too."""
    name = place.rpartition("/")[2]
    if name == "tapt" and len(content) == _TAPT.size:
        sizes, shown = _TAPT.unpack(content), (round(info.width * (info.aspect or 1)), info.height)
        said = zip(sizes, (*shown, *shown, info.width, info.height), strict=True)
        return all(abs(size / (1 << 16) - number) <= 1 for size, number in said)
    if name == "chpl":
        chapters = [(float(c.start - info.clock_start), c.metadata.get("title", "").encode()) for c in info.chapters]
        own = [*_chapters(content)]
        return len(own) == len(chapters) and all(
            abs(a - b) < _MOVED_S and title == other[:255] for (a, title), (b, other) in zip(own, chapters, strict=True)
        )
    sounds: list[Any] = [one.template.codec_context for one in info.streams if one.kind == "audio"]
    if name == "Channels":
        return int.from_bytes(content, "big") in {sound.channels for sound in sounds}
    rate = struct.unpack(">f" if len(content) == 4 else ">d", content)[0] if len(content) in (4, 8) else 0
    rates = {sound.sample_rate / halves for sound in sounds for halves in ((1, 2) if sound.name == "aac" else (1,))}
    return name.endswith("Frequency") and rate in rates


def _chapters(body: bytes) -> Iterator[tuple[float, bytes]]:
    """Begin and title of each chapter in Nero's list."""
    at = 9
    while at + 9 <= len(body):
        start, length = struct.unpack_from(">QB", body, at)
        yield start / 10_000_000, body[at + 9 : at + 9 + length]
        at += 9 + length


def _of_transport(data: _Data, end: int) -> Iterator[Part]:
    """What packets and tables of MPEG-TS say beside one programme, all of whose streams are played by its clock."""
    packets = np.frombuffer(data, np.uint8, end // _PACKET * _PACKET).reshape(-1, _PACKET)
    pids = (packets[:, 1].astype(np.int16) & 31) << 8 | packets[:, 2]
    used = pids != _NULL
    for name, where in (
        ("sync_byte", (packets[:, 0] != _SYNC) & (packets[:, 0] > 0)),
        ("transport_error_indicator", used & (packets[:, 1] > 127)),
        ("transport_scrambling_control", used & (packets[:, 3] > 63)),
    ):
        if where.any():
            yield f"/packet/{name}", np.flatnonzero(where).tobytes()

    def tables(pid: int) -> list[bytes]:
        return sorted(set(mpegts.sections(packets[pids == pid].tobytes() + _FILLED, {pid})))

    places = [mpegts.word(one, at + 2) & _NULL for one in tables(0) for at in range(8, len(one) - 7, 4)]
    own = set[int]()
    for table in (*tables(0)[1:], *(table for place in places[1:] for table in tables(place))):
        yield "/PAT or PMT", table
    for table in tables(places[0]) if places else ():
        own |= {*mpegts.streams(table)}
        at = 10
        while at + 2 <= len(table) - 4:
            stop = at + 2 + (mpegts.word(table, at) & 0xFFF)
            yield from _unknown(table, at + 2, stop, _descriptors, part_tables.PMT, "/PMT")
            at = stop + 3
        if mpegts.word(table, 8) & _NULL not in own:
            yield "/PMT/PCR_PID", table[8:10]
    yield from ((f"/PID {pid}", b"") for pid in {*pids.tolist()} - {0, _SERVICES, _NULL, *places, *own})
    yield from _of_clock(packets, np.isin(pids, [*own]))


def _of_clock(packets: NDArray[np.uint8], streams: NDArray[np.bool_]) -> Iterator[Part]:
    """Whether all is to be played as it comes, and its times fit the clock."""
    more = packets[:, 3] & 32 > 0
    clocks = np.flatnonzero(more & (packets[:, 4] > 6) & (packets[:, 5] & 16 > 0))
    ticks = packets[clocks, 6:11].astype(np.int64) @ (1 << 25, 1 << 17, 1 << 9, 2, 0) + (packets[clocks, 10] >> 7)
    begins = np.flatnonzero(streams & (packets[:, 1] & 64 > 0))
    places = 4 + np.where(more, 1 + packets[:, 4].astype(np.int64), 0)[begins, None] + np.arange(14)
    heads = np.take_along_axis(packets[begins], places.clip(0, _PACKET - 1), 1).astype(np.int64)
    if (heads[:, 6] & 48 | heads[:, 7] & 8).any():
        yield "/PES/PES_scrambling_control, DSM_trick_mode_flag", b""
    heads, before = heads[timed := heads[:, 7] & 128 > 0], np.searchsorted(clocks, begins[timed], "right") - 1
    times = (
        (heads[:, 9] & 14) << 29 | heads[:, 10] << 22 | heads[:, 11] >> 1 << 15 | heads[:, 12] << 7 | heads[:, 13] >> 1
    )
    if not ticks.size or ((times - ticks[before] + _TICKS) % (1 << 33) > 11 * _TICKS).any():
        yield "/PCR", b""


def _of_mxf(data: _Data, info: MediaInfo) -> Iterator[Part]:
    """Whether an index ends before the film does."""
    lengths = [found[1] for found in _INDEX.finditer(data)]
    if lengths and sum(int.from_bytes(each, "big") for each in lengths) < round((info.duration_s or 0) * info.rate):
        yield "/IndexTableSegment/IndexDuration", b"".join(lengths)


def _descriptors(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Descriptors of a table of MPEG-TS."""
    while at + 2 <= min(end, len(data)):
        yield f"descriptor/{data[at]}", at + 2, at + 2 + data[at + 1]
        at += 2 + data[at + 1]


def still_parts(still: Still) -> Counter[Part]:
    """The parts of a still that are not known."""
    data, meta = Path(still.path).read_bytes(), still.meta
    size = (still.frame.image.width - 1).to_bytes(3, "little") + (still.frame.image.height - 1).to_bytes(3, "little")
    split, table, at = _STILLS.get(still.kind, (_ends, "", 0))
    found = _unknown(data, at, len(data), split, table)
    return Counter(
        chain(
            (part for part in found if part[0] != "/VP8X" or part[1][4:] != size),
            _of_tags(read_directory(data), data, _TIFF, "/TIFF") if still.kind == "tiff" else (),
            _of_exif(meta.exif or b""),
            _of_xmp(meta.xmp or b""),
            _unknown(meta.iptc or b"", 14, len(meta.iptc or b""), _resources, part_tables.PHOTOSHOP, "/Photoshop"),
        )
    )


def _ends(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """What lies behind the end that a BMP or DPX names."""
    form, place = {b"BM": ("<I", 2), b"SD": (">I", 16), b"XP": ("<I", 16)}.get(bytes(data[:2]), ("<I", end))
    said = struct.unpack_from(form, data, place)[0] if place + 4 <= end else end
    if at < said < end:
        yield "rest", said, end


def _resources(data: _Data, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Photoshop's resources."""
    while data[at : at + 4] == b"8BIM":
        start = at + 12 + (data[at + 6] // 2) * 2
        stop = start + int.from_bytes(data[start - 4 : start], "big")
        yield f"resource/{int.from_bytes(data[at + 4 : at + 6], 'big')}", start, stop
        at = stop + stop % 2
    if at < end:
        yield "rest", at, end


def _of_exif(exif: bytes) -> Iterator[Part]:
    """Tags of EXIF, and of the second image in it with its samples."""
    yield from _of_tags(read_directory(exif), exif, _EXIF, "/EXIF")
    with suppress(struct.error):
        order, at = order_of(exif), struct.unpack_from(order_of(exif) + "I", exif, 4)[0]
        (place,) = struct.unpack_from(order + "I", exif, at + 2 + 12 * struct.unpack_from(order + "H", exif, at)[0])
        second = read_directory(exif, place) if place else {}
        yield from _of_tags(second, exif, (), "/EXIF/thumbnail")
        for _, _, start in (second[tag] for tag in _SAMPLES_AT if tag in second):
            yield "/EXIF/thumbnail", exif[int.from_bytes(bytes(start), "big" if order == ">" else "little") :]


def _of_tags(tags: Directory, data: bytes, known: Container[int], place: str) -> Iterator[Part]:
    for tag, (kind, _, value) in tags.items():
        if isinstance(value, dict):
            yield from _of_tags(value, data, known, place)
        elif tag not in known and any(value):
            units = f"{order_of(data)}u{_UNITS.get(kind, 1)}"
            numbers = np.frombuffer(value, units).astype(f"<{units[1:]}").tobytes()
            yield f"{place}/tag {tag}", numbers


def _of_xmp(packet: bytes) -> Iterator[Part]:
    """Properties of XMP that are no descriptions."""
    try:
        root = ElementTree.fromstring(packet.strip(b"\0\n\r\t ")) if packet else None
    except ElementTree.ParseError:
        yield "/XMP", packet
        return
    for each in root.iter() if root is not None else ():
        for name, text in ((each.tag, each.text or ""), *each.attrib.items()):
            if not name.startswith(_DESCRIPTIONS):
                yield f"/XMP/{name}", text.strip().encode()


_STILLS: dict[str, tuple[_Split, str, int]] = {
    "png": (_chunks, part_tables.PNG, 8),
    "jpeg": (_segments, part_tables.JPEG, 0),
    "webp": (_riff, part_tables.WEBP, 12),
}


def check_parts(found: Checked, named: str, made: Counter[Part], read: Counter[Part]) -> None:
    """Notes the parts of an output that neither are known nor are the input's.

    Args:
        found: takes what comes out.
        named: stands in front of it.
        made, read: unknown parts of output and input.
    """
    strange = sorted({place.lstrip("/") for place, _ in made - read})
    if strange:
        more = f" and {len(strange) - _NAMED} more" if strange[_NAMED:] else ""
        found.gaps.append(
            f"{named}some programs may show it in another way than the input: {', '.join(strange[:_NAMED])}{more}"
        )
