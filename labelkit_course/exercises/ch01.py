"""The exercises of chapter 01: formats, five pairs, a broken IoU, GIoU, and how many pixels an IoU allows."""

import torch
from torchvision.ops import box_convert

from labelkit import plot
from labelkit.boxes import area
from labelkit.similarity import giou, iou
from labelkit_course import GIVEN, Exercise, compare, expect

# --- 01.1 -----------------------------------------------------------------------------------------------------------


def _convert(case, boxes, answer):
    boxes = torch.tensor(boxes)
    got, want = answer(boxes), box_convert(boxes, "cxcywh", "xyxy")
    compare(case, {"boxes": boxes}, got, want, draw=lambda: _two_sets_of_boxes(got, want, boxes))


def _two_sets_of_boxes(got, want, centers):
    figure, (ax,) = plot.figure()
    plot.scene(ax, (128, 128), title="yours and the right ones")
    plot.boxes(ax, want, "good")
    plot.boxes(ax, got, "prediction")
    plot.points(ax, centers.reshape(-1, 4)[:, :2], "prior")
    plot.legend(ax, good="right", prediction="yours", prior="the given centre")
    return figure


def a_wide_box(answer):
    _convert("A box that is 40 px wide and 10 px high, with its centre at (60, 30)", [[60.0, 30.0, 40.0, 10.0]], answer)


def an_odd_width(answer):
    _convert(
        "A box of odd width, whose left and right side are between two whole numbers", [[50.0, 70.0, 7.0, 20.0]], answer
    )


def several_centers(answer):
    _convert("Two boxes in one tensor of shape [2, 4]", [[20.0, 20.0, 10.0, 30.0], [90.0, 100.0, 24.0, 6.0]], answer)


def any_dimensions_before_the_last(answer):
    _convert("A single box in a tensor of shape [4]", [64.0, 32.0, 20.0, 50.0], answer)
    _convert(
        "Two images with one box each, in a tensor of shape [2, 1, 4]",
        [[[64.0, 32, 20, 50]], [[10.0, 9, 8, 7]]],
        answer,
    )


def _stack(*columns):
    return torch.stack(columns, dim=-1)


def _columns_of_the_second_dimension(b):
    half = b[:, 2:] / 2
    return torch.cat([b[:, :2] - half, b[:, :2] + half], dim=1)


def _whole_width(b):
    cx, cy, w, h = b.unbind(-1)
    return _stack(cx - w, cy - h, cx + w, cy + h)


def _corner_for_centre(b):
    x, y, w, h = b.unbind(-1)
    return _stack(x, y, x + w, y + h)


def _swapped_sizes(b):
    cx, cy, h, w = b.unbind(-1)
    return _stack(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def _whole_pixels(b):
    cx, cy, w, h = b.unbind(-1)
    return _stack(cx - w // 2, cy - h // 2, cx + w // 2, cy + h // 2)


# --- 01.6 -----------------------------------------------------------------------------------------------------------

SQUARE = torch.tensor([0.0, 0, 20, 20])
OTHERS = {
    "half the side": torch.tensor([5.0, 5, 15, 15]),
    "moved": torch.tensor([10.0, 0, 30, 20]),
    "moved both ways": torch.tensor([10.0, 10, 30, 30]),
    "twice as wide": torch.tensor([0.0, 0, 40, 20]),
    "moved a tenth": torch.tensor([2.0, 2, 22, 22]),
}


def five_pairs(guess):
    truth = {name: iou(SQUARE, other).item() for name, other in OTHERS.items()}
    moved = "The square that moved still shares {} of its area, but the union grew as it moved."
    expect(
        guess,
        truth,
        within=0.06,
        clues=[
            (lambda ious: max(ious.values()) > 1, "An IoU is a share between 0 and 1, and one of yours is larger."),
            (lambda ious: min(ious.values()) < 0, "An IoU is a share between 0 and 1, and one of yours is negative."),
            ({"half the side": 0.5}, "Half the side is a quarter of the area."),
            (
                {"half the side": 0.75},
                "What is outside of the small square belongs to the union, not to what both share.",
            ),
            ({"moved": 0.5}, moved.format("half")),
            ({"moved both ways": 0.25}, moved.format("a quarter")),
            ({"moved both ways": 0.5}, "It moved in two directions, and each of them costs half of what is shared."),
            ({"twice as wide": 1.0}, "The wide box covers the square completely. Does the square cover the wide box?"),
            ({"twice as wide": 0.33}, "Nothing of the square is outside the wide box, so the wide box is the union."),
            ({"moved a tenth": 0.9}, "Both sides of what they share lost a tenth, and the union grew as well."),
            (
                {"moved a tenth": 0.8},
                "Both sides of what they share lost a tenth, which is not all: the union grew as well.",
            ),
        ],
    )


RIGHT = {"half the side": 0.25, "moved": 0.33, "moved both ways": 0.14, "twice as wide": 0.5, "moved a tenth": 0.68}

# --- 01.5 and 01.3 --------------------------------------------------------------------------------------------------


def _measure(similarity, case, a, b, answer):
    a, b = torch.tensor(a), torch.tensor(b)
    got, want = answer(a, b), similarity(a, b)
    compare(case, {"a": a, "b": b}, got, want, draw=lambda: _pair(a, b, got, want))


def _pair(a, b, got, want):
    """The first wrong pair and the number that came back for it; the right number is left to the learner."""
    wrong = tuple((~torch.isclose(got, want)).nonzero()[0].tolist())
    a, b = (boxes.expand(*want.shape, 4)[wrong] for boxes in (a, b))
    figure, (ax,) = plot.figure()
    edge = int(torch.maximum(a, b).max()) + 2
    plot.scene(ax, (edge, edge), title=f"a and b: you say {got[wrong].item():.4g}")
    for box, role, name in ((a, "gt", "a"), (b, "prediction", "b")):
        plot.boxes(ax, box, role, fill=True)
        if area(box) == 0:
            plot.points(ax, box[:2], role)
        # a is named in its upper left corner, b in its lower right one: the names never lie on each other.
        x, y = (box[:2] + edge / 50).tolist() if name == "a" else (box[2:] - edge / 50).tolist()
        ha, va = ("left", "top") if name == "a" else ("right", "bottom")
        ax.text(x, y, name, ha=ha, va=va)
    return figure


PAIRS = {
    "Two boxes that are apart in both directions share no area": ([[0.0, 0, 3, 3]], [[6.0, 5, 9, 8]]),
    "Two identical boxes": ([[3.0, 2, 9, 4]], [[3.0, 2, 9, 4]]),
    "Two boxes that only touch share no area": ([[0.0, 0, 4, 4]], [[4.0, 0, 8, 4]]),
    "Two squares of 3 px, one moved by (1, 1), share 4 px² and cover 14 px²": ([[0.0, 0, 3, 3]], [[1.0, 1, 4, 4]]),
    "A wide box and a high box that cross": ([[0.0, 4, 12, 8]], [[2.0, 1, 5, 14]]),
    "A small box inside a large one": ([[0.0, 0, 10, 10]], [[6.0, 2, 8, 7]]),
    "Two boxes that are apart in one direction share no area": ([[0.0, 0, 4, 4]], [[7.0, 0, 12, 4]]),
    "Two boxes, one above the other with a gap between them, share no area": ([[0.0, 0, 4, 4]], [[1.0, 6, 5, 9]]),
    "A box of a quarter of a pixel inside one of half a pixel": ([[0.0, 0, 0.5, 1]], [[0.0, 0, 0.5, 0.5]]),
    "Three pairs at once": (
        [[0.0, 0, 4, 4], [2, 2, 6, 6], [0, 0, 8, 8]], [[1.0, 0, 5, 4], [2, 2, 6, 6], [3, 3, 11, 11]],
    ),
    "Boxes of shape [3, 1, 4] with boxes of shape [2, 4] give a table of all pairs": (
        [[[0.0, 0, 4, 4]], [[2, 2, 6, 6]], [[9, 9, 12, 12]]], [[1.0, 1, 5, 5], [8, 8, 12, 12]],
    ),
}  # fmt: skip
# From where GIoU equals IoU to where only GIoU says anything, then the rest. (A dict keeps first places.)
GIOU_FIRST = (
    "Two identical boxes",
    "A small box inside a large one",
    "Two boxes that are apart in one direction share no area",
)
GIOU_ORDER = tuple(dict.fromkeys((*GIOU_FIRST, *PAIRS)))


def _test_of(similarity, case, a, b):
    def test(answer):
        _measure(similarity, case, a, b, answer)

    return test


def points_without_area(answer):
    """Only for IoU: the text of GIoU promises positive sizes."""
    point = [[5.0, 5, 5, 5]]
    _measure(iou, "A point and itself have no area, so their IoU is 0", point, point, answer)


def _wrong_iou(
    common=lambda size: size.clamp(min=0).prod(dim=-1),
    extra=0,
    extra_in_areas=0,
    union=lambda areas, common: (areas - common).clamp(min=1e-9),
):
    """IoU that multiplies, counts and joins as told."""

    def answer(a, b):
        shared = common(torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + extra)
        areas = [(boxes[..., 2:] - boxes[..., :2] + extra_in_areas).prod(dim=-1) for boxes in (a, b)]
        return shared / union(areas[0] + areas[1], shared)

    return answer


def _product_first(size):
    return size.prod(dim=-1).clamp(min=0)


def _hull(a, b):
    return (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(dim=-1)


def _union(a, b):
    return (area(a) + area(b)) / (1 + iou(a, b))


def _hull_from_the_inner_corners(a, b):
    hull = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).prod(dim=-1)
    return iou(a, b) - (hull - _union(a, b)) / hull


def _waste_over_the_union(a, b):
    return iou(a, b) - (_hull(a, b) - _union(a, b)) / _union(a, b)


def _waste_without_the_union(a, b):
    return iou(a, b) - (_hull(a, b) - area(a) - area(b)) / _hull(a, b)


# --- 01.4 -----------------------------------------------------------------------------------------------------------


def _allowed(case, side, threshold, answer):
    got = answer(side, threshold)
    want = side * (1 - (2 * threshold / (1 + threshold)) ** 0.5)
    inputs = {"side": side, "threshold": threshold}
    compare(case, inputs, got, want, atol=1e-4 * side, draw=lambda: _moved(side, threshold, float(got)))


def _moved(side, threshold, shift):
    """The square, moved as the learner says, and the IoU that this gives."""
    square = torch.tensor([0.0, 0, side, side]) + 4
    moved = square + shift
    figure, (ax,) = plot.figure()
    edge = int(4 + side + max(shift, 0)) + 4
    plot.scene(ax, (edge, edge), square, title=f"moved by your {shift:.3g} px: IoU {iou(square, moved):.2f}")
    plot.boxes(ax, moved, "prediction", fill=True)
    ax.set_xlabel(f"asked for: IoU {threshold}")
    return figure


def a_square_of_ten(answer):
    _allowed("A square with a side of 10 px and the threshold 0.5", 10.0, 0.5, answer)


def no_error_allowed(answer):
    _allowed("The threshold 1, which allows no error at all", 32.0, 1.0, answer)


def a_strict_threshold(answer):
    _allowed("A square with a side of 32 px and the strict threshold 0.9", 32.0, 0.9, answer)


def no_overlap_needed(answer):
    _allowed("The threshold 0, which is only reached when the squares no longer overlap", 16.0, 0.0, answer)


EXERCISES = (
    Exercise(
        id="01.1",
        title="From the centre to the corners",
        difficulty=1,
        minutes=5,
        hints=(
            "Draw one box on paper. How far is its left side from its centre?",
            "boxes.unbind(-1) gives the four columns cx, cy, w, h, however many dimensions come before the last.",
            "The left side is at cx - w / 2 and the right side at cx + w / 2. With cy and h you get top and bottom. "
            "torch.stack([...], dim=-1) puts the four columns together in the order left, top, right, bottom.",
        ),
        tests=(a_wide_box, an_odd_width, several_centers, any_dimensions_before_the_last),
        mutants={
            "whole width instead of half": (_whole_width, "40 px wide"),
            "centre taken for the corner": (_corner_for_centre, "40 px wide"),
            "width and height swapped": (_swapped_sizes, "40 px wide"),
            "whole pixels": (_whole_pixels, "odd width"),
            "only two dimensions": (_columns_of_the_second_dimension, "too many indices"),
            "forgot the return": (lambda boxes: None, "return"),
        },
    ),
    Exercise(
        id="01.6",
        kind="P",
        title="Five pairs",
        difficulty=1,
        minutes=4,
        hints=(
            "Draw both boxes on squared paper. Count the squares that both cover, and those that at least one covers.",
        ),
        tests=(five_pairs,),
        mutants={
            "in percent": ({name: 100 * value for name, value in RIGHT.items()}, "between 0 and 1"),
            "with GIoU's sign": (RIGHT | {"moved both ways": -0.14}, "is negative"),
            "half for half the side": (RIGHT | {"half the side": 0.5}, "a quarter of the area"),
            "what is left over": (RIGHT | {"half the side": 0.75}, "outside of the small square"),
            "the share of one box": (RIGHT | {"moved": 0.5}, "the union grew"),
            "the share of one box, both ways": (RIGHT | {"moved both ways": 0.25}, "the union grew"),
            "one direction of two": (RIGHT | {"moved both ways": 0.5}, "in two directions"),
            "covered is found": (RIGHT | {"twice as wide": 1.0}, "covers the square completely"),
            "the small square again": (RIGHT | {"twice as wide": 0.33}, "is the union"),
            "a tenth": (RIGHT | {"moved a tenth": 0.9}, "lost a tenth"),
            "two tenths": (RIGHT | {"moved a tenth": 0.8}, "lost a tenth"),
            "the intersection alone": (RIGHT | {"moved a tenth": 0.81}, "the union grew as well"),
        },
    ),
    Exercise(
        id="01.5",
        kind="B",
        title="Alike though apart",
        difficulty=2,
        minutes=8,
        hints=(
            "Let the function print common, area_a and area_b, and call it with the failing case, "
            '`their_iou(**course.case("01.5"))`. Which of the three is not what you count on the picture?',
            "If common is above 0 for boxes that are apart, ask on which numbers the guard acts. If an area is too "
            "large, ask whether the code counts lines or columns.",
            "Call clamp(min=0) on right_bottom - left_top, before .prod(dim=-1). Then look for the 1 that belongs to "
            "another convention.",
        ),
        tests=(*(_test_of(iou, case, *pair) for case, pair in PAIRS.items()), points_without_area),
        mutants={
            "given": (GIVEN, "apart in both directions"),
            "abs": (_wrong_iou(lambda size: size.abs().prod(dim=-1)), "apart in both directions"),
            "areas only": (_wrong_iou(_product_first), "apart in both directions"),
            "clamp only": (_wrong_iou(extra_in_areas=1), "identical boxes"),
            "one pixel everywhere": (_wrong_iou(extra=1, extra_in_areas=1), "only touch"),
            "no clamp at all": (_wrong_iou(lambda size: size.prod(dim=-1)), "apart in both directions"),
            "only if both are negative": (
                _wrong_iou(lambda size: size.prod(dim=-1) * (size > 0).any(dim=-1)),
                "apart in one direction",
            ),
            "a guard on x only": (
                _wrong_iou(lambda size: size[..., 0].clamp(min=0) * size[..., 1]),
                "one above the other",
            ),
            "at least one pixel of union": (
                _wrong_iou(union=lambda areas, common: (areas - common).clamp(min=1)),
                "a quarter of a pixel",
            ),
            "the intersection twice": (_wrong_iou(union=lambda areas, common: areas), "identical boxes"),
            "no guard for points": (_wrong_iou(union=lambda areas, common: areas - common), "A point and itself"),
            "always a table": (lambda a, b: iou(a[:, None], b), "shape (1, 1)"),
        },
    ),
    Exercise(
        id="01.3",
        title="GIoU",
        difficulty=3,
        minutes=12,
        hints=(
            "The enclosing box begins at the earlier of the two starts and ends at the later of the two ends, which is "
            "the opposite of the intersection. Since it always has an area, it needs no clamp.",
            "You need three numbers per pair, which are iou(a, b), the area of the enclosing box, and the union "
            "(area(a) + area(b)) / (1 + iou(a, b)).",
            "torch.minimum of [..., :2] and torch.maximum of [..., 2:] give the corners of the enclosing box, and from "
            "their difference you get its area. Return iou - (enclosing - union) / enclosing.",
        ),
        # GIoU is not 0 where no area is shared, so a case says only how the boxes lie.
        tests=tuple(_test_of(giou, case.split(" share no")[0].rstrip(","), *PAIRS[case]) for case in GIOU_ORDER),
        mutants={
            "IoU itself": (iou, "apart in one direction."),
            "enclosing box from the inner corners": (_hull_from_the_inner_corners, "inside a large one"),
            "waste over the union": (_waste_over_the_union, "apart in one direction."),
            "intersection counted twice": (_waste_without_the_union, "identical boxes"),
            "never below 0": (lambda a, b: giou(a, b).clamp(min=0), "apart in one direction."),
            "waste added": (lambda a, b: 2 * iou(a, b) - giou(a, b), "too large"),
            "always a table": (lambda a, b: giou(a[:, None], b), "shape (1, 1)"),
        },
    ),
    Exercise(
        id="01.4",
        title="How much error is allowed?",
        difficulty=3,
        minutes=12,
        hints=(
            "Let m = (s - d)^2 be the area of the common square. Then the formula reads t = m / (2 s^2 - m).",
            "If you multiply by the denominator and collect m on one side, you get m (1 + t) = 2 s^2 t.",
            "Therefore s - d is s times the square root of 2 t / (1 + t), and only d remains to be found.",
        ),
        tests=(a_square_of_ten, a_strict_threshold, no_error_allowed, no_overlap_needed),
        mutants={
            "moved along one axis only": (lambda s, t: s * (1 - t) / (1 + t), "too large"),
            "common area over one area": (lambda s, t: s * (1 - t**0.5), "too large"),
            "what is kept, not what is lost": (lambda s, t: s * (2 * t / (1 + t)) ** 0.5, "too large"),
            "no square root": (lambda s, t: s * (1 - 2 * t / (1 + t)), "too large"),
            "share instead of pixels": (lambda s, t: 1 - (2 * t / (1 + t)) ** 0.5, "too small"),
        },
    ),
)
