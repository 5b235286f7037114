"""The exercises of chapter 08: own thresholds, the k best with ties, TopK, a greedy neighbour, three or nine?"""

import torch

from labelkit import NEGATIVE, Assignment, Priors, datasets, plot
from labelkit.assigners import TopK
from labelkit.boxes import area, centers
from labelkit.similarity import iou
from labelkit_course import Exercise, Wrong, compare, expect
from labelkit_course import board as leaderboard

# --- 08.1 -----------------------------------------------------------------------------------------------------------


def _thresholds(case, table, k, answer):
    table = torch.tensor(table)
    want = table.sort(dim=0, descending=True).values[min(k, len(table)) - 1]
    compare(case, {"table": table, "k": k}, answer(table, k), want)


def one_object(answer):
    _thresholds(
        "With one object, four anchors and k = 2 the second largest IoU is asked for",
        [[0.1], [0.6], [0.3], [0.5]],
        2,
        answer,
    )


def a_threshold_each(answer):
    table = [[0.9, 0.1], [0.7, 0.2], [0.8, 0.0], [0.0, 0.15]]
    _thresholds("With k = 3 each of two objects has a threshold of its own", table, 3, answer)


def equal_values_count_each(answer):
    table = [[0.4], [0.1], [0.4], [0.4]]
    _thresholds("Three anchors have the same IoU, and each of them counts as one", table, 2, answer)


def k_is_one(answer):
    _thresholds("With k = 1 the threshold is the best IoU of the object", [[0.2, 0.5], [0.6, 0.1]], 1, answer)


def fewer_anchors_than_k(answer):
    _thresholds(
        "There are fewer anchors than k, so the smallest IoU is the threshold", [[0.2, 0.5], [0.6, 0.1]], 9, answer
    )


def no_object(answer):
    table = torch.zeros(5, 0)
    compare("Without objects there are no thresholds", {"table": table, "k": 3}, answer(table, 3), torch.zeros(0))


# --- 08.2 -----------------------------------------------------------------------------------------------------------


def _k_best(case, ious, distances, k, answer):
    keys = [(-value, distance, index) for index, (value, distance) in enumerate(zip(ious, distances, strict=True))]
    want = [index for value, _, index in sorted(keys) if value < 0][:k]
    ious, distances = torch.tensor(ious), torch.tensor(distances)
    inputs = {"ious": ious, "distances": distances, "k": k}
    compare(case, inputs, answer(ious, distances, k), torch.tensor(want, dtype=torch.int64))


def different_ious(answer):
    _k_best("All IoUs differ, so the distances do not matter", [0.1, 0.5, 0.3, 0.4], [1.0, 9.0, 2.0, 3.0], 2, answer)


def nearer_first(answer):
    _k_best(
        "Of three anchors with the same IoU the nearer goes first",
        [0.3, 0.3, 0.6, 0.3],
        [5.0, 2.0, 9.0, 3.0],
        3,
        answer,
    )


def lower_index_last(answer):
    ious, distances = [0.2] * 20, [4.0, 1.0] * 10
    _k_best("Where IoU and distance are the same, the lower index goes first", ious, distances, 4, answer)


def a_hair_is_a_difference(answer):
    _k_best("A slightly higher IoU goes before a much smaller distance", [0.3, 0.30001], [1.0, 5000.0], 1, answer)


def nothing_in_common(answer):
    _k_best(
        "Anchors with IoU 0 are left out, although fewer than k remain",
        [0.0, 0.2, 0.0, 0.1],
        [1.0, 8.0, 1.0, 9.0],
        3,
        answer,
    )


def no_anchor_touches(answer):
    _k_best("No anchor overlaps the object, so none is chosen", [0.0, 0.0], [1.0, 2.0], 3, answer)


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
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        gt = torch.where(gt < len(boxes), gt, NEGATIVE)
        zeros = torch.zeros(len(gt))
        plot.scene(ax, (edge, edge), boxes, title=title)
        plot.assignment(ax, priors, Assignment(gt, zeros, zeros, zeros), boxes)
    plot.legend(axes[0], "gt", "positive", "negative")
    return figure


def one_large_object(answer):
    _topk("One object takes its three best anchors of 16", [[6.0, 5.0, 24.0, 21.0]], 3, answer)


def objects_far_apart(answer):
    _topk("Two objects that are far apart do not compete", [[1.0, 1.0, 9.0, 11.0], [20.0, 19.0, 31.0, 30.0]], 2, answer)


def a_tie_at_the_kth_place(answer):
    _topk(
        "Four anchors tie for one object, and k = 2 of them are taken by distance",
        [[15.0, 16.0, 18.0, 19.0]],
        2,
        answer,
    )


def all_equal(answer):
    _topk(
        "Four anchors tie in IoU and in distance, so the lower indices are taken (k = 3)",
        [[14.0, 14.0, 18.0, 18.0]],
        3,
        answer,
    )


def a_conflict(answer):
    boxes = [[6.0, 6.0, 20.0, 20.0], [9.0, 8.0, 24.0, 23.0]]
    case = "Two objects want the same anchors, the higher IoU wins each, and the loser gets no replacement"
    _topk(case, boxes, 4, answer)


def the_nearer_has_less(answer):
    case = "Two objects want the same anchor: one has the nearer centre, the other the higher IoU, and that one wins"
    _topk(case, [[8.0, 8.0, 16.0, 16.0], [5.0, 5.0, 23.0, 23.0]], 1, answer)


def twins(answer):
    case = "The same object is there twice, so all IoUs are equal, and the lower index gets the anchors"
    _topk(case, [[6.0, 6.0, 20.0, 20.0]] * 2, 3, answer)


def only_choosers_compete(answer):
    # The large object overlaps the small one's anchor more, but has better anchors of its own.
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 16, 16], [2.0, 2, 18, 18], [30.0, 30, 40, 40]]))
    boxes = [[2.0, 2.0, 17.0, 18.0], [0.0, 0.0, 6.0, 6.0]]
    _topk(
        "An object cannot win an anchor that it did not choose, however much it overlaps it", boxes, 1, answer, priors
    )


def more_than_overlap(answer):
    _topk("Fewer than k anchors overlap the object, and only these are taken", [[0.0, 0.0, 3.0, 3.0]], 9, answer)


def k_above_all(answer):
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 8, 8], [4.0, 0, 12, 8]]))
    _topk("There are fewer than k anchors in all", [[2.0, 0.0, 9.0, 8.0]], 5, answer, priors)


def an_empty_image(answer):
    _topk("In an image without objects all anchors are negative", [], 3, answer)


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
        elif compete == "last of equals":
            winner = table.shape[1] - 1 - torch.where(chosen, table, -1.0).flip(1).argmax(dim=1)
        elif compete == "nearest":
            away = (priors.centers[:, None] - centers(gt_boxes)).square().sum(dim=-1)
            winner = torch.where(chosen, away, torch.inf).argmin(dim=1)
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


# --- 08.6 -----------------------------------------------------------------------------------------------------------

NET = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))
A = torch.tensor([60.0, 60, 68, 68])


def nothing_is_left(box):
    """TopK with k = 3 on A and `box`: A gets no positive, and `box` is not simply another A."""
    b = torch.as_tensor(box, dtype=torch.float32)
    if b.shape != (4,) or not bool((b[2:] > b[:2]).all()):
        raise ValueError("it should be the box of one object, [x1, y1, x2, y2] with x1 < x2 and y1 < y2.")
    both = torch.stack([A, b])
    if b.min() < 0 or b.max() > 128:
        raise Wrong("Your object is not inside the picture, which is 128 px wide and high.", inputs={"box": b})
    times = (area(b) / area(A)).item()
    if times < 1.4 - 1e-6:
        raise Wrong(f"Your object has {times:.2f} times the area of A, and at least 1.4 times is asked.", *_drawn(both))
    kept = TopK(k=3)(NET, {"boxes": both}).positives_per_gt(2)[0].item()
    if kept:
        raise Wrong(f"A keeps {kept} of its 3 anchors.\n{_why_kept(both)}", *_drawn(both))


def _why_kept(both):
    alone = [TopK(k=3)(NET, {"boxes": box[None]}).positive for box in both]
    wanted_by_both = (alone[0] & alone[1]).sum().item()
    if wanted_by_both == 0:
        if not set(NET.levels[alone[1]].tolist()) & set(NET.levels[alone[0]].tolist()):
            side = 16 * 2 ** int(NET.levels[alone[1]][0])
            return f"Your object is so large that it wants {side} px anchors. It competes for none of A's."
        return "The three anchors that your object wants are all in other places, so it competes for none of A's."
    if wanted_by_both < 3:
        return f"Your object wants {wanted_by_both} of the three anchors, and nobody competes with A for the others."
    return (
        "Your object wants all three, but it does not have the higher IoU with every one of them. Where the IoU is the "
        "same, A wins, because it comes first."
    )


def _drawn(both):
    """How to draw A and the other object with the centres of the anchors that each wants; and the other object."""

    def draw():
        figure, axes = plot.figure(2, width=3.6, height=4.0)
        x, y = centers(A).tolist()
        for ax, box, name in zip(axes, both, ("A wants", "yours wants"), strict=True):
            wanted = TopK(k=3)(NET, {"boxes": box[None]}).positive
            plot.scene(ax, (128, 128), both, title=name, labels=["A", ""])
            plot.points(ax, NET.centers[wanted], "positive")
            ax.set(xlim=(x - 24, x + 24), ylim=(y + 24, y - 24))
        plot.legend(axes[0], "gt", positive="centre of an anchor")
        return figure

    return draw, {"box": both[1]}


# --- 08.5 -----------------------------------------------------------------------------------------------------------

ROWS = {"3": "topk, k=3", "9": "topk, k=9", "ties": "max_iou, nearest tie"}  # of the board
COLUMNS = {"AP": "AP", "under 8 px": "AP50_0-8", "16 px and more": "AP50_16+"}
ASKED = ("3 or 9, AP", "3 or 9, 16 px and more", "9 or ties, AP", "9 or ties, under 8 px")
VERDICTS = ("3", "9", "ties", "open")


def gains(question):
    """What the first of the two rows is ahead by, in points, one number per seed, as the board has stored them."""
    rows, column = question.split(", ")
    board = leaderboard.read(datasets.data_dir() / "board", "digits", "full")
    one, other = (board[ROWS[name]] for name in rows.split(" or "))
    key = COLUMNS[column]
    return [100 * (one[seed]["scores"][key] - other[seed]["scores"][key]) for seed in range(3)]


def verdict(question):
    """The rule of the text: all seeds agree on the sign, and the mean is at least 2.5 points."""
    differences = gains(question)
    mean = sum(differences) / len(differences)
    one_sign = min(differences) > 0 or max(differences) < 0
    if not one_sign or abs(mean) < 100 * leaderboard.NOISE:
        return "open"
    return question.split(", ")[0].split(" or ")[0 if mean > 0 else 1]


def four_questions(answer):
    key = {question: verdict(question) for question in ASKED}
    signs = "A positive difference is one for the row that is named first."
    clues = [
        ({"3 or 9, AP": "open"}, "All three seeds agree on AP. Take the mean of their differences, too."),
        ({"3 or 9, AP": lambda said: said != "3"}, f"Look at the signs of the AP once more. {signs}"),
        (
            {"3 or 9, 16 px and more": "3"},
            "For the digits of 16 px and more you have counted the signs. That is one of the two conditions.",
        ),
        (
            {"3 or 9, 16 px and more": lambda said: said in ("9", "ties")},
            f"Look at the signs for the digits of 16 px and more. {signs}",
        ),
        ({"9 or ties, AP": "open"}, "A mean difference below 0 can pass both conditions as well."),
        ({"9 or ties, AP": lambda said: said in ("3", "9")}, f"Which of the two rows has the higher AP? {signs}"),
        (
            {"9 or ties, under 8 px": lambda said: said != "open"},
            "Under 8 px there is a mean of three differences, and there are their signs. Put each condition to them.",
        ),
    ]
    expect(answer, key, among=VERDICTS, clues=clues)


def _said(*verdicts):
    return dict(zip(ASKED, verdicts, strict=True))


EXERCISES = (
    Exercise(
        id="08.1",
        title="Own thresholds",
        difficulty=2,
        minutes=8,
        hints=(
            "A column of the table belongs to one object. If you sort each column in descending order, the k-th row "
            "is the answer.",
            "table.topk(n, dim=0).values has n rows, in descending order. Which of them is the k-th largest, and how "
            "large may n be?",
            "Let n be min(k, len(table)). The last row of the result is the answer, .values[-1].",
        ),
        tests=(one_object, a_threshold_each, equal_values_count_each, k_is_one, fewer_anchors_than_k, no_object),
        mutants={
            "one place too far": (
                lambda table, k: table.sort(dim=0, descending=True).values[min(k, len(table) - 1)],
                "With one object",
            ),
            "the best instead of the k-th": (lambda table, k: table.amax(dim=0), "the second largest IoU"),
            "one threshold for all": (
                lambda table, k: table.flatten().sort(descending=True).values[k - 1].expand(table.shape[1]),
                "each of two objects",
            ),
            "smallest first": (lambda table, k: table.sort(dim=0).values[min(k, len(table)) - 1], "With one object"),
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
                "have the same IoU",
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
            "Sort twice, and begin with the criterion that counts less, which is the distance.",
            "Let order be distances.argsort(stable=True). Then sort the IoUs in this order, in descending order and "
            "stable. The result holds places in `order`, which are not yet indices of anchors.",
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
        id="08.4",
        title="TopK",
        difficulty=4,
        minutes=15,
        provides="topk",
        hints=(
            "There are three steps. Make a table of IoUs and one of squared distances. Mark the k best anchors of each "
            "object, as in 08.2, in a table `chosen`. Then find the winner of every anchor, as in 04.4, among the "
            "objects that chose it.",
            "table = iou(priors.boxes[:, None], gt_boxes). distance = (priors.centers[:, None] - centers(gt_boxes))"
            ".square().sum(dim=-1). chosen begins as torch.zeros_like(table, dtype=torch.bool). An object that did not "
            "choose an anchor bids -1 for it, torch.where(chosen, table, -1.0).",
            "For each g, order by distance[:, g], then by table[:, g], keep [:k], and set chosen[order, g] to "
            "table[order, g] > 0. The winner of an anchor is the max of its row of bids; where that is below 0, nobody "
            "chose it. Without objects there is no max, so return NEGATIVE for all before.",
        ),
        tests=(
            one_large_object,
            objects_far_apart,
            a_tie_at_the_kth_place,
            all_equal,
            a_conflict,
            the_nearer_has_less,
            twins,
            only_choosers_compete,
            more_than_overlap,
            k_above_all,
            an_empty_image,
        ),
        mutants={
            "cut at the k-th IoU": (_at_least_the_kth, "Four anchors tie for one object"),
            "ties by index": (_wrong_topk(tie="index"), "taken by distance"),
            "ties to the farthest": (_wrong_topk(tie="far"), "taken by distance"),
            "the k best of the whole table": (_wrong_topk(per_object=False), "do not compete"),
            "the last object overwrites": (_wrong_topk(compete="last"), "the higher IoU wins"),
            "the nearest object wins": (_wrong_topk(compete="nearest"), "the higher IoU, and that one wins"),
            "equal IoUs to the later object": (_wrong_topk(compete="last of equals"), "is there twice"),
            "everybody competes": (_wrong_topk(compete="all"), "cannot win an anchor"),
            "anchors that overlap nothing": (_wrong_topk(keep_zeros=True), "only these are taken"),
            "no image without objects": (_wrong_topk(guard=False), "argmax"),
        },
    ),
    Exercise(
        id="08.6",
        kind="C",
        title="Starve your neighbour",
        difficulty=2,
        minutes=5,
        hints=(
            "Your object must do two things. It must choose the same three anchors as A, and it must overlap each of "
            "them more than A does.",
        ),
        tests=(nothing_is_left,),
        also_right=([54, 54, 74, 74], [59.0, 59.0, 69.0, 69.0], [56, 60, 72, 68], (53, 53, 75, 75)),
        mutants={
            "too large": ([50, 50, 78, 78], "wants 32 px anchors"),
            "beside A": ([60, 60, 76, 76], "in other places"),
            "A once more": ([60, 60, 68, 68], "1.00 times the area"),
            "a little to the right": ([60, 60, 70, 70], "wants 2 of the three anchors"),
            "a long thin one": ([40, 60, 88, 68], "Where the IoU is the same, A wins"),
            "out of the picture": ([-40, 0, 128, 128], "not inside the picture"),
            "upside down": ([70, 70, 58, 58], "x1 < x2"),
        },
    ),
    Exercise(
        id="08.5",
        kind="M",
        title="Three or nine?",
        difficulty=2,
        minutes=6,
        hints=("The rule has two conditions. Ask both of each question, with the differences of that column alone.",),
        tests=(four_questions,),
        mutants={
            "no claim": (_said("open", "open", "ties", "open"), "the mean of their differences"),
            "the wrong way round": (_said("9", "open", "ties", "open"), "signs of the AP once more"),
            "signs alone": (_said("3", "3", "ties", "open"), "one of the two conditions"),
            "the large by nine": (_said("3", "9", "ties", "open"), "digits of 16 px and more."),
            "only gains are claims": (_said("3", "open", "open", "open"), "below 0"),
            "nine by AP": (_said("3", "open", "9", "open"), "Which of the two rows"),
            "by the mean": (_said("3", "open", "ties", "9"), "there are their signs"),
        },
    ),
)
