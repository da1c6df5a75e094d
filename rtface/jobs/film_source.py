"""Opens the film of a job, from the start or a segment."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rtface.jobs.plan import JobPlan
from rtface.media.read.frame_form import Fields
from rtface.media.read.source import FileSource
from rtface.media.stills.images import SequenceSource
from rtface.pipeline.build import open_film, open_scans
from rtface.pipeline.film_plan import FilmPlan, makes_folder, plan_film
from rtface.pipeline.plan import FramePlan
from rtface.stats import Stats

# Seconds of lead-in, in which faces are tracked and measured if a worker did not process the previous segment itself:
# `LEAD_IN_S` if that segment's record tells how each face is treated, `UNKNOWN_LEAD_IN_S` if it has no record.
LEAD_IN_S, UNKNOWN_LEAD_IN_S = Fraction(2), Fraction(6)
# Seconds at the end of a lead-in in which faces are also corrected.
CORRECTED_LEAD_IN_S = Fraction(1)


def open_whole(frames: FramePlan, stats: Stats | None = None, *, hold: bool = True) -> FileSource | SequenceSource:
    """Opens a film with its cut, without decoding frames.

    Args:
        frames: plan with the film.
        stats: receives warnings; None discards them.
        hold: see `SequenceSource`.
    """
    path, options, stats = frames.input, frames.options, stats or Stats(logs=False)
    if options.sequence and isinstance(path, Path):
        return open_scans(path, options, stats, hold=hold)
    return FileSource(
        path,
        start=options.start,
        end=options.end,
        threads=1,
        stats=stats,
        strict=options.strict,
        scale=options.scale,
        chosen=options.fields,
        variant=options.variant,
    )


def open_from(
    plan: JobPlan,
    number: int,
    lead_in: Fraction,
    frames: FramePlan,
    stats: Stats,
    stop: threading.Event,
    stack: ExitStack,
    *,
    fields: Fields | None = None,
    on_gpu: bool = False,
) -> FileSource | SequenceSource:
    """Opens a film some seconds before a segment. For arguments and errors see `rtface.pipeline.build.open_film`."""
    start, options, threads = plan.starts[number] - lead_in, frames.options, frames.threads
    if options.sequence:
        source = open_film(
            plan.source, options, threads, Stats(logs=False), stop, stack, hold=plan.run["folder"] is None
        )
        assert isinstance(source, SequenceSource)
        source.go_to(start, stats)
        return source
    if number:
        options = replace(options, start=float(max(start - plan.begins, Fraction(options.start or 0))) or None)
    return open_film(plan.source, options, threads, stats, stop, stack, size=plan.size, fields=fields, on_gpu=on_gpu)


def plan_source(frames: FramePlan, output: str | None = None, stats: Stats | None = None) -> FilmPlan:
    """Opens a film with `open_whole` and plans it with `plan_film`."""
    with closing(open_whole(frames, stats, hold=not makes_folder(frames, output))) as source:
        return plan_film(frames, source, output=output)
