"""What the tests in a browser rely on: errors and requests to the outside are seen; width, dark and touch arrive."""

import subprocess
import sys

import pytest

from tests.browser import chromium

PAGE = """<!doctype html><title>x</title><body><script>
const dark = matchMedia("(prefers-color-scheme: dark)").matches
document.title = [innerWidth, dark, "ontouchstart" in window, location.hash]
console.error("said"); fetch("http://example.org/x").catch(() => document.body.append("no way out"))
setTimeout(() => { throw new Error("thrown") })
</script>"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    return tmp_path / "page.html"


def test_errors_and_requests_to_the_outside_are_seen(open_page, file):
    page = open_page(file)
    page.get_by_text("no way out").wait_for()
    assert page.outside == ["http://example.org/x"]
    assert {"said", "thrown"} <= set(page.errors)


def test_width_dark_touch_and_fragment_reach_the_page(open_page, file):
    assert open_page(file).title() == "1400,false,false,"
    assert open_page(f"{file}#a=1", width=390, dark=True, touch=True).title() == "390,true,true,#a=1"


def test_without_a_browser_it_is_said_how_to_get_one(tmp_path):
    told = subprocess.run(
        [sys.executable, chromium.__file__], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert told.returncode == 1 and "sudo apt install chromium" in told.stderr
    (tmp_path / "chromium").touch(mode=0o755)
    told = subprocess.run([sys.executable, chromium.__file__], env={"PATH": str(tmp_path)}, capture_output=True)
    assert (told.returncode, told.stderr) == (0, b"")
