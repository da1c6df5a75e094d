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
    "Data learnt from a face stays on this computer, readable only by you, until 'rtface persons remove' deletes it. "
    "Learn only from pictures of yourself, or of a person who has agreed to it."
)


@command()
def learn(
    name: Annotated[str, typer.Argument(help="The person's name, as in --person NAME.")],
    sources: Annotated[
        list[str],
        typer.Argument(help="A film, photos, a folder of photos, or a camera (camera:0), that show the person."),
    ],
    minutes: Annotated[float, typer.Option(help="Maximum time for training.")] = 3.0,
    sheet: Annotated[Path | None, typer.Option(help="Write the selected faces to an image file.")] = None,
    without: Annotated[
        str | None, typer.Option(metavar="N,N", help="Leave out faces by their numbers on the sheet.")
    ] = None,
    python: Annotated[Path | None, typer.Option(help="A Python interpreter with numpy, torch and onnx.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree without a prompt.")] = False,
    consent: Annotated[
        str, typer.Option(metavar="TEXT", help="Person who agreed, and date. Stored in the file; implies --yes.")
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
            "{name} is not a valid name of a person: use a letter followed by up to 31 letters, digits, - and _, but "
            "not the number of a person (P1) or a keyword of {--faces}",
            code="learn_name",
            name=repr(name),
        )
    if not 0 < minutes <= 60:
        raise UsageError("--minutes {value:g}: use a number above 0, at most 60", code="minutes_range", value=minutes)
    number_texts = [] if without is None else without.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", number_text) for number_text in number_texts):
        raise UsageError("--without {words}: use numbers, for example 3,5", code="learn_numbers", words=repr(without))
    judge.check_policies()
    parsed_sources = [_parse_source(text) for text in sources]
    consent = _check_consent(yes, consent.strip())

    def notify_share(what: str, share: float) -> None:
        if console.live:
            console.status(f"{what}, {share:.0%}", doing=what, share=share, **Message(what).to_dict())

    last_picture = 0.0

    def watch(guide: Guide, left: float, view: View) -> None:
        nonlocal last_picture
        if not console.live or time.monotonic() - last_picture < _PICTURE_S:
            return
        last_picture = time.monotonic()
        missing, details = asked(guide.missing, left), dict[str, object]()
        if console.events:
            details["picture"] = _encode_picture(view)
        bar = round(_BAR_WIDTH * guide.share)
        console.status(
            f"{_PROMPTS[missing[0]] if missing else _COMPLETE}  [{'#' * bar}{'.' * (_BAR_WIDTH - bar)}] {left:.0f} s",
            doing="camera",
            share=guide.share,
            missing=missing,
            left_s=round(left),
            **details,
        )

    with interrupted_by_signals():
        outcome = run(
            name,
            parsed_sources,
            lambda: find_python(python, SetupOutput(console.log, console.status), ("numpy", "torch", "onnx")),
            minutes=minutes,
            notify=notify_share,
            overwrite=overwrite,
            shown=sheet,
            without=frozenset(map(int, number_texts)),
            watch=watch,
            consent=consent,
        )
    console.clear()
    gain_text = _format_gains(outcome.gains) or Message(
        "nothing (the weights did not improve crops, so runs were not measured)", code="learn_no_gain"
    )
    if json:
        print_json({"name": name, "kept": outcome.path is not None, "gains": outcome.gains, "takes": outcome.takes,
                    "seconds": outcome.seconds, "share": outcome.share, "path": str(outcome.path or "")},
                   indent=2)  # fmt: skip
    if outcome.path is None:
        too_short_message = Message(
            "too little was learnt: time ran out after {share} of the training, and the gain over the shipped "
            "restoration is {gained}; use more {--minutes}{on}",
            code="learn_too_short",
            share=f"{int(100 * outcome.share)} %",
            gained=gain_text,
            on=Message(
                ", or run the same command again to continue: pictures of the face and the training so far are kept "
                "for {days} days, and 'rtface persons remove {name}' deletes them",
                code="learn_goes_on",
                days=f"{work.RETENTION_S / 86_400:.0f}",
                name=name,
            )
            if outcome.stays
            else "",
        )
        no_gain_message = Message(
            "nothing was kept: on pictures that were not used for training, the gain over the shipped "
            "restoration is {gained}, which is too little; use more and better pictures: a longer film, better light",
            code="learn_nothing",
            gained=gain_text,
        )
        console.log(too_short_message if outcome.share < 1 else no_gain_message)
        if path_of(name).exists():
            warning = Message("the earlier weights of {name} remain in use", code="learn_before_stays", name=name)
            console.log(warning, "warning")
        raise typer.Exit(1)
    console.log(
        f"{name}: on pictures that were not used for training, the gain over the shipped restoration is {gain_text}; "
        f"learnt from {outcome.takes} takes in {outcome.seconds:.0f} s"
        + (f" (only {outcome.share:.0%} of the training, because of --minutes)" if outcome.share < 1 else "")
    )
    if outcome.takes < selection.WANTED_TAKES and not outcome.photos:
        console.log(
            Message(
                "the gain above is overestimated, because there are only {count} takes ({asked} or more are "
                "recommended): for three people with three takes each, 10 to 80 % of the gain remained on later frames "
                "(+0.04 to +0.60 dB); use a longer film, which provides more takes",
                code="learn_few_takes",
                count=outcome.takes,
                asked=selection.WANTED_TAKES,
            ),
            "warning",
        )
    if outcome.photos:
        console.log(
            Message(
                "only photos were used for training and measuring: in a film from another camera, the gain is smaller "
                "or zero; learn from a film of the camera that you will use",
                code="learn_only_photos",
            ),
            "warning",
        )
    console.log(f"{outcome.path} was written; use it with: rtface run INPUT OUTPUT --person {name}")


_PROMPTS = {
    "ahead": "look into the camera",
    "left": "turn your head to your left",
    "right": "turn your head to your right",
    "up": "lift your chin",
    "mouth": "say something, with your mouth open",
    "blink": "blink",
}
_COMPLETE = "all poses were recorded; look around and speak until the time is over"
_BAR_WIDTH, _PICTURE_PX, _PICTURE_S, _INSTRUCTION_S = 20, 320, 0.2, 5.0
_KIND_NOTES = {"call": "in calls", "heavy": "in bad calls", "coded": "in coded film"}


def asked(missing: list[str], left: float) -> list[str]:
    """Rotates the missing poses. Thus an undetectable pose does not block the others.

    Args:
        missing: missing poses, from the guide.
        left: remaining seconds.
    """
    offset = int(left / _INSTRUCTION_S) % max(1, len(missing))
    return missing[offset:] + missing[:offset]


def _parse_source(text: str) -> Path | LiveAddress:
    """Parses a source on the command line. Raises UsageError if it does not exist or is an output."""
    address = parse_address(resolve_address(text))
    if address.kind in ("vcam", "null"):
        raise UsageError("{name} is an output; use a camera (camera:0), a film or photos", code="learn_output",
                         name=address)  # fmt: skip
    if address.kind != "file":
        return address
    path = Path(address.name)
    if not path.exists():
        raise UsageError(
            "{path} does not exist; use a film, photos, a folder of photos, or a camera (camera:0)",
            code="learn_source",
            path=path,
        )
    if not (path.is_file() or path.is_dir()):
        raise UsageError(
            "{path} is not a regular file; use a film, photos or a folder of photos", code="learn_file", path=path
        )
    return path


def _check_consent(yes: bool, consent: str) -> str:
    """Returns the consent text, which may be empty. Raises UsageError unless the user agrees by `--consent`, by `--yes`
    or at the prompt."""
    if not (yes or consent):
        if not sys.stdin.isatty():
            raise UsageError("{consent} Add --yes if you agree", code="consent_needed", consent=_CONSENT)
        if not typer.confirm(f"{_CONSENT} Do you agree?"):
            raise UsageError("nothing was learnt", code="learn_refused")
    return consent


def _encode_picture(view: View) -> str:
    """Encodes a frame's thumbnail as a data URL for the studio."""
    import cv2

    small = view.thumbnail(_PICTURE_PX)[0]
    data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


persons = typer.Typer(help="Show, export and remove the weights of learnt persons.", no_args_is_help=True)


@persons.command("list")
@command()
def list_persons(json: Json = False, *, console: Console) -> None:
    """List the persons learnt on this machine."""
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
        print_json([*(person.meta for person in learnt), *({"name": name, "unfinished": True} for name in unfinished)])
        return
    if not learned.names() and not unfinished:
        print_text("no person was learnt on this machine; start with: rtface learn NAME SOURCE")
    for name in unfinished:
        print_text(
            f"{name}  unfinished; repeat the same rtface learn {name} to continue, or delete the files with: rtface "
            f"persons remove {name}"
        )
    for person in learnt:
        print_text(f"{person.name}  {person.meta.get('made', '')}  {_format_gains(person.meta.get('figures', {}))}")


def _format_gains(gains: dict[str, float]) -> str:
    """Formats measured gains, one for each kind of film."""
    return ", ".join(f"{gain:+.2f} dB {_KIND_NOTES.get(kind, kind)}" for kind, gain in sorted(gains.items()))


@persons.command()
@command()
def show(name: str) -> None:
    """Print the metadata of a person's file as JSON."""
    from rtface.engine import learned

    print_json(learned.read(learned.path_of(name)).meta)


@persons.command()
@command()
def export(name: str, path: Path) -> None:
    """Copy a person's file to another place."""
    from rtface.engine import learned
    from rtface.util.files import write_atomically

    if path.exists():
        raise UsageError("{path} already exists; use another name", code="person_file_exists", path=path)
    learned.read(learned.path_of(name))
    write_atomically(path, learned.path_of(name).read_bytes(), private=True)
    print_text(f"the weights of {name} were written to {path}; they work only under this person's name")


@persons.command()
@command()
def remove(name: str) -> None:
    """Delete a person's learnt weights and the files of an interrupted call."""
    from rtface.engine import learned
    from rtface_learn import work

    path, has_unfinished = learned.path_of(name), work.remove(name)
    if not path.exists() and not has_unfinished:
        raise UsageError(
            "{name} was not learnt on this machine; learnt persons: {names}",
            code="learn_nobody",
            name=name,
            names=", ".join(sorted({*learned.names(), *learned.unfinished_names()})) or "none",
        )
    text = f"the weights of {name} were deleted ({path})" if path.exists() else f"training of {name} was deleted"
    path.unlink(missing_ok=True)
    print_text(text)
