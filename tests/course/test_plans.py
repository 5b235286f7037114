"""Plans are sealed once, before the runs, and only where something can be decided by them; no p but the exact one."""

import itertools
import json
from datetime import UTC, datetime

import numpy as np
import pytest

import labelkit_course as course
from labelkit_course import plans, progress
from labelkit_course.exercises import confirm


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    monkeypatch.setattr(plans, "_sealed", {})


def test_a_sealed_plan_is_kept_with_its_date(capsys):
    assert plans.sealed_on("20.5", plans.EXAMPLE) is None
    course.plan("20.5", plans.EXAMPLE)
    digest = plans.digest_of(plans.EXAMPLE)
    assert digest in capsys.readouterr().out and len(digest) == 64
    plans._sealed.clear()  # another session
    when = plans.sealed_on("20.5", dict(reversed(plans.EXAMPLE.items())))
    assert when is not None and abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert plans.sealed_on("20.5", plans.EXAMPLE | {"matters": 0.9}) is None
    assert plans.sealed_on("20.4", plans.EXAMPLE) is None


def test_a_plan_that_is_sealed_twice_keeps_its_first_date():
    first = "2026-01-01T00:00:00+00:00"
    progress.record("20.5", plans={plans.digest_of(plans.EXAMPLE): first})
    course.plan("20.5", plans.EXAMPLE)
    course.plan("20.5", plans.EXAMPLE | {"seeds": 8})
    assert plans.sealed_on("20.5", plans.EXAMPLE) == datetime.fromisoformat(first)
    assert len(progress.read()["20.5"]["plans"]) == 2
    progress.record_check("20.5", "passed")
    assert len(progress.read()["20.5"]["plans"]) == 2


def test_a_json_file_is_a_plan(tmp_path, capsys):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plans.EXAMPLE, indent=3))
    course.plan("20.5", file)
    assert plans.sealed_on("20.5", plans.EXAMPLE) is not None
    file.write_text("[]")
    course.plan("20.5", file)
    course.plan("20.5", tmp_path / "none.json")
    out = capsys.readouterr().out
    assert "got list" in out and "none.json" in out


def test_while_tests_run_the_chapters_nothing_is_kept(monkeypatch):
    monkeypatch.setenv("LABELKIT_EXPECT", "pass")
    course.plan("20.5", plans.EXAMPLE)
    assert plans.sealed_on("20.5", plans.EXAMPLE) is not None and progress.read() == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"matters": ..., "stop": ...}, "Still blank: matters, stop."),
        ({"seeds": 5}, "cannot fall below 0.0625"),
        ({"seeds": 0}, "Take 6 or more"),
        ({"seeds": 21}, "at most 20"),
        ({"seeds": 6.0}, "'seeds' should be a whole number"),
        ({"seeds": True}, "'seeds' should be a whole number"),
        ({"matters": "much"}, "'matters' should be a number"),
        ({"matters": 0}, "more than 0"),
        ({"first seed": -1}, "0 or more"),
        ({"quantity": 3}, "'quantity' should be words"),
        ({"than": "rka"}, "both are 'rka'"),
        ({"stop": "at the first success"}, "p holds for one look"),
        ({"stop": "tonight"}, "got 'tonight'"),
        ({"colour": "red"}, "A plan has the entries better, than"),
    ],
)
def test_what_decides_nothing_is_not_sealed(change, words, capsys):
    course.plan("20.5", plans.EXAMPLE | change)
    assert words in capsys.readouterr().out and progress.read() == {}


def test_p_is_counted_over_all_signs():
    draw = np.random.default_rng(0)
    for count in (1, 4, 7):
        gaps = draw.integers(-3, 4, count).astype(float)  # with ties, and sums that are met exactly
        signed = [
            abs(np.dot(signs, gaps)) >= abs(gaps.sum()) - 1e-9 for signs in itertools.product((1, -1), repeat=count)
        ]
        assert confirm.sign_flip(gaps) == pytest.approx(np.mean(signed))
    assert confirm.sign_flip(np.ones(6)) == 2 / 64


@pytest.mark.parametrize(
    ("p", "mean", "said"),
    [
        (0.03, 1.0, "confirmed"),
        (0.05, 1.0, "confirmed"),
        (0.06, 9.0, "open"),
        (0.03, 0.99, "open"),
        (0.03, -0.2, "overturned"),
        (0.06, -9.0, "open"),
    ],
)
def test_the_verdict_follows_from_the_plan(p, mean, said):
    assert confirm.judged(p, mean, 1.0) == said


def test_the_example_says_that_it_is_made_up():
    folder = course.example_comparison()
    entries = [json.loads(path.read_text()) for path in folder.glob("*/seed*/compared.json")]
    assert len(entries) == 12 and all(entry["made up"] for entry in entries)
    assert json.loads((folder / "plan.json").read_text()) == plans.EXAMPLE
