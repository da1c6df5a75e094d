"""``rtface queue``: enhances films and stills one by one or several at once. The queue survives a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtface.cli import early_checks, live
from rtface.cli.command import FAILED, GroupedHelp, Json, command, explain
from rtface.cli.console import Console, print_json, print_table
from rtface.cli.film_jobs import FarmAddress, OutputDir, Restart, Workers, output_folder, plan_jobs
from rtface.cli.signals import INTERRUPTED, StopRequest
from rtface.config.option_sources import LoadedOptions
from rtface.config.options import OPTIONS
from rtface.errors import Message, RtfaceError, UsageError
from rtface.jobs.run import Resumable, why_no_job
from rtface.util import parse
from rtface.util.parse import format_clock

if TYPE_CHECKING:
    from rtface.jobs.queue.api import Queue
    from rtface.jobs.queue.item import Item
    from rtface.jobs.queue.store import Verb

_STATUS_S = 10.0  # seconds between status lines without a terminal

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Manage a queue of films and stills; enhance them one by one or several at once.",
)

Items = Annotated[
    list[str],
    typer.Argument(
        metavar="ITEM...",
        show_default=False,
        help=("Item numbers from 'rtface queue list', a state (failed, waiting, …), or all."),
    ),
]


def _queue() -> Queue:
    from rtface.jobs.queue.api import Queue

    return Queue()


@app.command(cls=GroupedHelp)
@command(*OPTIONS)
def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... OUTPUT",
            show_default=False,
            help=("Films, stills or folders of stills, and the file or folder to write, as for 'rtface run'."),
        ),
    ],
    output_dir: OutputDir = None,
    workers: Workers = None,
    restart: Restart = False,
    farm: FarmAddress = None,
    *,
    json: Json = False,
    loaded: LoadedOptions,
    console: Console,
) -> None:
    """Add films or stills, with the options of 'rtface run'. The options are checked and stored with each item."""
    options = loaded.options
    if output_dir is None and live.live_ends(paths) is not None:
        raise UsageError(
            "the queue is for films and stills, because a camera or a stream never ends; use 'rtface run' for it",
            code="queue_live",
        )
    jobs = plan_jobs(paths, output_dir, options)
    flags = Resumable(workers, restart, farm)
    flags.check()
    early_checks.check_names(options)
    queue = _queue()
    codes: list[int] = []
    with output_folder(output_dir, keep=True):
        for input_name, one in zip(paths, jobs, strict=False):
            if output_dir is not None and one.output.is_file() and not options.overwrite:
                console.log(f"{one.output} exists: skipped (--overwrite replaces it)")
                continue
            try:
                early_checks.check_inputs([one.input])
                if flags.given and (why := why_no_job(one.input, one.named, options)):
                    raise UsageError(
                        "{option} has no effect here: {why}; leave it out",
                        code="option_no_effect",
                        option=flags.given,
                        why=why,
                    )
                item = queue.add_checked(input_name, str(one.named), options, loaded.given, job=flags.to_dict())
            except RtfaceError as error:
                if len(jobs) == 1:
                    raise
                codes.append(explain(error, console))
                continue
            if json:
                print_json(item.to_dict())
            else:
                console.log(f"item {item.id} waits: {item.input} → {item.output}")
    raise typer.Exit(FAILED if codes else 0)


@app.command("list")
@command()
def list_items(*, json: Json = False, console: Console) -> None:
    """List the items with state, progress and time left. Running items come first, then waiting ones in order."""
    items = _queue().items()
    if json:
        print_json([item.to_dict() for item in items], indent=2)
    elif items:
        print_table([["ITEM", "STATE", "DONE", "LEFT", "INPUT", "OUTPUT", "OPTIONS"], *map(_cells, items)])
        for item in items:
            if item.state == "failed":
                console.log(
                    Message("item {number} failed: {why}", code="item_failed", number=item.id, why=item.message),
                    "error",
                )
        if any(item.state == "interrupted" for item in items):
            console.log("interrupted items continue with the next 'rtface queue run'")
    else:
        console.log("the queue is empty; add a film with: rtface queue add INPUT OUTPUT")


def _cells(item: Item) -> list[str]:
    options = " ".join(f"{key}={value}" for key, value in (item.options | item.flags).items())
    return [
        str(item.id),
        item.state,
        "" if item.share is None else f"{item.share:.0%}",
        "" if item.left_s is None else format_clock(item.left_s),
        item.input,
        item.output,
        options,
    ]


@app.command()
@command()
def run(
    at_once: Annotated[
        str,
        typer.Option(metavar="N|auto", help=("Number of items to run at once; auto depends on cores and memory.")),
    ] = "auto",
    watch: Annotated[bool, typer.Option("--watch", help="Wait for more items when none is left.")] = False,
    *,
    json: Json = False,
    console: Console,
    stop: StopRequest,
) -> None:
    """Run the waiting items until none is left. Ctrl-C stops them cleanly; the next run continues them."""
    outcome = _queue().run(at_once=at_once, watch=watch, cancel=stop.event, progress=_Display(console, json))
    console.clear()
    console.log(outcome.summary, "error" if outcome.failed else "info")
    if stop.signum is not None:
        raise typer.Exit(INTERRUPTED + stop.signum)
    raise typer.Exit(FAILED if outcome.failed else 0)


class _Display:
    """Shows ended items line by line, and the status of running ones."""

    def __init__(self, console: Console, json: bool) -> None:
        self._console, self._json = console, json
        self._last_shown, self._last_status = monotonic(), ""

    def __call__(self, items: list[Item]) -> None:
        running = [item for item in items if item.state == "running"]
        for item in items:
            if item.state == "running":
                continue
            message = f": {item.message}" if item.message else ""
            self._console.log(
                f"item {item.id}, {item.output}: {item.state}{message}", "error" if item.state == "failed" else "info"
            )
            self._console.event("item", **item.to_dict())
            if self._json:
                print_json({"status": item.state, **item.to_dict()})
        now = monotonic()
        status = "; ".join(map(_describe, running))
        if running and (self._console.live or (now - self._last_shown >= _STATUS_S and status != self._last_status)):
            self._last_shown, self._last_status = now, status
            self._console.status(status)


def _describe(item: Item) -> str:
    parts = [f"item {item.id} {Path(item.output).name}"]
    if item.share is not None:
        parts.append(f"{item.share:.0%}")
    elif item.frames:
        parts.append(f"{item.frames} frames")
    if item.fps:
        parts.append(f"{item.fps:.1f} fps")
    if item.left_s is not None:
        parts.append(f"{format_clock(item.left_s)} left")
    return ", ".join(parts)


def _make_command(verb: Verb) -> Callable[..., None]:
    """Returns the command that applies a verb to items."""

    @command()
    def change(items: Items, *, console: Console) -> None:
        from rtface.jobs.queue.store import CHANGES

        queue = _queue()
        ids = queue.select(items, CHANGES[verb])
        getattr(queue, verb)(*ids)
        console.log(f"{verb}: {', '.join(f'item {number}' for number in ids) if ids else 'no item'}")

    return change


_VERBS: dict[Verb, str] = {
    "pause": "Pause items until 'resume'; a running one halts between two frames.",
    "resume": "Let paused items continue, or return to their place in the queue.",
    "cancel": "Cancel waiting or running items; a running one stops cleanly.",
    "retry": "Append failed and cancelled items to the queue again.",
    "remove": "Remove items that are not running; their outputs are kept.",
}
for name, text in _VERBS.items():
    app.command(name, help=text)(_make_command(name))


@app.command()
@command()
def move(
    item: Annotated[int, typer.Argument(metavar="ITEM", show_default=False, help="A number of 'rtface queue list'.")],
    place: Annotated[
        str,
        typer.Argument(
            metavar="first|last|PLACE",
            show_default=False,
            help=("Its new place among the waiting items; 1 is the first."),
        ),
    ],
    *,
    console: Console,
) -> None:
    """Move a waiting item."""
    to: Any = parse.or_words(parse.number(1, 1_000_000, whole=True), "first", "last")(place, "PLACE")
    _queue().move(item, to)
    console.log(f"item {item} moved to place {place}")
