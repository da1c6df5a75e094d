"""Opens pages of a live run, and the studio, in the user's browser."""

from __future__ import annotations

import webbrowser

from rtface.concurrency.threads import start_thread

_START_S = 10.0


def open_in_browser(url: str, *, wait: bool = False) -> bool:
    """Opens a page in the user's browser; False where there is no browser with windows.

    Args:
        url: of the page.
        wait: until the browser has been started, for who ends next.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if type(browser) is webbrowser.GenericBrowser:  # a browser in the terminal would take ours, and wait
        return False
    started = start_thread("browser", browser.open, url)
    if wait:
        started.join(_START_S)
    return True
