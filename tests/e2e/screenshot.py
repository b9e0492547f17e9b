"""Makes space/page.png again, and all other views for the eye: `python -m tests.e2e.screenshot [FOLDER]`.

The embedded model answers; with a FOLDER, light and dark at 1280 and 390 pixels go there as well.
"""

import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from space.engine import load
from tests.e2e.conftest import CHROMIUM, FLAGS
from tests.serving import serving

PICTURE = Path(__file__).parent.parent.parent / "space" / "page.png"


def take(browser, address, file, width, height, scheme):
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.locator("#model.ready").wait_for()
    box = page.get_by_test_id("textbox")
    for number, question in enumerate(["What are the symptoms of diabetes?", "How is it treated?"], start=1):
        box.fill(question)
        box.press("Enter")
        expect(page.locator("#conversation .bot.message:not(.pending)")).to_have_count(number, timeout=60_000)
        expect(box).to_be_enabled(timeout=60_000)
    page.wait_for_timeout(500)
    page.screenshot(path=file)
    context.close()


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with serving(load=load) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        take(browser, address, PICTURE, 1280, 800, "light")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for width, height in ((1280, 800), (390, 844)):
                    take(browser, address, folder / f"{scheme}-{width}.png", width, height, scheme)
        browser.close()


if __name__ == "__main__":
    main()
