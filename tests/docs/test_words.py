"""Plain words in code and documentation, and short names of tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.syntax import parsed

ROOT = Path(__file__).resolve().parents[2]
LONGEST_NAME = 60
OF_OTHERS = {"_obj", "_exit", "_rebuild_tensor_v2", "_asdict"}
"""Names of ctypes, of os, of torch and of named tuples, which have no public ones."""

# How often a word may still stand in rtface/, docs/ and README.md. Lower a number when it has fallen; never raise one.
WORDS = {
    "anew": 12,
    "beside": 45,
    "nobody": 11,
    "be had": 2,
    "is told": 0,
    "are told": 2,
    "goes on": 10,
    "go on": 12,
    "workshop": 0,
    "moment": 3,
    "rung": 0,
    "ladder": 6,
    "stranger": 0,
    "desk": 0,
    "sealed": 2,
    "of its own": 12,
    "of their own": 3,
    "for ever": 1,
    "gone up": 0,
}


@pytest.fixture(scope="module")
def prose() -> str:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "rtface").rglob("*.py")]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_to_avoid_becomes_rarer(prose: str, word: str) -> None:
    found = len(re.findall(rf"\b{word}s?\b", prose, re.IGNORECASE))
    assert found <= WORDS[word], f"write it in plain words: {word!r} stands {found} times"


@pytest.fixture(scope="module")
def trees() -> list[list[ast.AST]]:
    files = [
        *(ROOT / "tests").rglob("*.py"),
        *(path for top in ("plugins", "engines") for path in (ROOT / top).rglob("tests/*.py")),
    ]
    return [list(ast.walk(tree)) for tree in parsed(files).values()]


def private(name: object) -> bool:
    return (
        isinstance(name, str) and re.fullmatch(r"([\w.]+\.)?_[a-zA-Z]\w*", name) is not None and name not in OF_OTHERS
    )


def test_no_private_names_of_other_modules(trees: list[list[ast.AST]]) -> None:
    found = []
    for nodes in trees:
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        own = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        found += [ast.unparse(node) for node in attributes if private(node.attr) and node.attr not in own]
        found += [
            alias.name
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if private(alias.name)
        ]
        found += [
            ast.unparse(node)
            for node in nodes
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
            for word in node.args
            if isinstance(word, ast.Constant) and private(word.value)
        ]
    assert not found


def test_names_of_tests_are_short(trees: list[list[ast.AST]]) -> None:
    names = [
        node.name
        for nodes in trees
        for node in nodes
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert not [name for name in names if len(name) > LONGEST_NAME]
