"""Makes the report of a run, for `--report` and `rtface.run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from msgspec import defstruct

from rtface.analysis.doubt import DoubtfulPlace, most_doubtful
from rtface.analysis.track_report import PersonReport, TrackReport, hidden_line, persons_of
from rtface.config.options import Options, Trait, having, learnt_persons
from rtface.errors import Interrupted, Message, RtfaceError
from rtface.media.files.workfile import Target, write_whole
from rtface.redaction import redacted, redacted_values
from rtface.stats import Stats
from rtface.util.foreign import FilePath, Text, fits, read_regular
from rtface.util.parse import is_person_name
from rtface.util.toml_dataclass import parse_json


@dataclass(slots=True)
class ImageReport:
    """Reports one still of a run.

    Attributes:
        name: name of the still's file.
        tracks: track ids of its faces.
        corrected: whether a face was corrected.
        more: content of the input that the output lacks.
        filled: number of pixels whose damage was filled.
        error: why the still was not written; None if it was.
    """

    name: str
    tracks: list[int] = field(default_factory=list[int])
    corrected: bool = False
    more: str = ""
    filled: int = 0
    error: str | None = None


@dataclass
class Report:
    """Describes a run in figures; see docs/report.md for every key."""

    input: str
    output: str | None
    rtface_version: str
    engine: str
    device: str
    decoder: str = ""
    encoder: str = ""
    timecode: str | None = None
    first_s: float | None = None
    frames_in: int = 0
    frames_out: int = 0
    frames_dropped: int = 0
    frames_damaged: int = 0
    packets_lost: int = 0
    packets_copied: int = 0
    frames_with_faces: int = 0
    frames_corrected: int = 0
    faults: int = 0
    stage_faults: int = 0
    interrupted: bool = False
    error: str | None = None
    partial: str | None = None
    resume_at_s: float | None = None
    tracks: list[TrackReport] = field(default_factory=list[TrackReport])
    images: list[ImageReport] = field(default_factory=list[ImageReport])
    persons: list[PersonReport] = field(default_factory=list[PersonReport])
    doubtful: list[DoubtfulPlace] = field(default_factory=list[DoubtfulPlace])
    seconds: float = 0.0
    fps: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=dict[str, float])
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    first_frame_s: float | None = None
    peak_rss_mb: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    passed: dict[str, int] = field(default_factory=dict[str, int])
    ends: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cpu_share: float | None = None
    ladder: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    warnings: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    plan: dict[str, Any] = field(default_factory=dict[str, Any])

    def ended_by(self, error: BaseException) -> None:
        """Records the error that ended the run, partial output and resume time."""
        self.interrupted, self.error = isinstance(error, KeyboardInterrupt), " ".join(str(error).split())
        if isinstance(error, (RtfaceError, Interrupted)):
            self.partial, self.resume_at_s = error.partial, error.resume_at

    def fill(self, stats: Stats) -> None:
        """Copies counters, times and warnings from the run's statistics. The writer counts `frames_out`."""
        counters = stats.counted()
        self.dropped = {name.removeprefix("dropped:"): n for name, n in counters.items() if name.startswith("dropped:")}
        self.frames_in, self.frames_dropped = counters["frames_in"], sum(self.dropped.values())
        self.frames_damaged, self.packets_lost = counters["frames_corrupt"], counters["packets_lost"]
        self.packets_copied = counters["packets_copied"]
        self.frames_with_faces, self.frames_corrected = counters["frames_with_faces"], counters["frames_corrected"]
        self.faults, self.stage_faults = counters["faults"], counters["stage_faults"]
        self.persons = persons_of(self.tracks)
        self.doubtful = most_doubtful((track.id, track.person, track.doubts) for track in self.tracks)
        used = [name.removeprefix("crops:") for name, n in counters.items() if name.startswith("crops:") and n]
        # Replaces the requested engine by those that ran. The coded stage is not an engine.
        self.engine = "+".join(name for name in used if name not in ("carried", "coded", "coded-light")) or self.engine
        self.stages_ms = stats.stages_ms()
        latency = self.stages_ms.get("latency") or self.stages_ms.get("added", {})
        self.latency_ms = {k: v for k, v in latency.items() if k in ("p50", "p95", "p99")}
        self.peak_rss_mb = round(peak_rss_mb(), 1)
        self.warnings = stats.warned()

    def warn_hidden(self, stats: Stats) -> None:
        """Warns of faces that stay uncorrected because they were hidden."""
        hidden = [(track.id, span.from_s) for track in self.tracks for span in track.spans if span.kind[1]]
        if hidden:
            stats.warn("hidden", hidden_line(len({track for track, _ in hidden}), *hidden[0]))

    def note_uncorrected(self) -> None:
        """Notes the faces that a finished run left uncorrected, with reasons."""
        decided_tracks = [track for track in self.tracks if track.spans]  # other tracks had no decision
        uncorrected = [track for track in decided_tracks if not track.treatment["on"]]
        automatic = self.options.get("correct") == "auto" and not self.options.get("treatment")
        reasons = ", ".join(dict.fromkeys(reason for track in uncorrected for reason in track.verdict.because[:1]))
        if uncorrected and (automatic or not self.frames_corrected):
            self.notes.append(
                Message(
                    "{left} of {count} faces were left as they are ({reasons}){advice}",
                    code="faces_left",
                    left=len(uncorrected),
                    count=len(decided_tracks),
                    reasons=reasons,
                    advice=Message("; {--correct:always} corrects them", code="always_corrects") if automatic else "",
                )
            )
        elif self.frames_out and not self.frames_corrected:
            self.notes.append("no face was corrected" + ("" if self.frames_with_faces else ": no face was found"))

    def to_dict(self) -> dict[str, object]:
        """Returns plain dictionaries, lists, numbers and strings, without secrets of URLs."""
        values = redacted_values(asdict(self) | {"tracks": [track.to_dict() for track in self.tracks]})
        return values if self.plan else {key: value for key, value in values.items() if key != "plan"}

    def to_json(self) -> str:
        """Returns the report as JSON text, keys in a fixed order."""
        return json.dumps(self.to_dict(), indent=2)  # in ASCII, because file names need not be valid Unicode

    def save(self, target: Target) -> None:
        """Writes the report. The file gets its name only when it is complete.

        Args:
            target: file, checked before the run by `rtface.media.files.outputs.check_outputs`.

        Raises:
            OutputError: the file cannot be written; the enhanced film is preserved.
        """
        write_whole(target, (self.to_json() + "\n").encode())


_UNFINISHED = defstruct(
    "_UNFINISHED",
    [("rtface_version", Text), ("input", FilePath), ("output", FilePath), ("error", Text), ("options", dict[str, Any])],
)


def is_unfinished(
    path: Path, input: object, output: Path | str, part: Mapping[str, float | None], *, job: bool
) -> bool:
    """Returns whether `path` reports a run to `output` that ended early. With `job` that is enough; otherwise it
    must be of the same part ("start" and "end") of the same film. Reports of other runs must not be replaced."""
    try:
        report = parse_json(read_regular(path))
    except (OSError, ValueError):
        return False
    return (
        fits(report, _UNFINISHED)
        and report["output"] == str(output)
        and (job or (report["input"] == redacted(str(input)) and report["options"] == report["options"] | part))
    )


def metadata_options(options: Options) -> dict[str, str]:
    """Returns the options for an output's metadata. Every recipient can read them, so names of persons are removed."""
    values = {key: str(getattr(options, key)) for key in having(Trait.NAMED)} | {"faces": unnamed(options.faces)}
    stages = ",".join(spec.partition(":")[0].strip() for spec in options.stages)
    extra = {key: text for key in ("scale", "fields") if (text := getattr(options, key)) not in (None, "auto")}
    extra |= {"person": "learnt"} if learnt_persons(options.person) else {}
    if options.shots is not None:
        extra["shots"] = "yes"
    return values | extra | ({"stages": stages} if stages else {})


def unnamed(faces: str) -> str:
    """Replaces each person's name in a value of ``--faces`` by "named"."""
    return ",".join("named" if is_person_name(word) else word for word in faces.split(","))


def report_options(options: Options) -> dict[str, object]:
    """Returns all options, as JSON values, for the report."""
    return redacted_values({k: str(v) if isinstance(v, Path | Fraction) else v for k, v in asdict(options).items()})


def peak_rss_mb() -> float:
    """Returns this process's peak resident memory in MiB; 0 on Windows."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024.0
