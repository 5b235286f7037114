"""The stage: what counts as found, and that the committed detections are those of the committed weights."""

import pytest
import torch

from labelkit import plot
from labelkit.training import runs
from labelkit_course import entries, on_stage, paths
from labelkit_course.rows import VARIANTS, Cell

RESULTS = paths.ROOT / "data" / "board"
ROWS = [
    (data, row)
    for data in ("sky", "digits")
    for row in VARIANTS
    if (RESULTS / f"{Cell(data, 'full', row, 0).name}.json").is_file()
]


def judged(gt, *detections):
    boxes, scores = [list(map(float, box)) for box, _ in detections], [score for _, score in detections]
    return on_stage.judged(torch.tensor(gt, dtype=torch.float32).reshape(-1, 4), {"boxes": boxes, "scores": scores})


A, B = [0, 0, 10, 10], [20, 0, 30, 10]


@pytest.mark.parametrize(
    ("gt", "detections", "found", "alarms"),
    [
        ([A, B], [(A, 0.9), (B, 0.3)], [True, True], 0),
        ([A, B], [(A, 0.9), (A, 0.8)], [True, False], 1),  # a double finds nothing
        ([A, B], [(A, 0.9), (B, 0.2)], [True, False], 0),  # too low a score counts for nothing
        ([A, B], [([0, 0, 10, 5], 0.9)], [True, False], 0),  # IoU exactly 0.5
        ([A, B], [([0, 0, 10, 4.9], 0.9)], [False, False], 1),
        ([A, B], [], [False, False], 0),
        ([], [(A, 0.9)], [], 1),
        ([A, [0, 0, 10, 9]], [(A, 0.9), (A, 0.8)], [True, True], 0),  # the second finds what is left
    ],
)
def test_what_counts_as_found(gt, detections, found, alarms):
    got, false = judged(gt, *detections)
    assert got.tolist() == found and len(false) == alarms


@pytest.mark.parametrize(("data", "row"), ROWS)
def test_the_detections_are_those_of_the_weights(data, row):
    """Processors differ in the last digits, and NMS may then keep another of two equal boxes."""
    name = Cell(data, "full", row, 0).name
    stored = runs.read_json(RESULTS / f"{name}.json")["detections"]
    again = entries.stage_detections(entries.trained_detector(RESULTS, name), data)
    for target, old, new in zip(entries.stage_pictures(data).targets, stored, again, strict=True):
        (found, alarms), (found_again, alarms_again) = (on_stage.judged(target["boxes"], each) for each in (old, new))
        assert abs(int(found.sum()) - int(found_again.sum())) <= 2
        assert abs(len(alarms) - len(alarms_again)) <= 2 + 0.1 * len(alarms)


def test_the_fixed_rule_forgets_the_small():
    """The course's first picture: one network, one picture, two labelings."""
    fixed, ties = (on_stage.shown(row)["sky"] for row in ("max_iou, no low quality", "max_iou, all ties"))
    assert fixed.objects == ties.objects == 108
    assert fixed.with_positive < 10 < 100 < ties.with_positive
    assert fixed.found < 15 < 80 < ties.found


def test_a_row_is_drawn_with_its_counts_as_caption(monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "show", lambda fig, alt, dpi: drawn.append((fig, alt)))
    counts = on_stage.stage("max_iou, all ties", "max_iou, no low quality", pictures=["digits"])
    ((fig, caption),) = drawn
    assert len(fig.axes) == 4 and counts == {"digits": on_stage.shown("max_iou, no low quality")["digits"]}
    assert f"finds {counts['digits'].found}, with" in caption
    assert f"{counts['digits'].found} of 11 found" in fig.axes[3].get_title()
    frames = [patch for patch in fig.axes[3].patches if patch.get_edgecolor()[:3] != (0, 0, 0)]
    assert len(frames) == 11 + counts["digits"].false_alarms


def test_an_unknown_row_or_picture_is_named(tmp_path):
    with pytest.raises(ValueError, match="row must be one of .*got 'ats'"):
        on_stage.scene("ats", "sky")
    with pytest.raises(ValueError, match="picture must be one of sky, star, digits, got 'moon'"):
        on_stage.scene("atss", "moon")
    with pytest.raises(ValueError, match="'atss' is not on the stage yet: labelkit course board --data sky"):
        on_stage.scene("atss", "sky", tmp_path)


def test_a_higher_least_score_counts_fewer_and_changes_no_label():
    low, high = (on_stage.shown("atss, distributions", ["digits"], least)["digits"] for least in (0.25, 0.5))
    assert high.found < low.found and high.false_alarms < low.false_alarms
    assert (high.objects, high.with_positive) == (low.objects, low.with_positive)
