"""The explorer by mouse, by touch and by keyboard: whatever is done to it, the page says what the library says."""

import json
import random
import threading

import pytest

import labelkit
from labelkit.explore import server as serving
from labelkit.explore.opening import opened
from labelkit.explore.question import answer
from labelkit.explore.state import read_state
from tests.explore.network import BOXES, LABELS, opinionated, picture

RULES = ("max_iou", "fcos", "atss", "rka")
PAGE = "document.getElementById('explorer').labelkit"
SEEN = f"""async () => {{
  const page = {PAGE}, all = (node, what) => [...node.querySelectorAll(what)];
  await page.settled();
  const drawn = all(document, ".lkx-view svg").map(svg => all(svg, "text").map(text => text.textContent));
  const rows = all(document, "table tbody tr").map(row => all(row, "td").slice(1).map(cell => cell.textContent));
  return {{state: page.state(), answer: page.answer(), drawn, rows}};
}}"""


@pytest.fixture(scope="module")
def server():
    with serving.open_server(opened(), 9100) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def seen():
    """A picture with a detector that has looked at it, served, and where."""
    begun = opened(image=picture(), boxes=BOXES, labels=LABELS, detector=opinionated())
    with serving.open_server(begun, 9140) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield begun, running.address
        running.shutdown()


@pytest.fixture
def by_server(server, open_page):
    def open_scene(scene="", **window):
        return open_page(f"{server.address}#{scene}", **window)

    return open_scene


@pytest.fixture
def by_widget(open_page, tmp_path):
    """The widget's own module in an empty page, and the kernel's side behind it: what anywidget does in JupyterLab."""
    pytest.importorskip("anywidget", reason="anywidget is missing: pip install 'labelkit[explore]'")

    def open_widget(scene="", **window):
        kernel = labelkit.explore(scene or None)
        (tmp_path / "empty.html").write_text("<!doctype html><title>lab</title><body><div id=explorer></div>")
        page = open_page(tmp_path / "empty.html", **window)
        page.add_style_tag(content=kernel._css)

        def receive(content):
            sent = []
            kernel.send = lambda message, *_: sent.append(message)
            kernel._handle_custom_msg(content, [])
            return json.dumps(sent[0])

        page.expose_function("kernel", receive)
        page.evaluate(
            """async ([source, held]) => {
              const module = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
              let told;
              const model = {
                get: name => held[name], set: (name, value) => { held[name] = value; }, save_changes: () => {},
                on: (name, listener) => { told = listener; },
                send: async content => told(JSON.parse(await window.kernel(content))),
              };
              window.held = held;
              module.default.render({model, el: document.getElementById("explorer")});
            }""",
            [kernel._esm, {"scene": kernel.scene, "image": kernel.image, "options": kernel.options}],
        )
        return page

    return open_widget


def agrees(page, network=None):
    """The page's state, once its answer, its pictures and its table are known to be the library's."""
    seen = page.evaluate(SEEN)
    state, found = seen["state"], seen["answer"]
    expected = json.loads(json.dumps(answer(state, network)))
    for part in ("priors", "rules", "panels", "heat"):
        assert found[part] == expected[part], (part, state)
    counts = [expected["rules"][rule]["per_object"] for rule in state["rules"]]
    assert [[int(text) for text in view] for view in seen["drawn"]] == counts, state
    assert [[int(text) for text in row] for row in seen["rows"]] == [list(row) for row in zip(*counts, strict=True)]
    return state


def middle_of(page, selector):
    box = page.locator(selector).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def hit(view, index):
    return f".lkx-view:nth-child({view}) .lkx-object:nth-child({index + 1}) .lkx-hit"


def drag(page, start, by, steps=3):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + by[0], start[1] + by[1], steps=steps)
    page.mouse.up()


def touch(page, start, by, steps=4):
    """One finger, from `start` by `by`."""
    session = page.context.new_cdp_session(page)
    for step in range(steps + 1):
        at = {"x": start[0] + by[0] * step / steps, "y": start[1] + by[1] * step / steps}
        kind = "touchMove" if step else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def clean(page):
    assert page.errors == [] and page.outside == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("transport", ["by_server", "by_widget"])
def test_page_and_library_agree_after_200_drags_resizes_and_keys(transport, request):
    page = request.getfixturevalue(transport)(width=720, height=700)
    pick, keys = random.Random(14), 0
    before = agrees(page)
    page.locator(".lkx-object").first.focus()
    done = {"drag": 0, "resize": 0, "key": 0}
    for _ in range(200):
        act = pick.choice(["drag", "resize", "key", "key"])
        done[act] += 1
        by = pick.randint(-40, 40), pick.randint(-40, 40)
        if act == "drag":
            view, index = pick.randint(1, 4), pick.randrange(len(before["objects"]))
            start = middle_of(page, hit(view, index))
            if page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.dataset.object === undefined", start):
                page.keyboard.press("Tab")
            else:
                drag(page, start, by, steps=1)
        elif act == "resize":
            drag(
                page,
                middle_of(page, f".lkx-view:nth-child({pick.randint(1, 4)}) [data-corner='{pick.randrange(4)}']"),
                by,
                steps=1,
            )
        else:
            keys += 1
            page.keyboard.press(
                pick.choice(["", "Shift+", "Alt+"]) + pick.choice(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"])
            )
            if keys % 7 == 0:
                page.keyboard.press(pick.choice(["+", "-"]))
        before = agrees(page)
    assert min(done.values()) > 30
    clean(page)


def test_a_mouse_moves_and_resizes_in_any_view(by_server):
    page = by_server()
    box = agrees(page)["objects"][0]
    shown = float(page.locator(".lkx-view:nth-child(3) .lkx-object:nth-child(1) .lkx-box").get_attribute("width"))
    scale = shown / (box[2] - box[0])
    drag(page, middle_of(page, hit(3, 0)), (10 * scale, -4 * scale))
    moved = agrees(page)["objects"][0]
    assert moved == [box[0] + 10, box[1] - 4, box[2] + 10, box[3] - 4]
    drag(page, middle_of(page, ".lkx-view:nth-child(2) [data-corner='3']"), (5 * scale, 6 * scale))
    resized = agrees(page)["objects"][0]
    assert resized == [*moved[:2], moved[2] + 5, moved[3] + 6]
    drag(page, middle_of(page, ".lkx-view:nth-child(1) [data-corner='0']"), (-2 * scale, 100 * scale))
    assert agrees(page)["objects"][0] == [resized[0] - 2, resized[3] - 1, *resized[2:]]
    clean(page)


def test_of_objects_at_one_place_the_smallest_is_taken(by_server):
    page = by_server("size=128,128&objects=40,40,60,60;20,20,100,100&chosen=1")
    agrees(page)
    page.mouse.click(*middle_of(page, hit(2, 0)))
    assert agrees(page)["chosen"] == 0


def test_a_finger_moves_a_small_box_and_does_not_resize_it(by_server):
    page = by_server(width=390, height=844, touch=True)
    box = agrees(page)["objects"][0]
    page.locator(".lkx-views").scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    touch(page, middle_of(page, hit(1, 0)), (24, 40))
    moved = agrees(page)["objects"][0]
    assert moved[0] > box[0] and moved[1] > box[1]
    assert [moved[2] - moved[0], moved[3] - moved[1]] == [box[2] - box[0], box[3] - box[1]]
    assert page.evaluate("scrollY") == scrolled
    shown = page.locator(".lkx-view:nth-child(1) .lkx-object:nth-child(1) .lkx-box").bounding_box()
    for corner in range(4):
        u, v = middle_of(page, f".lkx-view:nth-child(1) [data-corner='{corner}']")
        assert not (
            shown["x"] - 2 < u < shown["x"] + shown["width"] + 2
            or shown["y"] - 2 < v < shown["y"] + shown["height"] + 2
        )
    clean(page)


def test_keys_do_all_that_hands_do_and_it_is_said_in_words(by_server):
    page = by_server()
    page.locator(".lkx-object").first.focus()
    box = agrees(page)["objects"][0]
    for key, sides in (
        ("ArrowRight", (1, 0, 1, 0)), ("Shift+ArrowDown", (0, 8, 0, 8)), ("Alt+ArrowRight", (0, 0, 1, 0)),
        ("Alt+Shift+ArrowDown", (0, 0, 0, 8)), ("+", (0, 0, 1, 1)), ("-", (0, 0, -1, -1)),
    ):  # fmt: skip
        page.keyboard.press(key)
        box = [side + by for side, by in zip(box, sides, strict=True)]
        assert agrees(page)["objects"][0] == box
    page.keyboard.press("Tab")
    assert agrees(page)["chosen"] == 1
    named = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert named.startswith("object 1, 44 by 44 pixels at 20, 64; positives: max_iou ")
    page.wait_for_selector("[role=status]:has-text('Object 1, 44 × 44 px at (20, 64): max_iou gives it')")
    page.keyboard.press("Delete")
    assert len(agrees(page)["objects"]) == 3
    page.get_by_role("button", name="add an object").press("Enter")
    assert agrees(page)["chosen"] == 3 and page.locator(".lkx-object.lkx-chosen").count() == 4
    clean(page)


def test_an_object_without_a_prior_is_filled_and_marked(by_server):
    page = by_server()
    agrees(page)
    assert page.locator(".lkx-view:nth-child(2) .lkx-object.lkx-none").count() == 1
    assert "1 of 4 get none" in page.locator(".lkx-view:nth-child(2) figcaption").inner_text()
    page.locator(".lkx-object").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    agrees(page)
    assert page.locator(".lkx-view:nth-child(2) .lkx-object.lkx-none").count() == 0


def test_curves_are_what_the_library_says_at_every_offset(by_server):
    page = by_server()
    page.evaluate(f"() => new Promise(r => {{ const t = () => {PAGE}.swept() ? r() : setTimeout(t, 20); t(); }})")
    page.evaluate(f"{PAGE}.settled()")
    state = page.evaluate(f"{PAGE}.state()")
    expected = answer(state | {"shift": {"object": 0, "axis": "x", "offsets": list(range(-16, 17))}})["shift"]
    labels = page.locator(".lkx-charts svg").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    for rule, label in zip(state["rules"], labels, strict=True):
        counts = expected[rule]
        span = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(min(counts))
        assert label.startswith(f"{rule}: {span} positive")
        assert (f"none at {counts.count(0)} of 33 places" in label) == (0 in counts)


def test_priors_rules_level_and_heat_are_chosen_in_the_page(by_server):
    page = by_server()
    page.get_by_label("priors", exact=True).select_option("retinanet")
    page.get_by_label("heat map", exact=True).select_option("giou")
    page.get_by_label("s3fd", exact=True).check()
    page.get_by_label("a rule with arguments").fill("topk k=2")
    page.get_by_role("button", name="add rule").click()
    page.get_by_label("rule of the four questions").select_option("topk k=2")
    state = agrees(page)
    assert (state["priors"], state["heat"], state["panel_rule"]) == ("retinanet", "giou", "topk k=2")
    assert set(state["rules"]) == {*RULES, "s3fd", "topk k=2"}
    page.get_by_label("priors", exact=True).select_option("own")
    page.get_by_label("strides, scale and ratios").fill("4, 16 x 3 : 1, 2")
    page.get_by_label("strides, scale and ratios").press("Enter")
    assert agrees(page)["priors"] == {"strides": [4, 16], "scale": 3, "ratios": [1, 2]}
    clean(page)


def test_a_refusal_is_shown_and_the_page_goes_on(by_server):
    page = by_server()
    page.get_by_label("a rule with arguments").fill("atss k=0")
    page.get_by_role("button", name="add rule").click()
    page.wait_for_selector("[role=alert]:has-text('k must be a whole number of at least 1, got 0')")
    page.get_by_role("checkbox", name="atss k=0").click()
    assert agrees(page)["rules"] == list(RULES) and page.locator("[role=alert]").is_hidden()


def test_a_network_is_asked_while_its_objects_are_dragged(seen, open_page):
    (begun, address), view = seen, 3
    page = open_page(address)
    state = agrees(page, begun.network)
    assert state["rules"] == ["max_iou", "atss", "simota", "tal"] and state["priors"] == "detector"
    page.get_by_label("rule of the four questions").select_option("tal")
    positives = {str(page.evaluate(f"{PAGE}.answer().rules.tal.positive"))}
    for by in ((40, 0), (0, 60), (-70, 30)):
        drag(page, middle_of(page, hit(view, 2)), by)
        moved = agrees(page, begun.network)
        assert moved["objects"] != state["objects"] and moved["panel_rule"] == "tal"
        positives.add(str(page.evaluate(f"{PAGE}.answer().rules.tal.positive")))
    assert len(positives) > 2 and page.locator("input[type=file]").count() == 0
    page.get_by_label("poto", exact=True).check()
    assert "poto" in agrees(page, begun.network)["rules"]
    clean(page)


def test_other_priors_under_a_rule_that_asks_are_refused_and_the_page_goes_on(seen, open_page):
    (begun, address), said = seen, "[role=alert]:has-text('asks for the network')"
    page = open_page(address)
    agrees(page, begun.network)
    page.get_by_label("priors", exact=True).select_option("fcos")
    page.wait_for_selector(f"{said}:has-text('simota')")
    page.get_by_label("simota", exact=True).uncheck()
    page.wait_for_selector(f"{said}:has-text('tal')")
    page.get_by_label("tal", exact=True).uncheck()
    state = agrees(page, begun.network)
    assert (state["priors"], state["rules"]) == ("fcos", ["max_iou", "atss"])
    assert page.locator("[role=alert]").is_hidden()
    page.get_by_label("ota", exact=True).check()
    page.wait_for_selector(f"{said}:has-text('ota')")
    page.get_by_label("priors", exact=True).select_option("detector")
    state = agrees(page, begun.network)
    assert (state["priors"], state["rules"]) == ("detector", ["max_iou", "atss", "ota"])
    page.locator(".lkx-object").first.focus()
    page.keyboard.press("ArrowDown")
    assert agrees(page, begun.network)["objects"][0][1] == state["objects"][0][1] + 1
    assert page.locator("[role=alert]").is_hidden() and page.outside == []
    assert all("400" in one for one in page.errors)  # what a browser says of a refused question


def test_the_address_is_the_scene(by_server):
    text = "size=96,160&priors=4,8x4:1,2&objects=10,10,17,18;40,40,90,80&rules=fcos;rka+k=5"
    text += "&chosen=1&panel_rule=rka+k=5&heat=nwd"
    page = by_server(text)
    assert agrees(page) == read_state(text)
    page.locator(".lkx-object").nth(1).focus()
    page.keyboard.press("ArrowRight")
    moved = agrees(page)
    page.wait_for_timeout(400)
    assert read_state(page.evaluate("location.hash")) == moved and moved["objects"][1] == [41, 40, 91, 80]


def test_own_picture_and_coco_file(by_server, tmp_path):
    from PIL import Image

    Image.new("RGB", (1600, 400), "grey").save(tmp_path / "field.png")
    coco = {"images": [{"id": 3, "file_name": "a/field.png", "width": 1600, "height": 400}], "categories": []}
    coco["annotations"] = [
        {"id": 1, "image_id": 3, "bbox": [10, 20, 20, 40]},
        {"id": 2, "image_id": 4, "bbox": [1, 1, 2, 2]},
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(coco))
    page = by_server()
    agrees(page)
    page.get_by_label("own picture, COCO file, or both").set_input_files(
        [tmp_path / "field.png", tmp_path / "boxes.json"]
    )
    page.wait_for_selector("table:has-text('10 × 20')")
    state = agrees(page)
    assert state["size"] == [200, 800] and state["objects"] == [[5, 10, 15, 30]]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.get_by_label("own picture, COCO file, or both").set_input_files([tmp_path / "broken.png"])
    page.wait_for_selector("[role=alert]:has-text('broken.png is no picture')")
    assert agrees(page) == state and page.outside == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 390, 1400])
def test_it_fits_every_window_and_asks_nobody_outside(by_server, width, dark):
    page = by_server(width=width, dark=dark, touch=width < 700)
    agrees(page)
    clean(page)
    ground = page.evaluate("getComputedStyle(document.querySelector('.lkx')).backgroundColor")
    assert ground == ("rgb(23, 25, 28)" if dark else "rgb(253, 253, 251)")
    tops = page.locator(".lkx-panels figure").evaluate_all(
        "all => all.map(one => Math.round(one.getBoundingClientRect().top))"
    )
    assert len(tops) == 4 and len(set(tops)) == (2 if width < 700 else 1)


def test_the_widget_hands_its_scene_to_the_kernel(by_widget):
    page = by_widget("thin")
    agrees(page)
    page.locator(".lkx-object").first.focus()
    page.keyboard.press("ArrowDown")
    moved = agrees(page)
    page.wait_for_timeout(400)
    assert page.evaluate("window.held.scene.objects") == moved["objects"] == [[12, 58, 116, 74]]


def test_a_bad_address_is_said_and_changes_nothing(by_server):
    page = by_server("objects=" + ";".join(["0,0,1,1"] * 201))
    page.evaluate(f"{PAGE}.settled()")
    assert agrees(page)["objects"] == opened().scene["objects"]
    assert page.locator(".lkx-fault").is_visible()
    assert page.locator(".lkx-fault").inner_text() == "objects must be at most 200, got 201"
    page.locator(".lkx-object").first.focus()
    page.keyboard.press("ArrowRight")
    page.evaluate(f"{PAGE}.settled()")
    assert page.locator(".lkx-fault").is_hidden()


def test_what_was_taken_down_asks_nothing_more(by_server):
    page = by_server()
    page.evaluate(f"{PAGE}.settled()")
    asked = page.evaluate(
        """async scene => {
          const element = document.createElement("div"), wait = ms => new Promise(done => setTimeout(done, ms));
          document.body.append(element);
          let asked = 0;
          const ask = async question => {
            asked++;
            const found = await (await fetch("/answer", {method: "POST", body: JSON.stringify(question)})).json();
            await wait(30);
            return found;
          };
          const leave = labelkitExplorer.mount(element, scene, null, ask, {});
          while (asked < 3) await wait(10);  // the first curves are under way
          leave();
          const before = asked;
          await wait(400);
          return [before, asked, element.childElementCount];
        }""",
        opened().scene,
    )
    assert asked[0] == asked[1] and asked[2] == 0
    clean(page)
