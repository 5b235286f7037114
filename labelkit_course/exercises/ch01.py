"""The exercises of chapter 01: formats, IoU, GIoU, and how many pixels an IoU allows."""

import torch
from torchvision.ops import box_convert

from labelkit import plot
from labelkit.boxes import area
from labelkit.similarity import giou, iou
from labelkit_course import Exercise, compare

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
    _convert("A box 40 wide and 10 high around (60, 30)", [[60.0, 30.0, 40.0, 10.0]], answer)


def an_odd_width(answer):
    _convert("A box of odd width has its sides between two pixels", [[50.0, 70.0, 7.0, 20.0]], answer)


def several_centers(answer):
    _convert("Two boxes", [[20.0, 20.0, 10.0, 30.0], [90.0, 100.0, 24.0, 6.0]], answer)


def any_dimensions_before_the_last(answer):
    _convert("A single box, a tensor of shape [4]", [64.0, 32.0, 20.0, 50.0], answer)
    _convert("A batch of images, a tensor of shape [2, 1, 4]", [[[64.0, 32, 20, 50]], [[10.0, 9, 8, 7]]], answer)


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


# --- 01.2 and 01.3 --------------------------------------------------------------------------------------------------


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
    "Two squares of side 2, one moved by (1, 1): one square pixel in common, seven covered": (
        [[0.0, 0, 2, 2]], [[1.0, 1, 3, 3]],
    ),
    "A wide box and a high box that cross": ([[0.0, 4, 12, 8]], [[2.0, 1, 5, 14]]),
    "Identical boxes": ([[3.0, 2, 9, 4]], [[3.0, 2, 9, 4]]),
    "A small box inside a large one": ([[0.0, 0, 10, 10]], [[6.0, 2, 8, 7]]),
    "Boxes that only touch have no area in common": ([[0.0, 0, 4, 4]], [[4.0, 0, 8, 4]]),
    "Boxes that lie apart in one direction": ([[0.0, 0, 4, 4]], [[7.0, 0, 12, 4]]),
    "Boxes that lie apart in both directions": ([[0.0, 0, 4, 3]], [[7.0, 5, 12, 9]]),
    "Three pairs at once": (
        [[0.0, 0, 4, 4], [2, 2, 6, 6], [0, 0, 8, 8]], [[2.0, 0, 6, 4], [2, 2, 6, 6], [4, 4, 12, 12]],
    ),
    "Priors [3, 1, 4] against ground truths [2, 4] give all pairs": (
        [[[0.0, 0, 4, 4]], [[2, 2, 6, 6]], [[9, 9, 12, 12]]], [[1.0, 1, 5, 5], [8, 8, 12, 12]],
    ),
}  # fmt: skip
# From where GIoU equals IoU to where only GIoU says anything, then the rest. (A dict keeps first places.)
GIOU_FIRST = ("Identical boxes", "A small box inside a large one", "Boxes that lie apart in one direction")
GIOU_ORDER = tuple(dict.fromkeys((*GIOU_FIRST, *PAIRS)))


def _test_of(similarity, case, a, b):
    def test(answer):
        _measure(similarity, case, a, b, answer)

    return test


def points_without_area(answer):
    """Only for IoU: the text of GIoU promises positive sizes."""
    point = [[5.0, 5, 5, 5]]
    _measure(iou, "A point and itself: boxes without an area have the IoU 0", point, point, answer)


def _intersection(a, b, low=torch.maximum, high=torch.minimum, guard=True):
    size = high(a[..., 2:], b[..., 2:]) - low(a[..., :2], b[..., :2])
    return (size.clamp(min=0) if guard else size).prod(dim=-1)


def _ratio(intersection, a, b):
    return intersection / (area(a) + area(b) - intersection).clamp(min=1e-9)


def _extra_pixel(a, b):
    grown = torch.tensor([0.0, 0, 1, 1])
    return iou(a + grown, b + grown)


def _clamp_after_the_product(a, b):
    return _ratio(_intersection(a, b, guard=False).clamp(min=0), a, b)


def _not_a_number(a, b):
    intersection = _intersection(a, b)
    return intersection / (area(a) + area(b) - intersection)


def _swapped_axes(a, b):
    return iou(a, b[..., [1, 0, 3, 2]])


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
    _allowed("A square of 10 px and IoU 0.5", 10.0, 0.5, answer)


def no_error_allowed(answer):
    _allowed("IoU 1 allows no error at all", 32.0, 1.0, answer)


def a_strict_threshold(answer):
    _allowed("A square of 32 px and the strict threshold 0.9", 32.0, 0.9, answer)


def no_overlap_needed(answer):
    _allowed("IoU 0 allows the whole side", 16.0, 0.0, answer)


EXERCISES = (
    Exercise(
        id="01.1",
        title="From the centre to the corners",
        difficulty=1,
        minutes=5,
        hints=(
            "Draw one box on paper. Its left side lies half of the width to the left of the centre.",
            "boxes.unbind(-1) gives the four columns, whatever stands before the last dimension: cx, cy, w, h.",
            "left is cx - w / 2, right is cx + w / 2, the same for y with h. torch.stack([...], dim=-1) puts the four "
            "columns together again, in the order left, top, right, bottom.",
        ),
        tests=(a_wide_box, an_odd_width, several_centers, any_dimensions_before_the_last),
        mutants={
            "whole width instead of half": (_whole_width, "A box 40 wide and 10 high"),
            "centre taken for the corner": (_corner_for_centre, "A box 40 wide and 10 high"),
            "width and height swapped": (_swapped_sizes, "A box 40 wide and 10 high"),
            "whole pixels": (_whole_pixels, "odd width"),
            "only two dimensions": (_columns_of_the_second_dimension, "too many indices"),
            "forgot the return": (lambda boxes: None, "return"),
        },
    ),
    Exercise(
        id="01.2",
        title="IoU of many pairs",
        difficulty=2,
        minutes=12,
        hints=(
            "The common box begins at the later of the two starts and ends at the earlier of the two ends, in x and in "
            "y. torch.maximum and torch.minimum compare two tensors number by number.",
            "boxes[..., :2] holds x1 and y1, boxes[..., 2:] holds x2 and y2. So two calls give the corners of the "
            "common box. Subtract them and clamp at 0 before you multiply width and height.",
            "Intersection: (minimum of [..., 2:] minus maximum of [..., :2]).clamp(min=0), first column times second. "
            "Union: area(a) + area(b) - intersection. Keep the union above 0 with clamp(min=1e-9), then divide.",
        ),
        tests=(*(_test_of(iou, case, *pair) for case, pair in PAIRS.items()), points_without_area),
        mutants={
            "no clamp": (lambda a, b: _ratio(_intersection(a, b, guard=False), a, b), "apart in one direction"),
            "clamp after the product": (_clamp_after_the_product, "apart in both directions"),
            "one pixel too many": (_extra_pixel, "one square pixel in common"),
            "union without minus intersection": (
                lambda a, b: _intersection(a, b) / (area(a) + area(b)).clamp(min=1e-9),
                "one square pixel in common",
            ),
            "maximum and minimum swapped": (
                lambda a, b: _ratio(_intersection(a, b, torch.minimum, torch.maximum), a, b),
                "in common",
            ),
            "x of one against y of the other": (_swapped_axes, "that cross"),
            "over the smaller area": (
                lambda a, b: _intersection(a, b) / torch.minimum(area(a), area(b)).clamp(min=1e-9),
                "in common",
            ),
            "not a number for points": (_not_a_number, "A point and itself"),
            "always a table": (lambda a, b: iou(a[:, None], b), "shape (1, 1)"),
            "one number for all": (lambda a, b: iou(a, b).mean(), "shape"),
        },
    ),
    Exercise(
        id="01.3",
        title="GIoU",
        difficulty=3,
        minutes=12,
        hints=(
            "The enclosing box begins at the earlier of the two starts and ends at the later of the two ends: the "
            "opposite of the intersection. It always has an area, so it needs no clamp.",
            "You need three numbers a pair: iou(a, b), the union, and the area of the enclosing box. The union is "
            "(area(a) + area(b)) / (1 + iou(a, b)).",
            "Corners: torch.minimum of [..., :2] and torch.maximum of [..., 2:]; their difference is width and height "
            "of the enclosing box. Return iou - (enclosing - union) / enclosing.",
        ),
        tests=tuple(_test_of(giou, case, *PAIRS[case]) for case in GIOU_ORDER),
        mutants={
            "IoU itself": (iou, "apart in one direction"),
            "enclosing box from the inner corners": (_hull_from_the_inner_corners, "inside a large one"),
            "waste over the union": (_waste_over_the_union, "apart in one direction"),
            "intersection counted twice": (_waste_without_the_union, "Identical boxes"),
            "never below 0": (lambda a, b: giou(a, b).clamp(min=0), "apart in one direction"),
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
            "Call the common square's area m = (s - d)^2. Then the formula reads t = m / (2 s^2 - m).",
            "Multiply by the denominator and collect m on one side: m (1 + t) = 2 s^2 t.",
            "So s - d is the square root of 2 t / (1 + t) times s. What is left to do is to find d.",
        ),
        tests=(a_square_of_ten, a_strict_threshold, no_error_allowed, no_overlap_needed),
        mutants={
            "moved along one axis only": (lambda s, t: s * (1 - t) / (1 + t), "too large"),
            "common area over one area": (lambda s, t: s * (1 - t**0.5), "too large"),
            "what is kept, not what is lost": (lambda s, t: s * (2 * t / (1 + t)) ** 0.5, "A square of 10 px"),
            "no square root": (lambda s, t: s * (1 - 2 * t / (1 + t)), "too large"),
            "share instead of pixels": (lambda s, t: 1 - (2 * t / (1 + t)) ** 0.5, "too small"),
        },
    ),
)
