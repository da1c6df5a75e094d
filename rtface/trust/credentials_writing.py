"""Embeds signed C2PA content credentials in outputs (extra ``credentials``)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rtface._version import __version__
from rtface.config.options import Options, OutputOptions
from rtface.engine.learned import MARK
from rtface.errors import OutputError, UsageError, message_of
from rtface.media.files.workfile import Target, WorkFile, full
from rtface.media.marks.provenance import DIGITAL_SOURCE_TYPE, ENHANCED, GENERATED, Change
from rtface.media.stills.image_write import encode_by
from rtface.report import Report, unnamed
from rtface.trust.check_result import OnProgress
from rtface.trust.credentials import FACES, KINDS, SETTINGS, can_hold, read_open
from rtface.trust.sidecar import OutputDetails, area_fields, engine_fields, option_fields
from rtface.trust.signing import SigningKey, from_extra
from rtface.util.urls import Address

_UNKNOWN = "application/octet-stream"


def signing_key(options: OutputOptions, input: Path | Address | None = None) -> SigningKey | None:
    """Loads and checks the key of ``--sign``. Returns None without that option.

    Args:
        options: options of the run.
        input: input of the run; None for a live run.

    Raises:
        MissingComponent: the extra is not installed.
        UsageError: the key or its certificate cannot be used, or the input is not a file.
    """
    if options.sign is None:
        return None
    from_extra("c2pa")
    if isinstance(input, Address):
        raise UsageError(
            "credentials identify the INPUT, so {--sign} needs a file or a folder as INPUT", code="credentials_input"
        )
    key = SigningKey.load(options.sign)
    if not options.dry_run:
        _check_key(key)
    return key


def _check_key(key: SigningKey) -> None:
    """Checks a key by signing an image in memory. Raises UsageError if C2PA rejects the key or its certificate."""
    import av

    data, out = encode_by("png", av.VideoFrame(16, 16, "rgb24")), io.BytesIO()
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.edited"}]}}
    probe = {"claim_generator_info": [{"name": "rtface"}], "assertions": [actions]}
    try:
        _sign(probe, key, (io.BytesIO(data), "image/png"), (io.BytesIO(data), "image/png"), out)
        credentials = read_open("image/png", out)
        why = "; ".join(credentials.problems) if credentials else "nothing was signed"
    except from_extra("c2pa").C2paError as error:
        why = message_of(error)
    if why:
        raise UsageError(
            "{--sign}: the certificate and its key cannot be used for credentials ({why})",
            code="certificate_unfit",
            why=why,
        )


def sign_output(
    key: SigningKey,
    output: Path,
    input: Path,
    options: Options,
    report: Report,
    details: OutputDetails,
    doing: OnProgress | None = None,
) -> str:
    """Signs a finished output, or the stills of a folder. Returns the line for the user.

    Raises:
        OutputError: a file cannot be signed. The file itself is complete, but has no credentials.
    """
    stills = [output / name for name in details.names] if output.is_dir() else [output]
    for number, path in enumerate(stills):
        if can_hold(path):
            parent = input / path.name if input.is_dir() else input
            values = manifest(parent, options, report, details, number if details.names else None, doing=doing)
            sign_file(path, values, parent, key)
    return f"{output.name if len(stills) == 1 else f'{len(stills)} stills'}: signed"


def sign_file(path: Path, manifest: Mapping[str, Any], parent: Path | str, key: SigningKey) -> None:
    """Adds credentials to a finished file, which is replaced in one step.

    Args:
        path: the file; existing credentials are replaced.
        manifest: manifest for c2pa's builder; an action for opening the parent is added.
        parent: the input, whose credentials are included; for a camera or stream, only its name.
        key: signing key.

    Raises:
        OutputError: the file cannot be signed or written; it stays unchanged.
    """
    cleanup = ExitStack()
    try:
        work = WorkFile(Target(path, str(path), overwrite=True))
        cleanup.callback(work.discard)
        with ExitStack() as stack:
            source, out = stack.enter_context(path.open("rb")), stack.enter_context(work.edited())
            title, origin = str(parent), None
            if isinstance(parent, Path):
                title, kind = parent.name, KINDS.get(parent.suffix.lower(), _UNKNOWN)
                origin = (stack.enter_context(parent.open("rb")), kind)
            _sign(manifest, key, (source, KINDS[path.suffix.lower()]), origin, out, title)
        work.publish()
        cleanup.pop_all()
    except (from_extra("c2pa").C2paError, OSError) as error:
        why = full(error) or error.strerror if isinstance(error, OSError) else message_of(error)
        raise OutputError(
            "{path}: could not be signed ({why}); it is complete, but has no credentials",
            code="not_signed",
            path=path,
            why=why,
        ) from error
    finally:
        cleanup.close()


def _sign(
    manifest: Mapping[str, Any],
    key: SigningKey,
    source: tuple[Any, str],
    parent: tuple[Any, str] | None,
    out: Any,
    title: str = "input",
) -> None:
    c2pa = from_extra("c2pa")
    ingredient = {"title": title, "relationship": "parentOf"}
    if parent is None:
        manifest = {**manifest, "ingredients": [{**ingredient, "format": _UNKNOWN}]}
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(key.algorithm.encode(), key.certificates, key.key, None))
    with c2pa.Context.from_dict(SETTINGS) as context, c2pa.Builder(json.dumps(manifest), context) as builder:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        if parent is not None:
            builder.add_ingredient(ingredient, parent[1], parent[0])
        builder.sign(signer, source[1], source[0], out)


def manifest(
    input: Path | str,
    options: Options,
    report: Report,
    details: OutputDetails,
    still: int | None = None,
    *,
    doing: OnProgress | None = None,
) -> dict[str, Any]:
    """Returns a manifest for c2pa's builder.

    Args:
        input: input of the run; for a camera or stream, its name.
        options, report, details: options, report and output details of the run.
        still: number of the still; None for a film.
        doing: see `write_sidecar`.
    """
    agent: dict[str, Any] = {"name": "rtface", "version": __version__}
    is_changed = still is None or any(number == still for number, _ in details.changed.rows())
    change = details.changed.change if is_changed else Change.NOTHING
    names = ["c2pa.edited"] if change else []
    names += ["c2pa.transcoded"] if still is None else []
    actions = [{"action": name, "softwareAgent": agent} for name in names or ["c2pa.converted"]]
    composite = Change.CORRECTED | Change.FILLED
    terms = {Change.GENERATED: GENERATED, composite: DIGITAL_SOURCE_TYPE, Change.FILTERED: ENHANCED}
    if kind := next((term for flag, term in terms.items() if change & flag), None):
        actions[0]["digitalSourceType"] = kind
    faces = {
        **area_fields(input, options, report, details, still, doing=doing),
        "engines": _anonymous_engines(report),
        "options": _without_names(options),
        "changes": change.names,
    }
    return {
        "claim_generator_info": [agent],
        "title": Path(report.output or "").name or "output",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": FACES, "data": faces},
        ],
    }


def _anonymous_engines(report: Report) -> dict[str, dict[str, str]]:
    """Returns `engine_fields` without identifying data: names of persons, and hashes of learnt data."""
    engines = engine_fields(report).items()
    return {name: values for name, values in engines if MARK not in name} | {
        f"{name.partition(MARK)[0]}{MARK}named": {key: values[key] for key in ("version", "weights_sha256")}
        for name, values in engines
        if MARK in name
    }


def _without_names(options: Options) -> dict[str, Any]:
    """Returns `option_fields` for recipients of the output. Names of persons and texts of stages are left out."""
    fields = option_fields(options)
    fields.pop("person", None)
    anonymous = {"faces": unnamed(options.faces), "stages": [stage.partition(":")[0] for stage in options.stages]}
    return fields | {key: value for key, value in anonymous.items() if key in fields}
