"""The exercises of chapter 17: NWD, SimD, the size below which a threshold is blind, and RKA."""

import math
from functools import partial

import torch

from labelkit import NEGATIVE, Priors, plot
from labelkit.assigners import RKA
from labelkit.similarity import iou, nwd, simd
from labelkit_course import Exercise, compare

# --- 17.1 and 17.2 --------------------------------------------------------------------------------------------------


def _wh(boxes):
    return boxes[..., 2:] - boxes[..., :2]


def _middle(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _measure(library, constants, case, a, b, answer):
    a, b = torch.tensor(a), torch.tensor(b)
    got, want = answer(a, b, *constants), library(a, b, *constants)
    compare(case, {"a": a, "b": b, "constants": constants}, got, want, draw=lambda: _pair(a, b, got, want))


def _pair(a, b, got, want):
    """The first wrong pair and the number that came back for it."""
    wrong = tuple((~torch.isclose(got, want)).nonzero()[0].tolist())
    a, b = (boxes.expand(*want.shape, 4)[wrong] for boxes in (a, b))
    figure, (ax,) = plot.figure()
    edge = int(torch.maximum(a, b).max()) + 4
    plot.scene(ax, (edge, edge), title=f"you say {got[wrong].item():.4g}")
    plot.boxes(ax, a, "prior")
    plot.boxes(ax, b, "gt")
    plot.points(ax, _middle(torch.stack([a, b])), "good")
    plot.legend(ax, prior="a", gt="b", good="centres")
    return figure


PAIRS = {
    "Identical boxes": ([[3.0, 2, 9, 14]], [[3.0, 2, 9, 14]]),
    "Equal sizes, moved by (3, 4): the centres are 5 px apart": ([[0.0, 0, 8, 8]], [[3.0, 4, 11, 12]]),
    "One centre, widths 16 and 8": ([[0.0, 0, 16, 6]], [[4.0, 0, 12, 6]]),
    "Moved, and of another shape": ([[2.0, 2, 22, 10]], [[6.0, 9, 12, 29]]),
    "Boxes far apart still have a value above 0": ([[0.0, 0, 4, 4]], [[40.0, 30, 46, 38]]),
    "Two pairs at once": ([[0.0, 0, 4, 4], [2, 2, 6, 8]], [[2.0, 0, 6, 4], [1, 1, 9, 9]]),
    "Priors [2, 1, 4] against ground truths [2, 4] give all pairs": (
        [[[0.0, 0, 4, 4]], [[2, 2, 6, 6]]], [[1.0, 1, 5, 5], [8, 8, 12, 14]],
    ),
}  # fmt: skip


def _test_of(library, constants, case, a, b):
    def test(answer):
        _measure(library, constants, case, a, b, answer)

    return test


def a_point(answer):
    _measure(nwd, (12.8,), "A box without size, a point, is allowed", [[5.0, 5, 5, 5]], [[1.0, 3, 7, 7]], answer)


def another_constant(answer):
    case = "Equal sizes, moved by (3, 4), with another constant"
    _measure(nwd, (5.0,), case, [[0.0, 0, 8, 8]], [[3.0, 4, 11, 12]], answer)


def _nwd(a, b, constant, share=0.5, root=True):
    squared = (_middle(a) - _middle(b)).square().sum(-1) + ((_wh(a) - _wh(b)) * share).square().sum(-1)
    return torch.exp(-(squared.sqrt() if root else squared) / constant)


def _corners_for_centres(a, b, constant):
    squared = (a[..., :2] - b[..., :2]).square().sum(-1) + ((_wh(a) - _wh(b)) / 2).square().sum(-1)
    return torch.exp(-squared.sqrt() / constant)


def _one_number(a, b, constant):
    squared = (_middle(a) - _middle(b)).square().sum() + ((_wh(a) - _wh(b)) / 2).square().sum()
    return torch.exp(-squared.sqrt() / constant)


def _simd(a, b, m, n, one_root=False, halves=False, divide=False, swap=False, larger=False):
    factor = torch.tensor([n, m] if swap else [m, n])
    total = torch.maximum(_wh(a), _wh(b)) if larger else _wh(a) + _wh(b)
    factor = 1 / (factor * total) if divide else factor / total
    location = ((_middle(a) - _middle(b)) * factor).square().sum(-1)
    shape = ((_wh(a) - _wh(b)) * factor / (2 if halves else 1)).square().sum(-1)
    return torch.exp(-((location + shape).sqrt() if one_root else location.sqrt() + shape.sqrt()))


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
    plot.scene(ax, (int(anchor) + 8, int(anchor) + 8), inner, title=f"your side of {side:.3g} px has NWD {value:.3f}")
    plot.boxes(ax, outer, "prior")
    ax.set_xlabel(f"asked for: NWD {threshold}")
    return figure


def the_stock_anchor(answer):
    _blind("An anchor of 32 px, C = 12.8, threshold 0.3", 32.0, 12.8, 0.3, answer)


def another_threshold(answer):
    _blind("An anchor of 32 px, C = 12.8, the higher threshold 0.7", 32.0, 12.8, 0.7, answer)


def another_constant_for_the_side(answer):
    _blind("An anchor of 64 px, C = 20, threshold 0.3", 64.0, 20.0, 0.3, answer)


def nothing_is_too_small(answer):
    _blind("An anchor of 12 px: every object passes, and a side is never negative", 12.0, 12.8, 0.3, answer)


def only_the_same_size(answer):
    _blind("Threshold 1: only an object of the anchor's own size passes", 32.0, 12.8, 1.0, answer)


# --- 17.4 -----------------------------------------------------------------------------------------------------------

_METRIC = partial(nwd, constant=12.8)


def _grid():
    return Priors.anchors((32, 32), strides=(8,), sizes=((16,),))


def _assign(case, boxes, k, answer, similarity=_METRIC):
    priors, boxes = _grid(), torch.tensor(boxes).reshape(-1, 4)
    want = RKA(k=k, similarity=similarity)(priors, {"boxes": boxes}).gt
    got = answer(priors, boxes, similarity, k)
    inputs = {"gt_boxes": boxes, "k": k, "priors": "a 4 x 4 grid of 16 px anchors, stride 8"}
    compare(case, inputs, got, want, draw=lambda: _two_answers(priors, boxes, got, want))


def _two_answers(priors, boxes, got, want):
    figure, axes = plot.figure(2, width=3.6, height=3.9)
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        plot.scene(ax, (32, 32), boxes, labels=[str(i) for i in range(len(boxes))], title=title)
        plot.points(ax, priors.centers[gt < 0], "negative")
        plot.points(ax, priors.centers[gt >= 0], "positive")
        for (x, y), owner in zip(priors.centers[gt >= 0].tolist(), gt[gt >= 0].tolist(), strict=True):
            ax.text(x + 0.7, y - 0.7, str(owner), color=plot.BLUE)
    return figure


def one_object(answer):
    _assign("One object of 6 px near the anchor of row 1, column 1", [[8.5, 10, 14.5, 16]], 3, answer)


def four_equals(answer):
    case = "An object between four anchors: four are equal, k = 3 takes the three of lower index"
    _assign(case, [[13.0, 13, 19, 19]], 3, answer)


def two_neighbours(answer):
    case = "Two objects want the same priors: the more similar object wins each, the loser gets no replacement"
    _assign(case, [[8.0, 8, 16, 16], [12.0, 10, 19, 18]], 3, answer)
    _assign(case, [[12.0, 10, 19, 18], [8.0, 8, 16, 16]], 3, answer)


def a_bystander(answer):
    case = "k = 1: the prior that object 1 chose resembles object 0 more, but object 0 did not choose it"
    _assign(case, [[7.0, 4, 23, 20], [15.5, 10.5, 18.5, 13.5]], 1, answer)


def twins(answer):
    _assign("Two identical objects: the lower index wins", [[9.0, 9, 15, 15], [9.0, 9, 15, 15]], 2, answer)


def nothing_there(answer):
    _assign("An image without objects: gt_boxes [0, 4]", [], 3, answer)


def many_wanted(answer):
    _assign("k = 20 is more than the 16 priors", [[8.0, 8, 18, 16]], 20, answer)


def zero_is_never_taken(answer):
    case = "IoU, k = 12: only priors with a similarity above 0 are taken"
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
        id="17.1",
        title="NWD",
        difficulty=2,
        minutes=8,
        hints=(
            "Four differences, squared and summed: two of the centres, two of half the sizes. Then one root.",
            "centers(a) - centers(b) has the shape [..., 2]; .square().sum(-1) adds over x and y.",
            "squared = (centers(a) - centers(b)).square().sum(-1) + ((wh(a) - wh(b)) / 2).square().sum(-1). Return "
            "torch.exp(-squared.sqrt() / constant).",
        ),
        tests=(*(_test_of(nwd, (12.8,), case, *pair) for case, pair in PAIRS.items()), a_point, another_constant),
        mutants={
            "whole sizes instead of half": (partial(_nwd, share=1.0), "widths 16 and 8"),
            "squared distance": (partial(_nwd, root=False), "moved by (3, 4)"),
            "centres only": (partial(_nwd, share=0.0), "widths 16 and 8"),
            "corners for centres": (_corners_for_centres, "widths 16 and 8"),
            "constant forgotten": (lambda a, b, constant: _nwd(a, b, 12.8), "another constant"),
            "one number for all": (_one_number, "shape"),
            "always a table": (lambda a, b, constant: _nwd(a[:, None], b, constant), "shape (1, 1)"),
        },
    ),
    Exercise(
        id="17.2",
        title="SimD",
        difficulty=2,
        minutes=10,
        hints=(
            "Both terms divide by the same thing: the sum of the two widths in x, of the two heights in y.",
            "torch.tensor([m, n]) / (wh(a) + wh(b)) is a factor of shape [..., 2] for x and y. Multiply the two "
            "differences by it.",
            "location = ((centers(a) - centers(b)) * factor).square().sum(-1).sqrt(), shape the same with wh. "
            "Return torch.exp(-(location + shape)).",
        ),
        tests=tuple(_test_of(simd, (6.13, 4.59), case, *pair) for case, pair in PAIRS.items()),
        mutants={
            "one root over both terms": (partial(_simd, one_root=True), "of another shape"),
            "half the sizes, as in NWD": (partial(_simd, halves=True), "widths 16 and 8"),
            "m and n divide": (partial(_simd, divide=True), "moved by (3, 4)"),
            "m and n swapped": (partial(_simd, swap=True), "moved by (3, 4)"),
            "the larger size instead of the sum": (partial(_simd, larger=True), "moved by (3, 4)"),
            "m in both axes": (lambda a, b, m, n: _simd(a, b, m, m), "moved by (3, 4)"),
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
            "So A - s = -sqrt(2) C log t. Bring s to one side.",
            "s = A + sqrt(2) C log t, and never below 0: max(..., 0.0).",
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
            "Two steps: each column of the table (an object) marks its k best rows; each row (a prior) picks the best "
            "among the columns that marked it.",
            "table.argsort(dim=0, descending=True, stable=True)[:k] gives the k best rows of every column. Write True "
            "there in a mask of zeros with scatter(0, order, True), and combine with table > 0.",
            "torch.where(chosen, table, -1.0).max(dim=1) gives value and index of the best bidder of every prior; "
            "where the value is below 0 nobody bid: NEGATIVE. Return a row of NEGATIVE first if there are no objects.",
        ),
        tests=(
            one_object,
            four_equals,
            two_neighbours,
            a_bystander,
            twins,
            nothing_there,
            many_wanted,
            zero_is_never_taken,
        ),
        mutants={
            "every anchor equal to the k-th": (partial(_rka, choose=_every_equal_one), "four are equal"),
            "the last object wins": (_last_wins, "the more similar object wins"),
            "the first object wins": (_first_wins, "the more similar object wins"),
            "a bidder that did not choose": (_best_of_all, "did not choose it"),
            "k for the whole image": (_k_of_the_image, "the more similar object wins"),
            "no guard for no objects": (partial(_rka, guard=False), "max()"),
            "k larger than what is there": (_too_many, "out of range"),
            "zeros are taken": (partial(_rka, choose=_zeros_too), "above 0"),
        },
        provides="rka",
    ),
)
