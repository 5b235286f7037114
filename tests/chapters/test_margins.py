"""An assertion on a trained number holds on every processor: its margin was measured, and is wide enough.

Nothing is trained here. `make margins` measures (benchmarks/margins.py) and writes data/results/margins.json.
"""

import ast
import json

import assertions
import pytest
import recorder
import torch

from labelkit_course import chapter, paths

MEASURED = json.loads((paths.ROOT / "data" / "results" / "margins.json").read_text(encoding="utf-8"))
TRAINED = {path.name[:2]: found for path in chapter.sources() if (found := assertions.trained(path))}


@pytest.mark.parametrize("number", TRAINED)
def test_every_trained_assertion_was_measured(number):
    measured = {entry["text"] for entry in MEASURED.get(number, {"assertions": []})["assertions"]}
    missing = [text for text in TRAINED[number] if text not in measured]
    assert not missing, f"not measured as they stand: {missing}; run make margins (benchmarks/margins.py {number})"


@pytest.mark.parametrize("number", MEASURED)
def test_every_measured_assertion_has_a_margin(number):
    assert assertions.faults(MEASURED[number]) == []


@pytest.mark.parametrize("number", TRAINED)
def test_three_instruction_sets_and_three_seeds_were_measured(number):
    runs = {"default, seed 0", "avx2, seed 0", "best, seed 0", "best, seed 1", "best, seed 2"}
    missing = runs - set(MEASURED[number]["runs"])
    if missing:
        pytest.skip(f"the measurement is not complete: {sorted(missing)}; make margins goes on with it")


SOURCE = """
# %%
from labelkit.training import train, load_detector
limit = 3
class Watch:
    seen = []
def run(name):
    watch = Watch()
    return train(name, "folder")
def lost(table):
    return [row for row in table if row]

# %%
watch = Watch()
scores, count = run("atss"), 4
assert scores["AP"] > 0.1
assert count == limit + 1
train("atss", folder / "here", callbacks=[watch])
assert watch.seen
assert folder
rows = []
rows.append(scores["AP50"])
assert lost(rows)
assert len(lost([1])) == 1
total = 0
for row in rows:
    total += row
assert total > 1
if total > 3:
    limit = 4
assert limit < 5
torch.testing.assert_close(total, 1.0)
total = 2
assert total == 2
"""


def test_the_finder_follows_a_trained_number(tmp_path):
    path = tmp_path / "99_chapter.py"
    path.write_text(SOURCE, encoding="utf-8")
    assert assertions.trained(path) == [
        "scores['AP'] > 0.1", "watch.seen", "folder", "lost(rows)", "total > 1", "limit < 5",
        "torch.testing.assert_close(total, 1.0)",
    ]  # fmt: skip


def test_the_finder_knows_the_chapters_that_train():
    trains = {
        path.name[:2]
        for path in chapter.sources()
        if "load_detector(" in path.read_text() or "train(" in path.read_text()
    }
    assert set(TRAINED) >= trains


def noted(code: str, **names) -> recorder.Ledger:
    ledger = recorder.Ledger()
    tree = ast.fix_missing_locations(recorder.Recorder().visit(ast.parse(code)))
    exec(compile(tree, "<test>", "exec"), {**names, recorder.NAME: ledger, "torch": torch})
    return ledger


@pytest.mark.parametrize(
    ("code", "margins", "holds"),
    [
        ("assert a < 3", [2], True),
        ("assert a >= 3", [-2], False),
        ("assert 0 < a < 3 and b > 1", [1, 2, 4], True),
        ("assert (t > 1).all()", [-1], False),
        ("assert (t >= 0).any()", [2.5], True),
        ("assert (t > 9).any()", [-0.5], False),
        ("assert all(x < 5 for x in (a, b))", [0], False),
        ("assert a == 1", [None], True),
        ("assert {a} < {a, b}", [None], True),
        ("assert not a", [None], False),
        ("assert (t[:0] > 1).all()", [None], True),
        ("for x in (4, 2, 3):\n    assert a < x", [1], True),
        ("torch.testing.assert_close(t, t + 1, rtol=0, atol=1.5)", [0.5], True),
        ("torch.testing.assert_close(t, t + 1, rtol=0, atol=0.5)", [-0.5], False),
    ],
)
def test_the_ledger_notes_the_distance_to_failing(code, margins, holds):
    """A failing assertion is noted and stops nothing."""
    ledger = noted(code, a=1, b=5, t=torch.tensor([0.0, 1.0, 2.0]))
    (text,) = ledger.held
    assert ledger.held[text] is holds
    assert [link["margin"] for link in ledger.links[text].values()] == margins


def part(**entry) -> dict:
    comparison = {"text": "a < b", "sides": [1, 2], "margin": 1.0, "spread": 0.5, "ratio": 2.0} | entry
    failed = comparison.pop("failed", [])
    entries = [{"text": "a < b", "trained": True, "failed": failed, "comparisons": [comparison]}]
    return {"runs": [], "errors": [], "outputs that differ": [], "assertions": entries}


def test_what_is_a_fault():
    assert assertions.faults(part()) == []
    assert assertions.faults(part(margin=None, spread=None, ratio=None)) == []
    assert "margin of 0.9" in assertions.faults(part(margin=0.9, ratio=1.8))[0]
    assert "failed (avx2, seed 0)" in assertions.faults(part(failed=["avx2, seed 0"]))[0]
    assert "cell 3" in assertions.faults(part() | {"outputs that differ": ["3"]})[0]
    assert assertions.faults(part() | {"errors": ["cell 4: no"]}) == ["cell 4: no"]
