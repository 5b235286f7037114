"""The exercises of chapter 05: two thresholds, class targets, claims, and RetinaNet's whole rule."""

import torch

from labelkit import IGNORED, NEGATIVE, Priors, plot
from labelkit.assigners import ASSIGNERS, MaxIoU
from labelkit.assignment import Assignment
from labelkit.similarity import iou
from labelkit_course import Exercise, compare
from labelkit_course.answers import OneImage

# --- 05.1 -----------------------------------------------------------------------------------------------------------


def _labels(table, fg, bg):
    """The slow reading of the rule: one anchor after the other."""
    labels = []
    for row in table.tolist():
        best = max(row, default=0.0)
        labels.append(row.index(best) if row and best >= fg else IGNORED if row and best >= bg else NEGATIVE)
    return torch.tensor(labels, dtype=torch.int64)


def _thresholds(case, table, answer, fg=0.5, bg=0.4):
    table = torch.tensor(table, dtype=torch.float64)  # so that 0.4 in the table is 0.4 in the comparison
    inputs = {"table": table, "fg_thresh": fg, "bg_thresh": bg}
    compare(case, inputs, answer(table, fg, bg), _labels(table, fg, bg))


def clear_cases(answer):
    _thresholds("One object, and IoU 0.8, 0.45 and 0.1: far from the thresholds", [[0.8], [0.45], [0.1]], answer)


def the_best_of_two(answer):
    _thresholds("Two objects: the better of the two decides", [[0.1, 0.7], [0.6, 0.55], [0.2, 0.42]], answer)


def exactly_the_upper(answer):
    _thresholds("IoU exactly 0.5 is positive", [[0.5], [0.25]], answer)


def exactly_the_lower(answer):
    _thresholds("IoU exactly 0.4 is no longer background", [[0.4], [0.0]], answer)


def equal_objects(answer):
    _thresholds("Two objects with equal IoU: the first wins", [[0.6, 0.6], [0.1, 0.9]], answer)


def other_thresholds(answer):
    table = [[0.65], [0.75], [0.29], [0.3]]
    _thresholds("Faster R-CNN's thresholds 0.7 and 0.3", table, answer, 0.7, 0.3)


def equal_thresholds(answer):
    _thresholds("Both thresholds 0.5: nothing is ignored", [[0.5], [0.49], [0.3]], answer, 0.5, 0.5)


def no_objects(answer):
    table = torch.zeros(3, 0)
    inputs = {"table": "a tensor of shape [3, 0]"}
    compare("An image without objects has only negatives", inputs, answer(table, 0.5, 0.4), _labels(table, 0.5, 0.4))


def _cut(table, fg, bg, over=torch.ge, under=torch.lt):
    if table.shape[1] == 0:
        return torch.full((len(table),), NEGATIVE)
    best, label = table.max(dim=1)
    return torch.where(over(best, fg), label, torch.where(under(best, bg), NEGATIVE, IGNORED))


def _last_object_wins(table, fg, bg):
    label = _cut(table, fg, bg)
    return torch.where(label >= 0, table.shape[1] - 1 - table.flip(1).argmax(dim=1), label) if table.shape[1] else label


def _crashes_without_objects(table, fg, bg):
    best, label = table.max(dim=1)
    return torch.where(best >= fg, label, torch.where(best < bg, NEGATIVE, IGNORED))


def _swapped_codes(table, fg, bg):
    label = _cut(table, fg, bg)
    return torch.where(label < 0, -3 - label, label)


# --- 05.2 -----------------------------------------------------------------------------------------------------------


def _class_targets(case, gt, labels, answer):
    gt, labels = (torch.tensor(values, dtype=torch.int64) for values in (gt, labels))
    want = [labels[g] + 1 if g >= 0 else 0 if g == NEGATIVE else -1 for g in gt]
    compare(case, {"gt": gt, "labels": labels}, answer(gt, labels), torch.tensor(want, dtype=torch.int64))


def one_of_each(answer):
    _class_targets("A positive of class 4, a negative and an ignored anchor", [0, NEGATIVE, IGNORED], [4, 6], answer)


def class_zero(answer):
    _class_targets("Class 0 must not look like background", [0, 0, NEGATIVE], [0], answer)


def several_objects(answer):
    _class_targets("Three objects of two classes", [2, NEGATIVE, 0, 1, IGNORED, 2], [7, 1, 7], answer)


def nothing_in_the_image(answer):
    _class_targets("An image without objects", [NEGATIVE, NEGATIVE], [], answer)


def _wraps_around(gt, labels):
    return torch.where(gt == IGNORED, -1, labels[gt] + 1) if len(labels) else torch.zeros_like(gt)


def _looks_up_before_it_asks(gt, labels):
    return torch.where(gt >= 0, labels[gt.clamp(min=0)] + 1, torch.where(gt == IGNORED, -1, 0))


def _background(gt, labels, ignored, shift):
    targets = torch.where(gt == IGNORED, ignored, 0)
    targets[gt >= 0] = labels[gt[gt >= 0]] + shift
    return targets


# --- 05.3 -----------------------------------------------------------------------------------------------------------


def _claims(case, table, answer):
    table = torch.tensor(table)
    want = [[value > 0 and value == max(table[:, g].tolist()) for g, value in enumerate(row)] for row in table.tolist()]
    compare(case, {"table": table}, answer(table), torch.tensor(want).reshape(table.shape))


def one_best(answer):
    _claims("One object and three anchors, the second is best", [[0.1], [0.3], [0.2]], answer)


def two_objects(answer):
    _claims("Two objects claim different anchors", [[0.6, 0.1], [0.2, 0.15], [0.1, 0.05]], answer)


def one_anchor_for_both(answer):
    _claims("Both objects claim the same anchor", [[0.2, 0.1], [0.9, 0.3]], answer)


def several_tied(answer):
    _claims("Three anchors tie for the object", [[0.0625], [0.0625], [0.05], [0.0625]], answer)


def nearly_tied(answer):
    _claims("0.3 and 0.3000001 are no tie", [[0.3], [0.3000001]], answer)


def nothing_overlaps(answer):
    _claims("The second object overlaps no anchor", [[0.2, 0.0], [0.6, 0.0]], answer)


def no_columns(answer):
    table = torch.zeros(2, 0)
    compare("An image without objects", {"table": "a tensor of shape [2, 0]"}, answer(table), table.bool())


def _only_the_first(table):
    claims = torch.zeros_like(table, dtype=torch.bool)
    if table.shape[1]:
        claims[table.argmax(dim=0), torch.arange(table.shape[1])] = True
    return claims & (table > 0)


def _best_of_the_rows(table):
    return (table == table.amax(dim=1, keepdim=True)) & (table > 0) if table.shape[1] else table.bool()


# --- 05.4 -----------------------------------------------------------------------------------------------------------

CELLS = Priors.anchors((96, 96), strides=(16,), sizes=((32,),))
LADDER = [[16.0 * i, 0, 16.0 * i + 32, 32] for i in range(5)]


def _assign(case, boxes, answer, priors=CELLS, **thresholds):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(priors, boxes, **thresholds), MaxIoU(**thresholds)(priors, {"boxes": boxes}).gt
    inputs = {"priors.boxes": priors.boxes, "gt_boxes": boxes} | thresholds
    compare(case, inputs, got, want, draw=lambda: _two_assignments(priors, boxes, got, want))


def _two_assignments(priors, boxes, got, want):
    figure, axes = plot.figure(2)
    edge = int(max(priors.boxes.max(), 64)) + 4
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        answer = Assignment(gt, torch.zeros(len(gt)), (gt >= 0).float(), torch.ones(len(gt)))
        plot.scene(ax, (edge, edge), title=title)
        known = gt.max() < len(boxes)
        plot.assignment(ax, priors, answer, boxes if known else None)
    return figure


def a_fitting_object(answer):
    _assign("One object that some anchors fit well", [[38.0, 38, 68, 74]], answer)


def only_thresholds_met_exactly(answer):
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 32, 32], [0, 0, 16, 32], [0, 0, 8, 32]]))
    _assign("Anchors with IoU 1, exactly 0.5 and 0.25", [[0.0, 0, 32, 32]], answer, priors)


def a_tiny_object(answer):
    _assign("A tiny object: no anchor reaches 0.4, several tie for the best", [[46.0, 46, 50, 50]], answer)


def a_claim_over_a_threshold(answer):
    priors = Priors.from_boxes(torch.tensor(LADDER))
    _assign("The best anchor of the object lies in the ignored band", [[8.0, 0, 42, 32]], answer, priors, fg_thresh=0.9)


def a_small_one_inside(answer):
    _assign("A small object inside a large one", [[32.0, 32, 64, 64], [44, 44, 52, 52]], answer)


def a_claim_on_a_neighbours_anchor(answer):
    priors = Priors.from_boxes(torch.tensor(LADDER))
    case = "An anchor under both thresholds is claimed by the small object, and overlaps the large one more"
    _assign(case, [[56.0, 0, 96, 32], [40, 4, 46, 10]], answer, priors)


def one_outside(answer):
    _assign("The second object lies outside the image and overlaps nothing",
            [[38.0, 38, 68, 74], [500, 500, 520, 520]], answer)  # fmt: skip


def proposals(answer):
    boxes = [[4.0, 6, 40, 34], [50, 20, 90, 70]]
    _assign("The thresholds 0.7 and 0.3", boxes, answer, fg_thresh=0.7, bg_thresh=0.3)


def empty_image(answer):
    _assign("An image without objects", [], answer)


def _whole(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4, *, over=torch.ge, floor=0.0, ties="all", owner="argmax"):
    """The whole rule, with one screw loose at a time."""
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    table = iou(priors.boxes[:, None], gt_boxes)
    own = table.argmax(dim=1)
    label = _cut(table, fg_thresh, bg_thresh, over)
    claims = (table == table.amax(dim=0)) & (table > floor)
    if ties == "first":
        claims &= _only_the_first(table)
    claimed = claims.any(dim=1)
    if owner == "gt":
        own = torch.where(claims, torch.arange(len(gt_boxes)), -1).amax(dim=1)
    if owner == "gt if negative":
        own = torch.where(label >= 0, own, torch.where(claims, table, -1).argmax(dim=1))
    label[claimed] = own[claimed]
    return label


def _loose(**screw):
    return lambda priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4: _whole(
        priors, gt_boxes, fg_thresh, bg_thresh, **screw
    )


def _claims_first_thresholds_after(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    return _cut(iou(priors.boxes[:, None], gt_boxes), fg_thresh, bg_thresh)


def _fixed_thresholds(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    return _whole(priors, gt_boxes)


def _no_guard_for_empty_images(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    iou(priors.boxes[:, None], gt_boxes).max(dim=1)
    return _whole(priors, gt_boxes, fg_thresh, bg_thresh)


def _stand_in(answer, arguments):
    """The learner's function where a demonstration asks for torchvision's rule, labelkit's for the other variants."""
    if set(arguments) <= {"fg_thresh", "bg_thresh"}:
        return OneImage(answer, arguments)
    return ASSIGNERS["max_iou"](**arguments)


EXERCISES = (
    Exercise(
        id="05.1",
        title="Two thresholds",
        difficulty=2,
        minutes=10,
        hints=(
            "table.max(dim=1) gives two tensors: the best IoU of each anchor, and the column where it stands.",
            "The column is nearly the answer. It has to be overwritten for the anchors whose best IoU is too low: "
            "first all under fg_thresh by IGNORED, then all under bg_thresh by NEGATIVE.",
            "best, label = table.max(dim=1); label[best < fg_thresh] = IGNORED; the same with bg_thresh and NEGATIVE. "
            "Before that: if table.shape[1] == 0, return torch.full((len(table),), NEGATIVE).",
        ),
        tests=(
            clear_cases,
            the_best_of_two,
            exactly_the_upper,
            exactly_the_lower,
            equal_objects,
            other_thresholds,
            equal_thresholds,
            no_objects,
        ),
        mutants={
            "upper threshold open": (lambda t, fg, bg: _cut(t, fg, bg, torch.gt), "exactly 0.5 is positive"),
            "lower threshold closed": (lambda t, fg, bg: _cut(t, fg, bg, under=torch.le), "exactly 0.4 is no longer"),
            "best anchor instead of best object": (
                lambda t, fg, bg: torch.where(t.amax(1) >= fg, t.argmax(), torch.where(t.amax(1) < bg, -1, -2)),
                "Two objects",
            ),
            "codes swapped": (_swapped_codes, "0.8, 0.45 and 0.1"),
            "no ignored band": (lambda t, fg, bg: _cut(t, fg, fg), "0.8, 0.45 and 0.1"),
            "last of equal objects": (_last_object_wins, "equal IoU"),
            "fixed thresholds": (lambda t, fg, bg: _cut(t, 0.5, 0.4), "0.7 and 0.3"),
            "crashes without objects": (_crashes_without_objects, "max()"),
        },
    ),
    Exercise(
        id="05.2",
        title="Class targets",
        difficulty=2,
        minutes=8,
        hints=(
            "Start with zeros: most anchors are background. Then write the two other kinds over them.",
            "labels[gt] with a gt of -1 takes the LAST label. Select the positives first: positive = gt >= 0.",
            "targets = torch.zeros_like(gt); targets[gt == IGNORED] = -1; "
            "targets[positive] = labels[gt[positive]] + 1.",
        ),
        tests=(one_of_each, class_zero, several_objects, nothing_in_the_image),
        mutants={
            "index -1 wraps around": (_wraps_around, "a negative and an ignored anchor"),
            "no + 1": (lambda gt, labels: _background(gt, labels, -1, 0), "of class 4"),
            "ignored as background": (lambda gt, labels: _background(gt, labels, 0, 1), "ignored anchor"),
            "ignored keeps its code": (lambda gt, labels: _background(gt, labels, -2, 1), "ignored anchor"),
            "index for class": (lambda gt, labels: torch.where(gt >= 0, gt + 1, -1 - gt), "of class 4"),
            "looks up without labels": (_looks_up_before_it_asks, "index"),
        },
    ),
    Exercise(
        id="05.3",
        title="Who is claimed",
        difficulty=2,
        minutes=8,
        hints=(
            "The rule looks down a column. What is the largest number in each column?",
            "table.amax(dim=0) is [G]: the best IoU of each object. Comparing the table with it marks the best of "
            "every column, ties included.",
            "(table == table.amax(dim=0)) marks too much in one case: a column of zeros. Require table > 0 as well, "
            "with &.",
        ),
        tests=(
            one_best,
            two_objects,
            one_anchor_for_both,
            several_tied,
            nearly_tied,
            nothing_overlaps,
            no_columns,
        ),
        mutants={
            "the first of the tied only": (_only_the_first, "Three anchors tie"),
            "best of the row": (_best_of_the_rows, "One object and three anchors"),
            "claims without overlap": (lambda t: t == t.amax(dim=0), "overlaps no anchor"),
            "best of the whole table": (lambda t: (t == t.max()) & (t > 0), "different anchors"),
            "nearly equal": (lambda t: torch.isclose(t, t.amax(dim=0), rtol=1e-4) & (t > 0), "no tie"),
            "only under the threshold": (
                lambda t: (t == t.amax(dim=0)) & (t > 0) & (t < 0.5),
                "Two objects claim different anchors",
            ),
        },
    ),
    Exercise(
        id="05.4",
        title="The whole rule",
        difficulty=4,
        minutes=15,
        provides="max_iou",
        adapt=_stand_in,
        hints=(
            "Three steps: the table, iou(priors.boxes[:, None], gt_boxes); the two thresholds as in 05.1; the claims "
            "as in 05.3. Keep the argmax of each row before you overwrite it: the last step needs it again.",
            "An anchor is claimed if any object claims it: claims.any(dim=1). A claimed anchor gets back the argmax of "
            "its row, whatever the thresholds said. Do this last.",
            "best, own = table.max(dim=1); label = own.clone(); overwrite label by the thresholds; claimed = ((table "
            "== table.amax(dim=0)) & (table > 0)).any(dim=1); label[claimed] = own[claimed]. Without objects: all "
            "NEGATIVE.",
        ),
        tests=(
            a_fitting_object,
            only_thresholds_met_exactly,
            a_tiny_object,
            a_claim_over_a_threshold,
            a_small_one_inside,
            a_claim_on_a_neighbours_anchor,
            proposals,
            one_outside,
            empty_image,
        ),
        mutants={
            "no low-quality rule": (_claims_first_thresholds_after, "A tiny object"),
            "upper threshold open": (_loose(over=torch.gt), "exactly 0.5"),
            "first of the ties": (_loose(ties="first"), "several tie"),
            "owner gt, as in mmdet": (_loose(owner="gt"), "inside a large one"),
            "owner gt below the thresholds": (_loose(owner="gt if negative"), "overlaps the large one more"),
            "claims without overlap": (_loose(floor=-1), "overlaps nothing"),
            "claims from 0.1 only": (_loose(floor=0.1), "A tiny object"),
            "thresholds not used": (_fixed_thresholds, "ignored band"),
            "crashes without objects": (_no_guard_for_empty_images, "max()"),
        },
    ),
)
