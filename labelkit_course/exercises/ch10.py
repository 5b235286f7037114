"""The exercises of chapter 10: where detections come from, who compensates an object, a perfect network, HAMBox, its
loss."""

import torch

from labelkit import IGNORED, NEGATIVE, Assignment, Predictions, Priors, plot
from labelkit.assigners import HAMBox
from labelkit.boxes import centers
from labelkit.similarity import iou
from labelkit_course import Exercise, Wrong, compare, expect
from labelkit_course.exercise import describe
from labelkit_course.exercises.crowns import crowns

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
    _origin(
        "One object has three detections, and the last of them is too poor to count",
        detections,
        anchors,
        [OBJECT],
        (2, 1),
        answer,
    )


def exactly_a_half(answer):
    _origin("A detection whose IoU is exactly 0.5 is good", [_strip(10.0)], [_strip(5.0)], [OBJECT], (1, 1), answer)


def exactly_the_threshold(answer):
    _origin(
        "An anchor whose IoU is exactly 0.35 is not under it", [_strip(20.0)], [_strip(7.0)], [OBJECT], (1, 0), answer
    )


def anchor_of_a_neighbour(answer):
    case = "The anchor starts on the first object and its detection ends on the second, so what counts is the second"
    _origin(case, [_strip(18.0, 40.0)], [_strip(16.0)], [OBJECT, SECOND], (1, 1), answer)


def first_best_object(answer):
    detection, near = [0.0, 0.0, 20.0, 17.0], [0.0, 0.0, 20.0, 13.0]
    case = "A detection that is good for two objects belongs to the one that it fits best"
    _origin(case, [detection], [[0.0, 12.0, 20.0, 20.0]], [near, OBJECT], (1, 0), answer)


def no_detections(answer):
    _origin("The detector reports nothing", [], [], [OBJECT], (0, 0), answer)


def no_objects_to_find(answer):
    _origin(
        "The image has no objects, so that no detection is good", [_strip(18.0)], [_strip(12.0)], [], (0, 0), answer
    )


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
        "An object without a match is compensated by its two best anchors, in descending order",
        [0.55, 0.7, 0.2, 0.9],
        [-1] * 4,
        2,
        0.5,
        [3, 1],
        answer,
    )


def what_is_missing(answer):
    _extra(
        "An object that has one match needs one anchor fewer",
        [0.55, 0.9, 0.6, 0.7],
        [-1, -1, 0, -1],
        2,
        0.5,
        [1],
        answer,
    )


def matches_of_others(answer):
    _extra(
        "Another object has a match, but only the matches of object 1 count for object 1",
        [0.9, 0.8, 0.7],
        [0, -1, -1],
        2,
        0.5,
        [1, 2],
        answer,
        g=1,
    )


def matched_ones_regress_best(answer):
    case = "The best decoded boxes belong to matched anchors, which are no candidates"
    _extra(case, [0.95, 0.9, 0.6, 0.55], [0, 0, -1, -1], 3, 0.5, [2], answer)


def more_matches_than_k(answer):
    case = "An object that has more than k matches is not compensated"
    _extra(case, [0.9, 0.8, 0.7, 0.6, 0.9, 0.8], [0, 0, 0, -1, -1, -1], 1, 0.5, [], answer)


def exactly_good_enough(answer):
    _extra("A decoded IoU that is exactly at the threshold is good enough", [0.5, 0.49], [-1, -1], 3, 0.5, [0], answer)


def equally_good(answer):
    _extra(
        "Among anchors with equal decoded IoU the lower index comes first",
        [0.75, 0.75, 0.75, 0.25] * 6,
        [-1] * 24,
        4,
        0.5,
        [0, 1, 2, 4],
        answer,
    )


def nothing_learned_yet(answer):
    _extra(
        "No decoded box is good enough, since nothing has been learned yet", [0.3, 0.2], [-1, -1], 3, 0.5, [], answer
    )


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


# --- 10.5 -----------------------------------------------------------------------------------------------------------


def perfect_network(guess):
    target = crowns()[2]
    boxes = target["boxes"]
    priors = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
    nearest = torch.cdist(priors.centers, centers(boxes)).argmin(dim=1)
    said = Predictions(boxes[nearest], torch.ones(len(priors), 1))
    answer = HAMBox(k=3, decoded_thresh=0.7)(priors, target, said)
    truth = {"negative": int(answer.negative.sum()), "% ignored": 100 * answer.ignored.float().mean().item()}
    no_band = "Step three asks where an anchor ends, and a box that is the box of a crown has an IoU above 0.5 with it."
    clues = [
        (lambda got: 0 < got["% ignored"] <= 1, "% ignored is a percentage, from 0 to 100."),
        (
            lambda got: got["% ignored"] < 3 and got["negative"] <= 20,
            "A crown takes no more anchors once it has k, so most of the 1,344 cannot be positive.",
        ),
        (lambda got: got["% ignored"] < 3, no_band),
        (
            lambda got: got["negative"] > 20,
            "An anchor far from every crown starts on none, but HAMBox asks where its box ends before it calls the "
            "anchor negative.",
        ),
        (
            lambda got: got["% ignored"] < 88,
            "Count the positives. A crown gets up to k of them by compensation, and step one rarely matched many more.",
        ),
        (
            lambda got: got["% ignored"] > 94.5,
            "Every crown finds k anchors here, and a crown that step one had matched to more than k keeps them all.",
        ),
    ]
    expect(guess, truth, within={"negative": 20, "% ignored": 3}, clues=clues)


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
        "Nothing has been learned yet, so step one alone decides, and it matches at IoU 0.35 or more",
        anchors,
        anchors,
        [OBJECT, SECOND],
        answer,
    )


def exactly_035(answer):
    anchors = [_strip(7.0), FAR]
    _hambox("An anchor whose IoU is exactly 0.35 is matched", anchors, anchors, [OBJECT], answer)


def no_forced_match(answer):
    anchors = [_strip(6.0), _strip(5.0)]
    _hambox("An object that no anchor overlaps enough forces no match", anchors, anchors, [OBJECT], answer)


def one_compensates(answer):
    anchors = [_strip(12.0), FAR, _strip(5.0), FAR]
    _hambox(
        "With k = 2 and one match, only the better of two unmatched anchors compensates",
        anchors,
        [_strip(20.0), _strip(16.0), _strip(18.0), FAR],
        [OBJECT],
        answer,
    )


def below_the_threshold(answer):
    _hambox(
        "A decoded box under the threshold does not compensate, and at 0.5 or more its anchor is ignored",
        [FAR, FAR, FAR],
        [_strip(14.0), _strip(10.0), _strip(9.0)],
        [OBJECT],
        answer,
    )


def enough_already(answer):
    anchors = [_strip(12.0), _strip(14.0), _strip(16.0), _strip(5.0)]
    _hambox(
        "With k = 2 an object that has three matches is not compensated", anchors, [_strip(20.0)] * 4, [OBJECT], answer
    )


def the_best_pair_first(answer):
    anchors, second = [FAR, FAR], [4.0, 0.0, 24.0, 20.0]
    decoded = [[2.5, 0.0, 22.5, 20.0], [2.5, 0.0, 22.5, 18.0]]
    _hambox(
        "Two objects with room for one want the same anchor, and the best pair of the image goes first",
        anchors,
        decoded,
        [OBJECT, second],
        answer,
        k=1,
        thresh=0.5,
    )


def left_over_by_the_second(answer):
    _hambox(
        "Two anchors that overlap no object end on the second, which needs one: the other is ignored (k = 1)",
        [FAR, FAR],
        [_strip(20.0, 40.0), _strip(18.0, 40.0)],
        [OBJECT, SECOND],
        answer,
        k=1,
    )


def a_matched_anchor_stays(answer):
    anchors = [_strip(12.0), FAR]
    _hambox(
        "A matched anchor whose box ends on the second object stays with the first",
        anchors,
        [_strip(20.0, 40.0), FAR],
        [OBJECT, SECOND],
        answer,
    )


def twin_objects(answer):
    _hambox(
        "The same object is there twice, and among equal pairs the lower object comes first",
        [FAR] * 3,
        [_strip(20.0)] * 3,
        [OBJECT, OBJECT],
        answer,
        k=1,
    )


def no_objects(answer):
    _hambox(
        "In an image without objects all anchors are negative", [FAR, _strip(10.0)], [FAR, _strip(10.0)], [], answer
    )


def _wrong_hambox(
    match=lambda v: v >= 0.35, forced=False, rank="pairs", free=True, room="missing", ignore=0.5, ends="on any"
):
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
        reached = after.amax(dim=1) if ends == "on any" else after.gather(1, owner[:, None])[:, 0]
        gt[(gt == NEGATIVE) & (reached >= ignore)] = IGNORED
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
        "There are two matched anchors and two negative ones, and only the matched ones are counted",
        [2.0, 4.0, 1.0, 1.0],
        [0, 0, -1, -1],
        [False] * 4,
        [0.9, 0.1, 0.0, 0.25],
        4.0,
        answer,
    )


def ignored_are_left_out(answer):
    _loss(
        "An ignored anchor is in neither sum", [2.0, 1.0, 64.0], [0, -1, -2], [False] * 3, [0.5, 0.0, 0.75], 3.0, answer
    )


def two_sums(answer):
    _loss(
        "There is one matched anchor and two compensate, and each sum has its own count",
        [2.0, 4.0, 8.0, 1.0],
        [0, 0, 1, -1],
        [False, True, True, False],
        [1.0, 0.5, 0.75, 0.0],
        7.0,
        answer,
    )


def nobody_compensated(answer):
    _loss("No anchor compensates yet", [3.0, 1.0], [0, -1], [False, False], [0.25, 0.0], 4.0, answer)


def only_compensated(answer):
    _loss(
        "All positives compensate, and the negatives still count, divided by 1",
        [4.0, 1.0, 1.0],
        [0, -1, -1],
        [True, False, False],
        [0.5, 0.0, 0.0],
        4.0,
        answer,
    )


def only_background(answer):
    _loss("All anchors are background", [1.0, 0.5], [-1, -1], [False, False], [0.0, 0.0], 1.5, answer)


def a_weight_teaches_nothing(answer):
    losses = torch.tensor([4.0, 1.0], requires_grad=True)
    decoded_iou = torch.tensor([0.5, 0.0], requires_grad=True)
    loss = answer(losses, torch.tensor([0, -1]), torch.tensor([True, False]), decoded_iou)
    case = "The losses depend on the network, and so do the decoded IoUs"
    if not loss.requires_grad:
        raise Wrong(f"{case}. Your loss is cut off from both, so that nothing can be learned from it.")
    through, weight = torch.autograd.grad(loss, (losses, decoded_iou), allow_unused=True)
    if weight is not None and weight.any():
        raise Wrong(
            f"{case}. A gradient flows through your F: the network could lower this loss by making its box of a "
            "compensating anchor worse. F is to be a constant weight."
        )
    if through is None or not torch.allclose(through, torch.tensor([0.5, 1.0])):
        raise Wrong(f"{case}. The gradient of the losses themselves is lost on the way: {describe(through)}.")


def _wrong_loss(weigh=True, normal="matched", extra="compensated", ignored=True, guard=1, constant=True):
    """The loss with one thing changed."""

    def answer(losses, gt, compensated, decoded_iou):
        rest = ~compensated & (gt != IGNORED) if ignored else ~compensated
        counts = {"matched": (gt >= 0) & ~compensated, "compensated": compensated, "positive": gt >= 0, "rest": rest}
        number, others = counts[extra].sum().clamp(min=guard), counts[normal].sum().clamp(min=guard)
        weight = decoded_iou.detach() if constant else decoded_iou
        value = losses * weight if weigh else losses
        return value[compensated].sum() / number + losses[rest].sum() / others

    return answer


EXERCISES = (
    Exercise(
        id="10.1",
        title="Where did it come from?",
        difficulty=2,
        minutes=8,
        hints=(
            "Find the object that each detection fits best before you look at its anchor, and then at that one object.",
            "iou(detections[:, None], gt_boxes).max(dim=1) gives the values and the objects. With no objects there is "
            "no maximum, so return (0, 0) before.",
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
            "above a half": (_wrong_origin(good=lambda v: v > 0.5), "exactly 0.5"),
            "up to 0.35": (_wrong_origin(low=lambda v: v <= 0.35), "exactly 0.35"),
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
            "You need two numbers, how many matches the object has and how many are missing, which cannot be negative.",
            "A candidate is unmatched, step_one == NEGATIVE, and has a decoded IoU of at least decoded_thresh. Filter "
            "before you cut to the missing number.",
            "order = decoded_iou.argsort(descending=True, stable=True) sorts all anchors; order[ok[order]] "
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
            "always k": (_wrong_extra(room=False), "one anchor fewer"),
            "matches of all objects": (_wrong_extra(count="all"), "only the matches of object 1"),
            "matched ones too": (_wrong_extra(free="all"), "no candidates"),
            "cut before the filter": (_wrong_extra(free="cut first"), "no candidates"),
            "negative slice": (_wrong_extra(guard=False), "more than k matches"),
            "above the threshold": (_wrong_extra(above=lambda v, t: v > t), "exactly at the threshold"),
            "last of equals": (_wrong_extra(stable=False), "lower index comes first"),
            "no threshold": (_wrong_extra(above=lambda v, t: v > 0), "exactly at the threshold"),
            "in order of their index": (
                lambda *given, **named: _wrong_extra()(*given, **named).sort().values,
                "in descending order",
            ),
        },
    ),
    Exercise(
        id="10.5",
        kind="P",
        title="The perfect network",
        difficulty=3,
        minutes=5,
        hints=(),
        tests=(perfect_network,),
        mutants={
            "the rest is background": ({"negative": 1226, "% ignored": 0}, "above 0.5"),
            "all are positive": ({"negative": 0, "% ignored": 0}, "once it has k"),
            "far ones are background": ({"negative": 900, "% ignored": 24}, "starts on none"),
            "a third is positive": ({"negative": 0, "% ignored": 67}, "Count the positives"),
            "no positives": ({"negative": 0, "% ignored": 100}, "finds k anchors"),
        },
    ),
    Exercise(
        id="10.3",
        title="HAMBox",
        difficulty=4,
        minutes=20,
        hints=(
            "You need two IoU tables [P, G], of the anchors for step one and of the decoded boxes for the rest.",
            "Step two needs the pairs of an unmatched anchor and an object with after >= decoded_thresh. "
            "mask.T.nonzero(as_tuple=True) lists them by object, then by anchor; argsort(descending=True, stable=True) "
            "of their IoUs puts them in descending order and keeps that order among equals.",
            "Walk through the sorted pairs. If gt[prior] is still NEGATIVE and room[g] > 0, write g and lower room[g]. "
            "At last, gt[(gt == NEGATIVE) & (after.amax(dim=1) >= 0.5)] = IGNORED. Without objects return early.",
        ),
        tests=(
            matched_by_overlap,
            exactly_035,
            no_forced_match,
            one_compensates,
            below_the_threshold,
            enough_already,
            the_best_pair_first,
            left_over_by_the_second,
            a_matched_anchor_stays,
            twin_objects,
            no_objects,
        ),
        mutants={
            "matched above 0.35": (_wrong_hambox(match=lambda v: v > 0.35), "exactly 0.35"),
            "matched at 0.5": (_wrong_hambox(match=lambda v: v >= 0.65), "at IoU 0.35 or more"),
            "a forced match": (_wrong_hambox(forced=True), "forces no match"),
            "k for everyone": (_wrong_hambox(room="k"), "only the better of two"),
            "nobody ignored": (_wrong_hambox(ignore=2.0), "only the better of two"),
            "ignored by the object overlapped most": (_wrong_hambox(ends="on its own"), "end on the second"),
            "ignored from the threshold on": (_wrong_hambox(ignore=0.75), "its anchor is ignored"),
            "the last object overwrites": (_wrong_hambox(rank="overwrite"), "best pair of the image"),
            "object after object": (_wrong_hambox(rank="object after object"), "best pair of the image"),
            "matched ones may move": (_wrong_hambox(free=False), "only the better of two"),
        },
    ),
    Exercise(
        id="10.4",
        title="Two sums, two counts",
        difficulty=3,
        minutes=10,
        hints=(
            "There are three groups: compensating anchors, matched and negative ones together, and ignored ones, "
            "which count nowhere.",
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
            a_weight_teaches_nothing,
        ),
        mutants={
            "a gradient through F": (_wrong_loss(constant=False), "box of a compensating anchor worse"),
            "nothing is learned": (lambda *given: _wrong_loss()(*given).detach(), "cut off from both"),
            "no weight": (_wrong_loss(weigh=False), "each sum has its own count"),
            "one count for all": (_wrong_loss(extra="positive", normal="positive"), "each sum has its own count"),
            "divided by all anchors": (_wrong_loss(normal="rest"), "only the matched ones are counted"),
            "ignored ones count": (_wrong_loss(ignored=False), "neither sum"),
            "divided by zero": (_wrong_loss(guard=0), "only the matched ones are counted"),
        },
    ),
)
