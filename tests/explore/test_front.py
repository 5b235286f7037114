"""The front end's own functions, as node runs them: what an address may ask for, and more candidates than arguments."""

import pytest

from labelkit.explore.checks import LARGEST, MOST_OBJECTS, MOST_RULES
from labelkit.explore.parts import front
from tests.explore.javascript import evaluate

FRONT = "\n".join(map(front, ("state.js", "painting.js")))


def run(expression, folder, values=None):
    return evaluate(f"(() => {{ {FRONT}\n return {expression}; }})()", folder, values)


def test_an_address_asks_for_no_more_than_can_be_shown(tmp_path):
    fine = [
        f"#size={LARGEST},1",
        "#objects=" + ";".join(["0,0,1,1"] * MOST_OBJECTS),
        "#rules=" + ";".join(f"atss k={k}" for k in range(MOST_RULES)),
    ]
    bad = {
        f"#size={LARGEST + 1},1": f"size must be two sides of 1 to {LARGEST} px, got {LARGEST + 1},1",
        "#size=1": "size must be two sides",
        "#size=0,8": "size must be two sides",
        fine[1] + ";0,0,1,1": f"objects must be at most {MOST_OBJECTS}, got {MOST_OBJECTS + 1}",
        "#objects=0,0,9,9;5,5,2,9": "objects must have x1 < x2 and y1 < y2, got 5,5,2,9",
        "#objects=1,2": "objects must have x1 < x2",
        fine[2] + ";fcos": f"rules must be at most {MOST_RULES}, got {MOST_RULES + 1}",
    }
    tried = "questions.map(text => { try { return readState(text), ''; } catch (error) { return error.message; } })"
    said = run(tried, tmp_path, [*fine, *bad])
    assert said[: len(fine)] == [""] * len(fine)
    for found, expected in zip(said[len(fine) :], bad.values(), strict=True):
        assert expected in found


@pytest.mark.parametrize(("count", "said"), [(300_000, "values from 0 to 300000"), (0, "nobody to compare")])
def test_any_number_of_candidates_is_told(tmp_path, count, said):
    candidates = f"Array.from({{length: {count}}}, (_, i) => [i, i && 3e5])"
    panels = f"{{candidates: {candidates}, chosen: [], winners: [], losers: [], bar: null}}"
    texts = f"fourQuestions({panels}, {{chosen: 0}}, prior => ({{x: prior, y: 0}}), {{}}).map(([, text]) => text)"
    assert run(texts, tmp_path)[:2] == [f"{count} candidates", said]
