"""What an output's sidecar, or the report of its run, says of doubtful corrections, the most doubtful first."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtface.analysis.doubt import DOUBT, Doubt
from rtface.errors import InputError, InputMissing, UsageError
from rtface.media.files.image_names import is_image
from rtface.media.read.container import choose_video, open_container, time_base_of
from rtface.media.read.source import FileSource
from rtface.shots.clock import FilmClock
from rtface.shots.csv_list import write_csv
from rtface.shots.edl import write_edl
from rtface.shots.otio import write_markers
from rtface.shots.scenes import Scene
from rtface.trust.sidecar import read_sidecar, sidecar_path
from rtface.util.foreign import Shape, check_shape, count, file_name, none_or, number, read_regular, table, text
from rtface.util.toml_dataclass import parse_json

_TRACK: Shape = {"id": count, "person": text, "frames_corrected": count, "doubts?": [DOUBT]}
_REPORT: Shape = {
    "rtface_version": text,
    "input": text,
    "output": text,
    "first_s?": none_or(number),
    "options": {"start": none_or(number)},
    "tracks": [_TRACK],
    "images": [{"name": file_name, "tracks": [count]}],
}
_NEAR_S = Fraction(2, 1000)
"""Seconds by which times differ that were rounded to thousandths in a report and in a container."""
_SIDECAR: Shape = {"treatments": [_TRACK], "images?": table([count])}


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a track that is worth a look.

    Attributes:
        track: its number.
        person: whom it shows, where that is known.
        image: name of the input's still; empty in a film.
        doubt: times, box and figures of its most doubtful frame.
    """

    track: int
    person: str
    image: str
    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Review:
    """What is to be looked at.

    Attributes:
        output: the film, still or folder.
        input: that it was made of: as the run named it, or only its name.
        first_s: time of the output's first frame in the input.
        times: of the output's frames on its own clock, rising; none of stills.
        places: the most doubtful first.
        clock: of the output; None of stills.
    """

    output: Path
    input: str
    first_s: float
    times: Sequence[Fraction]
    places: list[Place]
    clock: FilmClock | None

    def time_of(self, seconds: float) -> Fraction:
        """A time of the input on the output's own clock."""
        return self.times[0] + Fraction(seconds - self.first_s).limit_denominator(1_000_000)

    def frame_of(self, seconds: float) -> int:
        """Number of the output's frame that shows a time of the input."""
        return max(0, bisect_right(self.times, self.time_of(seconds) + _NEAR_S) - 1)

    def row(self, place: Place) -> dict[str, Any]:
        """A place as JSON has it; times are seconds in the input."""
        doubt, clock = place.doubt, self.clock
        return {
            "doubt": round(doubt.score, 3),
            "track": place.track,
            "person": place.person,
            "image": place.image,
            "timecode": "" if clock is None else str(clock.timecode_at(self.time_of(doubt.at_s))),
            "frame": None if clock is None else self.frame_of(doubt.at_s),
            "reasons": doubt.reasons,
            **asdict(doubt),
        }

    def to_dict(self, places: Sequence[Place]) -> dict[str, Any]:
        """The review with these places, and all tracks by their most doubtful place, as JSON has it."""
        tracks: dict[int, list[Place]] = {}
        for place in self.places:
            tracks.setdefault(place.track, []).append(place)
        return {
            "output": str(self.output),
            "input": self.input,
            "tracks": [
                {"track": track, "doubt": round(of[0].doubt.score, 3), "places": len(of)}
                for track, of in tracks.items()
            ],
            "places": [self.row(place) for place in places],
        }

    def as_list(self, kind: str, places: Sequence[Place]) -> str:
        """The text of a list of places: "csv", "edl" or "otio".

        Raises:
            UsageError: the output is no film.
            MissingComponent: opentimelineio is not installed.
        """
        if self.clock is None:
            raise UsageError(
                "--{kind}: {path} holds stills, which have no times; use --json",
                code="review_stills",
                kind=kind,
                path=self.output,
            )
        frame = 1 / self.clock.rate
        scenes = sorted(
            (
                Scene(
                    self.time_of(place.doubt.from_s),
                    self.time_of(place.doubt.to_s) + frame,
                    note=f"track {place.track}: doubt {place.doubt.score:.2f}, {'; '.join(place.doubt.reasons)}",
                )
                for place in places
            ),
            key=lambda scene: scene.begin,
        )
        if kind == "csv":
            return write_csv(scenes, self.clock)
        return (write_edl if kind == "edl" else write_markers)(scenes, self.clock, self.output.name)


def read_review(output: Path, report: Path | None = None) -> Review:
    """The doubtful places of an output.

    Args:
        output: a film, still or folder of stills.
        report: of its run (``--report``); None takes the sidecar.

    Raises:
        InputMissing: there is no such output, or nothing that says what the run did.
        InputError: the sidecar or report is none, is of another output, or of a version that noted no doubts.
    """
    if not output.exists():
        raise InputMissing("{path}: there is no such file or folder; check the name", code="path_gone", path=output)
    where = report or sidecar_path(output.resolve())
    if report is None and not where.is_file():
        raise InputMissing(
            "{path}: has no sidecar, which says what the run did; make one with {--sidecar=True}, or name the report "
            "of the run by --report",
            code="review_silent",
            path=output,
        )
    source, tracks = _of_report(where) if report is not None else _of_sidecar(where)
    size = output.stat().st_size if output.is_file() else None
    if source.output != output.resolve().name or source.bytes not in (None, size):
        raise InputError(
            "{path}: was written for another output than {output} ({named}); name the one of that run",
            code="review_other",
            path=where,
            output=output,
            named=source.output,
        )
    if any(track["frames_corrected"] and "doubts" not in track for track in tracks):
        raise InputError(
            "{path}: the rtface that wrote it noted no doubts; run it again with this one",
            code="review_old",
            path=where,
        )
    places = [
        Place(track["id"], track["person"], source.images.get(track["id"], ""), Doubt.of(doubt))
        for track in tracks
        for doubt in track["doubts"]
    ]
    places.sort(key=lambda place: (-place.doubt.score, place.track, place.doubt.at_s))
    clock, times = None, source.times
    if output.is_file() and not is_image(output):
        with closing(FileSource(output, threads=1)) as film:
            clock = FilmClock.of(film.info)
        times = times or _times(output) or [clock.first]
        times = [clock.first + time - times[0] for time in times]  # those of a sidecar begin elsewhere
    return Review(output, source.input, source.first_s, times, places, clock)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a run read and wrote; `bytes` of its output and `times` of its frames, where these are known, and the image
    of each track of stills."""

    input: str
    output: str
    first_s: float
    bytes: int | None
    images: Mapping[int, str]
    times: Sequence[Fraction] = ()


def _of_report(path: Path) -> tuple[_Source, list[dict[str, Any]]]:
    try:
        values = parse_json(read_regular(path))
        check_shape(values, _REPORT)
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why}); check the name", code="unreadable", path=path, why=error.strerror
        ) from error
    except ValueError as error:
        raise InputError(
            "{path}: is no report of a run, or a damaged one ({why}); name what {--report} wrote",
            code="review_report",
            path=path,
            why=error,
        ) from error
    images = {track: one["name"] for one in values["images"] for track in one["tracks"]}
    first_s = values.get("first_s") or values["options"]["start"] or 0.0
    return _Source(values["input"], Path(values["output"]).name, first_s, None, images), values["tracks"]


def _of_sidecar(path: Path) -> tuple[_Source, list[dict[str, Any]]]:
    values = read_sidecar(path)
    try:
        check_shape(values, _SIDECAR)
    except ValueError as error:
        raise InputError(
            "{path}: is no sidecar of a run over a film or stills ({why}); name the output of one",
            code="review_sidecar",
            path=path,
            why=error,
        ) from error
    images = {track: name for name, tracks in values.get("images", {}).items() for track in tracks}
    output, input = values["output"], values["input"]
    first_s = input.get("first_s") or input.get("start_s") or 0.0
    frames = values.get("frames", {"time_base": "1", "rows": []})
    times = sorted(pts * Fraction(frames["time_base"]) for pts, _ in frames["rows"])
    return _Source(input["name"], output["name"], first_s, output.get("bytes"), images, times), values["treatments"]


def _times(film: Path) -> list[Fraction]:
    with open_container(film) as container:
        video, _ = choose_video(container, str(film))
        base = time_base_of(video)
        return sorted(p.pts * base for p in container.demux(video) if p.pts is not None and not p.is_discard)
