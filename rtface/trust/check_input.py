"""Checks an output against the input that it was made of: everything outside the corrected faces is the input's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from av.stream import Disposition

from rtface.errors import InputError, InputMissing, Interrupted, UsageError
from rtface.frame import Frame
from rtface.media.files.file_hashes import sha256_of, share_of_bytes
from rtface.media.files.image_names import is_image, list_images
from rtface.media.formats.color import all_side_data, hdr_of, tags_of, views_of
from rtface.media.formats.filled import container_end
from rtface.media.read.enlarge import Enlarger
from rtface.media.read.probe import MediaInfo
from rtface.media.read.source import FileSource
from rtface.media.stills.image_read import Still, read_image
from rtface.stats import Stats
from rtface.trust.check_copied import check_copied
from rtface.trust.check_layout import check_layout, check_streams
from rtface.trust.check_packets import check_packets
from rtface.trust.check_sidecar import Checked, Stop
from rtface.trust.checksums import Doing
from rtface.trust.frame_comparison import FrameComparison
from rtface.trust.known_parts import check_parts, film_parts, still_parts
from rtface.trust.packet_hashes import hash_packets
from rtface.util.parse import format_time
from rtface.util.text import counted

_SAME_S = 0.004
_SHOWN_OVER = ("A53_CC", "FILM_GRAIN_PARAMS", "PANSCAN", "DYNAMIC_HDR_PLUS", "DOVI_RPU_BUFFER")
# Containers that rtface writes, of which it is known where players stop.
_WRITTEN = ("mov", "matroska", "mpegts", "mxf")


def check_input(
    output: Path, input: Path, values: dict[str, Any] | None, *, doing: Doing | None = None, stop: Stop | None = None
) -> Checked:
    """Whether everything outside the corrected faces is the input's.

    Of a lossless output every sample is compared. Of a lossy one the difference to the input is measured on frames
    without a correction, and outside of corrections on the others; packets of streams that were copied are compared.

    Args:
        output, input: films, stills or folders of stills.
        values: of the output's sidecar, which says where corrections are; None where there is none.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.

    Raises:
        InputMissing, InputError: one of them cannot be read.
    """
    if not input.is_file() and not input.is_dir():  # a pipe would be waited for
        raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=input)
    found = Checked()
    said = values["input"] if values else {}
    if "sha256" in said and input.is_file():
        tick = share_of_bytes(input.stat().st_size, doing)
        if sha256_of(input, tick=tick, stop=stop) == said["sha256"]:
            found.proofs.append(f"{input.name} is the file that the run read (SHA-256)")
        else:
            found.problems.append(f"{input.name} is not the file that the run read (SHA-256; that was {said['name']})")
    changed = {
        number: None if boxes is None else [tuple(box) for box in boxes]
        for number, boxes in (values["changed"] if values else ())
    }
    lossless = bool(values["output"]["lossless"]) if values else True
    curves, scale = (values or {}).get("fading", {}), _scale_of(values)
    compared = FrameComparison(found, changed, lossless=lossless, known=values is not None, curves=curves)
    if curves:
        found.notes.append(
            "every sample of the frame was changed by a curve against fading, which its sidecar names; the input is "
            "compared as that curve makes it"
        )
    if scale is not None:
        found.notes.append(f"the input is compared as it is enlarged by the resampler (--scale {scale})")
    stills = "streams" not in values if values is not None else is_image(output) and is_image(input)
    try:
        if output.is_dir() or stills:
            _compare_stills(compared, output, input, scale, stop)
        else:
            _compare_films(compared, output, input, values or {}, doing, stop)
    except UsageError as error:
        if not error.code.startswith("scale_"):
            raise
        found.problems.append(f"its sidecar names a size that {input.name} cannot have ({error})")
    compared.end()
    return found


def _scale_of(values: dict[str, Any] | None) -> str | None:
    """What the run enlarged the input to, as its sidecar says."""
    return (values or {}).get("options", {}).get("scale")


def _compare_stills(compared: FrameComparison, output: Path, input: Path, scale: str | None, stop: Stop | None) -> None:
    enlarger = Enlarger(scale)
    if not output.is_dir():
        names = [(output, input)]
    elif not input.is_dir():
        compared.found.gaps.append(f"{input.name} is a film, whose frames became RGB: samples cannot be compared")
        return
    else:
        sources = {path.stem: path for path in list_images(input)}
        made = list_images(output)
        names = [(path, sources[path.stem]) for path in made if path.stem in sources]
        others = {path.stem for path in made} ^ sources.keys()
        strange = sorted({path.name for path in output.iterdir()} - {path.name for path in (*made, *input.iterdir())})
        if strange:
            compared.found.gaps.append(f"it holds more than the input, which is not compared: {', '.join(strange[:5])}")
        if others:
            compared.found.gaps.append(
                f"{counted(len(others), 'still')} of the two folders have no other of the same "
                f"name, such as {min(others)}"
            )
    for still, source in names:
        if stop is not None and stop():
            raise Interrupted
        made, read = read_image(still), read_image(source)
        _compare_said(compared.found, made, read)
        if _turned(made) == _turned(read):
            compared.frame(still.name, made.frame, enlarger(read.frame))


def _turned(still: Still) -> tuple[int, bool]:
    return still.frame.display.quarter_turns, still.frame.display.mirror


def _compare_said(found: Checked, made: Still, read: Still) -> None:
    """Compares the metadata of two stills; an image format that has no place for it cannot."""
    name, a, b = Path(made.path).name, made.frame.image, read.frame.image
    upright = (b.height, b.width) if _turned(read)[0] % 2 else (b.width, b.height)
    if _turned(made) == (0, False) != _turned(read) and (a.width, a.height) == upright:
        found.gaps.append(f"{name}: was turned upright; its samples are not compared with the input's")
    elif _turned(made) != _turned(read):
        found.problems.append(f"{name}: is rotated or mirrored in another way than the input")
    if made.meta.icc != read.meta.icc:
        said = f"{name}: its colour profile is not the input's"
        (found.problems if made.meta.icc else found.gaps).append(said)
    views = made.meta.view, read.meta.view
    for what in sorted(views[0].keys() | views[1].keys()):
        if views[0].get(what) != views[1].get(what):
            (found.problems if what in views[0] else found.gaps).append(
                f"{name}: its header says how its samples are shown ({what}) in another way than the input's"
            )
    if (
        made.kind == read.kind
        and made.scan is not None
        and read.scan is not None
        and (
            (made.scan.bits, made.scan.view) != (read.scan.bits, read.scan.view)
            or getattr(made.scan, "aspect", None) != getattr(read.scan, "aspect", None)
        )
    ):
        found.problems.append(f"{name}: its header says other colours, another shape or position than the input's")
    unclear = [still.kind == "jpeg" and still.meta.rgb != still.frame.image.format.is_rgb for still in (made, read)]
    if unclear[0] and not unclear[1]:
        found.problems.append(
            f"{name}: its header makes other programs show other colours (RGB in place of YCbCr, or "
            "the other way round)"
        )
    if made.more and made.more != read.more:
        found.problems.append(f"{name}: {made.more}, which are not the input's")
    check_parts(found, f"{name}: ", still_parts(made), still_parts(read))


def _compare_films(
    compared: FrameComparison, output: Path, input: Path, values: dict[str, Any], doing: Doing | None, stop: Stop | None
) -> None:
    said, options, stats = values.get("input", {}), values.get("options", {}), Stats()
    dropped, variant = options.get("drop", ()), options.get("variant", "best")
    with (
        closing(FileSource(output, stats=stats)) as made,
        closing(
            FileSource(
                input,
                start=said.get("start_s"),
                end=said.get("end_s"),
                scale=_scale_of(values),
                chosen=values.get("options", {}).get("fields"),
                variant=variant,
            )
        ) as source,
    ):
        length, cut = made.info.duration_s, (source.info.start, source.info.end)
        exact = made.info.coding.kind == "lossless"  # whatever its sidecar says
        if cut != (None, None):
            compared.found.notes.append(
                f"it is compared with a part of {input.name} only, {_part(said)}, which is "
                "what its sidecar says that the run read"
            )
        first: tuple[float, float] | None = None
        usual = set[object]()
        for number, (new, old) in enumerate(zip_longest(_frames(made, stop), _frames(source, stop))):
            if new is None or old is None:
                hint = (
                    ""
                    if compared.known
                    else "; whether --start and --end left them out only a sidecar says (--sidecar)"
                )
                compared.found.problems.append(
                    f"it has {'fewer' if new is None else 'more'} frames than "
                    f"{input.name}, from frame {number} on{hint}"
                )
                break
            first, usual = first or (new.time, old.time), usual or _looks(new)
            if abs((new.time - first[0]) - (old.time - first[1])) > _SAME_S:
                compared.found.problems.append(f"frame {number} has another time than in {input.name}")
                break
            compared.frame(number, new, old, exact=exact)
            strange = "captions, grain or HDR metadata" if _in_frame(new) - _in_frame(old) else ""
            if strange or _looks(new) - _looks(old) - usual:  # the first one's are compared below
                compared.found.problems.append(
                    f"frame {number}: {strange or 'colours'} to show with it are not the input's"
                )
                break
            if doing is not None and length:
                doing("comparison", min(1.0, (new.time - first[0]) / length))
    check_layout(compared.found, made.info, source.info, first or (0.0, 0.0), dropped)
    copied = values.get("copied")
    mine, theirs = (
        hash_packets(film, stop=stop, pieces=cut == (None, None), slices=bool(copied), parts=True, variant=which)
        for film, which in ((output, "best"), (input, variant))
    )
    read = film_parts(input, source.info, theirs)
    check_parts(compared.found, "", film_parts(output, made.info, mine), read)
    if len(values.get("frames", {}).get("rows", ())) > len(mine[0].rows):
        compared.found.problems.append(
            f"its sidecar names more frames than the {len(mine[0].rows)} packets of its picture"
        )
    if 0 < container_end(output) <= max(stream.last for stream in mine):
        compared.found.problems.append("its container ends before its last packets, where some players stop")
    doubts = {
        f"is {made.info.format}, which rtface does not write": not made.info.format.startswith(_WRITTEN),
        "has an index that contradicts itself, or lost a part": "container" in stats.warnings,
        "has fragments behind an index that names frames": any(stream.partly for stream in mine),
    }
    compared.found.gaps += [
        f"some players may stop before its end: its container {what}" for what, there in doubts.items() if there
    ]
    if copied:
        check_copied(compared.found, mine[0], theirs[0], first or (0.0, 0.0), copied)
    fitted = made.info.format.startswith("mxf")
    pairs = check_packets(compared.found, mine, theirs, first or (0.0, 0.0), cut, dropped, fitted=fitted)
    check_streams(compared.found, made.info, source.info, pairs, dropped)
    _compare_tracks(compared.found, (output, input), made.info, pairs[1:])


def _compare_tracks(found: Checked, films: tuple[Path, Path], made: MediaInfo, pairs: list[tuple[int, int]]) -> None:
    """Compares what the headers say of further video tracks, by a frame of each."""
    for stream in made.streams:
        others, own = [pair for pair in pairs if pair[0] == stream.index], Checked()
        if stream.kind != "video" or stream.disposition & Disposition.attached_pic or not others:
            continue
        try:
            with (
                closing(FileSource(films[0], track=others[0][0])) as one,
                closing(FileSource(films[1], track=others[0][1])) as other,
            ):
                check_layout(own, one.info, other.info, None)
        except InputError as error:
            own.gaps.append(f"what its header says is not compared ({error})")
        for lines, said in ((found.problems, own.problems), (found.gaps, own.gaps)):
            lines += [f"stream {stream.index} (video): {line}" for line in said]


def _in_frame(frame: Frame) -> set[tuple[str, bytes]]:
    """What a coded frame says apart from its samples, and players show."""
    if (said := all_side_data(frame.image)) is None:
        return {("unnamed", b"")}
    return {(kind, bytes(one)) for one in said if (kind := one.type.name) in _SHOWN_OVER and any(bytes(one))}


def _looks(frame: Frame) -> set[object]:
    """How players show a coded frame, as it says itself."""
    image = frame.image
    tags = tags_of(image)  # without a range, of what was copied, say, it is the limited one
    return {replace(tags, range=tags.range or 1), hdr_of(image), *views_of(image).items(), image.interlaced_frame}


def _frames(source: FileSource, stop: Stop | None) -> Iterator[Frame]:
    for item in source:
        if stop is not None and stop():
            raise Interrupted
        if isinstance(item, Frame):
            yield item


def _part(said: dict[str, Any]) -> str:
    start, end = said.get("start_s"), said.get("end_s")
    return f"from {format_time(start or 0.0)} {'to its end' if end is None else f'to {format_time(end)}'}"


def check_pair(output: Path, input: Path) -> None:
    """Raises InputError where the two are the same file."""
    if output.exists() and input.exists() and output.samefile(input):
        raise InputError(
            "{path}: is the output itself; name the film that it was made of", code="input_is_output", path=input
        )
