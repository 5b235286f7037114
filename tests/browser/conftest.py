"""A Chromium and its pages, by Playwright's blocking interface. Without either, the tests say so and skip themselves.

Playwright keeps an asyncio loop running in this thread for as long as it is open. The browser therefore belongs to
this package and not to the session: it is closed before the same worker goes on to a notebook.
"""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser import chromium

HERE = ("127.0.0.1", "localhost", "::1")
# Every other name is unknown to the browser, so that a request to the outside fails at once, with a network or without.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND" + "".join(f", EXCLUDE {host}" for host in HERE)


@pytest.fixture(scope="package")
def browser():
    """The browser of all tests in this folder."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install -r requirements.txt")
    executable = chromium.find()
    if executable is None:
        pytest.skip(chromium.MISSING.splitlines()[0])
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=[OFFLINE])
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """A function that opens an address, or a file (a fragment may follow), as a visitor without any history.

    `page.errors` lists what the console reports as an error, and `page.outside` every request to another machine.
    """
    visitors = []

    def open_page(url_or_path, width=1400, height=900, dark=False, touch=False):
        visitor = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            service_workers="block",
        )
        visitors.append(visitor)
        page = visitor.new_page()
        page.set_default_timeout(30_000)
        page.errors, page.outside = [], []
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: _is_outside(request.url) and page.outside.append(request.url))
        page.on("websocket", lambda socket: _is_outside(socket.url) and page.outside.append(socket.url))
        page.goto(_address(url_or_path))
        return page

    yield open_page
    for visitor in visitors:
        visitor.close()


def _address(url_or_path) -> str:
    if "://" in str(url_or_path):
        return str(url_or_path)
    path, mark, fragment = str(url_or_path).partition("#")
    return Path(path).resolve().as_uri() + mark + fragment


def _is_outside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in HERE
