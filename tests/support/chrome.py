"""A real Chromium for tests: the installed one, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright import sync_api

from abo_vqa.reporting.pdf import browser_command


class Page:
    """One tab; what it logged and asked the network for is kept."""

    def __init__(self, tab: sync_api.Page) -> None:
        self.tab = tab
        self.run, self.press = tab.evaluate, tab.keyboard.press
        self.problems: list[str] = []
        tab.on("pageerror", lambda error: self.problems.append(str(error)))
        tab.on("console", self.note)
        # Of DevTools itself: Playwright's own event leaves out the requests for favicon.ico.
        self.asked: list[str] = []
        self.devtools = tab.context.new_cdp_session(tab)
        self.devtools.on(
            "Network.requestWillBeSent", lambda event: self.asked.append(event["request"]["url"])
        )
        self.send("Network.enable")

    def note(self, message: sync_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    @property
    def requests(self) -> list[str]:
        self.send("Network.enable")  # answered after what has happened is told
        return self.asked

    def send(self, method: str, **params: Any) -> Any:
        """Call a DevTools method."""
        return self.devtools.send(method, params)

    def open(self, url: str) -> None:
        """Load an address and wait until the page and its images are there."""
        self.tab.goto("about:blank")
        self.requests.clear()
        self.tab.goto(url)

    def size(self, width: int, height: int) -> None:
        """Resize the tab; a narrow one is a phone's: Playwright itself can't change that later."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip


@contextmanager
def chromium(browser: str) -> Iterator[Page]:
    """Start a browser with a fresh profile and a tab in it."""
    _, *options, _profile = browser_command(browser, Path())
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch_persistent_context(
            "",  # a temporary profile
            executable_path=browser,
            args=options,
            chromium_sandbox=True,  # unless the options say otherwise
            no_viewport=True,
        ) as context,
    ):
        yield Page(context.pages[0])
