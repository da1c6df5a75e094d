"""Carries out a planned run: steps before and after films, stills and jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from rtface.enhance.face_filter import unseen
from rtface.errors import Interrupted, Message, OutputError
from rtface.media.files.image_names import has_still_name
from rtface.media.files.leftovers import clear_leftovers, remove_unfinished_files
from rtface.pipeline.plan import RunPlan
from rtface.pipeline.proposals import little_seen, missed_persons, proposals
from rtface.pipeline.runtime import BuildProgress
from rtface.report import Report
from rtface.stats import Stats
from rtface.trust.credentials import can_hold
from rtface.trust.credentials_writing import sign_output
from rtface.trust.sidecar import OutputDetails, write_sidecar


def carry_out(
    plan: RunPlan,
    make: Callable[[Report], OutputDetails | None],
    stats: Stats,
    *,
    stop: threading.Event,
    building: BuildProgress | None = None,
    signed: Callable[[], object] = lambda: None,
) -> Report:
    """Does a run's work, finishes its output and writes its report.

    Args:
        plan: plan of the run.
        make: function that does the work. It returns the output's details, or None if an earlier call finished it.
        stats: receives warnings.
        stop: event that ends the work.
        building: called with the name of the step on the finished output, and its share done (0…1).
        signed: called as soon as a signature is in the finished output.

    Raises:
        Errors of `make`; Interrupted for Ctrl-C.
        OutputError, InputError: the output is complete, but cannot be signed or described.
    """
    options = plan.options
    for key, line in plan.warnings.items():
        stats.warn(key, line)
    for target in plan.outputs.values():
        clear_leftovers(target)
    if plan.stills and plan.folder:
        remove_unfinished_files(filter(has_still_name, sorted(plan.outputs["film"].path.glob(".*.partial*"))))
    report, began = plan.report(), perf_counter()
    details: OutputDetails | None = None
    failure: BaseException | None = None
    try:
        details = make(report)
        _settle(plan, report, stats, began)
        if details is not None:
            report.note_uncorrected()
            lines = proposals(report.tracks, engine=options.engine, look=options.look_name, scale=options.scale)
            report.notes += little_seen([one for one in lines if one.code != "propose_always"])  # noted above
            report.notes += missed_persons(options.person, report.tracks)
            report.notes += unseen(options.faces, options.person, plan.treatments, report.tracks)
        finish(plan, report, details, stop=stop, building=building, signed=signed)
    except BaseException as error:
        failure = error if isinstance(error, Interrupted) or not isinstance(error, KeyboardInterrupt) else Interrupted()
        _settle(plan, report, stats, began)
        report.ended_by(failure)
        if failure is error:
            raise
        raise failure from None
    finally:
        # A run that ended before its first frame has no report, unless it was interrupted.
        if "report" in plan.outputs and (
            details is not None if failure is None else report.interrupted or report.frames_out
        ):
            try:
                report.save(plan.outputs["report"])
            except OutputError as error:  # this must not hide the error that ended the run
                if failure is None:
                    raise
                stats.warn("report", str(error))
    return report


def _settle(plan: RunPlan, report: Report, stats: Stats, began: float) -> None:
    """Fills in the report after the work has ended."""
    report.seconds = report.seconds or round(perf_counter() - began, 3)
    if not plan.job:
        report.fps = report.fps or round(report.frames_out / max(report.seconds, 1e-3), 2)
    report.warn_hidden(stats)
    report.fill(stats)


def finish(
    plan: RunPlan,
    report: Report,
    details: OutputDetails | None,
    *,
    stop: threading.Event,
    building: BuildProgress | None = None,
    signed: Callable[[], object] = lambda: None,
) -> None:
    """Signs a finished output and writes its sidecar, even if signing fails. Arguments as in `carry_out`."""
    options, outputs = plan.options, plan.outputs
    unsigned: OutputError | None = None

    def show(step: str, done: float) -> None:
        if stop.is_set():
            raise Interrupted
        if building is not None:
            building(step, done)

    inside = plan.stills if plan.folder else can_hold(outputs["film"].path)
    if plan.key is not None and isinstance(plan.input, Path) and inside and details is not None:
        try:
            film = outputs["film"].path
            report.notes.append(sign_output(plan.key, film, plan.input, options, report, details, show))
            signed()
        except OutputError as error:
            unsigned = error
            again = (
                "signs it"
                if plan.job
                else Message("with {--overwrite=True} makes it again and signs it", code="signs_again")
            )
            error.message = Message(
                "{what}; correct the cause, and the same command {again}",
                code="not_signed_again",
                what=error.message,
                again=again,
                path=outputs["film"].path,
                why=error.values.get("why", error),
            )
    if "sidecar" in outputs and details is not None:
        report.notes.append(
            write_sidecar(
                outputs["sidecar"],
                outputs["film"].path,
                plan.input,
                options,
                report,
                details,
                key=plan.key,
                doing=lambda step, done: show(f"sidecar ({step})", done),
            )
        )
    if unsigned is not None:
        raise unsigned
