"""Laws of docs/architecture.md that import-linter does not check: module circles, threads and processes."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.docs.syntax import parsed

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = (
    "rtface",
    "plugins/*/rtface_*",
    "engines/rtface_*",
    "engines/rtface-learn/rtface_*",
    "engines/published/*/rtface_*",
)
FILES = sorted(path for pattern in PATTERNS for path in ROOT.glob(f"{pattern}/**/*.py"))
NAMED = re.compile(r"rtface\.(\w+)[\w.]*:\w+")
STARTS = {"run", "call", "check_call", "check_output"}  # of subprocess
MAKERS = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Process", "Popen", "fork"}

# Who besides rtface/concurrency makes threads or processes, and for what. A new line needs a reason as good as these.
ALLOWED = {
    "rtface/device/cuda/stream_thread.py": "owns a CUDA stream",
    "rtface/engine/host_engine.py": "runs an engine beside the frame loop",
    "rtface/engine/cuda/hosted.py": "answers crops of the host beside frames on the GPU",
    "engines/rtface_engines/child.py": "converts weights in another Python environment",
    "engines/rtface-learn/rtface_learn/pairs.py": "codes several takes at once",
    "engines/rtface-learn/rtface_learn/trainer.py": "is run by another Python, which has torch",
    "rtface/live/devices/pipewire_camera.py": "asks a program of PipeWire for its cameras",
    "rtface/pipeline/build.py": "loads engine and tracker at the same time",
    "rtface/pipeline/film.py": "loads the engine while the film is opened",
    "rtface/live/session.py": "loads engine and tracker while source and sinks are opened",
    "plugins/rtface-studio/rtface_studio/commands.py": "runs commands that are slow or may crash",
    "plugins/rtface-studio/rtface_studio/live_run.py": "starts live runs",
    "plugins/rtface-studio/rtface_studio/queue.py": "starts the runner of the queue, which outlasts the server",
    "plugins/rtface-studio/rtface_studio/tray/app.py": "starts the studio from the icon",
    "plugins/rtface-studio/rtface_studio/tray_command.py": "checks the options of the icon's run",
}


@cache
def trees() -> dict[str, ast.Module]:
    """File → its syntax tree."""
    return {path.relative_to(ROOT).as_posix(): tree for path, tree in parsed(FILES).items()}


@pytest.fixture(scope="module", autouse=True)
def no_trees_afterwards() -> Iterator[None]:
    yield
    for kept in (trees, nodes):
        kept.cache_clear()


@cache
def nodes(path: str) -> list[ast.AST]:
    return list(ast.walk(trees()[path]))


def modules() -> dict[str, str]:
    """Module → file."""
    return {
        re.sub(r"^(plugins|engines)/(.*/)?(?=rtface_)|(/__init__)?\.py$", "", path).replace("/", "."): path
        for path in trees()
    }


def imported(path: str, known: dict[str, str]) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def calls(path: str) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "id", None) or getattr(function, "attr", "")
            owner = getattr(getattr(function, "value", None), "id", "")
            if name in MAKERS or (owner == "subprocess" and name in STARTS):
                yield name


def test_no_two_modules_import_each_other() -> None:
    known = modules()
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items() if name != "rtface"}
    assert len(graph) > 200
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_threads_and_processes_have_one_home() -> None:
    makers = {path for path in trees() if set(calls(path))}
    strays = {path for path in makers if not path.startswith(("rtface/concurrency/", *ALLOWED))}
    assert not strays, f"make threads in rtface/concurrency, or give a reason above: {strays}"
    assert all(any(path.startswith(allowed) for path in makers) for allowed in ALLOWED), "a line above is out of date"


def test_modules_named_in_strings_obey_the_layers() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    floor = {name: number for number, names in enumerate(layers) for name in names.split(" | ")}
    for path in trees():
        if path == "rtface/util/plugins.py" or path.startswith(
            ("plugins/", "engines/")
        ):  # the registry of what is above it
            continue
        for node in nodes(path):
            if isinstance(node, ast.Constant) and (named := NAMED.fullmatch(str(node.value))):
                assert floor[Path(path).parts[1].removesuffix(".py")] <= floor[named[1]], f"{path}: {named[0]}"


def test_a_run_is_checked_in_one_place_and_built_in_one() -> None:
    assert callers("check_outputs", "rtface/pipeline/", "rtface/trust/", "rtface/jobs/") <= {"rtface/pipeline/plan.py"}
    for check, place in ("read_treatments", "plan"), ("read_shots", "film_plan"), ("plan_output", "film_plan"):
        assert callers(check) == {f"rtface/pipeline/{place}.py"}, check
    for part in "chain", "Stages.open":
        assert callers(
            part, "rtface/pipeline/", "rtface/jobs/", "rtface/contact_sheet/", "plugins/rtface-studio/rtface_studio/"
        ) == {"rtface/pipeline/film_chain.py"}, part
    assert callers("measure_invented") == {"rtface/pipeline/film_chain.py"}


def named(node: ast.AST) -> str:
    """A name with dots between; "" for any other expression."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name) if before := named(owner):
            return f"{before}.{name}"
    return ""


def callers(function: str, *folders: str) -> set[str]:
    """The files that call a function of this name; "Stages.open" is a method of a class."""
    return {
        path
        for path in trees()
        if path.startswith(folders or ("rtface/",))
        and any(isinstance(node, ast.Call) and named(node.func) == function for node in nodes(path))
    }
