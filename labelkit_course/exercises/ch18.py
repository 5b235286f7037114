"""The exercises of chapter 18: receptive fields by arithmetic, RFD, HLA's two stages, and the rescue."""

from functools import partial

import torch

from labelkit import NEGATIVE, plot
from labelkit.assigners import RFLA
from labelkit.receptive_field import receptive_fields, rf_priors
from labelkit.similarity import nwd, rfd
from labelkit_course import Exercise, compare

# --- 18.1 -----------------------------------------------------------------------------------------------------------


def _seen(case, layers, answer):
    want = list(receptive_fields([[(kernel, stride, 1)] for kernel, stride in layers]))
    compare(case, {"layers": layers}, answer(layers), want)


def two_plain_layers(answer):
    _seen("Two 3 x 3 layers of stride 1", [(3, 1), (3, 1)], answer)


def a_stride_first(answer):
    _seen(
        "A layer of stride 2, then two of stride 1: its stride counts for what follows",
        [(3, 2), (3, 1), (3, 1)],
        answer,
    )


def a_stride_last(answer):
    _seen("A single layer with stride 2: its stride does not spread its own kernel", [(3, 2)], answer)


def strides_multiply(answer):
    _seen("Two strides of 2, then a 5 x 5 layer: jumps multiply", [(3, 2), (3, 2), (5, 1)], answer)


def subsampling(answer):
    _seen("A kernel of 1 with stride 2 sees nothing new, but doubles the jump", [(1, 2), (3, 1)], answer)


def no_layers(answer):
    _seen("No layers: an empty list", [], answer)


def _walk(layers, late=False, add=False, whole=False, no_jump=False, last=False):
    field, jump, fields = 1, 1, []
    for kernel, stride in layers:
        if late:
            jump *= stride
        field += (kernel if whole else kernel - 1) * (1 if no_jump else jump)
        if not late:
            jump = jump + stride - 1 if add else jump * stride
        fields.append(field)
    return field if last else fields


# --- 18.2 -----------------------------------------------------------------------------------------------------------


def _wh(boxes):
    return boxes[..., 2:] - boxes[..., :2]


def _middle(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _measure(case, prior, gt, answer):
    prior, gt = torch.tensor(prior), torch.tensor(gt)
    got, want = answer(prior, gt), rfd(prior, gt)
    compare(case, {"prior": prior, "gt": gt}, got, want, draw=lambda: _pair(prior, gt, got, want))


def _pair(prior, gt, got, want):
    """The first wrong pair and the number that came back for it."""
    wrong = tuple((~torch.isclose(got, want)).nonzero()[0].tolist())
    prior, gt = (boxes.expand(*want.shape, 4)[wrong] for boxes in (prior, gt))
    figure, (ax,) = plot.figure()
    edge = int(torch.maximum(prior, gt).max()) + 4
    plot.scene(ax, (edge, edge), gt, title=f"you say {got[wrong].item():.4g}")
    plot.boxes(ax, prior, "prior")
    plot.legend(ax, "gt", "prior")
    return figure


PAIRS = {
    "Identical boxes": ([[3.0, 2, 9, 14]], [[3.0, 2, 9, 14]]),
    "Equal sizes of 8 px, moved by (3, 4)": ([[0.0, 0, 8, 8]], [[3.0, 4, 11, 12]]),
    "A prior of 16 px around an object of 8 px": ([[0.0, 0, 16, 16]], [[4.0, 4, 12, 12]]),
    "A prior of 8 px inside an object of 16 px: not the same as the other way round": (
        [[4.0, 4, 12, 12]], [[0.0, 0, 16, 16]],
    ),
    "Moved, and of another shape": ([[2.0, 2, 22, 10]], [[6.0, 9, 12, 29]]),
    "Two pairs at once": ([[0.0, 0, 4, 4], [2, 2, 6, 8]], [[2.0, 0, 6, 4], [1, 1, 9, 9]]),
    "Priors [2, 1, 4] against ground truths [2, 4] give all pairs": (
        [[[0.0, 0, 4, 4]], [[2, 2, 6, 6]]], [[1.0, 1, 5, 5], [8, 8, 12, 14]],
    ),
}  # fmt: skip


def _test_of(case, prior, gt):
    def test(answer):
        _measure(case, prior, gt, answer)

    return test


def _rfd(prior, gt, shift=4.0, half=0.5, log=1.0, by_prior=False, raw=False):
    size, gt_size = _wh(prior), _wh(gt)
    ratio = (size / gt_size).square()
    moved = ((_middle(prior) - _middle(gt)) / (size if by_prior else gt_size)).square()
    divergence = (ratio + shift * moved - log * ratio.log() - 1).sum(-1) * half
    return torch.exp(-divergence) if raw else 1 / (1 + divergence)


# --- 18.3 -----------------------------------------------------------------------------------------------------------


def _fields():
    return rf_priors((64, 64), strides=(8, 16), fields=(35, 91))


def _assign(case, boxes, answer, k=3, beta=0.9, similarity=rfd):
    priors, boxes = _fields(), torch.tensor(boxes).reshape(-1, 4)
    want = RFLA(k=k, beta=beta, bg_thresh=1.0, similarity=similarity)(priors, {"boxes": boxes}).gt
    got = answer(priors, boxes, similarity, k, beta)
    inputs = {"gt_boxes": boxes, "k": k, "beta": beta, "priors": "64 fields of 17.5 px, 16 of 45.5 px in 64 x 64 px"}
    compare(case, inputs, got, want, draw=lambda: _two_answers(priors, boxes, got, want))


def _two_answers(priors, boxes, got, want):
    figure, axes = plot.figure(2, width=3.6, height=3.9)
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        plot.scene(ax, (64, 64), boxes, labels=[str(i) for i in range(len(boxes))], title=title)
        plot.points(ax, priors.centers[gt >= 0], "positive")
        plot.boxes(ax, priors.boxes[gt >= 0], "positive")
        for (x, y), owner in zip(priors.centers[gt >= 0].tolist(), gt[gt >= 0].tolist(), strict=True):
            ax.text(x + 0.7, y - 0.7, str(owner), color=plot.BLUE)
    return figure


def an_object_of_twelve(answer):
    _assign("One object of 12 px: stage two finds what stage one has", [[17.0, 18, 29, 30]], answer)


def between_two_levels(answer):
    _assign("One object of 30 px, between two levels: stage two adds a prior", [[17.3, 18, 47.3, 48]], answer)


def two_that_compete(answer):
    _assign("Two objects want the same priors", [[17.0, 18, 29, 30], [20.0, 20, 33, 32]], answer)
    _assign("Two objects want the same priors", [[20.0, 20, 33, 32], [17.0, 18, 29, 30]], answer)


def one_takes_what_another_wants(answer):
    case = "Stage two wants a prior that is another object's since stage one: it stays that object's"
    _assign(case, [[25.0, 21, 50, 40], [23.0, 25, 51, 51]], answer)


def twins(answer):
    _assign("The same box twice: the lower index", [[17.0, 18, 29, 30], [17.0, 18, 29, 30]], answer)


def another_similarity(answer):
    case = "similarity = nwd instead of rfd"
    _assign(case, [[17.0, 18, 51, 52]], answer, similarity=partial(nwd, constant=12.8))


def another_beta(answer):
    _assign("beta = 0.5: the levels change for a smaller object", [[17.0, 18, 34, 35]], answer, beta=0.5)


def another_k(answer):
    _assign("k = 1", [[17.0, 18, 29, 30]], answer, k=1)


def nothing_there(answer):
    _assign("An image without objects: gt_boxes [0, 4]", [], answer)


def _k_best(boxes, gt_boxes, k, similarity=rfd, last=False):
    table = similarity(boxes[:, None], gt_boxes)
    order = table.argsort(dim=0, descending=True, stable=True)[:k]
    chosen = torch.zeros_like(table, dtype=torch.bool).scatter(0, order, True)
    if last:
        owner = torch.full((len(boxes),), NEGATIVE)
        for g, column in enumerate(chosen.T):
            owner[column] = g
        return owner
    best, owner = torch.where(chosen, table, -1.0).max(dim=1)
    return torch.where(best > 0, owner, NEGATIVE)


def _scaled(priors, factor, corner=False):
    half = _wh(priors.boxes) * factor / 2
    if corner:
        return torch.cat([priors.boxes[:, :2], priors.boxes[:, :2] + 2 * half], dim=1)
    return torch.cat([priors.centers - half, priors.centers + half], dim=1)


def _hla(
    priors, boxes, similarity=rfd, k=3, beta=0.9, *, stages=2, second_k=1, second_wins=False, last=False, corner=False,
    guard=True,
):  # fmt: skip
    if guard and len(boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    first = _k_best(priors.boxes, boxes, k, similarity, last)
    second = _k_best(_scaled(priors, beta, corner), boxes, second_k, similarity, last)
    if stages == 1:
        return first
    return torch.where(second >= 0, second, first) if second_wins else torch.where(first >= 0, first, second)


def _enlarged(priors, boxes, similarity=rfd, k=3, beta=0.9):
    return _hla(priors, boxes, similarity, k, 1 / beta)


def _fixed_beta(priors, boxes, similarity=rfd, k=3, beta=0.9):
    return _hla(priors, boxes, similarity, k)


def _fixed_similarity(priors, boxes, similarity=rfd, k=3, beta=0.9):
    return _hla(priors, boxes, rfd, k, beta)


def _last_of_equals(priors, boxes, similarity=rfd, k=3, beta=0.9):
    flipped = _hla(priors, boxes.flip(0), similarity, k, beta)
    return torch.where(flipped >= 0, len(boxes) - 1 - flipped, flipped)


# --- 18.4 -----------------------------------------------------------------------------------------------------------


def _by_hand(gt, table):
    gt = gt.clone()
    has = set(gt[gt >= 0].tolist())
    pairs = [(-table[p, g].item(), p, g) for p in range(table.shape[0]) for g in range(table.shape[1])]
    for _, p, g in sorted(pairs):
        if gt[p] < 0 and g not in has:
            gt[p] = g
            has.add(g)
    return gt


def _rescued(case, gt, table, answer):
    gt, table = torch.tensor(gt), torch.tensor(table)
    compare(case, {"gt": gt, "table": table}, answer(gt, table), _by_hand(gt, table))


def one_is_empty(answer):
    table = [[0.9, 0.2], [0.4, 0.5], [0.1, 0.3]]
    _rescued("Object 1 has nothing; priors 1 and 2 are free", [0, -1, -1], table, answer)


def its_best_is_taken(answer):
    _rescued(
        "The best prior of object 1 is taken and stays taken", [0, -1, -1], [[0.9, 0.8], [0.4, 0.1], [0.1, 0.3]], answer
    )


def two_want_one(answer):
    case = "Objects 0 and 1 are empty and prefer the same prior: the most similar pair goes first"
    _rescued(case, [-1, -1, -1], [[0.6, 0.7], [0.5, 0.65], [0.1, 0.2]], answer)


def nobody_is_empty(answer):
    _rescued("Nobody is empty: nothing changes", [0, 1, -1], [[0.9, 0.2], [0.4, 0.5], [0.6, 0.7]], answer)


def no_prior_left(answer):
    _rescued("Three objects, two priors: one stays empty", [1, -1], [[0.2, 0.9, 0.3], [0.5, 0.4, 0.6]], answer)


def a_tie(answer):
    _rescued(
        "All similarities are equal: the lower prior, then the lower object", [-1, -1], [[0.5, 0.5], [0.5, 0.5]], answer
    )


def _in_order_of_objects(gt, table, take_taken=False, only_one=False, feed_all=False):
    gt = gt.clone()
    for g in range(table.shape[1]):
        if (gt == g).any() and not feed_all:
            continue
        free = torch.ones_like(gt, dtype=torch.bool) if take_taken else gt < 0
        if free.any():
            gt[torch.where(free, table[:, g], -1.0).argmax()] = g
            if only_one:
                break
    return gt


def _no_stop(gt, table):
    gt = gt.clone()
    empty = torch.bincount(gt[gt >= 0], minlength=table.shape[1]) == 0
    for _ in range(int(empty.sum())):
        pairs = torch.where((gt < 0)[:, None] & empty, table, -1.0)
        prior, g = divmod(int(pairs.flatten().argmax()), table.shape[1])
        gt[prior], empty[g] = g, False
    return gt


def _several_each(gt, table):
    """Every free prior goes to its best empty object."""
    empty = torch.bincount(gt[gt >= 0], minlength=table.shape[1]) == 0
    best, owner = torch.where(empty, table, -1.0).max(dim=1)
    return torch.where((gt < 0) & (best >= 0), owner, gt)


EXERCISES = (
    Exercise(
        id="18.1",
        title="How much does it see?",
        difficulty=2,
        minutes=8,
        hints=(
            "Keep two numbers while you walk through the layers: field and jump. Both start at 1.",
            "For each layer first add (kernel - 1) * jump to the field. Only then change the jump.",
            "field += (kernel - 1) * jump; jump *= stride; fields.append(field).",
        ),
        tests=(two_plain_layers, a_stride_last, a_stride_first, strides_multiply, subsampling, no_layers),
        mutants={
            "the stride too early": (partial(_walk, late=True), "does not spread its own kernel"),
            "jumps added": (partial(_walk, add=True), "jumps multiply"),
            "the whole kernel": (partial(_walk, whole=True), "Two 3 x 3 layers"),
            "no jump at all": (partial(_walk, no_jump=True), "its stride counts for what follows"),
            "the last field only": (partial(_walk, last=True), "Two 3 x 3 layers"),
            "the pixel at the start is listed": (lambda layers: [1, *_walk(layers)], "Two 3 x 3 layers"),
        },
    ),
    Exercise(
        id="18.2",
        title="RFD",
        difficulty=3,
        minutes=10,
        hints=(
            "Write r for the squared ratio of the sizes, (w_e / w_g)^2. Then ln(w_g^2 / w_e^2) is -ln r.",
            "For each axis the bracket holds r + 4 (shift / gt size)^2 - ln r - 1. Sum over the two axes, halve.",
            "ratio = (size / gt_size).square(); shift = ((centers(prior) - centers(gt)) / gt_size).square(). The "
            "divergence is (ratio + 4 * shift - ratio.log() - 1).sum(-1) / 2.",
        ),
        tests=tuple(_test_of(case, *pair) for case, pair in PAIRS.items()),
        mutants={
            "prior and ground truth swapped": (lambda prior, gt: rfd(gt, prior), "A prior of 16 px"),
            "the four left out": (partial(_rfd, shift=1.0), "moved by (3, 4)"),
            "not halved": (partial(_rfd, half=1.0), "moved by (3, 4)"),
            "sign of the logarithm": (partial(_rfd, log=-1.0), "A prior of 16 px"),
            "distance over the prior's size": (partial(_rfd, by_prior=True), "of another shape"),
            "exponential": (partial(_rfd, raw=True), "moved by (3, 4)"),
            "always a table": (lambda prior, gt: rfd(prior[:, None], gt), "shape (1, 1)"),
        },
    ),
    Exercise(
        id="18.3",
        title="HLA",
        difficulty=4,
        minutes=15,
        hints=(
            "Both stages do the same with other boxes and another k. Write that once, as a function inside yours.",
            "Shrunk boxes: half = (priors.boxes[:, 2:] - priors.boxes[:, :2]) * beta / 2 around priors.centers. The "
            "k best of each column: table.argsort(dim=0, descending=True, stable=True)[:k].",
            "chosen is a mask made by scatter(0, order, True); torch.where(chosen, table, -1.0).max(dim=1) gives the "
            "best bidder of each prior. At the end torch.where(first >= 0, first, second).",
        ),
        tests=(
            an_object_of_twelve,
            between_two_levels,
            another_k,
            another_beta,
            two_that_compete,
            twins,
            one_takes_what_another_wants,
            another_similarity,
            nothing_there,
        ),
        mutants={
            "stage one only": (partial(_hla, stages=1), "stage two adds a prior"),
            "k in stage two as well": (partial(_hla, second_k=3), "30 px"),
            "stage two overrides": (partial(_hla, second_wins=True), "stays that object's"),
            "the last object wins": (partial(_hla, last=True), "want the same priors"),
            "enlarged instead of shrunk": (_enlarged, "30 px"),
            "shrunk about the corner": (partial(_hla, corner=True), "px"),
            "beta built in": (_fixed_beta, "beta = 0.5"),
            "rfd built in": (_fixed_similarity, "similarity = nwd"),
            "the last of equals": (_last_of_equals, "The same box twice"),
            "no guard for no objects": (partial(_hla, guard=False), "max()"),
        },
    ),
    Exercise(
        id="18.4",
        title="The rescue",
        difficulty=3,
        minutes=12,
        hints=(
            "Which objects are empty? torch.bincount(gt[gt >= 0], minlength=G) counts the positives of each.",
            "A pair is open if its prior is free and its object is empty. Put -1 at the others, and take the largest.",
            "In a loop while any object is empty and any prior is free: int(open_pairs.flatten().argmax()), then "
            "divmod(that, G) gives prior and object. Set gt[prior] = g and empty[g] = False.",
        ),
        tests=(one_is_empty, its_best_is_taken, two_want_one, nobody_is_empty, no_prior_left, a_tie),
        mutants={
            "objects in their order": (_in_order_of_objects, "the most similar pair goes first"),
            "priors are taken away": (partial(_in_order_of_objects, take_taken=True), "stays taken"),
            "one object only": (partial(_in_order_of_objects, only_one=True), "the most similar pair goes first"),
            "everybody gets one more": (partial(_in_order_of_objects, feed_all=True), "Object 1 has nothing"),
            "all free priors given away": (_several_each, "Object 1 has nothing"),
            "no end when priors run out": (_no_stop, "one stays empty"),
            "nothing done": (lambda gt, table: gt.clone(), "Object 1 has nothing"),
        },
    ),
)
