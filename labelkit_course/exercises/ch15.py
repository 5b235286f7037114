"""The exercises of chapter 15: the least sum, who is matched, POTO's starved object, without NMS, rounds."""

from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from labelkit import NEGATIVE, Predictions, Priors, datasets
from labelkit.assigners import Hungarian
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course import board as leaderboard

INF = torch.inf

# --- 15.1 -----------------------------------------------------------------------------------------------------------


def _least(cost):
    """By trying everything: as many pairs as possible first, then the least sum; gt [Q]."""
    queries, objects = cost.shape
    best, answer = (0, 0.0), [NEGATIVE] * queries
    for order in set(permutations([*range(objects), *[NEGATIVE] * queries], queries)):
        taken = [float(cost[q, g]) for q, g in enumerate(order) if g >= 0]
        if INF not in taken and (-len(taken), sum(taken)) < best:
            best, answer = (-len(taken), sum(taken)), list(order)
    return torch.tensor(answer, dtype=torch.int64)


def _match(case, rows, answer):
    cost = torch.tensor(rows) if isinstance(rows, list) else rows
    compare(case, {"cost": cost}, answer(cost), _least(cost))


def one_object(answer):
    _match("Three queries and one object", [[0.5], [0.2], [0.9]], answer)


def both_want_one(answer):
    _match("Two objects want query 0, and a query serves one object", [[0.1, 0.3], [0.6, 0.4]], answer)


def the_cheapest_pair_is_a_trap(answer):
    rows = [[0.6, 0.9], [0.2, 0.3], [0.25, 0.95]]
    _match("The cheapest of all pairs is not in the matching of the least sum", rows, answer)


def below_zero(answer):
    _match("Costs may be negative", [[-4.0, -0.1], [-1.2, -2.9], [8.9, 8.4], [-1.7, 0.2]], answer)


def some_are_forbidden(answer):
    _match("Two pairs are forbidden, and each object finds another", [[INF, 0.2], [0.5, INF], [0.9, 0.1]], answer)


def forbidden_everywhere(answer):
    _match("Object 1 is forbidden everywhere, object 0 is not", [[0.7, INF], [0.4, INF]], answer)


def one_query_for_both(answer):
    _match("Both objects may have query 0 only, so one of them has none", [[0.3, 0.2], [INF, INF], [INF, INF]], answer)


def as_many_as_possible(answer):
    _match("Both objects can be served, if one of them pays 900", [[0.1, 0.2], [900.0, INF]], answer)


def as_many_below_zero(answer):
    _match("Both objects can be served, at a sum that is higher", [[-9.0, -8.0], [-1.0, INF]], answer)


def too_many_objects(answer):
    _match("One query and three objects", [[3.0, 1.0, 2.0]], answer)


def all_forbidden(answer):
    _match("Every pair is forbidden", [[INF, INF], [INF, INF]], answer)


def none_there(answer):
    _match("No object", torch.zeros(3, 0), answer)
    _match("No query", torch.zeros(0, 2), answer)


def _solved(cost, forbidden=1e6, drop=True):
    gt = torch.full((len(cost),), NEGATIVE)
    query, column = map(torch.as_tensor, linear_sum_assignment(cost.nan_to_num(posinf=forbidden)))
    keep = cost[query, column] < INF if drop else torch.ones_like(query, dtype=torch.bool)
    gt[query[keep]] = column[keep]
    return gt


def _each_its_own(cost):
    gt = torch.full((len(cost),), NEGATIVE)
    for g in range(cost.shape[1] if len(cost) else 0):
        if cost[:, g].min() < INF:
            gt[cost[:, g].argmin()] = g
    return gt


def _greedy(cost):
    gt, cost = torch.full((len(cost),), NEGATIVE), cost.clone()
    while cost.numel() and cost.min() < INF:
        q, g = divmod(int(cost.argmin()), cost.shape[1])
        gt[q] = g
        cost[q], cost[:, g] = INF, INF
    return gt


def _each_query_its_own(cost):
    if not cost.numel():
        return torch.full((len(cost),), NEGATIVE)
    return torch.where(cost.amin(dim=1) < INF, cost.argmin(dim=1), NEGATIVE)


def _straight(cost):
    gt = torch.full((len(cost),), NEGATIVE)
    query, column = map(torch.as_tensor, linear_sum_assignment(cost))
    gt[query] = column
    return gt


def _without_lost_objects(cost):
    """Objects that are forbidden everywhere are left out, and the rest is solved as it is."""
    gt = torch.full((len(cost),), NEGATIVE)
    kept = (cost < INF).any(dim=0).nonzero()[:, 0]
    query, column = map(torch.as_tensor, linear_sum_assignment(cost[:, kept]))
    gt[query] = kept[column]
    return gt


def _queries_of_objects(cost):
    return torch.as_tensor(linear_sum_assignment(cost.nan_to_num(posinf=1e6).T)[1])


# --- 15.4 -----------------------------------------------------------------------------------------------------------

OBJECTS = torch.tensor([[10.0, 10, 30, 30], [20, 10, 40, 30]])
BOXES = torch.tensor([[12.0, 10, 32, 30], [18, 12, 38, 30], [60, 60, 90, 90], [10, 10, 30, 30]])
SCORES = torch.tensor([[2.0, -1], [1, 1.5], [-2, -2], [-1, -1]]).sigmoid()
MATCHED = {"boxes alone": [3, 1], "class and boxes": [0, 1]}


def which_prediction(guess):
    def matched(class_cost, weights):
        rule = Hungarian(class_cost, weights, image_size=(100, 100))
        target = {"boxes": OBJECTS, "labels": torch.tensor([0, 1])}
        gt = rule(Priors.from_boxes(BOXES), target, Predictions(BOXES, SCORES)).gt
        return [int((gt == g).nonzero()) for g in (0, 1)]

    truth = {"boxes alone": matched(None, (0, 5, 2)), "class and boxes": matched("focal", (2, 5, 2))}
    clues = [
        (lambda got: any(2 in pair for pair in got.values()), "Prediction 2 is far from both objects."),
        (lambda got: any(pair[0] == pair[1] for pair in got.values()), "A prediction serves one object."),
        (lambda got: any(pair[1] == 0 for pair in got.values()), "Prediction 0 is 2 px from object 0, and 8 from 1."),
        (lambda got: any(pair[1] == 3 for pair in got.values()), "Prediction 3 is 10 px from object 1."),
        (
            lambda got: any(pair[0] == 1 for pair in got.values()),
            "Prediction 1 is nearer to object 1, and surer.",
        ),
        ({"boxes alone": [0, 1]}, "Without the class, a box that is the object's own to the pixel costs least."),
        ({"class and boxes": [3, 1]}, "Prediction 3 gives class 0 a score of 0.27. What does that cost beside 0.88?"),
    ]
    expect(guess, truth, clues=clues)


# --- 15.3 -----------------------------------------------------------------------------------------------------------


def _poto(case, rows, answer):
    """The right one: the matching as published, without the pairs that may not match."""
    quality = torch.tensor(rows)
    gt, point = map(torch.as_tensor, linear_sum_assignment(quality, maximize=True))
    served = quality[gt, point] >= 0
    want = torch.full((quality.shape[1],), NEGATIVE)
    want[point[served]] = gt[served]
    compare(case, {"quality": quality}, answer(quality), want)


def all_have_candidates(answer):
    _poto("Two objects with candidates of their own", [[0.6, 0.5, -1.0, -1.0], [-1.0, -1.0, 0.3, 0.4]], answer)
    _poto("Two objects want point 0", [[0.9, 0.8, -1.0], [0.7, 0.1, -1.0]], answer)


def a_score_of_zero(answer):
    _poto("A candidate with score 0 is a candidate, its quality is 0", [[-1.0, 0.0, -1.0], [0.5, -1.0, -1.0]], answer)


def one_is_starved(answer):
    quality = torch.tensor([[0.25, 0.5, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])
    labels = answer(quality)
    if isinstance(labels, torch.Tensor) and (labels == 1).any():
        raise Wrong(
            "Object 1 has no candidate, and a point outside it is told to learn its box, with negative distances to "
            f"its sides.\n    quality = {quality.tolist()}\n    yours = {labels.tolist()}"
        )
    _poto("Object 1 has no candidate, object 0 has two", quality.tolist(), answer)


def the_first_is_starved(answer):
    rows = [[-1.0, -1.0, -1.0, -1.0], [0.6, 0.2, -1.0, -1.0], [-1.0, -1.0, 0.1, 0.4]]
    _poto("Object 0 has no candidate: the labels of the others are shifted or lost", rows, answer)


def all_are_starved(answer):
    _poto("No object has a candidate", [[-1.0, -1.0], [-1.0, -1.0]], answer)


def no_objects_at_all(answer):
    compare("No object", {"quality": torch.zeros(0, 3)}, answer(torch.zeros(0, 3)), torch.full((3,), NEGATIVE))


def _their_poto(quality, keep=lambda value: value >= 0, solve=None):
    table = quality if solve is None else solve(quality)
    gt, point = map(torch.as_tensor, linear_sum_assignment(table, maximize=True))
    labels, kept = torch.full((quality.shape[1],), NEGATIVE), keep(quality[gt, point])
    labels[point[kept]] = gt[kept]
    return labels


def _rows_dropped(quality):
    return _their_poto(quality[(quality >= 0).any(dim=1)])


# --- 15.5 -----------------------------------------------------------------------------------------------------------

# A statement: the row that it puts ahead and the other one, each with the scores that are meant.
BARE = "scores_no_nms"
STATEMENTS = {
    "one beats three": (("topk, k=1", BARE), ("topk, k=3", BARE)),
    "POTO beats nearest": (("poto", BARE), ("rka, dotd, k=1", BARE)),
    "the score helps": (("poto", BARE), ("poto, box alone", BARE)),
    "POTO beats anchor": (("poto", BARE), ("topk, k=1", BARE)),
    "NMS helps POTO": (("poto", "scores"), ("poto", BARE)),
}
LEFT_OUT = {
    "one beats three": "yes",
    "POTO beats nearest": "open",
    "the score helps": "yes",
    "POTO beats anchor": "no",
    "NMS helps POTO": "open",
}


def _judged(differences):
    """The rule of chapter 8, for a statement: all seeds agree on the sign, and the mean is at least 2.5 points."""
    mean = sum(differences) / len(differences)
    one_sign = min(differences) > 0 or max(differences) < 0
    if not one_sign or abs(mean) < leaderboard.NOISE:
        return "open"
    return "yes" if mean > 0 else "no"


def five_statements(answer):
    board = leaderboard.read(datasets.data_dir() / "board", "digits", "full")

    def ap(row, scores):
        return [board[row][seed][scores]["AP"] for seed in range(3)]

    key = {
        name: _judged([a - b for a, b in zip(ap(*one), ap(*other), strict=True)])
        for name, (one, other) in STATEMENTS.items()
    }
    clues = [
        (
            {"NMS helps POTO": "yes"},
            "With NMS POTO is ahead in all three seeds, but by 0.1 to 1.0 AP. What does the second condition ask?",
        ),
        (
            {"NMS helps POTO": "no"},
            'A difference that is too small to claim does not show that there is none. "no" needs one against it.',
        ),
        (
            lambda got: got["POTO beats nearest"] in ("yes", "no"),
            "POTO and the nearest point: compare them seed by seed before you take a mean.",
        ),
        ({"POTO beats anchor": "yes"}, "POTO and the best anchor: which of them is ahead, in each of the three seeds?"),
        (
            {"POTO beats anchor": "open"},
            "POTO and the best anchor: their differences have one sign in all seeds. Compute the mean as well.",
        ),
        (
            lambda got: got["one beats three"] != "yes",
            "One anchor or three: the numbers that count are those in the columns without NMS.",
        ),
        (
            lambda got: got["the score helps"] != "yes",
            "POTO with the score and without it: three differences, the least of which is more than 10 AP.",
        ),
    ]
    expect(answer, key, among=("yes", "no", "open"), clues=clues)


# --- 15.2 -----------------------------------------------------------------------------------------------------------

TABLE = ((0.5, 0.9), (0.2, 0.8), (0.9, 0.1), (0.3, 0.4), (0.7, 0.6), (0.6, 0.35), (0.8, 0.7), (0.95, 0.5))
BLOCKED = 1e6


def _rounds(case, rows, k, answer):
    cost = torch.tensor(rows)
    compare(case, {"cost": cost, "k": k}, answer(cost, k), _right_rounds(cost, k))


def _right_rounds(cost, k):
    gt = torch.full((len(cost),), NEGATIVE)
    for _ in range(k):
        free = (gt == NEGATIVE).nonzero()[:, 0]
        query, column = map(torch.as_tensor, linear_sum_assignment(cost[free]))
        gt[free[query]] = column
    return gt


def one_round(answer):
    _rounds("One round is the plain matching", TABLE, 1, answer)


def two_rounds_for_one(answer):
    rows = [[0.9], [0.8], [0.3], [0.1]]
    _rounds("One object and two rounds: it is served once only, or by a query that is not free", rows, 2, answer)


def query_3_for_both(answer):
    rows = [[0.98, 0.95], [0.97, 0.96], [0.6, 0.4], [0.1, 0.15], [0.5, 0.7], [0.55, 0.45]]
    _rounds("Query 3 is the cheapest of both objects: it serves one, and no second one later", rows, 2, answer)


def three_rounds(answer):
    case = "Two objects and three rounds: query 0 was free and cheaper than a query that object 0 got"
    _rounds(case, TABLE, 3, answer)


def three_objects(answer):
    rows = [[0.3, 0.9, 0.8], [0.7, 0.35, 0.6], [0.9, 0.8, 0.4], [0.1, 0.7, 0.9], [0.8, 0.15, 0.7], [0.9, 0.6, 0.2]]
    _rounds("Three objects and two rounds: the first three queries are free after round one", rows, 2, answer)


def round_by_round(answer):
    rows = [[0.6, 0.8], [0.5, 0.55], [0.9, 0.65], [0.3, 0.45], [0.15, 0.75]]
    _rounds("Round one is settled before round two begins, even where the sum of both could be less", rows, 2, answer)


def more_than_there_are(answer):
    rows = [[0.6, 0.3], [0.2, 0.7], [0.5, 0.45]]
    _rounds("Three queries, two objects, three rounds: a query keeps the object that it has", rows, 3, answer)


def no_object(answer):
    compare("No object", {"cost": torch.zeros(3, 0), "k": 2}, answer(torch.zeros(3, 0), 2), torch.full((3,), NEGATIVE))


def _their_rounds(block, guarded=True):
    def answer(cost, k):
        cost, gt = cost.clone(), torch.full((len(cost),), NEGATIVE)
        for _ in range(k):
            query, column = map(torch.as_tensor, linear_sum_assignment(cost))
            new = cost[query, column] < BLOCKED if guarded else torch.ones_like(query, dtype=torch.bool)
            gt[query[new]] = column[new]
            block(cost, query, column)
        return gt

    return answer


def _block_pairs(cost, query, column):
    cost[query, column] = BLOCKED


def _block_columns(cost, query, column):
    cost[:, column] = BLOCKED


def _block_queries(cost, query, column):
    cost[query] = BLOCKED


def _block_next(cost, query, column):
    cost[column] = BLOCKED


def _joint(cost, k):
    gt = torch.full((len(cost),), NEGATIVE)
    if cost.shape[1]:
        query, column = map(torch.as_tensor, linear_sum_assignment(np.tile(cost, (1, k))))
        gt[query] = column % cost.shape[1]
    return gt


EXERCISES = (
    Exercise(
        id="15.1",
        title="The least sum",
        difficulty=2,
        minutes=10,
        hints=(
            "linear_sum_assignment(cost) returns two arrays, the rows and the columns of the pairs. It refuses a table "
            "in which no full matching is finite.",
            "Put a number in place of inf that no matching would pay if it could avoid it: more than all real costs "
            "of a matching together. Afterwards drop the pairs that were forbidden.",
            "With shifted = cost - least (so that nothing is negative), (largest + 1) * (min(cost.shape) + 1) is dear "
            "enough. Compute in double(); return early where no pair is allowed.",
        ),
        tests=(
            one_object,
            both_want_one,
            the_cheapest_pair_is_a_trap,
            below_zero,
            some_are_forbidden,
            forbidden_everywhere,
            one_query_for_both,
            as_many_as_possible,
            as_many_below_zero,
            too_many_objects,
            all_forbidden,
            none_there,
        ),
        mutants={
            "each object takes its cheapest": (_each_its_own, "Two objects want query 0"),
            "each query takes its cheapest": (_each_query_its_own, "Three queries and one object"),
            "the cheapest pair first": (_greedy, "least sum"),
            "inf goes in as it is": (_straight, "infeasible"),
            "lost objects are left out, the rest goes in": (_without_lost_objects, "infeasible"),
            "the query of each object": (_queries_of_objects, "shape"),
            "forbidden is cheap": (lambda cost: _solved(cost, 10.0), "pays 900"),
            "the forbidden are kept": (lambda cost: _solved(cost, drop=False), "forbidden everywhere"),
        },
    ),
    Exercise(
        id="15.4",
        kind="P",
        title="Which prediction is matched?",
        difficulty=2,
        minutes=4,
        hints=("Object by object: which box is nearest, and what does its score add or take away?",),
        tests=(which_prediction,),
        mutants={
            "the exact box wins both": (MATCHED | {"class and boxes": [3, 1]}, "0.27"),
            "the sure one wins both": (MATCHED | {"boxes alone": [0, 1]}, "to the pixel"),
            "a prediction for two": ({"boxes alone": [1, 1], "class and boxes": [0, 1]}, "serves one object"),
            "the far one": ({"boxes alone": [3, 1], "class and boxes": [0, 2]}, "far from both"),
            "turned round": ({"boxes alone": [3, 1], "class and boxes": [1, 0]}, "2 px"),
        },
    ),
    Exercise(
        id="15.3",
        kind="B",
        title="The point that no object fits",
        difficulty=3,
        minutes=8,
        hints=(
            "Call it with one object whose row holds -1 only. Which point gets the label, and why that one?",
            "The solver pairs every row with some column, whatever that costs. What tells you afterwards that a pair "
            "was not allowed?",
            "Look up the quality of each pair that the solver returned, and write only the labels of those that are "
            "not -1. A quality of 0 is allowed.",
        ),
        tests=(
            all_have_candidates,
            a_score_of_zero,
            one_is_starved,
            the_first_is_starved,
            all_are_starved,
            no_objects_at_all,
        ),
        mutants={
            "given": (GIVEN, "negative distances"),
            "minus infinity": (
                lambda q: _their_poto(q, solve=lambda table: torch.where(table < 0, -INF, table)),
                "infeasible",
            ),
            "zero is dropped": (lambda q: _their_poto(q, keep=lambda value: value > 0), "score 0"),
            "the object's row is dropped": (_rows_dropped, "shifted"),
            "minus one becomes zero": (
                lambda q: _their_poto(q, keep=lambda value: value > -2, solve=lambda table: table.clamp(min=0)),
                "negative distances",
            ),
            "point 0 is never used": (
                lambda q: torch.cat([torch.full((1,), NEGATIVE), _their_poto(q)[1:]]),
                "candidate",
            ),
        },
    ),
    Exercise(
        id="15.5",
        kind="M",
        title="May we leave it out?",
        difficulty=3,
        minutes=8,
        hints=(
            "Subtract the two rows of a statement seed by seed. Ask for the three signs first and for the mean then.",
        ),
        tests=(five_statements,),
        mutants={
            "a loss of half a point": (LEFT_OUT | {"NMS helps POTO": "yes"}, "second condition"),
            "useless": (LEFT_OUT | {"NMS helps POTO": "no"}, "too small to claim"),
            "POTO by its mean": (LEFT_OUT | {"POTO beats nearest": "yes"}, "seed by seed"),
            "the nearest by seed 1": (LEFT_OUT | {"POTO beats nearest": "no"}, "seed by seed"),
            "asking must help": (LEFT_OUT | {"POTO beats anchor": "yes"}, "which of them is ahead"),
            "the anchor, not certain": (LEFT_OUT | {"POTO beats anchor": "open"}, "the mean as well"),
            "the columns with NMS": (LEFT_OUT | {"one beats three": "open"}, "without NMS"),
            "three are more": (LEFT_OUT | {"one beats three": "no"}, "without NMS"),
            "the score, not certain": (LEFT_OUT | {"the score helps": "open"}, "more than 10"),
            "the score hurts": (LEFT_OUT | {"the score helps": "no"}, "more than 10"),
        },
    ),
    Exercise(
        id="15.2",
        kind="B",
        title="Blocked for nothing",
        difficulty=4,
        minutes=12,
        hints=(
            "Call it with the table of the next figure, k = 1, 2, 3, and note which queries are out after each round.",
            "`pairs` is one tensor of two rows. What does PyTorch select when a tensor of two rows stands alone "
            "between the brackets?",
            "cost[pairs] reads every number in it as the number of a query, and the objects' numbers are among them.",
        ),
        tests=(
            one_round,
            two_rounds_for_one,
            query_3_for_both,
            three_rounds,
            three_objects,
            round_by_round,
            more_than_there_are,
            no_object,
        ),
        mutants={
            "given": (GIVEN, "query 0 was free"),
            "only the pairs": (_their_rounds(_block_pairs), "Query 3"),
            "the objects": (_their_rounds(_block_columns), "served once only"),
            "the objects' numbers as queries": (_their_rounds(_block_next), "served once only"),
            "without the guard": (_their_rounds(_block_queries, guarded=False), "keeps the object"),
            "all rounds at once": (_joint, "Round one is settled"),
        },
    ),
)
