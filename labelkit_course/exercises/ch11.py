"""The exercises of chapter 11: who is positive, the code's label in its corners, what a label asks for, the product."""

import torch

from labelkit import NEGATIVE, Assignment, Priors, plot
from labelkit.boxes import centers
from labelkit.losses import focal_loss
from labelkit.similarity import iou
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect

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
    _positives("One object and n = 2: its two best anchors are positive", ROW, [[10.0, 4.0, 21.0, 16.0]], 2, answer)


def no_threshold(answer):
    _positives(
        "Poor anchors count too, because an IoU above 0 is all that is asked for",
        ROW,
        [[13.0, 14.0, 20.0, 22.0]],
        3,
        answer,
    )


def each_object_its_own(answer):
    _positives(
        "Two objects are far apart, and each of them has its own n",
        ROW,
        [[1.0, 4.0, 13.0, 16.0], [27.0, 6.0, 37.0, 16.0]],
        2,
        answer,
    )


def equal_overlaps(answer):
    _positives(
        "Twenty anchors have equal IoUs, so the list takes the lower index first",
        [[0.0, 0.0, 8.0, 8.0]] * 20,
        [[2.0, 0.0, 10.0, 8.0]],
        3,
        answer,
    )


def a_nearer_equal(answer):
    _positives(
        "Three anchors contain the object and have the same IoU: the first is listed, although another one is nearer",
        [[0.0, 0.0, 16.0, 16.0], [2.0, 2.0, 18.0, 18.0], [4.0, 4.0, 20.0, 20.0]],
        [[8.0, 8.0, 12.0, 12.0]],
        1,
        answer,
    )


def two_want_one(answer):
    _positives(
        "Two objects list the same anchor, which belongs to the one that it overlaps more",
        [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]],
        [[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 4.0]],
        1,
        answer,
    )


def owned_by_another(answer):
    _positives(
        "An anchor is listed by the small object alone, but it overlaps the large one more",
        [[20.0, 20.0, 60.0, 60.0], [24.0, 24.0, 60.0, 60.0]],
        [[36.0, 36.0, 52.0, 52.0], [20.0, 20.0, 60.0, 60.0]],
        1,
        answer,
    )


def no_overlap(answer):
    _positives(
        "An anchor with IoU 0 is never listed, even where n is not reached",
        [*ROW[:2], [60.0, 4.0, 72.0, 16.0]],
        [[1.0, 4.0, 13.0, 16.0]],
        3,
        answer,
    )


def more_than_there_are(answer):
    _positives(
        "There are fewer anchors than n, so all of them are listed", ROW[:3], [[4.0, 2.0, 18.0, 16.0]], 30, answer
    )


def twins(answer):
    _positives(
        "Two objects have the same box, and the lower index gets all its anchors",
        ROW,
        [[10.0, 4.0, 21.0, 16.0]] * 2,
        3,
        answer,
    )


def no_objects(answer):
    _positives("An image has no objects, so all its anchors are negative", ROW, [], 9, answer)


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


def _as_topk_lists(priors, gt_boxes, n=9):
    """The lists of TopK, where the nearest of equals goes first."""
    gt, value = torch.full((len(priors),), NEGATIVE), iou(priors.boxes[:, None], gt_boxes)
    for g, column in enumerate(value.T):
        order = (priors.centers - centers(gt_boxes[g])).square().sum(dim=1).argsort(stable=True)
        best = order[column[order].argsort(descending=True, stable=True)][:n]
        best = best[column[best] > 0]
        gt[best] = value[best].argmax(dim=1)
    return gt


# --- 11.3 -----------------------------------------------------------------------------------------------------------


def _steep(x):
    return 1 / (1 - min(x, 1 - 1e-6))


def _official(case, loc, cls, answer, alpha=0.75):
    n = len(loc)
    means = [max(sum(x) / n, 1e-6) for x in (loc, cls)]
    s = [alpha * a / means[0] + (1 - alpha) * b / means[1] for a, b in zip(loc, cls, strict=True)]
    m, low, high = sum(loc) / n, min(s), max(s)
    label = [m + (x - low) * (1 - m) / (high - low) if high > low else 1.0 for x in s]
    steep = [[_steep(x) for x in xs] for xs in (loc, cls)]
    weight = [alpha * a * n / sum(steep[0]) + (1 - alpha) * b * n / sum(steep[1]) for a, b in zip(*steep, strict=True)]
    loc, cls = torch.tensor(loc), torch.tensor(cls)
    got = answer(loc, cls, alpha)
    inputs = {"loc": loc, "cls": cls, "alpha": alpha}
    compare(case, inputs, got, (torch.tensor(label), torch.tensor(weight)), atol=1e-4)


def three_anchors(answer):
    case = "Three ordinary positives: the worst gets mean loc, the best gets 1"
    _official(case, [0.5, 0.75, 0.25], [0.3, 0.3, 0.3], answer)


def scores_matter(answer):
    case = "All scores are small, and each counts by its share of their mean"
    _official(case, [0.6, 0.5, 0.7], [0.01, 0.03, 0.005], answer)


def code_alpha(answer):
    _official("alpha is 0.5, so loc and cls weigh the same", [0.6, 0.5, 0.8], [0.9, 0.3, 0.1], answer, alpha=0.5)


def one_positive(answer):
    _official("An image has a single positive, whose label and weight are 1", [0.3], [0.1], answer)


def all_alike(answer):
    _official("Two positives are alike, so that both are the best and get the label 1", [0.5] * 2, [0.25] * 2, answer)


def no_score_at_all(answer):
    _official("All scores are 0, and loc alone orders the positives", [0.5, 0.8], [0.0, 0.0], answer)


def nothing_found(answer):
    case = "All boxes miss, so that loc is 0, and the scores alone order the positives"
    _official(case, [0.0, 0.0, 0.0], [0.2, 0.4, 0.3], answer)


def tiny_scores(answer):
    case = "The mean score is a few billionths, which counts as 1e-6 and leaves the order to loc"
    _official(case, [0.5, 0.52, 0.51], [3e-9, 1e-9, 2e-9], answer)


def a_perfect_one_among_others(answer):
    case = "One box is perfect: its weight is nearly the sum of all, and still finite"
    _official(case, [1.0, 0.5, 0.5], [0.5, 0.25, 0.75], answer)


def no_positives(answer):
    loc = torch.zeros(0)
    compare("An image has no positives, so both results are empty", {"loc": loc, "cls": loc}, answer(loc, loc),
            (loc, loc))  # fmt: skip


def _mended(
    cut=1 - 1e-6, mean=lambda x: x.mean().clamp(min=1e-6), few=1, equal=1.0, floor="mean", normal=True, last=None
):
    """The code's form with one thing changed. few: with so many positives or fewer nothing is computed (0: none are).

    equal: the label where all are alike; None leaves 0 / 0. last: what is done to the results at the end."""

    def answer(loc, cls, alpha=0.75):
        if few and not len(loc):
            return loc, cls
        if len(loc) < few:
            return torch.ones_like(loc), torch.ones_like(loc)
        a, b = (x / mean(x) for x in (loc, cls))
        f, g = (1 / (1 - x.clamp(max=cut)) for x in (loc, cls))
        f, g = (f / f.mean(), g / g.mean()) if normal else (f, g)
        s, m = alpha * a + (1 - alpha) * b, loc.mean() if floor == "mean" else 0.0
        weight = alpha * f + (1 - alpha) * g
        if equal is not None and s.max() == s.min():
            return torch.full_like(s, equal), weight
        label = m + (s - s.min()) * (1 - m) / (s.max() - s.min())
        return (label, weight) if last is None else (last(label), last(weight))

    return answer


def _softened(loc, cls, alpha=0.75):
    """A small number added to every divisor: nothing is NaN, and the corners are wrong."""
    if not len(loc):
        return loc, cls
    s = alpha * loc / (loc.mean() + 1e-6) + (1 - alpha) * cls / (cls.mean() + 1e-6)
    f, g = (1 / (1 - x + 1e-6) for x in (loc, cls))
    weight = alpha * f / f.mean() + (1 - alpha) * g / g.mean()
    m = loc.mean()
    return m + (s - s.min()) * (1 - m) / (s.max() - s.min() + 1e-6), weight


def _plain_mean(x):
    return x.mean()


# --- 11.5 -----------------------------------------------------------------------------------------------------------


def _asked(label):
    """The score at which the blended focal loss of the authors' code is least."""
    scores = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    return scores[focal_loss(scores.logit(), torch.full_like(scores, label), alpha=0.5).argmin()].item()


def which_score(guess):
    expect(
        guess,
        {"label 0.6": _asked(0.6), "label 0.2": _asked(0.2)},
        within=0.03,
        clues=(
            (
                {"label 0.6": 0.6, "label 0.2": 0.2},
                "Without the factors (1 - p)^2 and p^2 you would be right. They push the score too: each half is "
                "weakest near its own answer.",
            ),
            (
                {"label 0.6": 1.0},
                "The first half alone asks for 1. The other half has 0.4 of the loss, and it pulls the score down.",
            ),
            (
                {"label 0.6": 0.5, "label 0.2": 0.5},
                "The factors pull towards the middle, but not that far: a label above one half still asks for more "
                "than a label below it.",
            ),
            (
                lambda got: got["label 0.6"] < 0.5 or got["label 0.2"] > 0.5,
                "For the label 0.5 the two halves mirror each other, so it asks for 0.5. On which side of that is a "
                "label of 0.6, and on which is 0.2?",
            ),
            (
                lambda got: got["label 0.6"] > 0.6 or got["label 0.2"] < 0.2,
                "You have moved away from the middle. Near 1 the first half is weak, because (1 - p)^2 is small there, "
                "while the second has its full strength.",
            ),
        ),
    )


def _pair(first, second):
    return {"label 0.6": first, "label 0.2": second}


# --- 11.6 -----------------------------------------------------------------------------------------------------------

MARGIN = 0.05


def _blend(loc, cls):
    return 0.75 * loc + 0.25 * cls


def _product(loc, cls):
    return loc * cls


def in_range(answer):
    form = "Your answer should be a dict with two pairs of numbers, {'a': (loc, cls), 'b': (loc, cls)}."
    if not isinstance(answer, dict) or set(answer) != {"a", "b"}:
        raise ValueError(form)
    for name, pair in answer.items():
        numbers = isinstance(pair, tuple | list) and all(isinstance(value, int | float) for value in pair)
        if not numbers or len(pair) != 2:
            raise ValueError(form)
        for what, value in zip(("loc", "cls"), pair, strict=True):
            if not 0 <= value <= 1:
                raise Wrong(f"The {what} of anchor {name} is {value}, which is outside 0 to 1.")


def they_disagree(answer):
    blend, product = ({name: of(*pair) for name, pair in answer.items()} for of in (_blend, _product))
    ahead, behind = blend["a"] - blend["b"], product["b"] - product["a"]
    values = ", ".join(f"{rank} {of['a']:.3f} for a and {of['b']:.3f} for b"
                       for rank, of in (("blend", blend), ("product", product)))  # fmt: skip
    if ahead < 0:
        raise Wrong(f"The blend prefers b ({values}), and it should prefer a.")
    if behind < -1e-6:
        raise Wrong(f"Blend and product both prefer a ({values}), so they do not disagree.")
    for name, gap in (("blend", ahead), ("product", behind)):
        if gap < MARGIN - 1e-9:
            raise Wrong(f"The {name} separates the two anchors by {gap:.3f}, and the margin asked for is 0.05 "
                        f"({values}).")  # fmt: skip


EXERCISES = (
    Exercise(
        id="11.1",
        title="The n best, each to its own",
        difficulty=2,
        minutes=10,
        hints=(
            "The table iou(priors.boxes[:, None], gt_boxes) is [P, G], with one row per anchor and one column per "
            "object.",
            "For each column, argsort(descending=True, stable=True)[:n] is the list of its object. Drop from it "
            "what has IoU 0.",
            "The owner of a listed anchor is the argmax of its row, so gt[best] = value[best].argmax(dim=1).",
        ),
        tests=(
            the_two_best,
            no_threshold,
            each_object_its_own,
            equal_overlaps,
            a_nearer_equal,
            two_want_one,
            owned_by_another,
            no_overlap,
            more_than_there_are,
            twins,
            no_objects,
        ),
        mutants={
            "a threshold of 0.3": (_wrong_positives(floor=0.3), "Poor anchors count too"),
            "n in all": (_wrong_positives(together=True), "has its own n"),
            "last of equals": (_wrong_positives(last=True), "lower index first"),
            "the nearest of equals, as in TopK": (_as_topk_lists, "another one is nearer"),
            "the later object overwrites": (_wrong_positives(owner="last"), "it overlaps more"),
            "only listers compete, as in TopK": (_wrong_positives(owner="lister"), "the large one more"),
            "IoU 0 is listed": (_wrong_positives(none_left_out=True), "with IoU 0 is never listed"),
            "at least 0": (_wrong_positives(inclusive=True), "with IoU 0 is never listed"),
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
        id="11.3",
        kind="B",
        title="Four corners of the code",
        difficulty=3,
        minutes=10,
        hints=(
            "Call the function yourself with a single positive, with scores of 0, with a loc of 1 and with empty "
            "tensors, and look at which line first gives NaN, infinity or an error. The corners have separate causes.",
            "x.clamp(min=...) keeps a mean away from 0, and x.clamp(max=...) keeps a loc away from 1 where it is put "
            "into f. A range of 0 needs a case of its own, because any label could stand there, and the rule says 1.",
            "Return loc and cls at once if len(loc) is 0. Divide by x.mean().clamp(min=1e-6), put x.clamp(max=1 - "
            "1e-6) into f, and return torch.ones_like(s) as the label if s.max() == s.min().",
        ),
        tests=(
            three_anchors,
            scores_matter,
            code_alpha,
            one_positive,
            all_alike,
            no_score_at_all,
            nothing_found,
            tiny_scores,
            a_perfect_one_among_others,
            no_positives,
        ),
        mutants={
            "given": (GIVEN, "a single positive"),
            "NaN becomes 0": (_mended(equal=None, last=lambda x: x.nan_to_num(0.0)), "a single positive"),
            "NaN becomes 1": (
                _mended(mean=_plain_mean, equal=None, last=lambda x: x.nan_to_num(1.0)),
                "All scores are 0",
            ),
            "a small number in every divisor": (_softened, "a single positive"),
            "only the single positive": (_mended(few=2, equal=None), "Two positives are alike"),
            "alike means mean loc": (
                lambda loc, cls, alpha=0.75: (
                    _mended(equal=loc.mean().item())(loc, cls, alpha) if len(loc) else (loc, cls)
                ),
                "a single positive",
            ),
            "no smallest mean": (_mended(mean=_plain_mean), "All scores are 0"),
            "a mean of 0 alone": (
                _mended(mean=lambda x: torch.where(x.mean() > 0, x.mean(), 1.0)),
                "a few billionths",
            ),
            "no clamp in f": (_mended(cut=2.0), "One box is perfect"),
            "clamped too far": (_mended(cut=0.9), "One box is perfect"),
            "no empty image": (_mended(few=0), "numel() == 0"),
            "stretched to [0, 1]": (_mended(floor="zero"), "the worst gets mean loc"),
            "weights not normalised": (_mended(normal=False), "Three ordinary positives"),
        },
    ),
    Exercise(
        id="11.5",
        kind="P",
        title="Which score does a label ask for?",
        difficulty=3,
        minutes=5,
        hints=(
            "Suppose for a moment that the score were equal to the label, 0.6. Which of the two halves is held back "
            "more by its factor there?",
        ),
        tests=(which_score,),
        mutants={
            "the label itself": (_pair(0.6, 0.2), "They push the score too"),
            "all the way up": (_pair(1.0, 0.0), "pulls the score down"),
            "the middle": (_pair(0.5, 0.5), "not that far"),
            "the wrong side": (_pair(0.42, 0.63), "On which side"),
            "away from the middle": (_pair(0.72, 0.05), "moved away from the middle"),
            "the second is the label": (_pair(0.54, 0.2), "“label 0.2” is too small"),
        },
    ),
    Exercise(
        id="11.6",
        kind="C",
        title="Blend or product?",
        difficulty=3,
        minutes=6,
        hints=(
            "Ask of each formula what one factor of 0 does to it.",
            "The blend forgives a low score if the box is good. The product forgives nothing: it is high only if both "
            "numbers are.",
        ),
        tests=(in_range, they_disagree),
        also_right=(
            {"a": (1.0, 0.0), "b": (0.5, 0.5)},
            {"a": [0.8, 0.2], "b": [0.5, 0.6]},
        ),
        mutants={
            "better in both": ({"a": (0.9, 0.9), "b": (0.5, 0.5)}, "both prefer a"),
            "the same twice": ({"a": (0.7, 0.7), "b": (0.7, 0.7)}, "margin"),
            "level under the product": ({"a": (0.9, 0.1), "b": (0.3, 0.3)}, "product separates"),
            "reversed": ({"a": (0.6, 0.6), "b": (0.9, 0.1)}, "blend prefers b"),
            "too large": ({"a": (1.2, 0.1), "b": (0.6, 0.6)}, "outside 0 to 1"),
            "in percent": ({"a": (0.9, 0.1), "b": (0.6, 60)}, "outside 0 to 1"),
            "a close call of the product": ({"a": (0.9, 0.1), "b": (0.6, 0.2)}, "product separates"),
            "a close call of the blend": ({"a": (0.8, 0.2), "b": (0.6, 0.7)}, "blend separates"),
            "three numbers": ({"a": (0.9, 0.1, 0.5), "b": (0.6, 0.6)}, "two pairs of numbers"),
        },
    ),
)
