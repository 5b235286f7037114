"""The exercises of chapter 07: matching detections, precision and recall, AP, and who got nothing."""

import torch

from labelkit import plot
from labelkit.similarity import iou
from labelkit_course import Exercise, compare

# --- 07.1 -----------------------------------------------------------------------------------------------------------


def _matched(boxes, scores, gt_boxes, threshold=0.5, *, over=torch.ge, by=None, twice=False, frozen=False, first=False):
    """COCO's greedy matching; each argument after the star loosens one of its screws."""
    hit = torch.zeros(len(boxes), dtype=torch.bool)
    free = torch.ones(len(gt_boxes), dtype=torch.bool)
    table = iou(boxes[:, None], gt_boxes)
    keys = scores if by is None else by(table)
    for index in keys.argsort(descending=True, stable=True).tolist():
        candidates = table[index].clone()
        if not frozen:
            candidates[~free] = -1
        if first:
            candidates = torch.where(over(candidates, torch.tensor(threshold)), 1.0, candidates)
        if len(gt_boxes) == 0:
            continue
        best = candidates.argmax()
        if over(candidates[best], torch.tensor(threshold)) and free[best]:
            hit[index] = True
            free[best] = twice
    return hit


def _match(case, boxes, scores, gt_boxes, answer, threshold=0.5):
    boxes, gt_boxes = torch.tensor(boxes).reshape(-1, 4), torch.tensor(gt_boxes).reshape(-1, 4)
    scores = torch.tensor(scores)
    got, want = answer(boxes, scores, gt_boxes, threshold), _matched(boxes, scores, gt_boxes, threshold)
    inputs = {"boxes": boxes, "scores": scores, "gt_boxes": gt_boxes, "threshold": threshold}
    compare(case, inputs, got, want, draw=lambda: _hits(boxes, scores, gt_boxes, got, want))


def _hits(boxes, scores, gt_boxes, got, want):
    figure, axes = plot.figure(2)
    for ax, hit, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        plot.scene(ax, (50, 50), gt_boxes, title=title)
        plot.boxes(ax, boxes[hit], "good", labels=[f"{score:.1f}" for score in scores[hit].tolist()])
        plot.boxes(ax, boxes[~hit], "prediction", labels=[f"{score:.1f}" for score in scores[~hit].tolist()])
        plot.legend(ax, "gt", good="true positive", prediction="false positive")
    return figure


BOX = [10.0, 10, 30, 30]


def one_good_one_bad(answer):
    _match("One detection on the object, one beside it", [BOX, [32.0, 32, 44, 44]], [0.9, 0.8], [BOX], answer)


def a_second_look(answer):
    close = [11.0, 10, 31, 30]
    _match("A second detection of the same object is a false positive", [BOX, close], [0.9, 0.8], [BOX], answer)


def the_better_score_first(answer):
    close = [12.0, 10, 32, 30]
    _match(
        "The detection with the higher score comes first, wherever it stands in the list and however well the other "
        "one fits", [BOX, close], [0.6, 0.7], [BOX], answer,
    )  # fmt: skip


def exactly_half(answer):
    _match("An IoU of exactly 0.5 is enough", [[10.0, 10, 30, 20]], [0.9], [BOX], answer)


def another_threshold(answer):
    _match("With the threshold 0.75, an IoU of 0.5 is too little", [[10.0, 10, 30, 20]], [0.9], [BOX], answer, 0.75)


def the_better_of_two(answer):
    left, right = [10.0, 10, 30, 30], [16.0, 10, 36, 30]
    _match(
        "The first detection reaches both objects and takes the one it fits better",
        [right, [7.0, 10, 27, 30]], [0.9, 0.8], [left, right], answer,
    )  # fmt: skip


def the_next_best(answer):
    left, right = [10.0, 10, 30, 30], [14.0, 10, 34, 30]
    _match(
        "The object that the second detection fits best is already taken, but it also reaches another one, which is "
        "free", [left, [11.0, 10, 31, 30]], [0.9, 0.8], [left, right], answer,
    )  # fmt: skip


def no_objects(answer):
    _match("No object in the image: each detection is a false positive", [BOX], [0.9], [], answer)


def no_detections(answer):
    _match("No detection", [], [], [BOX], answer)


def _loose(**screw):
    return lambda boxes, scores, gt_boxes, threshold=0.5: _matched(boxes, scores, gt_boxes, threshold, **screw)


def _in_order_of_scores(boxes, scores, gt_boxes, threshold=0.5):
    return _matched(boxes, scores, gt_boxes, threshold)[scores.argsort(descending=True, stable=True)]


def _best_of_each(boxes, scores, gt_boxes, threshold=0.5):
    return iou(boxes[:, None], gt_boxes).max(dim=1).values >= threshold


# --- 07.2 -----------------------------------------------------------------------------------------------------------


def _curve(case, hits, num_gts, answer):
    hit = torch.tensor(hits, dtype=torch.bool)
    count = hit.double().cumsum(0)
    want = ((count / torch.arange(1, len(hit) + 1)).float(), (count / num_gts).float())
    got = answer(hit, num_gts)
    if isinstance(got, tuple) and len(got) == 2 and all(isinstance(part, torch.Tensor) for part in got):
        got = tuple(part.float() if part.is_floating_point() else part for part in got)
    compare(case, {"hit": hit, "num_gts": num_gts}, got, want)


def all_found(answer):
    _curve("Two objects, two hits", [True, True], 2, answer)


def some_missed(answer):
    _curve("Three hits of four objects, no false positive", [True, True, True], 4, answer)


def a_false_positive_between(answer):
    _curve("A false positive between two hits", [True, False, True], 4, answer)


def starts_with_a_false_positive(answer):
    _curve("The best score is a false positive", [False, True], 1, answer)


def nothing_detected(answer):
    _curve("No detection: two tensors of shape [0]", [], 3, answer)


def _ranks(hit):
    return torch.arange(1, len(hit) + 1)


# --- 07.3 -----------------------------------------------------------------------------------------------------------


def _ap(hit, num_gts, *, points=101, envelope=True, right=False, reached_only=False):
    count = hit.double().cumsum(0)
    precision, recall = count / _ranks(hit), count / num_gts
    if envelope and len(hit):
        precision = precision.flip(0).cummax(0).values.flip(0)
    index = torch.searchsorted(recall, torch.arange(points).double() / (points - 1), right=right)
    values = torch.cat([precision, torch.zeros(1).double()])[index]
    if reached_only:
        values = values[index < len(hit)]
    return values.mean().item()


def _average(case, hits, num_gts, answer):
    hit = torch.tensor(hits, dtype=torch.bool)
    compare(case, {"hit": hit, "num_gts": num_gts}, answer(hit, num_gts), _ap(hit, num_gts))


def perfect(answer):
    _average("Two objects, both found, nothing else: AP is 1", [True, True], 2, answer)


def half_found(answer):
    _average("One of two objects is found: recall reaches 0.5, and the points above it count 0", [True], 2, answer)


def late_success(answer):
    _average("The first detection is false, the second right: the precision behind counts", [False, True], 1, answer)


def up_and_down(answer):
    hits = [True, False, True, True, False, True]
    # Of six, not of five: a recall of 0.8 lies on a point, and doubles beside float points disagree on which side.
    _average("Hits and false positives mixed, four of six objects found", hits, 6, answer)


def none_right(answer):
    _average("Two detections, both false: AP is 0", [False, False], 3, answer)


def none_at_all(answer):
    _average("No detection: AP is 0", [], 3, answer)


def _all_point_area(hit, num_gts):
    count = hit.double().cumsum(0)
    precision = (count / _ranks(hit)).flip(0).cummax(0).values.flip(0)
    return (precision * hit.double()).sum().item() / num_gts


def _last_precision_goes_on(hit, num_gts):
    count = hit.double().cumsum(0)
    precision = (count / _ranks(hit)).flip(0).cummax(0).values.flip(0)
    index = torch.searchsorted(count / num_gts, torch.arange(101).double() / 100).clamp(max=len(hit) - 1)
    return precision[index].mean().item()


def _crashes_without_detections(hit, num_gts):
    hit.max()
    return _ap(hit, num_gts)


# --- 07.4 -----------------------------------------------------------------------------------------------------------


def _starved(gt, sides, edges=(8.0, 16.0), *, closed=False, none=float("nan")):
    got_nothing = torch.bincount(gt[gt >= 0], minlength=len(sides)) == 0
    size = torch.bucketize(sides, torch.tensor(edges), right=not closed)
    shares = []
    for index in range(3):
        here = got_nothing[size == index].float()
        shares.append(here.mean() if len(here) else torch.tensor(none))
    return torch.stack(shares)


def _share(case, gt, sides, answer):
    gt, sides = torch.tensor(gt, dtype=torch.int64), torch.tensor(sides)
    compare(case, {"gt": gt, "sides": sides}, answer(gt, sides), _starved(gt, sides))


def one_of_each_size(answer):
    _share("Three objects of 6, 12 and 24 px; the first has no positive", [1, 2, 2, -1], [6.0, 12, 24], answer)


def the_first_object(answer):
    _share("Each object has a positive; the index of the first is 0", [0, 1, 2, 0], [6.0, 12, 24], answer)


def negatives_and_ignored(answer):
    _share("Negatives are -1, ignored priors -2: neither is a positive", [-1, -2, 0, -1], [6.0, 12, 24], answer)


def half_of_them(answer):
    _share("Four small objects, one of them with three positives", [2, 2, 2, 4, 5], [5.0, 6, 7, 4, 10, 20], answer)


def on_the_edge(answer):
    _share("Sides of exactly 8 and 16 px belong to the upper size", [0, 3, -1], [7.0, 8, 16, 20], answer)


def a_size_that_is_missing(answer):
    _share("No object of 16 px and more: the share of nothing is NaN", [0, -1], [6.0, 12], answer)


def an_empty_image(answer):
    _share("No objects at all", [-1, -1, -1], [], answer)


def _wraps_around(gt, sides):
    if len(sides) == 0:
        return _starved(gt, sides)
    count = torch.zeros(len(sides), dtype=torch.int64)
    for index in gt.tolist():
        count[index % len(sides)] += 1
    owners = (count > 0).nonzero().squeeze(1)
    return _starved(owners, sides)


EXERCISES = (
    Exercise(
        id="07.1",
        title="Which detections count",
        difficulty=3,
        minutes=15,
        hints=(
            "Two things change as you go through the detections: the answer, and which objects are still free. Keep a "
            "tensor of booleans for each.",
            "scores.argsort(descending=True, stable=True).tolist() is the order. For one detection, take its row of "
            "the IoU table, and set the entries of taken objects to -1, so that they never win.",
            "for i in order: row = table[i].masked_fill(~free, -1); best = row.argmax(); if row[best] >= threshold: "
            "hit[i] = True; free[best] = False. Without objects, argmax has nothing to look at: return early.",
        ),
        tests=(
            one_good_one_bad,
            a_second_look,
            the_better_score_first,
            exactly_half,
            another_threshold,
            the_better_of_two,
            the_next_best,
            no_objects,
            no_detections,
        ),
        mutants={
            "an object may be found twice": (_loose(twice=True), "second detection"),
            "best IoU of each detection": (_best_of_each, "second detection"),
            "threshold open": (_loose(over=torch.gt), "exactly 0.5"),
            "in the order of the list": (_loose(by=lambda table: -torch.arange(len(table))), "higher score"),
            "in the order of IoU": (_loose(by=lambda table: table.amax(dim=1)), "higher score"),
            "answer in the order of scores": (_in_order_of_scores, "higher score"),
            "best object although taken": (_loose(frozen=True), "already taken"),
            "first object that reaches": (_loose(first=True), "reaches both objects"),
            "threshold not used": (lambda b, s, g, t=0.5: _matched(b, s, g), "threshold 0.75"),
        },
    ),
    Exercise(
        id="07.2",
        title="Precision and recall",
        difficulty=1,
        minutes=6,
        hints=(
            "Both need the same number: how many hits there are among the first k detections, for each k.",
            "hit.cumsum(0) counts the hits so far. Divide it by k for precision. What is it divided by for recall?",
            "found = hit.cumsum(0); return found / torch.arange(1, len(hit) + 1), found / num_gts.",
        ),
        tests=(all_found, some_missed, a_false_positive_between, starts_with_a_false_positive, nothing_detected),
        mutants={
            "recall over the detections": (
                lambda hit, n: (hit.cumsum(0) / _ranks(hit), hit.cumsum(0) / max(len(hit), 1)),
                "Three hits of four",
            ),
            "ranks from 0": (
                lambda hit, n: (hit.cumsum(0) / torch.arange(len(hit)).clamp(min=1), hit.cumsum(0) / n),
                "Two objects",
            ),
            "not cumulative": (lambda hit, n: (hit.float(), hit.float() / n), "Two objects"),
            "recall first": (lambda hit, n: (hit.cumsum(0) / n, hit.cumsum(0) / _ranks(hit)), "Two objects"),
            "only the totals": (lambda hit, n: (hit.float().mean(), hit.sum() / n), "shape"),
            "counts for shares": (lambda hit, n: (hit.cumsum(0), hit.cumsum(0)), "floats"),
        },
    ),
    Exercise(
        id="07.3",
        title="AP at 101 points",
        difficulty=3,
        minutes=12,
        hints=(
            "Three steps: the curve as in 07.2; the best precision from each place on; a look at that at 101 recalls.",
            "The running maximum from the right: precision.flip(0).cummax(0).values.flip(0). The first place where "
            "recall reaches each point: torch.searchsorted(recall, points).",
            "searchsorted answers len(hit) where a point is never reached. So put one 0 behind the precisions, "
            "torch.cat([best, torch.zeros(1)]), index that, take mean().item().",
        ),
        tests=(perfect, half_found, late_success, up_and_down, none_right, none_at_all),
        mutants={
            "no running maximum": (lambda hit, n: _ap(hit, n, envelope=False), "the precision behind counts"),
            "11 points": (lambda hit, n: _ap(hit, n, points=11), "One of two objects"),
            "area under the steps": (_all_point_area, "One of two objects"),
            "only points that are reached": (lambda hit, n: _ap(hit, n, reached_only=True), "One of two objects"),
            "recall above the point": (lambda hit, n: _ap(hit, n, right=True), "both found"),
            "last precision goes on": (_last_precision_goes_on, "points above it count 0"),
            "crashes without detections": (_crashes_without_detections, "max()"),
        },
    ),
    Exercise(
        id="07.4",
        title="Who got nothing",
        difficulty=2,
        minutes=10,
        hints=(
            "Count the positives of each object first. An object whose count is 0 is starved.",
            "torch.bincount(gt[gt >= 0], minlength=len(sides)) counts. minlength keeps objects at the end that "
            "nobody serves. Then three groups: sides < 8, 8 <= sides < 16, sides >= 16.",
            "starved = (count == 0).float(); return torch.stack([starved[sides < 8].mean(), starved[(sides >= 8) & "
            "(sides < 16)].mean(), starved[sides >= 16].mean()]). The mean of an empty tensor is NaN by itself.",
        ),
        tests=(
            one_of_each_size,
            the_first_object,
            negatives_and_ignored,
            half_of_them,
            on_the_edge,
            a_size_that_is_missing,
            an_empty_image,
        ),
        mutants={
            "edges belong to the lower size": (lambda gt, s: _starved(gt, s, closed=True), "exactly 8 and 16"),
            "object 0 forgotten": (lambda gt, s: _starved(gt[gt > 0], s), "index of the first is 0"),
            "index -1 wraps around": (_wraps_around, "-1"),
            "0 for a size that is missing": (lambda gt, s: _starved(gt, s, none=0.0), "No object of 16 px"),
            "share that got something": (lambda gt, s: 1 - _starved(gt, s), "first has no positive"),
            "one share for all": (lambda gt, s: (torch.bincount(gt[gt >= 0]) == 0).float().mean(), "shape"),
        },
    ),
)
