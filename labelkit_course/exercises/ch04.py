"""The exercises of chapter 04: targets from labels, focal loss, the first score, who wins a contested prior."""

import math

import torch
from torch.nn.functional import logsigmoid

from labelkit import IGNORED, NEGATIVE, plot
from labelkit.losses import focal_loss
from labelkit_course import Exercise, Wrong, compare

# --- 04.1 -----------------------------------------------------------------------------------------------------------


def _targets(case, gt, labels, num_classes, answer):
    gt, labels = torch.tensor(gt, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64)
    want = torch.zeros(len(gt), num_classes)
    for prior, index in enumerate(gt.tolist()):
        if index >= 0:
            want[prior, labels[index]] = 1
    inputs = {"gt": gt, "labels": labels, "num_classes": num_classes}
    compare(case, inputs, answer(gt, labels, num_classes), (want, gt != IGNORED))


def two_positives(answer):
    _targets("Two positives of two objects", [0, 1], [2, 0], 3, answer)


def positives_and_background(answer):
    _targets("A negative counts and has zeros in all columns", [1, NEGATIVE, 0], [0, 2], 3, answer)


def with_ignored(answer):
    _targets("An ignored prior does not count", [0, IGNORED, NEGATIVE], [1], 2, answer)


def one_class(answer):
    _targets("One class only: its column is 0", [NEGATIVE, 0, 2], [0, 0, 0], 1, answer)


def no_objects(answer):
    _targets("An image without objects: all background", [NEGATIVE, NEGATIVE], [], 2, answer)


def no_priors(answer):
    _targets("No priors at all (torch.tensor([]) holds floats)", [], [1], 2, answer)


def _one_hot(gt, column, positive, num_classes):
    targets = torch.zeros(len(gt), num_classes)
    targets[positive, column[positive]] = 1
    return targets


def _last_label_for_background(gt, labels, num_classes):
    return _one_hot(gt, labels[gt], torch.ones_like(gt, dtype=torch.bool), num_classes), gt != IGNORED


def _crashes_without_objects(gt, labels, num_classes):
    return _one_hot(gt, labels[gt.clamp(min=0)], gt >= 0, num_classes), gt != IGNORED


def _object_for_class(gt, labels, num_classes):
    return _one_hot(gt, gt % num_classes, gt >= 0, num_classes), gt != IGNORED


def _right_targets(gt, labels, num_classes):
    positive = gt >= 0
    targets = torch.zeros(len(gt), num_classes)
    targets[positive, labels[gt[positive]]] = 1
    return targets


# --- 04.2 -----------------------------------------------------------------------------------------------------------


def _focal(case, logits, targets, answer, **options):
    logits, targets = torch.tensor(logits), torch.tensor(targets)
    want = focal_loss(logits, targets, **options)
    compare(case, {"logits": logits, "targets": targets, **options}, answer(logits, targets, **options), want)


def undecided(answer):
    _focal("A positive at p = 0.5: 0.25 x 0.25 x ln 2", [0.0], [1.0], answer)


def easy_and_hard_positives(answer):
    _focal("Positives, from hard to easy", [-2.0, 0, 2], [1.0, 1, 1], answer)


def easy_and_hard_negatives(answer):
    _focal("Negatives, from easy to hard", [-2.0, 0, 2], [0.0, 0, 0], answer)


def gamma_zero(answer):
    _focal("With gamma 0 and alpha 0.5 it is half the cross entropy", [1.0, 1], [1.0, 0], answer, alpha=0.5, gamma=0.0)


def another_gamma(answer):
    _focal("gamma 1", [0.5, -0.5], [1.0, 0], answer, gamma=1.0)


def a_table(answer):
    _focal("A table of priors and classes", [[-1.0, 1], [3, -3]], [[1.0, 0], [0, 0]], answer)


def extreme_logits(answer):
    _focal("Extreme logits give large numbers, never infinite ones", [-200.0, 200], [1.0, 0], answer)


def _focal_with(weight, factor, logs=None):
    def wrong(logits, targets, alpha=0.25, gamma=2.0):
        p = logits.sigmoid()
        p_t = torch.where(targets == 1, p, 1 - p)
        log_p_t = torch.where(targets == 1, logsigmoid(logits), logsigmoid(-logits)) if logs is None else logs(p_t)
        return -weight(targets, alpha) * factor(p_t, gamma) * log_p_t

    return wrong


def _balance(targets, alpha):
    return torch.where(targets == 1, alpha, 1 - alpha)


def _modulate(p_t, gamma):
    return (1 - p_t) ** gamma


# --- 04.3 -----------------------------------------------------------------------------------------------------------


def _bias(case, pi, answer):
    compare(case, {"pi": pi}, answer(pi), math.log(pi / (1 - pi)))


def one_half(answer):
    _bias("A first score of 0.5 needs no bias", 0.5, answer)


def one_in_a_hundred(answer):
    _bias("RetinaNet's first score, 0.01", 0.01, answer)


def nearly_sure(answer):
    _bias("A first score of 0.9 needs a bias above 0", 0.9, answer)


# --- 04.4 -----------------------------------------------------------------------------------------------------------


def _winners(case, pairs, num_priors, answer):
    prior, gt, value = (torch.tensor(column) for column in zip(*pairs, strict=True)) if pairs else _NO_PAIRS
    want = torch.full((num_priors,), NEGATIVE)
    for index, _, minus_gt in sorted((p, v, -g) for p, g, v in pairs):
        want[index] = -minus_gt
    inputs = {"prior": prior, "gt": gt, "value": value, "num_priors": num_priors}
    got = answer(prior, gt, value, num_priors)
    compare(case, inputs, got, want, draw=lambda: _wishes(pairs, got, num_priors))


_NO_PAIRS = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0)


def _wishes(pairs, got, num_priors):
    """Who wants whom, and how much; the pairs that the learner's answer keeps are thick."""
    figure, (ax,) = plot.figure(width=5.0, height=3.0)
    for prior, gt, value in pairs:
        kept = int(got[prior]) == gt
        color, width = (plot.PURPLE, 3) if kept else (plot.GREY, 1)
        ax.plot([prior, gt], [0, 1], color=color, lw=width)
        ax.text(prior + 0.3 * (gt - prior), 0.3, f"{value}", fontsize=9)
    ax.set_xticks(range(num_priors))
    ax.set_yticks([0, 1], ["prior", "object"])
    ax.set_title("thick: the pairs that your answer keeps")
    return figure


def nobody_competes(answer):
    _winners("Every prior is wanted once", [(0, 1, 0.7), (2, 0, 0.6)], 3, answer)


def nobody_wants_it(answer):
    _winners("A prior that nobody wants is NEGATIVE", [(1, 0, 0.5)], 3, answer)


def best_comes_first(answer):
    _winners("Two want prior 0, the better pair is listed first", [(0, 0, 0.8), (0, 1, 0.6)], 2, answer)


def best_comes_last(answer):
    _winners("Two want prior 1, the better pair is listed last", [(1, 0, 0.6), (1, 1, 0.8)], 2, answer)


def equal_similarities(answer):
    pairs = [(0, 1, 0.5), (0, 2, 0.5), (1, 2, 0.4), (1, 0, 0.4)]
    _winners("Equal similarities go to the lower object", pairs, 2, answer)


def similarity_zero(answer):
    _winners("A similarity of 0 is a pair too", [(0, 1, 0.0)], 1, answer)


def no_pairs(answer):
    _winners("No pairs at all", [], 2, answer)


def keeps_its_arguments(answer):
    prior, gt, value = torch.tensor([0, 0]), torch.tensor([1, 0]), torch.tensor([0.2, 0.9])
    got = answer(prior, gt, value, 1)
    if got.dtype != torch.int64:
        raise Wrong(f"The answer holds indices, so it must be int64. Yours is {got.dtype}.")


def _winners_by(key, empty=NEGATIVE):
    def wrong(prior, gt, value, num_priors):
        owner = torch.full((num_priors,), empty)
        triples = zip(prior.tolist(), gt.tolist(), value.tolist(), strict=True)
        for index, (p, g, _) in enumerate(sorted(triples, key=key) if key else triples):
            owner[p] = g if empty != -9 else index
        return owner

    return wrong


def _first_in_order(prior, gt, value, num_priors):
    return _winners_by(None)(prior.flip(0), gt.flip(0), value.flip(0), num_priors)


def _needs_more_than_zero(prior, gt, value, num_priors):
    owner, best = torch.full((num_priors,), NEGATIVE), torch.zeros(num_priors)
    for p, g, v in sorted(zip(prior.tolist(), gt.tolist(), value.tolist(), strict=True)):
        if v > best[p]:
            owner[p], best[p] = g, v
    return owner


EXERCISES = (
    Exercise(
        id="04.1",
        title="From labels to targets",
        difficulty=2,
        minutes=12,
        hints=(
            "Begin with a table of zeros, which is right for every negative. Only the rows of the positives change.",
            "positive = gt >= 0 marks them, gt[positive] are their objects, labels[gt[positive]] their classes. An "
            "ignored prior keeps its zeros, but the mask leaves it out.",
            "targets[positive, labels[gt[positive]]] = 1 writes all ones at once; the mask is gt != IGNORED.",
        ),
        tests=(two_positives, positives_and_background, with_ignored, one_class, no_objects, no_priors),
        mutants={
            "the last label for background": (_last_label_for_background, "zeros in all columns"),
            "the object's index for its class": (_object_for_class, "Two positives"),
            "ignored priors count": (
                lambda gt, labels, c: (_right_targets(gt, labels, c), torch.ones_like(gt, dtype=torch.bool)),
                "ignored prior does not count",
            ),
            "negatives do not count": (
                lambda gt, labels, c: (_right_targets(gt, labels, c), gt >= 0),
                "A negative counts",
            ),
            "a column for the background": (
                lambda gt, labels, c: (_one_hot(gt, labels[gt] + 1, gt >= 0, c + 1), gt != IGNORED),
                "shape",
            ),
            "crashes without objects": (_crashes_without_objects, "IndexError"),
            "only the table": (_right_targets, "Two positives"),
        },
    ),
    Exercise(
        id="04.2",
        title="Focal loss",
        difficulty=3,
        minutes=12,
        hints=(
            "Write the loss of a positive and the loss of a negative as two expressions, and choose with torch.where.",
            "For a positive p_t is p, so the factor is (1 - p) ** gamma. For a negative p_t is 1 - p, so the factor "
            "is p ** gamma, and the weight 1 - alpha.",
            "positive: -alpha * (1 - p) ** gamma * logsigmoid(logits); negative: "
            "-(1 - alpha) * p ** gamma * logsigmoid(-logits); torch.where(targets == 1, positive, negative).",
        ),
        tests=(
            undecided,
            easy_and_hard_positives,
            easy_and_hard_negatives,
            gamma_zero,
            another_gamma,
            a_table,
            extreme_logits,
        ),
        mutants={
            "no alpha": (_focal_with(lambda t, a: torch.ones_like(t), _modulate), "A positive at p = 0.5"),
            "alpha for both": (_focal_with(lambda t, a: a, _modulate), "Negatives"),
            "alpha on the negatives": (_focal_with(lambda t, a: _balance(1 - t, a), _modulate), "at p = 0.5"),
            "silences the hard ones": (_focal_with(_balance, lambda p, g: p**g), "Positives, from hard to easy"),
            "gamma fixed at 2": (_focal_with(_balance, lambda p, g: (1 - p) ** 2), "gamma 0"),
            "factor times gamma": (_focal_with(_balance, lambda p, g: (1 - p) * g), "A positive at p = 0.5"),
            "logarithm of the sigmoid": (_focal_with(_balance, _modulate, torch.log), "Extreme logits"),
            "mean instead of elements": (lambda *a, **k: focal_loss(*a, **k).mean(), "shape"),
        },
    ),
    Exercise(
        id="04.3",
        title="The first score",
        difficulty=1,
        minutes=4,
        hints=(
            "Take the reciprocal of both sides: 1 / pi = 1 + exp(-b).",
            "So exp(-b) = 1 / pi - 1 = (1 - pi) / pi. Now take the logarithm.",
            "b = -math.log((1 - pi) / pi).",
        ),
        tests=(one_half, one_in_a_hundred, nearly_sure),
        mutants={
            "the sign": (lambda p: math.log((1 - p) / p), "0.01"),
            "logarithm of the score": (lambda p: math.log(p), "0.5"),
            "logarithm to base 10": (lambda p: math.log10(p / (1 - p)), "0.01"),
            "the sigmoid itself": (lambda p: 1 / (1 + math.exp(-p)), "0.5"),
        },
    ),
    Exercise(
        id="04.4",
        title="Who wins?",
        difficulty=2,
        minutes=10,
        hints=(
            "Begin with all priors NEGATIVE. Then let the pairs write their object into their prior's place, one after "
            "the other. Whoever writes last stays.",
            "So sort the pairs first, the best last. On equal similarities the lower object has to come later.",
            "sorted(zip(value.tolist(), (-gt).tolist(), prior.tolist())) sorts by similarity, and among equals the "
            "lower object (whose negative is larger) comes last.",
        ),
        tests=(
            nobody_competes,
            nobody_wants_it,
            best_comes_first,
            best_comes_last,
            equal_similarities,
            similarity_zero,
            no_pairs,
            keeps_its_arguments,
        ),
        mutants={
            "the last in order wins": (_winners_by(None), "listed first"),
            "the first in order wins": (_first_in_order, "listed last"),
            "the lowest similarity wins": (_winners_by(lambda t: -t[2]), "listed first"),
            "ties to the higher object": (_winners_by(lambda t: (t[2], t[1])), "Equal similarities"),
            "nobody means object 0": (_winners_by(lambda t: (t[2], -t[1]), empty=0), "Every prior is wanted once"),
            "the pair's index for the object": (_winners_by(lambda t: (t[2], -t[1]), empty=-9), "wanted once"),
            "more than zero": (_needs_more_than_zero, "similarity of 0"),
            "floating point": (lambda *a: _winners_by(lambda t: (t[2], -t[1]))(*a).float(), "Every prior"),
        },
    ),
)
