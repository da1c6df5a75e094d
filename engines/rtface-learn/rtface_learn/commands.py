"""``rtface learn`` and ``rtface persons``."""

from __future__ import annotations

import base64
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text
from rtface.cli.signals import interrupted_by_signals
from rtface.config.addresses import LiveAddress, parse_address, resolve_address
from rtface.errors import InputError, Message, UsageError
from rtface.util.parse import is_person_name

if TYPE_CHECKING:
    from rtface.protocols import View
    from rtface_learn.camera import Guide

_CONSENT = (
    "Data learnt from a face stay on this computer, readable by you alone, until 'rtface persons remove' deletes them. "
    "Learn only from pictures of yourself, or of somebody who agreed to it."
)


@command()
def learn(
    name: Annotated[str, typer.Argument(help="The person's name, as in --person NAME.")],
    sources: Annotated[
        list[str],
        typer.Argument(help="A film, photos, a folder of photos, or a camera (camera:0), that show the person."),
    ],
    minutes: Annotated[float, typer.Option(help="Maximum time for training.")] = 3.0,
    sheet: Annotated[Path | None, typer.Option(help="Write the chosen faces to an image.")] = None,
    without: Annotated[
        str | None, typer.Option(metavar="N,N", help="Leave out faces by their numbers on the sheet.")
    ] = None,
    python: Annotated[Path | None, typer.Option(help="A Python interpreter that has numpy, torch and onnx.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree without being asked.")] = False,
    consent: Annotated[
        str, typer.Option(metavar="TEXT", help="Person who agreed, and date; stored in the file; implies --yes.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier weights, unfinished training and an existing --sheet.")
    ] = False,
    *,
    json: Json = False,
    console: Console,
) -> None:
    """Learn a person's face, so that --person NAME restores it better."""
    from rtface.engine.learned import path_of
    from rtface_engines.environment import SetupOutput, find_python
    from rtface_learn import judge, selection, work
    from rtface_learn.learn import learn as run

    if not is_person_name(name):
        raise UsageError(
            "{name} cannot name a person: use a letter followed by up to 31 letters, digits, - and _, but not the "
            "number of a person (P1) or a word of {--faces}",
            code="learn_name",
            name=repr(name),
        )
    if not 0 < minutes <= 60:
        raise UsageError("--minutes {value:g}: give more than 0 and at most 60", code="minutes_range", value=minutes)
    numbers = [] if without is None else without.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", word) for word in numbers):
        raise UsageError("--without {words}: give numbers, as 3,5", code="learn_numbers", words=repr(without))
    judge.check_policies()
    given = [_source(text) for text in sources]
    consent = _agree(yes, consent.strip())

    def notify_share(what: str, share: float) -> None:
        if console.live:
            console.status(f"{what}, {share:.0%}", doing=what, share=share, **Message(what).to_dict())

    pictured = 0.0

    def watch(guide: Guide, left: float, view: View) -> None:
        nonlocal pictured
        if not console.live or time.monotonic() - pictured < _PICTURE_S:
            return
        pictured = time.monotonic()
        missing, facts = asked(guide.missing, left), dict[str, object]()
        if console.events:
            facts["picture"] = _picture(view)
        done = round(_BAR * guide.share)
        console.status(
            f"{_ASKS[missing[0]] if missing else _ENOUGH}  [{'#' * done}{'.' * (_BAR - done)}] {left:.0f} s",
            doing="camera",
            share=guide.share,
            missing=missing,
            left_s=round(left),
            **facts,
        )

    with interrupted_by_signals():
        done = run(
            name,
            given,
            lambda: find_python(python, SetupOutput(console.log, console.status), ("numpy", "torch", "onnx")),
            minutes=minutes,
            notify=notify_share,
            overwrite=overwrite,
            shown=sheet,
            without=frozenset(map(int, numbers)),
            watch=watch,
            consent=consent,
        )
    console.clear()
    gained = _format_gains(done.gains) or Message(
        "nothing (its weights were no better on crops, so no run was measured)", code="learn_no_gain"
    )
    if json:
        print_json({"name": name, "kept": done.path is not None, "gains": done.gains, "takes": done.takes,
                    "seconds": done.seconds, "share": done.share, "path": str(done.path or "")}, indent=2)  # fmt: skip
    if done.path is None:
        short = Message(
            "too little was learnt: time ran out after {share} of the training, and a run gains {gained} over the "
            "shipped restoration; give more {--minutes}{on}",
            code="learn_too_short",
            share=f"{int(100 * done.share)} %",
            gained=gained,
            on=Message(
                ", or run the same command again to continue: pictures of the face and the training so far are kept "
                "for {days} days, and 'rtface persons remove {name}' deletes them",
                code="learn_goes_on",
                days=f"{work.STAYS_S / 86_400:.0f}",
                name=name,
            )
            if done.stays
            else "",
        )
        poor = Message(
            "nothing was kept: on pictures that were not used for training, a run gains {gained} over the shipped "
            "restoration, which is too little; give more and better pictures: a longer film, better light",
            code="learn_nothing",
            gained=gained,
        )
        console.log(short if done.share < 1 else poor)
        if path_of(name).exists():
            stays = Message("the earlier weights of {name} stay in use", code="learn_before_stays", name=name)
            console.log(stays, "warning")
        raise typer.Exit(1)
    console.log(
        f"{name}: on pictures that were not used for training, a run gains {gained} over the shipped restoration; "
        f"learnt from {done.takes} takes in {done.seconds:.0f} s"
        + (f" ({done.share:.0%} of the training: --minutes ended it)" if done.share < 1 else "")
    )
    if done.takes < selection.WANTED_TAKES and not done.photos:
        console.log(
            Message(
                "{count} takes are few ({asked} or more are recommended), so the gain above is too high: of three "
                "people with three takes, a tenth to four fifths of it remained on later frames, +0.04 to +0.60 dB; a "
                "longer film gives more takes",
                code="learn_few_takes",
                count=done.takes,
                asked=selection.WANTED_TAKES,
            ),
            "warning",
        )
    if done.photos:
        console.log(
            Message(
                "this was learnt and measured on photos only: in a film from another camera the gain is smaller, or "
                "zero; learn from a film of the camera that you will use",
                code="learn_only_photos",
            ),
            "warning",
        )
    console.log(f"{done.path} written; use it with: rtface run INPUT OUTPUT --person {name}")


_ASKS = {
    "ahead": "look into the camera",
    "left": "turn your head to your left",
    "right": "turn your head to your right",
    "up": "lift your chin",
    "mouth": "say something, with your mouth open",
    "blink": "blink",
}
_ENOUGH = "that is all; look around and speak until the time is up"
_BAR, _PICTURE, _PICTURE_S, _ASKED_S = 20, 320, 0.2, 5.0
_WHERE = {"call": "in calls", "heavy": "in bad calls", "coded": "in coded film"}


def asked(missing: list[str], left: float) -> list[str]:
    """Rotates the missing poses. So an undetectable pose does not block others.

    Args:
        missing: missing poses, from the guide.
        left: seconds left.
    """
    turn = int(left / _ASKED_S) % max(1, len(missing))
    return missing[turn:] + missing[:turn]


def _source(text: str) -> Path | LiveAddress:
    """Parses a source given by the user. Raises UsageError if it does not exist or is an output."""
    address = parse_address(resolve_address(text))
    if address.kind in ("vcam", "null"):
        raise UsageError("{name} is an output; give a camera (camera:0), a film or photos", code="learn_output",
                         name=address)  # fmt: skip
    if address.kind != "file":
        return address
    path = Path(address.name)
    if not path.exists():
        raise UsageError(
            "{path} does not exist; give a film, photos, a folder of photos, or a camera (camera:0)",
            code="learn_source",
            path=path,
        )
    if not (path.is_file() or path.is_dir()):
        raise UsageError(
            "{path} is not a regular file; give a film, photos or a folder of photos", code="learn_file", path=path
        )
    return path


def _agree(yes: bool, consent: str) -> str:
    """Returns the consent text, which may be empty. Raises UsageError unless the user agrees by `--consent`, by `--yes`
    or on the terminal."""
    if not (yes or consent):
        if not sys.stdin.isatty():
            raise UsageError("{consent} Add --yes to agree", code="consent_needed", consent=_CONSENT)
        if not typer.confirm(f"{_CONSENT} Do you agree?"):
            raise UsageError("nothing was learnt", code="learn_refused")
    return consent


def _picture(view: View) -> str:
    """Encodes a thumbnail of a frame for a page."""
    import cv2

    small = view.thumbnail(_PICTURE)[0]
    data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


persons = typer.Typer(help="Show, export and remove what was learnt of persons.", no_args_is_help=True)


@persons.command("list")
@command()
def list_persons(json: Json = False, *, console: Console) -> None:
    """List the persons who were learnt here."""
    from rtface.engine import learned
    from rtface_learn import work

    work.sweep()
    learnt = list[learned.Learned]()
    for name in learned.names():
        try:
            learnt.append(learned.read(learned.folder() / f"{name}{learned.SUFFIX}"))
        except InputError as error:
            console.log(str(error), "warning")
    unfinished = learned.unfinished_names()
    if json:
        print_json([*(one.meta for one in learnt), *({"name": name, "unfinished": True} for name in unfinished)])
        return
    if not learned.names() and not unfinished:
        print_text("no person was learnt on this machine; begin with: rtface learn NAME SOURCE")
    for name in unfinished:
        print_text(
            f"{name}  unfinished; repeat the same rtface learn {name} to continue it, or delete it with rtface persons "
            f"remove {name}"
        )
    for one in learnt:
        print_text(f"{one.name}  {one.meta.get('made', '')}  {_format_gains(one.meta.get('figures', {}))}")


def _format_gains(gains: dict[str, float]) -> str:
    """Formats measured gains, one for each kind of film."""
    return ", ".join(f"{gain:+.2f} dB {_WHERE.get(kind, kind)}" for kind, gain in sorted(gains.items()))


@persons.command()
@command()
def show(name: str) -> None:
    """Print what is known of a person's file, as JSON."""
    from rtface.engine import learned

    print_json(learned.read(learned.path_of(name)).meta)


@persons.command()
@command()
def export(name: str, path: Path) -> None:
    """Copy a person's file to another place."""
    from rtface.engine import learned
    from rtface.util.files import write_atomically

    if path.exists():
        raise UsageError("{path} already exists; choose another name", code="person_file_exists", path=path)
    learned.read(learned.path_of(name))
    write_atomically(path, learned.path_of(name).read_bytes(), private=True)
    print_text(f"the weights of {name} were written to {path}; they work under this person's name only")


@persons.command()
@command()
def remove(name: str) -> None:
    """Delete what was learnt of a person, and an interrupted call's files."""
    from rtface.engine import learned
    from rtface_learn import work

    path, left = learned.path_of(name), work.remove(name)
    if not path.exists() and not left:
        raise UsageError(
            "nothing was learnt of {name} on this machine; learnt persons: {names}",
            code="learn_nobody",
            name=name,
            names=", ".join(sorted({*learned.names(), *learned.unfinished_names()})) or "none",
        )
    what = f"the weights of {name} were deleted ({path})" if path.exists() else f"training of {name} was deleted"
    path.unlink(missing_ok=True)
    print_text(what)
