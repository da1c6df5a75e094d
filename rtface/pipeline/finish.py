"""Carries out a planned run: the steps before and after the work on films, stills and jobs."""

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
from rtface.pipeline.proposals import little_seen, missed_person_notes, proposals
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
    on_progress: BuildProgress | None = None,
    on_signed: Callable[[], object] = lambda: None,
) -> Report:
    """Performs a run, finishes its output and writes its report.

    Args:
        plan: plan of the run.
        make: does the work. Returns the output's details, or None if an earlier call has finished the output.
        stats: receives warnings.
        stop: event that ends the work.
        on_progress: called during steps on the finished output, with the step's name and the fraction done (0…1).
        on_signed: called as soon as the finished output contains a signature.

    Raises:
        Errors of `make`; Interrupted after Ctrl-C.
        OutputError, InputError: the output is complete, but cannot be signed or described.
    """
    options = plan.options
    for key, line in plan.warnings.items():
        stats.warn(key, line)
    for target in plan.outputs.values():
        clear_leftovers(target)
    if plan.stills and plan.folder:
        remove_unfinished_files(filter(has_still_name, sorted(plan.outputs["film"].path.glob(".*.partial*"))))
    report, started = plan.report(), perf_counter()
    details: OutputDetails | None = None
    failure: BaseException | None = None
    try:
        details = make(report)
        _complete_report(plan, report, stats, started)
        if details is not None:
            report.note_uncorrected()
            lines = proposals(report.tracks, engine=options.engine, look=options.look_name, scale=options.scale)
            # `note_uncorrected` already proposes --correct always in its message.
            report.notes += little_seen([line for line in lines if line.code != "propose_always"])
            report.notes += missed_person_notes(options.person, report.tracks)
            report.notes += unseen(options.faces, options.person, plan.treatments, report.tracks)
        finish(plan, report, details, stop=stop, on_progress=on_progress, on_signed=on_signed)
    except BaseException as error:
        failure = error if isinstance(error, Interrupted) or not isinstance(error, KeyboardInterrupt) else Interrupted()
        _complete_report(plan, report, stats, started)
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
            except OutputError as error:  # must not hide the error that ended the run
                if failure is None:
                    raise
                stats.warn("report", str(error))
    return report


def _complete_report(plan: RunPlan, report: Report, stats: Stats, started: float) -> None:
    """Adds times and counters to the report after the work has ended."""
    report.seconds = report.seconds or round(perf_counter() - started, 3)
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
    on_progress: BuildProgress | None = None,
    on_signed: Callable[[], object] = lambda: None,
) -> None:
    """Signs a finished output and writes its sidecar, even if signing fails. The arguments are those of `carry_out`."""
    options, outputs = plan.options, plan.outputs
    unsigned: OutputError | None = None

    def show(step: str, done: float) -> None:
        if stop.is_set():
            raise Interrupted
        if on_progress is not None:
            on_progress(step, done)

    embeds_signature = plan.stills if plan.folder else can_hold(outputs["film"].path)
    if plan.key is not None and isinstance(plan.input, Path) and embeds_signature and details is not None:
        try:
            film = outputs["film"].path
            report.notes.append(sign_output(plan.key, film, plan.input, options, report, details, show))
            on_signed()
        except OutputError as error:
            unsigned = error
            next_step = (
                "signs the output"
                if plan.job
                else Message("with {--overwrite=True} creates the output again and signs it", code="signs_again")
            )
            error.message = Message(
                "{what}; correct the cause, then the same command {again}",
                code="not_signed_again",
                what=error.message,
                again=next_step,
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
