"""The explorer's one file, opened from a disk: no library behind it, and yet its labels are the library's."""

import random

import pytest

from labelkit.explore.page import SKY, static_page
from labelkit.explore.question import answer
from labelkit.scenes import SCENES
from tests.browser.test_explorer import PAGE, clean, drag, hit, middle_of, touch

SEEN = f"""async () => {{
  const page = {PAGE}, texts = svg => [...svg.querySelectorAll("text")].map(text => text.textContent);
  await page.settled();
  const drawn = [...document.querySelectorAll(".lkx-view svg")].map(texts);
  return {{state: page.state(), rules: page.answer().rules, drawn}};
}}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "explorer.html"
    path.write_text(static_page(), encoding="utf-8")
    return path


@pytest.fixture
def open_file(open_page, file):
    def open_scene(scene="", **window):
        return open_page(f"{file}#{scene}" if scene else file, **window)

    return open_scene


def agree(*seen):
    """The labels that the page has, and the counts that it draws, are the library's for the state that it is in."""
    for one in seen:
        state = one["state"]
        right = answer(state | {"chosen": None, "heat": None})["rules"]
        assert one["rules"] == right, state
        assert one["drawn"] == [[str(n) for n in right[rule]["per_object"]] for rule in state["rules"]], state


def test_page_and_library_agree_after_200_drags_resizes_and_keys(open_file):
    page, pick = open_file(), random.Random(7)
    seen, done = [page.evaluate(SEEN)], {"drag": 0, "resize": 0, "key": 0}
    page.locator(".lkx-object").first.focus()
    while sum(done.values()) < 200:
        act, by = pick.choice([*done]), (pick.randint(-60, 60), pick.randint(-60, 60))
        if act == "drag":
            index = pick.randrange(len(seen[-1]["state"]["objects"]))
            start = middle_of(page, hit(pick.randint(1, 4), index))
            if page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.dataset.object === undefined", start):
                continue  # outside of what is magnified
            drag(page, start, by, steps=1)
        elif act == "resize":
            view, corner = pick.randint(1, 4), pick.randrange(4)
            drag(page, middle_of(page, f".lkx-view:nth-child({view}) [data-corner='{corner}']"), by, steps=1)
        else:
            arrow = pick.choice(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"])
            page.keyboard.press(pick.choice(["", "Shift+", "Alt+", "Alt+Shift+"]) + arrow)
        done[act] += 1
        seen.append(page.evaluate(SEEN))
    agree(*seen)
    assert len({str(one["state"]["objects"]) for one in seen}) > 150 and min(done.values()) > 40
    clean(page)


def test_one_drag_takes_an_object_from_three_rules(open_file):
    page = open_file()
    box = page.evaluate(SEEN)["state"]["objects"][0]
    shown = page.locator(".lkx-object .lkx-box").first.bounding_box()
    before = page.evaluate(SEEN)["drawn"]
    drag(page, middle_of(page, hit(1, 0)), (4 * shown["width"] / (box[2] - box[0]), 0))
    seen = page.evaluate(SEEN)
    assert seen["state"]["objects"][0] == [box[0] + 4, box[1], box[2] + 4, box[3]]
    assert [counts[0] for counts in before] == ["1", "1", "2", "3"]
    assert [counts[0] for counts in seen["drawn"]] == ["0", "0", "0", "3"]
    agree(seen)


@pytest.mark.parametrize("dark", [False, True])
def test_a_finger_moves_the_object_on_a_phone(open_file, dark):
    page = open_file(width=390, height=844, dark=dark, touch=True)
    box = page.evaluate(SEEN)["state"]["objects"][0]
    page.locator(".lkx-views").scroll_into_view_if_needed()
    touch(page, middle_of(page, hit(1, 0)), (16, 0))
    seen = page.evaluate(SEEN)
    moved = seen["state"]["objects"][0]
    assert moved[0] > box[0] and [moved[2] - moved[0], *moved[1::2]] == [box[2] - box[0], *box[1::2]]
    agree(seen)
    clean(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(23, 25, 28)" if dark else "rgb(253, 253, 251)")


def test_every_example_opens_and_agrees(open_file):
    page, names = open_file(), []
    examples = page.get_by_label("example", exact=True)
    for index in range(2 + len(SCENES)):
        examples.select_option(str(index))
        seen = page.evaluate(SEEN)
        agree(seen)
        names.append((str(seen["state"]["objects"]), page.locator("#hint").inner_text()))
    assert len({objects for objects, _ in names}) == len(names) and all(hint for _, hint in names)
    examples.select_option("0")
    assert page.evaluate(SEEN)["state"]["objects"] == SKY["objects"]
    clean(page)


def test_the_address_is_the_scene(open_file):
    page = open_file("size=64,96&priors=course-anchors&objects=10,10,17,17&rules=s3fd;topk+k=4&chosen=0&heat=nwd")
    seen = page.evaluate(SEEN)
    assert seen["state"]["rules"] == ["s3fd", "topk k=4"] and seen["state"]["objects"] == [[10, 10, 17, 17]]
    assert "galaxy" not in page.locator("#hint").inner_text()
    agree(seen)
    page.evaluate("location.hash = 'size=64,96&objects=20,20,60,50&priors=4,8x2:1&rules=atss'")
    page.wait_for_function(f"{PAGE}.state().rules[0] === 'atss'")
    agree(page.evaluate(SEEN))
    clean(page)


def test_a_rule_that_is_not_on_the_page_is_refused_with_a_sentence(open_file):
    page = open_file()
    page.get_by_label("a rule with arguments").fill("rfla")
    page.get_by_role("button", name="add rule").click()
    page.wait_for_selector("[role=alert]:has-text('rfla is not on this page')")
    page.get_by_role("checkbox", name="rfla").click()
    agree(page.evaluate(SEEN))
