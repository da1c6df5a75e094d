"""Opens pages of a live run, and the studio, in the user's browser."""

from __future__ import annotations

import webbrowser

from rtface.concurrency.threads import start_thread


def open_in_browser(url: str) -> bool:
    """Opens a page in the user's browser, without waiting for it; False where there is no browser with windows."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if type(browser) is webbrowser.GenericBrowser:  # a browser in the terminal would take ours, and wait
        return False
    start_thread("browser", browser.open, url)
    return True
