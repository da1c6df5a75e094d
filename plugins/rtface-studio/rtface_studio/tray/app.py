"""Connects the icon and its menu to the camera."""

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

_STUDIO_EXIT_TIMEOUT_S = 20.0  # the studio may have to end a live run, and this can take 15 seconds
_TITLE_LENGTH = 100
"""Maximum number of characters in the title."""


class StudioProcess:
    """Starts the studio on demand, as a child process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._address = ""
        self._lock = threading.Lock()

    def open(self) -> None:
        """Opens the studio's page. Starts the studio if needed. Raises OutputError on failure."""
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
            raise OutputError("the studio could not be started; run rtface app to see the reason", code="studio_start")
        if not open_in_browser(address):
            raise OutputError("no browser was found in which to open the studio", code="no_browser")

    def close(self) -> None:
        """Ends the studio. Jobs in the queue continue."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STUDIO_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()


class TrayApp:
    """Connects the camera, the menu and the icon.

    Args:
        camera: camera run that has not been started.
        command_line: command that starts the tray application at login.
        show_error: called with the message when a menu action fails.
        language: language of the menu, "en" or "de".

    Attributes:
        stop: event that the menu entry Quit sets.
        icon: icon that shows the view; None until it is assigned.
    """

    def __init__(
        self,
        camera: CameraRun,
        command_line: list[str],
        show_error: Callable[[str], None],
        stop: threading.Event,
        language: str = "en",
    ) -> None:
        self._language = language
        self._camera, self._command_line, self._show_error, self.stop = camera, command_line, show_error, stop
        self._studio = StudioProcess()
        self._last_error = ""
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
            shorten(self._last_error or title, _TITLE_LENGTH, placeholder=" …"),
            (
                MenuItem(self._text("enhance"), lambda: self._run(camera.toggle), checked=camera.enabled),
                MenuItem(self._text("studio"), lambda: self._run(self._studio.open)),
                MenuItem(self._text("autostart"), lambda: self._run(self._toggle_login), checked=starts_at_login()),
                MenuItem(self._text("quit"), self.stop.set),
            ),
        )

    def refresh(self) -> None:
        """Updates the icon. Called after every change."""
        if self.icon is not None:
            self.icon.show(self.view())

    def close(self) -> None:
        """Ends the camera's run and the studio."""
        self._studio.close()
        self._camera.close()

    def _text(self, key: str, **values: str) -> str:
        return catalogue()[f"tray.{key}"][self._language].format(**values)

    def _toggle_login(self) -> None:
        set_start_at_login(None if starts_at_login() else self._command_line)

    def _run(self, action: Callable[[], None]) -> None:
        try:
            action()
            self._last_error = ""
        except (RtfaceError, OSError) as error:
            self._last_error = translated(message_of(error), self._language)
            self._show_error(message_of(error))
        self.refresh()
