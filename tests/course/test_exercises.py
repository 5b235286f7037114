"""What each exercise proves: the reference passes, the stub reads blank, every mutant fails, and says its clue.

A bug's stub is the given code, which fails as the first mutant. A choice has two right answers. Of a table of choices
each key alone can be wrong. That no misconception lies within the tolerance `expect` sees to itself.
"""

import pytest

from labelkit_course import GIVEN, chapter, registry
from labelkit_course.checking import evaluate

EXERCISES = registry.every()
exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
MUTANTS = [(exercise, name) for exercise in EXERCISES for name in exercise.mutants]
mutant = pytest.mark.parametrize(("exercise", "name"), MUTANTS, ids=lambda value: getattr(value, "id", value))


@exercise
def test_the_reference_passes(exercise):
    outcome = evaluate(exercise, chapter.reference(exercise.id))
    assert outcome.state == "passed", outcome.text


@pytest.mark.parametrize("exercise", [one for one in EXERCISES if one.kind != "B"], ids=lambda one: one.id)
def test_the_stub_reads_blank(exercise):
    assert evaluate(exercise, chapter.stub(exercise.id)).state == "blank"


@exercise
def test_only_a_bug_starts_from_given_code_and_that_is_its_first_mutant(exercise):
    given = [number for number, (answer, _) in enumerate(exercise.mutants.values()) if answer is GIVEN]
    assert given == ([0] if exercise.kind == "B" else [])


@exercise
def test_other_right_answers_pass_and_a_choice_has_one(exercise):
    assert exercise.also_right or exercise.kind != "C"
    for answer in exercise.also_right:
        outcome = evaluate(exercise, answer)
        assert outcome.state == "passed", outcome.text


@pytest.mark.parametrize("exercise", [one for one in EXERCISES if one.kind in "LM"], ids=lambda one: one.id)
def test_each_key_alone_can_be_wrong_and_has_its_own_clue(exercise):
    right, clues = chapter.reference(exercise.id), {}
    for answer, clue in exercise.mutants.values():
        wrong = [key for key in right if answer[key] != right[key]]
        if len(wrong) == 1:
            clues[wrong[0]] = clue
    assert set(clues) == set(right) and len(set(clues.values())) == len(right)


@exercise
def test_there_are_three_mutants_or_more(exercise):
    assert len(exercise.mutants) >= 3


@mutant
def test_a_mutant_fails_says_its_clue_and_can_be_drawn(exercise, name):
    answer, clue = exercise.mutants[name]
    answer = chapter.stub(exercise.id) if answer is GIVEN else answer
    outcome = evaluate(exercise, answer)
    assert outcome.state in ("not yet", "error"), f"{name} passes"
    assert clue in outcome.text
    if outcome.draw is not None:
        outcome.draw().canvas.draw()


@exercise
def test_the_chapter_checks_the_answer_in_the_next_cell(exercise):
    cells = [cell for cell in chapter.cells(chapter.source_of(exercise.chapter)) if cell.cell_type == "code"]
    homes = [number for number, cell in enumerate(cells) if f"# BEGIN SOLUTION {exercise.id}\n" in cell.source]
    assert len(homes) == 1
    answer = chapter.answer_name(cells[homes[0]].source)
    call = "predict" if exercise.kind == "P" else "check"
    assert f'course.{call}("{exercise.id}", {answer}' in cells[homes[0] + 1].source


@pytest.mark.parametrize("path", chapter.sources(), ids=lambda path: path.stem)
def test_the_solutions_of_a_chapter_are_the_declared_exercises(path):
    found = [match["id"] for cell in chapter.cells(path) for match in chapter.REGION.finditer(cell.source)]
    assert found == [exercise.id for exercise in registry.of_chapter(path.name[:2])]
