"""`rtface.Queue`: a persistent queue of films and stills, with the operations of ``rtface queue``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rtface.config.options import OPTIONS, Options, check_scope
from rtface.errors import UsageError
from rtface.jobs.queue.item import STATES, Item, State
from rtface.jobs.queue.store import Store
from rtface.media.read.pipe import refuse_pipe
from rtface.util.paths import check_there, data_dir
from rtface.util.spelling import hint
from rtface.util.urls import Address, place

if TYPE_CHECKING:
    from rtface.jobs.queue.runner import RunCounts


class Queue:
    """A persistent queue of films and stills to enhance.

    Any number of processes may use it at the same time.

    Args:
        path: file of the database, on a local disk; by default ``queue.sqlite`` in the data folder
            (``RTFACE_DATA``).

    Raises:
        OutputError: the database is damaged or cannot be read or written.
        UsageError: another version of rtface created the database, or there is no home folder for it.
    """

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self.store = Store(data_dir() / "queue.sqlite" if path is None else Path(path))

    def add(self, input: str | PathLike[str], output: str | PathLike[str], **options: Any) -> Item:
        """Adds an item at the end, after the checks of `rtface.run`.

        Args:
            input: a film, a still, a folder of stills, or an address. ``@FILE`` names a file with the address; it is
                read when the item starts, so that the database never contains the address.
            output: file or folder, as for `rtface.run`.
            options: options of `rtface.run`.

        Raises:
            UsageError: an unusable value; a live run; another item writes the same file.
            InputMissing, OutputError: the input does not exist, or the output exists or cannot be written.
            InputError: the input cannot be read.
        """
        return self.add_checked(os.fspath(input), os.fspath(output), Options.of(options), options)

    def add_checked(
        self,
        input: str,
        output: str,
        options: Options,
        given: Iterable[str],
        *,
        job: dict[str, Any] | None = None,
    ) -> Item:
        """Adds an item with options that are already converted.

        Args:
            input, output: see `add`.
            options: values of all options. Only values that have an effect and differ from the default are stored.
            given: names of the options that the user gave for this run.
            job: flags of jobs, like `Task.flags`; already checked.
        """
        from rtface.config.addresses import is_live, parse_address, resolve_address
        from rtface.pipeline.film import plan_file
        from rtface.pipeline.plan import plan_run, scope_of

        if options.dry_run:
            raise UsageError(
                "{--dry-run=True} adds nothing to a queue; check the item with: rtface run … {--dry-run=True}",
                code="queue_dry_run",
            )
        resolved = resolve_address(input)
        if is_live(parse_address(resolved), parse_address(output)):
            raise UsageError(
                "the queue is for films and stills, because a camera or a stream never ends; use 'rtface run' for it",
                code="queue_live",
            )
        source = place(resolved)
        scope = scope_of(source, output, options)
        check_scope(given, options, scope)
        # The same checks as for a run; nothing is started.
        stored_options = Options.of(
            {key: value for key, value in options.to_dict().items() if OPTIONS[key].scope & scope} | {"dry_run": True}
        )
        if isinstance(source, Path):
            check_there(source)
            refuse_pipe(source)
            plan, _ = plan_file(source, output, stored_options)
        else:  # an address is not opened before its item starts
            plan = plan_run(source, output, stored_options)
        return self.item(self.store.add(plan.to_dict() | {"input": _stored_input(input, source)}, job))

    def items(self, *states: State) -> list[Item]:
        """Returns all items, or those in some states. Running items come first, then waiting ones in order, then ended
        ones."""
        return [item for item in self.store.items() if not states or item.state in states]

    def item(self, id: int) -> Item:
        """Returns one item. Raises UsageError if no item has this number."""
        for item in self.store.items():
            if item.id == id:
                return item
        raise UsageError(
            "there is no item {item} in the queue; 'rtface queue list' shows all", code="item_none", item=id
        )

    def select(self, names: Iterable[str], states: Iterable[State]) -> list[int]:
        """Returns the numbers of the items that a command line selects.

        Args:
            names: numbers, states ("failed"), or "all".
            states: states in which the command can change items; "all" means all items in these states.

        Raises:
            UsageError: a name is none of these.
        """
        names = list(names)
        items = [] if all(name.isdecimal() for name in names) else self.store.items()
        selected, allowed = dict[int, None](), set(states)
        for name in names:
            if name.isdecimal():
                selected[int(name)] = None
            elif name == "all" or name in STATES:
                selected |= {
                    item.id: None for item in items if item.state in (allowed if name == "all" else allowed & {name})
                }
            else:
                raise UsageError(
                    "{value!r} is not an item: give numbers from 'rtface queue list', a state ({states}) or all{hint}",
                    code="item_name",
                    value=name,
                    states=", ".join(STATES),
                    hint=hint(name, [*STATES, "all"]),
                )
        return list(selected)

    def pause(self, *ids: int) -> None:
        """Pauses items until `resume`. Their runner halts them between two frames; an item with its own workers is
        stopped cleanly. Like the other operations, this changes all given items, or none if it raises an error."""
        self.store.change(ids, "pause")

    def resume(self, *ids: int) -> None:
        """Resumes paused items. They continue at the frame where they halted, or wait again at their place."""
        self.store.change(ids, "resume")

    def cancel(self, *ids: int) -> None:
        """Cancels items that have not ended. The runner stops a running one cleanly."""
        self.store.change(ids, "cancel")

    def retry(self, *ids: int) -> None:
        """Puts failed and cancelled items at the end of the queue."""
        self.store.change(ids, "retry")

    def remove(self, *ids: int) -> None:
        """Removes items that do not run. Their outputs are kept."""
        self.store.change(ids, "remove")

    def move(self, id: int, place: int | Literal["first", "last"]) -> None:
        """Moves a waiting or paused item.

        Args:
            id: number of the item.
            place: place among the waiting and paused items, from 1. A place beyond the last is the last.
        """
        last = len(self.store.items())
        self.store.reorder(id, {"first": 0, "last": last}[place] if isinstance(place, str) else max(0, place - 1))

    def run(
        self,
        *,
        at_once: int | str = 1,
        watch: bool = False,
        cancel: threading.Event | None = None,
        progress: Callable[[list[Item]], None] | None = None,
    ) -> RunCounts:
        """Runs the waiting items, each in a process, until none waits.

        Args:
            at_once: number of concurrent items; "auto" chooses it by cores and memory.
            watch: whether to wait for more items instead of returning.
            cancel: when set, stops running items cleanly; they wait again.
            progress: called about once a second with all running items, and with those that ended since the last call.

        Returns:
            Counts of the results. A failed item raises nothing; `items("failed")` contains the reasons.
        """
        from rtface.jobs.queue.runner import Runner

        return Runner(self.store, at_once=at_once, watch=watch, stop=cancel, progress=progress).run()


def _stored_input(text: str, source: Path | Address) -> str:
    """Returns an input as the database stores it. Paths are absolute; the address of ``@FILE`` stays in that file."""
    if isinstance(source, Path):
        return os.path.abspath(source)  # noqa: PTH100 - resolve() would follow links
    if text.startswith("@"):
        return "@" + os.path.abspath(Path(text[1:]).expanduser())  # noqa: PTH100
    return source.url
