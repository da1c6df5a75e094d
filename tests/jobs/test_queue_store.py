"""The queue's database: verbs, order, secrets, damage, versions."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from rtface.errors import Message, OutputError, UsageError
from rtface.jobs.queue.api import Queue
from rtface.jobs.queue.item import ItemProgress
from rtface.jobs.queue.store import CHANGES
from tests.jobs.queue_children import item_plan

SECRET = "https://me:hunter2secret@films.example/a.mp4?key=0123456789abcdef"


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "data" / "queue.sqlite")


def add(queue: Queue, name: str = "ok", **options: object) -> int:
    folder = queue.store.path.parents[1]
    output = str(folder / f"film-{len(queue.items())}.mp4")
    return queue.store.add(item_plan(name if "://" in name else folder / name, output, **options))


def in_state(queue: Queue, state: str) -> int:
    """An item in a state; "running" is that of a runner that is gone, which makes it "interrupted"."""
    number = add(queue)
    if state == "waiting":
        return number
    if state in ("paused", "cancelled"):
        (queue.pause if state == "paused" else queue.cancel)(number)
        return number
    if state == "interrupted":
        with sqlite3.connect(queue.store.path) as database:
            database.execute("UPDATE item SET state = 'running' WHERE id = ?", (number,))
        return number
    with queue.store.runner():
        assert queue.store.take().id == number
        queue.store.finish(number, state, "as it was")
    return number


@pytest.mark.parametrize("state", ["waiting", "interrupted", "paused", "done", "failed", "cancelled"])
@pytest.mark.parametrize(
    ("verb", "after"),
    [("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled"), ("retry", "waiting"), ("remove", None)],
)
def test_a_verb_acts_or_says_why_not(queue: Queue, state: str, verb: str, after: str | None) -> None:
    number, other = in_state(queue, state), add(queue)
    assert queue.item(number).state == state
    if state in CHANGES[verb]:
        getattr(queue, verb)(number)
        assert [item.state for item in queue.items() if item.id == number] == ([after] if after else [])
    else:
        with pytest.raises(UsageError, match=f"item {number} is {state}"):
            getattr(queue, verb)(other if verb in ("pause", "cancel", "remove") else number, number)
        assert queue.item(number).state == state
        assert queue.item(other).state == "waiting", "nothing was changed"


def test_names_that_are_not_utf_8_and_codes_of_messages(queue: Queue) -> None:
    number = queue.store.add(plan := item_plan("/films/\udce9.mp4", "/films/\udcfc.mp4", shots="/films/\udce4"))
    with queue.store.runner():
        task = queue.store.take()
        assert task.plan == plan
        queue.store.finish(number, "failed", Message("{path} is gone", code="gone", path="\udce9.mp4"))
    item = queue.item(number).to_dict()
    assert (item["input"], item["message"]) == (plan["input"], "\udce9.mp4 is gone")
    assert (item["code"], item["values"]) == ("gone", {"path": "\udce9.mp4"})


def test_a_running_item_is_left_to_its_runner(queue: Queue) -> None:
    number = add(queue)
    with queue.store.runner():
        queue.store.take()
        queue.pause(number)
        queue.store.note_progress(number, ItemProgress(0.5, 12, 24.0, 3.0))
        waiting = add(queue)
        assert [(item.id, item.state, item.share, item.left_s) for item in queue.items()] == [
            (number, "paused", 0.5, None),
            (waiting, "waiting", None, None),
        ]
        assert queue.store.requests() == {number: "pause"}
        with pytest.raises(UsageError, match="is paused in place"):
            queue.remove(number)
        queue.remove(waiting)
        assert add(queue) == waiting + 1, "a number is used again"
        queue.resume(number)
        assert queue.item(number).state == "running"
        queue.cancel(number)
        assert queue.store.requests() == {number: "cancel"}
        with pytest.raises(UsageError, match="is running"):
            queue.remove(number)
    assert (queue.item(number).state, queue.item(number).share) == ("waiting", 0.5)


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_what_was_asked_of_a_runner_that_was_killed_is_done(queue: Queue, verb: str, state: str) -> None:
    number = in_state(queue, "interrupted")
    with sqlite3.connect(queue.store.path) as database:
        database.execute("UPDATE item SET wish = ?", (verb,))
    with queue.store.runner():
        assert queue.item(number).state == state


def test_items_keep_the_order_that_they_were_given(queue: Queue) -> None:
    first, second, third, fourth = (add(queue) for _ in range(4))
    queue.move(fourth, "first")
    queue.move(first, "last")
    queue.move(third, 2)
    assert [item.id for item in queue.items()] == [fourth, third, second, first]
    queue.cancel(fourth)
    queue.retry(fourth)
    assert [item.id for item in queue.items("waiting")] == [third, second, first, fourth]
    with queue.store.runner():
        assert [queue.store.take().id for _ in range(4)] == [third, second, first, fourth]
        assert queue.store.take() is None
        with pytest.raises(UsageError, match="is not waiting"):
            queue.move(first, 1)


def test_items_are_named_by_number_state_or_all(queue: Queue) -> None:
    failed, waiting, paused = in_state(queue, "failed"), in_state(queue, "waiting"), in_state(queue, "paused")
    assert queue.select(["all"], CHANGES["retry"]) == [failed]
    assert queue.select(["paused", "waiting", str(paused)], CHANGES["remove"]) == [paused, waiting]
    assert queue.select(["done"], CHANGES["remove"]) == []
    with pytest.raises(UsageError, match="the nearest is failed"):
        queue.select(["faild"], CHANGES["retry"])
    with pytest.raises(UsageError, match="no item 99"):
        queue.retry(99)


def test_two_items_never_write_one_file(queue: Queue, tmp_path: Path) -> None:
    report = str(tmp_path / "r.json")
    number = queue.store.add(item_plan("a.mp4", tmp_path / "b.mp4", report=report))
    with pytest.raises(UsageError, match=f"item {number} of the queue already writes"):
        queue.store.add(item_plan("c.mp4", report))
    queue.cancel(number)
    queue.store.add(item_plan("c.mp4", report))


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX's")
def test_only_the_owner_can_read_it(queue: Queue) -> None:
    add(queue)
    with queue.store.runner():
        files = list(queue.store.path.parent.iterdir())
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}, files
    assert stat.S_IMODE(queue.store.path.parent.stat().st_mode) == 0o700


def test_secrets_are_not_taken(queue: Queue) -> None:
    with pytest.raises(
        UsageError, match=r"^https://films.example/a.mp4: the queue does not store .* give @FILE"
    ) as error:
        add(queue, SECRET)
    assert "hunter2" not in str(error.value) and not queue.items()
    assert not any(b"hunter2" in path.read_bytes() for path in queue.store.path.parent.iterdir())


@pytest.mark.parametrize(
    "damage",
    [*(pytest.param(damage, marks=pytest.mark.slow) for damage in ("text", "zeros", "half")), "schema"],
)
def test_a_damaged_database_is_said_and_kept(queue: Queue, damage: str) -> None:
    for _ in range(12):
        add(queue)
    path = queue.store.path
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    broken = {
        "text": b"this is a text " * 99,
        "zeros": whole[:4096] + bytes(8192) + whole[12288:],
        "half": whole[: len(whole) // 8192 * 4096],
        "schema": whole.replace(b"CREATE TABLE", b"CREATE \x86ABLE"),
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(OutputError, match=r"damaged .*nothing was changed.*begin a new queue"):
        Queue(path)
    assert path.read_bytes() == broken


def test_other_databases_are_refused(queue: Queue, tmp_path: Path) -> None:
    for path, statement in (
        (queue.store.path, "PRAGMA user_version = 4"),
        (tmp_path / "other.sqlite", "CREATE TABLE bookmarks (url)"),
    ):
        with sqlite3.connect(path) as database:
            database.execute(statement)
        with pytest.raises(UsageError, match="another program or version of rtface"):
            Queue(path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="queue cannot be used"):
        Queue(tmp_path / "file" / "queue.sqlite")


def test_a_second_runner_is_refused(queue: Queue) -> None:
    assert not queue.store.held("runner")
    with queue.store.runner():
        with pytest.raises(UsageError, match="already runs this queue"), queue.store.runner():
            pass
        assert queue.store.held("runner")
    assert not queue.store.held("runner")


def test_a_damaged_item_is_said(queue: Queue) -> None:
    number = add(queue)
    with closing(sqlite3.connect(queue.store.path)) as database:
        database.execute("UPDATE item SET plan = '-1/3' WHERE id = ?", (number,))
        database.commit()
    with pytest.raises(OutputError, match="database is damaged"):
        queue.items()
    queue.remove(number)
    assert queue.items() == []
