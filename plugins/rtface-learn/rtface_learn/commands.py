"""``rtface learn`` and ``rtface persons``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from rtface.cli.command import command
from rtface.cli.console import print_json, print_text
from rtface.errors import UsageError
from rtface.util.parse import is_person_name

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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what was learnt before.")] = False,
) -> None:
    """Learn a person's face, so that --person NAME restores it better."""
    from rtface_learn.learn import learn as run
    from rtface_learn.python import find

    if not is_person_name(name):
        raise UsageError(f"{name!r} cannot name a person: it begins with a letter, and is no word of --faces")
    if not 0 < minutes <= 60:
        raise UsageError(f"--minutes {minutes:g}: give more than 0 and at most 60")
    for source in sources:
        if not source.exists():
            raise UsageError(f"{source} is not there; give a film, photos or a folder of photos")
    _agree(yes)
    found = find(python)

    def tell(what: str, share: float) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}: {100 * share:.0f} %", end="", file=sys.stderr, flush=True)

    stop = threading.Event()
    done = run(name, sources, found, minutes=minutes, tell=tell, stop=stop, overwrite=overwrite, shown=sheet)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    gained = ", ".join(f"{gain:+.2f} dB {_WHERE[kind]}" for kind, gain in sorted(done.gains.items()))
    if done.path is None:
        print_text(
            f"nothing was kept: with what was learnt, faces that it had not seen gain {gained} over {name}'s "
            "shipped restoration, which is too little; give a longer or better film"
        )
        return
    print_text(f"{name}: {gained} on pictures that it had not seen, from {done.takes} takes in {done.seconds:.0f} s")
    print_text(f"{done.path}; use it with --person {name}")


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
def list_persons(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the persons who were learnt here."""
    from rtface.engine import learned

    found = [learned.read(learned.path_of(name)) for name in learned.names()]
    if json:
        print_json([one.meta for one in found])
        return
    for one in found:
        gains = ", ".join(f"{gain:+.2f} dB {_WHERE.get(k, k)}" for k, gain in sorted(one.meta["figures"].items()))
        print_text(f"{one.name}  {one.meta.get('made', '')}  {gains}")


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
        raise UsageError(f"nothing was learnt of {name} here; there is: {', '.join(learned.names()) or 'nobody'}")
    path.unlink()
    print_text(f"{path} was deleted")
