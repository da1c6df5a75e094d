"""Plain words in code and documentation, and short names of tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_NAME = 60

# How often a word may still stand in rtface/, docs/ and README.md. Lower a number when it has fallen; never raise one.
WORDS = {"anew": 36, "beside": 153, "nobody": 64, "be had": 16, "is told": 10, "are told": 6, "goes on": 60,
         "go on": 42, "workshop": 45, "moment": 236, "rung": 99, "ladder": 62, "stranger": 0, "desk": 2, "sealed": 2,
         "of its own": 61, "of their own": 14, "for ever": 8, "gone up": 0}


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
