"""The page in a real browser: navigation, languages, themes, a lost server."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from rtface import errors
from rtface.config.options import OPTIONS
from rtface.stages.options import option_facts, summary
from rtface_studio.catalogue import PAGE, catalogue
from tests.studio.conftest import RunningStudio, check_accessible

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for place in ("rtface", "plugins/*/rtface_*", "engines/**/rtface_*") for path in ROOT.glob(f"{place}/**/*.py")
]
VIEWS = ["films", "call", "live", "queue", "engines", "health", "settings"]


def test_every_text_is_there_in_both_languages() -> None:
    assert catalogue()
    for key, text in catalogue().items():
        needed = {"de"} if key.startswith("messages.") else {"en", "de"}  # a message comes in English
        assert needed <= set(text) <= {"en", "de"} and all(text.values()), key


def test_texts_of_options_are_those_of_the_command_line() -> None:
    texts = {key: text.get("en") for key, text in catalogue().items()}
    shown = {name: one.help for name, one in OPTIONS.items()}
    assert {name: texts[f"options.{name}"] for name in shown} == shown


@pytest.mark.parametrize("package", ["rtface_overlays", "rtface_synthetic"])
def test_texts_of_overlays_are_those_of_the_command_line(package: str) -> None:
    pytest.importorskip(package)
    ours = [one.name for one in entry_points(group="rtface.stages") if one.module.startswith(package)]
    said = {f"overlays.{name}": summary(name) for name in ours}
    said |= {f"overlays.{name}.{one['name']}": one["help"] for name in ours for one in option_facts(name)}
    assert ours and {key: catalogue()[key]["en"] for key in said} == said
    words = {*ours} | {one["name"] for name in ours for one in option_facts(name)}
    words |= {f"value_{word}" for name in ours for one in option_facts(name) for word in one["words"]}
    assert not {word for word in words if f"overlay_words.{word}" not in catalogue()}


def test_messages_of_the_studio_are_known_by_their_codes() -> None:
    used, translated = dict[str, str](), set[str]()
    known = {key: text for key, text in catalogue().items() if key.startswith("messages.")}
    for file in SOURCES:
        text = file.read_text()
        codes = set(re.findall(r'\bcode="(\w+)"', text))
        used |= {code: used.get(code, "") + text for code in codes}
        translated |= codes if file.parent.name in ("rtface_studio", "rtface_learn") or "doctor" in file.name else set()
    assert translated <= {key.removeprefix("messages.") for key in known}
    for key, texts in known.items():
        source = used[key.removeprefix("messages.")]
        values = {value for text in texts.values() for value in re.findall(r"\{(\w+)\}", text)}
        assert all(f"{{{value}}}" in source or f"{value}=" in source for value in values), key


def test_a_code_stands_for_one_line() -> None:
    lines = dict[str, str]()
    for text in (file.read_text() for file in SOURCES):
        for call in ast.walk(ast.parse(text)) if 'code="' in text else ():
            for word in call.keywords if isinstance(call, ast.Call) and call.args else ():
                if word.arg == "code" and isinstance(word.value, ast.Constant):
                    line = ast.unparse(call.args[0])
                    assert lines.setdefault(str(word.value.value), line) == line, word.value.value


def test_every_error_with_a_text_has_a_code_and_its_values() -> None:
    kinds = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, BaseException)}
    for file in SOURCES:
        for call in (one for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.Call) and one.args):
            if not (isinstance(call.func, ast.Name) and call.func.id in kinds):
                continue
            given, line = {word.arg for word in call.keywords}, call.args[0]
            assert "code" in given or not isinstance(line, ast.Constant | ast.JoinedStr), (file, call.lineno)
            fields = Formatter().parse(str(line.value)) if isinstance(line, ast.Constant) and "code" in given else ()
            names = {name for _, name, _, _ in fields if name and not name.startswith("--")}
            assert names <= given, (file, call.lineno)


def test_errors_are_shown_in_the_page_s_language(page: Any, studio: RunningStudio) -> None:
    page.evaluate("localStorage.setItem('language', 'de')")
    page.reload()
    page.get_by_role("link", name="Filme").wait_for()
    page.get_by_role("link", name="Einstellungen").click()
    page.get_by_text(catalogue()["options.strength"]["de"]).wait_for()
    said = page.evaluate("""async () => {
        const { api } = await import("/page/lib/api.js");
        const asked = [api.post("/api/films", { path: "/etc/passwd" }), api.post("/api/live/set", {}),
                       api.get("/api/films/9/analysis")];
        return Promise.all(asked.map((one) => one.catch((error) => error.message)));
    }""")
    assert said[0].startswith("/etc/passwd liegt außerhalb der Ordner, die dieses Studio benutzen darf")
    assert said[1:] == [
        "es läuft kein Live-Lauf; einen starten",
        "dieser Film ist nicht mehr geöffnet; ihn noch einmal wählen",
    ]


def test_every_used_text_is_in_the_catalogue() -> None:
    used = {key for file in PAGE.rglob("*.js") for key in re.findall(r"""\bt\(["'](\w+\.\w+)["']""", file.read_text())}
    assert used and not used - set(catalogue())


def test_views_have_no_faults_of_accessibility(page: Any) -> None:
    for theme, view in product(("light", "dark"), VIEWS):
        page.evaluate(f"localStorage.setItem('theme', '{theme}')")
        page.goto(page.url.partition("#")[0] + f"#/{view}")
        page.reload()
        page.locator("main h1").first.wait_for()
        check_accessible(page)


def test_language_and_theme_are_chosen_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("link", name="Settings").click()
    page.get_by_text("strength", exact=True).wait_for()
    page.get_by_role("main").get_by_label("Theme").select_option("dark")
    page.get_by_role("main").get_by_label("Language").select_option("de")
    page.get_by_role("heading", name="Einstellungen").wait_for()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Zustand").click()
    page.get_by_text("✓ gut").first.wait_for(timeout=30_000)


def test_a_dialog_closes_by_back(page: Any) -> None:
    page.get_by_role("link", name="Live").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="Change").first.click()
    page.locator("dialog[open]").wait_for()
    page.go_back()
    page.locator("dialog").wait_for(state="detached")
    page.get_by_role("heading", name="Live", exact=True).wait_for()


def test_lost_server_is_said(page: Any, studio: Any) -> None:
    page.get_by_role("link", name="Films").wait_for()
    studio.close()
    page.get_by_text("does not respond").first.wait_for()


def imported(module: Path) -> set[Path]:
    """The module and all that it imports, also by way of others."""
    found: set[Path] = set()
    waiting = [module.resolve()]
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            names = re.findall(r'^import .* from "(.+)";', path.read_text(), re.M)
            waiting += [(path.parent / name).resolve() for name in names]
    return found


def test_modules_of_the_first_view_are_fetched_at_once() -> None:
    preloaded = re.findall(r'"modulepreload" href="/page/(.+?)"', (PAGE / "index.html").read_text())
    modules = imported(PAGE / "main.js") | imported(PAGE / "views/films.js")
    assert sorted(preloaded) == sorted(path.relative_to(PAGE).as_posix() for path in modules - {PAGE / "main.js"})
