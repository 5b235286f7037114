"""The explorer on a picture of the stage: objects are dragged, and the rules ask the detector that a row has trained.

Everything is read from the committed entries (data/board), nothing is trained.
"""

from typing import TYPE_CHECKING, Any

from labelkit.explore import opening
from labelkit.explore.question import rule_of
from labelkit.extras import explained
from labelkit.network_input import size_of
from labelkit.training.rules import plain_arguments
from labelkit.training.spoken import write_rule
from labelkit_course import entries, on_stage
from labelkit_course.rows import Cell

if TYPE_CHECKING:
    from labelkit.explore.widget import Explorer

ROW, PICTURE = "simota", "sky"
BESIDE = ("max_iou", "atss", "simota", "tal")  # after the row's own rule, four in all


def explore(row: str = ROW, picture: str = PICTURE, **state: Any) -> "Explorer":
    """The explorer in a notebook, as `opened` says."""
    with explained():
        from labelkit.explore.widget import Explorer
    return Explorer(opened(row, picture, **state))


def opened(row: str = ROW, picture: str = PICTURE, **state: Any) -> opening.Opened:
    """A picture with its objects, the detector of the row's entry of seed 0, and the row's rule beside three others.

    row: a name in `labelkit_course.rows.VARIANTS`. picture: "sky", "star" or "digits". state: rules, chosen,
    panel_rule, heat, as `labelkit.explore` takes them.
    """
    entry = on_stage.entry_of(row, picture)
    image, target = entries.stage_pictures(entry.data)[entry.place]
    own = _written(row, entry.data, size_of(image))
    begun = {"rules": [own, *[name for name in BESIDE if name != own][:3]]}
    detector = entries.trained_detector(entry.folder, entry.name)
    return opening.opened(
        image=image, boxes=target["boxes"], labels=target["labels"], detector=detector, **begun | state
    )


def _written(row: str, data: str, size: tuple[int, int]) -> str:
    """The row's rule as the explorer reads it, with those of its arguments that the explorer would choose otherwise."""
    recipe = Cell(data, "full", row, 0).recipe(data)
    own, usual = plain_arguments(recipe.rules()["assigner"]), plain_arguments(rule_of(recipe.assigner, size))
    return write_rule(recipe.assigner, {name: value for name, value in own.items() if value != usual[name]})
