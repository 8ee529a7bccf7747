"""Screenshots of the page to try the models, as it answers a question about a product.

    abo-vqa serve --page        # or any other server of the page, in another terminal
    python tools/try_screenshots.py http://127.0.0.1:8000/try docs/images

Writes try-it.png (a desktop's), try-it-dark.png and try-it-phone.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from abo_vqa.reporting.pdf import find_browser

VIEWS: dict[str, tuple[ViewportSize, bool]] = {
    "try-it": ({"width": 1440, "height": 1000}, False),
    "try-it-dark": ({"width": 1440, "height": 1000}, True),
    "try-it-phone": ({"width": 390, "height": 844}, False),
}


def answered(page: Page, url: str, product: int, question: int) -> None:
    """Choose a product and one of its questions, and wait for all answers."""
    page.goto(url)
    page.locator(".vqa-products button").nth(product).click()
    page.locator(".vqa-questions button").nth(question).click()
    page.wait_for_selector(".vqa-replies[aria-busy=false]", timeout=180_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(600)


def main() -> int:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS))
    parser.add_argument("--product", type=int, default=15)
    parser.add_argument("--question", type=int, default=0)
    args = parser.parse_args()
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium is installed")
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name in args.views:
            size, dark = VIEWS[name]
            context = chromium.new_context(
                viewport=size, color_scheme="dark" if dark else "light", device_scale_factor=1
            )
            page = context.new_page()
            answered(page, args.url, args.product, args.question)
            target = args.out / f"{name}.png"
            page.screenshot(path=str(target), full_page=True)
            # 256 colours: a quarter of the size, and no difference to be seen at this scale.
            Image.open(target).convert("RGB").quantize(256).save(target, optimize=True)
            print(target, f"{target.stat().st_size / 1000:.0f} kB")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
