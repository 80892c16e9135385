"""A real browser: Debian's Chromium, or another that is installed; never one that is downloaded."""

import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

AXE = Path(__file__).with_name("axe.min.js")
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing():
    """Why no browser can be started; "" where one can."""
    if not find_spec("playwright"):
        return "playwright is not installed"
    return "" if program() else f"none of {', '.join(NAMES)} is installed (apt-get install chromium)"


def program():
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def browsing():
    """A browser, for as long as the block runs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program(), args=flags)
        yield browser
        browser.close()


def troubles(page):
    """What axe-core finds serious or critical."""
    page.evaluate(AXE.read_text())  # by the protocol, which the content policy does not bind
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (one["id"], one["impact"], [node["target"] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
