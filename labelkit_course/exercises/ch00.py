"""The exercises of chapter 00, which teach how exercises work: a prediction, and a function."""

import torch

from labelkit import plot
from labelkit.boxes import centers
from labelkit_course import Exercise, compare, expect

RULES = {"A": "topk, k=3", "B": "max_iou, no low quality"}


def found_on_the_digits(guess):
    from labelkit_course.on_stage import scene  # imports Lightning, for which no other exercise has to wait

    truth = {name: scene(row, "digits").shown.found for name, row in RULES.items()}
    expect(
        guess,
        truth,
        within=lambda got, want: abs(got - want) <= 1 and got <= 11,
        clues=[
            (lambda counts: max(counts.values()) > 11, "The tile has eleven digits. Count digits, not priors."),
            ({"A": truth["B"], "B": truth["A"]}, "Look again which of the two rules leaves some digits out."),
            (lambda counts: counts["B"] > 8, "Under rule B four digits have negative priors only, here and elsewhere."),
            (lambda counts: counts["B"] < 4, "Rule B gives the large digits positive priors."),
            (
                lambda counts: counts["B"] < 6,
                "Five digits have a positive prior here, but the detector learned from other tiles.",
            ),
            (lambda counts: counts["A"] < 10, "Rule A gives every digit positive priors, the small ones too."),
        ],
    )


def _ask(case, boxes, answer):
    boxes = torch.tensor(boxes)
    got, want = answer(boxes), centers(boxes)
    compare(case, {"boxes": boxes}, got, want, draw=lambda: _drawn(boxes, got, want))


def _drawn(boxes, got, want):
    figure, (ax,) = plot.figure(width=3.6, height=4.0)
    plot.scene(ax, (64, 64), boxes)
    plot.points(ax, want, "good")
    plot.points(ax, got, "prediction")
    plot.legend(ax, good="the centre", prediction="yours")
    return figure


def a_square(answer):
    _ask("A square", [[12.0, 20.0, 32.0, 40.0]], answer)


def a_wide_box(answer):
    _ask("A wide box near the right side of the image", [[30.0, 8.0, 60.0, 18.0]], answer)


def half_a_pixel(answer):
    _ask("A box with an odd width has its centre between two pixels", [[4.0, 40.0, 9.0, 45.0]], answer)


def several_boxes(answer):
    boxes = [[2.0, 2.0, 10.0, 30.0], [20.0, 40.0, 50.0, 60.0], [33.0, 5.0, 40.0, 9.0]]
    _ask("Three boxes give three centres, in the same order", boxes, answer)


def no_boxes(answer):
    boxes = torch.zeros(0, 4)
    compare("An image without boxes has no centres", {"boxes": boxes}, answer(boxes), centers(boxes))


EXERCISES = (
    Exercise(
        id="00.2",
        kind="P",
        title="Who will be found?",
        difficulty=1,
        minutes=3,
        hints=("Sort the digits under rule B into three heaps: taught as an object, as background, as neither.",),
        tests=(found_on_the_digits,),
        mutants={
            "all of them": ({"A": 11, "B": 11}, "negative priors only"),
            "swapped": ({"A": 7, "B": 11}, "leaves some digits out"),
            "one too many": ({"A": 12, "B": 7}, "eleven digits"),
            "priors, not digits": ({"A": 33, "B": 15}, "eleven digits"),
            "those with a positive": ({"A": 11, "B": 5}, "other tiles"),
            "none": ({"A": 11, "B": 0}, "the large digits"),
            "three for A": ({"A": 3, "B": 7}, "the small ones too"),
        },
    ),
    Exercise(
        id="00.1",
        title="The centres of boxes",
        difficulty=1,
        minutes=5,
        hints=(
            "A centre lies halfway between the left and the right side, and halfway between the upper and the lower.",
            "boxes[:, :2] holds x1 and y1 of every box, boxes[:, 2:] holds x2 and y2. Halfway between is their mean.",
            "Add boxes[:, :2] and boxes[:, 2:], divide by 2, and return it.",
        ),
        tests=(
            a_square,
            a_wide_box,
            half_a_pixel,
            several_boxes,
            no_boxes,
        ),
        mutants={
            "half the size": (lambda boxes: (boxes[:, 2:] - boxes[:, :2]) / 2, "A square"),
            "y before x": (lambda boxes: centers(boxes).flip(1), "is 30, too large"),
            "the square root of the product": (lambda boxes: (boxes[:, :2] * boxes[:, 2:]).sqrt(), "too small"),
            "whole pixels": (lambda boxes: (boxes[:, :2] + boxes[:, 2:]) // 2, "between two pixels"),
            "first box only": (lambda boxes: centers(boxes)[:1], "shape (1, 2)"),
            "forgot the return": (lambda boxes: None, "return"),
        },
    ),
)
