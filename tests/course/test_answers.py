"""use and assigner: a passed answer, and only a passed one, stands in for labelkit's."""

import pytest
import torch

import labelkit_course as course
from labelkit import NEGATIVE, Priors
from labelkit.assigners import ASSIGNERS, TopK
from labelkit_course import answers, registry
from labelkit_course.exercise import Exercise, compare

PRIORS = Priors.points((32, 32), (8,))
TARGET = {"boxes": torch.tensor([[0.0, 0.0, 9.0, 9.0]]), "labels": torch.tensor([0])}


def first_k(priors, gt_boxes, k=2):
    gt = torch.full((len(priors),), NEGATIVE)
    gt[:k] = 0
    return gt


def test_first(answer):
    compare("Two positives", {}, answer(PRIORS, TARGET["boxes"]), first_k(PRIORS, TARGET["boxes"]))


EXERCISE = Exercise("00.1", "Any", 1, 1, ("a", "b", "c"), (test_first,), {}, provides="topk")
test_first.__test__ = False


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    monkeypatch.setattr(registry, "find", lambda name: EXERCISE)
    monkeypatch.setattr(registry, "every", lambda: (EXERCISE,))


def blank(priors, gt_boxes):
    course.todo("00.1")


def test_labelkits_assigner_is_the_default():
    assert course.assigner("topk", k=4) == TopK(k=4)


def test_a_passed_answer_is_used_with_its_arguments():
    course.use("00.1", first_k)
    mine = course.assigner("topk", k=3)(PRIORS, TARGET)
    assert mine.gt.tolist()[:4] == [0, 0, 0, NEGATIVE]
    assert mine.score_target.tolist()[:4] == [1, 1, 1, 0]
    assert type(course.assigner("atss")) is ASSIGNERS["atss"]


def test_a_batch_gets_a_leading_dimension_and_its_similarity_is_the_iou():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0.0, 9.0, 18.0], [50.0, 50.0, 60.0, 60.0]]))
    course.use("00.1", first_k)
    mine = course.assigner("topk", k=1)(priors, [TARGET, {"boxes": torch.zeros(1, 4) + torch.tensor([0, 0, 9, 18.0])}])
    assert mine.gt.tolist() == [[0, NEGATIVE]] * 2
    torch.testing.assert_close(mine.similarity, torch.tensor([[0.5, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("answer", [blank, lambda priors, gt_boxes: None])
def test_an_answer_that_does_not_pass_is_not_used(answer, capsys):
    course.use("00.1", first_k)
    course.use("00.1", answer)
    assert "stays labelkit's" in capsys.readouterr().out
    assert type(course.assigner("topk")) is TopK


def test_an_exercise_that_is_no_assigner_is_refused(monkeypatch):
    monkeypatch.setattr(registry, "find", lambda name: Exercise("00.1", "A", 1, 1, ("a", "b", "c"), (), {}))
    with pytest.raises(ValueError, match="not an assigner"):
        course.use("00.1", first_k)


ANSWER = """def first_k(priors, gt_boxes, k=2):
    gt = torch.full((len(priors),), -1)
    gt[:k] = 0
    return gt
"""


def test_an_answer_is_kept_for_later_chapters_and_checked_again(work, monkeypatch):
    course.use("00.1", first_k)
    kept = work / ".labelkit" / "answers" / "00.1.py"
    assert "def first_k" in kept.read_text()
    kept.write_text(ANSWER)
    monkeypatch.setattr(answers, "_taken", {})
    assert course.assigner("topk", k=3)(PRIORS, TARGET).gt.tolist()[:4] == [0, 0, 0, NEGATIVE]
    for spoilt in (ANSWER.replace("[:k] = 0", "[:k] = 1"), "no Python", "import nothing_like_it"):
        kept.write_text(spoilt)
        monkeypatch.setattr(answers, "_taken", {})
        assert type(course.assigner("topk")) is TopK


def test_nothing_is_kept_or_taken_from_the_folder_where_tests_run(work, monkeypatch):
    monkeypatch.setenv("LABELKIT_EXPECT", "pass")
    course.use("00.1", first_k)
    assert not work.exists()
    (work / ".labelkit" / "answers").mkdir(parents=True)
    (work / ".labelkit" / "answers" / "00.1.py").write_text(ANSWER)
    monkeypatch.setattr(answers, "_taken", {})
    assert type(course.assigner("topk")) is TopK


def test_reset_takes_the_answers_out(work):
    course.use("00.1", first_k)
    course.reset()
    assert type(course.assigner("topk")) is TopK
    assert list((work / ".labelkit" / "answers").iterdir()) == []
