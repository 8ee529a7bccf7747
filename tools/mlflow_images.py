"""Photographs MLflow's browser for docs/images, with the runs that this checkout has recorded.

python tools/mlflow_images.py        # needs Chromium; about a minute
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from abo_vqa.core.config import load_config
from abo_vqa.core.tracking.backend import connect
from abo_vqa.core.tracking.experiment import prepare
from abo_vqa.reporting.pdf import browser_command

VIEW = "runs?workflowType=machine_learning&viewStateShareKey=abo-vqa-experiments"
WIDTH, COLORS = 1400, 64  # pixels; fewer colours make small files


@contextmanager
def browser_of_runs() -> Iterator[str]:
    """Run `abo-vqa ui` and yield its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "abo_vqa", "ui", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/#"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


def photograph(page: Page, url: str, text: str, file: Path, height: int) -> None:
    """Save a page once it shows a text."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto("about:blank")
    page.goto(url)
    close = page.get_by_role("button", name="Close")
    page.get_by_text(text).first.wait_for(timeout=60_000)
    if page.get_by_text("MLflow Assistant").count() and close.count():
        close.first.click()
    page.wait_for_timeout(1500)
    page.screenshot(path=str(file))
    with Image.open(file) as image:
        image.convert("RGB").quantize(COLORS).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def main(out: Path) -> None:
    """Photograph the table of experiments, and a table of the newest evaluation."""
    experiment = prepare(load_config().tracking.experiment)
    query = "tags.`dvc.stage` = 'evaluate' AND attributes.status = 'FINISHED'"
    run = connect().search_runs([experiment], query, max_results=1)[0].info.run_id
    executable = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    _, *options, _ = browser_command(executable, Path())
    out.mkdir(parents=True, exist_ok=True)
    with browser_of_runs() as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=options)
        page = chromium.new_page()
        home = f"{address}/experiments/{experiment}"
        photograph(page, f"{home}/{VIEW}", "gain_over", out / "mlflow-runs.png", 480)
        table = f"{home}/runs/{run}/artifacts/tables/changed_answers.json"
        photograph(page, table, "zero_shot", out / "mlflow-table.png", 640)
        chromium.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    main(parser.parse_args().out)
