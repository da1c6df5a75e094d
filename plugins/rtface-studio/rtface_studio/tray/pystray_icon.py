"""Shows the icon on Windows and macOS, using pystray. Untested on both."""

from __future__ import annotations

import threading
from typing import Any

import pystray  # pyright: ignore[reportMissingImports]  # not installed on Linux
from PIL import Image

from rtface.concurrency.threads import start_thread
from rtface_studio.tray.view import MenuItem, TrayView, draw_icon


class PystrayIcon:
    """A `TrayIcon` for Windows and macOS. Call `run` on the main thread."""

    def __init__(self, view: TrayView) -> None:
        self._view = view
        self._icon: Any = pystray.Icon("rtface", self._image(), f"rtface: {view.title}", pystray.Menu(self._items))

    def run(self, stop: threading.Event) -> None:
        """Shows the icon until `stop` is set."""
        start_thread("stop", lambda: (stop.wait(), self._icon.stop()))
        self._icon.run()

    def show(self, view: TrayView) -> None:
        """Shows another view. May be called from any thread, even before `run`."""
        self._view = view
        self._icon.icon, self._icon.title = self._image(), f"rtface: {view.title}"
        self._icon.update_menu()

    def _image(self) -> Image.Image:
        return Image.fromarray(draw_icon(self._view.state, 64), "RGBA")

    def _items(self) -> list[Any]:
        return [
            pystray.MenuItem(self._view.title, None, enabled=False),
            pystray.Menu.SEPARATOR,
            *(_entry(item, default=n == 0) for n, item in enumerate(self._view.items)),
        ]


def _entry(item: MenuItem, *, default: bool) -> Any:
    def perform() -> None:
        if item.action is not None:
            start_thread("menu", item.action)

    def is_ticked(entry: object) -> bool:
        return bool(item.checked)

    return pystray.MenuItem(item.label, perform, default=default, checked=None if item.checked is None else is_ticked)
