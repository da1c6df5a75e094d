"""Times the studio's start: from the command `rtface app` until its first page can be used.

    RTFACE_TEST_CHROMIUM=/usr/bin/chromium python -m benchmarks.studio.first_page [--starts 10]

Each start is a new process of the server with data of its own. Chromium, headless, is open before; its cache is empty.
The page can be used when the navigation and the view of films are shown. Prints JSON: milliseconds until the address
is printed, and until the page is complete (50th, 95th and 99th percentile), and the processor time of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from playwright.sync_api import sync_playwright


def main() -> None:
    """Starts it again and again, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=10)
    starts = parser.parse_args().starts
    printed, complete, processor = list[float](), list[float](), list[float]()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("RTFACE_TEST_CHROMIUM"), args=["--no-sandbox", "--disable-gpu"]
        )
        browser.new_page().close()
        for _ in range(starts):
            with tempfile.TemporaryDirectory() as data:
                context = browser.new_context(locale="en-GB")
                page = context.new_page()
                used = os.times()
                began = time.perf_counter()
                server = subprocess.Popen(
                    [sys.executable, "-m", "rtface", "app", "--no-browser", "--port", "0", "--folder", data],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=os.environ | {"RTFACE_DATA": data},
                )
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                printed.append(1e3 * (time.perf_counter() - began))
                page.goto(address)
                page.get_by_role("navigation").wait_for()
                page.locator("main .view > *").first.wait_for()
                complete.append(1e3 * (time.perf_counter() - began))
                context.close()
                server.terminate()
                server.wait(20)
                now = os.times()
                processor.append(
                    1e3 * (now.children_user + now.children_system - used.children_user - used.children_system)
                )
        browser.close()
    print(
        json.dumps(
            {
                name: [round(float(ms)) for ms in np.percentile(values, (50, 95, 99))]
                for name, values in (
                    ("printed_ms", printed),
                    ("complete_ms", complete),
                    ("server_processor_ms", processor),
                )
            }
        )
    )


if __name__ == "__main__":
    main()
