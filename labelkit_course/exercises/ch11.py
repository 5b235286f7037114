"""The exercises of chapter 11: who is positive, the paper's label and weight, the code's, the soft focal loss."""

import torch
from torch.nn.functional import softplus

from labelkit import NEGATIVE, Assignment, Priors, plot
from labelkit.losses import focal_loss
from labelkit.similarity import iou
from labelkit_course import Exercise, compare

# --- 11.1 -----------------------------------------------------------------------------------------------------------


def _owners(boxes, gts, n):
    """The definition with nothing but lists: n best of each object, each to its own best object."""
    table = [[iou(prior, gt).item() for gt in gts] for prior in boxes]
    listed = set()
    for g in range(len(gts)):
        order = sorted(range(len(boxes)), key=lambda p: -table[p][g])
        listed |= {p for p in order[:n] if table[p][g] > 0}
    return torch.tensor([table[p].index(max(table[p])) if p in listed else NEGATIVE for p in range(len(boxes))])


def _positives(case, boxes, gts, n, answer):
    boxes, gts = torch.tensor(boxes).reshape(-1, 4), torch.tensor(gts).reshape(-1, 4)
    priors, want = Priors.from_boxes(boxes), _owners(boxes, gts, n)
    got = answer(priors, gts, n)
    compare(
        case, {"priors.boxes": boxes, "gt_boxes": gts, "n": n}, got, want, draw=lambda: _two(priors, gts, got, want)
    )


def _two(priors, gts, got, want):
    """The two answers side by side; a label that is none is drawn as background."""
    figure, axes = plot.figure(2)
    edge = int(max(priors.boxes.max(), gts.max() if len(gts) else 0)) + 4
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        gt, zeros = torch.where(gt < len(gts), gt, NEGATIVE), torch.zeros(len(gt))
        plot.scene(ax, (edge, edge), gts, title=title)
        plot.assignment(ax, priors, Assignment(gt, zeros, zeros, zeros), gts)
    plot.legend(axes[0], "gt", "positive", "negative")
    return figure


ROW = [[float(4 * i), 4.0, float(4 * i + 12), 16.0] for i in range(8)]


def the_two_best(answer):
    _positives("The two best of one object", ROW, [[10.0, 4.0, 21.0, 16.0]], 2, answer)


def no_threshold(answer):
    _positives("Poor anchors count too: no IoU is asked for but above 0", ROW, [[13.0, 14.0, 20.0, 22.0]], 3, answer)


def each_object_its_own(answer):
    _positives(
        "Two objects far apart: n for each of them", ROW, [[1.0, 4.0, 13.0, 16.0], [27.0, 6.0, 37.0, 16.0]], 2, answer
    )


def equal_overlaps(answer):
    _positives("Equal IoUs: the lower index first", [[0.0, 0.0, 8.0, 8.0]] * 20, [[2.0, 0.0, 10.0, 8.0]], 3, answer)


def two_want_one(answer):
    _positives(
        "Two objects list the same anchor: it goes to the one that it overlaps more",
        [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]],
        [[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 4.0]],
        1,
        answer,
    )


def owned_by_another(answer):
    _positives(
        "Listed by the small object, but it overlaps the large one more",
        [[20.0, 20.0, 60.0, 60.0], [24.0, 24.0, 60.0, 60.0]],
        [[36.0, 36.0, 52.0, 52.0], [20.0, 20.0, 60.0, 60.0]],
        1,
        answer,
    )


def no_overlap(answer):
    _positives(
        "An anchor of IoU 0 is never listed", [*ROW[:2], [60.0, 4.0, 72.0, 16.0]], [[1.0, 4.0, 13.0, 16.0]], 3, answer
    )


def more_than_there_are(answer):
    _positives("n is larger than the number of anchors", ROW[:3], [[4.0, 2.0, 18.0, 16.0]], 30, answer)


def twins(answer):
    _positives("The same box twice: the lower index gets all", ROW, [[10.0, 4.0, 21.0, 16.0]] * 2, 3, answer)


def no_objects(answer):
    _positives("An image without objects: all anchors are negative", ROW, [], 9, answer)


def _wrong_positives(floor=0.0, inclusive=False, owner="best", together=False, last=False, none_left_out=False):
    """The rule with one thing changed."""

    def answer(priors, gt_boxes, n=9):
        gt = torch.full((len(priors),), NEGATIVE)
        value = iou(priors.boxes[:, None], gt_boxes)
        bid = torch.full((len(priors),), -1.0)
        columns = [value.amax(dim=1)] if together and len(gt_boxes) else list(value.T)
        for g, column in enumerate(columns):
            best = column.argsort(descending=True, stable=True)[:n]
            if last:
                best = len(column) - 1 - column.flip(0).argsort(descending=True, stable=True)[:n]
            if not none_left_out:
                best = best[(column[best] >= floor) if inclusive else (column[best] > floor)]
            if owner == "best":
                gt[best] = value[best].argmax(dim=1)
            elif owner == "last":
                gt[best] = g
            else:
                wins = best[column[best] > bid[best]]
                gt[wins], bid[wins] = g, column[wins]
        return gt

    return answer


# --- 11.2 and 11.3 --------------------------------------------------------------------------------------------------


def _two_lists(case, loc, cls, want, answer, **arguments):
    loc, cls = torch.tensor(loc), torch.tensor(cls)
    got = answer(loc, cls, **arguments)
    compare(case, {"loc": loc, "cls": cls} | arguments, got, tuple(torch.tensor(w) for w in want), atol=1e-4)


def _steep(x):
    return 1 / (1 - min(x, 1 - 1e-6))


def _paper(case, loc, cls, answer, alpha=0.75, gamma=1.0):
    label = [alpha * a + (1 - alpha) * b for a, b in zip(loc, cls, strict=True)]
    weight = [(alpha * _steep(a) + (1 - alpha) * _steep(b)) ** gamma for a, b in zip(loc, cls, strict=True)]
    _two_lists(case, loc, cls, (label, weight), answer, alpha=alpha, gamma=gamma)


def found_and_recognised(answer):
    _paper("Three anchors: both, one, none", [0.9, 0.75, 0.2], [0.8, 0.1, 0.1], answer)


def other_alpha(answer):
    _paper("alpha is 0.5", [0.9, 0.4], [0.2, 0.6], answer, alpha=0.5)


def a_gamma(answer):
    _paper(
        "gamma is 2: the power is taken of the whole sum, and of the weight alone",
        [0.75, 0.5],
        [0.5, 0.0],
        answer,
        gamma=2.0,
    )


def a_perfect_box(answer):
    case = "A perfect box: loc = 1 gives the label 1, and a weight that is large and finite"
    loc, cls = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.5])
    label, weight = answer(loc, cls)
    compare(case, {"loc": loc, "cls": cls}, label, loc)
    steps = torch.tensor([True, True, True])
    inside = torch.stack([weight[0].isfinite(), weight[0] > 5e5, weight[0] < 2e6])
    compare(f"{case} (about 10 to the power 6)", {"loc": loc, "cls": cls}, inside, steps)


def no_positives(answer):
    loc = torch.zeros(0)
    compare("An image without positives", {"loc": loc, "cls": loc}, answer(loc, loc), (loc, loc))


def _official(case, loc, cls, answer, alpha=0.75):
    n = len(loc)
    means = [max(sum(x) / n, 1e-6) for x in (loc, cls)]
    s = [alpha * a / means[0] + (1 - alpha) * b / means[1] for a, b in zip(loc, cls, strict=True)]
    m, low, high = sum(loc) / n, min(s), max(s)
    label = [m + (x - low) * (1 - m) / (high - low) if high > low else 1.0 for x in s]
    steep = [[_steep(x) for x in xs] for xs in (loc, cls)]
    weight = [alpha * a * n / sum(steep[0]) + (1 - alpha) * b * n / sum(steep[1]) for a, b in zip(*steep, strict=True)]
    _two_lists(case, loc, cls, (label, weight), answer, alpha=alpha)


def three_anchors(answer):
    _official("Three anchors: the worst gets mean loc, the best gets 1", [0.5, 0.75, 0.25], [0.3, 0.3, 0.3], answer)


def scores_matter(answer):
    _official("A tiny score counts by its share of the mean score", [0.6, 0.5, 0.7], [0.01, 0.03, 0.005], answer)


def code_alpha(answer):
    _official("alpha is 0.5", [0.6, 0.5, 0.8], [0.9, 0.3, 0.1], answer, alpha=0.5)


def weights_of_mean_one(answer):
    loc, cls = torch.tensor([0.9, 0.5, 0.3, 0.0]), torch.tensor([0.5, 0.8, 0.1, 0.0])
    compare("The weights have mean 1", {"loc": loc, "cls": cls}, answer(loc, cls)[1].mean(), torch.tensor(1.0))


def one_positive(answer):
    _official("A single positive: label 1 and weight 1", [0.3], [0.1], answer)


def all_alike(answer):
    _official("All positives are alike: every label is 1", [0.5, 0.5], [0.25, 0.25], answer)


def no_score_at_all(answer):
    _official("All scores are 0", [0.5, 0.8], [0.0, 0.0], answer)


def nothing_found(answer):
    _official("All boxes miss: loc is 0, the scores still order them", [0.0, 0.0, 0.0], [0.2, 0.4, 0.3], answer)


def a_perfect_one_among_others(answer):
    _official(
        "A perfect box among others: its weight is nearly all, and finite", [1.0, 0.5, 0.5], [0.5, 0.25, 0.75], answer
    )


def _wrong_official(cut=1 - 1e-6, tiny=1e-6, empty=True, equal=1.0, shares=True, floor="mean", normal=True):
    """The code's form with one thing changed; `equal` is the label where all are alike (None: 0 / 0)."""

    def answer(loc, cls, alpha=0.75):
        if empty and not len(loc):
            return loc, cls
        a, b = (x / x.mean().clamp(min=tiny) if shares else x for x in (loc, cls))
        f, g = (1 / (1 - x.clamp(max=cut)) for x in (loc, cls))
        f, g = (f / f.mean(), g / g.mean()) if normal else (f, g)
        s, m = alpha * a + (1 - alpha) * b, loc.mean() if floor == "mean" else loc.min() if floor == "min" else 0.0
        weight = alpha * f + (1 - alpha) * g
        if equal is not None and s.max() == s.min():
            return torch.full_like(s, equal), weight
        return m + (s - s.min()) * (1 - m) / (s.max() - s.min()), weight

    return answer


def _raw_paper(loc, cls, alpha=0.75, gamma=1.0, cut=1 - 1e-6):
    f, g = (1 / (1 - x.clamp(max=cut)) for x in (loc, cls))
    return alpha * loc + (1 - alpha) * cls, (alpha * f + (1 - alpha) * g) ** gamma


# --- 11.4 -----------------------------------------------------------------------------------------------------------


def _focal(case, logits, targets, answer, alpha=0.5, gamma=2.0):
    logits, targets = torch.tensor(logits), torch.tensor(targets)
    inputs = {"logits": logits, "targets": targets, "alpha": alpha, "gamma": gamma}
    compare(case, inputs, answer(logits, targets, alpha, gamma), focal_loss(logits, targets, alpha, gamma))


def hard_labels(answer):
    _focal("Labels 1 and 0: the focal loss of chapter 4", [1.0, -2.0], [1.0, 0.0], answer)


def soft_labels(answer):
    _focal("Soft labels: the two halves are blended", [1.0, -2.0, 0.5], [0.75, 0.4, 0.1], answer)


def other_constants(answer):
    _focal("alpha is 0.25 and gamma is 1", [0.5, -1.0], [0.75, 0.25], answer, alpha=0.25, gamma=1.0)


def a_matrix(answer):
    _focal(
        "A table of anchors and classes: one value for each element",
        [[1.0, -1.0], [2.0, 0.0]],
        [[0.5, 0.0], [0.0, 0.9]],
        answer,
    )


def extreme_logits(answer):
    _focal("Logits of 200 and -200", [200.0, -200.0], [0.25, 0.75], answer)


def nothing_to_lose(answer):
    none = torch.zeros(0, 3)
    compare("No anchors", {"logits": none, "targets": none}, answer(none, none, 0.5, 2.0), none)


def _blended_inside(logits, targets, alpha=0.5, gamma=2.0):
    p = logits.sigmoid()
    entropy = targets * softplus(-logits) + (1 - targets) * softplus(logits)
    alike = p * targets + (1 - p) * (1 - targets)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * (1 - alike) ** gamma * entropy


def _wrong_focal(up=lambda p, g: (1 - p) ** g, down=lambda p, g: p**g, halves=lambda a: (a, 1 - a), soft=lambda t: t):
    def answer(logits, targets, alpha=0.5, gamma=2.0):
        p, t, (a, b) = logits.sigmoid(), soft(targets), halves(alpha)
        return t * a * up(p, gamma) * softplus(-logits) + (1 - t) * b * down(p, gamma) * softplus(logits)

    return answer


def _logarithms(logits, targets, alpha=0.5, gamma=2.0):
    p = logits.sigmoid()
    up, down = -alpha * (1 - p) ** gamma * p.log(), -(1 - alpha) * p**gamma * (1 - p).log()
    return targets * up + (1 - targets) * down


EXERCISES = (
    Exercise(
        id="11.1",
        title="The n best, each to its own",
        difficulty=2,
        minutes=10,
        hints=(
            "One table: iou(priors.boxes[:, None], gt_boxes) is [P, G]. A column is an object, a row an anchor.",
            "For each column: argsort(descending=True, stable=True)[:n] is the list. Drop what has IoU 0.",
            "The owner of a listed anchor is the argmax of its row: gt[best] = value[best].argmax(dim=1).",
        ),
        tests=(
            the_two_best,
            no_threshold,
            each_object_its_own,
            equal_overlaps,
            two_want_one,
            owned_by_another,
            no_overlap,
            more_than_there_are,
            twins,
            no_objects,
        ),
        mutants={
            "a threshold of 0.3": (_wrong_positives(floor=0.3), "Poor anchors count too"),
            "n in all": (_wrong_positives(together=True), "n for each of them"),
            "last of equals": (_wrong_positives(last=True), "lower index first"),
            "the later object overwrites": (_wrong_positives(owner="last"), "it overlaps more"),
            "only listers compete, as in TopK": (_wrong_positives(owner="lister"), "the large one more"),
            "IoU 0 is listed": (_wrong_positives(none_left_out=True), "IoU 0 is never listed"),
            "at least 0": (_wrong_positives(inclusive=True), "IoU 0 is never listed"),
            "topk with too large an n": (
                lambda priors, gts, n=9: (
                    iou(priors.boxes[:, None], gts).topk(n, dim=0).indices
                    if n > len(priors)
                    else _wrong_positives()(priors, gts, n)
                ),
                "out of range",
            ),
            "argmax over no objects": (
                lambda priors, gts, n=9: (
                    iou(priors.boxes[:, None], gts).argmax(dim=1)
                    if not len(gts)
                    else _wrong_positives()(priors, gts, n)
                ),
                "argmax",
            ),
        },
    ),
    Exercise(
        id="11.2",
        title="Label and weight of the paper",
        difficulty=1,
        minutes=8,
        hints=(
            "The label is a line: alpha times loc plus (1 - alpha) times cls.",
            "f(x) = 1 / (1 - x.clamp(max=1 - 1e-6)). The clamp belongs into f only.",
            "weight = (alpha * f(loc) + (1 - alpha) * f(cls)) ** gamma, and return label, weight.",
        ),
        tests=(found_and_recognised, other_alpha, a_gamma, a_perfect_box, no_positives),
        mutants={
            "a product, as in TOOD": (
                lambda loc, cls, alpha=0.75, gamma=1.0: (
                    loc**alpha * cls ** (1 - alpha),
                    _raw_paper(loc, cls, alpha, gamma)[1],
                ),
                "Three anchors",
            ),
            "alpha on the score": (
                lambda loc, cls, alpha=0.75, gamma=1.0: _raw_paper(cls, loc, alpha, gamma),
                "Three anchors",
            ),
            "alpha fixed": (lambda loc, cls, alpha=0.75, gamma=1.0: _raw_paper(loc, cls, 0.75, gamma), "alpha is 0.5"),
            "f of the label": (
                lambda loc, cls, alpha=0.75, gamma=1.0: (
                    alpha * loc + (1 - alpha) * cls,
                    (1 / (1 - alpha * loc - (1 - alpha) * cls)) ** gamma,
                ),
                "Three anchors",
            ),
            "gamma left out": (lambda loc, cls, alpha=0.75, gamma=1.0: _raw_paper(loc, cls, alpha), "gamma is 2"),
            "gamma on each term": (
                lambda loc, cls, alpha=0.75, gamma=1.0: (
                    alpha * loc + (1 - alpha) * cls,
                    alpha * (1 - loc.clamp(max=1 - 1e-6)) ** -gamma
                    + (1 - alpha) * (1 - cls.clamp(max=1 - 1e-6)) ** -gamma,
                ),
                "gamma is 2",
            ),
            "no clamp": (lambda loc, cls, alpha=0.75, gamma=1.0: _raw_paper(loc, cls, alpha, gamma, 2.0), "finite"),
            "clamped too far": (
                lambda loc, cls, alpha=0.75, gamma=1.0: _raw_paper(loc, cls, alpha, gamma, 0.99),
                "finite",
            ),
        },
    ),
    Exercise(
        id="11.3",
        title="Label and weight of the code",
        difficulty=3,
        minutes=15,
        hints=(
            "Three parts: the shares (loc and cls by their means), the stretch of s, the weight (f by its means).",
            "x / x.mean().clamp(min=1e-6) is a share. Then s = alpha * loc_share + (1 - alpha) * cls_share.",
            "m = loc.mean(); m + (s - s.min()) * (1 - m) / (s.max() - s.min()), but ones where s.max() == s.min(). "
            "Return two empty tensors before all that if len(loc) is 0.",
        ),
        tests=(
            three_anchors,
            scores_matter,
            code_alpha,
            weights_of_mean_one,
            one_positive,
            all_alike,
            no_score_at_all,
            nothing_found,
            a_perfect_one_among_others,
            no_positives,
        ),
        mutants={
            "the paper's form": (lambda loc, cls, alpha=0.75: _raw_paper(loc, cls, alpha), "Three anchors"),
            "stretched to [0, 1]": (_wrong_official(floor="zero"), "the worst gets mean loc"),
            "stretched from the lowest loc": (_wrong_official(floor="min"), "the worst gets mean loc"),
            "not divided by the means": (_wrong_official(shares=False), "share of the mean score"),
            "weights not normalised": (_wrong_official(normal=False), "Three anchors"),
            "0 / 0": (_wrong_official(equal=None), "A single positive"),
            "alike means mean loc": (
                lambda loc, cls, alpha=0.75: (
                    _wrong_official(equal=loc.mean().item())(loc, cls, alpha) if len(loc) else (loc, cls)
                ),
                "A single positive",
            ),
            "no smallest mean": (_wrong_official(tiny=0.0), "All scores are 0"),
            "no clamp": (_wrong_official(cut=2.0), "A perfect box among others"),
            "no empty image": (_wrong_official(empty=False), "numel() == 0"),
        },
    ),
    Exercise(
        id="11.4",
        title="Focal loss for soft labels",
        difficulty=2,
        minutes=10,
        hints=(
            "Write the loss of a positive and the loss of a negative, each as if the label were 1 or 0, then blend.",
            "With logits z and p = z.sigmoid(), positive: alpha * (1 - p) ** gamma * softplus(-z); "
            "negative: (1 - alpha) * p**gamma * softplus(z).",
            "targets * positive + (1 - targets) * negative; softplus is torch.nn.functional.softplus.",
        ),
        tests=(hard_labels, soft_labels, other_constants, a_matrix, extreme_logits, nothing_to_lose),
        mutants={
            "torchvision's blend": (_blended_inside, "the two halves are blended"),
            "the label is rounded": (_wrong_focal(soft=lambda t: (t > 0.5).float()), "the two halves are blended"),
            "factors swapped": (
                _wrong_focal(up=lambda p, g: p**g, down=lambda p, g: (1 - p) ** g),
                "focal loss of chapter 4",
            ),
            "alpha on both": (_wrong_focal(halves=lambda a: (a, a)), "alpha is 0.25"),
            "alpha on the negatives": (_wrong_focal(halves=lambda a: (1 - a, a)), "alpha is 0.25"),
            "gamma is always 2": (
                _wrong_focal(up=lambda p, g: (1 - p) ** 2, down=lambda p, g: p**2),
                "gamma is 1",
            ),
            "no focal factor": (
                _wrong_focal(up=lambda p, g: 1.0, down=lambda p, g: 1.0),
                "focal loss of chapter 4",
            ),
            "summed": (lambda z, t, alpha=0.5, gamma=2.0: focal_loss(z, t, alpha, gamma).sum(), "shape"),
            "logarithm of the score": (_logarithms, "Logits of 200"),
        },
    ),
)
