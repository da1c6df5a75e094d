"""Opens pages of a live run or the studio in a browser."""

from __future__ import annotations

import webbrowser

from rtface.concurrency.threads import start_thread

_START_S = 10.0


def open_in_browser(url: str, *, wait: bool = False) -> bool:
    """Opens a page in the user's graphical browser. Returns False if there is none.

    Args:
        url: address of the page.
        wait: whether to wait until the browser has started, for callers that then exit.
    """
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if type(browser) is webbrowser.GenericBrowser:  # a text browser would take over our terminal and block
        return False
    started = start_thread("browser", browser.open, url)
    if wait:
        started.join(_START_S)
    return True
