"""Plain words in code and documentation, and short names of tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_NAME = 60

# How often a word may still stand in rtface/, docs/ and README.md. Lower a number when it has fallen; never raise one.
WORDS = {"anew": 27, "beside": 137, "nobody": 41, "be had": 13, "is told": 7, "are told": 5, "goes on": 41,
         "go on": 26, "workshop": 0, "moment": 41, "rung": 1, "ladder": 15, "stranger": 0, "desk": 0, "sealed": 2,
         "of its own": 49, "of their own": 10, "for ever": 6, "gone up": 0}


@pytest.fixture(scope="module")
def prose() -> str:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "rtface").rglob("*.py")]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_to_avoid_becomes_rarer(prose: str, word: str) -> None:
    found = len(re.findall(rf"\b{word}s?\b", prose, re.IGNORECASE))
    assert found <= WORDS[word], f"write it in plain words: {word!r} stands {found} times"


def test_names_of_tests_are_short() -> None:
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").glob("*/tests/test_*.py")]
    names = [node.name for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
             if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert len(names) > 1000
    assert not [name for name in names if len(name) > LONGEST_NAME]
