"""The exercises of chapter 18: HLA's two stages, the rescue, YOLOv9's rule in words, DCFL's funnel and its refill."""

from functools import partial

import torch

from labelkit import NEGATIVE, Predictions, Priors, plot
from labelkit.assigners import DCFL, RFLA
from labelkit.receptive_field import rf_priors
from labelkit.similarity import nwd, rfd
from labelkit_course import GIVEN, Exercise, compare, expect


def _wh(boxes):
    return boxes[..., 2:] - boxes[..., :2]


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
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        plot.scene(ax, (64, 64), boxes, labels=[str(i) for i in range(len(boxes))], title=title)
        plot.points(ax, priors.centers[gt >= 0], "positive")
        plot.boxes(ax, priors.boxes[gt >= 0], "positive")
        for (x, y), owner in zip(priors.centers[gt >= 0].tolist(), gt[gt >= 0].tolist(), strict=True):
            ax.text(x + 0.7, y - 0.7, str(owner), color=plot.BLUE)
    return figure


def an_object_of_twelve(answer):
    _assign(
        "One 12 px object: stage two wants a prior that stage one has given it already", [[17.0, 18, 29, 30]], answer
    )


def between_two_levels(answer):
    _assign(
        "One 30 px object, between the sizes of two levels, so that stage two adds one prior",
        [[17.3, 18, 47.3, 48]],
        answer,
    )


def two_that_compete(answer):
    _assign(
        "Two objects want the same priors, and each goes to the more similar of the two",
        [[17.0, 18, 29, 30], [20.0, 20, 33, 32]],
        answer,
    )
    _assign(
        "Two objects want the same priors, and each goes to the more similar of the two",
        [[20.0, 20, 33, 32], [17.0, 18, 29, 30]],
        answer,
    )


def one_takes_what_another_wants(answer):
    case = "Stage two wants a prior that stage one gave to another object, and it stays that object's"
    _assign(case, [[25.0, 21, 50, 40], [23.0, 25, 51, 51]], answer)


def twins(answer):
    _assign(
        "The same box twice, so that all similarities tie and the lower index wins",
        [[17.0, 18, 29, 30], [17.0, 18, 29, 30]],
        answer,
    )


def another_similarity(answer):
    case = "The similarity is NWD instead of RFD (similarity = nwd)"
    _assign(case, [[17.0, 18, 51, 52]], answer, similarity=partial(nwd, constant=12.8))


def another_beta(answer):
    _assign("With beta = 0.5 the best level changes for a smaller object", [[17.0, 18, 34, 35]], answer, beta=0.5)


def another_k(answer):
    _assign("With k = 1 each stage takes the one best prior of the object", [[17.0, 18, 29, 30]], answer, k=1)


def nothing_there(answer):
    _assign("An image without objects, with gt_boxes [0, 4]", [], answer)


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
    _rescued("Object 1 has no positive, and priors 1 and 2 are free", [0, -1, -1], table, answer)


def its_best_is_taken(answer):
    _rescued(
        "The best prior of object 1 serves object 0 and keeps serving it",
        [0, -1, -1],
        [[0.9, 0.8], [0.4, 0.1], [0.1, 0.3]],
        answer,
    )


def two_want_one(answer):
    case = "Objects 0 and 1 have no positive and prefer the same prior, so the most similar pair goes first"
    _rescued(case, [-1, -1, -1], [[0.6, 0.7], [0.5, 0.65], [0.1, 0.2]], answer)


def nobody_is_empty(answer):
    _rescued(
        "Every object has a positive, so nothing changes", [0, 1, -1], [[0.9, 0.2], [0.4, 0.5], [0.6, 0.7]], answer
    )


def no_prior_left(answer):
    _rescued(
        "With three objects and two priors, one object stays without a positive",
        [1, -1],
        [[0.2, 0.9, 0.3], [0.5, 0.4, 0.6]],
        answer,
    )


def nothing_alike(answer):
    _rescued(
        "The only free prior is like no object, with a similarity of 0, and object 1 gets it all the same",
        [0, -1],
        [[0.9, 0.4], [0.0, 0.0]],
        answer,
    )


def a_tie(answer):
    _rescued(
        "All similarities are equal, so the lower prior comes first, then the lower object",
        [-1, -1],
        [[0.5, 0.5], [0.5, 0.5]],
        answer,
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


def _only_above_zero(gt, table):
    """A pair of similarity 0 is no pair, as it is in RKA."""
    rescued = _by_hand(gt, table)
    pairs = table.gather(1, rescued.clamp(min=0)[:, None])[:, 0] > 0
    return torch.where((gt < 0) & ~pairs, NEGATIVE, rescued)


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


# --- 18.7 -----------------------------------------------------------------------------------------------------------

YOLOV9 = {
    "who": "points inside and within reach",
    "how": "score and overlap",
    "chosen": "the k best, or the best of the image",
    "wins": "the highest overlap",
    "empty": "if others win its points",
}
PHRASES = (
    "points inside", "points inside and within reach", "every point",
    "overlap of the prior", "overlap of the prediction", "score and overlap",
    "the k best", "the k best, or the best of the image", "a threshold",
    "the highest t", "the highest overlap", "the smallest object",
    "never", "if others win its points", "if no point is inside",
    "not said",
)  # fmt: skip


def yolov9_in_words(answer):
    clues = [
        ({"who": "points inside"}, "Sentence 2 has a second condition, which excludes some points inside a large box."),
        ({"who": "every point"}, "Sentence 5 opens the whole image to some objects only. What is usual?"),
        ({"who": lambda who: who != YOLOV9["who"]}, "Sentence 2 says which points may match an object."),
        ({"how": "overlap of the prior"}, "Points have no size here. Whose box is compared in sentence 3?"),
        ({"how": "overlap of the prediction"}, "Sentence 3 multiplies the overlap by something else."),
        ({"how": lambda how: how != YOLOV9["how"]}, "Sentence 3 defines the number by which pairs are compared."),
        ({"chosen": "the k best"}, "Sentence 4 is followed by one more sentence about what an object wants."),
        ({"chosen": "a threshold"}, "0 only excludes points without overlap. Of the rest, how many are wanted?"),
        ({"chosen": lambda chosen: chosen != YOLOV9["chosen"]}, "Sentences 4 and 5 say what an object wants."),
        ({"wins": "the highest t"}, "t decides what an object wants. Between objects another number decides."),
        ({"wins": lambda wins: wins != YOLOV9["wins"]}, "Sentence 6 says which object gets a point that several want."),
        ({"empty": "never"}, "By sentence 5 an object wants a point. Does it get it? This is before sentence 6."),
        ({"empty": "if no point is inside"}, "Such an object wants the best of the whole image (sentence 5)."),
        ({"empty": "not said"}, "No sentence says it in so many words, but sentences 5 and 6 together leave no doubt."),
        ({"empty": lambda empty: empty != YOLOV9["empty"]}, "The key empty asks when an object has no positive."),
    ]  # fmt: skip
    expect(answer, YOLOV9, among=PHRASES, clues=clues)


# --- 18.6 -----------------------------------------------------------------------------------------------------------


def two_near_twins(guess):
    square = Priors.anchors((64, 64), (8, 16, 32), ((32,), (64,), (128,)), offset=0)
    place = square.centers + torch.tensor([1.0, -1.0])
    scores = ((square.centers - torch.tensor([30.0, 20.0])) / 20).sigmoid()
    seen = Predictions(torch.cat([place - 7, place + 7], dim=1), scores)
    boxes = torch.tensor([[14.0, 14, 28, 24], [14.5, 14, 28.5, 24]])
    filters = {"coarse": DCFL(q=100, gate=600), "medium": DCFL(gate=600), "fine": DCFL()}
    target = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    answers = {name: rule(square, target, seen).gt for name, rule in filters.items()}
    truth = {name: [int((gt == number).sum()) for number in (0, 1)] for name, gt in answers.items()}
    clues = [
        (
            lambda got: sum(got["medium"]) > sum(got["coarse"]) or sum(got["fine"]) > sum(got["medium"]),
            "A filter only takes priors away, so no later number can be larger than an earlier one.",
        ),
        (
            lambda got: sum(got["coarse"]) > 24,
            "A prior serves one object, and near-twins want nearly the same sixteen.",
        ),
        (
            lambda got: min(got["coarse"]) < 4 and max(got["coarse"]) > 10,
            "Identical boxes tie everywhere, and one of them gets all. These two are half a pixel apart, so each prior "
            "resembles one of them more.",
        ),
        (
            lambda got: sum(got["coarse"]) < 14,
            "A prior that both want is lost to one of them only: it goes to the one it resembles more.",
        ),
        (
            {"medium": lambda many: sum(many) < 15},
            "The medium filter has room for twelve of each object. Does either of them have more than that?",
        ),
        (
            lambda got: sum(got["fine"]) > 5,
            "Near-twins have nearly the same middle, and each of the few priors there serves one of them only.",
        ),
        (
            lambda got: sum(got["fine"]) == 0,
            "Both middles are where a single object would have three priors, and the gate has not moved.",
        ),
    ]  # fmt: skip
    expect(guess, truth, within=1, clues=clues)


def _funnel(coarse, medium, fine):
    return {"coarse": coarse, "medium": medium, "fine": fine}


# --- 18.5 -----------------------------------------------------------------------------------------------------------


def _medium(case, quality, owner, q, answer):
    quality, owner = torch.tensor(quality), torch.tensor(owner, dtype=torch.int64)
    want = torch.full_like(owner, NEGATIVE)
    for g in set(owner.tolist()):
        own = [i for i in range(len(owner)) if owner[i] == g]
        for i in sorted(own, key=lambda i: (-quality[i].item(), i))[:q]:
            want[i] = g
    compare(case, {"quality": quality, "owner": owner, "q": q}, answer(quality, owner, q), want)


def enough_of_each(answer):
    _medium(
        "Two objects with more candidates than q each keep their q best",
        [0.4, 0.9, 0.7, 0.2, 0.8, 0.6], [0, 0, 0, 1, 1, 1], 2, answer,
    )  # fmt: skip


def one_against_many(answer):
    case = "Object 0 has one candidate and object 1 has five, of which no more than q = 3 may stay"
    _medium(case, [0.5, 0.1, 0.2, 0.7, 0.8, 0.9], [0, 1, 1, 1, 1, 1], 3, answer)


def a_rich_object_beside(answer):
    case = "Object 1 has four candidates and keeps q = 3 of them, however few its neighbour has"
    _medium(case, [0.9, 0.8, 0.7, 0.2, 0.5], [1, 1, 1, 1, 0], 3, answer)


def a_poor_object_after_a_rich_one(answer):
    case = "Object 1 has one candidate and comes last, and what object 0 has kept is not its own to change"
    _medium(case, [0.9, 0.8, 0.7, 0.2, 0.5], [0, 0, 0, 0, 1], 3, answer)


def equal_qualities(answer):
    case = "The third and the fourth of an object tie at q = 3, and the lower position stays"
    _medium(case, [0.6, 0.9, 0.6, 0.6, 0.6, 0.3], [0, 0, 0, 0, 1, 1], 3, answer)


def worth_nothing(answer):
    case = "Candidates of quality 0 stay too where there are no more than q"
    _medium(case, [0.0, 0.0, 0.4, 0.3, 0.2], [0, 0, 1, 1, 1], 2, answer)


def numbers_with_gaps(answer):
    case = "Only objects 2 and 7 have candidates"
    _medium(case, [0.3, 0.6, 0.5, 0.4], [7, 2, 2, 2], 2, answer)


def no_candidate(answer):
    _medium("There is no candidate at all", [], [], 12, answer)


def _refilled(quality, owner, q, *, least=False, steal=False, drop=False, by_value=False, above=None, numbers=None):
    """The medium filter, with one screw loose at a time."""
    result = torch.full_like(owner, NEGATIVE)
    objects = owner.unique() if numbers is None else range(numbers(owner))
    fewest = min((int((owner == g).sum()) for g in objects), default=0)
    for g in objects:
        row = torch.where(owner == g, quality, -100.0)
        many = min(q, fewest if least else q if steal or drop else int((owner == g).sum()))
        order = row.argsort(descending=True, stable=True)[:many]
        if by_value and len(order):
            order = ((row >= row[order[-1]]) & (owner == g)).nonzero()[:, 0]
        if above is not None:
            order = order[row[order] > above]
        result[order] = torch.where(owner[order] == g, owner[order], NEGATIVE) if drop else g
    return result


EXERCISES = (
    Exercise(
        id="18.3",
        title="HLA",
        difficulty=4,
        minutes=15,
        hints=(
            "Both stages do the same with other boxes and another k. Write them once, as a function inside yours.",
            "Shrunk boxes: half = (priors.boxes[:, 2:] - priors.boxes[:, :2]) * beta / 2 around priors.centers. The "
            "k best of each column: table.argsort(dim=0, descending=True, stable=True)[:k].",
            "chosen is a mask made by scatter(0, order, True); torch.where(chosen, table, -1.0).max(dim=1) gives the "
            "object that wins each prior. At the end torch.where(first >= 0, first, second).",
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
            "stage one only": (partial(_hla, stages=1), "stage two adds one prior"),
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
            "Which objects have no positive? torch.bincount(gt[gt >= 0], minlength=G) counts the positives of each.",
            "A pair is open if its prior is free and its object has no positive. Put -1 elsewhere; take the largest.",
            "While there is an object without a positive and a free prior: int(open_pairs.flatten().argmax()), then "
            "divmod(that, G) gives prior and object. Set gt[prior] = g and empty[g] = False.",
        ),
        tests=(one_is_empty, its_best_is_taken, two_want_one, nobody_is_empty, no_prior_left, nothing_alike, a_tie),
        mutants={
            "objects in their order": (_in_order_of_objects, "the most similar pair goes first"),
            "priors are taken away": (partial(_in_order_of_objects, take_taken=True), "keeps serving it"),
            "one object only": (partial(_in_order_of_objects, only_one=True), "the most similar pair goes first"),
            "everybody gets one more": (partial(_in_order_of_objects, feed_all=True), "Object 1 has no positive"),
            "all free priors given away": (_several_each, "Object 1 has no positive"),
            "no end when priors run out": (_no_stop, "one object stays without"),
            "similarity 0 is nothing": (_only_above_zero, "gets it all the same"),
            "nothing done": (lambda gt, table: gt.clone(), "Object 1 has no positive"),
        },
    ),
    Exercise(
        id="18.7",
        title="YOLOv9's rule in words",
        kind="L",
        difficulty=2,
        minutes=6,
        hints=(
            "Sentence 2 answers one question, sentence 3 the next, sentences 4 and 5 together the third, and "
            "sentence 6 the last. For the key empty, read sentences 5 and 6 in their order.",
        ),
        tests=(yolov9_in_words,),
        mutants={
            "the inside is enough": (YOLOV9 | {"who": "points inside"}, "second condition"),
            "the whole image may match": (YOLOV9 | {"who": "every point"}, "some objects only"),
            "the prior's overlap": (YOLOV9 | {"how": "overlap of the prior"}, "no size"),
            "the overlap alone": (YOLOV9 | {"how": "overlap of the prediction"}, "something else"),
            "the k best and no rescue": (YOLOV9 | {"chosen": "the k best"}, "one more sentence"),
            "a threshold": (YOLOV9 | {"chosen": "a threshold"}, "how many"),
            "t decides between objects": (YOLOV9 | {"wins": "the highest t"}, "another number"),
            "the smallest wins": (YOLOV9 | {"wins": "the smallest object"}, "Sentence 6"),
            "the rescue cannot fail": (YOLOV9 | {"empty": "never"}, "before sentence 6"),
            "empty without a point inside": (YOLOV9 | {"empty": "if no point is inside"}, "whole image"),
            "said in no sentence": (YOLOV9 | {"empty": "not said"}, "together"),
        },
    ),
    Exercise(
        id="18.6",
        title="The funnel",
        kind="P",
        difficulty=2,
        minutes=4,
        hints=(),
        tests=(two_near_twins,),
        mutants={
            "sixteen each": (_funnel((16, 16), (12, 12), (3, 3)), "nearly the same sixteen"),
            "as with the other neighbour": (_funnel((14, 16), (12, 12), (2, 4)), "nearly the same sixteen"),
            "one gets all": (_funnel((16, 0), (12, 0), (3, 0)), "half a pixel apart"),
            "both lose what both want": (_funnel((1, 1), (1, 1), (0, 0)), "lost to one of them only"),
            "the medium filter takes a quarter": (_funnel((8, 8), (6, 6), (1, 2)), "room for twelve"),
            "lists are filled up": (_funnel((8, 9), (12, 12), (1, 2)), "only takes priors away"),
            "three in each middle": (_funnel((8, 9), (8, 9), (3, 3)), "nearly the same middle"),
        },
    ),
    Exercise(
        id="18.5",
        title="Near-twins get more",
        kind="B",
        difficulty=4,
        minutes=12,
        hints=(
            "Take one object with a single candidate and q = 3. Which positions are in the first three of its row, and "
            "to which object do they belong?",
            "The -100 of a neighbour's candidate is a low quality, but an entry of the sorted row all the same. Only "
            "as many entries count as the object has candidates.",
            "own = int((owner == g).sum()); keep the first min(q, own) of the sorted row.",
        ),
        tests=(
            enough_of_each,
            a_rich_object_beside,
            one_against_many,
            a_poor_object_after_a_rich_one,
            equal_qualities,
            worth_nothing,
            numbers_with_gaps,
            no_candidate,
        ),
        mutants={
            "given": (GIVEN, "no more than q"),
            "as few for all as the poorest has": (partial(_refilled, least=True), "however few its neighbour has"),
            "strangers become its own": (partial(_refilled, steal=True), "Object 0 has one candidate"),
            "strangers are dropped": (partial(_refilled, drop=True), "not its own to change"),
            "by the q-th value": (partial(_refilled, by_value=True), "tie at q"),
            "only above 0": (partial(_refilled, above=0.0), "quality 0"),
            "objects counted, not named": (
                partial(_refilled, numbers=lambda owner: len(owner.unique())),
                "Only objects 2 and 7",
            ),
            "the largest number sought": (partial(_refilled, numbers=lambda owner: int(owner.max()) + 1), "max()"),
        },
    ),
)
