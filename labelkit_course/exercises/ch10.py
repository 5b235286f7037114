"""The exercises of chapter 10: where detections come from, who compensates an object, HAMBox, its loss."""

import torch

from labelkit import IGNORED, NEGATIVE, Assignment, Predictions, Priors, plot
from labelkit.assigners import HAMBox
from labelkit.similarity import iou
from labelkit_course import Exercise, compare

OBJECT, SECOND = [0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 60.0, 20.0]


def _strip(width, left=0.0):
    """A box at the left edge of an object of 20 px: its IoU with it is width / 20."""
    return [left, 0.0, left + width, 20.0]


FAR = [100.0, 0.0, 116.0, 16.0]  # overlaps nothing

# --- 10.1 -----------------------------------------------------------------------------------------------------------


def _origin(case, detections, anchors, objects, want, answer):
    boxes = [torch.tensor(each).reshape(-1, 4) for each in (detections, anchors, objects)]
    got = answer(*boxes)
    compare(case, dict(zip(("detections", "anchors", "gt_boxes"), boxes, strict=True)), got, want)


def one_of_each(answer):
    detections = [_strip(18.0), _strip(16.0), _strip(8.0)]
    anchors = [_strip(12.0), _strip(5.0), _strip(4.0)]
    _origin("Three detections of one object, the last too poor to count", detections, anchors, [OBJECT], (2, 1), answer)


def exactly_a_half(answer):
    _origin("A detection with IoU 0.5 exactly counts", [_strip(10.0)], [_strip(5.0)], [OBJECT], (1, 1), answer)


def exactly_the_threshold(answer):
    _origin("An anchor with IoU 0.35 exactly is not under it", [_strip(20.0)], [_strip(7.0)], [OBJECT], (1, 0), answer)


def anchor_of_a_neighbour(answer):
    case = "The anchor lies on the first object, and its detection on the second: what counts is the second"
    _origin(case, [_strip(18.0, 40.0)], [_strip(16.0)], [OBJECT, SECOND], (1, 1), answer)


def first_best_object(answer):
    detection, near = [0.0, 0.0, 20.0, 17.0], [0.0, 0.0, 20.0, 13.0]
    case = "A detection belongs to the object that it fits best"
    _origin(case, [detection], [[0.0, 12.0, 20.0, 20.0]], [near, OBJECT], (1, 0), answer)


def no_detections(answer):
    _origin("No detection at all", [], [], [OBJECT], (0, 0), answer)


def no_objects_to_find(answer):
    _origin("An image without objects", [_strip(18.0)], [_strip(12.0)], [], (0, 0), answer)


def _wrong_origin(good=lambda v: v >= 0.5, low=lambda v: v < 0.35, anchor="that object", guard=True):
    """The counts with one thing changed."""

    def answer(detections, anchors, gt_boxes):
        if guard and not len(gt_boxes):
            return 0, 0
        value, owner = iou(detections[:, None], gt_boxes).max(dim=1)
        before = iou(anchors, gt_boxes[owner])
        if anchor == "any object":
            before = iou(anchors[:, None], gt_boxes).amax(dim=1)
        counted = good(value)
        return int(counted.sum()), int(low(before)[counted if anchor != "all anchors" else slice(None)].sum())

    return answer


# --- 10.2 -----------------------------------------------------------------------------------------------------------


def _extra(case, decoded_iou, step_one, k, thresh, want, answer, g=0):
    decoded_iou, step_one = torch.tensor(decoded_iou), torch.tensor(step_one, dtype=torch.int64)
    inputs = {"decoded_iou": decoded_iou, "step_one": step_one, "g": g, "k": k, "decoded_thresh": thresh}
    want = torch.tensor(want, dtype=torch.int64)
    compare(case, inputs, answer(decoded_iou, step_one, g, k, thresh), want)


def nobody_yet(answer):
    _extra(
        "An object without a match: the two best, the best first",
        [0.55, 0.9, 0.2, 0.7],
        [-1] * 4,
        2,
        0.5,
        [1, 3],
        answer,
    )


def what_is_missing(answer):
    _extra("An object with one match needs one fewer", [0.55, 0.9, 0.6, 0.7], [-1, -1, 0, -1], 2, 0.5, [1], answer)


def matches_of_others(answer):
    _extra("Only the matches of object 1 count for object 1", [0.9, 0.8, 0.7], [0, -1, -1], 2, 0.5, [1, 2], answer, g=1)


def matched_ones_regress_best(answer):
    case = "The best decoded box is that of a matched anchor: it is no candidate"
    _extra(case, [0.95, 0.9, 0.6, 0.55], [0, 0, -1, -1], 3, 0.5, [2], answer)


def more_matches_than_k(answer):
    case = "An object with more than k matches gets none"
    _extra(case, [0.9, 0.8, 0.7, 0.6, 0.9, 0.8], [0, 0, 0, -1, -1, -1], 1, 0.5, [], answer)


def exactly_good_enough(answer):
    _extra("A decoded IoU exactly at the threshold is good enough", [0.5, 0.49], [-1, -1], 3, 0.5, [0], answer)


def equally_good(answer):
    _extra(
        "Equal decoded IoUs: the lower index first",
        [0.75, 0.75, 0.75, 0.25] * 6,
        [-1] * 24,
        4,
        0.5,
        [0, 1, 2, 4],
        answer,
    )


def nothing_learned_yet(answer):
    _extra("No decoded box is good enough", [0.3, 0.2], [-1, -1], 3, 0.5, [], answer)


def _wrong_extra(room=True, free="unmatched", above=lambda v, t: v >= t, guard=True, stable=True, count="own"):
    """The compensation of one object with one thing changed."""

    def answer(decoded_iou, step_one, g, k, decoded_thresh):
        order = decoded_iou.argsort(descending=True, stable=True)
        if not stable:
            order = len(order) - 1 - decoded_iou.flip(0).argsort(descending=True, stable=True)
        matches = step_one == g if count == "own" else step_one >= 0
        number = k - int(matches.sum()) if room else k
        number = max(number, 0) if guard else number
        if free == "cut first":
            order = order[:number]
        good = above(decoded_iou, decoded_thresh) & ((step_one == NEGATIVE) if free != "all" else True)
        return order[good[order]][:number]

    return answer


# --- 10.3 -----------------------------------------------------------------------------------------------------------


def _hambox(case, anchors, decoded, objects, answer, k=2, thresh=0.75):
    priors, decoded = Priors.from_boxes(torch.tensor(anchors)), torch.tensor(decoded)
    boxes = torch.tensor(objects).reshape(-1, 4)
    target = {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.int64)}
    predictions = Predictions(decoded, torch.zeros(len(decoded), 1))
    want = HAMBox(k=k, decoded_thresh=thresh)(priors, target, predictions).gt
    got = answer(priors, boxes, decoded, k, thresh)
    inputs = {"priors.boxes": priors.boxes, "gt_boxes": boxes, "decoded": decoded, "k": k, "decoded_thresh": thresh}
    compare(case, inputs, got, want, draw=lambda: _two(priors, boxes, got, want))


def _two(priors, boxes, got, want):
    """The two answers side by side, at the anchors; a label that is none is drawn as background."""
    figure, axes = plot.figure(2)
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        gt, zeros = torch.where(gt < len(boxes), gt, NEGATIVE), torch.zeros(len(gt))
        plot.scene(ax, (64, 128), boxes, title=title)
        plot.assignment(ax, priors, Assignment(gt, zeros, zeros, zeros), boxes)
    plot.legend(axes[0], "gt", "positive", "negative", "ignored")
    return figure


def matched_by_overlap(answer):
    anchors = [_strip(12.0), _strip(6.0), _strip(16.0, 40.0), FAR]
    _hambox(
        "Step one: matched from IoU 0.35 on, and nothing has been learned yet",
        anchors,
        anchors,
        [OBJECT, SECOND],
        answer,
    )


def exactly_035(answer):
    anchors = [_strip(7.0), FAR]
    _hambox("An anchor with IoU 0.35 exactly is matched", anchors, anchors, [OBJECT], answer)


def no_forced_match(answer):
    anchors = [_strip(6.0), _strip(5.0)]
    _hambox("An object without a match forces none", anchors, anchors, [OBJECT], answer)


def one_compensates(answer):
    anchors = [_strip(12.0), FAR, _strip(5.0), FAR]
    _hambox(
        "One match, k = 2: the better of two decoded boxes makes up for the other",
        anchors,
        [_strip(20.0), _strip(16.0), _strip(18.0), FAR],
        [OBJECT],
        answer,
    )


def below_the_threshold(answer):
    _hambox(
        "A decoded box under the threshold does not compensate; from 0.5 on it is ignored",
        [FAR, FAR, FAR],
        [_strip(14.0), _strip(10.0), _strip(9.0)],
        [OBJECT],
        answer,
    )


def enough_already(answer):
    anchors = [_strip(12.0), _strip(14.0), _strip(16.0), _strip(5.0)]
    _hambox("Three matches, k = 2: nothing to make up for", anchors, [_strip(20.0)] * 4, [OBJECT], answer)


def the_best_pair_first(answer):
    anchors, second = [FAR, FAR], [4.0, 0.0, 24.0, 20.0]
    decoded = [[2.5, 0.0, 22.5, 20.0], [2.5, 0.0, 22.5, 18.0]]
    _hambox(
        "Two objects want the same anchor, each has room for one: the best pair of the image goes first",
        anchors,
        decoded,
        [OBJECT, second],
        answer,
        k=1,
        thresh=0.5,
    )


def a_matched_anchor_stays(answer):
    anchors = [_strip(12.0), FAR]
    _hambox(
        "A matched anchor whose box goes to the second object stays with the first",
        anchors,
        [_strip(20.0, 40.0), FAR],
        [OBJECT, SECOND],
        answer,
    )


def twin_objects(answer):
    _hambox(
        "The same object twice: the lower index first", [FAR] * 3, [_strip(20.0)] * 3, [OBJECT, OBJECT], answer, k=1
    )


def no_objects(answer):
    _hambox("An image without objects: all anchors are negative", [FAR, _strip(10.0)], [FAR, _strip(10.0)], [], answer)


def _wrong_hambox(match=lambda v: v >= 0.35, forced=False, rank="pairs", free=True, room="missing", ignore=0.5):
    """HAMBox with one thing changed."""

    def answer(priors, gt_boxes, decoded, k, decoded_thresh):
        gt = torch.full((len(priors),), NEGATIVE)
        if not len(gt_boxes):
            return gt
        before, after = iou(priors.boxes[:, None], gt_boxes), iou(decoded[:, None], gt_boxes)
        best, owner = before.max(dim=1)
        gt[match(best)] = owner[match(best)]
        if forced:
            gt[before.argmax(dim=0)] = torch.arange(len(gt_boxes))
        can = gt == NEGATIVE if free else torch.ones(len(gt), dtype=torch.bool)
        left = k - torch.bincount(gt[gt >= 0], minlength=len(gt_boxes)) if room == "missing" else [k] * len(gt_boxes)
        g, prior = (can[:, None] & (after >= decoded_thresh)).T.nonzero(as_tuple=True)
        value = after[prior, g] - (0 if rank == "pairs" else 10 * g)
        for i in value.argsort(descending=True, stable=True).tolist():
            if (gt[prior[i]] == NEGATIVE or not free or rank == "overwrite") and left[g[i]] > 0:
                gt[prior[i]] = g[i]
                left[g[i]] -= 1
        gt[(gt == NEGATIVE) & (after.amax(dim=1) >= ignore)] = IGNORED
        return gt

    return answer


# --- 10.4 -----------------------------------------------------------------------------------------------------------


def _loss(case, losses, gt, compensated, decoded_iou, want, answer):
    losses, gt = torch.tensor(losses), torch.tensor(gt, dtype=torch.int64)
    compensated, decoded_iou = torch.tensor(compensated, dtype=torch.bool), torch.tensor(decoded_iou)
    inputs = {"losses": losses, "gt": gt, "compensated": compensated, "decoded_iou": decoded_iou}
    compare(case, inputs, answer(losses, gt, compensated, decoded_iou), torch.tensor(want))


def matched_and_negative(answer):
    _loss(
        "Two matched and two negative anchors",
        [2.0, 4.0, 1.0, 1.0],
        [0, 0, -1, -1],
        [False] * 4,
        [0.9, 0.1, 0.0, 0.25],
        4.0,
        answer,
    )


def ignored_are_left_out(answer):
    _loss("An ignored anchor has no loss", [2.0, 1.0, 64.0], [0, -1, -2], [False] * 3, [0.5, 0.0, 0.75], 3.0, answer)


def two_sums(answer):
    _loss(
        "One matched anchor, two compensated: each sum has its own count",
        [2.0, 4.0, 8.0, 1.0],
        [0, 0, 1, -1],
        [False, True, True, False],
        [1.0, 0.5, 0.75, 0.0],
        7.0,
        answer,
    )


def nobody_compensated(answer):
    _loss("Nobody is compensated yet", [3.0, 1.0], [0, -1], [False, False], [0.25, 0.0], 4.0, answer)


def only_compensated(answer):
    _loss(
        "Only compensated positives: the negatives still count, divided by 1",
        [4.0, 1.0, 1.0],
        [0, -1, -1],
        [True, False, False],
        [0.5, 0.0, 0.0],
        4.0,
        answer,
    )


def only_background(answer):
    _loss("Nothing but background", [1.0, 0.5], [-1, -1], [False, False], [0.0, 0.0], 1.5, answer)


def _wrong_loss(weigh=True, normal="matched", extra="compensated", ignored=True, guard=1):
    """The loss with one thing changed."""

    def answer(losses, gt, compensated, decoded_iou):
        rest = ~compensated & (gt != IGNORED) if ignored else ~compensated
        counts = {"matched": (gt >= 0) & ~compensated, "compensated": compensated, "positive": gt >= 0, "rest": rest}
        number, others = counts[extra].sum().clamp(min=guard), counts[normal].sum().clamp(min=guard)
        value = losses * decoded_iou if weigh else losses
        return value[compensated].sum() / number + losses[rest].sum() / others

    return answer


EXERCISES = (
    Exercise(
        id="10.1",
        title="Where did it come from?",
        difficulty=2,
        minutes=8,
        hints=(
            "First find, for every detection, the object it fits best. Then look at its anchor and that one object.",
            "iou(detections[:, None], gt_boxes).max(dim=1) gives the values and the objects. With no objects there is "
            "no maximum: answer (0, 0) before.",
            "good = value >= 0.5; before = iou(anchors, gt_boxes[owner]), elementwise; count good, and "
            "good & (before < 0.35).",
        ),
        tests=(
            one_of_each,
            exactly_a_half,
            exactly_the_threshold,
            anchor_of_a_neighbour,
            first_best_object,
            no_detections,
            no_objects_to_find,
        ),
        mutants={
            "above a half": (_wrong_origin(good=lambda v: v > 0.5), "0.5 exactly"),
            "up to 0.35": (_wrong_origin(low=lambda v: v <= 0.35), "0.35 exactly"),
            "the anchor's best object": (_wrong_origin(anchor="any object"), "what counts is the second"),
            "all anchors": (_wrong_origin(anchor="all anchors"), "too poor to count"),
            "no object, no answer": (_wrong_origin(guard=False), "dim"),
            "the first object that will do": (
                lambda d, a, g: (
                    (0, 0)
                    if not len(g) or not len(d)
                    else (
                        int((w := iou(d[:, None], g) >= 0.5).any(dim=1).sum()),
                        int((iou(a, g[w.int().argmax(dim=1)]) < 0.35)[w.any(dim=1)].sum()),
                    )
                ),
                "fits best",
            ),
        },
    ),
    Exercise(
        id="10.2",
        title="Who makes up for it?",
        difficulty=2,
        minutes=10,
        hints=(
            "Two numbers first: how many matches the object has, and how many are missing. That can't be negative.",
            "A candidate is unmatched, step_one == NEGATIVE, and has a decoded IoU of at least decoded_thresh. Filter "
            "first, cut to the missing number afterwards.",
            "order = decoded_iou.argsort(descending=True, stable=True) is all anchors, best first; order[ok[order]] "
            "keeps the candidates in that order; [:max(k - matches, 0)] cuts.",
        ),
        tests=(
            nobody_yet,
            what_is_missing,
            matched_ones_regress_best,
            matches_of_others,
            more_matches_than_k,
            exactly_good_enough,
            equally_good,
            nothing_learned_yet,
        ),
        mutants={
            "always k": (_wrong_extra(room=False), "needs one fewer"),
            "matches of all objects": (_wrong_extra(count="all"), "Only the matches of object 1"),
            "matched ones too": (_wrong_extra(free="all"), "it is no candidate"),
            "cut before the filter": (_wrong_extra(free="cut first"), "it is no candidate"),
            "negative slice": (_wrong_extra(guard=False), "more than k matches"),
            "above the threshold": (_wrong_extra(above=lambda v, t: v > t), "exactly at the threshold"),
            "last of equals": (_wrong_extra(stable=False), "lower index first"),
            "no threshold": (_wrong_extra(above=lambda v, t: v > 0), "exactly at the threshold"),
        },
    ),
    Exercise(
        id="10.3",
        title="HAMBox",
        difficulty=4,
        minutes=20,
        hints=(
            "Two IoU tables, [P, G] each: of the anchors for step one, of the decoded boxes for steps two and three.",
            "Step two: pairs of an unmatched anchor and an object with after >= decoded_thresh. "
            "mask.T.nonzero(as_tuple=True) lists them by object, then by anchor; argsort(descending=True, stable=True) "
            "of their IoUs puts the best first and keeps that order among equals.",
            "Walk through the sorted pairs: if gt[prior] is still NEGATIVE and room[g] > 0, write g and lower room[g]. "
            "At last gt[(gt == NEGATIVE) & (after.amax(dim=1) >= 0.5)] = IGNORED. No objects: return early.",
        ),
        tests=(
            matched_by_overlap,
            exactly_035,
            no_forced_match,
            one_compensates,
            below_the_threshold,
            enough_already,
            the_best_pair_first,
            a_matched_anchor_stays,
            twin_objects,
            no_objects,
        ),
        mutants={
            "matched above 0.35": (_wrong_hambox(match=lambda v: v > 0.35), "0.35 exactly"),
            "matched at 0.5": (_wrong_hambox(match=lambda v: v >= 0.65), "from IoU 0.35 on"),
            "a forced match": (_wrong_hambox(forced=True), "forces none"),
            "k for everyone": (_wrong_hambox(room="k"), "makes up for the other"),
            "nobody ignored": (_wrong_hambox(ignore=2.0), "makes up for the other"),
            "ignored from the threshold on": (_wrong_hambox(ignore=0.75), "from 0.5 on it is ignored"),
            "the last object overwrites": (_wrong_hambox(rank="overwrite"), "best pair of the image"),
            "object after object": (_wrong_hambox(rank="object after object"), "best pair of the image"),
            "matched ones may move": (_wrong_hambox(free=False), "makes up for the other"),
        },
    ),
    Exercise(
        id="10.4",
        title="Two sums, two counts",
        difficulty=3,
        minutes=10,
        hints=(
            "Three groups: compensated; matched and negative together; ignored, which count nowhere.",
            "The second sum runs over matched and negative anchors, and is divided by the number of matched ones only. "
            "A count of 0 becomes 1.",
            "extra = (decoded_iou * losses)[compensated].sum() / compensated.sum().clamp(min=1); matched = (gt >= 0) & "
            "~compensated; rest = ~compensated & (gt != IGNORED).",
        ),
        tests=(
            matched_and_negative,
            ignored_are_left_out,
            two_sums,
            nobody_compensated,
            only_compensated,
            only_background,
        ),
        mutants={
            "no weight": (_wrong_loss(weigh=False), "each sum has its own count"),
            "one count for all": (_wrong_loss(extra="positive", normal="positive"), "each sum has its own count"),
            "divided by all anchors": (_wrong_loss(normal="rest"), "Two matched and two negative"),
            "ignored ones count": (_wrong_loss(ignored=False), "no loss"),
            "divided by zero": (_wrong_loss(guard=0), "Two matched and two negative"),
        },
    ),
)
