"""The course as a learner opens it: JupyterLab by the program that `make lab` starts, in a browser, up to a solved
exercise, a scene of the explorer, and the explorer as a widget."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
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
WIDGET = """import labelkit
w = labelkit.explore("thin")
w"""
KERNEL = """import json
from labelkit.explore.question import answer
print(json.dumps([w.scene, answer(w.scene)["rules"]]))"""
EXPLORER = "document.querySelector('.lkx').parentElement.labelkit"
SEEN = f"async () => {{ await {EXPLORER}.settled(); return [{EXPLORER}.state(), {EXPLORER}.answer().rules]; }}"
# The ground of the widget, and what the corner of its third panel is painted with.
GROUNDS = """() => {
  const ground = getComputedStyle(document.querySelector(".lkx")).backgroundColor.match(/\\d+/g).map(Number);
  const panel = document.querySelector(".lkx-panels figure:nth-child(3) canvas").getContext("2d");
  return [ground, [...panel.getImageData(1, 1, 1, 1).data].slice(0, 3)];
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All that the lab writes; a learner's files are in its work/."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(browser, folder):
    """The address that a running lab prints. It keeps nothing outside `folder`, and ends with the last test."""
    jupyter = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **jupyter, "LABELKIT_WORK": str(folder / "work")}
    environment.pop("LABELKIT_EXPECT", None)
    said = folder / "said.txt"
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


def test_the_widget_is_dragged_and_the_kernel_holds_what_the_page_shows(open_page, address, folder):
    cells = [nbformat.v4.new_code_cell(code) for code in (WIDGET, KERNEL)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "work" / "scene.ipynb")
    # The lab's theme is light and the system's dark: the widget follows the lab.
    page = open_page(address.replace("course/tree/00_start_here", "scene/tree/scene"), dark=True)
    page.set_default_timeout(PATIENCE)
    cell, second = page.locator(".jp-CodeCell").first, page.locator(".jp-CodeCell").nth(1)
    status = page.get_by_role("status")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    status.get_by_text("Object 0, 104 × 16 px at (12, 57)").wait_for()

    # A mouse and keys move the object.
    hit = page.locator(".lkx-hit").first
    hit.scroll_into_view_if_needed()
    box, scale = hit.bounding_box(), page.locator(".lkx-box").first.bounding_box()["width"] / 104
    at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(at[0] + 8 * scale, at[1] - 4 * scale, steps=3)
    page.mouse.up()
    assert page.evaluate(SEEN)[0]["objects"] == [[20, 53, 124, 69]]
    for key in ("ArrowDown", "Shift+ArrowUp", "Alt+ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate(SEEN)[0]["objects"] == [[20, 46, 124, 63]]

    # No key is the notebook's: x would cut the cell, Enter begin to write in it, an arrow leave it.
    page.keyboard.press("x")
    page.get_by_label("heat map", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.get_by_role("checkbox", name="rka", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="add an object").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowLeft")
    state, labels = page.evaluate(SEEN)
    assert state["heat"] == "iou" and state["rules"] == ["max_iou", "fcos", "atss"]
    assert state["objects"] == [[20, 46, 124, 63], [50, 58, 62, 70]] and state["chosen"] == 1
    assert page.locator(".jp-Cell").count() == 2 and cell.evaluate("cell => cell.matches('.jp-mod-active')")

    # What stands in the page is what the kernel has.
    status.get_by_text("Object 1, 12 × 12 px at (50, 58)").wait_for()
    second.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    second.get_by_text("[2]:").first.wait_for()
    held = json.loads(second.locator(".jp-OutputArea-output").inner_text())
    assert held == [state, labels]

    # A dark lab makes it dark, painting and all.
    menu, item = page.locator(".lm-MenuBar-item"), page.locator(".lm-Menu-item")
    page.wait_for_function(f"String(({GROUNDS})()) === '253,253,251,253,253,251'")
    menu.filter(has_text="Settings").click()
    item.filter(has_text="Theme").first.click()
    item.filter(has_text="JupyterLab Dark").first.click()
    page.wait_for_function(f"String(({GROUNDS})()) === '23,25,28,23,25,28'")
    assert page.errors == [] and page.outside == []
