"""The report as PDF, printed by whichever Chromium is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from abo_vqa.core.errors import UserError
from abo_vqa.core.files import atomic_write

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
            "msedge", "microsoft-edge")  # fmt: skip
_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# No first run, updates, telemetry or shared profile.
_FLAGS = ("--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
         "--disable-background-networking", "--disable-sync", "--disable-extensions",
         "--disable-component-update", "--hide-scrollbars")  # fmt: skip
_TIMEOUT_S = 120


def find_browser() -> str | None:
    """Return a Chromium-like browser: `$BROWSER_PATH`, else one on the path, else an app."""
    if named := os.environ.get("BROWSER_PATH"):
        return named
    on_path = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    return on_path or next((app for app in _APPS if Path(app).is_file()), None)


def browser_command(browser: str, profile: Path) -> list[str]:
    """Return the command that starts a browser with a fresh profile.

    Root needs the sandbox off.

    Args:
        browser: path or name of the program.
        profile: an empty folder.
    """
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [browser, *_FLAGS, *sandbox, f"--user-data-dir={profile}"]


def print_pdf(page: Path, target: Path) -> Path:
    """Print an HTML file to PDF; return the PDF's path.

    Args:
        page: the HTML file.
        target: the PDF file.

    Raises:
        UserError: the page is missing, no browser is installed, or it fails.
    """
    if not page.is_file():
        raise UserError(f"no {page}. Run `abo-vqa report` (or `make report`) first.")
    browser = find_browser()
    if browser is None:
        raise UserError(
            f"no browser found to print the PDF with (looked for {', '.join(_BROWSERS)}). Install "
            "Chromium or set BROWSER_PATH; or open the report and print it from your browser."
        )
    with tempfile.TemporaryDirectory() as profile, atomic_write(target) as temporary:
        command = browser_command(browser, Path(profile))
        command += ["--no-pdf-header-footer", f"--print-to-pdf={temporary}"]
        command += [page.resolve().as_uri()]
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{browser} couldn't print the report: {error}") from error
        if process.returncode or not temporary.stat().st_size:
            tail = process.stderr.strip().splitlines()[-1:] or ["no message"]
            raise UserError(f"{browser} couldn't print the report: {tail[0]}")
    return target
