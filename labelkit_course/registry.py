"""Finds exercises by id: chapter NN declares its own in `exercises/chNN.py`, as a tuple named EXERCISES."""

import pkgutil
from functools import cache
from importlib import import_module

from labelkit_course import exercises
from labelkit_course.exercise import Exercise

# Ids of exercises that the course no longer has. None is used again: what a learner passed was another task.
RETIRED = frozenset(
    ["01.2", "04.1", "05.1", "05.3", "06.1", "06.3", "08.3", "09.2", "11.2", "11.4", "16.3", "17.1", "18.1", "18.2"]
)


@cache
def of_chapter(number: str) -> tuple[Exercise, ...]:
    """The exercises of chapter `number` ("05"), in the chapter's order; none for a chapter without a module."""
    if number not in chapters():
        return ()
    declared = import_module(f"labelkit_course.exercises.ch{number}").EXERCISES
    _check_ids(number, [exercise.id for exercise in declared])
    return tuple(declared)


def _check_ids(number: str, ids: list[str], retired: frozenset[str] = RETIRED) -> None:
    """Every id from NN.1 on is declared once or retired, so that a new exercise can only get a new id."""
    gone = [name for name in retired if name.startswith(f"{number}.")]
    expected = [f"{number}.{i}" for i in range(1, len(ids) + len(gone) + 1)]
    if sorted(ids + gone) != sorted(expected):
        raise ValueError(f"exercises/ch{number}.py declares {ids}, and {gone} are retired: together not {expected}")


def chapters() -> tuple[str, ...]:
    """Numbers of the chapters that have exercises."""
    names = (module.name for module in pkgutil.iter_modules(exercises.__path__))
    return tuple(sorted(name[2:] for name in names if name.startswith("ch")))


def every() -> tuple[Exercise, ...]:
    return tuple(exercise for number in chapters() for exercise in of_chapter(number))


def find(exercise_id: str) -> Exercise:
    """The exercise with this id; a ValueError that lists the chapter's own where there is none."""
    number = str(exercise_id).split(".")[0]
    for exercise in of_chapter(number):
        if exercise.id == exercise_id:
            return exercise
    there = ", ".join(exercise.id for exercise in of_chapter(number)) or "no exercises"
    raise ValueError(f"There is no exercise {exercise_id!r}. Chapter {number} has {there}.")
