"""Makes and draws the contact sheet of a film or stills."""

from __future__ import annotations

import tempfile
import textwrap
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from rtface._version import __version__
from rtface.analysis.verdict import LEFT_ALONE, faults_of
from rtface.config.options import Options
from rtface.contact_sheet.restore import CELL, SheetRow, restore_face
from rtface.contact_sheet.search import Sighting, next_face, search
from rtface.device.cpu.device import CpuDevice
from rtface.errors import InputError, Interrupted, Message, UsageError
from rtface.frame import Bytes, Color, Frame
from rtface.media.files.image_names import is_image
from rtface.media.files.workfile import Target
from rtface.media.marks.provenance import describe
from rtface.media.stills.images import ImagePlan, plan_image, read_image, write_image
from rtface.persons.network import PersonNetwork
from rtface.pipeline.build import open_coded, open_tracker
from rtface.pipeline.plan import plan_frames
from rtface.pipeline.repair import StillPreparation
from rtface.pipeline.runtime import engine_request, open_runtime
from rtface.protocols import Runtime
from rtface.report import metadata_options
from rtface.stats import Stats
from rtface.util.av_arrays import image_from_array
from rtface.util.parse import format_time
from rtface.util.text import counted, encodable, printable
from rtface.util.urls import Address

_GAP, _LABEL, _CAPTION, _TITLE = 8, 250, 26, 40
_LETTERS = 32  # maximum number of letters in a line of a label
_TEXT, _SMALL = 17, 15
_PAPER, _INK, _FAINT = (24, 24, 26), (235, 235, 235), (165, 165, 170)


@dataclass(slots=True)
class Sheet:
    """Holds a finished sheet.

    Attributes:
        rows: the faces, largest gain first; only one face if a run corrects none.
        steps: name and small picture of each step of `rtface.pipeline.repair.StillPreparation`; first, the still.
        notes: notes for the user, one line each.
    """

    rows: list[SheetRow]
    steps: list[tuple[str, Bytes]] = field(default_factory=list[tuple[str, Bytes]])
    notes: list[str] = field(default_factory=list[str])


def make_sheet(
    input: Path | Address,
    options: Options,
    engines: Sequence[str],
    max_faces: int = 6,
    *,
    stop: threading.Event | None = None,
    status: Callable[[str], None] = lambda line: None,
) -> Sheet:
    """Restores the most informative faces of the input with each engine.

    Args:
        input: a film, a still or a folder of stills.
        options: options of the run to try, except its engine and strength.
        engines: engines in the order of the columns.
        max_faces: maximum number of faces.
        stop: when set, ends the search.
        status: called often with the current step.

    Raises:
        InputError: the input cannot be read, or no face was found.
        UsageError, MissingComponent, EngineError: see `rtface.run`.
        Interrupted: `stop` was set.
    """
    stats, stop = Stats(), stop or threading.Event()
    plan = plan_frames(input, options)
    with ExitStack() as stack:
        status("loading")
        tracker, threads = open_tracker(options, stack), plan.threads.engines
        runtimes = dict[str, Runtime]()
        for engine in engines:
            request = engine_request(replace(options, engine=engine))
            runtimes[engine] = open_runtime(request, options.device, stack, threads=threads, warn=stats.warn)
        embed, coded, device = PersonNetwork(), open_coded(stats, threads.engine), runtimes[engines[0]].device
        faces, sheet = list[Sighting](), Sheet([])
        if options.repair or options.colour == "restore":
            if not (isinstance(input, Path) and is_image(input)):
                line = "{path}: the steps of {--repair} and {--colour:restore} are shown of a single still"
                raise UsageError(line, code="sheet_steps", path=input.name)
            status("repairing")
            unscaled = replace(plan, options=replace(options, scale=None))
            input = _prepare(input, StillPreparation(unscaled, stack), sheet, stack)
            plan = plan_frames(input, options)
        for number, sightings in enumerate(search(input, options, tracker, device, embed, coded), 1):
            faces += sightings
            status(f"searching: {counted(number, 'frame')}, {counted(len(faces), 'face')}")
            if stop.is_set():
                raise Interrupted
        if options.correct == "auto" and (improvable := [face for face in faces if face.gain]):
            if len(improvable) < len(faces):
                template = "faces that a run leaves alone are not shown; {--correct:always} shows them, corrected"
                sheet.notes.append(Message(template, code="sheet_left_alone"))
            faces = improvable
        on_sheet = list[Sighting]()
        while faces and len(sheet.rows) < max_faces:
            face = next_face(faces, on_sheet)
            status(f"restoring face {len(sheet.rows) + 1} of {max_faces}")
            row = restore_face(face, plan, tracker, runtimes, stop)
            if row is not None:
                sheet.rows.append(row)
                on_sheet.append(face)
            faces = [one for one in faces if one is not face and not (row is not None and one.repeats(face))]
    if not sheet.rows:
        raise InputError(
            "{path}: no face can be shown; rtface finds faces from about 40 pixels; use {--start} and {--end} to "
            "select a part with faces",
            code="sheet_no_face",
            path=input.name,
        )
    sheet.rows = [row for row in sheet.rows if row.corrected] or sheet.rows[:1]
    sheet.rows.sort(key=lambda row: -row.face.gain)
    return sheet


def write_sheet(sheet: Sheet, input: Path | Address, options: Options, engines: Sequence[str], image: Target) -> None:
    """Writes the sheet as PNG, marked as made by the engines.

    Args:
        sheet: sheet from `make_sheet`.
        input, options, engines: see `make_sheet`.
        image: the output file.

    Raises:
        OutputError: the file cannot be written.
    """
    title = f"{printable(input.name)}: {counted(len(sheet.rows), 'face')} (rtface {__version__})"
    frame = Frame(
        image_from_array(draw(sheet, engines, title), "rgb"),
        0,
        Fraction(1, 25),
        color=Color("rgb", True),
        corrected=True,
    )
    tags = describe("+".join(engines), __version__, 1.0, metadata_options(options))
    write_image(frame, ImagePlan(image, "png"), tags=tags)


def _prepare(still: Path, preparation: StillPreparation, sheet: Sheet, stack: ExitStack) -> Path:
    """Prepares a still as a run does. Adds its steps to the sheet. Returns the file of the result."""
    frame, device = read_image(still).frame, CpuDevice()
    sheet.steps.append(("input", device.view(frame).thumbnail(CELL)[0]))
    for step, changed in preparation.steps(frame, still):
        frame = changed
        sheet.steps.append((step, device.view(frame).thumbnail(CELL)[0].copy()))
    if len(sheet.steps) == 1:
        return still
    result = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtface-"))) / f"{still.stem}.png"
    write_image(frame, plan_image(result, overwrite=True))
    return result


def draw(content: Sheet, engines: Sequence[str], title: str) -> Bytes:
    """Draws the sheet, uint8 RGB h×w×3: a row for the steps of a still, if any, and one for each face.

    The columns are the input and each engine. Crops are enlarged (bicubic) by integer factors, which are part of the
    label.
    """
    columns, first = max(1 + len(engines), len(content.steps)), bool(content.steps)
    width = _LABEL + columns * (CELL + _GAP) + _GAP
    height = _TITLE + (first + len(content.rows)) * (CELL + _CAPTION + _GAP) + _GAP
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    _write(sheet, title, (_GAP, 27), _TEXT, _INK)
    for column, (step, picture) in enumerate(content.steps):
        x, (rows, columns) = _LABEL + column * (CELL + _GAP), picture.shape[:2]
        sheet[_TITLE : _TITLE + rows, x : x + columns] = picture
        _write(sheet, step, (x, _TITLE + CELL + 18), _SMALL, _INK)
    for number, row in enumerate(content.rows, first):
        top = line = _TITLE + number * (CELL + _CAPTION + _GAP)
        for k, text in enumerate(row_label(row)):
            for part in textwrap.wrap(encodable(text), _LETTERS):
                _write(sheet, part, (_GAP, line + 18), _SMALL if k else _TEXT, _FAINT if k else _INK)
                line += 22
        crops = [(row.before, "input"), *((row.crops[one], cell_label(row, one)) for one in engines)]
        for column, (crop, label) in enumerate(crops):
            x = _LABEL + column * (CELL + _GAP)
            sheet[top : top + CELL, x : x + CELL] = cv2.resize(crop, (CELL, CELL), interpolation=cv2.INTER_CUBIC)
            _write(sheet, label, (x, top + CELL + 18), _SMALL, _INK)
    return sheet


def row_label(row: SheetRow) -> list[str]:
    """Returns a face's label: time or file, size, faults, and what a run decides."""
    image = row.face.image
    lines = [printable(image.name) if image is not None else format_time(row.time)]
    lines.append(f"{row.width:.0f} px wide, shown at {100 * row.scale} %")
    track = next(iter(row.tracks.values()))
    if track is None:
        return [*lines, "not tracked in a run"]
    lines += [f"{name} {score:.2f}" for name, score in faults_of(track.analysis)[:4]]
    return [*lines, track.verdict.sentence()]


def cell_label(row: SheetRow, engine: str) -> str:
    """Returns the caption of a restored face."""
    track = row.tracks[engine]
    return engine if track is not None and track.treatment["on"] else f"{engine}: {LEFT_ALONE}"


def _write(sheet: Bytes, text: str, at: tuple[int, int], size: int, ink: tuple[int, int, int]) -> None:
    """Writes a line of text, whose baseline starts at `at`."""
    cv2.putText(sheet, encodable(text), at, ink, cv2.FontFace("sans"), size, 400)
