"""The exercises of chapter 06: candidates, who may get none, who owns a point, FCOS's whole rule, its ranges."""

from functools import cache

import torch

from labelkit import NEGATIVE, Priors, plot
from labelkit.assigners import ASSIGNERS, FCOS
from labelkit.assignment import Assignment
from labelkit.boxes import area, centers, encode_ltrb
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect
from labelkit_course.answers import OneImage
from labelkit_course.exercises.crowns import crowns

# --- 06.6 -----------------------------------------------------------------------------------------------------------

SIZES = ("10 x 10", "20 x 20", "60 x 20", "200 x 20", "300 x 20", "300 x 40")
FIVE_LEVELS = Priors.points((512, 512), strides=(8, 16, 32, 64, 128))


@cache
def _share_without(size):
    """Of an object of this size, the share of its places in the image at which no point is positive for it."""
    width, height = map(float, size.split(" x "))
    places = 64 + torch.cartesian_prod(torch.arange(0.0, 128, 5), torch.arange(0.0, 128, 5))
    boxes = torch.cat([places, places + torch.tensor([width, height])], dim=1)
    found = FCOS()(FIVE_LEVELS, [{"boxes": box[None]} for box in boxes]).positive.any(dim=1)
    return 1 - found.float().mean().item()


def who_may_get_none(guess):
    truth = {size for size in SIZES if _share_without(size) > 0}
    expect(
        guess,
        truth,
        among=SIZES,
        clues=(
            (lambda sizes: "10 x 10" in sizes, "Stride 8 has a point every 8 px, and 10 px is more than that."),
            (
                lambda sizes: {"20 x 20", "60 x 20"} & sizes,
                "If no side is longer than 64 px, every point inside is in the range of stride 8, whose rows are 8 px "
                "apart.",
            ),
            (
                lambda sizes: "200 x 20" in sizes,
                "In the middle of 200 px the farthest side is 100 px away. Look up how far apart the rows of the level "
                "are that serves 100 px.",
            ),
            (
                lambda sizes: "300 x 40" in sizes,
                "In the middle of 300 px, stride 32 serves the object. Compare the distance of its rows with 40 px.",
            ),
            (
                set(),
                "Look at the middle of the longest objects: which level serves a farthest side of 150 px, and how far "
                "apart are its rows?",
            ),
        ),
    )


# --- 06.2 -----------------------------------------------------------------------------------------------------------


def _candidates(case, points, boxes, low, high, answer):
    points = torch.tensor(points, dtype=torch.float32).reshape(-1, 2)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(points, boxes, low, high), _candidate_table(points, boxes, low, high)
    compare(case, {"points": points, "boxes": boxes, "low": low, "high": high}, got, want)


def _candidate_table(points, boxes, low, high, *, inside=torch.gt, at_least=torch.ge, at_most=torch.le, far=torch.amax):
    distances = encode_ltrb(boxes, points[:, None])
    farthest = far(distances, dim=-1)
    return inside(distances.amin(dim=-1), 0) & at_least(farthest, low) & at_most(farthest, high)


def in_and_out(answer):
    _candidates("One point is inside the box, one beside it and one above it", [[50, 20], [70, 20], [20, 4]],
                [[10, 10, 60, 30]], 0, 64, answer)  # fmt: skip


def on_the_border(answer):
    _candidates("One point is on the left side of the box and one on its lower side, and neither is inside",
                [[10, 20], [20, 40]], [[10, 10, 40, 40]], 0, 64, answer)  # fmt: skip


def too_near_too_far(answer):
    case = "What has to be in the range is the distance to the farthest side, not to the nearest, and not the size"
    _candidates(case, [[50, 20], [95, 20]], [[0, 0, 100, 40]], 64, 128, answer)


def at_the_upper_end(answer):
    case = "The longest distance is exactly the upper end, 64 px, which belongs to the range"
    _candidates(case, [[64, 10]], [[0, 0, 80, 20]], 0, 64, answer)


def at_the_lower_end(answer):
    case = "The longest distance is exactly the lower end, 64 px, which belongs to the range"
    _candidates(case, [[64, 10]], [[0, 0, 80, 20]], 64, 128, answer)


def a_table_of_pairs(answer):
    _candidates("With three points and two objects the table is [3, 2]", [[12, 12], [30, 30], [60, 60]],
                [[10, 10, 40, 40], [25, 25, 70, 70]], 0, 64, answer)  # fmt: skip


def no_boxes(answer):
    _candidates("Without objects the table is [2, 0]", [[1, 1], [2, 2]], [], 0, 64, answer)


# --- 06.5 -----------------------------------------------------------------------------------------------------------

THREE_LEVELS = Priors.points((128, 128), strides=(4, 8, 16))
ONE_PIXEL_APART = torch.tensor([[20.0, 20, 40, 40], [21, 21, 41, 41]])


def one_pixel_apart(guess):
    first, second = map(int, FCOS()(THREE_LEVELS, {"boxes": ONE_PIXEL_APART}).positives_per_gt(2))
    expect(
        guess,
        {"first": first, "second": second},
        clues=(
            (
                lambda got: got["first"] == got["second"],
                "A point has one owner, and both objects want the same points. They cannot end with equally many.",
            ),
            (
                lambda got: got["second"] > got["first"],
                "The third test compares the areas. Read once more who wins where they are equal.",
            ),
            (
                lambda got: got["first"] == first and got["second"] > 0,
                "The first leaves to the second a rim 1 px wide along two of its sides. Which points are there?",
            ),
            (
                lambda got: got["first"] + got["second"] == first + second and got["second"] > 0,
                "The second object cannot win a point that is inside both, because none of the tests asks which object "
                "is nearer.",
            ),
            (
                lambda got: got["first"] + got["second"] > first + second,
                "From any point of such a box the farthest side is at most 20 px away. Which levels serve that?",
            ),
        ),
    )


# --- 06.7 -----------------------------------------------------------------------------------------------------------


def _owner(case, areas, inside, answer):
    areas = torch.tensor(areas)
    inside = torch.tensor(inside, dtype=torch.bool).reshape(len(inside), len(areas))
    compare(case, {"areas": areas, "inside": inside}, answer(areas, inside), _owners(areas, inside))


def _owners(areas, inside):
    owners = []
    for row in inside.tolist():
        held = [(size, index) for index, (size, holds) in enumerate(zip(areas.tolist(), row, strict=True)) if holds]
        owners.append(min(held)[1] if held else NEGATIVE)
    return torch.tensor(owners)


def two_fields(answer):
    _owner("Three points are in one field, in both and in none", [900.0, 400.0], [[1, 0], [1, 1], [0, 0]], answer)


def the_runway(answer):
    case = "A house stands beside a runway of 20,000 x 6,000 px, and two points are inside the runway alone"
    _owner(case, [400.0, 1.2e8], [[0, 1], [1, 1], [0, 1], [0, 0]], answer)


def two_runways(answer):
    case = "A point is inside the larger of two runways, one of 1.2e8 px² and one of 1.5e8 px²"
    _owner(case, [1.5e8, 1.2e8], [[1, 0], [1, 1], [0, 1], [0, 0]], answer)


def exactly_1e8(answer):
    _owner("A field covers exactly 10,000 x 10,000 px", [1e8], [[1], [0]], answer)


def whole_provinces(answer):
    case = "Provinces cover 1e9, 1e12 and 1e13 px²"
    _owner(case, [1e9, 1e12, 1e13], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]], answer)


def equal_fields(answer):
    _owner("Two fields of equal area hold the same point, and the first is its owner", [400.0, 400.0], [[1, 1]], answer)


def no_objects_at_all(answer):
    _owner("An image has three points and no object", [], [[], [], []], answer)


def _filled(fill, guard=True, order=1.0):
    """The given code with another number for "not inside"; with a guard, also for images without objects."""

    def owner(areas, inside):
        if inside.shape[1] == 0:
            return torch.full((len(inside),), NEGATIVE)
        table = torch.where(inside, order * areas, fill)
        winner = table.argmin(dim=1)
        return torch.where(inside.any(dim=1), winner, NEGATIVE) if guard else winner

    return owner


def _compared(fill):
    """As given, with another number."""

    def owner(areas, inside):
        if inside.shape[1] == 0:
            return torch.full((len(inside),), NEGATIVE)
        least, winner = torch.where(inside, areas, fill).min(dim=1)
        return winner.masked_fill(least == fill, NEGATIVE)

    return owner


def _half_precision(areas, inside):
    return _filled(torch.inf)(areas.half(), inside)


def _crashes_without_objects(areas, inside):
    table = torch.where(inside, areas, torch.inf)
    return torch.where(inside.any(dim=1), table.argmin(dim=1), NEGATIVE)


# --- 06.8 -----------------------------------------------------------------------------------------------------------

GROUPS = {"under 8 px": (0, 8), "of 8 to 16 px": (8, 16), "of 16 px and more": (16, torch.inf)}
LEAST_SHARE, MOST_WITHOUT = 0.08, 0.025


def _with_ranges(ranges):
    """The assignment of every tile, and the positives of each of its crowns."""
    answer = FCOS(regress_ranges=ranges)(THREE_LEVELS, crowns())
    return answer, answer.positives_per_gt([len(tile["boxes"]) for tile in crowns()])


def every_level_works(ranges):
    answer, _ = _with_ranges(ranges)
    on_level = torch.stack([(answer.positive & (THREE_LEVELS.levels == level)).sum() for level in range(3)])
    shares = on_level / on_level.sum().clamp(min=1)
    if shares.min() < LEAST_SHARE:
        first, second, third = (f"{100 * share:.1f} %" for share in shares.tolist())
        raise Wrong(
            f"The strides 4, 8 and 16 have {first}, {second} and {third} of the positives, and each should have at "
            f"least {100 * LEAST_SHARE:.0f} %.",
            inputs={"regress_ranges": ranges},
        )


def few_have_none(ranges):
    _, counts = _with_ranges(ranges)
    none, side = torch.cat(counts) == 0, torch.cat([area(tile["boxes"]).sqrt() for tile in crowns()])
    if none.float().mean() <= MOST_WITHOUT:
        return
    shares = {name: none[(side >= low) & (side < high)].float().mean() for name, (low, high) in GROUPS.items()}
    worst = max(shares, key=lambda name: shares[name])
    raise Wrong(
        f"{100 * none.float().mean():.1f} % of the crowns have no positive, and {100 * MOST_WITHOUT} % are allowed. It "
        f"is worst for those {worst}, of which {100 * shares[worst]:.0f} % have none.",
        draw=lambda: _tile_with_most(counts),
        inputs={"regress_ranges": ranges},
    )


def _tile_with_most(counts):
    index = max(range(len(counts)), key=lambda i: int((counts[i] == 0).sum()))
    boxes, none = crowns()[index]["boxes"], counts[index] == 0
    figure, (ax,) = plot.figure()
    plot.scene(ax, (128, 128), title=f"test tile {index}, with your ranges")
    plot.boxes(ax, boxes[~none], "negative")
    plot.boxes(ax, boxes[none], "gt")
    plot.legend(ax, gt="has no positive", negative="has some")
    return figure


# --- 06.4 -----------------------------------------------------------------------------------------------------------

PYRAMID = Priors.points((128, 128), strides=(8, 16, 32))


def _assign(case, boxes, answer, priors=PYRAMID, **arguments):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(priors, boxes, **arguments), FCOS(**arguments)(priors, {"boxes": boxes}).gt
    inputs = {"priors": repr(priors), "gt_boxes": boxes} | arguments
    compare(case, inputs, got, want, draw=lambda: _levels(priors, boxes, got, want))


def _levels(priors, boxes, got, want):
    """The first level on which the two answers differ, yours beside the right one."""
    level = int(priors.levels[(got != want).nonzero()[0, 0]])
    width, height = (int(side) for side in (priors.centers.amax(dim=0) + priors.strides.min()).tolist())
    figure, axes = plot.figure(2)
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        answer = Assignment(gt, torch.zeros(len(gt)), (gt >= 0).float(), torch.ones(len(gt)))
        plot.scene(ax, (height, width), boxes, title=f"{title}, level {level}")
        plot.assignment(ax, priors, answer, boxes if gt.max() < len(boxes) else None, level=level)
    return figure


def one_small_object(answer):
    _assign("One 30 px object is served by the lowest level only", [[33.0, 35, 63, 65]], answer)


def a_border_through_points(answer):
    _assign("The sides of the object run through points, which are not inside", [[20.0, 20, 44, 44]], answer)


def a_middle_sized_object(answer):
    _assign("One 90 px object is served by the second level", [[17.0, 15, 107, 105]], answer)


def exactly_at_the_end(answer):
    _assign("Points whose longest distance is exactly 64 px belong to both levels", [[20.0, 20, 120, 120]], answer)


def beyond_every_range(answer):
    case = "A 100 px object is on strides 4 and 8, and the range of the highest level has no end"
    _assign(case, [[14.0, 14, 114, 114]], answer, Priors.points((128, 128), strides=(4, 8)))


def a_single_level(answer):
    case = "The pyramid has one level only, whose range has neither a lower nor an upper end"
    _assign(case, [[10.0, 10, 20, 22], [4, 4, 124, 100]], answer, Priors.points((128, 128), strides=(8,)))


def four_levels(answer):
    case = "The pyramid has four levels, strides 4 to 32, and one object reaches beyond the image"
    boxes = [[-70.0, -60, 190, 180], [20, 30, 98, 100], [40, 40, 76, 72], [50, 50, 62, 60]]
    _assign(case, boxes, answer, Priors.points((128, 128), strides=(4, 8, 16, 32)))


def anchors_of_a_wide_image(answer):
    case = "The priors are anchors in an image of 96 x 160 px: their points are their centres"
    anchors = Priors.anchors((96, 160), strides=(8, 16, 32), sizes=((32,), (64,), (128,)))
    _assign(case, [[33.0, 35, 63, 65], [84, 10, 156, 90]], answer, anchors)


def points_on_the_corners(answer):
    case = "The points are torchvision's, on the corners of the cells of an image of 96 x 160 px"
    corners = Priors.points((96, 160), strides=(8, 16, 32), offset=0.0)
    _assign(case, [[33.0, 35, 63, 65], [84, 10, 156, 90]], answer, corners, center_radius=1.5)


def a_crowd(answer):
    corner = torch.cartesian_prod(torch.arange(6.0, 120, 12), torch.arange(6.0, 120, 12))
    boxes = torch.cat([corner, corner + 9], dim=1)
    _assign("A hundred objects of 9 px stand in rows", boxes.tolist(), answer, THREE_LEVELS)


def any_scene(answer):
    for strides in ((8,), (4, 8, 16), (2, 4, 8, 16, 32), (16, 32)):
        for radius in (None, 0.75, 2.5):
            corner, size = torch.rand(6, 2) * 90, 3 + torch.exp(torch.rand(6, 2) * 4.5)
            boxes = torch.cat([corner, corner + size], dim=1).round(decimals=1)
            given = {} if radius is None else {"center_radius": radius}
            case = f"Six objects are anywhere in the image, on strides {', '.join(map(str, strides))}"
            _assign(case, boxes.tolist(), answer, Priors.points((128, 128), strides=strides), **given)


def one_inside_the_other(answer):
    _assign("A small object is inside a larger one", [[10.0, 10, 70, 60], [25, 25, 57, 49]], answer)


def the_smaller_comes_second_or_first(answer):
    _assign("The smaller object comes first in the list", [[25.0, 25, 57, 49], [10, 10, 70, 60]], answer)


def only_candidates_count(answer):
    case = "Points are in a large object and beside a small one, which has no claim to them"
    _assign(case, [[90.0, 90, 100, 100], [10, 10, 60, 60]], answer)


def equal_areas(answer):
    case = "Two overlapping objects have the same area, and the first wins"
    _assign(case, [[10.0, 10, 50, 50], [30, 30, 70, 70]], answer)


def a_narrow_object_of_larger_area(answer):
    _assign("A narrow object of larger area crosses a square one", [[20.0, 4, 36, 84], [12, 28, 44, 60]], answer)


def central_points_only(answer):
    case = "Centre sampling keeps points within 1.5 strides"
    _assign(case, [[17.0, 15, 107, 105], [5, 5, 61, 41]], answer, center_radius=1.5)


def another_radius(answer):
    case = "Centre sampling keeps points within 1 stride"
    _assign(case, [[17.0, 15, 107, 105], [5, 5, 61, 41]], answer, center_radius=1.0)


def exactly_at_the_radius(answer):
    _assign("Points at exactly 1.5 strides from the centre are too far away", [[36.0, 36, 76, 76]], answer,
            center_radius=1.5)  # fmt: skip


def a_small_square_inside(answer):
    case = "The central square is larger than the object, and a point has to be inside both"
    _assign(case, [[46.0, 46, 54, 54]], answer, center_radius=1.5)


def empty_image(answer):
    _assign("The image has no objects, so every prior is negative", [], answer)


def _whole(
    priors, gt_boxes, center_radius=None, *,
    inside=torch.gt, ends=torch.le, near=torch.lt, factor=8, open_top=True, all_inside=True, order=1.0, square=True,
    size=area, level_0=None,
):  # fmt: skip
    """The whole rule, with one screw loose at a time."""
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    strides = priors.strides * level_0 / priors.strides.min() if level_0 else priors.strides
    low, high = factor / 2 * strides, factor * strides
    low[priors.levels == 0] = 0
    if open_top is True or (open_top and open_top(priors.levels)):
        high[priors.levels == priors.levels.max()] = torch.inf
    distances = encode_ltrb(gt_boxes, priors.centers[:, None])
    farthest, nearest = distances.amax(dim=-1), distances.amin(dim=-1)
    chosen = ends(low[:, None], farthest) & ends(farthest, high[:, None])
    offset = (priors.centers[:, None] - centers(gt_boxes)).abs()
    if center_radius is not None and square:
        chosen &= near(offset.amax(dim=-1), center_radius * priors.strides[:, None])
    if all_inside or center_radius is None:
        chosen &= inside(nearest, 0)
    areas = (order * size(gt_boxes)).expand(len(priors), -1).masked_fill(~chosen, torch.inf)
    return torch.where(chosen.any(dim=1), areas.argmin(dim=1), NEGATIVE)


def _loose(**screw):
    return lambda priors, gt_boxes, center_radius=None: _whole(priors, gt_boxes, center_radius, **screw)


def _written_out(priors, gt_boxes, center_radius=None):
    """Level by level as far as the chapter goes."""
    return torch.where(priors.levels < 3, _whole(priors, gt_boxes, center_radius), NEGATIVE)


def _by_heart(priors, gt_boxes, center_radius=None):
    """Right on the pyramids and radii of the cases above, and on no other."""
    strides, radius = tuple(priors.strides.unique().tolist()), center_radius or 1.5
    known = strides in ((4, 8), (8, 16, 32), (8,), (4, 8, 16, 32)) and radius in (1.0, 1.5)
    return _whole(priors, gt_boxes, center_radius) if known else torch.full((len(priors),), NEGATIVE)


def _own_grid(priors, gt_boxes, center_radius=None):
    """Counts the points of a level itself, as those of a square image."""
    points, level = [], priors.levels.bincount()
    for stride, count in zip(priors.strides.unique().tolist(), level.tolist(), strict=True):
        place = stride * (torch.arange(count) + 0.5)
        side = max(1, int(count**0.5))
        points.append(torch.stack([place[torch.arange(count) % side], place[torch.arange(count) // side]], dim=1))
    grid = Priors(torch.cat(points).repeat(1, 2), tuple(level.tolist()), priors.level_strides)
    return _whole(grid, gt_boxes, center_radius)


def _upper_left(priors, gt_boxes, center_radius=None):
    """Takes the upper left corners of the priors for their points."""
    moved = Priors(priors.boxes[:, :2].repeat(1, 2), priors.level_sizes, priors.level_strides)
    return _whole(moved, gt_boxes, center_radius)


def _mid_cell(priors, gt_boxes, center_radius=None):
    """Moves every point to the middle of its cell."""
    middle = priors.strides[:, None] * ((priors.centers / priors.strides[:, None]).floor() + 0.5)
    return _whole(Priors(middle.repeat(1, 2), priors.level_sizes, priors.level_strides), gt_boxes, center_radius)


def _up_to_sixteen(priors, gt_boxes, center_radius=None):
    return _whole(priors, gt_boxes[:16], center_radius)


def _smallest_of_all(priors, gt_boxes, center_radius=None):
    label = _whole(priors, gt_boxes, center_radius)
    return torch.where(label >= 0, area(gt_boxes).argmin(), NEGATIVE) if len(gt_boxes) else label


def _no_guard(priors, gt_boxes, center_radius=None):
    encode_ltrb(gt_boxes, priors.centers[:, None]).amin(dim=1)
    return _whole(priors, gt_boxes, center_radius)


def _stand_in(answer, arguments):
    """The learner's function where a demonstration asks for what it can do, labelkit's for the other variants."""
    if set(arguments) <= {"center_radius"}:
        return OneImage(answer, arguments)
    return ASSIGNERS["fcos"](**arguments)


EXERCISES = (
    Exercise(
        id="06.6",
        kind="P",
        title="Not only the small",
        difficulty=3,
        minutes=5,
        hints=(
            "A point needs two things, a place inside the box and a farthest side in the range of its level.",
            "Along the middle of a long object the farthest side changes, so other levels serve its middle than its "
            "ends. Write down which, and the distance between the rows of each.",
        ),
        tests=(who_may_get_none,),
        mutants={
            "the smallest": ({"10 x 10"}, "10 px is more than that"),
            "the smallest too": ({"10 x 10", "300 x 20"}, "10 px is more than that"),
            "none of them": (set(), "the middle of the longest objects"),
            "a square of 20 px": ({"20 x 20", "300 x 20"}, "in the range of stride 8"),
            "both longest": ({"300 x 20", "300 x 40"}, "with 40 px"),
            "only the largest": ({"300 x 40"}, "with 40 px"),
            "the thin ones": ({"200 x 20", "300 x 20"}, "that serves 100 px"),
        },
    ),
    Exercise(
        id="06.2",
        title="Inside and in range",
        difficulty=2,
        minutes=10,
        hints=(
            "Compute the four distances of every pair first, as a tensor [P, G, 4]. The points need one more dimension "
            "for that, and points[:, None] is [P, 1, 2].",
            "With x, y = points[:, None].unbind(-1) and x0, y0, x1, y1 = boxes.unbind(-1), the difference x - x0 is "
            "[P, G]. Stack the four differences along dim=-1.",
            "A pair is inside where distances.amin(dim=-1) > 0. It is in range where low <= distances.amax(dim=-1) and "
            "the same maximum is <= high. Join the three with &.",
        ),
        tests=(
            in_and_out,
            on_the_border,
            too_near_too_far,
            at_the_upper_end,
            at_the_lower_end,
            a_table_of_pairs,
            no_boxes,
        ),
        mutants={
            "the border is inside": (lambda *given: _candidate_table(*given, inside=torch.ge), "left side"),
            "open upper end": (lambda *given: _candidate_table(*given, at_most=torch.lt), "upper end"),
            "open lower end": (lambda *given: _candidate_table(*given, at_least=torch.gt), "lower end"),
            "shortest distance in range": (
                lambda *given: _candidate_table(*given, far=torch.amin),
                "not to the nearest",
            ),
            "range without inside": (
                lambda *given: _candidate_table(*given, inside=lambda d, zero: d == d),
                "one beside it",
            ),
            "axes swapped": (
                lambda points, *given: _candidate_table(points.flip(1), *given),
                "one beside it",
            ),
            "pairs instead of a table": (
                lambda p, b, low, high: _candidate_table(p, b[:1], low, high)[:, 0],
                "shape",
            ),
        },
    ),
    Exercise(
        id="06.5",
        kind="P",
        title="One pixel apart",
        difficulty=2,
        minutes=3,
        hints=("Nearly every point that is inside one of the boxes is inside the other. Ask who wins such a point.",),
        tests=(one_pixel_apart,),
        mutants={
            "shared": ({"first": 13, "second": 12}, "none of the tests asks which object is nearer"),
            "shared, the other way": ({"first": 12, "second": 13}, "who wins where they are equal"),
            "both all": ({"first": 25, "second": 25}, "one owner"),
            "the second wins": ({"first": 0, "second": 25}, "who wins where they are equal"),
            "the rim": ({"first": 25, "second": 9}, "a rim 1 px wide"),
            "all three levels": ({"first": 35, "second": 0}, "at most 20 px away"),
        },
    ),
    Exercise(
        id="06.7",
        kind="B",
        title="The runway",
        difficulty=2,
        minutes=7,
        hints=(
            "Find out what the table holds at a place where the point is inside no object, and compare it with the "
            "area of the runway.",
            "A number that stands for 'not inside' has to be larger than every area. Another large number only moves "
            "the border. Ask also how you would find the points that are inside nothing without looking at areas.",
            "torch.inf is larger than every area, inside.any(dim=1) says which points are inside something, and "
            "argmin cannot be asked about a table without columns.",
        ),
        tests=(two_fields, the_runway, two_runways, exactly_1e8, whole_provinces, equal_fields, no_objects_at_all),
        mutants={
            "given": (GIVEN, "a runway of 20,000"),
            "1e12": (_compared(1e12), "1e13"),
            "infinity without a guard": (_filled(torch.inf, guard=False), "in both and in none"),
            "half precision": (_half_precision, "a runway of 20,000"),
            "a guard, and 1e8 still": (_filled(1e8), "a runway of 20,000"),
            "largest area": (_filled(torch.inf, order=-1.0), "in both and in none"),
            "infinity, compared": (
                lambda areas, inside: torch.where(inside, areas, torch.inf).min(dim=1).indices,
                "in both and in none",
            ),
            "no images without objects": (_crashes_without_objects, "dim"),
        },
    ),
    Exercise(
        id="06.4",
        title="FCOS",
        difficulty=4,
        minutes=18,
        provides="fcos",
        adapt=_stand_in,
        hints=(
            "Build a table [P, G] of booleans, test by test: inside, in range, and near the centre where a radius is "
            "given. encode_ltrb(gt_boxes, priors.centers[:, None]) gives the distances [P, G, 4].",
            "The ranges begin as low = 4 * priors.strides and high = 8 * priors.strides, both [P]. Set low to 0 on "
            "level 0 and high to torch.inf on the last level, and compare with low[:, None] and high[:, None].",
            "With areas = area(gt_boxes).expand(len(priors), -1).masked_fill(~chosen, torch.inf), argmin(dim=1) is the "
            "winner and torch.where(chosen.any(dim=1), winner, NEGATIVE) the answer. Without objects return all "
            "NEGATIVE first.",
        ),
        tests=(
            one_small_object,
            a_border_through_points,
            a_middle_sized_object,
            exactly_at_the_end,
            beyond_every_range,
            one_inside_the_other,
            the_smaller_comes_second_or_first,
            only_candidates_count,
            a_narrow_object_of_larger_area,
            equal_areas,
            central_points_only,
            a_small_square_inside,
            exactly_at_the_radius,
            another_radius,
            a_single_level,
            four_levels,
            anchors_of_a_wide_image,
            points_on_the_corners,
            a_crowd,
            any_scene,
            empty_image,
        ),
        mutants={
            "the border is inside": (_loose(inside=torch.ge), "run through points"),
            "open range ends": (_loose(ends=torch.lt), "exactly 64 px"),
            "half the ranges": (_loose(factor=4), "90 px object"),
            "the highest level ends": (_loose(open_top=False), "has no end"),
            "largest area wins": (_loose(order=-1.0), "inside a larger one"),
            "first object wins": (_loose(order=0.0), "inside a larger one"),
            "smallest width wins": (_loose(size=lambda boxes: boxes[:, 2] - boxes[:, 0]), "A narrow object"),
            "ranges of stride 8 on every pyramid": (_loose(level_0=8), "on strides 4 and 8"),
            "at most three levels": (_written_out, "four levels"),
            "the first level has an end, if alone": (_loose(open_top=lambda levels: levels.max() > 0), "one level"),
            "the answers to the cases": (_by_heart, "A hundred objects"),
            "a grid of its own, square": (_own_grid, "96 x 160 px: their points"),
            "corners of anchors": (_upper_left, "their points are their centres"),
            "points moved to mid-cell": (_mid_cell, "on the corners of the cells"),
            "sixteen objects at most": (_up_to_sixteen, "A hundred objects"),
            "always 1.5 strides": (
                lambda priors, boxes, center_radius=None: _whole(priors, boxes, center_radius and 1.5),
                "within 1 stride",
            ),
            "smallest of all objects": (_smallest_of_all, "inside a larger one"),
            "radius not used": (_loose(square=False), "Centre sampling"),
            "square without inside": (_loose(all_inside=False), "larger than the object"),
            "closed radius": (_loose(near=torch.le), "exactly 1.5 strides"),
            "crashes without objects": (_no_guard, "amin()"),
        },
    ),
    Exercise(
        id="06.8",
        kind="C",
        title="Give every level work",
        difficulty=3,
        minutes=8,
        hints=(
            "In the middle of an object the farthest side is half of its longer side away, in a corner all of it. "
            "Compare that with the sizes of the crowns, most of which are 8 to 16 px wide.",
            "An object gets no positive if its range belongs to a level that has no point inside it. Coarse levels "
            "have few points, so give them objects that are large enough to hold some.",
        ),
        tests=(every_level_works, few_have_none),
        also_right=(
            ((0, 8.5), (8.5, 16), (16, torch.inf)),
            ((0, 8), (8, 15.5), (15.5, torch.inf)),
            [[0, 7.5], [7.5, 16], [16, torch.inf]],
        ),
        mutants={
            "default": (((0, 32), (32, 64), (64, torch.inf)), "99.8 %"),
            "half the default": (((0, 16), (16, 24), (24, torch.inf)), "0.7 % of the positives"),
            "the lowest starts at 4": (((4, 8), (8, 16), (16, torch.inf)), "30 % have none"),
            "too low": (((0, 9), (9, 14), (14, torch.inf)), "3.3 % of the crowns"),
            "every level serves all": (((0, torch.inf),) * 3, "4.8 % of the positives"),
            "two levels": (((0, 8), (8, torch.inf)), "one entry for each of the 3 levels"),
            "backwards": (((0, 8), (16, 8), (16, torch.inf)), "low <= high"),
        },
    ),
)
