"""The scenes of the explorer that chapters link: the static page has their rules, and their sentences are true."""

import re

import pytest

from labelkit.explore.question import answer
from labelkit.explore.state import read_state
from labelkit_course import build, chapter, linking
from tests.explore.javascript import ask

PATHS = {path.name[:2]: path for path in chapter.sources() if path.name[:2] >= "04"}
BARE = "max_iou allow_low_quality_matches=false"


def state(number: str) -> dict:
    (fragment,) = linking.SCENE.findall(chapter.text(PATHS[number]))
    return read_state(fragment)


def positives(scene: dict) -> dict[str, list[int]]:
    """By rule the positives of every object."""
    return {rule: found["per_object"] for rule, found in answer(scene)["rules"].items()}


def dragged(scene: dict, by: tuple[float, float], larger: float = 0) -> dict[str, int]:
    """By rule the positives of the chosen object after it was moved by (x, y), its right lower corner further."""
    x, y = by
    x1, y1, x2, y2 = scene["objects"][scene["chosen"]]
    objects = list(scene["objects"])
    objects[scene["chosen"]] = [x1 + x, y1 + y, x2 + x + larger, y2 + y + larger]
    found = positives({**scene, "objects": objects})
    return {rule: counts[scene["chosen"]] for rule, counts in found.items()}


def everywhere(scene: dict) -> dict[str, set[int]]:
    """By rule the positives that the chosen object can have, moved over 8 x 8 px, after which the grid repeats."""
    told = [dragged(scene, (x, y)) for x in range(-4, 4) for y in range(-4, 4)]
    return {rule: {one[rule] for one in told} for rule in scene["rules"]}


@pytest.mark.parametrize("number", PATHS)
def test_a_chapter_links_one_scene(number):
    text = chapter.text(PATHS[number])
    assert len(linking.SCENE.findall(text)) == text.count("[scene]:") == 1
    assert len(re.findall(r"\]\[scene\]", text)) == 1
    built = "\n".join(cell.source for cell in build.notebook(PATHS[number]).cells if cell.cell_type == "markdown")
    assert built.count('<a href="/files/explorer.html#') == 1 and "[scene]" not in built


def test_the_static_page_answers_every_scene_as_the_library_does(tmp_path):
    asked = [{"id": number, **state(number)} for number in PATHS]
    for question, told in zip(asked, ask(asked, tmp_path), strict=True):
        ours = answer(question)
        assert "error" not in told, f"chapter {question['id']}: {told}"
        for rule in question["rules"]:
            assert told["rules"][rule] == ours["rules"][rule], f"chapter {question['id']}, {rule}"


COUNTS = {
    "04": {"max_iou": [4, 4], "fcos": [4, 36], "atss": [4, 4], "rka": [3, 3]},
    "07": {BARE: [0, 1, 2, 4], "max_iou": [4, 1, 2, 4], "fcos": [4, 9, 36, 52]},
    "08": {"topk k=3": [3, 3]},
    "09": {"atss": [2]},
    "12": {"atss": [3]},
    "13": {"max_iou": [1, 0], "topk k=9": [9, 0], "atss": [3, 0], "rka": [3, 0]},
    "15": {"topk k=1": [1, 0]},
    "19": {"max_iou": [0, 24]},
    "20": {
        "max_iou": [4, 1, 2, 4],
        "fcos": [4, 9, 36, 52],
        "topk k=3": [3, 3, 3, 3],
        "atss": [4, 5, 2, 4],
        "s3fd": [6, 6, 18, 14],
        "rka": [3, 3, 3, 3],
    },
}


@pytest.mark.parametrize("number", COUNTS)
def test_a_scene_has_the_positives_of_its_sentence(number):
    assert positives(state(number)) == COUNTS[number]


def test_05_the_small_box_has_none_or_four_six_nine():
    assert everywhere(state("05")) == {BARE: {0}, "max_iou": {4, 6, 9}}


def test_06_half_the_spacing_takes_the_only_point():
    scene = state("06")
    assert positives(scene) == {"fcos": [0, 1]}
    assert dragged(scene, (4, 0)) == dragged(scene, (-4, 0)) == dragged(scene, (0, 4)) == {"fcos": 0}


def test_09_a_pixel_to_the_right_leaves_no_centre_inside():
    scene = state("09")
    moved = {**scene, "objects": [[x1 + 1, y1, x2 + 1, y2] for x1, y1, x2, y2 in scene["objects"]]}
    before, after = answer(scene)["panels"], answer(moved)["panels"]
    assert len(before["candidates"]) == len(after["candidates"]) == 27
    assert len(before["winners"]) == 2 and after["winners"] == []


def test_10_step_one_finds_a_box_of_10_px():
    scene = state("10")
    assert list(positives(scene).values()) == [[0, 5, 18]]
    assert [*dragged(scene, (0, 0), larger=3).values()] == [0] and [*dragged(scene, (0, 0), larger=4).values()] == [1]


def test_11_and_12_the_values_of_the_positives():
    scene = state("11")
    spans = []
    for chosen in (0, 1):
        values = [value for _, value in answer({**scene, "chosen": chosen})["panels"]["chosen"]]
        spans.append((len(values), round(min(values), 2), round(max(values), 2)))
    assert spans == [(9, 0.18, 0.25), (9, 0.37, 0.56)]
    values = [value for _, value in answer(state("12"))["panels"]["chosen"]]
    assert [round(value, 2) for value in values] == [0.56, 0.49, 0.49]


def test_13_a_pixel_tells_twins_apart():
    assert all(count > 0 for count in dragged(state("13"), (1, 0)).values())


def test_14_one_point_at_best():
    assert everywhere(state("14")) == {"fcos": {0, 1}}


def test_15_two_pixels_further_the_second_has_an_anchor():
    scene = state("15")
    assert dragged(scene, (-1, 0)) == {"topk k=1": 0} and dragged(scene, (-2, 0)) == {"topk k=1": 1}


def test_16_a_threshold_needs_12_px():
    scene = state("16")
    assert everywhere(scene) == {BARE: {0}}
    assert dragged(scene, (0, 0), larger=4) == {BARE: 0} and dragged(scene, (0, 0), larger=5)[BARE] > 0


def test_17_four_or_more_by_nwd():
    by_iou, by_nwd, rka = everywhere(state("17")).values()
    assert by_iou == {0} and min(by_nwd) == 4 and rka == {3}


def test_18_one_point_or_none_and_three_by_ranking():
    assert everywhere(state("18")) == {"fcos": {0, 1}, "rka": {3}}


def test_19_the_neighbour_takes_all_24():
    scene = state("19")
    panels = answer(scene)["panels"]
    assert len(panels["chosen"]) == 24 and panels["winners"] == []
    assert {taker for _, taker in panels["losers"]} == {1} and round(panels["chosen"][0][1], 2) == 0.02
    assert dragged(scene, (20, 0)) == {"max_iou": 14}
