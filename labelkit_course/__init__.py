"""The course's exercises: what a chapter calls, and what an exercise is written with.

    import labelkit_course as course
    course.check("05.2", my_function)     passed, not yet, blank, or your traceback
    course.case("05.2")                   the inputs for which it was not right
    course.predict("05.5", guess, reveal) what happens, once you have guessed it
    course.hint("05.2")                   three hints, one at a time
    course.solution("05.2")               one answer
    course.pipeline()                     the diagram of a detector's parts, a figure
    course.stage("atss")                  a row of the board at work on three fixed pictures; course.shown: its counts
    course.use("09.3", my_atss)           put a passed answer into the demonstrations
    course.status(), course.reset()       progress, kept in work/.labelkit
    course.broken_dataset(seed=0)         tree crowns with faults in their annotations, to be found and mended
    course.plan("20.5", my_plan)          seal a plan before the first run
    course.example_comparison()           a folder of `labelkit compare`, made up, with its plan
    course.method_map(up_to=9)            the map of methods as it stands after chapter 9
    course.run_folder(recipe, data)       where a chapter trains: the same training is done once and then found again

Nothing in the library imports this package. How to write a chapter or an exercise: README.md beside this file.
"""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit_course.answers import assigner, use
    from labelkit_course.broken import broken_dataset
    from labelkit_course.checking import case, check, hint, predict, preview, solution
    from labelkit_course.diagram import pipeline
    from labelkit_course.exercise import GIVEN, Exercise, Wrong, compare, todo
    from labelkit_course.method_map import method_map
    from labelkit_course.on_stage import shown, stage
    from labelkit_course.plans import example_comparison, plan
    from labelkit_course.report import reset, status
    from labelkit_course.trainings import run_folder
    from labelkit_course.values import expect, factor

__all__ = [
    "GIVEN",
    "Exercise",
    "Wrong",
    "assigner",
    "broken_dataset",
    "case",
    "check",
    "compare",
    "example_comparison",
    "expect",
    "factor",
    "hint",
    "method_map",
    "pipeline",
    "plan",
    "predict",
    "preview",
    "reset",
    "run_folder",
    "shown",
    "solution",
    "stage",
    "status",
    "todo",
    "use",
]

__getattr__ = attach(
    __name__,
    {
        "Exercise": "labelkit_course.exercise",
        "GIVEN": "labelkit_course.exercise",
        "Wrong": "labelkit_course.exercise",
        "assigner": "labelkit_course.answers",
        "broken_dataset": "labelkit_course.broken",
        "case": "labelkit_course.checking",
        "check": "labelkit_course.checking",
        "compare": "labelkit_course.exercise",
        "example_comparison": "labelkit_course.plans",
        "expect": "labelkit_course.values",
        "factor": "labelkit_course.values",
        "hint": "labelkit_course.checking",
        "method_map": "labelkit_course.method_map",
        "pipeline": "labelkit_course.diagram",
        "plan": "labelkit_course.plans",
        "predict": "labelkit_course.checking",
        "preview": "labelkit_course.checking",
        "reset": "labelkit_course.report",
        "run_folder": "labelkit_course.trainings",
        "shown": "labelkit_course.on_stage",
        "solution": "labelkit_course.checking",
        "stage": "labelkit_course.on_stage",
        "status": "labelkit_course.report",
        "todo": "labelkit_course.exercise",
        "use": "labelkit_course.answers",
    },
)
