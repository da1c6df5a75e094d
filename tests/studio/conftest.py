"""The studio's server on a free port, and a headless browser where ``RTFACE_TEST_CHROMIUM`` names one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rtface_studio.context import Studio
from rtface_studio.folders import AllowedFolders
from rtface_studio.server import StudioServer
from tests.entry_points import registered

CHROMIUM = os.environ.get("RTFACE_TEST_CHROMIUM")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What it gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class RunningStudio:
    """A studio that answers on a thread of this process.

    Attributes:
        folder: the first of its folders, for films; uploads lie in another, as with ``rtface app``.
        server, studio: its parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        uploads = folder.parent / "uploads"
        uploads.mkdir(exist_ok=True)
        self.studio = Studio(AllowedFolders([folder, uploads]), uploads)
        self.server = StudioServer(self.studio, port=0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.server.run, args=(self._stop,))
        self._thread.start()

    @property
    def address(self) -> str:
        return self.server.address

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def entry_points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("site"), "rtface-studio", "rtface-engines", "rtface-learn"):
        yield


@pytest.fixture(scope="session", autouse=True)
def servers_stop_soon() -> Iterator[None]:
    """Some hundred tests have a server of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtface.web.server.STOP_S", 0.01)
        yield


@pytest.fixture
def start_studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], RunningStudio]]:
    """Starts a studio on a folder of this test, with data and settings of its own."""
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RTFACE_CONFIG_DIR", str(tmp_path / "config"))
    running: list[RunningStudio] = []

    def start() -> RunningStudio:
        folder = tmp_path / "films"
        folder.mkdir(exist_ok=True)
        running.append(RunningStudio(folder))
        return running[-1]

    yield start
    for studio in running:
        studio.close()


@pytest.fixture
def studio(start_studio: Callable[[], RunningStudio]) -> RunningStudio:
    return start_studio()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless; tests that need it are skipped where there is none. It ends with the module: while it is
    open, the thread of the tests has a running event loop, which tests of other modules cannot work with."""
    if not CHROMIUM:
        pytest.skip("RTFACE_TEST_CHROMIUM names no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def page(browser: Any, studio: RunningStudio) -> Iterator[Any]:
    """The studio's page, opened by its address; a fault of a script or a refused request fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    faults: list[str] = []
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: (
            faults.append(message.text)
            if message.type == "error"
            and not message.text.startswith(("Failed to load resource", "WebSocket connection"))
            else None
        ),
    )  # a lost server
    page.goto(studio.address)
    page.get_by_role("navigation").wait_for()
    yield page
    context.close()
    assert not faults, faults


def check_accessible(page: Any) -> None:
    """Fails where the page is not what WCAG 2.2 AA asks for."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
    assert not found.response["violations"], found.generate_report()


def expect(locator: Any) -> Any:
    """Playwright's own, imported where there is a browser."""
    from playwright.sync_api import expect

    return expect(locator)
