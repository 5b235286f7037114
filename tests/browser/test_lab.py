"""The course as a learner opens it: JupyterLab by the program that `make lab` starts, in a browser, up to a solved
exercise and a scene of the explorer."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labelkit_course import lab

PATIENCE = 240_000  # milliseconds: on two busy cores torch alone takes a minute
ADDRESS = re.compile(r"http://127\.0\.0\.1:\S+")
WRONG = """def my_cxcywh_to_xyxy(boxes):
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx, cy, cx + w, cy + h], dim=-1)"""
RIGHT = """def my_cxcywh_to_xyxy(boxes):
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)"""


@pytest.fixture
def address(browser, tmp_path):
    """The address that a running lab prints. It keeps nothing outside `tmp_path`, and ends with the test."""
    jupyter = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **jupyter, "LABELKIT_WORK": str(tmp_path / "work")}
    environment.pop("LABELKIT_EXPECT", None)
    said = tmp_path / "said.txt"
    with said.open("w") as log:
        line = [sys.executable, lab.__file__, "--no-browser", "--ip=127.0.0.1"]
        process = subprocess.Popen(line, env=environment, cwd=lab.ROOT, stdout=log, stderr=log)
        try:
            yield _printed(said, process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _printed(said: Path, process: subprocess.Popen) -> str:
    end = time.monotonic() + PATIENCE / 1000
    while not (found := ADDRESS.search(said.read_text())):
        assert process.poll() is None and time.monotonic() < end, f"no lab has started:\n{said.read_text()}"
        time.sleep(0.1)
    return found[0]


def test_the_lab_opens_ready_to_read_and_a_learner_solves_an_exercise(open_page, address):
    page = open_page(address)
    page.set_default_timeout(PATIENCE)
    chapter = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    contents = page.locator(".jp-TableOfContents")

    # Chapter 00 beside its table of contents, and nothing asks anything.
    chapter.get_by_role("heading", name="00 · Start here").wait_for()
    contents.get_by_text("How to solve an exercise").wait_for()
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0

    # The link at its top leads to chapter 01, whose first cells run: the title, the imports, a figure.
    chapter.get_by_role("link", name="01 · ").first.click()
    chapter.get_by_role("heading", name="01 · ").click()
    chapter.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()  # what is run before is lost
    for _ in range(3):
        page.keyboard.press("Shift+Enter")

    contents.get_by_text("Exercise 01.1").click()
    answer = chapter.locator(".jp-CodeCell").filter(has_text="def my_cxcywh_to_xyxy")
    check = chapter.locator(".jp-CodeCell").filter(has_text='course.check("01.1"')
    answer.get_by_text('course.todo("01.1")').wait_for()
    check.get_by_text("○ 01.1").wait_for()

    def give(code):
        answer.locator(".cm-content").click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.insert_text(code)
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Shift+Enter")

    give(WRONG)
    check.get_by_text("✗ 01.1 From the centre to the corners: not yet").wait_for()
    check.get_by_text("Your answer in a picture").wait_for()
    message = check.inner_text()
    assert "A box that is 40 px wide and 10 px high" in message and "is 60, too large" in message
    assert check.locator("img").count() == 1
    assert answer.get_by_text("[3]:").count() == 1, "two cells have run before it"

    give(RIGHT)
    check.get_by_text("✓ 01.1 From the centre to the corners: passed").wait_for()
    assert "not yet" not in check.inner_text()

    # The scene that a chapter links opens in a tab of its own, with the objects of its address.
    page.goto(address.replace("00_start_here", "06_fcos"))
    contents.get_by_text("How fine must the finest stride be?").click()
    with page.expect_popup() as tab:
        chapter.get_by_role("link", name="this scene").click()
    tab.value.get_by_text("Four questions for the chosen object").wait_for()
    scene = tab.value.evaluate("document.getElementById('explorer').labelkit.state()")
    assert scene["objects"] == [[61, 61, 67, 67], [25, 41, 31, 47]] and scene["rules"] == ["fcos"]
    assert page.errors == [] and page.outside == []
