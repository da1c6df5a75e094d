"""What is generated from `rtface.config.options`: `python -m tests.docs.option_tables` renews, test_docs compares."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from rtface.config.options import GROUPS, OPTIONS, Option, Scope
from rtface.util import parse

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "<!-- Generated from rtface/config/options.py by python -m tests.docs.option_tables -->"
END = "<!-- End of the generated part -->"
KEYWORDS = [option for option in OPTIONS.values() if option.scope != Scope.CONSOLE]
"""The options that Python takes."""


def _default(option: Option) -> str:
    value = option.unset if option.default is None else option.default
    if isinstance(value, bool) or value == ():
        return ""
    return f" ({value:g})" if isinstance(value, int | float) else f" ({value})"


def _flag(option: Option) -> str:
    value = "" if option.check is parse.boolean else f" {option.metavar or option.check.metavar}"
    return f"{option.flag}{value}"


def cli_lists() -> str:
    """The lists of docs/cli.md, one for each group."""
    parts: list[str] = []
    for group in GROUPS:
        options = [OPTIONS[field.name] for field in fields(group)]
        title = (group.__doc__ or "").splitlines()[0].rstrip(".")
        parts += [f"### {title}", "", *(f"- `{_flag(o)}`{_default(o)}: {_meaning(o)}" for o in options), ""]
    return "\n".join(parts)


def _meaning(option: Option) -> str:
    more = option.more and f" {option.more.rstrip('.')}."
    also = "".join(f" `{flag}` is the same." for flag in option.flags[1:])
    return re.sub(r"'([^']+)'", r"`\1`", option.help) + more + also


def python_lists() -> str:
    """The lists of docs/python.md."""
    callers = {"rtface.analyze": Scope.ANALYSIS, "rtface.Enhancer": Scope.ENHANCER}
    return "\n".join(
        f"- `{caller}` accepts {', '.join(f'`{o.name}`' for o in KEYWORDS if scope in o.scope)}."
        for caller, scope in callers.items()
    )


def files() -> dict[Path, str]:
    """The text that each generated file should have."""

    def renewed(path: Path, table: str) -> str:
        text = path.read_text(encoding="utf-8")
        begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
        return f"{text[:begin]}\n\n{table}\n{text[end:]}"

    cli, python = ROOT / "docs/cli.md", ROOT / "docs/python.md"
    return {
        cli: renewed(cli, cli_lists()),
        python: renewed(python, python_lists() + "\n"),
    }


def main() -> None:
    """Writes the files."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
