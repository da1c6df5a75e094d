"""Checks an output against its manifests (the files by SHA-256, then a film frame by frame), its sidecar and its
input."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from rtface.errors import InputError, InputMissing, MissingComponent, UsageError
from rtface.media.files.file_hashes import read_manifest, sha256_of, share_of_bytes
from rtface.media.read.start_timecode import film_timecode
from rtface.media.stills.images import list_images
from rtface.trust.check_input import check_input, check_pair
from rtface.trust.check_sidecar import Checked, check_sidecar, check_signature
from rtface.trust.checksums import FILES, FRAMES, Doing
from rtface.trust.credentials import (
    bytes_left_out,
    may_have_credentials,
    read_anchors,
    read_credentials,
)
from rtface.trust.framemd5 import HashedStream, HashList, HashRow, hash_frames, parse_row
from rtface.trust.sidecar import SUFFIX, read_sidecar
from rtface.util.foreign import open_regular
from rtface.util.parse import format_time

Answer = Literal["same", "differs", "not checked"]

# Rows of one stream that may wait for the other side. Lists made by FFmpeg and by --checksums are in the same order.
_WAITING = 1 << 16


@dataclass(slots=True)
class Difference:
    """The first frame or packet of a stream that is not what the manifest says.

    Attributes:
        stream: number of the stream in the list.
        kind: "video", "audio" …
        what: "differs" (other samples or bytes), "time" (same samples at another time), "missing" (the film ends
            earlier) or "additional" (it ends later).
        number: of the frame or packet, counted from 0.
        time_s: its time in seconds from the beginning.
        pts: its time in units of the list's time base.
        timecode: its SMPTE timecode, where the film has a start timecode.
        count: how many of the stream differ in all.
        frame: whether it is a decoded frame, and not a packet.
    """

    stream: int
    kind: str
    what: str
    number: int
    time_s: float
    pts: int
    timecode: str | None = None
    count: int = 1
    frame: bool = True

    def __str__(self) -> str:
        unit = "frame" if self.frame else f"stream {self.stream} ({self.kind}): packet"
        at = f"{f'timecode {self.timecode}, ' if self.timecode else ''}{format_time(self.time_s)}, pts {self.pts}"
        said = {
            "differs": "is the first that differs",
            "time": "is the first that has another time",
            "missing": "and what follows is missing",
            "additional": "is more than the list has",
        }[self.what]
        more = f"; {self.count} in all" if self.count > 1 else ""
        return f"{unit} {self.number} ({at}) {said}{more}"


@dataclass(slots=True)
class Verified:
    """What `verify` found.

    Attributes:
        output: as given.
        files: whether the bytes of its files are those of the SHA-256 manifest.
        frames: whether frames and packets are those of the framemd5 list.
        files_checked, frames_checked: how many.
        sidecar: whether the output is the one that its sidecar describes.
        credentials: whether the content credentials in it are valid, and the content as it was signed.
        input: whether all that is not a correction is the input's.
        proofs: one line for everything that was shown by the sidecar or the input.
        problems: one line for each file that differs or is missing, and for what sidecar or input show to differ.
        differences: of each stream the first frame or packet that differs.
        gaps: one line for everything that was to be compared and could not be, and why.
        notes: what else was not checked, and why.
        timecode: the film's start timecode, or None.
    """

    output: str
    files: Answer = "not checked"
    frames: Answer = "not checked"
    sidecar: Answer = "not checked"
    credentials: Answer = "not checked"
    input: Answer = "not checked"
    files_checked: int = 0
    frames_checked: int = 0
    proofs: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    differences: list[Difference] = field(default_factory=list[Difference])
    gaps: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    timecode: str | None = None

    @property
    def differs(self) -> bool:
        """Whether anything is not as it should be."""
        return "differs" in self._answers

    @property
    def same(self) -> bool:
        """Whether everything that was to be compared was, and is as it should be."""
        return "same" in self._answers and not self.differs and not self.gaps

    @property
    def _answers(self) -> tuple[Answer, ...]:
        return self.files, self.frames, self.sidecar, self.credentials, self.input

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        return {**asdict(self), "same": self.same}


def verify(
    output: Path,
    manifest: Path | None = None,
    *,
    input: Path | None = None,
    files_only: bool = False,
    trust: Path | None = None,
    doing: Doing | None = None,
    stop: Callable[[], bool] | None = None,
) -> Verified:
    """Checks a film, still or folder of stills.

    Args:
        output: what is checked.
        manifest: a SHA-256 manifest, a framemd5 list or a sidecar; None for those that ``--checksums`` and
            ``--sidecar`` write.
        input: what the output was made of, to be compared with it.
        files_only: leave the frames out.
        trust: certificates (PEM) that vouch for signers of credentials, and c2pa's list.
        doing: receives progress.
        stop: ends the work with `Interrupted` once it is true.

    Raises:
        UsageError: there is no manifest, or no certificate in `trust`.
        InputMissing, InputError: output or manifest cannot be read.
    """
    if not output.exists():
        raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=output)
    found = Verified(str(output))
    anchors = read_anchors(trust) if trust is not None else None
    _check_credentials(found, output, anchors)
    signed_inside = found.credentials != "not checked" or bool(found.gaps or found.notes)
    sums, hashes, sidecar = _manifests(
        output, manifest, needed=input is None and not found.gaps and found.credentials == "not checked"
    )
    if sums is not None:
        _check_files(found, output, sums, doing, stop)
    if hashes is not None and files_only:
        found.notes.append(f"{hashes.name}: the frames are not checked (--files-only)")
    elif hashes is not None:
        _check_frames(found, output, hashes, doing, stop)
    values = read_sidecar(sidecar, output) if sidecar is not None else None
    if values is not None:
        checked = check_sidecar(output, values, doing=doing, stop=stop)
        check_signature(checked, values, anchors, signed_inside=signed_inside)
        found.sidecar = _add(found, checked)
    elif anchors is not None and not signed_inside:
        found.gaps.append("nothing says who made it: it holds no credentials, and has no signed sidecar")
    if input is not None:
        check_pair(output, input)
        checked = check_input(output, input, values, doing=doing, stop=stop)
        found.input = _add(found, checked)
    return found


def _check_credentials(found: Verified, output: Path, anchors: str | None) -> None:
    try:
        credentials = read_credentials(output, anchors)
    except MissingComponent as error:
        if may_have_credentials(output):
            found.notes.append(f"its credentials are not checked: {error}")
        return
    if credentials is None:
        return
    if credentials.elsewhere:
        found.gaps += credentials.lines()
    elif not credentials.valid or (anchors is not None and not credentials.trusted):
        found.credentials = "differs"
        found.problems += credentials.lines()[:1]
    else:
        found.credentials = "same"
        found.proofs += credentials.lines()
        left_out = bytes_left_out(output)
        if left_out:
            found.notes.append(
                f"its credentials do not cover {left_out} bytes in boxes that players skip (free, "
                "skip), as C2PA has it; anything may be in them"
            )


def _add(found: Verified, checked: Checked) -> Answer:
    """Adds what a check found, and says how it ended."""
    found.problems += checked.problems
    found.proofs += checked.proofs
    found.gaps += checked.gaps
    found.notes += checked.notes
    return "differs" if checked.problems else "same" if checked.proofs and not checked.gaps else "not checked"


def has_manifest(output: Path) -> bool:
    """Whether there is anything next to an output to check it against."""
    return any(output.with_name(output.name + suffix).is_file() for suffix in (FILES, FRAMES, SUFFIX))


def _manifests(output: Path, manifest: Path | None, *, needed: bool) -> tuple[Path | None, Path | None, Path | None]:
    """The SHA-256 manifest, the list of frames, and the sidecar."""
    output = output.resolve() if not output.name else output
    if manifest is not None:
        try:
            with open_regular(manifest) as file:
                head = file.read(20)
        except OSError as error:
            raise InputMissing(
                "{path}: cannot be read ({why}); check the name", code="unreadable", path=manifest, why=error.strerror
            ) from error
        if head.lstrip().startswith(b"{"):
            return None, None, manifest
        return (None, manifest, None) if head.startswith((b"#format: frame", b"#extradata")) else (manifest, None, None)
    sums, frames, sidecar = (
        path if path.is_file() else None
        for path in (output.with_name(output.name + suffix) for suffix in (FILES, FRAMES, SUFFIX))
    )
    if needed and sums is frames is sidecar is None:
        raise UsageError(
            "{output}: has no manifest {name}{files} or {name}{frames}, and no sidecar {name}{suffix}; name one "
            "with --manifest, write manifests with --write, or name the INPUT",
            code="manifest_none",
            output=output,
            name=output.name,
            files=FILES,
            frames=FRAMES,
            suffix=SUFFIX,
        )
    return sums, frames, sidecar


def _check_files(
    found: Verified, output: Path, manifest: Path, doing: Doing | None, stop: Callable[[], bool] | None
) -> None:
    listed = [(manifest.parent / file.name, file) for file in read_manifest(manifest)]
    known = {path.resolve() for path, _ in listed}
    own = list_images(output) if output.is_dir() else [output]
    if not any(path.resolve() in known for path in own):
        raise InputError(
            "{manifest}: does not name {output}; it is the manifest of something else",
            code="manifest_other",
            manifest=manifest,
            output=output,
        )
    tick = share_of_bytes(sum(path.stat().st_size for path, _ in listed if path.is_file()), doing)
    found.files = "same"
    for path, file in listed:
        try:
            problem = None if sha256_of(path, tick=tick, stop=stop) == file.sha256 else "its bytes differ (SHA-256)"
        except InputMissing as error:
            problem = str(error).removeprefix(f"{path}: ")
        found.files_checked += 1
        if problem:
            found.files = "differs"
            found.problems.append(f"{path}: {problem}")
    added = [path for path in own if path.resolve() not in known]
    if added:
        found.notes.append(f"{len(added)} images are not in {manifest.name}, such as {added[0].name}")


def _check_frames(
    found: Verified, film: Path, manifest: Path, doing: Doing | None, stop: Callable[[], bool] | None
) -> None:
    if film.is_dir():
        raise InputError(
            "{manifest}: is a list of frames, and {film} a folder; its manifest is {name}{files}",
            code="manifest_folder",
            manifest=manifest,
            film=film,
            name=film.name,
            files=FILES,
        )
    listed = HashList(manifest)
    streams = [listed.streams.get(number, HashedStream()) for number in range(max(listed.streams) + 1)]
    compare = _Comparer(listed, streams)
    missing = hash_frames(
        film, lambda: compare, wanted=streams, stop=stop, tick=(lambda done: doing("frames", done)) if doing else None
    )
    found.notes += missing.values()
    compare.end(set(missing))
    found.frames_checked = compare.counts.get(compare.video, 0)
    found.differences = [compare.first[number] for number in sorted(compare.first)]
    found.frames = "differs" if found.differences else "same"
    start = film_timecode(film)
    found.timecode = str(start) if start else None
    for difference in found.differences:
        if start is not None:
            frames = Fraction(difference.time_s).limit_denominator(1_000_000) * start.rate
            difference.timecode = str(start.plus(round(frames)))


class _Comparer:
    """Takes the list of a film as a muxer writes it, and compares each row with the next of the manifest."""

    def __init__(self, listed: HashList, streams: list[HashedStream]) -> None:
        self._streams, self._rest = streams, b""
        self._rows: Iterator[HashRow] = listed.rows()
        self._listed: dict[int, deque[HashRow]] = {number: deque() for number in range(len(streams))}
        self._made: dict[int, deque[HashRow]] = {number: deque() for number in range(len(streams))}
        self.video = next(number for number, stream in enumerate(streams) if stream.codec == "rawvideo")
        self.counts: dict[int, int] = {}
        self.first: dict[int, Difference] = {}
        self.error: InputError | None = None

    def write(self, data: bytes, /) -> int:
        """Takes a block of the film's list. An error of the manifest is kept for `end`: FFmpeg calls this."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        try:
            for line in lines:
                row = parse_row(line.decode("ascii", "replace"))
                if row is not None and self.error is None:
                    self._take(row)
        except InputError as error:
            self.error = error
        return len(data)

    def end(self, missing: set[int]) -> None:
        """Compares what is left on either side; streams in `missing` are left out."""
        if self.error is not None:
            raise self.error
        for row in self._rows:
            self._listed[row.stream].append(row)
            self._match(row.stream)
        for number in range(len(self._streams)):
            if number in missing:
                self.first.pop(number, None)
                continue
            for rows, what in ((self._listed[number], "missing"), (self._made[number], "additional")):
                if rows and number in self.first:
                    self.first[number].count += len(rows)
                elif rows:
                    self._note(rows[0], what, len(rows))

    def _take(self, row: HashRow) -> None:
        self._made[row.stream].append(row)
        while not self._listed[row.stream]:
            listed = next(self._rows, None)
            if listed is None:
                return
            self._listed[listed.stream].append(listed)
            if listed.stream != row.stream:
                self._match(listed.stream)
                if len(self._listed[listed.stream]) > _WAITING:
                    return
        self._match(row.stream)

    def _match(self, number: int) -> None:
        listed, made = self._listed[number], self._made[number]
        while listed and made:
            want, have = listed.popleft(), made.popleft()
            moved = abs(want.pts - have.pts) > self._slack(number)
            what = "differs" if want.md5 != have.md5 else "time" if moved else ""
            if what and number in self.first:
                self.first[number].count += 1
            elif what:
                self._note(want, what, 1)
            self.counts[number] = self.counts.get(number, 0) + 1

    def _slack(self, number: int) -> int:
        """Units by which times may differ: containers round to a millisecond."""
        return int(Fraction(1, 1000) / self._streams[number].base)

    def _note(self, row: HashRow, what: str, count: int) -> None:
        stream = self._streams[row.stream]
        self.first[row.stream] = Difference(
            row.stream,
            stream.kind,
            what,
            self.counts.get(row.stream, 0),
            round(float(row.pts * stream.base), 6),
            row.pts,
            count=count,
            frame=row.stream == self.video,
        )
