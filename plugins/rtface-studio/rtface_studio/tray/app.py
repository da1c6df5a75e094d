"""Connects the icon's view and menu to the camera."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from textwrap import shorten

from rtface.errors import OutputError, RtfaceError, message_of
from rtface.live.control.browser import open_in_browser
from rtface_studio.catalogue import catalogue, translated
from rtface_studio.tray.autostart import set_start_at_login, starts_at_login
from rtface_studio.tray.camera_run import CameraRun
from rtface_studio.tray.view import IconState, MenuItem, TrayIcon, TrayView

_STUDIO_S = 20.0  # the studio may have to end a live run, which takes up to 15 seconds
_TITLE = 100
"""Maximum characters of the title."""


class StudioProcess:
    """Starts the studio on demand, as a child process of the icon."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._lock = threading.Lock()

    def open(self) -> None:
        """Opens the studio's page in the browser; starts the studio if needed. Raises OutputError on failure."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "rtface", "app", "--no-browser", "--port=0", "-q"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert self._process.stdout is not None
                self._address = self._process.stdout.readline().strip()
            address = self._address
        if not address:
            raise OutputError("the studio could not be started; rtface app in a terminal says why", code="studio_start")
        if not open_in_browser(address):
            raise OutputError("no browser was found to open the studio in", code="no_browser")

    def close(self) -> None:
        """Ends the studio; jobs of its queue continue."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STUDIO_S)
            except subprocess.TimeoutExpired:
                self._process.kill()


class TrayApp:
    """Connects the camera, the menu and the icon.

    Args:
        camera: a run that has not begun.
        words: command line that starts this icon at login.
        show: called with errors of the menu's actions.
        language: language of the menu, "en" or "de".

    Attributes:
        stop: event that the menu entry Quit sets.
        icon: icon that shows the view; None until it is assigned.
    """

    def __init__(
        self,
        camera: CameraRun,
        words: list[str],
        show: Callable[[str], None],
        stop: threading.Event,
        language: str = "en",
    ) -> None:
        self._language = language
        self._camera, self._words, self._show, self.stop = camera, words, show, stop
        self._studio = StudioProcess()
        self._trouble = ""
        self.icon: TrayIcon | None = None

    def view(self) -> TrayView:
        """Returns the current view of the icon."""
        camera = self._camera
        state: IconState = "working" if camera.enabled else "off"
        title = self._text(
            camera.state if camera.state != "running" else "on" if camera.enabled else "off",
            why=translated(camera.error, self._language),
        )
        if camera.state in ("asleep", "failed"):
            state = camera.state
        return TrayView(
            state,
            shorten(self._trouble or title, _TITLE, placeholder=" …"),
            (
                MenuItem(self._text("enhance"), lambda: self._do(camera.toggle), checked=camera.enabled),
                MenuItem(self._text("studio"), lambda: self._do(self._studio.open)),
                MenuItem(self._text("autostart"), lambda: self._do(self._autostart), checked=starts_at_login()),
                MenuItem(self._text("quit"), self.stop.set),
            ),
        )

    def refresh(self) -> None:
        """Updates the icon's view; called after every change."""
        if self.icon is not None:
            self.icon.show(self.view())

    def close(self) -> None:
        """Ends the camera's run and the studio."""
        self._studio.close()
        self._camera.close()

    def _text(self, key: str, **values: str) -> str:
        return catalogue()[f"tray.{key}"][self._language].format(**values)

    def _autostart(self) -> None:
        set_start_at_login(None if starts_at_login() else self._words)

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
            self._trouble = ""
        except (RtfaceError, OSError) as error:
            self._trouble = translated(message_of(error), self._language)
            self._show(message_of(error))
        self.refresh()
