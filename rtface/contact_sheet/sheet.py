"""Makes the contact sheet of a film, still or folder of stills."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from rtface._version import __version__
from rtface.config.options import Options
from rtface.contact_sheet.draw import draw
from rtface.contact_sheet.restore import SheetRow, Variant, restore_face
from rtface.contact_sheet.search import Sighting, next_face, search
from rtface.errors import InputError, Interrupted, Message
from rtface.frame import Color, Frame
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import describe
from rtface.media.stills.images import ImagePlan, write_image
from rtface.persons.network import PersonNetwork
from rtface.pipeline.build import film_networks, open_coded
from rtface.pipeline.plan import plan_frames
from rtface.pipeline.runtime import engine_request, open_runtime
from rtface.report import metadata_options
from rtface.stats import Stats
from rtface.util.av_arrays import image_from_array
from rtface.util.text import counted, printable
from rtface.util.urls import Address


@dataclass(slots=True)
class Sheet:
    """A finished sheet.

    Attributes:
        rows: the faces, those that gain most first; one alone where a run corrects none.
        notes: what the user should know, one line each.
    """

    rows: list[SheetRow]
    notes: list[str] = field(default_factory=list[str])


def make_sheet(
    input: Path | Address,
    options: Options,
    variants: Sequence[Variant],
    most: int = 6,
    *,
    stop: threading.Event | None = None,
    status: Callable[[str], None] = lambda line: None,
) -> Sheet:
    """Searches the input for faces, chooses the most telling ones and restores each by every engine.

    Args:
        input: a film, a still or a folder of stills.
        options: of the run that is tried; its engine and strength are those of the variants.
        variants: engines and strengths, in the order of the columns.
        most: how many faces at most.
        stop: ends it when set.
        status: told what is being done, often.

    Raises:
        InputError: the input cannot be read, or no face was found.
        UsageError, MissingComponent, EngineError: as a run.
        Interrupted: `stop` was set.
    """
    stats, stop = Stats(), stop or threading.Event()
    plans = {
        engine: plan_frames(input, replace(options, engine=engine))
        for engine in dict.fromkeys(variant.engine for variant in variants)
    }
    with ExitStack() as stack:
        status("loading")
        (first, plan), *others = plans.items()
        parts, threads = film_networks(plan, stats, stack), plan.threads.engines
        runtimes = {first: parts.runtime}
        for name, other in others:
            request = engine_request(other.options)
            runtimes[name] = open_runtime(request, options.device, stack, threads=threads, warn=stats.warn)
        embed, coded = PersonNetwork(), open_coded(stats, threads.engine)
        faces, sheet = list[Sighting](), Sheet([])
        for number, found in enumerate(search(input, options, parts.tracker, parts.runtime.device, embed, coded), 1):
            faces += found
            status(f"searching: {counted(number, 'frame')}, {counted(len(faces), 'face')}")
            if stop.is_set():
                raise Interrupted
        if options.colour == "restore":
            sheet.notes.append("--colour restore: the sheet shows the input as it is; a run takes out its fading")
        if options.correct == "auto" and (gaining := [face for face in faces if face.gain]):
            if len(gaining) < len(faces):
                alone = "faces that a run leaves alone are not shown; {--correct:always} shows what it could do"
                sheet.notes.append(Message(alone, code="sheet_left_alone"))
            faces = gaining
        shown = list[Sighting]()
        for _ in range(2 * most):  # of some the tracker loses sight at once
            if not faces or len(sheet.rows) == most:
                break
            face = next_face(faces, shown)
            status(f"restoring face {len(sheet.rows) + 1} of {most}")
            row = restore_face(face, replace(plan, options=options), parts.tracker, runtimes, stop)
            if row is not None:
                sheet.rows.append(row)
                shown.append(face)
            faces = [one for one in faces if one is not face and not (row is not None and one.repeats(face))]
    if not sheet.rows:
        raise InputError(
            "{path}: no face can be shown; rtface finds faces from about 40 pixels wide: name a part with faces by "
            "{--start} and {--end}",
            code="sheet_no_face",
            path=_name(input),
        )
    sheet.rows = [row for row in sheet.rows if row.corrected] or sheet.rows[:1]
    sheet.rows.sort(key=lambda row: (not row.face.whole, -row.face.gain))
    return sheet


def write_sheet(
    sheet: Sheet, input: Path | Address, options: Options, variants: Sequence[Variant], image: Target
) -> None:
    """Writes the sheet as PNG, marked as made by the engines.

    Args:
        sheet: that was made.
        input, options, variants: as of `make_sheet`.
        image: where to.

    Raises:
        OutputError: it cannot be written.
    """
    title = f"{printable(_name(input))}: {counted(len(sheet.rows), 'face')} (rtface {__version__})"
    drawn = Frame(
        image_from_array(draw(sheet.rows, variants, title), "rgb"),
        0,
        Fraction(1, 25),
        color=Color("rgb", True),
        corrected=True,
    )
    engines = "+".join(dict.fromkeys(variant.engine for variant in variants))
    strength = max(variant.strength for variant in variants)
    tags = describe(engines, __version__, strength, metadata_options(options))
    write_image(drawn, ImagePlan(image, "png"), tags=tags)


def _name(input: Path | Address) -> str:
    return input.name or str(input)
