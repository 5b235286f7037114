"""The exercises of chapter 17: NWD's distance, its slope and its constant, SimD, blind thresholds, and RKA."""

import math
from functools import partial

import torch

from labelkit import NEGATIVE, Priors, plot
from labelkit.assigners import RKA
from labelkit.similarity import iou, nwd, simd
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course.exercise import describe

# --- 17.5 -----------------------------------------------------------------------------------------------------------

C = 12.8
SIGNS = ("greater", "equal", "less")
CONTAINED, NEIGHBOURS = ([6.0, 6, 10, 10], [0.0, 0, 16, 16]), ([0.0, 0, 8, 8], [8.0, 0, 16, 8])
LARGE, SMALL = ([0.0, 0, 64, 64], [4.0, 0, 68, 64]), ([0.0, 0, 8, 8], [4.0, 0, 12, 8])


def _nwd_of(boxes, constant=C):
    one, other = map(torch.tensor, boxes)
    return nwd(one, other, constant).item()


def _sign(one, other):
    difference = _nwd_of(one) - _nwd_of(other)
    return "equal" if abs(difference) < 1e-6 else "greater" if difference > 0 else "less"


def two_comparisons(guess):
    truth = {"contained": _sign(CONTAINED, NEIGHBOURS), "large": _sign(LARGE, SMALL)}
    no_size = (
        "The formula asks how far the centres are apart and how much the sizes differ, and nothing about the size."
    )
    clues = [
        (
            {"contained": "greater"},
            "That one box contains the other is nothing to NWD. Work out both distances in pixels.",
        ),
        ({"contained": "equal"}, "The two distances are close, but they are not the same. Both sides of a box count."),
        ({"large": "greater"}, no_size),
        ({"large": "less"}, no_size),
    ]
    expect(guess, truth, among=SIGNS, clues=clues)


# --- 17.6 -----------------------------------------------------------------------------------------------------------


def _wh(boxes):
    return boxes[..., 2:] - boxes[..., :2]


def _middle(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2


PREDICTED = [[20.0, 30, 60, 54], [61.0, 61, 67, 67], [3.0, 2, 9, 14]]
TRUE = [[70.0, 66, 106, 114], [61.0, 61, 67, 67], [4.0, 2, 9, 14]]  # the second is met exactly


def the_values(answer):
    a, b = torch.tensor(PREDICTED), torch.tensor(TRUE)
    case = "The values of the loss have to stay what they were, and for identical boxes that is 0"
    compare(case, {"a": a, "b": b, "constant": C}, answer(a, b, C), 1 - nwd(a, b, C), atol=1e-6)


def _slopes(answer, a, b):
    """The gradient of the learner's summed loss with respect to the boxes a."""
    a = torch.tensor(a, requires_grad=True)
    loss = answer(a, torch.tensor(b), C).sum()
    if not loss.requires_grad:
        raise Wrong(
            "Your loss has no gradient: it no longer depends on the boxes for autograd, so nothing can be learned."
        )
    loss.backward()
    return torch.zeros_like(a) if a.grad is None else a.grad


def identical_boxes(answer):
    got = _slopes(answer, PREDICTED[1:2], TRUE[1:2])
    inputs = {"a": torch.tensor(PREDICTED[1:2]), "b": torch.tensor(TRUE[1:2])}
    if not got.isfinite().all():
        raise Wrong(f"For two identical boxes the gradient of your loss is\n    {describe(got)}", inputs=inputs)
    compare(
        "This is the gradient of your loss for two identical boxes, which have nothing to learn",
        inputs,
        got,
        torch.zeros(1, 4),
    )


def one_perfect_box_among_others(answer):
    a = torch.tensor(PREDICTED, requires_grad=True)
    (1 - nwd(a, torch.tensor(TRUE), C)).sum().backward()
    case = (
        "This is the gradient of your loss for three boxes. One is identical with its object, and the other two "
        "still have to learn"
    )
    inputs = {"a": torch.tensor(PREDICTED), "b": torch.tensor(TRUE)}
    compare(case, inputs, _slopes(answer, PREDICTED, TRUE), a.grad)


def _loss(a, b, constant, under=0.0, after=0.0, outside=False, mend_loss=False, detach=False, all_or_none=False):
    squared = (_middle(a) - _middle(b)).square().sum(-1) + ((_wh(a) - _wh(b)) / 2).square().sum(-1)
    squared = squared.detach() if detach else squared
    distance = (squared + under).sqrt() + after
    distance = torch.where(squared > 0, distance, 0) if outside else distance
    loss = 1 - torch.exp(-distance / constant)
    if all_or_none and (squared == 0).any():
        return loss.detach() + 0 * squared
    return loss.nan_to_num() if mend_loss else loss


# --- 17.7 -----------------------------------------------------------------------------------------------------------

# As 8 px, 32 px, and 4 in 16 px of the authors' images, in images twice as large.
NEAR, FAR = ([0.0, 0, 16, 16], [8.0, 0, 24, 16]), ([0.0, 0, 64, 64], [32.0, 0, 96, 64])
INSIDE = ([12.0, 12, 20, 20], [0.0, 0, 32, 32])


def _constant(number, name, boxes, wanted, why):
    def test(constant):
        if constant is None or isinstance(constant, str | list | tuple | dict | set):
            raise ValueError("C should be one number, in pixels.")
        value = _nwd_of(boxes, constant)
        if (value >= wanted) if number == "second" else (value < wanted):
            limit = f"less than {wanted} is" if number == "second" else f"at least {wanted} is"
            raise Wrong(
                f"The {number} condition does not hold. With C = {describe(constant)}, {name} have an NWD of "
                f"{value:.3f}, and {limit} asked for. {why}",
                draw=lambda: _two_boxes(boxes, f"NWD {value:.3f} with C = {describe(constant)}"),
                inputs={"boxes": torch.tensor(boxes), "constant": constant},
            )

    return test


def _two_boxes(boxes, title):
    one, other = (torch.tensor(box) for box in boxes)
    figure, (ax,) = plot.figure()
    plot.scene(ax, (int(max(one[3], other[3])) + 4, int(max(one[2], other[2])) + 4), title=title)
    plot.boxes(ax, one, "gt")
    plot.boxes(ax, other, "prior")
    return figure


small_apart = _constant(
    "first", "two 16 px squares whose centres are 8 px apart", NEAR, 0.5,
    "C is a length in pixels: at a distance of C, NWD has fallen to 0.37.",
)  # fmt: skip
large_apart = _constant(
    "second", "two 64 px squares whose centres are 32 px apart", FAR, 0.5,
    "The larger C is, the more pixels count as near.",
)  # fmt: skip
small_inside = _constant(
    "third", "an 8 px square and the 32 px anchor around it", INSIDE, 0.3,
    "Half of the difference in size is a distance too, and in a larger image every distance is longer.",
)  # fmt: skip


# --- 17.2 -----------------------------------------------------------------------------------------------------------


def _pair(a, b, got, want):
    """The first wrong pair and the number that came back for it."""
    wrong = tuple((~torch.isclose(got, want)).nonzero()[0].tolist())
    a, b = (boxes.expand(*want.shape, 4)[wrong] for boxes in (a, b))
    figure, (ax,) = plot.figure()
    edge = int(torch.maximum(a, b).max()) + 4
    plot.scene(ax, (edge, edge), title=f"your value {got[wrong].item():.4g}")
    plot.boxes(ax, a, "prior")
    plot.boxes(ax, b, "gt")
    plot.points(ax, _middle(torch.stack([a, b])), "good")
    plot.legend(ax, prior="a", gt="b", good="centres")
    return figure


PAIRS = {
    "Identical boxes": ([[3.0, 2, 9, 14]], [[3.0, 2, 9, 14]]),
    "A square and its copy 3 px to the right, so that only m counts": ([[0.0, 0, 8, 8]], [[3.0, 0, 11, 8]]),
    "A square and its copy 4 px below, so that only n counts": ([[0.0, 0, 8, 8]], [[0.0, 4, 8, 12]]),
    "Two boxes of one size, moved by (3, 4)": ([[0.0, 0, 8, 8]], [[3.0, 4, 11, 12]]),
    "Two boxes with one centre, widths 16 and 8": ([[0.0, 0, 16, 6]], [[4.0, 0, 12, 6]]),
    "Two boxes that differ in place and in shape, and each difference has a root of its own": (
        [[2.0, 2, 22, 10]], [[6.0, 9, 12, 29]],
    ),
    "Two boxes far apart still have a value above 0": ([[0.0, 0, 4, 4]], [[40.0, 30, 46, 38]]),
    "Two pairs at once": ([[0.0, 0, 4, 4], [2, 2, 6, 8]], [[2.0, 0, 6, 4], [1, 1, 9, 9]]),
    "Priors [2, 1, 4] against ground truths [2, 4] give all pairs": (
        [[[0.0, 0, 4, 4]], [[2, 2, 6, 6]]], [[1.0, 1, 5, 5], [8, 8, 12, 14]],
    ),
}  # fmt: skip


def _simd_of(case, a, b):
    a, b, constants = torch.tensor(a), torch.tensor(b), (6.13, 4.59)

    def test(answer):
        got, want = answer(a, b, *constants), simd(a, b, *constants)
        compare(case, {"a": a, "b": b, "m, n": constants}, got, want, draw=lambda: _pair(a, b, got, want))

    return test


def _simd(a, b, m, n, one_root=False, halves=False, divide=False, swap=False, larger=False):
    factor = torch.tensor([n, m] if swap else [m, n])
    total = torch.maximum(_wh(a), _wh(b)) if larger else _wh(a) + _wh(b)
    factor = 1 / (factor * total) if divide else factor / total
    location = ((_middle(a) - _middle(b)) * factor).square().sum(-1)
    shape = ((_wh(a) - _wh(b)) * factor / (2 if halves else 1)).square().sum(-1)
    return torch.exp(-((location + shape).sqrt() if one_root else location.sqrt() + shape.sqrt()))


def _summed_shifts(a, b, m, n):
    factor = torch.tensor([m, n]) / (_wh(a) + _wh(b))
    shape = ((_wh(a) - _wh(b)) * factor).square().sum(-1).sqrt()
    return torch.exp(-(((_middle(a) - _middle(b)).abs() * factor).sum(-1) + shape))


# --- 17.3 -----------------------------------------------------------------------------------------------------------


def _blind(case, anchor, constant, threshold, answer):
    want = max(anchor + math.sqrt(2) * constant * math.log(threshold), 0.0)
    inputs = {"anchor": anchor, "constant": constant, "threshold": threshold}
    got = answer(anchor, constant, threshold)
    compare(case, inputs, got, want, atol=1e-3, draw=lambda: _centred(anchor, constant, threshold, float(got)))


def _centred(anchor, constant, threshold, side):
    """The square of the learner's side in the middle of the anchor, and the NWD that it has."""
    outer = torch.tensor([4.0, 4, 4 + anchor, 4 + anchor])
    half = max(side, 0.0) / 2
    middle = 4 + anchor / 2
    inner = torch.tensor([middle - half, middle - half, middle + half, middle + half])
    figure, (ax,) = plot.figure()
    value = nwd(outer, inner, constant)
    plot.scene(ax, (int(anchor) + 8, int(anchor) + 8), inner, title=f"a square of your {side:.3g} px: NWD {value:.3f}")
    plot.boxes(ax, outer, "prior")
    ax.set_xlabel(f"asked for: NWD {threshold}")
    return figure


def the_stock_anchor(answer):
    _blind("A 32 px anchor, C = 12.8 and the threshold 0.3", 32.0, 12.8, 0.3, answer)


def another_threshold(answer):
    _blind("A 32 px anchor and C = 12.8 under the higher threshold 0.7", 32.0, 12.8, 0.7, answer)


def another_constant_for_the_side(answer):
    _blind("A 64 px anchor, C = 20 and the threshold 0.3", 64.0, 20.0, 0.3, answer)


def nothing_is_too_small(answer):
    _blind("With a 12 px anchor every object passes, and a side is never negative", 12.0, 12.8, 0.3, answer)


def only_the_same_size(answer):
    _blind("Under the threshold 1 only an object of the anchor's own size passes", 32.0, 12.8, 1.0, answer)


# --- 17.4 -----------------------------------------------------------------------------------------------------------

_METRIC = partial(nwd, constant=12.8)


def _grid():
    return Priors.anchors((32, 32), strides=(8,), sizes=((16,),))


def _assign(case, boxes, k, answer, similarity=_METRIC):
    priors, boxes = _grid(), torch.tensor(boxes).reshape(-1, 4)
    want = RKA(k=k, similarity=similarity)(priors, {"boxes": boxes}).gt
    got = answer(priors, boxes, similarity, k)
    inputs = {"gt_boxes": boxes, "k": k, "priors": "a 4 x 4 grid of 16 px anchors with stride 8"}
    compare(case, inputs, got, want, draw=lambda: _two_answers(priors, boxes, got, want))


def _two_answers(priors, boxes, got, want):
    figure, axes = plot.figure(2, width=3.6, height=3.9)
    for ax, gt, title in zip(axes, (got, want), ("your answer", "the right answer"), strict=True):
        plot.scene(ax, (32, 32), boxes, labels=[str(i) for i in range(len(boxes))], title=title)
        plot.points(ax, priors.centers[gt < 0], "negative")
        plot.points(ax, priors.centers[gt >= 0], "positive")
        for (x, y), owner in zip(priors.centers[gt >= 0].tolist(), gt[gt >= 0].tolist(), strict=True):
            ax.text(x + 0.7, y - 0.7, str(owner), color=plot.BLUE)
    return figure


def one_object(answer):
    _assign("One 6 px object near the anchor of row 1 and column 1", [[8.5, 10, 14.5, 16]], 3, answer)


def another_k(answer):
    _assign("With k = 1 the object takes a single prior", [[8.5, 10, 14.5, 16]], 1, answer)


def four_equals(answer):
    case = "For an object between four anchors four are equal, and k = 3 takes the three of lower index"
    _assign(case, [[13.0, 13, 19, 19]], 3, answer)


def two_neighbours(answer):
    case = "Two objects take the same priors, the more similar object wins each, and the loser gets no replacement"
    _assign(case, [[8.0, 8, 16, 16], [12.0, 10, 19, 18]], 3, answer)
    _assign(case, [[12.0, 10, 19, 18], [8.0, 8, 16, 16]], 3, answer)


def a_bystander(answer):
    case = (
        "Only objects that chose a prior compete for it. Here (k = 1) object 1 chose a prior that is more similar to "
        "object 0, which chose another"
    )
    _assign(case, [[7.0, 4, 23, 20], [15.5, 10.5, 18.5, 13.5]], 1, answer)


def twins(answer):
    _assign("Of two identical objects the lower index wins", [[9.0, 9, 15, 15], [9.0, 9, 15, 15]], 2, answer)


def nothing_there(answer):
    _assign("An image without objects, gt_boxes [0, 4], has negatives only", [], 3, answer)


def many_wanted(answer):
    _assign("There are 16 priors, fewer than k = 20, and all may be taken", [[8.0, 8, 18, 16]], 20, answer)


def zero_is_never_taken(answer):
    case = "Under IoU with k = 12 only priors with a similarity above 0 are taken"
    _assign(case, [[1.0, 1, 5, 5]], 12, answer, similarity=iou)


def _table(priors, boxes, similarity):
    return similarity(priors.boxes[:, None], boxes)


def _nobody(priors):
    return torch.full((len(priors),), NEGATIVE)


def _chosen(table, k):
    order = table.argsort(dim=0, descending=True, stable=True)[:k]
    return torch.zeros_like(table, dtype=torch.bool).scatter(0, order, True) & (table > 0)


def _rka(priors, boxes, similarity, k=3, choose=_chosen, guard=True):
    if guard and len(boxes) == 0:
        return _nobody(priors)
    table = _table(priors, boxes, similarity)
    best, owner = torch.where(choose(table, k), table, -1.0).max(dim=1)
    return torch.where(best >= 0, owner, NEGATIVE)


def _every_equal_one(table, k):
    return table >= table.sort(dim=0, descending=True).values[min(k, len(table)) - 1]


def _zeros_too(table, k):
    return torch.zeros_like(table, dtype=torch.bool).scatter(
        0, table.argsort(dim=0, descending=True, stable=True)[:k], True
    )


def _last_wins(priors, boxes, similarity, k=3):
    owner = _nobody(priors)
    if len(boxes):
        for g, column in enumerate(_chosen(_table(priors, boxes, similarity), k).T):
            owner[column] = g
    return owner


def _first_wins(priors, boxes, similarity, k=3):
    owner = _nobody(priors)
    if len(boxes):
        for g, column in enumerate(_chosen(_table(priors, boxes, similarity), k).T):
            owner[column & (owner < 0)] = g
    return owner


def _best_of_all(priors, boxes, similarity, k=3):
    """The owner is the most similar object of all, even if it did not choose the prior."""
    if len(boxes) == 0:
        return _nobody(priors)
    table = _table(priors, boxes, similarity)
    return torch.where(_chosen(table, k).any(dim=1), table.argmax(dim=1), NEGATIVE)


def _k_of_the_image(priors, boxes, similarity, k=3):
    if len(boxes) == 0:
        return _nobody(priors)
    best, owner = _table(priors, boxes, similarity).max(dim=1)
    keep = best.argsort(descending=True, stable=True)[:k]
    return _nobody(priors).index_copy(0, keep, owner[keep])


def _too_many(priors, boxes, similarity, k=3):
    if len(boxes) == 0:
        return _nobody(priors)
    _table(priors, boxes, similarity).topk(k, dim=0)
    return _rka(priors, boxes, similarity, k)


EXERCISES = (
    Exercise(
        id="17.5",
        kind="P",
        title="Strangers",
        difficulty=2,
        minutes=4,
        hints=(),
        tests=(two_comparisons,),
        mutants={
            "containing counts": ({"contained": "greater", "large": "equal"}, "nothing to NWD"),
            "nearly equal": ({"contained": "equal", "large": "equal"}, "close"),
            "large boxes forgive": ({"contained": "less", "large": "greater"}, "nothing about the size"),
            "small boxes forgive": ({"contained": "less", "large": "less"}, "nothing about the size"),
        },
    ),
    Exercise(
        id="17.6",
        kind="B",
        title="NaN at the goal",
        difficulty=3,
        minutes=8,
        hints=(
            "Write down the derivative of the root of x. What is it at x = 0, and what is that times 0?",
            "Autograd multiplies through every branch it has computed, so a torch.where after the root comes too late. "
            "The root must not see a 0.",
            "apart = squared > 0; then take the root of torch.where(apart, squared, 1), and put a second torch.where "
            "around it that sets the distance of identical boxes to 0.",
        ),
        tests=(the_values, identical_boxes, one_perfect_box_among_others),
        mutants={
            "given": (GIVEN, "identical"),
            "epsilon outside the root": (partial(_loss, after=1e-6), "identical"),
            "where outside the root": (partial(_loss, outside=True), "identical"),
            "nan_to_num on the loss": (partial(_loss, mend_loss=True), "identical"),
            "an epsilon that shows": (partial(_loss, under=0.01), "value"),
            "the authors' epsilon": (partial(_loss, under=1e-6), "value"),
            "detached": (partial(_loss, detach=True), "no gradient"),
            "one perfect box silences the batch": (partial(_loss, all_or_none=True), "still have to learn"),
        },
        also_right=(partial(_loss, under=1e-12),),
    ),
    Exercise(
        id="17.7",
        kind="C",
        title="A constant has a unit",
        difficulty=1,
        minutes=4,
        hints=("Each condition is a bound on C: take the logarithm of exp(-W2 / C) and of the number asked for.",),
        tests=(small_apart, large_apart, small_inside),
        mutants={
            "a number without a unit": (1.0, "a length"),
            "the authors' constant": (12.8, "third"),
            "the size of a large object": (64.0, "second"),
            "not positive": (0.0, "constant must be positive"),
            "nothing": (None, "C should be one number"),
        },
        also_right=(15, 40.0),
    ),
    Exercise(
        id="17.2",
        title="SimD",
        difficulty=2,
        minutes=10,
        hints=(
            "Both terms divide by the same lengths, the sum of the two widths in x and of the two heights in y.",
            "torch.tensor([m, n]) / (wh(a) + wh(b)) is a factor of shape [..., 2] for x and y. Multiply both "
            "differences by it.",
            "location = ((centers(a) - centers(b)) * factor).square().sum(-1).sqrt(), and shape is the same with wh in "
            "place of centers. Return torch.exp(-(location + shape)).",
        ),
        tests=tuple(_simd_of(case, *pair) for case, pair in PAIRS.items()),
        mutants={
            "one root over both terms": (partial(_simd, one_root=True), "a root of its own"),
            "half the sizes, as in NWD": (partial(_simd, halves=True), "widths 16 and 8"),
            "m and n divide": (partial(_simd, divide=True), "only m counts"),
            "m and n swapped": (partial(_simd, swap=True), "only m counts"),
            "the larger size instead of the sum": (partial(_simd, larger=True), "only m counts"),
            "m in both axes": (lambda a, b, m, n: _simd(a, b, m, m), "only n counts"),
            "the sum of both shifts": (_summed_shifts, "moved by (3, 4)"),
            "always a table": (lambda a, b, m, n: _simd(a[:, None], b, m, n), "shape (1, 1)"),
        },
    ),
    Exercise(
        id="17.3",
        title="How small is too small?",
        difficulty=3,
        minutes=10,
        hints=(
            "Take the logarithm of both sides: -(A - s) / (sqrt(2) C) = log t. The logarithm of 0.3 is negative.",
            "It follows that A - s = -sqrt(2) C log t. Bring s to one side.",
            "The side is s = A + sqrt(2) C log t, but never below 0, so return max(..., 0.0).",
        ),
        tests=(
            the_stock_anchor,
            another_threshold,
            another_constant_for_the_side,
            only_the_same_size,
            nothing_is_too_small,
        ),
        mutants={
            "no root of 2": (lambda a, c, t: max(a + c * math.log(t), 0.0), "too large"),
            "half the difference": (lambda a, c, t: max(a + c * math.log(t) / math.sqrt(2), 0.0), "too large"),
            "negative side": (lambda a, c, t: a + math.sqrt(2) * c * math.log(t), "never negative"),
            "the distance, not the side": (lambda a, c, t: -math.sqrt(2) * c * math.log(t), "too large"),
            "decimal logarithm": (lambda a, c, t: max(a + math.sqrt(2) * c * math.log10(t), 0.0), "too large"),
            "C built in": (lambda a, c, t: max(a + math.sqrt(2) * 12.8 * math.log(t), 0.0), "C = 20"),
        },
    ),
    Exercise(
        id="17.4",
        title="RKA",
        difficulty=4,
        minutes=15,
        hints=(
            "There are two steps. Each column of the table (an object) marks its k best rows, and then each row (a "
            "prior) picks the best among the columns that marked it.",
            "table.argsort(dim=0, descending=True, stable=True)[:k] gives the k best rows of every column. Write True "
            "there in a mask of zeros with scatter(0, order, True), and combine with table > 0.",
            "torch.where(chosen, table, -1.0).max(dim=1) gives every prior the most similar object that chose it. "
            "Where the value is below 0, no object chose the prior, and it is NEGATIVE. If there are no objects, "
            "return NEGATIVE for all priors before that.",
        ),
        tests=(
            one_object,
            another_k,
            four_equals,
            two_neighbours,
            a_bystander,
            twins,
            nothing_there,
            many_wanted,
            zero_is_never_taken,
        ),
        mutants={
            "k = 3 built in": (lambda priors, boxes, measure, k=3: _rka(priors, boxes, measure), "a single prior"),
            "every anchor equal to the k-th": (partial(_rka, choose=_every_equal_one), "four are equal"),
            "the last object wins": (_last_wins, "the more similar object wins"),
            "the first object wins": (_first_wins, "the more similar object wins"),
            "a bidder that did not choose": (_best_of_all, "which chose another"),
            "k for the whole image": (_k_of_the_image, "the more similar object wins"),
            "no guard for no objects": (partial(_rka, guard=False), "max()"),
            "k larger than what is there": (_too_many, "out of range"),
            "zeros are taken": (partial(_rka, choose=_zeros_too), "above 0"),
        },
        provides="rka",
    ),
)
