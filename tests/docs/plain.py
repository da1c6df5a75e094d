"""Finds sentences and names that are not plain: ``python -m tests.docs.plain [PATH ...]``.

Checks first lines of docstrings, relative clauses at the start of sentences, long table cells, and names that do not
say the thing. Reads Python and Markdown.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALL = [ROOT / name for name in ("rtface", "plugins", "engines", "benchmarks", "docs")] + [*ROOT.glob("*.md")]
WORDS, CELL_WORDS = 12, 40
NAMES = {"found", "own", "known", "made", "said", "mine", "theirs", "Doing", "Made", "Checked", "Foreign", "Held"}
# First words of docstrings that end in "s" like a verb and are none.
NO_VERBS = frozenset(
    ("This", "Its", "Whether", "Always", "Seconds", "Milliseconds", "Hours", "Times", "Bytes", "Packets", "Frames")
    + ("Faces", "Pixels", "Samples", "Values")
)
# A command's docstring is its help text, and that is an imperative.
COMMANDS = frozenset(
    [
        "Add",
        "Check",
        "Copy",
        "Delete",
        "Enhance",
        "Learn",
        "List",
        "Move",
        "Open",
        "Print",
        "Propose",
        "Remove",
        "Run",
        "Show",
    ]
)
# At most ten places that stay as they are: names of files' keys and of the API, and a title in finished films.
EXCEPTIONS = frozenset(
    {
        ("rtface/engine/recipe_tables.py", "known"),
        ("rtface/protocols.py", "known"),
        ("engines/training/model/networks.py", "known"),
        ("engines/training/model/recurrence.py", "known"),
        ("rtface/media/write/invented.py", "What was invented: possible error of the output, of 255,"),
    }
)
RELATIVE = re.compile(r"(?:What|Who|Whoever|Whatever|Whose|Whom|Which)\b[^.!?]*(?:[.!]|$)")
# Where a sentence begins.
BEGIN = re.compile(r"(?:\A|[.!?]\s+|\n\s*\n\s*|\n\s*(?:[-*]|\d+\.)\s+|\|\s*)(?=[A-Z])")


@dataclass(frozen=True, order=True)
class Finding:
    """A place that is not plain.

    Attributes:
        kind: "first-line", "verb", "relative", "cell" or "name".
    """

    path: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.text}"


def relative_clauses(text: str) -> Iterator[tuple[int, str]]:
    """Yields sentences that begin with a relative clause, and the lines before them."""
    for begin in BEGIN.finditer(text):
        if clause := RELATIVE.match(text, begin.end()):
            yield text[: begin.end()].count("\n"), " ".join(clause[0].split())[:90]


def check_docstring(node: ast.AST, text: str) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with the first sentence of a docstring."""
    first = re.split(r"\n\s*\n|(?<=[.!?:])\s", text.strip(), maxsplit=1)[0]
    words = [word for word in first.split() if re.search(r"\w", word)]
    if len(words) > WORDS:
        yield "first-line", f"{len(words)} words: {' '.join(words)[:110]}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and words:
        decorators = {ast.unparse(one).split("(")[0].split(".")[-1] for one in node.decorator_list}
        verb = re.fullmatch(r"[A-Z][a-z]+(-[a-z]+)?s,?", words[0]) and words[0] not in NO_VERBS
        if not verb and words[0] not in COMMANDS and not decorators & {"property", "cached_property"}:
            yield "verb", " ".join(words)[:110]


def check_python(path: Path, shown: str) -> Iterator[Finding]:
    """Yields findings of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and (text := ast.get_docstring(node)):
            line = node.body[0].lineno
            yield from (Finding(shown, line, kind, why) for kind, why in check_docstring(node, text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from (
                Finding(shown, node.lineno + n, "relative", clause) for n, clause in relative_clauses(node.value)
            )
        name = {
            ast.arg: lambda one: one.arg,
            ast.Name: lambda one: one.id if isinstance(one.ctx, ast.Store) else "",
            ast.Attribute: lambda one: one.attr if isinstance(one.ctx, ast.Store) else "",
            ast.FunctionDef: lambda one: one.name,
            ast.ClassDef: lambda one: one.name,
        }.get(type(node), lambda _: "")(node)
        if name.strip("_") in NAMES:
            yield Finding(shown, getattr(node, "lineno", 0), "name", name)
    comment, last = "", -2
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            follows = token.start[0] == last + 1
            comment, last = token.string.lstrip("#: "), token.start[0]
            begin = comment if follows else comment[:1].upper() + comment[1:]
            yield from (Finding(shown, last, "relative", clause) for _, clause in relative_clauses(begin))


def check_markdown(path: Path, shown: str) -> Iterator[Finding]:
    """Yields findings of a page; headings and code are free."""
    text = re.sub(
        r"^(```.*?^```|#.*?$|    .*?$)",
        lambda code: "\n" * code[0].count("\n"),
        path.read_text("utf-8"),
        flags=re.M | re.S,
    )
    yield from (Finding(shown, n + 1, "relative", clause) for n, clause in relative_clauses(text))
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|"):
            for cell in line.strip("|").split("|"):
                if len(cell.split()) > CELL_WORDS:
                    yield Finding(shown, number, "cell", f"{len(cell.split())} words: {cell.strip()[:80]}")


def findings(paths: list[Path]) -> list[Finding]:
    """Findings in files, and in all of some folders but tests."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    listed = set[Finding]()
    for file in files:
        shown = file.relative_to(ROOT).as_posix()
        if "/tests/" in shown or "node_modules" in shown:
            continue
        if file.suffix == ".py":
            listed |= set(check_python(file, shown))
        elif file.suffix == ".md":
            listed |= set(check_markdown(file, shown))
    return sorted(one for one in listed if (one.path, one.text) not in EXCEPTIONS)


def main() -> None:
    """Prints the findings of the paths, or of all, and how many of each kind."""
    listed = findings([Path(name).resolve() for name in sys.argv[1:]] or ALL)
    print(*listed, sep="\n")
    print(Counter(one.kind for one in listed))


if __name__ == "__main__":
    main()
