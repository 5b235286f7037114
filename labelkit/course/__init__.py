"""The course's exercises: what a chapter calls, and what an exercise is written with.

    from labelkit import course
    course.check("05.2", my_function)     passed, not yet, blank, or your traceback
    course.hint("05.2")                   three hints, one at a time
    course.solution("05.2")               one answer
    course.use("09.3", my_atss)           put a passed answer into the demonstrations
    course.status(), course.reset()       progress, kept in work/progress.json

Nothing in the library imports this package. How to write a chapter or an exercise: README.md beside this file.
"""

from labelkit.course.answers import assigner, use
from labelkit.course.checking import check, hint, preview, solution
from labelkit.course.exercise import Exercise, Wrong, compare, todo
from labelkit.course.report import reset, status

__all__ = [
    "Exercise",
    "Wrong",
    "assigner",
    "check",
    "compare",
    "hint",
    "preview",
    "reset",
    "solution",
    "status",
    "todo",
    "use",
]
