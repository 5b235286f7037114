"""The exercises of chapter 08: own thresholds, the k best with ties, who wins a conflict, TopK."""

import torch

from labelkit import NEGATIVE, Assignment, Priors, plot
from labelkit.assigners import TopK
from labelkit.boxes import centers
from labelkit.similarity import iou
from labelkit_course import Exercise, compare

# --- 08.1 -----------------------------------------------------------------------------------------------------------


def _thresholds(case, table, k, answer):
    table = torch.tensor(table)
    want = table.sort(dim=0, descending=True).values[min(k, len(table)) - 1]
    compare(case, {"table": table, "k": k}, answer(table, k), want)


def one_object(answer):
    _thresholds("One object, four anchors, k = 2", [[0.1], [0.6], [0.3], [0.5]], 2, answer)


def a_threshold_each(answer):
    table = [[0.9, 0.1], [0.7, 0.2], [0.8, 0.0], [0.0, 0.15]]
    _thresholds("Two objects with thresholds of their own, k = 3", table, 3, answer)


def equal_values_count_each(answer):
    _thresholds("Equal values count each: 0.4, 0.4, 0.4, 0.1", [[0.4], [0.1], [0.4], [0.4]], 2, answer)


def k_is_one(answer):
    _thresholds("k = 1 asks for the best", [[0.2, 0.5], [0.6, 0.1]], 1, answer)


def fewer_anchors_than_k(answer):
    _thresholds("Fewer anchors than k", [[0.2, 0.5], [0.6, 0.1]], 9, answer)


def no_object(answer):
    table = torch.zeros(5, 0)
    compare("No object: no threshold", {"table": table, "k": 3}, answer(table, 3), torch.zeros(0))


# --- 08.2 -----------------------------------------------------------------------------------------------------------


def _k_best(case, ious, distances, k, answer):
    keys = [(-value, distance, index) for index, (value, distance) in enumerate(zip(ious, distances, strict=True))]
    want = [index for value, _, index in sorted(keys) if value < 0][:k]
    ious, distances = torch.tensor(ious), torch.tensor(distances)
    inputs = {"ious": ious, "distances": distances, "k": k}
    compare(case, inputs, answer(ious, distances, k), torch.tensor(want, dtype=torch.int64))


def different_ious(answer):
    _k_best("All IoUs differ", [0.1, 0.5, 0.3, 0.4], [1.0, 9.0, 2.0, 3.0], 2, answer)


def nearer_first(answer):
    _k_best("Three equal IoUs: the nearer goes first", [0.3, 0.3, 0.6, 0.3], [5.0, 2.0, 9.0, 3.0], 3, answer)


def lower_index_last(answer):
    ious, distances = [0.2] * 20, [4.0, 1.0] * 10
    _k_best("Equal IoU and equal distance: the lower index goes first", ious, distances, 4, answer)


def a_hair_is_a_difference(answer):
    _k_best("A slightly higher IoU beats any distance", [0.3, 0.30001], [1.0, 5000.0], 1, answer)


def nothing_in_common(answer):
    _k_best("Anchors with IoU 0 are left out", [0.0, 0.2, 0.0, 0.1], [1.0, 8.0, 1.0, 9.0], 3, answer)


def no_anchor_touches(answer):
    _k_best("No anchor overlaps the object", [0.0, 0.0], [1.0, 2.0], 3, answer)


def _left_out(ious, order, k):
    return order[ious[order] > 0][:k]


def _topk_alone(ious, distances, k):
    value, index = ious.sort(descending=True, stable=True)
    return index[value > 0][:k]


def _farthest_first(ious, distances, k):
    order = distances.argsort(descending=True, stable=True)
    return _left_out(ious, order[ious[order].argsort(descending=True, stable=True)], k)


def _distance_first(ious, distances, k):
    order = ious.argsort(descending=True, stable=True)
    return _left_out(ious, order[distances[order].argsort(stable=True)], k)


def _sum_of_both(ious, distances, k):
    return _left_out(ious, (ious - distances / 1000).argsort(descending=True, stable=True), k)


def _zeros_too(ious, distances, k):
    order = distances.argsort(stable=True)
    return order[ious[order].argsort(descending=True, stable=True)][:k]


def _last_of_equals(ious, distances, k):
    order = distances.flip(0).argsort(stable=True)
    order = len(ious) - 1 - order
    return _left_out(ious, order[ious[order].argsort(descending=True, stable=True)], k)


def _second_index_kept(ious, distances, k):
    order = distances.argsort(stable=True)
    again = ious[order].argsort(descending=True, stable=True)
    return again[ious[order][again] > 0][:k]


# --- 08.3 -----------------------------------------------------------------------------------------------------------


def _winner(chosen, table):
    bids = [[(value, -g) for g, value in enumerate(row) if wants[g]] for wants, row in zip(chosen, table, strict=True)]
    return torch.tensor([-max(bid)[1] if bid else NEGATIVE for bid in bids], dtype=torch.int64)


def _winners(case, chosen, table, answer):
    want = _winner(chosen, table)
    chosen, table = torch.tensor(chosen), torch.tensor(table)
    compare(case, {"chosen": chosen, "table": table}, answer(chosen, table), want)


def no_conflict(answer):
    chosen = [[True, False], [False, False], [False, True]]
    _winners("Nobody wants the second anchor", chosen, [[0.5, 0.1], [0.4, 0.0], [0.0, 0.3]], answer)


def both_want_it(answer):
    chosen = [[True, True], [True, True]]
    _winners("Both objects want both anchors", chosen, [[0.5, 0.1], [0.2, 0.3]], answer)


def only_those_who_chose_compete(answer):
    case = "The object with the higher IoU did not choose the anchor"
    _winners(case, [[False, True], [True, False]], [[0.6, 0.2], [0.1, 0.9]], answer)


def equal_bids(answer):
    case = "Equal IoU: the lower index"
    _winners(case, [[True, True, True], [False, True, True]], [[0.2, 0.4, 0.4], [0.9, 0.3, 0.3]], answer)


def no_objects_no_winners(answer):
    chosen, table = torch.zeros(3, 0, dtype=torch.bool), torch.zeros(3, 0)
    want = torch.full((3,), NEGATIVE)
    compare("An image without objects", {"chosen": chosen, "table": table}, answer(chosen, table), want)


def _columns(winners):
    """A winner, or NEGATIVE where G is 0, so that a mutant fails where it should."""

    def answer(chosen, table):
        if table.shape[1] == 0:
            return torch.full((len(table),), NEGATIVE)
        return winners(chosen, table)

    return answer


def _everybody_competes(chosen, table):
    return torch.where(chosen.any(dim=1), table.argmax(dim=1), NEGATIVE)


def _last_chooser(chosen, table):
    last = table.shape[1] - 1 - chosen.flip(1).long().argmax(dim=1)
    return torch.where(chosen.any(dim=1), last, NEGATIVE)


def _first_chooser(chosen, table):
    return torch.where(chosen.any(dim=1), chosen.long().argmax(dim=1), NEGATIVE)


def _nobody_is_the_first(chosen, table):
    return torch.where(chosen, table, -1.0).argmax(dim=1)


def _last_of_equal_bids(chosen, table):
    bids = torch.where(chosen, table, -1.0).flip(1)
    return torch.where(chosen.any(dim=1), table.shape[1] - 1 - bids.argmax(dim=1), NEGATIVE)


def _no_guard(chosen, table):
    best, winner = torch.where(chosen, table, -1.0).max(dim=1)
    return torch.where(best < 0, NEGATIVE, winner)


# --- 08.4 -----------------------------------------------------------------------------------------------------------


def _topk(case, boxes, k, answer, priors=None):
    priors = Priors.anchors((32, 32), (8,), ((16,),)) if priors is None else priors
    boxes = torch.tensor(boxes).reshape(-1, 4)
    want = TopK(k=k)(priors, {"boxes": boxes}).gt
    got = answer(priors, boxes, k)
    compare(case, {"priors": priors, "gt_boxes": boxes, "k": k}, got, want, draw=lambda: _two(priors, boxes, got, want))


def _two(priors, boxes, got, want):
    """The two answers side by side; a label that is none is drawn as background."""
    figure, axes = plot.figure(2)
    edge = int(priors.boxes.max())
    for ax, gt, title in zip(axes, (got, want), ("yours", "right"), strict=True):
        gt = torch.where(gt < len(boxes), gt, NEGATIVE)
        zeros = torch.zeros(len(gt))
        plot.scene(ax, (edge, edge), boxes, title=title)
        plot.assignment(ax, priors, Assignment(gt, zeros, zeros, zeros), boxes)
    plot.legend(axes[0], "gt", "positive", "negative")
    return figure


def one_large_object(answer):
    _topk("One object, its three best anchors of 16", [[6.0, 5.0, 24.0, 21.0]], 3, answer)


def objects_far_apart(answer):
    _topk("Two objects that do not compete", [[1.0, 1.0, 9.0, 11.0], [20.0, 19.0, 31.0, 30.0]], 2, answer)


def a_tie_at_the_kth_place(answer):
    _topk("An object ties with four anchors, and k = 2 of them go by distance", [[15.0, 16.0, 18.0, 19.0]], 2, answer)


def all_equal(answer):
    _topk("Four anchors tie in IoU and distance, k = 3: the lower index", [[14.0, 14.0, 18.0, 18.0]], 3, answer)


def a_conflict(answer):
    boxes = [[6.0, 6.0, 20.0, 20.0], [9.0, 8.0, 24.0, 23.0]]
    _topk("Two objects want the same anchors: the higher IoU wins, and the loser gets no replacement", boxes, 4, answer)


def only_choosers_compete(answer):
    # The large object overlaps the small one's anchor more, but has better anchors of its own.
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 16, 16], [2.0, 2, 18, 18], [30.0, 30, 40, 40]]))
    boxes = [[2.0, 2.0, 17.0, 18.0], [0.0, 0.0, 6.0, 6.0]]
    _topk("An object that did not choose an anchor cannot win it", boxes, 1, answer, priors)


def more_than_overlap(answer):
    _topk("k is larger than the number of anchors that overlap the object", [[0.0, 0.0, 3.0, 3.0]], 9, answer)


def k_above_all(answer):
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 8, 8], [4.0, 0, 12, 8]]))
    _topk("k is larger than the number of anchors", [[2.0, 0.0, 9.0, 8.0]], 5, answer, priors)


def an_empty_image(answer):
    _topk("An image without objects: all anchors are negative", [], 3, answer)


def _wrong_topk(tie="near", keep_zeros=False, compete="choosers", per_object=True, guard=True):
    """TopK with one thing changed."""

    def answer(priors, gt_boxes, k=9):
        if len(gt_boxes) == 0 and guard:
            return torch.full((len(priors),), NEGATIVE)
        table = iou(priors.boxes[:, None], gt_boxes)
        distance = (priors.centers[:, None] - centers(gt_boxes)).square().sum(dim=-1)
        distance = {"near": distance, "index": torch.zeros_like(distance), "far": -distance}[tie]
        order = distance.argsort(dim=0, stable=True)
        order = order.gather(0, table.gather(0, order).argsort(dim=0, descending=True, stable=True))[:k]
        chosen = torch.zeros_like(table, dtype=torch.bool).scatter(0, order, True)
        chosen = chosen if keep_zeros else chosen & (table > 0)
        if not per_object:
            best = torch.zeros_like(table).flatten().index_fill(0, table.flatten().topk(k).indices, 1.0)
            chosen = best.view_as(table) > 0
        if compete == "last":
            winner = table.shape[1] - 1 - chosen.flip(1).long().argmax(dim=1)
        else:
            winner = (torch.where(chosen, table, -1.0) if compete == "choosers" else table).argmax(dim=1)
        return torch.where(chosen.any(dim=1), winner, NEGATIVE)

    return answer


def _at_least_the_kth(priors, gt_boxes, k=9):
    """Cut at the k-th IoU: all that tie with it come along."""
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    table = iou(priors.boxes[:, None], gt_boxes)
    chosen = (table >= table.topk(min(k, len(table)), dim=0).values[-1]) & (table > 0)
    best, winner = torch.where(chosen, table, -1.0).max(dim=1)
    return torch.where(best > 0, winner, NEGATIVE)


EXERCISES = (
    Exercise(
        id="08.1",
        title="Own thresholds",
        difficulty=2,
        minutes=8,
        hints=(
            "A column of the table belongs to one object. Sort each column, largest first: the k-th row is the answer.",
            "table.topk(n, dim=0).values has n rows, the largest first. Which row is the k-th largest? How large may n "
            "be?",
            "n is min(k, len(table)), and the last row of the result is the answer: .values[-1].",
        ),
        tests=(one_object, a_threshold_each, equal_values_count_each, k_is_one, fewer_anchors_than_k, no_object),
        mutants={
            "one place too far": (
                lambda table, k: table.sort(dim=0, descending=True).values[min(k, len(table) - 1)],
                "One object",
            ),
            "the best instead of the k-th": (lambda table, k: table.amax(dim=0), "One object, four anchors"),
            "one threshold for all": (
                lambda table, k: table.flatten().sort(descending=True).values[k - 1].expand(table.shape[1]),
                "Two objects",
            ),
            "smallest first": (lambda table, k: table.sort(dim=0).values[min(k, len(table)) - 1], "One object"),
            "along the rows": (
                lambda table, k: table.topk(min(k, table.shape[1]), dim=1).values[:, -1],
                "shape",
            ),
            "different values only": (
                lambda table, k: (
                    torch.stack([c.unique().flip(0)[min(k, len(c.unique())) - 1] for c in table.T])
                    if table.shape[1]
                    else table.new_zeros(0)
                ),
                "Equal values count each",
            ),
            "k too large": (lambda table, k: table.topk(k, dim=0).values[-1], "out of range"),
        },
    ),
    Exercise(
        id="08.2",
        title="The k best, ties included",
        difficulty=3,
        minutes=12,
        hints=(
            "Sort twice. The criterion that counts less comes first: the distance.",
            "order = distances.argsort(stable=True). Then sort the IoUs in this order, largest first and stable. The "
            "result are places in `order`, not yet indices of anchors.",
            "order = order[ious[order].argsort(descending=True, stable=True)]. Then keep those with ious[order] > 0, "
            "and the first k of them.",
        ),
        tests=(
            different_ious,
            nearer_first,
            lower_index_last,
            a_hair_is_a_difference,
            nothing_in_common,
            no_anchor_touches,
        ),
        mutants={
            "distance forgotten": (_topk_alone, "the nearer goes first"),
            "farthest first": (_farthest_first, "the nearer goes first"),
            "distance before IoU": (_distance_first, "All IoUs differ"),
            "one number for both": (_sum_of_both, "A slightly higher IoU"),
            "last of equals": (_last_of_equals, "the lower index goes first"),
            "zeros too": (_zeros_too, "IoU 0 are left out"),
            "places instead of indices": (_second_index_kept, "All IoUs differ"),
        },
    ),
    Exercise(
        id="08.3",
        title="Who wins?",
        difficulty=2,
        minutes=8,
        hints=(
            "An object that did not choose the anchor must not win it. Give it a bid that loses against everybody.",
            "torch.where(chosen, table, -1.0) is the table of bids. The maximum of each row is the best bid, and its "
            "place is the winner; torch takes the first of equals.",
            "best, winner = bids.max(dim=1); where best is below 0 nobody chose the anchor. A table with G = 0 has no "
            "maximum: return NEGATIVE for all before.",
        ),
        tests=(no_conflict, both_want_it, only_those_who_chose_compete, equal_bids, no_objects_no_winners),
        mutants={
            "everybody competes": (_columns(_everybody_competes), "did not choose the anchor"),
            "the last one overwrites": (_columns(_last_chooser), "Both objects want both"),
            "the first one keeps": (_columns(_first_chooser), "Both objects want both"),
            "nobody means the first": (_columns(_nobody_is_the_first), "Nobody wants the second anchor"),
            "last of equal bids": (_columns(_last_of_equal_bids), "Equal IoU: the lower index"),
            "no image without objects": (_no_guard, "no_guard([[], [], []]"),
        },
    ),
    Exercise(
        id="08.4",
        title="TopK",
        difficulty=4,
        minutes=15,
        provides="topk",
        hints=(
            "Three steps: the table of IoU and the table of squared distances; for each object its k best, as in 08.2, "
            "marked in a table `chosen`; for each anchor the winner, as in 08.3.",
            "table = iou(priors.boxes[:, None], gt_boxes). distance = (priors.centers[:, None] - centers(gt_boxes))"
            ".square().sum(dim=-1). chosen begins as torch.zeros_like(table, dtype=torch.bool).",
            "For each g: order by distance[:, g], then by table[:, g], keep [:k], and set chosen[order, g] to "
            "table[order, g] > 0. At the end the row-wise max of torch.where(chosen, table, -1.0).",
        ),
        tests=(
            one_large_object,
            objects_far_apart,
            a_tie_at_the_kth_place,
            all_equal,
            a_conflict,
            only_choosers_compete,
            more_than_overlap,
            k_above_all,
            an_empty_image,
        ),
        mutants={
            "cut at the k-th IoU": (_at_least_the_kth, "ties with four anchors"),
            "ties by index": (_wrong_topk(tie="index"), "go by distance"),
            "ties to the farthest": (_wrong_topk(tie="far"), "go by distance"),
            "the k best of the whole table": (_wrong_topk(per_object=False), "Two objects that do not compete"),
            "the last object overwrites": (_wrong_topk(compete="last"), "the higher IoU wins"),
            "everybody competes": (_wrong_topk(compete="all"), "cannot win it"),
            "anchors that overlap nothing": (_wrong_topk(keep_zeros=True), "overlap the object"),
            "no image without objects": (_wrong_topk(guard=False), "argmax"),
        },
    ),
)
