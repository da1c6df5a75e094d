"""Figures of the architecture, each with its limit: ``python -m tests.architecture_figures``, part of ``make lint``.

A limit is today's figure, rounded up; lower it when the figure falls. The aim is where the figure is to come to.

tests/budgets.json has the budget of each room: its logical and physical lines, or words. More for one room is less for
another: the sums of the budgets have limits here, which only fall. ``--save`` lowers the budgets to today's figures.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from tests.docs.test_architecture import ROOT, imported, modules, trees

BESIDE = "plugins/", "engines/", "benchmarks/"
BUDGETS = ROOT / "tests/budgets.json"
SUMS = {"logical": 59_405, "physical": 96_220, "tests": 60_870, "words": 39_290}
"""At most, of the budgets of all rooms: lines of code, lines of tests, and words of the pages."""
STEP = 50
PAGE = ROOT / "plugins/rtface-studio/rtface_studio/page"


class Figure(NamedTuple):
    """A figure, its limit, its aim where there is one, and what it counts."""

    name: str
    value: int
    limit: int
    aim: int | None
    counts: str


def figures() -> list[Figure]:
    """All figures of this tree."""
    core = {path: tree for path, tree in trees().items() if path.startswith("rtface/")}
    known = modules()
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items()}
    rooms = rooms_of(graph)
    lines = [logical_lines(path) for path in core]
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in core]
    added = [logical_lines(path) for path in trees().keys() - core.keys()]
    page = sum(script_lines(path.read_text(encoding="utf-8")) for path in PAGE.rglob("*.js"))
    return [
        Figure("lines of rtface/", sum(lines), 40_885, 38_500, "logical lines (NEWLINE tokens)"),
        Figure(
            "lines of plugins/",
            sum(added),
            8_140,
            None,
            "and of distributions in engines/, without tests",
        ),
        Figure("lines of the page", page, 2_940, None, "of JavaScript, but for blank lines and comments"),
        Figure("rooms", len(rooms) + len(BESIDE), 37, 36, f"packages and files in rtface/, and {', '.join(BESIDE)}"),
        Figure("floors", max(floors(rooms).values()), 11, 13, "rooms that stand on each other, at most"),
        Figure("files at the root", len([*(ROOT / "rtface").glob("*.py")]), 11, 12, "of rtface/"),
        Figure("modules in circles", len(circle(graph)), 0, 0, "of imports"),
        Figure("upward imports", len([*upward(graph)]), 0, 0, "against the layers in pyproject.toml"),
        Figure("function parameters", parameters(core.values(), "Callable"), 109, 120, "annotated with Callable"),
        Figure("whole options", parameters(core.values(), "Options"), 45, None, "parameters that take all options"),
        Figure("long modules", sum(len(text.splitlines()) > 300 for text in texts), 15, 25, "of over 300 lines"),
        Figure("open tables", sum(text.count("dict[str, Any]") for text in texts), 106, 120, "dict[str, Any]"),
        Figure("longest function", max(map(longest_function, core.values())), 109, None, "lines"),
    ]


def rooms_used() -> dict[str, Counter[str]]:
    """Counts lines and words by room, as tests/budgets.json has them."""
    used = {kind: Counter[str]() for kind in SUMS}
    for file in project_files():
        path = file.relative_to(ROOT).as_posix()
        parts = path.split("/")
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            used["words"][parts[0] + "/" if len(parts) > 1 else path] += len(text.split())
        elif "tests" in parts:
            used["tests"]["tests/" if parts[0] == "tests" else f"{parts[0]}/ (tests)"] += len(text.splitlines())
        else:
            room = "/".join(parts[:2]) + "/" if len(parts) > 2 else parts[0] + "/"
            used["logical"][room] += logical_lines(path)
            used["physical"][room] += len(text.splitlines())
    return used


def project_files() -> Iterator[Path]:
    """Lists Python files and pages, but no set-ups and outputs, which are not even walked."""
    skipped = {"out", "build", "dist", "node_modules", "runs"}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in skipped and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith((".py", ".md")))


def overspent(used: dict[str, Counter[str]]) -> Iterator[str]:
    """One line for each room above its budget, and for budgets whose sum is above its limit."""
    budgets = json.loads(BUDGETS.read_text(encoding="utf-8"))
    for kind, limit in SUMS.items():
        if (together := sum(budgets[kind].values())) > limit:
            yield f"budgets of {kind}: {together} together, {limit} at most: what one room gets, another gives"
        for room, count in used[kind].items():
            if count > budgets[kind].get(room, 0):
                yield f"{room}: {count} {kind}, {budgets[kind].get(room, 0)} in tests/budgets.json"


def lowered(used: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Budgets of today's figures, rounded up; none is raised that is there."""
    budgets = json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.exists() else {}
    return {
        kind: {
            room: min(-(-count // STEP) * STEP, budgets.get(kind, {}).get(room, sys.maxsize))
            for room, count in rooms.items()
        }
        for kind, rooms in used.items()
    }


@cache
def logical_lines(path: str) -> int:
    """Lines of code, however they are laid out."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return sum(token.type == tokenize.NEWLINE for token in tokenize.generate_tokens(io.StringIO(text).readline))


def script_lines(text: str) -> int:
    """Lines of JavaScript, but for blank ones and comments."""
    text = re.sub(r"^\s*/\*.*?\*/", "", text, flags=re.DOTALL | re.MULTILINE)
    return sum(bool(line.strip()) and not line.lstrip().startswith("//") for line in text.splitlines())


def rooms_of(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The packages and modules directly in rtface/, and which of them each imports."""
    found: dict[str, set[str]] = {}
    for name, imports in graph.items():
        if name.startswith("rtface.") or name == "rtface":
            room = name.split(".")[1] if "." in name else "__init__"
            others = {one.split(".")[1] for one in imports if one.startswith("rtface.")} - {room}
            found.setdefault(room, set()).update(others)
    return found


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above all that it imports."""
    found: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        found[room] = 1 + max((found[below] for below in rooms[room]), default=0)
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules whose imports go round; none where there are no such."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][1:]
    return []


def upward(graph: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Imports of a module by one of a lower layer."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    floor = {name: place for place, row in enumerate(contracts[0]["layers"]) for name in row.split(" | ")}
    for name, imports in graph.items():
        for one in imports:
            here, there = (floor.get(part.split(".")[1] if part.startswith("rtface.") else "") for part in (name, one))
            if here is not None and there is not None and there < here:
                yield name, one


def parameters(trees: Iterable[ast.Module], kind: str) -> int:
    """Parameters of functions whose annotations name a type."""
    return sum(
        re.search(rf"\b{kind}\b", ast.unparse(argument.annotation)) is not None
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.annotation is not None
    )


def longest_function(tree: ast.Module) -> int:
    """Lines of the longest function, with its docstring."""
    return max(
        (
            (node.end_lineno or 0) - node.lineno + 1
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        default=0,
    )


def main() -> int:
    """Prints the figures; 1 where one is above its limit."""
    used = rooms_used()
    if "--save" in sys.argv[1:]:
        BUDGETS.write_text(json.dumps(lowered(used), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    found, above = figures(), 0
    for name, value, limit, aim, counts in found:
        said = "" if aim is None else f", aim {aim}"
        above += value > limit
        print(f"{name:20} {value:6} (limit {limit}{said}) {counts}{' -- ABOVE ITS LIMIT' if value > limit else ''}")
    print("; ".join(f"{kind} {sum(rooms.values())} (budgets {SUMS[kind]})" for kind, rooms in used.items()))
    print(*(lines := [*overspent(used)]), sep="\n", end="\n" if lines else "")
    return int(above > 0 or bool(lines))


if __name__ == "__main__":
    sys.exit(main())
