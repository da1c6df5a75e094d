"""Signs the outputs of a run: credentials inside where the format holds them, else a signed sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtface._version import __version__
from rtface.config.options import Options, OutputOptions
from rtface.engine.learned import MARK
from rtface.errors import UsageError
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE, ENHANCED, GENERATED, Change
from rtface.report import Report, unnamed
from rtface.trust.credentials import can_hold, check_key, library, sign_file
from rtface.trust.sidecar import Made, engines_said, first_stage_said, options_said
from rtface.trust.signing_key import SigningKey
from rtface.util.urls import Address


@dataclass(frozen=True, slots=True)
class Signing:
    """How the outputs of a run are signed.

    Attributes:
        key: signs.
        timestamp: address of a time-stamp server, or None.
    """

    key: SigningKey
    timestamp: str | None

    @classmethod
    def asked(cls, options: OutputOptions, input: Path | Address | None = None) -> Signing | None:
        """What the options ask for, checked before any work; None where nothing is to be signed.

        Args:
            options: of the run.
            input: None for a live run.

        Raises:
            MissingComponent: the extra is not installed.
            UsageError: the key or its certificate cannot be used, or the input is no file.
        """
        if not options.credentials and options.sign is None:
            if options.timestamp is not None:
                raise UsageError(
                    "{--timestamp} is for signed outputs; give {--credentials=True} or {--sign}, or leave it out",
                    code="timestamp_unsigned",
                )
            return None
        library()
        if isinstance(input, Address):
            raise UsageError(
                "{--credentials=True} name the INPUT, which has to be a file or a folder", code="credentials_input"
            )
        signing = cls(SigningKey.load(options.sign), options.timestamp)
        if not options.dry_run:
            check_key(signing.key, signing.timestamp)
        return signing

    def sign(self, output: Path, input: Path, options: Options, report: Report, made: Made) -> str:
        """Puts credentials into a finished output, or into the stills of a folder; the line for the user.

        Raises:
            OutputError: one cannot be signed; it is whole, without credentials.
        """
        stills = [output / name for name in made.names] if output.is_dir() else [output]
        whole = manifest(options, report, made)
        for number, path in enumerate(stills):
            if not can_hold(path):
                continue
            own = whole if not made.names else manifest(options, report, made, number)
            sign_file(path, own, input / path.name if input.is_dir() else input, self.key, self.timestamp)
        return signed(output.name if len(stills) == 1 else f"{len(stills)} stills", options)


def signed(what: str, options: OutputOptions) -> str:
    """The line for the user where something was signed."""
    return f"{what}: signed" + ("" if options.sign else " with a key of this computer, which proves no name")


def manifest(
    options: Options,
    report: Report,
    made: Made,
    still: int | None = None,
    *,
    begin: float | None = None,
) -> dict[str, Any]:
    """What is signed, for c2pa's builder.

    Args:
        options, report, made: of the run.
        still: number of the still; None for a film.
        begin: where the output begins on the clock of the report's tracks, seconds; None for that of ``--start``.
    """
    agent = {"name": "rtface", "version": __version__}
    touched = still is None or any(number == still for number, _ in made.changed.rows())
    change = made.changed.change if touched else Change.NOTHING
    actions: list[dict[str, Any]] = []
    if change:
        edited: dict[str, Any] = {"action": "c2pa.edited", "softwareAgent": agent}
        kind = (
            GENERATED
            if change & Change.GENERATED
            else DIGITAL_SOURCE_TYPE
            if change & Change.CORRECTED
            else ENHANCED
            if change & Change.FILTERED
            else ""
        )
        if kind:
            edited["digitalSourceType"] = kind
        ranges = _ranges(report, options.start or 0.0 if begin is None else begin) if still is None else []
        if ranges:
            edited["changes"] = ranges
        actions.append(edited)
    if still is None:
        actions.append({"action": "c2pa.transcoded", "softwareAgent": agent})
    if not actions:
        actions.append({"action": "c2pa.converted", "softwareAgent": agent})
    faces = {
        "engines": _unnamed_engines(report),
        "first_stage": first_stage_said(report),
        "options": _without_names(options),
        "changes": [k.name.lower() for k in Change if k and k in change and k.name],
        "treatments": [
            {k: v for k, v in track.to_dict().items() if k != "analysis"}
            | {"person": unnamed(track.person), "treatment": _unnamed_treatment(track.treatment)}
            for track in report.tracks
        ]
        if still is None
        else [],
    }
    return {
        "claim_generator_info": [agent],
        "title": Path(report.output or "").name or "output",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": "org.rtface.faces", "data": faces},
        ],
    }


def _unnamed_engine(name: str) -> str:
    """Names of engines, joined by +, with "named" in the place of the person whose weights one has."""
    parts = [one.partition(MARK) for one in name.split("+")]
    return "+".join(f"{base}{mark}{person and 'named'}" for base, mark, person in parts)


def _unnamed_treatment(treatment: dict[str, Any]) -> dict[str, Any]:
    return {k: _unnamed_engine(v) if k == "engine" and isinstance(v, str) else v for k, v in treatment.items()}


def _unnamed_engines(report: Report) -> dict[str, dict[str, str]]:
    """`engines_said` without anything by which a person could be told: names, and hashes of what was learnt."""
    return {
        _unnamed_engine(name): {k: v for k, v in said.items() if MARK not in name or k in ("version", "weights_sha256")}
        for name, said in engines_said(report).items()
    }


def _without_names(options: Options) -> dict[str, Any]:
    """`options_said` for those who get the output: without names of persons, and without what stages write."""
    said = options_said(options)
    said.pop("person", None)
    named = {"faces": unnamed(options.faces), "stages": [stage.partition(":")[0] for stage in options.stages]}
    return said | {key: value for key, value in named.items() if key in said}


def _ranges(report: Report, begin: float) -> list[dict[str, Any]]:
    """The times in the output at which each face was corrected."""
    return [
        {
            "description": f"face {track.id}: {track.verdict.sentence()}",
            "region": [
                {
                    "type": "temporal",
                    "time": {
                        "type": "npt",
                        "start": f"{max(0.0, span.from_s - begin):.3f}",
                        "end": f"{max(0.0, span.to_s - begin):.3f}",
                    },
                }
            ],
        }
        for track in report.tracks
        if track.frames_corrected
        for span in track.spans
        if span.on
    ]
