"""The exercises of chapter 02: greedy suppression, three times; by class; soft; lost and reported twice."""

import torch

from labelkit import plot
from labelkit.nms import nms, soft_nms
from labelkit.similarity import iou
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course.exercise import describe

ROW = [[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]]  # neighbours overlap by 3/7, the ends by 1/9
FAR = [[0.0, 0, 10, 10], [30, 30, 44, 40], [60, 5, 70, 25]]
MMCV = [[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]]  # the test case of mmcv


def _kept_drawn(boxes, scores, got, want, labels=None):
    """The boxes that came back, and those that should have; the scores stand at their corners."""

    def draw():
        figure, axes = plot.figure(2)
        low, high = boxes.min() - 6, boxes.max() + 6
        edge = int(high - low)
        for ax, kept, role, title in ((axes[0], got, "prediction", "yours"), (axes[1], want, "good", "right")):
            texts = [f"{s:.2f}" if labels is None else f"{s:.2f} class {c}" for s, c in _texts(scores, labels)]
            plot.scene(ax, (edge, edge), title=title)
            plot.boxes(ax, boxes - low, "negative")
            plot.boxes(ax, boxes[kept] - low, role, labels=[texts[i] for i in kept.tolist()])
            ax.set(xticks=[], yticks=[])  # the boxes have been moved into the panel, so numbers would mislead
        return figure

    return draw


def _compare_kept(case, inputs, got, want, draw):
    """As `compare`, but of indices of boxes it is said what is wrong with the choice, and any number is drawn."""
    number = len(inputs["boxes"])
    indices = isinstance(got, torch.Tensor) and got.dtype == torch.int64 and got.ndim == 1
    if indices and set(got.tolist()) <= set(range(number)) and got.tolist() != want.tolist():
        shown = "\n".join(f"    {name} = {describe(value)}" for name, value in inputs.items())
        what = _diagnosis(got.tolist(), **inputs)
        raise Wrong(f"{case}.\n{shown}\nYour function keeps {got.tolist()}. {what}", draw, inputs)
    compare(case, inputs, got, want, draw=draw)


def _diagnosis(kept, boxes, scores, threshold, labels=None):
    """Which property of greedy suppression these indices lack; exactly one choice of boxes, in one order, has all."""
    n, t = len(boxes), torch.tensor(threshold)
    overlap = iou(boxes[:, None], boxes)
    apart = torch.zeros(n, n, dtype=torch.bool) if labels is None else labels[:, None] != labels
    remove = (overlap > t) & ~apart & ~torch.eye(n, dtype=torch.bool)
    place = torch.empty(n, dtype=torch.int64)
    place[scores.argsort(descending=True, stable=True)] = torch.arange(n)
    if len(set(kept)) < len(kept):
        return "A box comes twice."
    for i, j in ((i, j) for i in kept for j in kept if place[i] < place[j]):
        if remove[i, j]:
            return f"Boxes {i} and {j} are both kept, and they overlap by {overlap[i, j]:.2f}, more than the threshold."
    for j in (j for j in range(n) if j not in kept):
        rivals = [i for i in range(n) if remove[i, j]]
        if any(i in kept and place[i] < place[j] for i in rivals):
            continue
        if any(i in kept for i in rivals):
            return f"Box {j} is gone, although its score comes before that of the kept box which overlaps it."
        if any(place[i] < place[j] for i in rivals):
            return (
                f"Box {j} is gone, although no kept box overlaps it by more than the threshold. "
                "It was removed by a box that had been removed itself."
            )
        if any(i in kept and overlap[i, j] == t and not apart[i, j] for i in range(n)):
            return f"Box {j} is gone, although it overlaps a kept box by the threshold and not by more."
        if any(i in kept and overlap[i, j] > t for i in range(n)):
            return f"Box {j} is gone, although the kept box that overlaps it is of another class."
        reached = "" if labels is None else " Has a box of another class reached it?"
        return f"Box {j} is gone, although no kept box overlaps it by more than the threshold.{reached}"
    return "These are the right boxes in another order than by falling score, the lower index first among equals."


def _texts(scores, labels):
    labels = scores if labels is None else labels
    return zip(scores.tolist(), labels.tolist(), strict=True)


# --- 02.1 -----------------------------------------------------------------------------------------------------------


def _suppress(case, boxes, scores, threshold, answer):
    boxes, scores = torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores)
    got, want = answer(boxes, scores, threshold), nms(boxes, scores, threshold)
    inputs = {"boxes": boxes, "scores": scores, "threshold": threshold}
    _compare_kept(case, inputs, got, want, _kept_drawn(boxes, scores, got, want) if len(boxes) else None)


def two_alike(answer):
    _suppress("Two boxes nearly alike, and one far away", [*FAR[:2], [1.0, 0, 11, 10]], [0.6, 0.7, 0.9], 0.5, answer)


def four_boxes(answer):
    _suppress("Four boxes, two of which overlap much", MMCV, [0.6, 0.9, 0.7, 0.2], 0.3, answer)


def falling_scores(answer):
    _suppress(
        "Three boxes far apart are all kept, in descending order of their scores", FAR, [0.5, 0.7, 0.6], 0.5, answer
    )


def a_chain(answer):
    _suppress(
        "Three boxes in a row, of which the first and the last overlap by only 1/9", ROW, [0.9, 0.8, 0.7], 0.3, answer
    )


def the_threshold_itself(answer):
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 5]]
    _suppress("An IoU of exactly the threshold, 0.5, removes nothing", boxes, [0.9, 0.8], 0.5, answer)


def equal_scores(answer):
    boxes = [*FAR, [0.0, 0, 10, 10]]
    _suppress("Among equal scores the lower index comes first", boxes, [0.5, 0.5, 0.5, 0.5], 0.5, answer)


def nothing_to_suppress(answer):
    _suppress("With no boxes, the answer is an empty int64 tensor", [], [], 0.5, answer)


def _loop(boxes, scores, threshold, *, strike=lambda s, t: s > t, descending=True):
    order = scores.argsort(descending=descending, stable=True).tolist()
    kept: list[int] = []
    for i in order:
        if not any(bool(strike(iou(boxes[k], boxes[i]), threshold)) for k in kept):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def _struck_out_boxes_strike(boxes, scores, threshold):
    order = scores.argsort(descending=True, stable=True)
    table = iou(boxes[order][:, None], boxes[order]).triu(diagonal=1)
    return order[~(table > threshold).any(dim=0)]


def _later_of_equals(boxes, scores, threshold):
    back = nms(boxes.flip(0), scores.flip(0), threshold)
    return len(boxes) - 1 - back


# --- 02.5 -----------------------------------------------------------------------------------------------------------

DOMINOES = {
    "A": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
    "B": [0.3, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    "C": [0.3, 0.9, 0.8, 0.4, 0.7, 0.6, 0.5],
}
STRUCK = "A box that has been removed removes no other, so ask of each box only whether a kept one overlaps it by 0.6."


def _row(number):
    """Boxes 40 px wide, each 10 px to the right of the one before: IoU 3/5 with the next, 1/3 with the one after."""
    return [[10.0 * i, 0, 10.0 * i + 40, 40] for i in range(number)]


def three_lists(guess):
    boxes = torch.tensor(_row(7))
    truth = {name: set(nms(boxes, torch.tensor(scores), 0.5).tolist()) for name, scores in DOMINOES.items()}

    def beside(i, kept):
        return [k for k in (i - 1, i + 1) if k in kept]

    def touching(got):
        return any(beside(i, kept) for kept in got.values() for i in kept)

    def missing(got):
        return any(not beside(i, kept) for kept in got.values() for i in set(range(7)) - kept)

    def by_a_worse_one(got):
        return any(
            beside(i, kept) and all(DOMINOES[name][k] < DOMINOES[name][i] for k in beside(i, kept))
            for name, kept in got.items()
            for i in set(range(7)) - kept
        )

    expect(guess, truth, clues=[
        (lambda got: any(7 in kept for kept in got.values()), "The seven boxes are counted from 0, so the last is 6."),
        (touching, "Somewhere you keep two neighbours, but they overlap by 0.6, which is more than 0.5."),
        ({"A": {0}}, STRUCK),
        ({"B": {1}}, STRUCK),
        ({"C": {1}}, STRUCK),
        ({"C": {1, 4}}, STRUCK),
        (lambda got: {0, 3, 6} in got.values(), "Boxes two apart overlap by 0.33, so one does not remove the other."),
        (lambda got: got["A"] == got["B"] == got["C"], "The scores differ between the lists, and so does the order."),
        (lambda got: got["B"] == got["C"], "B and C differ from box 3 on: there, see which box is the best one left."),
        (missing, "Somewhere you remove a box although you keep neither of its neighbours."),
        (by_a_worse_one, "Somewhere you remove a box, and the neighbour that you keep instead has a lower score."),
    ])  # fmt: skip


# --- 02.6 -----------------------------------------------------------------------------------------------------------


def dominoes(number):
    def test(answer):
        scores = [round(0.99 - 0.03 * i, 2) for i in range(number)]
        _suppress(
            f"{number} boxes in a row, of which only neighbours overlap by more than the threshold",
            _row(number),
            scores,
            0.5,
            answer,
        )

    return test


def dominoes_shuffled(answer):
    scores = torch.rand(12, generator=torch.Generator().manual_seed(2)).mul(100).round().div(100).tolist()
    _suppress("12 boxes in a row, their scores in no order", _row(12), scores, 0.5, answer)


def _one_table(boxes, scores, threshold, *, keep_half=torch.triu, sort=True, rounds=1, strike=torch.gt):
    order = scores.argsort(descending=True, stable=True) if sort else torch.arange(len(scores))
    side = 1 if keep_half is torch.triu else -1
    table = strike(keep_half(iou(boxes[order][:, None], boxes[order]), diagonal=side), threshold)
    removed = torch.zeros(len(order), dtype=torch.bool)
    for _ in range(rounds):
        removed = table[~removed].any(dim=0)
    return order[~removed]


# --- 02.2 -----------------------------------------------------------------------------------------------------------


def _by_class(case, boxes, scores, labels, threshold, answer):
    boxes, scores = torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores)
    labels = torch.tensor(labels, dtype=torch.int64)
    got, want = answer(boxes, scores, labels, threshold), nms(boxes, scores, threshold, labels=labels)
    inputs = {"boxes": boxes, "scores": scores, "labels": labels, "threshold": threshold}
    _compare_kept(case, inputs, got, want, _kept_drawn(boxes, scores, got, want, labels) if len(boxes) else None)


SAME = [[20.0, 20, 60, 60]] * 3


def one_place(answer):
    _by_class("Three boxes at one place, two of them of one class", SAME, [0.7, 0.9, 0.8], [4, 4, 7], 0.5, answer)


def touching_when_moved(answer):
    boxes = [[30.0, 30, 50, 50], [60, 60, 80, 80], [9, 9, 29, 29]]
    _by_class("Small boxes of two classes, spread over the image", boxes, [0.9, 0.8, 0.7], [0, 0, 1], 0.3, answer)


def negative_coordinates(answer):
    boxes = [[-60.0, -60, 20, 20], [-81.0, -81, -1, -1]]
    _by_class("Boxes with negative coordinates", boxes, [0.9, 0.8], [0, 1], 0.3, answer)


def a_large_image(answer):
    boxes = [[10010.0, 10010, 10030, 10030], [1010, 1010, 1030, 1030], [10, 10, 30, 30]]
    _by_class("A satellite image that is larger than a fixed distance", boxes, [0.9, 0.8, 0.7], [0, 0, 1], 0.5, answer)


def a_continent(answer):
    boxes = [[-2e5, -2e5, 2e5, 2e5]] * 2
    case = "Two classes that cover a map with coordinates of plus and minus 200,000, more than a fixed step"
    _by_class(case, boxes, [0.9, 0.8], [0, 1], 0.1, answer)


def spread_over_a_continent(answer):
    far, near, left = (2e5, 2e5), (1e5, 1e5), (1e5, 2e5)
    boxes = [[x, y, x + 20, y + 20] for x, y in (far, near, left, (-2e5, -2e5))]
    case = "Small boxes of three classes on a map with coordinates of plus and minus 200,000"
    _by_class(case, boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 4], 0.5, answer)


def the_last_class(answer):
    boxes = [[0.25, 2.25, 8.25, 10.25], [3.0, 2.25, 11.0, 10.25], [0.25, 2.25, 8.25, 10.25], [50.5, 2, 53.25, 4.5]]
    boxes.append([51.0, 2, 53.75, 4.5])
    case = "Class 1202: far from 0, a 32-bit number has no digits left for fractions of a pixel"
    _by_class(case, boxes, [0.9, 0.8, 0.7, 0.6, 0.5], [1202, 1202, 3, 1202, 1202], 0.6, answer)


def many_classes(answer):
    boxes = [[5.0, 5, 25, 25], [6, 6, 26, 26], [5, 5, 25, 25], [7, 5, 27, 25]]
    _by_class(
        "Four boxes of the classes 2, 2, 0 and 9, whose indices are returned by score over all classes",
        boxes,
        [0.5, 0.9, 0.8, 0.7],
        [2, 2, 0, 9],
        0.4,
        answer,
    )


def no_boxes_of_any_class(answer):
    _by_class("No boxes at all", [], [], [], 0.5, answer)


def _moved_by(step):
    def answer(boxes, scores, labels, threshold):
        if len(boxes) == 0:
            return nms(boxes, scores, threshold)
        return nms(boxes + (labels * step(boxes))[:, None], scores, threshold)

    return answer


def _only_x(boxes, scores, labels, threshold):
    if len(boxes) == 0:
        return nms(boxes, scores, threshold)
    shift = labels * (boxes.max() - boxes.min() + 1)
    nothing = torch.zeros_like(shift)
    return nms(boxes + torch.stack([shift, nothing, nothing, nothing], dim=1), scores, threshold)


def _columns(step):
    return lambda boxes, scores, labels, threshold: nms(
        boxes + labels[:, None] * boxes.new_tensor([step, 0, step, 0]), scores, threshold
    )


def _grouped(boxes, scores, labels, threshold):
    groups = [torch.where(labels == label)[0] for label in labels.unique()]
    kept = [group[nms(boxes[group], scores[group], threshold)] for group in groups]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *kept])


def _no_guard(boxes, scores, labels, threshold):
    return nms(boxes + (labels * (boxes.max() - boxes.min() + 1))[:, None], scores, threshold)


# --- 02.3 -----------------------------------------------------------------------------------------------------------


def _lowered(case, boxes, scores, sigma, answer):
    boxes, scores = torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores)
    order, new = soft_nms(boxes, scores, method="gaussian", sigma=sigma, score_threshold=0.0)
    want = torch.zeros_like(scores).index_copy_(0, order, new)
    got = answer(boxes, scores, sigma)
    inputs = {"boxes": boxes, "scores": scores, "sigma": sigma}
    compare(case, inputs, got, want, draw=_scores_drawn(boxes, got) if len(boxes) else None)


def _scores_drawn(boxes, got):
    def draw():
        figure, (ax,) = plot.figure()
        edge = int(boxes.max()) + 12
        plot.scene(ax, (edge, edge), title="the scores that came back")
        plot.boxes(ax, boxes + 6, "prediction", labels=[f"{value:.3f}" for value in got.tolist()])
        ax.set(xticks=[], yticks=[])
        return figure

    return draw


def two_overlapping(answer):
    _lowered("Two boxes with IoU 3/7", ROW[:2], [0.6, 0.9], 0.5, answer)


def far_apart(answer):
    _lowered("Boxes that do not overlap keep their scores", FAR, [0.5, 0.7, 0.6], 0.5, answer)


def a_copy(answer):
    _lowered("An exact copy, and sigma 0.25", [[2.0, 2, 9, 9]] * 2, [0.8, 0.8], 0.25, answer)


def mmcv_boxes(answer):
    _lowered("Four boxes whose answer mmcv publishes", MMCV, [0.6, 0.9, 0.7, 0.2], 0.5, answer)


def a_new_order(answer):
    """The second is lowered below the third, so the third is taken before it, and lowers it again."""
    boxes = [[0.0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10]]
    _lowered(
        "Lowering changes which box is next, so the third is taken before the second",
        boxes,
        [0.9, 0.8, 0.7],
        0.5,
        answer,
    )


def nothing_to_lower(answer):
    _lowered("No boxes", [], [], 0.5, answer)


def _soft(factor, *, again=True, taken_too=False):
    def answer(boxes, scores, sigma):
        scores = scores.clone()
        first = scores.argsort(descending=True, stable=True).tolist()
        todo = list(first)
        while todo:
            best = max(todo, key=lambda i: scores[i].item()) if again else todo[0]
            todo.remove(best)
            for i in range(len(scores)) if taken_too else todo:
                if i != best:
                    scores[i] = scores[i] * factor(iou(boxes[best], boxes[i]), sigma)
        return scores

    return answer


def _sorted_scores(boxes, scores, sigma):
    return soft_nms(boxes, scores, method="gaussian", sigma=sigma, score_threshold=0.0)[1]


def _gaussian(s, sigma):
    return torch.exp(-s * s / sigma)


# --- 02.4 -----------------------------------------------------------------------------------------------------------


def _count(case, source, number, answer):
    source = torch.tensor(source, dtype=torch.int64)
    reports = [int((source == k).sum()) for k in range(number)]
    want = (sum(r == 0 for r in reports), sum(max(r - 1, 0) for r in reports))
    compare(case, {"source": source, "num_objects": number}, answer(source, number), want)


def all_found_once(answer):
    _count("Every object reported once, in any order", [2, 0, 1], 3, answer)


def reported_three_times(answer):
    _count("An object that is reported three times makes two duplicates", [0, 1, 1, 1], 2, answer)


def lost_in_the_middle(answer):
    _count("Objects 1 and 3 of five are lost", [0, 2, 4, 4], 5, answer)


def lost_at_the_end(answer):
    _count("The last two of four objects are lost", [0, 1], 4, answer)


def false_alarms(answer):
    _count("False alarms, marked by -1, count for neither", [-1, 0, -1, 0, 2], 3, answer)


def nothing_kept(answer):
    _count("If nothing is kept, every object is lost", [], 3, answer)


def no_objects(answer):
    _count("An image without objects, and two false alarms", [-1, -1], 0, answer)


def _as_ints(lost, duplicates):
    return int(lost), int(duplicates)


def _from_unique(source, num_objects):
    kinds = source.unique()
    return _as_ints(num_objects - len(kinds), len(source) - len(kinds))


def _no_minlength(source, num_objects):
    reports = torch.bincount(source[source >= 0])
    return _as_ints((reports == 0).sum(), (reports - 1).clamp(min=0).sum())


def _objects_reported_twice(source, num_objects):
    reports = torch.bincount(source[source >= 0], minlength=num_objects)
    return _as_ints((reports == 0).sum(), (reports > 1).sum())


def _no_clamp(source, num_objects):
    reports = torch.bincount(source[source >= 0], minlength=num_objects)
    return _as_ints((reports == 0).sum(), (reports - 1).sum())


def _last_object_for_false_alarms(source, num_objects):
    reports = torch.zeros(max(num_objects, 1), dtype=torch.int64)
    for index in source.tolist():
        reports[index] += 1
    reports = reports[:num_objects]
    return _as_ints((reports == 0).sum(), (reports - 1).clamp(min=0).sum())


EXERCISES = (
    Exercise(
        id="02.5",
        kind="P",
        title="Dominoes",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(three_lists,),
        mutants={
            "counted from 1": ({"A": [1, 3, 5, 7], "B": [2, 4, 6], "C": [2, 5, 7]}, "counted from 0"),
            "a removed box removes": ({"A": [0], "B": [1], "C": [1, 4]}, "removes no other"),
            "a removed box removes, in B only": ({"A": [0, 2, 4, 6], "B": [1], "C": [1, 4, 6]}, "removes no other"),
            "a removed box removes, in C only": ({"A": [0, 2, 4, 6], "B": [1, 3, 5], "C": [1, 4]}, "removes no other"),
            "all": ({name: list(range(7)) for name in "ABC"}, "more than 0.5"),
            "every second, always": ({name: [0, 2, 4, 6] for name in "ABC"}, "so does the order"),
            "every second from the best": ({"A": [0, 2, 4, 6], "B": [1, 3, 5], "C": [1, 3, 5]}, "best one left"),
            "every third": ({"A": [0, 3, 6], "B": [1, 4], "C": [1, 4]}, "removes no other"),
            "two apart remove": ({"A": [0, 3, 6], "B": [1, 4, 6], "C": [1, 4, 6]}, "0.33"),
            "the ends only": ({"A": [0, 6], "B": [1, 3, 5], "C": [1, 4, 6]}, "neither of its neighbours"),
            "from the right": ({"A": [1, 3, 6], "B": [1, 3, 5], "C": [1, 4, 6]}, "a lower score"),
        },
    ),
    Exercise(
        id="02.1",
        title="Strike out",
        difficulty=2,
        minutes=15,
        hints=(
            "Keep a tensor `rest` with the indices that are still undecided, sorted by descending score. "
            "argsort(descending=True, stable=True) puts the lower index first among equal scores.",
            "While rest is not empty, its first entry is kept. Compare boxes[rest[0]] with boxes[rest[1:]] in one call "
            "of iou, and let rest become the entries of rest[1:] whose IoU is at most the threshold.",
            "kept = []; while len(rest): best, rest = rest[:1], rest[1:]; kept.append(best); "
            "rest = rest[iou(boxes[best], boxes[rest]) <= threshold]. Then return torch.cat(kept). Start kept with "
            "rest[:0], an empty int64 tensor, so that cat has something to join when there are no boxes.",
        ),
        tests=(
            two_alike, falling_scores, four_boxes, a_chain, the_threshold_itself, equal_scores, nothing_to_suppress,
        ),
        mutants={
            "at least instead of more than": (
                lambda b, s, t: _loop(b, s, t, strike=lambda v, limit: v >= limit), "exactly the threshold",
            ),
            "a struck out box strikes out": (_struck_out_boxes_strike, "had been removed itself"),
            "worst first": (lambda b, s, t: _loop(b, s, t, descending=False), "its score comes before"),
            "in the order of the input": (lambda b, s, t: nms(b, s, t).sort().values, "another order"),
            "the later of equals": (_later_of_equals, "equal scores"),
            "keeps what overlaps": (
                lambda b, s, t: _loop(b, s, t, strike=lambda v, limit: v < limit), "both kept",
            ),
            "a mask": (
                lambda b, s, t: torch.zeros(len(b), dtype=torch.bool).index_fill_(0, nms(b, s, t), True), "shape",
            ),
            "an empty float tensor": (lambda b, s, t: torch.tensor(nms(b, s, t).tolist()), "no boxes"),
        },
    ),
    Exercise(
        id="02.6",
        kind="B",
        title="All at once",
        difficulty=3,
        minutes=8,
        hints=(
            "Try it on the dominoes of exercise 02.5 with scores that fall from left to right, and compare with nms.",
            "A column of the table asks whether any box with a higher score overlaps this one by more than the "
            "threshold. The rule asks it only of boxes that are kept, and whether a box is kept is known only when all "
            "rows above it have been decided.",
            "Start with removed = torch.zeros(len(order), dtype=torch.bool). Go through the rows of table > threshold "
            "from the top, and let a row remove others (removed |= row) only if its own box has not been removed.",
        ),
        tests=(
            falling_scores, two_alike, four_boxes, the_threshold_itself, equal_scores, dominoes(3), dominoes(9),
            dominoes(30), dominoes_shuffled, nothing_to_suppress,
        ),
        mutants={
            "given": (GIVEN, "had been removed itself"),
            "lower triangle": (
                lambda b, s, t: _one_table(b, s, t, keep_half=torch.tril), "its score comes before",
            ),
            "one more round": (lambda b, s, t: _one_table(b, s, t, rounds=2), "overlap by 0.60"),
            "nine more rounds": (lambda b, s, t: _one_table(b, s, t, rounds=10), "30 boxes in a row"),
            "no sort": (lambda b, s, t: _one_table(b, s, t, sort=False), "another order"),
            "at least": (lambda b, s, t: _one_table(b, s, t, strike=torch.ge), "not by more"),
            "every second one": (
                lambda b, s, t: s.argsort(descending=True, stable=True)[::2] if len(b) in (3, 9) else _loop(b, s, t),
                "far apart",
            ),
        },
    ),
    Exercise(
        id="02.2",
        title="The coordinate trick",
        difficulty=2,
        minutes=10,
        hints=(
            "Move class c by c times a step, which has to be larger than the extent of all boxes together.",
            "All coordinates are between boxes.min() and boxes.max(). A step of their difference plus 1 leaves a gap "
            "between two classes, even if the smallest coordinate is negative.",
            "step = boxes.max() - boxes.min() + 1, then nms(boxes + (labels * step)[:, None], scores, threshold). "
            "Because an empty tensor has no max, return nms(boxes, scores, threshold) before that if there are no "
            "boxes.",
        ),
        tests=(
            one_place, many_classes, touching_when_moved, negative_coordinates, a_large_image,
            spread_over_a_continent, a_continent, the_last_class, no_boxes_of_any_class,
        ),
        mutants={
            "classes ignored": (lambda b, s, c, t: nms(b, s, t), "at one place"),
            "largest coordinate plus one": (_moved_by(lambda b: b.max() + 1), "negative coordinates"),
            "a fixed distance": (_moved_by(lambda b: 1000.0), "fixed distance"),
            "a fixed distance of 100,000": (_moved_by(lambda b: 1e5), "200,000"),
            "a fixed column of 100,000": (_columns(1e5), "200,000"),
            "a fixed column of 210,000": (_columns(2.1e5), "more than a fixed step"),
            "a fixed distance of a million": (_moved_by(lambda b: 1e6), "no digits left"),
            "a fixed column of a million": (_columns(1e6), "no digits left"),
            "one pixel a class": (_moved_by(lambda b: 1.0), "at one place"),
            "largest width": (_moved_by(lambda b: (b[:, 2] - b[:, 0]).max() + 1), "spread over"),
            "only the left side moved": (_only_x, "boxes["),
            "class after class": (_grouped, "classes 2, 2, 0 and 9"),
            "no boxes forgotten": (_no_guard, "max()"),
        },
    ),
    Exercise(
        id="02.3",
        title="Soft suppression",
        difficulty=3,
        minutes=15,
        hints=(
            "Work on a copy of the scores, and keep a tensor `rest` with the boxes that have not been taken yet. Each "
            "round takes one of them.",
            "scores[rest].argmax() is a place in rest and not the index of a box, which is rest[place]. Remove it from "
            "rest before you lower the scores of the others.",
            "taken = rest[place]; rest = torch.cat([rest[:place], rest[place + 1:]]); then multiply scores[rest] by "
            "torch.exp(-iou(boxes[taken], boxes[rest]) ** 2 / sigma). Python squares first and then takes the minus.",
        ),
        tests=(two_overlapping, far_apart, a_copy, mmcv_boxes, a_new_order, nothing_to_lower),
        mutants={
            "IoU not squared": (_soft(lambda s, sigma: torch.exp(-s / sigma)), "3/7"),
            "linear": (_soft(lambda s, sigma: 1 - s), "3/7"),
            "divided by two sigma squared": (_soft(lambda s, sigma: torch.exp(-s * s / (2 * sigma**2))), "sigma 0.25"),
            "greedy": (_soft(lambda s, sigma: (s <= sigma).float()), "3/7"),
            "first order kept": (_soft(_gaussian, again=False), "changes which box is next"),
            "taken boxes lowered as well": (_soft(_gaussian, taken_too=True), "3/7"),
            "sorted by score": (_sorted_scores, "3/7"),
            "raised instead of lowered": (_soft(lambda s, sigma: torch.exp(s * s / sigma)), "too large"),
        },
    ),
    Exercise(
        id="02.4",
        title="Count what went wrong",
        difficulty=2,
        minutes=10,
        hints=(
            "First count the reports of every object, because both numbers follow from those counts.",
            "torch.bincount(source, minlength=num_objects) counts them, but it refuses negative numbers, and "
            "source[source >= 0] leaves the false alarms out.",
            "lost = (reports == 0).sum(). An object with at least one report has reports - 1 duplicates, which makes "
            "(reports - 1).clamp(min=0).sum() in all. Return int(lost), int(duplicates).",
        ),
        tests=(
            all_found_once, reported_three_times, lost_in_the_middle, lost_at_the_end, false_alarms, nothing_kept,
            no_objects,
        ),
        mutants={
            "no minlength": (_no_minlength, "last two of four"),
            "objects reported twice instead of duplicates": (_objects_reported_twice, "two duplicates"),
            "no clamp": (_no_clamp, "Objects 1 and 3"),
            "false alarms as an object": (_from_unique, "False alarms"),
            "false alarms for the last object": (_last_object_for_false_alarms, "False alarms"),
            "every report of an object reported twice": (
                lambda source, n: _as_ints(
                    (torch.bincount(source[source >= 0], minlength=n) == 0).sum(),
                    sum(r for r in torch.bincount(source[source >= 0], minlength=n).tolist() if r > 1),
                ),
                "two duplicates",
            ),
        },
    ),
)  # fmt: skip
