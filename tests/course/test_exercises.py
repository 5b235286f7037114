"""Four proofs for each exercise: the reference passes, the stub reads blank, every mutant fails, and says its clue."""

import pytest

from labelkit_course import chapter, registry
from labelkit_course.checking import evaluate

EXERCISES = registry.every()
exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
MUTANTS = [(exercise, name) for exercise in EXERCISES for name in exercise.mutants]
mutant = pytest.mark.parametrize(("exercise", "name"), MUTANTS, ids=lambda value: getattr(value, "id", value))


@exercise
def test_the_reference_passes(exercise):
    outcome = evaluate(exercise, chapter.reference(exercise.id))
    assert outcome.state == "passed", outcome.text


@exercise
def test_the_stub_reads_blank(exercise):
    assert evaluate(exercise, chapter.stub(exercise.id)).state == "blank"


@exercise
def test_there_are_three_mutants_or_more(exercise):
    assert len(exercise.mutants) >= 3


@mutant
def test_a_mutant_fails_says_its_clue_and_can_be_drawn(exercise, name):
    answer, clue = exercise.mutants[name]
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
    answer = chapter.function_name(cells[homes[0]].source)
    assert f'course.check("{exercise.id}", {answer})' in cells[homes[0] + 1].source


@pytest.mark.parametrize("path", chapter.sources(), ids=lambda path: path.stem)
def test_the_solutions_of_a_chapter_are_the_declared_exercises(path):
    found = [match["id"] for cell in chapter.cells(path) for match in chapter.REGION.finditer(cell.source)]
    assert found == [exercise.id for exercise in registry.of_chapter(path.name[:2])]
