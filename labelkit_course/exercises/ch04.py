"""The exercises of chapter 04: targets of a batch, focal loss, the first score, who wins a contested prior, twins."""

import math

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import logsigmoid

from labelkit import IGNORED, NEGATIVE, Priors, plot
from labelkit.assigners import TopK
from labelkit.losses import focal_loss
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course.exercise import describe

# --- 04.5 -----------------------------------------------------------------------------------------------------------


def _joined(case, gts, labels, num_classes, answer):
    want = torch.zeros(sum(map(len, gts)), num_classes)
    for place, (index, own) in enumerate((index, own) for gt, own in zip(gts, labels, strict=True) for index in gt):
        if index >= 0:
            want[place, own[index]] = 1
    gts, labels = ([torch.tensor(one, dtype=torch.int64) for one in batch] for batch in (gts, labels))
    counts = torch.cat(gts) != IGNORED
    inputs = {"gts": gts, "labels": labels, "num_classes": num_classes}
    try:
        got = answer(gts, labels, num_classes)
    except IndexError as error:
        text = f"Your code asks for a label that is not there. {error}"
        raise Wrong(f"{case}.\n    gts = {describe(gts)}\n    labels = {describe(labels)}\n{text}") from None
    compare(case, inputs, got, (want, counts))


def one_image(answer):
    _joined("There is one image, with two objects", [[0, 1, 0]], [[2, 0]], 3, answer)


def background_in_one_image(answer):
    case = "In one image, a negative prior counts and has zeros in all columns"
    _joined(case, [[1, NEGATIVE, 0]], [[0, 2]], 3, answer)


def ignored_in_one_image(answer):
    case = "In one image, an ignored prior has zeros and does not count"
    _joined(case, [[0, IGNORED, NEGATIVE]], [[1]], 2, answer)


def two_images(answer):
    case = "There are two images, and the priors of the second image have other classes"
    _joined(case, [[0, 1], [0, 1]], [[0, 1, 1], [2, 0]], 3, answer)


def background_of_the_second(answer):
    case = "The second of two images has background, which stays background"
    _joined(case, [[0, NEGATIVE], [NEGATIVE, 0]], [[1], [0]], 2, answer)


def ignored_of_the_second(answer):
    case = "The second of two images has an ignored prior, which stays ignored"
    _joined(case, [[0, 1], [IGNORED, 0]], [[0, 1], [1]], 2, answer)


def three_images(answer):
    case = "Of three images, the third comes after four objects of the first two"
    _joined(case, [[0, NEGATIVE], [2, 0, 1], [1, 0]], [[0], [1, 2, 0], [0, 2]], 3, answer)


def one_without_objects(answer):
    case = "Of three images, the second has no objects"
    _joined(case, [[0, 1], [NEGATIVE, NEGATIVE], [0, IGNORED]], [[1, 0], [], [1]], 2, answer)


def no_objects_at_all(answer):
    case = "None of the two images has objects, so that all priors are background"
    _joined(case, [[NEGATIVE, NEGATIVE], [NEGATIVE]], [[], []], 2, answer)


def _filled(gt, labels, num_classes, positive=None):
    positive = gt >= 0 if positive is None else positive
    targets = torch.zeros(len(gt), num_classes)
    targets[positive, labels[gt[positive]]] = 1
    return targets


def _starts(labels, by=len):
    """How far the indices of each image move in the joined list."""
    return [sum(map(by, labels[:image])) for image in range(len(labels))]


def _shifts_background(gts, labels, num_classes):
    gt = torch.cat([one + start for one, start in zip(gts, _starts(labels), strict=True)])
    return _filled(gt, torch.cat(labels), num_classes), torch.cat(gts) != IGNORED


def _shifted(gts, starts):
    return torch.cat([torch.where(one >= 0, one + start, one) for one, start in zip(gts, starts, strict=True)])


def _last_label_for_background(gts, labels, num_classes):
    gt, everybody = _shifted(gts, _starts(labels)), torch.cat(labels)
    return _filled(gt, everybody, num_classes, torch.ones_like(gt, dtype=torch.bool)), gt != IGNORED


def _crashes_without_objects(gts, labels, num_classes):
    rows = []
    for gt, own in zip(gts, labels, strict=True):
        column = own[gt.clamp(min=0)]
        one = torch.zeros(len(gt), num_classes)
        one[gt >= 0, column[gt >= 0]] = 1
        rows.append(one)
    return torch.cat(rows), torch.cat(gts) != IGNORED


def _shifts_by_priors(gts, labels, num_classes):
    gt = _shifted(gts, _starts(gts))
    return _filled(gt, torch.cat(labels), num_classes), gt != IGNORED


def _shifts_by_the_image_before(gts, labels, num_classes):
    gt = _shifted(gts, [0, *map(len, labels[:-1])])
    return _filled(gt, torch.cat(labels), num_classes), gt != IGNORED


def _all_count(gts, labels, num_classes):
    gt = _shifted(gts, _starts(labels))
    return _filled(gt, torch.cat(labels), num_classes), torch.ones_like(gt, dtype=torch.bool)


# --- 04.6 -----------------------------------------------------------------------------------------------------------


def two_twins(guess):
    anchors = Priors.anchors((128, 128), strides=(8,), sizes=((32,),))
    box = torch.tensor([45.0, 47, 77, 80])
    down = torch.tensor([0.0, 1, 0, 1])
    truth = {
        name: [int(n) for n in TopK(k=3)(anchors, {"boxes": torch.stack([box, second])}).positives_per_gt(2)]
        for name, second in {"identical": box, "one pixel down": box + down}.items()
    }
    expect(
        guess,
        truth,
        clues=(
            (
                lambda got: sum(got["identical"]) > 3,
                "Identical boxes have the same three best anchors. That is six wishes for three places.",
            ),
            (
                lambda got: 0 < sum(got["identical"]) < 3,
                "No anchor that somebody wants is left over: it goes to one of the two.",
            ),
            (
                lambda got: sum(got["identical"]) == 3 and min(got["identical"]) > 0,
                "A tie is not shared out. The same object comes first in the list at every one of the three anchors.",
            ),
            ({"identical": [0, 3]}, "Which of the two stands first in the list?"),
            (
                {"one pixel down": [3, 0]},
                "Moved by a pixel, the second box no longer ties: its IoU with each anchor is another. It also wants "
                "one other place.",
            ),
            (
                lambda got: sum(got["one pixel down"]) > 4,
                "After the move they still want two of the same anchors. Each of the two can have one owner only.",
            ),
            (
                lambda got: sum(got["one pixel down"]) < 4,
                "One of the three anchors is wanted by the second box alone, and one by the first alone.",
            ),
            (
                lambda got: got["one pixel down"] in ([3, 1], [1, 3]),
                "The two shared anchors do not go to the same object. Which of them is nearer to which box?",
            ),
        ),
    )


# --- 04.7 -----------------------------------------------------------------------------------------------------------

OPTIONS = (
    "every anchor",
    "anchors inside the object",
    "anchors of one cell per grid",
    "IoU of the boxes",
    "IoU of the shapes",
    "distance of the centres",
    "IoU above 0.5",
    "the best one",
    "the k best",
    "the highest IoU",
    "the smallest object",
    "the first in the list",
    "not said",
)
SENTENCES = {
    "who": "anchors of one cell per grid",
    "how": "IoU of the shapes",
    "chosen": "the best one",
    "wins": "not said",
}


def six_sentences(answer):
    expect(
        answer,
        SENTENCES,
        among=OPTIONS,
        clues=(
            (
                {"who": "anchors inside the object"},
                "An object may contain the centres of many cells. Sentence 2 asks one cell of each grid.",
            ),
            ({"who": "every anchor"}, "Sentence 2 asks one cell of each grid, however large the object is."),
            (
                {"how": "IoU of the boxes"},
                "Sentence 3 centres both before they are compared, so where the anchor stands does not count.",
            ),
            ({"how": "distance of the centres"}, "The centre says which cell is asked. What does sentence 3 compare?"),
            (
                {"chosen": "IoU above 0.5"},
                "The 0.5 of sentence 5 says which anchors are ignored. Which one becomes positive?",
            ),
            ({"chosen": "the k best"}, "Sentence 4 gives every object the same number of positives. Which number?"),
            (
                lambda got: got["wins"] != SENTENCES["wins"],
                "No sentence mentions two objects that want the same anchor. If a rule is silent, say so.",
            ),
        ),
    )


# --- 04.2 -----------------------------------------------------------------------------------------------------------


def _focal(case, logits, targets, answer, **options):
    logits, targets = torch.tensor(logits), torch.tensor(targets)
    want = focal_loss(logits, targets, **options)
    causes = [(wrong(logits, targets, **options), sentence) for wrong, sentence in CAUSES.values()]
    inputs = {"logits": logits, "targets": targets, **options}
    compare(case, inputs, answer(logits, targets, **options), want, clues=causes)


def one_positive(answer):
    _focal("The network is rather sure of one positive, p = 0.82", [1.5], [1.0], answer)


def easy_and_hard_positives(answer):
    _focal("There are three positives, from hard to easy", [-2.0, 0, 2], [1.0, 1, 1], answer)


def easy_and_hard_negatives(answer):
    case = "There is one positive, and there are three negatives from easy to hard"
    _focal(case, [1.0, -2, 0, 2], [1.0, 0, 0, 0], answer)


def gamma_zero(answer):
    _focal("With gamma 0 and alpha 0.5 it is half the cross entropy", [1.0, 1], [1.0, 0], answer, alpha=0.5, gamma=0.0)


def another_gamma(answer):
    _focal("gamma is 1", [0.5, -0.5], [1.0, 0], answer, gamma=1.0)


def a_table(answer):
    _focal("The logits are a table of priors and classes", [[-1.0, 1], [3, -3]], [[1.0, 0], [0, 0]], answer)


def extreme_logits(answer):
    _focal("Extreme logits give large losses, never infinite ones", [-200.0, 200], [1.0, 0], answer)


def _balance(targets, alpha):
    return torch.where(targets == 1, alpha, 1 - alpha)


def _modulate(p_t, gamma):
    return (1 - p_t) ** gamma


def _focal_with(weight=_balance, factor=_modulate, logs=None, score=torch.sigmoid):
    """The loss with one thing changed."""

    def wrong(logits, targets, alpha=0.25, gamma=2.0):
        p = score(logits)
        p_t = torch.where(targets == 1, p, 1 - p)
        log_p_t = torch.where(targets == 1, logsigmoid(logits), logsigmoid(-logits)) if logs is None else logs(p_t)
        return -weight(targets, alpha) * factor(p_t, gamma) * log_p_t

    return wrong


def _p_for_both(logits, targets, alpha=0.25, gamma=2.0):
    p = logits.sigmoid()
    return _balance(targets, alpha) * (1 - p) ** gamma * cross_entropy(logits, targets, reduction="none")


# name -> (a wrong loss, what is wrong with it)
CAUSES = {
    "no alpha": (
        _focal_with(weight=lambda t, a: torch.ones_like(t)),
        "This is the loss without its third step: alpha is missing.",
    ),
    "alpha for both": (
        _focal_with(weight=lambda t, a: a),
        "Your negatives have the weight alpha, which belongs to the positives.",
    ),
    "alpha on the negatives": (
        _focal_with(weight=lambda t, a: _balance(1 - t, a)),
        "The two weights have changed places: alpha belongs to the positives.",
    ),
    "no factor": (
        _focal_with(factor=lambda p, g: 1),
        "This is cross entropy with a weight. The factor that makes easy examples fall silent is missing.",
    ),
    "silences the hard ones": (
        _focal_with(factor=lambda p, g: p**g),
        "Your factor is p_t ** gamma, which falls silent for the hard examples. For which p_t should it be near 0?",
    ),
    "one factor for both": (
        _p_for_both,
        "Your negatives have the factor of the positives. In the factor stands p_t, which for a negative is not p.",
    ),
    "gamma fixed at 2": (
        _focal_with(factor=lambda p, g: (1 - p) ** 2),
        "Your power is 2 whatever gamma is.",
    ),
    "factor times gamma": (_focal_with(factor=lambda p, g: (1 - p) * g), "gamma is a power, and you multiply by it."),
    "the sign": (lambda *a, **k: -focal_loss(*a, **k), "The size is right and the sign is not: ln p is below 0."),
    "to base 2": (
        lambda *a, **k: focal_loss(*a, **k) / math.log(2),
        "Your logarithm is to base 2, not the natural one.",
    ),
    "sigmoid twice": (
        lambda logits, *a, **k: focal_loss(logits.sigmoid(), *a, **k),
        "You seem to take the sigmoid twice. logsigmoid takes the logit itself.",
    ),
    "logits for scores": (
        _focal_with(score=lambda logits: logits),
        "Your factor is made of the logit. It should be made of the probability, which is the logit's sigmoid.",
    ),
    "logarithm of the sigmoid": (
        _focal_with(logs=torch.log),
        "The logarithm of a probability that was rounded to 0 is infinite. Take it of the logit, by logsigmoid.",
    ),
}


# --- 04.3 -----------------------------------------------------------------------------------------------------------


BIASES = {
    "the sign": (lambda p: math.log((1 - p) / p), "The size is right and the sign is not."),
    "logarithm of the score": (math.log, "This is the logarithm of pi. What has become of the 1 in 1 + exp(-b)?"),
    "minus that": (lambda p: -math.log(p), "This is -ln pi. What has become of the 1 in 1 + exp(-b)?"),
    "logarithm to base 10": (
        lambda p: math.log10(p / (1 - p)),
        "Your logarithm is to base 10, and e ** b needs the natural one.",
    ),
    "logarithm to base 2": (
        lambda p: math.log2(p / (1 - p)),
        "Your logarithm is to base 2, and e ** b needs the natural one.",
    ),
    "the sigmoid itself": (
        lambda p: 1 / (1 + math.exp(-p)),
        "This is the sigmoid of pi. You need the number whose sigmoid is pi, which goes the other way.",
    ),
    "the odds": (lambda p: p / (1 - p), "This is e ** b, and b is asked for."),
    "the odds against": (lambda p: (1 - p) / p, "This is e ** -b, and b is asked for."),
}


def _bias(case, pi, answer):
    causes = [(wrong(pi), sentence) for wrong, sentence in BIASES.values()]
    compare(case, {"pi": pi}, answer(pi), math.log(pi / (1 - pi)), clues=causes)


def one_half(answer):
    _bias("A first score of 0.5 needs no bias", 0.5, answer)


def one_in_a_hundred(answer):
    _bias("RetinaNet begins with the score 0.01", 0.01, answer)


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
    _winners("Each of the priors is wanted at most once", [(0, 1, 0.7), (2, 0, 0.6)], 3, answer)


def nobody_wants_it(answer):
    _winners("A prior that no object wants is NEGATIVE", [(1, 0, 0.5)], 3, answer)


def best_comes_first(answer):
    _winners("Two objects want prior 0, and the better pair is listed first", [(0, 0, 0.8), (0, 1, 0.6)], 2, answer)


def best_comes_last(answer):
    _winners("Two objects want prior 1, and the better pair is listed last", [(1, 0, 0.6), (1, 1, 0.8)], 2, answer)


def equal_similarities(answer):
    pairs = [(0, 1, 0.5), (0, 2, 0.5), (1, 2, 0.4), (1, 0, 0.4)]
    _winners("Two objects want a prior with equal similarities, so the lower index wins", pairs, 2, answer)


def similarity_zero(answer):
    _winners("A pair with similarity 0 is a pair too", [(0, 1, 0.0)], 1, answer)


def no_pairs(answer):
    _winners("There are no pairs at all", [], 2, answer)


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
        id="04.5",
        title="Two images, one list",
        kind="B",
        difficulty=3,
        minutes=10,
        hints=(
            "In the second image, index 0 means the first object of the second image. Where is that object's label "
            "once all labels stand in one list?",
            "Before the lists are joined, the indices of each image have to grow by the number of objects in the "
            "images before it. Not every number in gt is an index.",
            "start = 0; for each image: shifted.append(torch.where(gt >= 0, gt + start, gt)); start += len(own).",
        ),
        tests=(
            one_image,
            background_in_one_image,
            ignored_in_one_image,
            two_images,
            background_of_the_second,
            ignored_of_the_second,
            three_images,
            one_without_objects,
            no_objects_at_all,
        ),
        mutants={
            "given": (GIVEN, "the second image have other classes"),
            "background is shifted too": (_shifts_background, "background, which stays background"),
            "the last label for background": (_last_label_for_background, "zeros in all columns"),
            "crashes without objects": (_crashes_without_objects, "the second has no objects"),
            "shifted by the priors": (_shifts_by_priors, "other classes"),
            "shifted by the image before": (_shifts_by_the_image_before, "third comes after four objects"),
            "ignored priors count": (_all_count, "does not count"),
            "one image at a time": (lambda gts, labels, c: (_filled(gts[0], labels[0], c), gts[0] != IGNORED), "shape"),
        },
    ),
    Exercise(
        id="04.6",
        title="Twins",
        kind="P",
        difficulty=2,
        minutes=4,
        hints=(
            "Write down the three nearest centres for each of the two boxes. An anchor as wide as the object fits it "
            "the better, the nearer their centres are.",
        ),
        tests=(two_twins,),
        mutants={
            "six positives": ({"identical": [3, 3], "one pixel down": [3, 3]}, "six wishes for three places"),
            "a tie is shared out": ({"identical": [2, 1], "one pixel down": [2, 2]}, "not shared out"),
            "the last in the list wins": ({"identical": [0, 3], "one pixel down": [2, 2]}, "first in the list"),
            "a tie is for nobody": ({"identical": [1, 1], "one pixel down": [2, 2]}, "left over"),
            "a pixel changes nothing": ({"identical": [3, 0], "one pixel down": [3, 0]}, "one other place"),
            "now both have all": ({"identical": [3, 0], "one pixel down": [3, 3]}, "one owner only"),
            "the first keeps all of its own": ({"identical": [3, 0], "one pixel down": [3, 1]}, "same object"),
            "the same three places": ({"identical": [3, 0], "one pixel down": [2, 1]}, "by the first alone"),
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
            one_positive,
            easy_and_hard_positives,
            easy_and_hard_negatives,
            gamma_zero,
            another_gamma,
            a_table,
            extreme_logits,
        ),
        mutants=CAUSES | {"mean instead of elements": (lambda *a, **k: focal_loss(*a, **k).mean(), "shape")},
    ),
    Exercise(
        id="04.3",
        title="The first score",
        difficulty=1,
        minutes=4,
        hints=(
            "Take the reciprocal of both sides: 1 / pi = 1 + exp(-b).",
            "Then exp(-b) = 1 / pi - 1 = (1 - pi) / pi. Take the logarithm of both sides.",
            "b = -math.log((1 - pi) / pi).",
        ),
        tests=(one_in_a_hundred, one_half, nearly_sure),
        mutants=BIASES | {"a fixed one": (lambda pi: -4.59512, "A first score of 0.5")},
    ),
    Exercise(
        id="04.4",
        title="Who wins?",
        difficulty=2,
        minutes=10,
        hints=(
            "Begin with all priors NEGATIVE. Then let the pairs write their object into their prior's place, one after "
            "the other. The last to write stays.",
            "For that reason, sort the pairs so that the best comes last. On equal similarities the lower object must "
            "come later.",
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
            "ties to the higher object": (_winners_by(lambda t: (t[2], t[1])), "equal similarities"),
            "nobody means object 0": (
                _winners_by(lambda t: (t[2], -t[1]), empty=0),
                "Each of the priors is wanted at most once",
            ),
            "the pair's index for the object": (_winners_by(lambda t: (t[2], -t[1]), empty=-9), "wanted at most once"),
            "more than zero": (_needs_more_than_zero, "with similarity 0"),
            "floating point": (lambda *a: _winners_by(lambda t: (t[2], -t[1]))(*a).float(), "Each of the priors"),
        },
    ),
    Exercise(
        id="04.7",
        title="A rule in six sentences",
        kind="L",
        difficulty=2,
        minutes=6,
        hints=(
            "Take one sentence after the other, and ask which of the four questions it answers. One has no answer.",
        ),
        tests=(six_sentences,),
        mutants={
            "the inside may match": (SENTENCES | {"who": "anchors inside the object"}, "many cells"),
            "everybody may match": (SENTENCES | {"who": "every anchor"}, "however large"),
            "boxes where they stand": (SENTENCES | {"how": "IoU of the boxes"}, "centres both"),
            "by distance": (SENTENCES | {"how": "distance of the centres"}, "What does sentence 3 compare"),
            "a threshold": (SENTENCES | {"chosen": "IoU above 0.5"}, "which anchors are ignored"),
            "several": (SENTENCES | {"chosen": "the k best"}, "Which number"),
            "the best fit wins": (SENTENCES | {"wins": "the highest IoU"}, "is silent"),
            "the smallest wins": (SENTENCES | {"wins": "the smallest object"}, "is silent"),
            "the first wins": (SENTENCES | {"wins": "the first in the list"}, "is silent"),
        },
    ),
)
