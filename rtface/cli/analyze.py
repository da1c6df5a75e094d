"""``rtface analyze``: shows the faults of each face, and how a run would treat it."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli import early_checks
from rtface.cli.command import FAILED, Json, command
from rtface.cli.console import Console, print_json, print_table
from rtface.cli.signals import StopRequest
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import ANALYSIS, check_scope
from rtface.errors import OutputError, UsageError
from rtface.pipeline.progress import Progress, ProgressLine
from rtface.util.text import counted
from rtface.util.urls import Address, place

if TYPE_CHECKING:
    from rtface.analysis.track_report import TrackReport
    from rtface.pipeline.analysis import Findings
_PROGRESS_S, _TRACKS_S = 0.25, 2.0
"""Seconds between progress events, and between events that include the tracks."""


@command(*ANALYSIS)
def analyze(
    input: Annotated[str, typer.Argument(metavar="INPUT", show_default=False, help="A film, a still or a folder.")],
    *,
    json: Json = False,
    scenes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=("Write the scenes to this CSV or EDL file; add options and pass it to 'rtface run --shots'."),
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=(
                "Write photos of each person to DIR/P1, DIR/P2 ..., to use in '--person NAME=DIR/P1' with other films."
            ),
        ),
    ] = None,
    persons: Annotated[bool, typer.Option(help="Recognise persons, and list them.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files if they exist.")] = False,
    loaded: LoadedOptions,
    console: Console,
    stop: StopRequest,
) -> None:
    """Show persons, each face track's faults, and its treatment in a run.

    With --json the output is a treatment file: edit it and pass it to 'rtface run --treatment'. For a film, it
    also contains the scenes.
    """
    options = loaded.options
    source = place(input)
    early_checks.check_inputs([source])
    from rtface.analysis.track_report import persons_of
    from rtface.media.files.image_names import images_of
    from rtface.media.files.outputs import OutputPath, check_outputs
    from rtface.media.files.workfile import write_whole
    from rtface.pipeline.analysis import Findings, analyze_file
    from rtface.pipeline.plan import scope_of
    from rtface.pipeline.proposals import little_seen, proposals
    from rtface.shots.files import list_kind, scenes_text
    from rtface.stats import Stats

    check_scope(loaded.given, options, scope_of(source, Path("analysis"), options))
    stats, findings = Stats(), Findings(keep_faces=bool(photos))
    if not persons and photos:
        raise UsageError("--photos cannot be combined with --no-persons; leave one of them out", code="persons_needed")
    if photos is not None and (photos.exists() and not (photos.is_dir() and (overwrite or not any(photos.iterdir())))):
        raise OutputError(
            "--photos {path}: the folder already exists; choose another one, or add {--overwrite=True}",
            code="photos_exist",
            path=photos,
        )
    if scenes is not None:
        if isinstance(source, Path) and images_of(source) and not options.sequence:
            line = "--scenes: {path} contains stills, which have no scenes; leave --scenes out"
            raise UsageError(line, code="scenes_stills", path=source)
        list_kind(scenes, "--scenes")
    outputs = [OutputPath(scenes, "--scenes")] if scenes is not None else []
    (target,) = check_outputs(outputs, inputs=[source], overwrite=overwrite) or (None,)
    show = AnalysisEvents(source, findings, photos, console) if console.events else ProgressLine(console, source.name)
    tracks = analyze_file(
        source, options, stats=stats, progress=show, stop=stop.event, persons=persons, findings=findings
    )
    console.clear()
    if target is not None:
        write_whole(target, scenes_text(target.path, findings.scenes, source.name).encode("utf-8", "replace"))
        console.log(f"{target.path} written: {counted(len(findings.scenes.scenes), 'scene')}")
        if not findings.scenes.even and target.path.suffix.lower() == ".edl":
            console.log(
                "the frames of this film are not evenly spaced, so the EDL's timecodes are approximate; a CSV file has "
                "the exact times"
            )
    person_reports = persons_of(tracks)
    if photos is not None:
        from rtface.contact_sheet.photos import write_photos

        count = write_photos(person_reports, findings.faces(), photos, overwrite=overwrite or console.events)
        console.log(f"{photos} written: {counted(count, 'photo')} of {counted(len(person_reports), 'person')}")
    run_proposals = proposals(tracks, engine=options.engine, look=options.look_name, scale=options.scale)
    if json:
        table = treatment_file(source, tracks) | {
            "proposals": [one.to_dict() for one in run_proposals],
            "picture": findings.faults,
        }
        print_json({**table, "scenes": findings.scenes.table()} if findings.scenes.clock else table, indent=2)
    elif tracks:
        heads = ["TRACK", "PERSON", "FROM", "TO", "WIDTH", "VERDICT", "WHAT IS WRONG (0 nothing ... 1 all)"]
        print_table([heads, *(_cells(track, verbose=console.verbosity > 0) for track in tracks)])
        rows = [
            [p.person, f"{p.seconds:.2f} s", f"{p.first_s:.2f} s", f"{p.last_s:.2f} s", ", ".join(map(str, p.tracks))]
            for p in person_reports
        ]
        if rows:
            print_table([["PERSON", "TIME", "FROM", "TO", "TRACKS"], *rows])
        for line in little_seen(run_proposals):
            console.log(line)
    else:
        console.log(f"{source}: no face found")
    for line in findings.notes:
        console.log(line)
    if faults := _list_faults(findings.faults):
        console.log(f"the whole picture: {faults} (docs/films.md explains how to remove these faults)")
    if any(findings.curves):
        console.log("the film's dyes have faded; --colour restore corrects every frame with one curve")
    if unreadable := stats.counters["unreadable"]:
        console.log(f"{source}: {counted(unreadable, 'image')} could not be read", "error")
        raise typer.Exit(FAILED)


class AnalysisEvents:
    """Sends progress as events, at most four times a second. Every two seconds, an event includes the tracks.

    Args:
        input: the file or folder.
        findings: findings so far.
        photos: folder for photos of persons, written as soon as a person is known; None writes no photos.
        console: writes the events.
    """

    def __init__(
        self,
        input: Path | Address,
        findings: Findings,
        photos: Path | None,
        console: Console,
    ) -> None:
        self._input, self._findings, self._photos, self._console = input, findings, photos, console
        self._started, self._due = monotonic(), 0.0
        self._tracks_due = self._started + _TRACKS_S
        self._photographed: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        now = monotonic()
        if now < self._due:
            return
        self._due = now + _PROGRESS_S
        share = min(1.0, progress.seconds_done / progress.duration_s) if progress.duration_s else None
        left = (now - self._started) * (1 - share) / share if share else None
        line = {
            "share": share,
            "left_s": None if left is None else round(left, 1),
            "faces": progress.faces,
            "scenes": self._findings.scenes.table() if self._findings.scenes.clock else [],
        }
        if now >= self._tracks_due:
            self._tracks_due = now + _TRACKS_S
            line |= self._tracks()
        self._console.status("", **line)

    def _tracks(self) -> dict[str, object]:
        """Returns tracks and persons so far, as in the treatment file. Also writes photos of new persons."""
        tracks = self._findings.tracks()
        if self._photos is not None:
            from rtface.analysis.track_report import persons_of
            from rtface.contact_sheet.photos import write_photos

            faces = self._findings.faces()
            new = [
                person
                for person in persons_of(tracks)
                if person.person not in self._photographed and any(track in faces for track in person.tracks)
            ]
            write_photos(new, faces, self._photos, overwrite=True)
            self._photographed |= {person.person for person in new}
        table = treatment_file(self._input, tracks)
        return {key: table[key] for key in ("tracks", "persons")}


def treatment_file(input: Path | Address, tracks: list[TrackReport]) -> dict[str, object]:
    """Returns the treatment file for ``--treatment``. Users may edit "on" and "strength" of each track."""
    from rtface._version import __version__
    from rtface.analysis.track_report import persons_of
    from rtface.analysis.treatment import Treatment
    from rtface.analysis.treatment_file import treatments_table

    treatments = {
        track.id: Treatment(
            track.treatment["on"],
            float(track.factors.get("decided", track.strength)),
            tuple(track.treatment["reasons"]),
            first=track.treatment["first"],
            ring=track.treatment["ring"],
            gain=track.treatment["gain_db"],
            detail=track.treatment.get("detail", 1.0),
        )
        for track in tracks
    }
    notes = {
        track.id: {
            "first_s": track.first_s,
            "last_s": track.last_s,
            "mean_width_px": track.mean_width_px,
            "analysis": track.analysis,
            "verdict": track.verdict.to_dict(),
        }
        for track in tracks
    }
    persons = {
        person.person: {
            "first_s": person.first_s,
            "last_s": person.last_s,
            "seconds": person.seconds,
            "tracks": person.tracks,
        }
        for person in persons_of(tracks)
    }
    return {
        "rtface_version": __version__,
        "input": str(input),
        **treatments_table(treatments, notes),
        "persons": persons,
    }


def _list_faults(scores: dict[str, float]) -> str:
    """Lists the scores worth mentioning, the worst first."""
    from rtface.analysis.verdict import faults_of

    return ", ".join(f"{name} {score:.2f}" for name, score in faults_of(scores))


def _cells(track: TrackReport, *, verbose: bool) -> list[str]:
    gain = track.treatment["gain_db"]
    verdict = track.verdict.sentence() + (f" ({gain:+.1f} dB expected)" if verbose and gain is not None else "")
    return [
        str(track.id),
        track.person,
        f"{track.first_s:.2f} s",
        f"{track.last_s:.2f} s",
        f"{track.mean_width_px:.0f} px",
        verdict,
        _list_faults(track.analysis) or "nothing",
    ]
