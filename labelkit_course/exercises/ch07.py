"""The exercises of chapter 07: a sampler, matching, precision and recall, AP and what it sees, starvation."""

import math

import torch

from labelkit import IGNORED, NEGATIVE, plot
from labelkit.evaluation import evaluate
from labelkit.similarity import iou
from labelkit_course import Exercise, Wrong, compare, expect

# --- 07.6 -----------------------------------------------------------------------------------------------------------

DRAWS = 200


def _sample(gt, n, share, generator, *, first=False, fill=True, ignored=False, unused=False, greedy=False, own=False):
    """The sampler; each argument after the star is a slip."""
    chosen = torch.zeros(len(gt), dtype=torch.bool)
    positive = (gt > 0 if own else gt >= 0).nonzero().flatten()
    negative = ((gt < 0) if ignored else (gt == NEGATIVE)).nonzero().flatten()

    def some(indices, count):
        if first:
            return indices[:count]
        order = torch.randperm(len(indices), generator=None if unused else generator)
        return indices[order[:count]]

    most = int(share * n)
    chosen[some(positive, most)] = True
    chosen[some(negative, n - min(most, len(positive)) if fill else n - most)] = True
    if greedy:
        chosen[positive[~chosen[positive]][: n - int(chosen.sum())]] = True
    return chosen


def _image(positives, negatives, ignored=0):
    """Labels of an image's anchors, mixed; the positives serve the objects 0, 1, 2, 0, ..."""
    gt = torch.cat([
        torch.arange(positives) % 3, torch.full((negatives,), NEGATIVE), torch.full((ignored,), IGNORED)
    ])  # fmt: skip
    return gt[torch.randperm(len(gt), generator=torch.Generator().manual_seed(0))]


def _drawn(answer, gt, n, share, seed=0):
    got = answer(gt, n, share, torch.Generator().manual_seed(seed))
    inputs = {"gt": gt, "n": n, "share": share}
    if not isinstance(got, torch.Tensor) or got.dtype != torch.bool or got.shape != gt.shape:
        compare("One boolean per anchor", inputs, got, torch.zeros(len(gt), dtype=torch.bool))
    return got


def _mix(case, answer, positives, negatives, ignored, n, share):
    gt = _image(positives, negatives, ignored)
    got = _drawn(answer, gt, n, share)
    if got[gt == IGNORED].any():
        raise Wrong(
            f"{case}. You have drawn {int(got[gt == IGNORED].sum())} ignored anchors, which may never take part."
        )
    took = int(got[gt >= 0].sum()), int(got[gt == NEGATIVE].sum())
    most = min(positives, int(share * n))
    if took != (most, min(negatives, n - most)):
        raise Wrong(
            f"{case}. For n = {n} and share = {share} you took {took[0]} of {positives} positives and {took[1]} of "
            f"{negatives} negatives, {sum(took)} anchors together."
        )


def more_positives_than_allowed(answer):
    _mix("An image has more positives than their share allows", answer, 40, 300, 0, 64, 0.25)


def few_positives(answer):
    _mix("An image has fewer positives than their share allows, and negatives enough", answer, 5, 300, 0, 64, 0.25)


def ignored_ones(answer):
    _mix("Some anchors of the image are ignored", answer, 10, 30, 200, 64, 0.25)


def no_positive(answer):
    _mix("An image has no object, so all anchors are negative", answer, 0, 300, 0, 64, 0.25)


def too_few_of_both(answer):
    _mix("An image has fewer negatives than there is room for, so the sample stops short", answer, 40, 10, 5, 64, 0.25)


def another_share(answer):
    _mix("Half of the sample may be positive, as in a proposal network", answer, 200, 200, 0, 256, 0.5)


def no_whole_number(answer):
    _mix("The share of the sample is no whole number", answer, 8, 30, 0, 10, 0.25)


def the_same_generator(answer):
    gt = _image(20, 200)
    one, other = (_drawn(answer, gt, 32, 0.25, seed=3) for _ in range(2))
    if not torch.equal(one, other):
        raise Wrong("Two generators with the same seed gave two different samples. All chance has to come from them.")


def each_as_often(answer):
    gt = _image(16, 96)
    count = sum(_drawn(answer, gt, 32, 0.25, seed=seed).long() for seed in range(DRAWS))
    for name, mask, expected in (("positive", gt >= 0, DRAWS / 2), ("negative", gt == NEGATIVE, DRAWS / 4)):
        least, most = int(count[mask].min()), int(count[mask].max())
        if abs(least - expected) > 40 or abs(most - expected) > 40:
            raise Wrong(
                f"In {DRAWS} samples of one image, with {DRAWS} generators, one {name} anchor was drawn {most} times "
                f"and another {least} times. Every {name} one should have the same chance, but you seem to draw the "
                "same ones again and again."
            )


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
    _match("One detection is on the object and one beside it", [BOX, [32.0, 32, 44, 44]], [0.9, 0.8], [BOX], answer)


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
    _match("Under the threshold 0.75 an IoU of 0.5 is too little", [[10.0, 10, 30, 20]], [0.9], [BOX], answer, 0.75)


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
    _match("An image has no object, so each detection is a false positive", [BOX], [0.9], [], answer)


def no_detections(answer):
    _match("Nothing was detected in an image with one object", [], [], [BOX], answer)


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
    want = ((count / _ranks(hit)).float(), (count / num_gts).float())
    got = answer(hit, num_gts)
    if isinstance(got, tuple) and len(got) == 2 and all(isinstance(part, torch.Tensor) for part in got):
        got = tuple(part.float() if part.is_floating_point() else part for part in got)
    causes = [(wrong(hit, num_gts), sentence) for wrong, sentence in SLIPS.values()]
    compare(case, {"hit": hit, "num_gts": num_gts}, got, want, clues=causes)


def all_found(answer):
    _curve(
        "Two detections are both right, there are two objects, and both numbers are asked for after each detection",
        [True, True],
        2,
        answer,
    )


def some_missed(answer):
    _curve("Three detections are all right, and one of the four objects is missed", [True, True, True], 4, answer)


def a_false_positive_between(answer):
    _curve("The second of three detections is a false positive", [True, False, True], 4, answer)


def starts_with_a_false_positive(answer):
    _curve("The detection with the best score is a false positive", [False, True], 1, answer)


def nothing_detected(answer):
    _curve("Nothing was detected, so both tensors have the shape [0]", [], 3, answer)


def _ranks(hit):
    return torch.arange(1, len(hit) + 1)


SLIPS = {
    "recall over the detections": (
        lambda hit, n: (hit.cumsum(0) / _ranks(hit), hit.cumsum(0) / max(len(hit), 1)),
        "Your recall is a share of the detections. Which number of the formula does it ask for?",
    ),
    "ranks from 0": (
        lambda hit, n: (hit.cumsum(0) / torch.arange(len(hit)).clamp(min=1), hit.cumsum(0) / n),
        "You divide the first precision by the detections before it. The detection itself has been seen too.",
    ),
    "not cumulative": (
        lambda hit, n: (hit.float(), hit.float() / n),
        "You divide each detection by itself. Both formulas count the hits so far.",
    ),
    "recall first": (
        lambda hit, n: (hit.cumsum(0) / n, hit.cumsum(0) / _ranks(hit)),
        "The two have changed places: precision is asked for first.",
    ),
    "precision over all detections": (
        lambda hit, n: (hit.cumsum(0) / max(len(hit), 1), hit.cumsum(0) / n),
        "You divide every precision by the number of all detections. Only those so far have been seen.",
    ),
}


# --- 07.5 -----------------------------------------------------------------------------------------------------------

FALSE_ALARMS = (8, 14, 19, 23, 27, 30, 33, 35, 37, 39)  # ranks, of 40
ASKED = ("scores x 0.1", "alarms below", "alarms above", "twice", "above 0.5")


def toy_detector():
    """A detector for 10 images of 4 objects each: 40 detections, best first, of which 30 find an object.

    Returns (detections, targets), as `evaluate` takes them.
    """
    corners = torch.tensor([[8.0, 8], [68, 8], [8, 68], [68, 68]])
    objects = torch.cat([corners, corners + 30], dim=1)
    hits = iter(range(40))
    rows = []
    for rank in range(40):
        if rank in FALSE_ALARMS:
            image, box = FALSE_ALARMS.index(rank), torch.tensor([50.0, 45, 62, 60])
        else:
            number = next(hits)
            image, box = number % 10, objects[number // 10] + 1
        rows.append((image, box, 0.98 - 0.02 * rank))
    targets = [{"boxes": objects, "labels": torch.zeros(4, dtype=torch.int64)} for _ in range(10)]
    return [_image_of(rows, image) for image in range(10)], targets


def _image_of(rows, image):
    own = [(box, score) for where, box, score in rows if where == image]
    return _as_detections(torch.stack([box for box, _ in own]), torch.tensor([score for _, score in own]))


def _as_detections(boxes, scores):
    return {"boxes": boxes, "scores": scores, "labels": torch.zeros(len(scores), dtype=torch.int64)}


def toy_changes():
    """What exercise 07.5 does to the toy detector: detections by the name of the change."""
    found, _ = toy_detector()

    def alarms(count, score):
        y = torch.arange(count) * 1.0
        boxes = torch.stack([torch.full_like(y, 100), y, torch.full_like(y, 104), y + 4], dim=1)
        return boxes, torch.full((count,), score)

    def joined(one, extra):
        boxes, scores = torch.cat([one["boxes"], extra[0]]), torch.cat([one["scores"], extra[1]])
        order = scores.argsort(descending=True, stable=True)
        return _as_detections(boxes[order], scores[order])

    above = [one["scores"] > 0.5 for one in found]
    return dict(zip(ASKED, (
        [_as_detections(one["boxes"], 0.1 * one["scores"]) for one in found],
        [joined(one, alarms(20, 0.01)) for one in found],
        [joined(one, alarms(1, 0.99)) for one in found],
        [joined(one, (one["boxes"], one["scores"])) for one in found],
        [_as_detections(one["boxes"][keep], one["scores"][keep]) for one, keep in zip(found, above, strict=True)],
    ), strict=True))  # fmt: skip


def five_changes(guess):
    _, targets = toy_detector()
    truth = {name: 100 * evaluate(found, targets, "course")["AP50"] for name, found in toy_changes().items()}
    clues = [
        (lambda got: all(0 <= got[name] <= 1 for name in ASKED), "AP is asked for in percent, as the 68 in the text."),
        (
            {"scores x 0.1": lambda ap: ap < 60},
            "All scores shrink alike, so the order of the detections is the same, and the order is all that AP reads.",
        ),
        (
            {"alarms below": lambda ap: ap < 60},
            "When these alarms come, all recall that the detector has was reached already, and AP asks at each recall "
            "for the best precision there or later on the curve.",
        ),
        (
            {"alarms above": lambda ap: ap > 60},
            "Ten false alarms come before the first hit. How high is the precision after 10, 20 or 30 hits?",
        ),
        (
            {"alarms above": lambda ap: ap < 30},
            "The ten alarms are there once. With each hit that follows they weigh less.",
        ),
        ({"twice": lambda ap: ap > 60}, "The second detection of an object is a false alarm at the score of its hit."),
        (
            {"twice": lambda ap: ap < 20},
            "The first detection of each object is still a hit, so about every second detection is one.",
        ),
        (
            {"above 0.5": lambda ap: ap > 60},
            "The detections that go are less precise, but with them goes the recall that only they reach, and beyond "
            "the end of the curve every point counts 0.",
        ),
        (
            {"above 0.5": lambda ap: ap < 40},
            "What stays is the best part of the curve, and its precision is as high as before, up to where it ends.",
        ),
    ]
    expect(guess, truth, within=7, clues=clues)


def _aps(*values):
    return dict(zip(ASKED, values, strict=True))


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
    _average("Two objects are both found and nothing else is detected, so AP is 1", [True, True], 2, answer)


def half_found(answer):
    _average("One of two objects is found, so recall reaches 0.5, and the points above it count 0", [True], 2, answer)


def late_success(answer):
    _average(
        "The first detection is false and the second right, so the precision further on counts",
        [False, True],
        1,
        answer,
    )


def up_and_down(answer):
    hits = [True, False, True, True, False, True]
    # Of six, not of five: a recall of 0.8 lies on a point, and doubles beside float points disagree on which side.
    _average("Hits and false positives are mixed, and four of six objects are found", hits, 6, answer)


def none_right(answer):
    _average("Two detections are both false, so AP is 0", [False, False], 3, answer)


def none_at_all(answer):
    _average("Nothing was detected, so AP is 0", [], 3, answer)


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
    _share("Of three objects of 6, 12 and 24 px the first has no positive", [1, 2, 2, -1], [6.0, 12, 24], answer)


def the_first_object(answer):
    _share("Each object has a positive, and the index of the first object is 0", [0, 1, 2, 0], [6.0, 12, 24], answer)


def negatives_and_ignored(answer):
    _share("Negatives are -1 and ignored anchors -2, and neither is a positive", [-1, -2, 0, -1], [6.0, 12, 24], answer)


def half_of_them(answer):
    _share("One of four small objects has three positives", [2, 2, 2, 4, 5], [5.0, 6, 7, 4, 10, 20], answer)


def on_the_edge(answer):
    _share("Sides of exactly 8 and 16 px belong to the upper size", [0, 3, -1], [7.0, 8, 16, 20], answer)


def a_size_that_is_missing(answer):
    _share("No object is 16 px or more, and the share of nothing is NaN", [0, -1], [6.0, 12], answer)


def an_empty_image(answer):
    _share("An image has no objects", [-1, -1, -1], [], answer)


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
        id="07.6",
        title="The sampler",
        difficulty=3,
        minutes=10,
        hints=(
            "Take the two kinds one after the other. The positives come first, because how many of them were taken "
            "decides how much room is left for the negatives.",
            "positive = (gt >= 0).nonzero().flatten() holds their indices, and torch.randperm(len(positive), "
            "generator=generator) an order of them. A slice that asks for more than there are takes all of them.",
            "taken = positive[order[:int(share * n)]]; the same with the negatives, gt == -1, and n - len(taken). Then "
            "set chosen[taken] = True on torch.zeros(len(gt), dtype=torch.bool), for both.",
        ),
        tests=(
            more_positives_than_allowed,
            few_positives,
            ignored_ones,
            no_positive,
            too_few_of_both,
            another_share,
            no_whole_number,
            the_same_generator,
            each_as_often,
        ),
        mutants={
            "always the first": (lambda gt, n, s, g: _sample(gt, n, s, g, first=True), "the same ones again and again"),
            "no fill": (lambda gt, n, s, g: _sample(gt, n, s, g, fill=False), "53 anchors together"),
            "ignored are drawn": (lambda gt, n, s, g: _sample(gt, n, s, g, ignored=True), "ignored anchors"),
            "positives fill up": (lambda gt, n, s, g: _sample(gt, n, s, g, greedy=True), "stops short"),
            "object 0 is no positive": (lambda gt, n, s, g: _sample(gt, n, s, g, own=True), "fewer positives than"),
            "no limit for positives": (lambda gt, n, s, g: _sample(gt, n, 1, g), "more positives than"),
            "rounded up": (lambda gt, n, s, g: _sample(gt, n, math.ceil(s * n) / n, g), "no whole number"),
            "another source of chance": (lambda gt, n, s, g: _sample(gt, n, s, g, unused=True), "same seed"),
            "indices": (lambda gt, n, s, g: _sample(gt, n, s, g).nonzero().flatten(), "boolean"),
        },
    ),
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
            "Both need the same number, which is how many hits there are among the first k detections, for each k.",
            "hit.cumsum(0) counts the hits so far. Divide it by k for precision. What is it divided by for recall?",
            "found = hit.cumsum(0); return found / torch.arange(1, len(hit) + 1), found / num_gts.",
        ),
        tests=(all_found, some_missed, a_false_positive_between, starts_with_a_false_positive, nothing_detected),
        mutants=SLIPS
        | {
            "only the totals": (lambda hit, n: (hit.float().mean(), hit.sum() / n), "shape"),
            "counts for shares": (lambda hit, n: (hit.cumsum(0), hit.cumsum(0)), "floats"),
        },
    ),
    Exercise(
        id="07.5",
        kind="P",
        title="What does AP see?",
        difficulty=3,
        minutes=6,
        hints=(),
        tests=(five_changes,),
        mutants={
            "smaller scores, smaller AP": (_aps(7, 69, 45, 38, 48), "the order of the detections"),
            "late alarms cost": (_aps(69, 40, 45, 38, 48), "was reached already"),
            "early alarms cost nothing": (_aps(69, 69, 69, 38, 48), "before the first hit"),
            "early alarms destroy": (_aps(69, 69, 10, 38, 48), "weigh less"),
            "two looks are no error": (_aps(69, 69, 45, 69, 48), "at the score of its hit"),
            "only sure ones are better": (_aps(69, 69, 45, 38, 85), "the recall that only they reach"),
            "fractions": (_aps(0.69, 0.69, 0.45, 0.38, 0.48), "percent"),
        },
    ),
    Exercise(
        id="07.3",
        title="AP at 101 points",
        difficulty=3,
        minutes=12,
        hints=(
            "You need the curve of 07.2, then at each place the best precision from there on, and last what this is at "
            "the 101 recalls.",
            "A running maximum from the right is precision.flip(0).cummax(0).values.flip(0). The first place where "
            "recall reaches each of the points is torch.searchsorted(recall, points).",
            "Where recall never reaches a point, searchsorted returns len(hit). Put one 0 behind the precisions, "
            "as in torch.cat([best, torch.zeros(1)]), index that, and take mean().item().",
        ),
        tests=(perfect, half_found, late_success, up_and_down, none_right, none_at_all),
        mutants={
            "no running maximum": (lambda hit, n: _ap(hit, n, envelope=False), "the precision further on counts"),
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
            "object 0 forgotten": (lambda gt, s: _starved(gt[gt > 0], s), "index of the first object is 0"),
            "index -1 wraps around": (_wraps_around, "-1"),
            "0 for a size that is missing": (lambda gt, s: _starved(gt, s, none=0.0), "No object is 16 px"),
            "share that got something": (lambda gt, s: 1 - _starved(gt, s), "first has no positive"),
            "one share for all": (lambda gt, s: (torch.bincount(gt[gt >= 0]) == 0).float().mean(), "shape"),
        },
    ),
)
