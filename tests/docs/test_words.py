"""Plain sentences and names in code and documentation, and short names of tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.plain import ALL, EXCEPTIONS, findings
from tests.docs.syntax import parsed

ROOT = Path(__file__).resolve().parents[2]
LONGEST_NAME = 60
OF_OTHERS = {"_obj", "_exit", "_rebuild_tensor_v2", "_asdict"}
"""Names of ctypes, of os, of torch and of named tuples, which have no public ones."""


def test_code_and_pages_are_plain() -> None:
    listed = findings(ALL)
    assert not listed, "\n".join(map(str, listed))
    assert len(EXCEPTIONS) <= 10


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
