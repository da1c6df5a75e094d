"""Names in backticks in docstrings and comments: what they name is there.

Checked are `Class`, `Class.member` and `module.name`; names of other libraries are not ours to check.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.docs.syntax import parsed

ROOT = Path(__file__).parents[2] / "rtface"
_NAME = re.compile(r"(?<!`)`((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?:\([^`]*\))?`(?!`)")


Nodes = dict[Path, list[ast.AST]]


def members(tree: Iterable[ast.AST]) -> set[str]:
    """All names that are bound anywhere below: functions, classes, variables, parameters, attributes, imports."""
    found: set[str] = set()
    for node in tree:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                found.add(node.id)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store):
                found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.split(".")[-1])
    return found


def house(nodes: Nodes, bound: dict[Path, set[str]]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Members of every class and of every module or package of rtface, by the last part of its name."""
    classes: dict[str, set[str]] = defaultdict(set)
    modules: dict[str, set[str]] = defaultdict(set)
    bases: list[tuple[str, str]] = []
    for path, tree in nodes.items():
        name = path.parent.name if path.stem == "__init__" else path.stem
        modules[name] |= bound[path]
        modules[path.parent.name].add(name)
        for node in tree:
            if isinstance(node, ast.ClassDef):
                classes[node.name] |= members(ast.walk(node))
                bases += [
                    (node.name, base.attr if isinstance(base, ast.Attribute) else base.id)
                    for part in node.bases
                    if isinstance(
                        base := part.value if isinstance(part, ast.Subscript) else part, ast.Name | ast.Attribute
                    )
                ]
    for _ in range(4):
        for name, base in bases:
            classes[name] |= classes.get(base, set())
    return classes, modules


def texts(path: Path, tree: list[ast.AST]) -> list[tuple[int, str]]:
    """Line and text of each comment and of each string that stands alone."""
    found: list[tuple[int, str]] = []
    source = path.read_bytes()
    if re.search(rb"#.*`", source):  # otherwise no comment has a name, and is not looked for
        found = [
            (token.start[0], token.string)
            for token in tokenize.tokenize(io.BytesIO(source).readline)
            if token.type == tokenize.COMMENT
        ]
    return found + [
        (node.lineno, node.value.value)
        for node in tree
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]


def test_names_in_docstrings_are_there() -> None:
    nodes: Nodes = {path: list(ast.walk(tree)) for path, tree in parsed(ROOT.rglob("*.py")).items()}
    bound = {path: members(tree) for path, tree in nodes.items()}
    classes, modules = house(nodes, bound)
    wrong: list[str] = []
    for path in sorted(nodes):
        imported = bound[path]
        for line, text in texts(path, nodes[path]):
            for name in _NAME.findall(text):
                *before, last = name.split(".")
                owner = before[-1] if before else ""  # class or module that `last` should be in
                if before[:1] in (["cuda"], ["rtface"]) or owner in sys.stdlib_module_names or last == "cu":
                    continue  # the package cuda, groups of entry points, the standard library, kernels
                if owner in classes:
                    good = last in classes[owner]
                elif owner in modules:
                    good = last in modules[owner] or last in modules
                elif owner:
                    good = (before[0] in imported and before[0] not in modules) or not owner.islower()
                else:
                    good = (
                        not last[0].isupper()
                        or last.isupper()
                        or last in classes
                        or last in imported
                        or hasattr(builtins, last)
                    )
                if not good:
                    wrong.append(f"{path.relative_to(ROOT.parent)}:{line}: `{name}`")
    assert not wrong, "\n".join(wrong)
