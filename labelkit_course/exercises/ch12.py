"""The exercises of chapter 12: quality focal, the last bin, what four losses ask for, where quality enters."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from labelkit import plot
from labelkit.losses import focal_loss, mal_loss, quality_focal_loss, varifocal_loss
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect

# --- 12.1 -----------------------------------------------------------------------------------------------------------


def _quality(case, logits, targets, answer, beta=2):
    logits, targets = torch.tensor(logits), torch.tensor(targets)
    inputs = {"logits": logits, "targets": targets, "beta": beta}
    compare(case, inputs, answer(logits, targets, beta), quality_focal_loss(logits, targets, beta))


def a_quality(answer):
    for logit in (-2.0, 0.0, 1.0):
        _quality("One score and the target 0.6", [logit], [0.6], answer)


def each_for_itself(answer):
    case = "Of two places each has its own loss: no mean goes into it"
    _quality(case, [-2.0, 2.0], [0.6, 0.6], answer)


def hard_targets(answer):
    for logit, target in ((1.0, 1.0), (1.0, 0.0), (-2.0, 0.0)):
        _quality("A target of 1 or 0 gives the focal loss without alpha", [logit], [target], answer)


def score_meets_target(answer):
    logits = torch.tensor([0.25, 0.5, 0.9]).logit().tolist()
    _quality("Each score meets its target, so nothing is left to learn", logits, [0.25, 0.5, 0.9], answer)


def score_above_target(answer):
    _quality("One score above its target and one below, with beta 1", [1.0, -1.0], [0.3, 0.3], answer, beta=1)


def other_beta(answer):
    _quality("beta is 3", [1.0, -0.5], [0.3, 0.7], answer, beta=3)


def a_table(answer):
    logits, targets = [[0.5, -1.0, 2.0], [0.0, 1.0, -2.0]], [[0.7, 0.0, 0.0], [0.0, 0.0, 0.2]]
    _quality("A table of places and classes: one value for each element", logits, targets, answer)


def extreme_logits(answer):
    _quality("A logit of 200 and one of -200", [200.0, -200.0], [0.25, 0.75], answer)


def the_gradient(answer):
    logits, targets = torch.tensor([1.0, -1.0], requires_grad=True), torch.tensor([0.3, 0.8])
    got, want = (
        torch.autograd.grad(loss(logits, targets, 2).sum(), logits)[0] for loss in (answer, quality_focal_loss)
    )
    inputs = {"logits": logits.detach(), "targets": targets, "beta": 2}
    compare("The gradient with respect to the logits goes through both factors", inputs, got, want)


def no_elements(answer):
    none = torch.zeros(0, 3)
    compare("No places", {"logits": none, "targets": none}, answer(none, none, 2), none)


def _wrong_quality(
    distance=lambda p, t: (t - p).abs(),
    entropy=lambda z, t: t * softplus(-z) + (1 - t) * softplus(z),
    power=lambda beta: beta,
    reduce=lambda values: values,
):
    return lambda z, t, beta=2: reduce(distance(z.sigmoid(), t) ** power(beta) * entropy(z, t))


def _logarithms(z, t):
    return -t * z.sigmoid().log() - (1 - t) * (1 - z.sigmoid()).log()


# --- 12.2 -----------------------------------------------------------------------------------------------------------


def _bins(case, y, n, answer):
    y = torch.tensor(y)
    want = torch.zeros(len(y), n)
    for row, distance in enumerate(y.clamp(max=n - 1).tolist()):
        for index in range(n):
            want[row, index] = max(0.0, 1 - abs(distance - index))
    try:
        got = answer(y, n)
    except IndexError:
        raise Wrong(
            f"{case}.\n    y = {y.tolist()}\n    n = {n}\nYour code asks for bin n, and the bins end at n - 1."
        ) from None
    compare(case, {"y": y, "n": n}, got, want, draw=lambda: _bars(got, want, y))


def _bars(got, want, y):
    """The first row that is wrong, yours beside the right one."""
    row = int((got - want).abs().sum(dim=1).argmax())
    figure, axes = plot.figure(2, height=3.0)
    for ax, weights, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        ax.bar(range(weights.shape[1]), weights[row].tolist(), color=plot.PURPLE)
        ax.axvline(float(y[row]), color=plot.INK, lw=1.5)
        ax.set(title=f"{title}, y = {float(y[row]):g}", xlabel="bin", ylim=(0, 1.05))
    return figure


def between_two(answer):
    _bins("A distance of 3.7 lies between two bins", [3.7], 17, answer)


def nothing_at_all(answer):
    _bins("y = 0 is a distance too, and its weights add up to 1", [0.0], 17, answer)


def whole_numbers(answer):
    _bins("Whole numbers", [1.0, 7.0, 12.0], 17, answer)


def near_the_end(answer):
    _bins("A distance of 14.5 with 16 bins: the last bin takes its share", [14.5], 16, answer)


def the_end(answer):
    _bins("A distance of exactly n - 1", [15.0], 16, answer)


def beyond_the_end(answer):
    _bins("Distances beyond the last bin count as n - 1", [15.4, 16.0, 40.0], 16, answer)


def many_at_once(answer):
    _bins("Six distances at once, with 5 bins", [0.25, 4.0, 2.0, 3.5, 9.0, 0.0], 5, answer)


def no_distances(answer):
    compare("No distances", {"y": torch.zeros(0), "n": 17}, answer(torch.zeros(0), 17), torch.zeros(0, 17))


def _filled(y, n, left, right, at_left, at_right):
    weights, row = torch.zeros(len(y), n), torch.arange(len(y))
    weights[row, left] += at_left
    weights[row, right] += at_right
    return weights


def _beyond(y, n):
    y = y.clamp(0, n - 1)
    left = y.floor().long()
    return _filled(y, n, left, left + 1, left + 1 - y, y - left)


def _index_clamped(y, n):
    y = y.clamp(0, n - 1)
    left = y.floor().long()
    right = (left + 1).clamp(max=n - 1)
    return _filled(y, n, left, right, right - y, y - left)


def _rounded(y, n):
    left = y.clamp(0, n - 1).round().long().clamp(max=n - 2)
    return _filled(y, n, left, left + 1, torch.ones(len(y)), torch.zeros(len(y)))


def _cut_short(y, n, end=2):
    y = y.clamp(0, n - end)
    left = y.floor().long().clamp(max=n - 2)
    return _filled(y, n, left, left + 1, left + 1 - y, y - left)


def _only_zero(y, n):
    """Cures the one whole number that the first message shows."""
    y = y.clamp(0, n - 1)
    left, right = y.floor().long(), y.ceil().long()
    weights = _filled(y, n, left, right, right - y, y - left)
    weights[y == 0, 0] = 1
    return weights


def _swapped(y, n):
    y = y.clamp(0, n - 1)
    left = y.floor().long().clamp(max=n - 2)
    return _filled(y, n, left, left + 1, y - left, left + 1 - y)


def _not_clamped(y, n):
    left = y.floor().long().clamp(max=n - 2)
    return _filled(y, n, left, left + 1, left + 1 - y, y - left)


# --- 12.3 -----------------------------------------------------------------------------------------------------------

FOUR: dict[str, Callable] = {
    "quality focal": quality_focal_loss,
    "varifocal": varifocal_loss,
    "MAL": mal_loss,
    "hard focal": lambda logits, q: focal_loss(logits, torch.ones_like(q)),
}


def four_minima(guess):
    score = torch.linspace(0.0005, 0.9995, 1999, dtype=torch.float64)
    quality = torch.full_like(score, 0.6)
    least = {name: score[loss(score.logit(), quality).argmin()].item() for name, loss in FOUR.items()}
    expect(
        guess,
        least,
        within=0.02,
        clues=(
            (lambda got: max(got.values()) > 1, "A score is a number from 0 to 1."),
            ({"MAL": 0.6}, "MAL does not aim at q: its label is q^1.5, which lies elsewhere."),
            ({"MAL": 0.36}, "MAL's exponent is 1.5. You have squared q."),
            ({"varifocal": 0.36}, "In the varifocal loss q stands twice, but as a weight q does not aim. What does?"),
            ({"varifocal": 1.0}, "The varifocal loss has a soft label. Which one?"),
            ({"hard focal": 0.6}, "The hard focal loss never saw q. Its label for a positive is RetinaNet's."),
            ({"quality focal": 1.0}, "In the quality focal loss the IoU stands where RetinaNet has its label."),
            ({"quality focal": 0.36}, "The exponent 2 of the quality focal loss is on |q - p|, not on q."),
            ({"varifocal": 0.0}, "The varifocal loss has a small weight here, but a weight moves no minimum."),
            (lambda got: got["MAL"] > 0.6, "MAL's label is a power above 1 of a number below 1, so it is below q."),
            (lambda got: got["hard focal"] < 0.9, "To the hard focal loss a positive is a positive, whatever its IoU."),
            (
                lambda got: any(abs(got[name] - 0.6) > 0.02 for name in ("quality focal", "varifocal")),
                "A cross entropy with a soft label is least where the score equals the label.",
            ),
        ),
    )


# --- 12.4 -----------------------------------------------------------------------------------------------------------

PLACES = ("target", "weight", "test score")
ENTERS = {
    "centre-ness": {"weight", "test score"},
    "quality focal": {"target"},
    "varifocal": {"target", "weight"},
    "noisy anchors": {"target", "weight"},
}
FACTOR = "The factor |q - p|² is not the label's alone: it depends on the score that is being taught."
NO_LABEL = "FCOS leaves the label of the class score at 1."


def the_places(answer):
    expect(
        answer,
        ENTERS,
        among=PLACES,
        clues=(
            (
                {"centre-ness": {"test score"}},
                "Centre-ness is not only in the score: FCOS's code weighs the box loss too.",
            ),
            ({"centre-ness": {"weight"}}, "What does FCOS do with centre-ness when it detects?"),
            ({"centre-ness": lambda places: "target" in places}, NO_LABEL),
            ({"quality focal": lambda places: "weight" in places}, FACTOR),
            (
                {"quality focal": lambda places: "test score" in places},
                "The quality focal loss leaves detecting alone.",
            ),
            ({"varifocal": {"target"}}, "In the varifocal loss q stands twice."),
            ({"varifocal": {"weight"}}, "The varifocal loss weighs a cross entropy. Towards which number?"),
            ({"varifocal": lambda places: "test score" in places}, "The varifocal loss leaves detecting alone."),
            ({"noisy anchors": {"target"}}, "Chapter 11 has a second formula, with the steep function f."),
            ({"noisy anchors": {"weight"}}, "Chapter 11: what takes the place of the 1 as the label of a positive?"),
            ({"noisy anchors": lambda places: "test score" in places}, "Cleanliness is computed in training only."),
        ),
    )


def _places(**changed):
    return ENTERS | {name.replace("_", " "): places for name, places in changed.items()}


EXERCISES = (
    Exercise(
        id="12.1",
        title="Quality focal",
        difficulty=2,
        minutes=10,
        hints=(
            "There are two factors: how far the score is from the target, and the cross entropy of the two.",
            "The score is logits.sigmoid(). The distance needs .abs(), because the score may lie above the target.",
            "entropy = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits), times the distance ** beta.",
        ),
        tests=(
            hard_targets,
            a_quality,
            each_for_itself,
            score_meets_target,
            score_above_target,
            other_beta,
            a_table,
            extreme_logits,
            the_gradient,
            no_elements,
        ),
        mutants={
            "no absolute value": (_wrong_quality(distance=lambda p, t: t - p), "above its target"),
            "hard cross entropy": (
                _wrong_quality(entropy=lambda z, t: torch.where(t > 0, softplus(-z), softplus(z))),
                "target 0.6",
            ),
            "the target rounded": (
                lambda z, t, beta=2: quality_focal_loss(z, t.round(), beta),
                "target 0.6",
            ),
            "logarithm of the sigmoid": (_wrong_quality(entropy=_logarithms), "logit of 200"),
            "mean": (_wrong_quality(reduce=lambda values: values.mean()), "shape"),
            "the entropy's mean": (
                _wrong_quality(entropy=lambda z, t: binary_cross_entropy_with_logits(z, t)),
                "no mean",
            ),
            "sum over the classes": (
                _wrong_quality(reduce=lambda values: values.sum(dim=1) if values.ndim > 1 else values),
                "shape",
            ),
            "beta is always 2": (_wrong_quality(power=lambda beta: 2), "beta 1"),
            "the factor of focal loss": (
                _wrong_quality(distance=lambda p, t: 1 - (p * t + (1 - p) * (1 - t))),
                "target 0.6",
            ),
            "the logit for the score": (
                lambda z, t, beta=2: (t - z).abs() ** beta * (t * softplus(-z) + (1 - t) * softplus(z)),
                "A target of 1 or 0",
            ),
            "with alpha": (_wrong_quality(reduce=lambda values: 0.25 * values), "without alpha"),
            "the halves exchanged": (
                _wrong_quality(entropy=lambda z, t: t * softplus(z) + (1 - t) * softplus(-z)),
                "A target of 1 or 0",
            ),
            "the factor detached": (
                _wrong_quality(distance=lambda p, t: (t - p.detach()).abs()),
                "The gradient",
            ),
        },
    ),
    Exercise(
        id="12.2",
        title="The last bin",
        kind="B",
        difficulty=3,
        minutes=10,
        hints=(
            "Work out both weights on paper for y = 3.7, and then for y = 3.",
            "Floor and ceiling are one bin apart, unless y is a whole number. Which bin should be the right one then?",
            "right = left + 1 always. For y = n - 1 that bin does not exist, so let left be n - 2 at most.",
        ),
        tests=(
            between_two,
            nothing_at_all,
            whole_numbers,
            near_the_end,
            the_end,
            beyond_the_end,
            many_at_once,
            no_distances,
        ),
        mutants={
            "as given": (GIVEN, "y = 0 is a distance too"),
            "left + 1, unguarded": (_beyond, "bin n"),
            "that index clamped": (_index_clamped, "exactly n - 1"),
            "round": (_rounded, "3.7"),
            "y up to n - 2": (_cut_short, "14.5"),
            "y up to n - 1.1, as published": (partial(_cut_short, end=1.1), "exactly n - 1"),
            "only y = 0 is cured": (_only_zero, "Whole numbers"),
            "weights swapped": (_swapped, "3.7"),
            "not clamped": (_not_clamped, "beyond the last bin"),
        },
    ),
    Exercise(
        id="12.3",
        title="Four losses, one label",
        kind="P",
        difficulty=2,
        minutes=4,
        hints=(
            "Cross entropy with a soft label is least where the score equals the label.",
            "A factor that does not depend on the score moves no minimum.",
        ),
        tests=(four_minima,),
        mutants={
            "MAL at q": ({"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.6, "hard focal": 1.0}, "q^1.5"),
            "MAL at q squared": (
                {"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.36, "hard focal": 1.0},
                "squared",
            ),
            "varifocal at q squared": (
                {"quality focal": 0.6, "varifocal": 0.36, "MAL": 0.465, "hard focal": 1.0},
                "does not aim",
            ),
            "hard focal at q": (
                {"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.465, "hard focal": 0.6},
                "never saw q",
            ),
            "varifocal at 1": (
                {"quality focal": 0.6, "varifocal": 1.0, "MAL": 0.465, "hard focal": 1.0},
                "soft label",
            ),
            "quality focal at 1": (
                {"quality focal": 1.0, "varifocal": 0.6, "MAL": 0.465, "hard focal": 1.0},
                "where RetinaNet has its label",
            ),
            "varifocal at 0": (
                {"quality focal": 0.6, "varifocal": 0.0, "MAL": 0.465, "hard focal": 1.0},
                "small weight",
            ),
            "MAL at the root": (
                {"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.775, "hard focal": 1.0},
                "a power above 1",
            ),
            "hard focal in the middle": (
                {"quality focal": 0.6, "varifocal": 0.6, "MAL": 0.465, "hard focal": 0.5},
                "whatever its IoU",
            ),
            "quality focal in the middle": (
                {"quality focal": 0.5, "varifocal": 0.6, "MAL": 0.465, "hard focal": 1.0},
                "equals the label",
            ),
            "quality focal at q squared": (
                {"quality focal": 0.36, "varifocal": 0.6, "MAL": 0.465, "hard focal": 1.0},
                "on |q - p|",
            ),
        },
    ),
    Exercise(
        id="12.4",
        title="Where does quality enter?",
        kind="L",
        difficulty=2,
        minutes=5,
        hints=("Read the formula of each loss: where does q stand, and does p stand beside it in the same factor?",),
        tests=(the_places,),
        mutants={
            "centre-ness: test score only": (ENTERS | {"centre-ness": {"test score"}}, "weighs the box loss too"),
            "centre-ness: weight only": (ENTERS | {"centre-ness": {"weight"}}, "when it detects"),
            "centre-ness: a target": (ENTERS | {"centre-ness": {"target", "test score"}}, "at 1"),
            "quality focal: a weight too": (_places(quality_focal={"target", "weight"}), "not the label's alone"),
            "quality focal: test score": (_places(quality_focal={"test score"}), "quality focal loss leaves"),
            "varifocal: target only": (_places(varifocal={"target"}), "stands twice"),
            "varifocal: weight only": (_places(varifocal={"weight"}), "Towards which number"),
            "varifocal: test score": (_places(varifocal=set(PLACES)), "varifocal loss leaves"),
            "noisy anchors: target only": (_places(noisy_anchors={"target"}), "second formula"),
            "noisy anchors: weight only": (_places(noisy_anchors={"weight"}), "takes the place of the 1"),
            "noisy anchors: everywhere": (_places(noisy_anchors=set(PLACES)), "in training only"),
        },
    ),
)
