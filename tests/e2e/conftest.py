"""A real browser: Debian's chromium, driven by playwright. Required in CI, skipped with a reason where it is missing."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="package")  # playwright keeps an event loop running in this thread: not beyond these tests
def browser():
    if not CHROMIUM:
        assert not os.environ.get("CI"), "CI must have chromium"
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens an address in a fresh context; the test fails on a console error or a request to another host."""
    contexts, complaints = [], []

    def open_page(address, width=1280, height=800, scheme="light", script=""):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # "csp": our own policy stopped it before it left.
        elsewhere = lambda r: r.url.startswith("http") and not r.url.startswith(address) and r.failure != "csp"  # noqa: E731
        for event in ("requestfinished", "requestfailed"):
            page.on(event, lambda r: complaints.append(r.url) if elsewhere(r) else None)
        page.add_init_script(script)
        page.goto(address)
        page.get_by_test_id("textbox").wait_for()
        page.wait_for_function("document.querySelector('#model')?.className !== 'loading'")
        return page

    yield open_page
    for context in contexts:
        context.close()
    # A test's server may be gone before its page is; what our own policy blocks is meant to be blocked.
    expected = ("ERR_CONNECTION_REFUSED", "Content Security Policy")
    assert [text for text in complaints if not any(words in text for words in expected)] == []
