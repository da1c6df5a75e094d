"""Checks an output against its sidecar: bytes, tags, streams and frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

from av.stream import Disposition

from rtface.errors import InputMissing, Interrupted, MissingComponent, RtfaceError
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import list_images
from rtface.media.formats.filled import container_end
from rtface.media.marks.provenance import xmp
from rtface.trust.checksums import Doing
from rtface.trust.frame_hashes import frame_hashes
from rtface.trust.packet_hashes import cut_short, hash_packets
from rtface.trust.sidecar import layout_of, streams_said, tags_of, to_bytes
from rtface.trust.signing_key import signer_of
from rtface.util.parse import format_time

_SAME_S, _MOVED_S = 0.002, 0.01
_DELAY_S = 0.05  # of an encoder of sound, by which writers move a film and its chapters
_ALIKE = 0.01  # containers round the shape of samples
_SHOWN = 100  # characters of a tag
# Tags that say when and by what a file was written, and how long it is; not what a person or rtface says of it.
_OF_THE_MUXER = (
    "encoder",
    "duration",
    "_statistics_",
    "bps",
    "number_of_",
    "creation_time",
    "handler_name",
    "vendor_id",
    "major_brand",
    "minor_version",
    "compatible_brands",
)
# Formats in which FFmpeg writes no tags that it does not know.
_DROPS_TAGS = ("mp4", "mpegts")
# Flags of a stream by which players choose it.
_PLAYED = int(
    Disposition.default
    | Disposition.forced
    | Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
)

Stop = Callable[[], bool]


@dataclass(slots=True)
class Checked:
    """What was found.

    Attributes:
        problems: one line for everything that is not as it should be.
        proofs: one line for everything that was shown.
        gaps: one line for everything that should have been compared and could not be, and why.
        notes: one line for everything else that cannot be shown, and why.
    """

    problems: list[str] = field(default_factory=list[str])
    proofs: list[str] = field(default_factory=list[str])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def check_sidecar(
    output: Path,
    values: dict[str, Any],
    *,
    doing: Doing | None = None,
    stop: Stop | None = None,
) -> Checked:
    """Whether an output is the one that its sidecar describes, and else what differs: tags, streams, frames.

    Args:
        output: film, still or folder of stills.
        values: of `rtface.trust.sidecar.read_sidecar`.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.
    """
    found, said = Checked(), values["output"]
    if "files" in said:
        _check_files(found, output, said["files"], doing, stop)
        return found
    if output.is_dir():
        found.problems.append(f"is a folder, and the sidecar is that of the file {said['name']}")
        return found
    tick = share_of_bytes(output.stat().st_size, doing)
    if sha256_of(output, tick=tick, stop=stop) == said.get("sha256"):
        found.proofs.append(f"all {output.stat().st_size} bytes are as the run left them (SHA-256)")
        return found
    bytes_differ = "its bytes are not those that the sidecar names (SHA-256)"
    found.problems.append(bytes_differ)
    if "streams" not in values:
        return found
    try:
        layout = layout_of(output)
        _check_tags(found, output, values["tags"], layout)
        alike = _check_streams(found, output, values, doing, stop)
        _check_layout(found, layout, values)
        # Damage of the container itself keeps its size, or leaves something that is no part of it.
        rewritten = said.get("bytes") != output.stat().st_size == container_end(output)
    except Interrupted:
        raise
    except RtfaceError as error:
        found.problems.append(f"it cannot be read to its end ({error})")
        return found
    if not alike:
        found.problems.append(f"nothing in it is as in the sidecar, which is that of another file ({said['name']})")
    elif found.problems == [bytes_differ] and "layout" in values and rewritten:
        found.problems.clear()
        found.proofs.append(
            f"only the container was written again: {'' if found.gaps else 'tags, '}chapters, streams and their times "
            "are as the run wrote them"
        )
    return found


def check_signature(checked: Checked, values: dict[str, Any], anchors: str | None, *, signed_inside: bool) -> None:
    """Whether a signed sidecar is as it was signed, and by whom `anchors` vouch for.

    Args:
        checked: takes what is found.
        values: of the sidecar.
        anchors: certificates (PEM) that are trusted; None where none were named.
        signed_inside: whether the output holds credentials itself.
    """
    if "signature" not in values:
        if not signed_inside and (anchors is not None or values.get("options", {}).get("credentials")):
            checked.problems.append("the sidecar has no signature: it never had one, or it was cut out")
        return
    try:
        finished = datetime.strptime(str(values.get("finished")), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        finished = None
    try:
        signer = signer_of(
            values["signature"], to_bytes({k: v for k, v in values.items() if k != "signature"}), finished, anchors
        )
    except MissingComponent as error:
        checked.notes.append(f"the sidecar's signature is not checked: {error}")
        return
    if signer is None:
        checked.problems.append("the sidecar was changed after it was signed")
    elif not signer.valid_then:
        checked.problems.append(
            f"the certificate of {signer.name} was not valid at the time at which the sidecar says that it was signed"
        )
    elif anchors is not None and not signer.trusted:
        checked.problems.append(f"the sidecar is signed by {signer.name}, for whom no certificate of --trust vouches")
    else:
        unknown = "" if signer.trusted else "; whether that name is true is not checked"
        checked.proofs.append(f"the sidecar is as {signer.name} signed it{unknown}")


def _check_files(
    found: Checked, folder: Path, files: list[dict[str, str]], doing: Doing | None, stop: Stop | None
) -> None:
    same = 0
    there = [folder / file["name"] for file in files if (folder / file["name"]).is_file()]
    tick = share_of_bytes(sum(path.stat().st_size for path in there), doing)
    for file in files:
        try:
            if sha256_of(folder / file["name"], tick=tick, stop=stop) == file["sha256"]:
                same += 1
            else:
                found.problems.append(f"{file['name']}: its bytes are not those that the sidecar names (SHA-256)")
        except InputMissing:
            found.problems.append(f"{file['name']}: is missing")
    if same == len(files):
        found.proofs.append(f"all {same} files are as the run left them (SHA-256)")
    names = {file["name"] for file in files}
    found.problems += [
        f"{path.name}: was added, the sidecar does not name it"
        for path in list_images(folder)
        if path.name not in names
    ]


def _check_tags(found: Checked, film: Path, said: dict[str, str], layout: dict[str, Any]) -> None:
    """Notes the tags that differ, and those that were lost with the container. A language "und", as MP4 has it, is
    none, nor is one of a stream that is not there; an XMP packet is as good as there where the tags say all that was in
    it."""
    own, now = tags_of(film)
    form, count = layout["format"], len(layout["played"]) + len(layout["attachments"])
    was, now = (
        {
            name: text
            for key, text in tags.items()
            if not any(of in (name := key.lower()) for of in _OF_THE_MUXER)
            and not (name.endswith(":language") and text == "und")
            and not ((number := key.partition(":")[0]).isdecimal() and int(number) >= count)
        }
        for tags in (said, now)
    )
    if "xmp" in was and "xmp" not in now and was["xmp"].encode() == xmp(own):
        found.notes.append("its XMP packet is not in it any more; the tags say the same")
        del was["xmp"]
    lost = [key for key in was if key not in now and (key == "xmp" or any(of in form for of in _DROPS_TAGS))]
    if lost:
        found.gaps.append(
            f"it has lost {'a tag' if len(lost) == 1 else 'tags'} that the run wrote ({', '.join(sorted(lost))}), as "
            "where a tool leaves out what it does not know; the sidecar has what they said"
        )
    for key in sorted((was.keys() | now.keys()) - set(lost)):
        if was.get(key) != now.get(key):
            found.problems.append(
                f"the tag {key} is {_short(now, key, 'missing')}, and was {_short(was, key, 'not there')}"
            )


def _short(tags: dict[str, str], key: str, absent: str) -> str:
    text = tags.get(key)
    return absent if text is None else repr(text if len(text) <= _SHOWN else text[:_SHOWN] + " …")


def _check_streams(found: Checked, film: Path, values: dict[str, Any], doing: Doing | None, stop: Stop | None) -> bool:
    """Notes the streams and frames that differ; whether any is the same."""
    # Chapters that lie in a text track of MP4 are a stream without packets.
    streams = [one for one in hash_packets(film, stop=stop) if one.rows or one.kind != "data"]
    said = [one for one in values["streams"] if one["packets"] or one["kind"] != "data"]
    alike = False
    found.problems += cut_short(streams)
    for number, (was, now) in enumerate(zip_longest(said, streams)):
        if was is None:
            found.problems.append(f"stream {number} ({now.kind if now else ''}) was added")
        elif now is None:
            found.problems.append(f"stream {number} ({was['kind']}) is missing")
        elif number and was["md5"] != now.md5:
            found.problems.append(
                f"stream {number} ({was['kind']}): its packets are not those that the run wrote "
                f"({len(now.rows)} of {now.codec}, and {was['packets']} of {was['codec']} then)"
            )
        else:
            alike = alike or was["md5"] == now.md5
    for number, (was, now) in enumerate(zip(said, streams_said(streams), strict=False)):
        late = next(
            (b - a for a, b in zip(was.get("times", ()), now["times"], strict=False) if abs(a - b) > _MOVED_S), 0
        )
        if late and was["md5"] == now["md5"]:
            found.problems.append(
                f"stream {number} ({was['kind']}): its packets come {abs(late):.3f} s "
                f"{'later' if late > 0 else 'earlier'} than the run wrote them"
            )
        elif was["md5"] == now["md5"] and _moved(was.get("shown", []), now.get("shown", [])):
            found.problems.append(
                f"stream {number} ({was['kind']}): its texts are shown at other times, or for longer "
                "or shorter, than the run wrote them"
            )
        if was["md5"] == now["md5"] and was.get("setup") and now["setup"] and was["setup"] != now["setup"]:
            found.problems.append(
                f"stream {number} ({was['kind']}): its codec parameters differ (sample rate, channels or header)"
            )
    if not streams:
        return alike
    frames = values["frames"]
    if frames["of"] == "frames":
        base, rows = frame_hashes(film, tick=(lambda done: doing("frames", done)) if doing else None, stop=stop)
    else:
        base, rows = streams[0].base, sorted(streams[0].rows)
    before = len(found.problems)
    _check_rows(found, frames["rows"], Fraction(frames["time_base"]), rows, base)
    if len(found.problems) == before:
        found.proofs.append(f"all {len(rows)} {frames['of']} of its picture are as the run wrote them (MD5)")
    return alike or bool({md5 for _, md5 in rows} & {md5 for _, md5 in frames["rows"]})


def _moved(was: list[list[float]], now: list[list[float]]) -> bool:
    """Whether texts are shown at other times; containers without durations say nothing of them."""
    return bool(was and now) and any(
        abs(a - b) > _MOVED_S for one, other in zip(was, now, strict=False) for a, b in zip(one, other, strict=False)
    )


def _same_chapters(was: list[list[Any]], now: list[list[Any]]) -> bool:
    """Whether chapters are the same, but for the delay of a film and the end of the last, which is the film's."""
    titles, times = zip(
        *(([one[2] for one in said], [t for one in said for t in one[:2]][:-1]) for said in (was, now)), strict=True
    )
    moves = [b - a for a, b in zip(*times, strict=False)] or [0.0]
    return titles[0] == titles[1] and max(map(abs, moves)) <= _DELAY_S and max(moves) - min(moves) <= _SAME_S


def _check_layout(found: Checked, now: dict[str, Any], values: dict[str, Any]) -> None:
    """Notes what the container says of the picture and of chapters, where that differs."""
    was = values.get("layout", {})
    if "aspect" in was and abs(Fraction(was["aspect"]) / Fraction(now["aspect"]) - 1) < _ALIKE:
        was = was | {"aspect": now["aspect"]}
    if _same_chapters(was.get("chapters", []), now["chapters"]):
        was = was | {"chapters": now["chapters"]}
    for key, what in (
        ("aspect", "the shape of its samples differs"),
        ("matrix", "the rotation of its picture differs"),
        ("crop", "what it hides at the borders differs"),
        ("color", "what it says of its colours differs"),
        ("views", "how players show it differs"),
        ("hdr", "its HDR metadata differ"),
        ("chapters", "its chapters differ"),
        ("attachments", "its attachments differ"),
    ):
        if key in was and was[key] != now[key]:
            found.problems.append(f"{what}: {now[key]}, and was {was[key]}")
    found.problems += [
        f"its header differs: {line}" for line in now["unseen"] if line not in was.get("unseen", now["unseen"])
    ]
    if "played" in was:
        formats = now["format"], was.get("format", "")
        flags = [
            played([one for one in said["played"] if one[0] != "data" or one[1]], formats, before=said is was)
            for said in (now, was)
        ]
        if flags[0] != flags[1]:
            found.problems.append(
                f"how players choose its streams differs: {flags[0]}, and was {flags[1]} (flags of FFmpeg)"
            )


def played(streams: Sequence[tuple[str, int]], formats: tuple[str, str], *, before: bool) -> list[int]:
    """When streams are played, as far as two containers can both say it: FFmpeg's flags of each.

    Writers of MP4 and MOV enable the first stream of a kind where none is the default one; MPEG-TS and MXF have no such
    flag.

    Args:
        streams: kind and disposition of each.
        formats: FFmpeg's names of the containers, first that of the output.
        before: whether these are the streams that the output was written from.
    """
    flags = [disposition & _PLAYED for _, disposition in streams]
    mov = formats[0].startswith("mov")
    for kind in ("video", "audio", "subtitle") if mov else ("video", "audio") if formats[0] != formats[1] else ():
        own = [
            k
            for k, (of, disposition) in enumerate(streams)
            if of == kind and not disposition & Disposition.attached_pic
        ]
        usual = own[0] if own and (before or not mov) else None
        first = next((k for k in own if flags[k] & Disposition.default), usual)
        for k in own:
            flags[k] = flags[k] & ~int(Disposition.default) | int(k == first)
    return flags


def _check_rows(
    found: Checked,
    was: Sequence[tuple[int, str]],
    was_base: Fraction,
    now: Sequence[tuple[int, str]],
    now_base: Fraction,
) -> None:
    old, new = [md5 for _, md5 in was], [md5 for _, md5 in now]
    first = next((k for k, (a, b) in enumerate(zip_longest(old, new)) if a != b), None)
    if first is None:
        start = (was[0][0] * was_base, now[0][0] * now_base) if was else (Fraction(0), Fraction(0))
        for number, (a, b) in enumerate(zip(was, now, strict=True)):
            if abs((a[0] * was_base - start[0]) - (b[0] * now_base - start[1])) > _SAME_S:
                found.problems.append(f"frame {number} has another time than the run gave it")
                return
        return
    place = was[min(first, len(was) - 1)][0] * was_base if was else Fraction(0)
    named = f"frame {first} ({format_time(float(place))})"
    if new == old[:first] + old[first + 1 :]:
        found.problems.append(f"{named} is missing")
    elif old == new[:first] + new[first + 1 :]:
        found.problems.append(f"{named} was put in" + (", a copy of another" if new[first] in old else ""))
    elif Counter(old) == Counter(new):
        found.problems.append(f"frames were put in another order, from {named} on")
    else:
        count = sum(a != b for a, b in zip_longest(old, new))
        found.problems.append(
            f"{named} differs"
            + (f", the first of {count}" if count > 1 else "")
            + (f"; there are {len(new)} frames, and were {len(old)}" if len(old) != len(new) else "")
        )
