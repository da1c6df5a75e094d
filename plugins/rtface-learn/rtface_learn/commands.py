"""``rtface learn`` and ``rtface persons``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from rtface.cli.command import Json, command
from rtface.cli.console import Console, print_json, print_text
from rtface.cli.signals import interrupted_by_signals
from rtface.errors import InputError, UsageError
from rtface.util.parse import is_person_name
from rtface.util.text import printable

_CONSENT = (
    "What is learnt of a face stays on this computer, readable by you alone, until 'rtface persons remove' deletes it. "
    "Learn only from pictures of yourself, or of somebody who agreed to it."
)


@command()
def learn(
    name: Annotated[str, typer.Argument(help="What the person is called, as in --person NAME.")],
    sources: Annotated[list[Path], typer.Argument(help="A film, photos, or a folder of photos that show the person.")],
    minutes: Annotated[float, typer.Option(help="Time for training, at the most.")] = 4.0,
    sheet: Annotated[Path | None, typer.Option(help="Write the faces that were chosen to an image.")] = None,
    python: Annotated[Path | None, typer.Option(help="A Python that has numpy, torch and onnx.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to what is asked.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was learnt before, and a --sheet that exists.")
    ] = False,
    *,
    json: Json = False,
    console: Console,
) -> None:
    """Learn a person's face, so that --person NAME restores it better."""
    from rtface_engines.environment import SetupOutput, find_python
    from rtface_learn.learn import learn as run

    if not is_person_name(name):
        raise UsageError(f"{name!r} cannot name a person: it begins with a letter, and is no word of --faces")
    if not 0 < minutes <= 60:
        raise UsageError(f"--minutes {minutes:g}: give more than 0 and at most 60")
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source} is not there; give a film, photos or a folder of photos")
        if not (source.is_file() or source.is_dir()):
            raise UsageError(f"{source} is no regular file; give a film, photos or a folder of photos")
    _agree(yes)

    def told(what: str, share: float) -> None:
        if console.live:
            console.status(f"{what}, {share:.0%}", doing=what, share=share)

    with interrupted_by_signals():
        done = run(
            name,
            sources,
            lambda: find_python(python, SetupOutput(console.say, console.status), ("numpy", "torch", "onnx")),
            minutes=minutes,
            tell=told,
            overwrite=overwrite,
            shown=sheet,
        )
    console.clear()
    gained = ", ".join(f"{gain:+.2f} dB {_WHERE[kind]}" for kind, gain in sorted(done.gains.items()))
    if json:
        print_json({"name": name, "kept": done.path is not None, "gains": done.gains, "takes": done.takes,
                    "seconds": done.seconds, "path": str(done.path or "")}, indent=2)  # fmt: skip
    if done.path is None:
        console.say(
            f"nothing was kept: on pictures that it had not seen it gains {gained} over the shipped restoration, which "
            "is too little; give a longer film, or one in better light"
        )
        raise typer.Exit(1)
    console.say(
        f"{name}: {gained} over the shipped restoration on pictures that it had not seen, learnt from {done.takes} "
        f"takes in {done.seconds:.0f} s"
    )
    console.say(f"{done.path} written; use it with: rtface run INPUT OUTPUT --person {name}")


_WHERE = {"call": "in calls", "coded": "in coded film"}


def _agree(yes: bool) -> None:
    """Raises UsageError unless the user agrees, by `--yes` or on the terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{_CONSENT} Add --yes to agree")
    if not typer.confirm(f"{_CONSENT} Do you agree?"):
        raise UsageError("nothing was learnt")


persons = typer.Typer(help="Show, export and remove what was learnt of persons.", no_args_is_help=True)


@persons.command("list")
@command()
def list_persons(json: Json = False, *, console: Console) -> None:
    """List the persons who were learnt here."""
    from rtface.engine import learned

    found = list[learned.Learned]()
    for name in learned.names():
        try:
            found.append(learned.read(learned.folder() / f"{name}{learned.SUFFIX}"))
        except InputError as error:
            console.say(str(error), "warning")
    if json:
        print_json([one.meta for one in found])
        return
    for one in found:
        print_text(f"{printable(one.name)}  {printable(str(one.meta.get('made', '')))}  {_gains(one.meta)}")


def _gains(meta: dict[str, Any]) -> str:
    """The figures of a person's file, which others may have written."""
    figures = meta.get("figures")
    if not isinstance(figures, dict):
        return ""
    known = {kind: gain for kind, gain in cast("dict[str, Any]", figures).items() if isinstance(gain, int | float)}
    return ", ".join(f"{gain:+.2f} dB {_WHERE.get(kind, printable(kind))}" for kind, gain in sorted(known.items()))


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
        raise UsageError(f"{path} is there; choose another name")
    learned.read(learned.path_of(name))
    write_atomically(path, learned.path_of(name).read_bytes(), private=True)


@persons.command()
@command()
def remove(name: str) -> None:
    """Delete what was learnt of a person."""
    from rtface.engine import learned

    path = learned.path_of(name)
    if not path.exists():
        raise UsageError(f"nothing was learnt of {name} here; there is: {', '.join(learned.names()) or 'none'}")
    path.unlink()
    print_text(f"{path} was deleted")
