"""What another convention has no place for is said, once for each of them, and not dropped in silence."""

from labelkit.assignment import Assignment
from labelkit.once import warn_once


def say_left_out(assignment: Assignment, where: str, fields: tuple[str, ...]) -> None:
    """A warning that names those of `fields` ("ignored", "score_target", "weight") that this assignment uses."""
    positive = assignment.positive
    used = {
        "ignored": assignment.ignored,
        "score_target": positive & (assignment.score_target != 1),
        "weight": assignment.weight != 1,
    }
    lost = [name for name in fields if bool(used[name].any())]
    if lost:
        warn_once(f"{where} has no place for {_listed(lost)} of this assignment: left out")


def _listed(names: list[str]) -> str:
    what = {"ignored": "the ignored priors, now background", "score_target": "soft targets", "weight": "weights"}
    return " and ".join(what[name] for name in names)
