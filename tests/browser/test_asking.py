"""The front end by itself: when it asks and what it remembers, what it paints, where its focus stays."""

import json
import threading

import pytest

import labelkit
from labelkit.explore import server as serving
from labelkit.explore.opening import FIRST, opened
from labelkit.explore.page import RULES
from labelkit.explore.parts import code, script, style
from labelkit.explore.question import answer
from labelkit.explore.state import checked
from labelkit.scenes import SCENES

PAGE = "document.getElementById('explorer').labelkit"
SCENE = {**FIRST, "rules": ["max_iou", "fcos", "atss", "rka"]}
HAND = """
const asked = [], {rules, priors, similarities, answer} = labelkitRules;
let hold = false;
const ask = question => new Promise(done => {
  asked.push({question, reply: () => done(answer(question))});
  if (!hold) asked.at(-1).reply();
});
const place = document.getElementById("explorer");
const begin = scene => labelkitExplorer.mount(place, scene, null, ask, {rules, priors, similarities, own: true});
"""
QUESTIONS = "asked.map(({question}) => question)"


@pytest.fixture
def by_hand(open_page, tmp_path):
    """A page whose questions are written down in `asked`; while `hold` each of them waits for its reply()."""
    parts = [*map(code, RULES), script(), HAND]
    scripts = "".join(f"<script>{part}</script>" for part in parts)
    text = f'<!doctype html><title>by hand</title><style>{style()}</style><body><div id="explorer"></div>{scripts}'
    (tmp_path / "page.html").write_text(text, encoding="utf-8")

    def open_scene(scene=SCENE, **window):
        page = open_page(tmp_path / "page.html", **window)
        page.evaluate("scene => void begin(scene)", scene)
        page.wait_for_function(f"{PAGE}.swept()")
        page.evaluate(f"{PAGE}.settled()")
        return page

    return open_scene


def two_frames(page):
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_one_question_is_under_way_and_the_newest_wins(by_hand):
    page = by_hand()
    x1, *rest = page.evaluate(f"{PAGE}.state()")["objects"][0]
    page.evaluate("() => { hold = true; asked.length = 0; }")
    page.locator(".lkx-object").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    two_frames(page)
    assert [question["objects"][0][0] for question in page.evaluate(QUESTIONS)] == [x1 + 1]
    page.evaluate("asked[0].reply()")
    two_frames(page)
    assert [question["objects"][0][0] for question in page.evaluate(QUESTIONS)] == [x1 + 1, x1 + 5]
    page.evaluate("() => { hold = false; asked[1].reply(); }")
    page.evaluate(f"{PAGE}.settled()")
    assert page.evaluate(f"{PAGE}.answer().question.objects[0]") == [x1 + 5, rest[0], rest[1] + 5, rest[2]]


def test_curves_are_asked_for_in_pieces_and_only_where_they_are_new(by_hand):
    page = by_hand()
    sweeps = [question for question in page.evaluate(QUESTIONS) if question["shift"]]
    assert len(sweeps) > len(SCENE["rules"]) and all(len(question["rules"]) == 1 for question in sweeps)
    assert len(sweeps[0]["shift"]["offsets"]) <= 4
    page.evaluate("asked.length = 0")
    page.locator(".lkx-object").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("asked.length > 4")
    page.wait_for_function(f"{PAGE}.swept()")
    sweeps = [question for question in page.evaluate(QUESTIONS) if question["shift"]]
    found = [(question["rules"], question["shift"]["offsets"]) for question in sweeps]
    assert found == [([rule], [16]) for rule in SCENE["rules"]]


def test_a_heat_map_is_painted_and_taken_away_again(by_hand):
    page, pictures = by_hand(), []
    for name in ("", "iou", "nwd", ""):
        page.get_by_label("heat map", exact=True).select_option(name)
        page.evaluate(f"{PAGE}.settled()")
        pictures.append(page.locator(".lkx-stage canvas").first.evaluate("canvas => canvas.toDataURL()"))
    assert len(set(pictures)) == 3 and pictures[0] == pictures[3]


def test_the_four_panels_show_and_say_what_explain_says(by_hand):
    scene = {"size": [128, 160], "objects": SCENES["crowd"].boxes.tolist(), "rules": ["topk"], "priors": "fcos"}
    page = by_hand(checked(scene | {"chosen": 4}))
    told = answer(page.evaluate(f"{PAGE}.state()"))["panels"]
    values, bar = [value for _, value in told["candidates"]], f"{told['bar']:.3g}"
    wins, lost = len(told["winners"]), [rival for _, rival in told["losers"]]
    rivals = ", ".join(f"{lost.count(rival)} to object {rival}" for rival in dict.fromkeys(lost))
    said = (
        f"1. Who may match? {len(values)} candidates",
        f"2. How well? values from {min(values):.3g} to {max(values):.3g}",
        f"3. Who is chosen? bar {bar}: {len(told['chosen'])} pass",
        f"4. Who wins? {wins} {'wins' if wins == 1 else 'win'}, lost: {rivals}",
    )
    assert tuple(page.locator(".lkx-panels figcaption").all_inner_texts()) == said and lost
    assert page.locator(".lkx-story").inner_text() == told["story"]
    canvases = page.locator(".lkx-panels canvas")
    assert [f"{i + 1}. {canvases.nth(i).get_attribute('aria-label')}" for i in range(4)] == [*said]
    painted = canvases.evaluate_all(
        """all => all.map(canvas => {
          const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return data.filter((part, i) => i % 4 === 0 && part < 200).length;
        })"""
    )
    assert len(painted) == 4 and min(painted) > 100
    assert len(set(canvases.evaluate_all("all => all.map(canvas => canvas.toDataURL())"))) == 4


@pytest.mark.parametrize("dark", [False, True])
def test_an_object_that_has_nothing_is_crossed_out_for_those_who_see_no_colour(by_hand, dark):
    page = by_hand(dark=dark)
    # By view the pixels in the middle of the first object, three by three.
    middles = page.locator(".lkx-stage").evaluate_all(
        """all => all.map(stage => {
          const canvas = stage.querySelector("canvas"), from = canvas.getBoundingClientRect();
          const box = stage.querySelector(".lkx-box").getBoundingClientRect(), sharp = canvas.width / from.width;
          const x = (box.x + box.width / 2 - from.x) * sharp, y = (box.y + box.height / 2 - from.y) * sharp;
          const {data} = canvas.getContext("2d").getImageData(Math.round(x) - 1, Math.round(y) - 1, 3, 3);
          return Array.from({length: 9}, (_, i) => [...data.slice(4 * i, 4 * i + 3)]);
        })"""
    )
    counts = [found["per_object"][0] for found in page.evaluate(f"{PAGE}.answer().rules").values()]
    ink = 233 if dark else 34
    assert counts.count(0) == 2
    for count, middle in zip(counts, middles, strict=True):
        crossed = any(max(abs(part - ink) for part in pixel) < 40 for pixel in middle)
        assert crossed == (count == 0), middle


@pytest.mark.parametrize("width", [390, 1400])
def test_a_small_object_is_magnified_to_begin_with(by_hand, width):
    shown = by_hand(width=width, touch=width == 390).locator(".lkx-box").first.bounding_box()
    assert min(shown["width"], shown["height"]) > 24


def test_the_focus_stays_where_the_controls_are_built_anew(by_hand):
    page = by_hand()
    rules = f"{PAGE}.state().rules"
    page.get_by_role("checkbox", name="topk", exact=True).focus()
    page.keyboard.press("Space")
    assert "topk" in page.evaluate(rules)
    page.keyboard.press("Space")
    assert "topk" not in page.evaluate(rules)
    page.get_by_label("a rule with arguments").press_sequentially("rka k=2")
    page.keyboard.press("Enter")
    page.keyboard.type("s3fd")
    page.keyboard.press("Enter")
    assert {*page.evaluate(rules)} == {*SCENE["rules"], "s3fd", "rka k=2"}
    assert page.errors == []


def test_a_fixed_scene_is_chosen_in_the_page_of_the_server(open_page):
    with serving.open_server(opened(), 9180) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        page = open_page(running.address)
        for name in ("thin", "crowd"):
            page.get_by_label("scene", exact=True).select_option(name)
            page.evaluate(f"{PAGE}.settled()")
            assert page.evaluate(f"{PAGE}.state()")["objects"] == SCENES[name].boxes.tolist()
            assert page.locator("table tbody tr").count() == len(SCENES[name].boxes)
        running.shutdown()


def test_two_views_of_a_widget_get_each_its_own_answer(open_page, tmp_path):
    pytest.importorskip("anywidget", reason="anywidget is missing: pip install 'labelkit[explore]'")
    kernel, sent = labelkit.explore("thin"), []
    kernel.send = lambda message, *_: sent.append(message)
    (tmp_path / "empty.html").write_text("<!doctype html><title>lab</title><body>")
    page = open_page(tmp_path / "empty.html")
    page.evaluate(
        """async ([source, held]) => {
          const module = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
          Object.assign(window, {held, told: [], asked: []});
          const model = {
            get: name => held[name], set: (name, value) => { held[name] = value; }, save_changes: () => {},
            on: (name, listener) => told.push(listener), send: content => asked.push(content),
          };
          window.show = id => {
            const el = document.body.appendChild(document.createElement("div"));
            el.id = id;
            module.default.render({model, el});
          };
          show("first");
          held.scene = {...held.scene, objects: [[1, 2, 60, 50], [70, 80, 90, 99]], rules: ["fcos"]};
          show("explorer");
        }""",
        [kernel._esm, {"scene": kernel.scene, "image": None, "options": kernel.options}],
    )
    for content in page.evaluate("asked"):
        kernel._handle_custom_msg(content, [])
    assert len(sent) == 2
    page.evaluate(
        "answers => answers.forEach(answer => told.forEach(tell => tell(answer)))", json.loads(json.dumps(sent))
    )
    for view in ("first", "explorer"):
        state, found = page.evaluate(f"(({{labelkit}}) => [labelkit.state(), labelkit.answer()])({view})")
        assert found["rules"] == answer(state)["rules"], view
    assert page.errors == []
