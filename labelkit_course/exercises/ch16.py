"""The exercises of chapter 16: size classes, room-mates, shares of positives, five reasons, a floor, compensation."""

from collections.abc import Mapping
from functools import cache

import torch

from labelkit import Priors, plot
from labelkit.assigners import FCOS
from labelkit.boxes import area, centers
from labelkit_course import Exercise, Wrong, compare, expect
from labelkit_course.exercises.crowns import crowns

COARSE, FINE = (Priors.points((128, 128), strides) for strides in ((8, 16, 32), (4, 8, 16)))


def _sides():
    return area(torch.cat([target["boxes"] for target in crowns()])).sqrt()


def _per_tile():
    return [len(target["boxes"]) for target in crowns()]


def _positives_of(rule):
    """The positives of every crown on the coarse points, a count per tile."""
    return rule(COARSE, crowns()).positives_per_gt(_per_tile())


# --- 16.1 -----------------------------------------------------------------------------------------------------------


def _count(case, sizes, limits, answer):
    """`sizes`: (width, height) of boxes whose corners lie somewhere in the image."""
    corner = torch.arange(2.0 * len(sizes)).reshape(-1, 2)
    boxes = torch.cat([corner, corner + torch.tensor(sizes).reshape(-1, 2)], dim=1)
    areas = [w * h for w, h in sizes]
    want = [sum(low**2 <= a <= high**2 for a in areas) for low, high in limits]
    compare(case, {"boxes": boxes, "limits": limits}, answer(boxes, limits), want)


AITOD = [(0, 8), (8, 16), (16, 32), (32, 1e5)]


def three_sizes(answer):
    case = "One object is 5 px wide and high, two are 12 px: the limits are sides, and areas are compared"
    _count(case, [(5.0, 5.0), (12.0, 12.0), (12.0, 12.0)], AITOD, answer)


def long_and_thin(answer):
    _count("The class of a box of 30 by 4 px is decided by its area alone", [(30.0, 4.0)], AITOD, answer)


def on_the_border(answer):
    _count("An object of exactly 8 by 8 px is counted in two classes", [(8.0, 8.0), (20.0, 20.0)], AITOD, answer)


def both_ends(answer):
    case = "One class from 4 to 16 px, with objects of exactly 4 and 16 px and one of 17 px"
    _count(case, [(4.0, 4.0), (16.0, 16.0), (17.0, 17.0)], [(4, 16)], answer)


def nothing_to_count(answer):
    _count("There are no objects to count", [], AITOD, answer)


def _counted(low_ok, high_ok, measure=lambda size: size.prod(dim=1), power=2):
    def answer(boxes, limits):
        size = measure(boxes[:, 2:] - boxes[:, :2])
        return [int((low_ok(size, low**power) & high_ok(size, high**power)).sum()) for low, high in limits]

    return answer


def _at_least(a, b):
    return a >= b


def _at_most(a, b):
    return a <= b


def _below(a, b):
    return a < b


def _above(a, b):
    return a > b


# --- 16.2 -----------------------------------------------------------------------------------------------------------


def _share(case, gt, sides, low, high, answer):
    gt, sides = torch.tensor(gt, dtype=torch.int64), torch.tensor(sides)
    served = [sides[k].item() for k in gt.tolist() if k >= 0]
    want = sum(low <= side < high for side in served) / len(served) if served else 0.0
    causes = [(wrong(gt, sides, low, high), sentence) for wrong, sentence in SLIPS.values()]
    inputs = {"gt": gt, "sides": sides, "low": low, "high": high}
    compare(case, inputs, answer(gt, sides, low, high), want, clues=causes)


def one_of_each(answer):
    case = "A small object has one positive, and a large one has three of them"
    _share(case, [0, 1, 1, 1], [6.0, 40.0], 0, 8, answer)


def with_background(answer):
    case = "Beside three positives there are negative and ignored priors, which do not count"
    _share(case, [-1, 0, -2, 1, -1, -1, 1], [6.0, 40.0], 0, 8, answer)


def a_starved_object(answer):
    _share("The only small object has no positive, so it has no share", [1, 1, -1, 2], [5.0, 12.0, 30.0], 0, 8, answer)


def exactly_eight(answer):
    case = "Objects of exactly 8 and exactly 16 px, where the share from 8 to 16 px is asked"
    _share(case, [1, 0, 0, 2], [16.0, 8.0, 4.0], 8, 16, answer)


def no_positive(answer):
    _share("Not one prior is positive, so the share is 0", [-1, -2, -1], [6.0], 0, 8, answer)


def no_objects_at_all(answer):
    _share("An image without objects has no positives", [-1, -1], [], 0, 8, answer)


def _shared(gt, sides, low, high, positive=lambda gt: gt >= 0, keep=lambda s, lo, hi: (s >= lo) & (s < hi)):
    chosen = positive(gt)
    if not chosen.any() or not len(sides):
        return 0.0
    return keep(sides[gt[chosen]], low, high).float().mean().item()


def _over_all_priors(gt, sides, low, high):
    positive = gt >= 0
    if not positive.any():
        return 0.0
    served = sides[gt[positive]]
    return ((served >= low) & (served < high)).sum().item() / len(gt)


def _share_of_objects(gt, sides, low, high):
    if not (gt >= 0).any():
        return 0.0
    return ((sides >= low) & (sides < high)).float().mean().item()


def _not_a_number(gt, sides, low, high):
    served = sides[gt[gt >= 0]]
    return ((served >= low) & (served < high)).float().mean().item()


SLIPS = {
    "index 0 forgotten": (
        lambda gt, s, lo, hi: _shared(gt, s, lo, hi, positive=lambda g: g > 0),
        "You seem to leave out the priors of object 0. The index 0 is an object too, the first.",
    ),
    "over all priors": (_over_all_priors, "You divide by all priors. The share is one of the positives."),
    "background served by the last object": (
        lambda gt, s, lo, hi: _shared(gt, s, lo, hi, positive=lambda g: g >= -1),
        "You look up the side of index -1 too, which Python counts from the end of the list.",
    ),
    "share of the objects": (_share_of_objects, "This is the share of the objects, and positives are to be counted."),
    "upper end included": (
        lambda gt, s, lo, hi: _shared(gt, s, lo, hi, keep=lambda v, a, b: (v >= a) & (v <= b)),
        "You count an object whose side is exactly high.",
    ),
    "lower end left out": (
        lambda gt, s, lo, hi: _shared(gt, s, lo, hi, keep=lambda v, a, b: (v > a) & (v < b)),
        "You leave out an object whose side is exactly low.",
    ),
}


# --- 16.5 -----------------------------------------------------------------------------------------------------------


def room_mates(guess):
    """Share of the small crowns whose cell, on a map of that stride, holds the centre of another crown."""
    truth = {}
    for stride in (8, 16, 32):
        shared = []
        for target in crowns():
            cell = (centers(target["boxes"]) / stride).floor()
            shared.append((cell[:, None] == cell).all(dim=-1).sum(dim=1) > 1)
        truth[stride] = torch.cat(shared)[_sides() < 8].float().mean().item()
    if isinstance(guess, Mapping) and any(isinstance(share, int | float) and share > 1 for share in guess.values()):
        raise ValueError("the unit is fractions of 1, so that 12 percent is written 0.12.")
    clues = [
        (
            lambda got: not got[8] <= got[16] <= got[32],
            "Each cell of a coarser map consists of whole cells of the finer one, so who shares a cell at stride 8 "
            "still shares one at stride 16 and at stride 32, and no share can fall.",
        ),
        (
            {8: lambda share: share > 0.15},
            "At stride 8 a cell is about as large as a small crown, and two crowns whose centres are that close would "
            "cover each other for the greater part.",
        ),
        (
            {16: lambda share: share < 0.06},
            "Small crowns stand close together: for half of them the next centre is at most 9 px away.",
        ),
        (
            {16: lambda share: share < 0.2},
            "A cell of twice the stride has not twice, but four times the area.",
        ),
        (
            {16: lambda share: share < 0.3},
            "Your second number would be right if the crowns were spread evenly over the tiles. A quarter of the tiles "
            "holds 82 % of the small ones.",
        ),
        (
            {16: lambda share: share < 0.48},
            "The other centre may be that of any crown, also of a large one.",
        ),
        (
            {16: lambda share: share > 0.7},
            "At stride 16 a cell is not yet twice as wide as the median distance to the next centre, so some of "
            "the small crowns still have a cell of their own.",
        ),
        (
            {32: lambda share: share < 0.8},
            "At stride 32 a tile has 16 cells. The tiles in which small crowns stand hold more crowns than the average "
            "tile, and a room-mate may be of any size.",
        ),
        (
            {32: lambda share: share > 0.99},
            "Some small crowns stand alone in a clearing, and in a tile with few crowns most cells hold none or one.",
        ),
    ]
    expect(guess, truth, within=0.08, clues=clues)


# --- 16.7 -----------------------------------------------------------------------------------------------------------

VERDICTS = ("true", "false", "only with centre sampling")
PART = 0.1  # of the small crowns, or of their share of the loss: a claim that holds for less is not true


def _share_of_boxes(priors, radius, weighed):
    """The share of the small crowns in a box loss that counts all positives alike, or weighs them by centre-ness."""
    answer = FCOS(center_radius=radius)(priors, crowns())
    small = total = 0.0
    for target, gt, value in zip(crowns(), answer.gt, answer.similarity, strict=True):
        positive = gt >= 0
        weight = value[positive] if weighed else torch.ones(int(positive.sum()))
        served = area(target["boxes"])[gt[positive]] < 64
        small, total = small + weight[served].sum().item(), total + weight.sum().item()
    return small / total


def _lowered(radius):
    """Whether weighing by centre-ness takes a tenth or more of the small crowns' share."""
    fine = [_share_of_boxes(FINE, radius, weighed) for weighed in (False, True)]
    return fine[1] <= (1 - PART) * fine[0]


def _next_to_another(size):
    """Share of the positives for crowns of `size`, a mask, beside a positive for another crown, at stride 8."""
    beside = total = 0
    for target, gt, mine in zip(crowns(), FCOS()(COARSE, crowns()).gt, size.split(_per_tile()), strict=True):
        grid = torch.nn.functional.pad(gt[:256].reshape(16, 16), (1, 1, 1, 1), value=-1)
        around = torch.stack([grid[y : y + 16, x : x + 16] for y in range(3) for x in range(3)])
        own = grid[1:-1, 1:-1]
        asked = (own >= 0) & mine[own.clamp(min=0)] if len(target["boxes"]) else own >= 0
        total += int(asked.sum())
        beside += int((((around >= 0) & (around != own)).any(dim=0) & asked).sum())
    return beside / total


@cache
def verdicts():
    """What the counts say, by the rule that the chapter states."""
    sides = _sides()
    count = torch.cat(_positives_of(FCOS()))
    boxes = torch.cat([target["boxes"] for target in crowns()])
    alone = FCOS()(COARSE, [{"boxes": box[None]} for box in boxes]).positive.sum(dim=1)
    answer = FCOS()(COARSE, crowns())
    on_first = torch.cat([
        area(target["boxes"])[gt[(gt >= 0) & (COARSE.levels == 0)]].sqrt()
        for target, gt in zip(crowns(), answer.gt, strict=True)
    ])  # fmt: skip
    centreness = "false"
    if _lowered(1.5):
        centreness = "true" if _lowered(None) else "only with centre sampling"
    return {
        "grid": "true" if (count == 0)[sides < 8].float().mean() >= PART else "false",
        "range": "false" if (on_first < 32).any() else "true",
        "cell": "true" if (count < alone)[sides < 8].float().mean() >= PART else "false",
        "closeness": "true" if _next_to_another(sides < 8) >= _next_to_another(sides >= 16) + PART else "false",
        "centre-ness": centreness,
    }


def five_verdicts(answer):
    clues = [
        (
            {"grid": "only with centre sampling"},
            "The count behind the first reason was made without centre sampling, which can only take points away.",
        ),
        ({"grid": "false"}, "Of the small crowns 42 % have no positive. Compare that with the two other sizes."),
        (
            {"range": lambda verdict: verdict != "false"},
            "The second line counts the positives on the first level that serve crowns with a side under 32 px. If "
            "that reason held, the count would be 0.",
        ),
        (
            {"cell": lambda verdict: verdict != "false"},
            "Ask on which map the crowns are taught. On that one, the third line counts how many small crowns lose a "
            "point to a neighbour.",
        ),
        (
            {"closeness": lambda verdict: verdict != "true"},
            "The fourth line compares the sizes, and centre sampling has no part in it. Look how often the point of a "
            "small crown has a point of another crown beside it, and how often that of a large one.",
        ),
        (
            {"centre-ness": "true"},
            "Without centre sampling the mean centre-ness is .34, .33 and .33 by size, so the weight cannot take much "
            "from one size. Compare the shares in that row.",
        ),
        (
            {"centre-ness": "false"},
            "Look at each of the rows for centre-ness by itself, and compute by which part of itself the share falls.",
        ),
    ]
    expect(answer, verdicts(), among=VERDICTS, clues=clues)


RIGHT = {
    "grid": "true", "range": "false", "cell": "false", "closeness": "true", "centre-ness": "only with centre sampling",
}  # fmt: skip

# --- 16.6 -----------------------------------------------------------------------------------------------------------

MOST_SMALL, MOST_OTHERS = 0.05, 0.01


def few_without_a_positive(min_side):
    counts = _positives_of(FCOS(min_side=min_side))
    none, is_small = torch.cat(counts) == 0, _sides() < 8
    small, others = none[is_small].float().mean().item(), none[~is_small].float().mean().item()
    if small <= MOST_SMALL and others <= MOST_OTHERS:
        return
    if min_side is None or min_side < 8:
        why = "A floored box that is shorter than the spacing of the points can still fall between them."
    else:
        why = (
            "The floored boxes of neighbours overlap, and a point inside several of them goes to the crown of the "
            "smallest area, so crowns take each other's points."
        )
    raise Wrong(
        f"With min_side = {min_side}, {100 * small:.1f} % of the crowns under 8 px have no positive (at most "
        f"{100 * MOST_SMALL:.0f} % are allowed), and {100 * others:.1f} % of the others (at most "
        f"{100 * MOST_OTHERS:.0f} %). {why}",
        draw=lambda: _tile_with_most(counts, min_side),
        inputs={"min_side": min_side},
    )


def _tile_with_most(counts, min_side):
    index = max(range(len(counts)), key=lambda i: int((counts[i] == 0).sum()))
    boxes, none = crowns()[index]["boxes"], counts[index] == 0
    figure, (ax,) = plot.figure()
    plot.scene(ax, (128, 128), title=f"test tile {index}, min_side = {min_side}")
    plot.points(ax, COARSE.centers[COARSE.levels == 0], "negative")
    plot.boxes(ax, boxes[~none], "good")
    plot.boxes(ax, boxes[none], "gt")
    plot.legend(ax, gt="has no positive", good="has some", negative="point of stride 8")
    return figure


# --- 16.4 -----------------------------------------------------------------------------------------------------------


def _reference(table, gt, n, min_iou):
    """Stage two, one ground truth after the other, in plain Python."""
    gt = gt.tolist()
    rows = table.tolist()
    for k in range(table.shape[1]):
        mine = [p for p, row in enumerate(rows) if gt[p] < 0 and row.index(max(row)) == k and row[k] > min_iou]
        mine.sort(key=lambda p: (-rows[p][k], p))
        for p in mine[: max(n - gt.count(k), 0)]:
            gt[p] = k
    return torch.tensor(gt, dtype=torch.int64)


def _fill(case, table, gt, n, min_iou, answer):
    table, gt = torch.tensor(table), torch.tensor(gt, dtype=torch.int64)
    got, want = answer(table, gt, n, min_iou), _reference(table, gt, n, min_iou)
    compare(case, {"table": table, "gt": gt, "n": n, "min_iou": min_iou}, got, want)


ONE = [[0.3], [0.2], [0.25], [0.4], [0.15]]
TWO = [[0.30, 0.05], [0.20, 0.28], [0.25, 0.00], [0.60, 0.10], [0.12, 0.27], [0.00, 0.13]]


def one_object(answer):
    case = "An object has one prior and takes two more, in descending order of their IoU"
    _fill(case, ONE, [-1, -1, -1, 0, -1], 3, 0.1, answer)


def above_the_limit(answer):
    table = [[0.25], [0.5], [0.125], [0.375]]
    _fill("A prior with an IoU of exactly min_iou, 0.25, is not good enough", table, [-1, 0, -1, -1], 6, 0.25, answer)


def own_best_only(answer):
    case = "Between two objects, a prior may only go to the one that it fits best"
    _fill(case, TWO, [-1, -1, -1, 0, -1, -1], 4, 0.1, answer)


def each_object_by_itself(answer):
    table = [[0.34, 0.0], [0.33, 0.0], [0.32, 0.0], [0.0, 0.2], [0.0, 0.15], [0.9, 0.0]]
    _fill("Each object is filled up by itself, also the one whose IoUs are low", table, [-1] * 5 + [0], 2, 0.1, answer)


def enough_already(answer):
    table = [[0.5], [0.4], [0.3], [0.2]]
    for n in (2, 1):
        _fill("An object that has n priors or more takes none", table, [0, 0, -1, -1], n, 0.1, answer)


def taken_ones_stay(answer):
    table = [[0.34, 0.2], [0.3, 0.1], [0.2, 0.0], [0.0, 0.15]]
    case = "A prior that was forced to another object stays there, and counts for it"
    _fill(case, table, [1, -1, -1, -1], 1, 0.05, answer)


def equal_overlaps(answer):
    _fill("Five equal IoUs for two places: the lower prior index comes first", [[0.15]] * 5, [-1] * 5, 2, 0.1, answer)


def a_tie_of_owners(answer):
    _fill("A prior that fits two objects equally belongs to the one of lower index", [[0.2, 0.2]], [-1], 3, 0.1, answer)


def no_object(answer):
    compare(
        "In an image without objects all priors stay negative",
        {"table": torch.zeros(3, 0), "gt": torch.tensor([-1, -1, -1])},
        answer(torch.zeros(3, 0), torch.tensor([-1, -1, -1]), 6, 0.1),
        torch.tensor([-1, -1, -1]),
    )


def _stage_two(*, strict=True, own=True, count="missing", image=False, free=True, later=False):
    def answer(table, gt, n, min_iou):
        gt, before = gt.clone(), gt
        if table.shape[1] == 0:
            return gt
        best, owner = table.max(dim=1)
        if image:
            weak = torch.where((gt < 0) & (best > min_iou), best, 0)
            extra = weak.argsort(descending=True, stable=True)[: max(n * table.shape[1] - int((gt >= 0).sum()), 0)]
            extra = extra[weak[extra] > 0]
            gt[extra] = owner[extra]
            return gt
        for k in range(table.shape[1]):
            value = best if own else table[:, k]
            may = value > min_iou if strict else value >= min_iou
            may &= (owner == k) if own else torch.ones_like(may)
            may &= (gt < 0) if free else (before != k)
            places = may.nonzero()[:, 0]
            if later:
                places = places.flip(0)
            order = value[places].argsort(descending=True, stable=True)
            missing = n - int(((gt == k) & ((owner == k) | (count != "own best"))).sum())
            room = {"n more": n, "below 0": missing}.get(count, max(missing, 0))
            gt[places[order[:room]]] = k
        return gt

    return answer


def _best_n_of_all(table, gt, n, min_iou):
    """Counts the matched ones among the n best: the mistake of a community port of another method."""
    gt = gt.clone()
    if table.shape[1] == 0:
        return gt
    best, owner = table.max(dim=1)
    for k in range(table.shape[1]):
        top = table[:, k].argsort(descending=True, stable=True)[:n]
        top = top[(gt[top] < 0) & (owner[top] == k) & (best[top] > min_iou)]
        gt[top] = k
    return gt


def _no_objects_forgotten(table, gt, n, min_iou):
    table.max(dim=1)
    return _stage_two()(table, gt, n, min_iou)


EXERCISES = (
    Exercise(
        id="16.1",
        title="Count by size class",
        difficulty=1,
        minutes=6,
        hints=(
            "Compare areas with squares: low**2 <= area <= high**2. labelkit's area gives the areas.",
            "(areas >= low**2) & (areas <= high**2) is a mask; its sum is the count.",
            "return [int(((areas >= low**2) & (areas <= high**2)).sum()) for low, high in limits]",
        ),
        tests=(three_sizes, long_and_thin, on_the_border, both_ends, nothing_to_count),
        mutants={
            "upper end left out": (_counted(_at_least, _below), "exactly 8 by 8"),
            "lower end left out": (_counted(_above, _at_most), "exactly 8 by 8"),
            "sides against areas": (_counted(_at_least, _at_most, power=1), "areas are compared"),
            "the longer side": (
                _counted(_at_least, _at_most, lambda size: size.amax(dim=1) if len(size) else size[:, 0], power=1),
                "30 by 4",
            ),
            "the shorter side": (_counted(_at_least, _at_most, lambda size: size.amin(dim=1), power=1), "30 by 4"),
            "the mean side": (_counted(_at_least, _at_most, lambda size: size.mean(dim=1), power=1), "30 by 4"),
        },
    ),
    Exercise(
        id="16.5",
        kind="P",
        title="Room-mates",
        difficulty=2,
        minutes=4,
        hints=(
            "Compare a cell with a small crown, and with the distance to the next crown. At stride 8 both are about as "
            "large as the cell.",
            "The cells grow by a factor of four in area from map to map, but a share cannot rise above 1, and most "
            "small crowns stand in tiles with many others.",
        ),
        tests=(room_mates,),
        mutants={
            "doubling": ({8: 0.06, 16: 0.12, 32: 0.24}, "four times the area"),
            "four times each": ({8: 0.06, 16: 0.24, 32: 0.96}, "spread evenly"),
            "spread evenly": ({8: 0.06, 16: 0.24, 32: 0.66}, "spread evenly"),
            "small ones only": ({8: 0.06, 16: 0.4, 32: 0.71}, "of any crown"),
            "none": ({8: 0.0, 16: 0.0, 32: 0.0}, "stand close together"),
            "half at once": ({8: 0.5, 16: 0.8, 32: 0.95}, "cover each other"),
            "all in the end": ({8: 0.06, 16: 0.57, 32: 1.0}, "in a clearing"),
            "too few in the end": ({8: 0.06, 16: 0.57, 32: 0.7}, "a tile has 16 cells"),
            "too many in the middle": ({8: 0.06, 16: 0.8, 32: 0.95}, "a cell of their own"),
            "percent": ({8: 6, 16: 57, 32: 91}, "12 percent is written 0.12"),
            "falling": ({8: 0.1, 16: 0.6, 32: 0.5}, "no share can fall"),
        },
    ),
    Exercise(
        id="16.2",
        title="Whose positives are they?",
        difficulty=2,
        minutes=8,
        hints=(
            "A prior is positive where gt >= 0. Only those count, on top and below the line of the fraction.",
            "sides[gt[gt >= 0]] is the side of the object behind every positive prior.",
            "served = sides[gt[positive]]; the mean of ((served >= low) & (served < high)).float() is the share. "
            "The mean of nothing is NaN, so return 0.0 before.",
        ),
        tests=(one_of_each, with_background, a_starved_object, exactly_eight, no_positive, no_objects_at_all),
        mutants=SLIPS | {
            "NaN without positives": (_not_a_number, "Not one prior is positive"),
        },
    ),
    Exercise(
        id="16.7",
        kind="M",
        title="Five reasons",
        difficulty=3,
        minutes=8,
        hints=(
            "Each reason has its line in the output. Ask what the line would have to show if the reason held.",
            "The rule needs one number for the first three reasons, a comparison of sizes for the fourth, and the part "
            "by which a share falls for the fifth.",
        ),
        tests=(five_verdicts,),
        mutants={
            "grid": (RIGHT | {"grid": "false"}, "42 %"),
            "grid, sampled": (RIGHT | {"grid": "only with centre sampling"}, "only take points away"),
            "range": (RIGHT | {"range": "true"}, "would be 0"),
            "cell": (RIGHT | {"cell": "true"}, "on which map"),
            "closeness": (RIGHT | {"closeness": "false"}, "beside it"),
            "centre-ness always": (RIGHT | {"centre-ness": "true"}, ".34, .33 and .33"),
            "centre-ness never": (RIGHT | {"centre-ness": "false"}, "which part of itself"),
        },
    ),
    Exercise(
        id="16.6",
        kind="C",
        title="How much larger shall we pretend?",
        difficulty=3,
        minutes=6,
        hints=(
            "How long must a box be so that it contains a point wherever it is, if the points are 8 px apart?",
            "A larger floor than that gives a crown more points, and at the same time makes it overlap its neighbours. "
            "Look at both shares while you raise it.",
        ),
        tests=(few_without_a_positive,),
        also_right=(9, 10, 8.5),
        mutants={
            "none": (None, "41.5 %"),
            "too short": (6, "can still fall between them"),
            "nearly": (7, "23.1 %"),
            "a little more": (11, "5.4 %"),
            "twice the stride": (16, "6.2 %"),
            "the coarsest stride": (32, "take each other's points"),
            "stride 4": (4, "41.5 %"),
            "negative": (-8, "min_side"),
        },
    ),
    Exercise(
        id="16.4",
        title="Fill up",
        difficulty=4,
        minutes=20,
        hints=(
            "best, owner = table.max(dim=1) gives for each prior its own best ground truth and that IoU. Then go "
            "through the ground truths one by one.",
            "For ground truth k the candidates are gt < 0, owner == k and best > min_iou. It misses n minus the number "
            "of priors it already has, and never less than 0.",
            "free = (mask).nonzero()[:, 0]; order = best[free].argsort(descending=True, stable=True); "
            "gt[free[order[:missing]]] = k. Work on gt.clone(). With no ground truths max has nothing to look at: with "
            "dim=1 of a [P, 0] table it fails, so return gt before.",
        ),
        tests=(
            one_object, enough_already, above_the_limit, own_best_only, each_object_by_itself, taken_ones_stay,
            equal_overlaps, a_tie_of_owners, no_object,
        ),
        mutants={
            "at least min_iou": (_stage_two(strict=False), "exactly min_iou"),
            "n more instead of up to n": (_stage_two(count="n more"), "takes two more"),
            "a negative number is missing": (_stage_two(count="below 0"), "n priors or more"),
            "only priors of its own counted": (_stage_two(count="own best"), "stays there"),
            "not its own best": (_stage_two(own=False), "fits best"),
            "the image is filled up": (_stage_two(image=True), "by itself"),
            "matched ones among the n best": (_best_n_of_all, "stays there"),
            "taken priors are taken again": (_stage_two(free=False), "stays there"),
            "the higher index first": (_stage_two(later=True), "Five equal"),
            "no objects forgotten": (_no_objects_forgotten, "max()"),
        },
    ),
)  # fmt: skip
