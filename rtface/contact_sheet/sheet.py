"""Makes the contact sheet of a film, still or folder of stills within a time budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from rtface._version import __version__
from rtface.config.options import Options, Scope
from rtface.contact_sheet.choose import ChosenFace, choose
from rtface.contact_sheet.draw import draw
from rtface.contact_sheet.page import page
from rtface.contact_sheet.restore import FaceRestorer, SheetRow, Variant
from rtface.contact_sheet.search import Search, search
from rtface.errors import InputError, Interrupted, Message
from rtface.frame import Color, Frame
from rtface.media.files.image_names import images_of
from rtface.media.files.workfile import Target, write_text
from rtface.media.marks.provenance import describe
from rtface.media.stills.images import ImagePlan, write_image
from rtface.persons.network import PersonNetwork
from rtface.pipeline.build import film_networks, open_coded
from rtface.pipeline.plan import plan_frames
from rtface.pipeline.runtime import engine_request, open_runtime
from rtface.protocols import Runtime
from rtface.report import metadata_options
from rtface.stats import Stats
from rtface.util.av_arrays import image_from_array
from rtface.util.parse import format_time
from rtface.util.text import counted, printable
from rtface.util.urls import Address

_SEARCH_SHARE = 0.35
"""Of the time budget that the search may take."""


@dataclass(frozen=True, slots=True)
class SheetOptions:
    """What a contact sheet shows.

    Attributes:
        variants: engines and strengths, in the order of the columns.
        faces: how many faces at most.
        budget_s: seconds that it may take; one face is restored however long that takes.
    """

    variants: tuple[Variant, ...]
    faces: int = 6
    budget_s: float = 45.0


@dataclass(slots=True)
class Sheet:
    """A finished sheet.

    Attributes:
        rows: the faces, those that gain most first; one alone where a run corrects none.
        notes: what the user should know, one line each.
        seconds: how long it took.
    """

    rows: list[SheetRow]
    notes: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


def make_sheet(
    input: Path | Address,
    options: Options,
    wanted: SheetOptions,
    *,
    stats: Stats | None = None,
    stop: threading.Event | None = None,
    status: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> Sheet:
    """Searches the input for faces, chooses the most telling ones and restores each by every engine.

    Args:
        input: a film, a still or a folder of stills.
        options: of the run that is tried; its engine and strength are those of the variants.
        wanted: engines, strengths, number of faces, time budget.
        stats: receives warnings.
        stop: ends it when set.
        status: told what is being done, often.

    Raises:
        InputError: the input cannot be read, or no face was found.
        UsageError, MissingComponent, EngineError: as a run.
        Interrupted: `stop` was set.
    """
    began, stats, stop = clock(), stats or Stats(), stop or threading.Event()
    plans = {
        engine: plan_frames(input, replace(options, engine=engine), Scope.FILM | Scope.ANALYSIS)
        for engine in dict.fromkeys(variant.engine for variant in wanted.variants)
    }
    with ExitStack() as stack:
        status("loading")
        (first, plan), *others = plans.items()
        parts = film_networks(plan, stats, stack)
        runtimes: dict[str, Runtime] = {first: parts.runtime}
        for name, other in others:
            runtimes[name] = open_runtime(
                engine_request(other.options), options.device, stack, threads=plan.threads.engines, warn=stats.warn
            )
        device = parts.runtime.device
        found = search(
            input,
            options,
            parts.tracker,
            device,
            PersonNetwork(),
            open_coded(stats, plan.threads.engines.engine),
            limit_s=_SEARCH_SHARE * wanted.budget_s,
            stop=stop.is_set,
            found=lambda done, of, faces: status(f"searching: {done} of {of} frames, {counted(faces, 'face')}"),
        )
        if stop.is_set():
            raise Interrupted
        faces = [face for sample in found.samples for face in sample.faces]
        if not faces:
            raise InputError(_nothing(input, found))
        heavy = any(runtime.engines.pick(face.width).heavy for runtime in runtimes.values() for face in faces[:1])
        restorer = FaceRestorer(replace(plan, options=options), parts.tracker, stop, found.clock_start, ahead=heavy)
        sheet, longest = Sheet([], _notes(found)), 0.0
        if options.colour == "restore":
            sheet.notes.append(
                "--colour restore: the sheet shows the input as it is; a run takes its fading out, where there is any"
            )
        mapped = {variant.engine for variant in wanted.variants if variant.invented}
        # More than are wanted: of some the tracker may lose sight at once.
        choices = choose(faces, 2 * wanted.faces)
        left = min(wanted.faces, len(choices))
        if options.correct == "auto":
            gaining = [choice for choice in choices if choice.face.gain]
            if 0 < len(gaining) < len(choices):
                sheet.notes.append(
                    Message(
                        "faces that a run leaves alone are not shown; {--correct:always} shows what it could do",
                        code="sheet_left_alone",
                    )
                )
            choices, left = gaining or choices, min(wanted.faces, len(gaining)) or 1
        for choice in choices:
            if len(sheet.rows) == left:
                break
            if sheet.rows and clock() - began + longest > wanted.budget_s:
                sheet.notes.append(
                    f"{len(sheet.rows)} of {left} faces are shown, because the time is up: --budget allows more"
                )
                break
            since = clock()
            row = _row(choice, restorer, runtimes, sheet.rows, left, status, mapped=mapped)
            longest = max(longest, clock() - since)
            if row is not None:
                sheet.rows.append(row)
        if not sheet.rows:
            raise InputError(
                "{path}: its faces are lost at once (single frames, dissolves, or scenes of less than a second); "
                "choose another part with {--start} and {--end}",
                code="sheet_faces_lost",
                path=_name(input),
            )
        sheet.rows = [row for row in sheet.rows if row.corrected] or sheet.rows[:1]
        sheet.rows.sort(key=lambda row: (not row.choice.face.whole, -row.choice.face.gain))
        sheet.seconds = clock() - began
        return sheet


def write_sheet(
    sheet: Sheet,
    input: Path | Address,
    options: Options,
    variants: Sequence[Variant],
    image: Target,
    html: Target,
    command: Callable[[Variant], str],
) -> None:
    """Writes the sheet as PNG and as a page.

    Args:
        image, html: where to.
        command: the command line for a variant.

    Raises:
        OutputError: one of them cannot be written.
    """
    generator = f"rtface {__version__}"
    title = f"{printable(_name(input))}: {counted(len(sheet.rows), 'face')}"
    drawn = Frame(
        image_from_array(draw(sheet.rows, variants, f"{title} ({generator})", options.look), "rgb"),
        0,
        Fraction(1, 25),
        color=Color("rgb", True),
        corrected=True,
    )
    engines = "+".join(dict.fromkeys(variant.engine for variant in variants))
    write_image(
        drawn,
        ImagePlan(image, "png"),
        tags=describe(engines, __version__, max(variant.strength for variant in variants), metadata_options(options)),
    )
    write_text(html, page(sheet.rows, variants, title, generator, command, options.look))


def _row(
    choice: ChosenFace,
    restorer: FaceRestorer,
    runtimes: dict[str, Runtime],
    rows: Sequence[SheetRow],
    count: int,
    status: Callable[[str], None],
    *,
    mapped: Collection[str],
) -> SheetRow | None:
    """A further row of the sheet; None where the face is lost at once, or is in one of the `rows` already."""
    number = len(rows) + 1
    status(f"face {number} of {count}: following it")
    device = next(iter(runtimes.values())).device
    followed = next(filter(None, (restorer.follow(face, device) for face in (choice.face, *choice.others))), None)
    if followed is None or (choice.face.image is None and any(followed.shown.repeats(row.shown) for row in rows)):
        return None
    row = SheetRow(choice, followed.shown, {}, {})
    for engine, runtime in runtimes.items():
        status(f"face {number} of {count}: {engine}")
        restored = restorer.restore(followed, engine, runtime, invented=engine in mapped)
        row.crops[engine], row.tracks[engine] = restored.crop, restored.track
        if restored.map is not None:
            row.maps[engine] = restored.map
    return row


def _notes(found: Search) -> list[str]:
    notes = (
        [f"searched {len(found.samples)} frames of {found.wanted}: the time for the search was up"]
        if (found.wanted > len(found.samples) + len(found.unreadable) and len(found.samples) < found.wanted // 2)
        else []
    )
    if found.unreadable:
        notes.append(f"{len(found.unreadable)} images could not be read, the first: {found.unreadable[0]}")
    return notes


def _nothing(input: Path | Address, found: Search) -> str:
    """The message where no face was found: it says how much was searched."""
    looked = f"{_name(input)}: no face was found on {len(found.samples)} of {found.wanted} "
    if isinstance(input, Path) and images_of(input):
        return looked + "images; rtface finds faces from about 40 pixels wide"
    first, last = (found.samples[k].time - found.clock_start for k in (0, -1)) if found.samples else (0, 0)
    return Message(
        "{looked}frames between {first} and {last}; rtface finds faces from about 40 pixels wide: name a part with "
        "faces by {--start} and {--end}, or give more time by --budget",
        code="sheet_no_face",
        looked=looked,
        first=format_time(float(first)),
        last=format_time(float(last)),
    )


def _name(input: Path | Address) -> str:
    return input.name or str(input)
