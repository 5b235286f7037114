"""The exercises of chapter 05: a stricter threshold, class targets, RetinaNet's whole rule and a bug in it, settings,
padded batches."""

import torch

from labelkit import IGNORED, NEGATIVE, Priors, plot
from labelkit.assigners import ASSIGNERS, MaxIoU
from labelkit.similarity import iou
from labelkit_course import GIVEN, Exercise, Wrong, compare, expect, factor
from labelkit_course.answers import OneImage
from labelkit_course.exercises.crowns import crowns

NET = Priors.anchors((128, 128), strides=(4, 8, 16), sizes=((16,), (32,), (64,)))


def _positives_of_each(assignment):
    return torch.cat(assignment.positives_per_gt([len(target["boxes"]) for target in crowns()]))


# --- 05.5 -----------------------------------------------------------------------------------------------------------


def stricter(guess):
    truth = {}
    for threshold in (0.6, 0.7):
        rule = MaxIoU(fg_thresh=threshold, allow_low_quality_matches=False)
        counts = _positives_of_each(rule(NET, crowns()))
        truth[f"positives at {threshold}"] = counts.float().mean().item()
        truth[f"% without at {threshold}"] = 100 * (counts == 0).float().mean().item()
    within = {key: 8 if key.startswith("%") else factor(1.4) for key in truth}
    clues = [
        (
            lambda got: all(got[key] <= 1 for key in truth if key.startswith("%")),
            "The shares are percentages, not fractions of 1.",
        ),
        (
            lambda got: not all(0 <= got[key] <= 100 for key in truth if key.startswith("%")),
            "The shares are percentages, from 0 to 100.",
        ),
        (
            lambda got: got["positives at 0.6"] > 1.99 or got["positives at 0.7"] > got["positives at 0.6"],
            "A higher threshold can only take positives away: what reaches 0.7 has reached 0.6 and 0.5 before.",
        ),
        (
            lambda got: got["% without at 0.6"] < 38.5 or got["% without at 0.7"] < got["% without at 0.6"],
            "At a higher threshold no crown can gain a positive, so the share without one cannot fall.",
        ),
        (
            lambda got: got["% without at 0.7"] < 47,
            "Whoever had only one positive has none as soon as that one goes, so the share cannot stay near 39 %.",
        ),
        (
            {"positives at 0.7": lambda many: many < 0.03},
            "A few crowns fit an anchor nearly perfectly, in place and in size, and these keep their positives.",
        ),
        (
            {"positives at 0.6": lambda many: many > 1.2},
            "The positives are not proportional to the threshold: most anchors that reach 0.5 only just reach it.",
        ),
        (
            {"positives at 0.7": lambda many: many > 0.4},
            "The second step costs at least as much as the first: of what reaches 0.6, only a minority reaches 0.7.",
        ),
    ]
    expect(guess, truth, within=within, clues=clues)


def _guess(*values):
    keys = ("positives at 0.6", "% without at 0.6", "positives at 0.7", "% without at 0.7")
    return dict(zip(keys, values, strict=True))


# --- 05.2 -----------------------------------------------------------------------------------------------------------


def _class_targets(case, gt, labels, answer):
    gt, labels = (torch.tensor(values, dtype=torch.int64) for values in (gt, labels))
    want = [labels[g] + 1 if g >= 0 else 0 if g == NEGATIVE else -1 for g in gt]
    compare(case, {"gt": gt, "labels": labels}, answer(gt, labels), torch.tensor(want, dtype=torch.int64))


def one_of_each(answer):
    _class_targets(
        "A positive of class 4, a negative and an ignored anchor: each kind has its own number",
        [0, NEGATIVE, IGNORED],
        [4, 6],
        answer,
    )


def class_zero(answer):
    _class_targets("Two positives of class 0 do not look like background", [0, 0, NEGATIVE], [0], answer)


def several_objects(answer):
    _class_targets(
        "Six anchors and three objects of two classes: gt names the object, labels its class",
        [2, NEGATIVE, 0, 1, IGNORED, 2],
        [7, 1, 7],
        answer,
    )


def nothing_in_the_image(answer):
    case = "In an image without objects there are no labels to look up, and an anchor may be ignored all the same"
    _class_targets(case, [NEGATIVE, IGNORED], [], answer)


def _wraps_around(gt, labels):
    return torch.where(gt == IGNORED, -1, labels[gt] + 1) if len(labels) else torch.zeros_like(gt)


def _no_objects_no_ignored(gt, labels):
    return _background(gt, labels, -1, 1) if len(labels) else torch.zeros_like(gt)


def _looks_up_before_it_asks(gt, labels):
    return torch.where(gt >= 0, labels[gt.clamp(min=0)] + 1, torch.where(gt == IGNORED, -1, 0))


def _background(gt, labels, ignored, shift):
    targets = torch.where(gt == IGNORED, ignored, 0)
    targets[gt >= 0] = labels[gt[gt >= 0]] + shift
    return targets


# --- 05.4 -----------------------------------------------------------------------------------------------------------


class AsTyped(str):
    """Code that makes a value, shown without quotes: so the failing call can be typed again."""

    __repr__ = str.__str__


CELLS = AsTyped("Priors.anchors((96, 96), strides=(16,), sizes=((32,),))")
LADDER = AsTyped("Priors.from_boxes(torch.tensor([[16.0 * i, 0, 16 * i + 32, 32] for i in range(5)]))")
EXACT = AsTyped("Priors.from_boxes(torch.tensor([[0.0, 0, 32, 32], [0, 0, 16, 32], [0, 0, 8, 32]]))")
MADE = {code: eval(code) for code in (CELLS, LADDER, EXACT)}


def _assign(case, boxes, answer, made=CELLS, **thresholds):
    priors, boxes = MADE[made], torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    got, want = answer(priors, boxes, **thresholds), MaxIoU(**thresholds)(priors, {"boxes": boxes}).gt
    inputs = {"priors": made, "gt_boxes": boxes} | thresholds
    compare(case, inputs, got, want, draw=lambda: _two_assignments(priors, boxes, got, want))


def _two_assignments(priors, boxes, got, want):
    """Each anchor at its centre, by its label; a positive with the number of its object."""
    figure, axes = plot.figure(2)
    edge = int(max(priors.boxes.max(), 64)) + 4
    centers = priors.centers
    for ax, gt, title in zip(axes, (got, want), ("yours", "the right one"), strict=True):
        plot.scene(ax, (edge, edge), boxes, title=title)
        for role, chosen in {"negative": gt == NEGATIVE, "ignored": gt == IGNORED, "positive": gt >= 0}.items():
            plot.points(ax, centers[chosen], role)
        for (x, y), number in zip(centers[gt >= 0].tolist(), gt[gt >= 0].tolist(), strict=True):
            ax.annotate(str(number), (x, y), (5, 4), textcoords="offset points", fontsize=11)
        plot.legend(ax, "gt", "ignored", "negative", positive="positive for object n")
    return figure


def a_fitting_object(answer):
    _assign("One object that several anchors fit well", [[38.0, 38, 68, 74]], answer)


def only_thresholds_met_exactly(answer):
    _assign("Three anchors with IoU 1, exactly 0.5 and 0.25", [[0.0, 0, 32, 32]], answer, EXACT)


def a_tiny_object(answer):
    _assign("A tiny object: no anchor reaches 0.4, and several tie for the best", [[46.0, 46, 50, 50]], answer)


def two_tiny_objects(answer):
    boxes = [[14.0, 14, 18, 18], [70, 70, 74, 74]]
    _assign("Two tiny objects far apart: what one of them claims is not the other's", boxes, answer)


def a_claim_over_a_threshold(answer):
    case = "With fg_thresh 0.9 the best anchor of the object is in the ignored band"
    _assign(case, [[8.0, 0, 42, 32]], answer, LADDER, fg_thresh=0.9)


def a_small_one_inside(answer):
    case = "A small object inside a large one: what it claims, the large one overlaps more"
    _assign(case, [[32.0, 32, 64, 64], [44, 44, 52, 52]], answer)


def a_claim_on_a_neighbours_anchor(answer):
    case = "An anchor under both thresholds is claimed by the small object, and overlaps the large one more"
    _assign(case, [[56.0, 0, 96, 32], [40, 4, 46, 10]], answer, LADDER)


def one_outside(answer):
    case = "The second object is outside the image and overlaps nothing, so it claims nothing"
    _assign(case, [[38.0, 38, 68, 74], [500, 500, 520, 520]], answer)


def proposals(answer):
    boxes = [[4.0, 6, 40, 34], [50, 20, 90, 70]]
    _assign("The thresholds are 0.7 and 0.3", boxes, answer, fg_thresh=0.7, bg_thresh=0.3)


def empty_image(answer):
    _assign("An image without objects has only negatives", [], answer)


def _only_the_first(table):
    claims = torch.zeros_like(table, dtype=torch.bool)
    claims[table.argmax(dim=0), torch.arange(table.shape[1])] = True
    return claims & (table > 0)


def _cut(table, fg, bg, over=torch.ge):
    best, label = table.max(dim=1)
    return torch.where(over(best, fg), label, torch.where(best < bg, NEGATIVE, IGNORED))


def _whole(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4, *, over=torch.ge, floor=0.0, ties="all", owner="argmax"):
    """The whole rule, with one screw loose at a time."""
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    table = iou(priors.boxes[:, None], gt_boxes)
    own = table.argmax(dim=1)
    label = _cut(table, fg_thresh, bg_thresh, over)
    claims = (table == table.amax(dim=0)) & (table > floor)
    if ties == "first":
        claims &= _only_the_first(table)
    claimed = claims.any(dim=1)
    if owner == "gt":
        own = torch.where(claims, torch.arange(len(gt_boxes)), -1).amax(dim=1)
    if owner == "gt if negative":
        own = torch.where(label >= 0, own, torch.where(claims, table, -1).argmax(dim=1))
    if owner == "object 0":
        own = torch.zeros_like(own)
    label[claimed] = own[claimed]
    return label


def _loose(**screw):
    return lambda priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4: _whole(
        priors, gt_boxes, fg_thresh, bg_thresh, **screw
    )


def _claims_first_thresholds_after(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    return _cut(iou(priors.boxes[:, None], gt_boxes), fg_thresh, bg_thresh)


def _fixed_thresholds(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    return _whole(priors, gt_boxes)


def _no_guard_for_empty_images(priors, gt_boxes, fg_thresh=0.5, bg_thresh=0.4):
    iou(priors.boxes[:, None], gt_boxes).max(dim=1)
    return _whole(priors, gt_boxes, fg_thresh, bg_thresh)


def _stand_in(answer, arguments):
    """The learner's function where a demonstration asks for torchvision's rule, labelkit's for the other variants."""
    if set(arguments) <= {"fg_thresh", "bg_thresh"}:
        return OneImage(answer, arguments)
    return ASSIGNERS["max_iou"](**arguments)


# --- 05.6 -----------------------------------------------------------------------------------------------------------


def _repaired(**screw):
    """The whole rule with 0.5 and 0.4, under another name and with one screw loose."""
    return lambda priors, gt_boxes: _whole(priors, gt_boxes, **screw)


def _copies_too_late(priors, gt_boxes):
    if len(gt_boxes) == 0:
        return torch.full((len(priors),), NEGATIVE)
    table = iou(priors.boxes[:, None], gt_boxes)
    label = _cut(table, 0.5, 0.4)
    own, claimed = label.clone(), ((table == table.amax(dim=0)) & (table > 0)).any(dim=1)
    label[claimed] = own[claimed]
    return label


# --- 05.7 -----------------------------------------------------------------------------------------------------------

SETTINGS = ("fg_thresh", "bg_thresh", "allow_low_quality_matches", "low_quality_ties", "low_quality_owner")


def within_the_limits(settings):
    if not isinstance(settings, dict) or not set(settings) <= set(SETTINGS):
        raise ValueError(f"it should be a dict with some of the keys {', '.join(SETTINGS)}.")
    rule = MaxIoU(**settings)
    answer = rule(NET, crowns())
    counts = _positives_of_each(answer)
    without, many = (counts == 0).float().mean().item(), counts.float().mean().item()
    fit = answer.similarity[answer.positive].mean().item() if answer.positive.any() else 0.0
    measured = (
        f"{without:.1%} of the crowns have no positive (5 % are allowed), there are {many:.1f} positives per crown "
        f"(3 are allowed), and their mean IoU is {fit:.3f} (at least 0.5 is asked)."
    )
    if without > 0.05:
        why = "Every one of these crowns claims an anchor, which then serves a neighbour that it overlaps more."
        if not rule.allow_low_quality_matches:
            why = f"No anchor reaches {rule.fg_thresh:g} with these crowns, and no low-quality rule rescues them."
        raise Wrong(f"{measured}\n{why}", *_worst(answer, (counts == 0).float() * _areas()))
    if many > 3:
        why = (
            "Several tied anchors are taken for each small crown."
            if fit < 0.5 and rule.fg_thresh >= 0.5
            else (f"At {rule.fg_thresh:g} many anchors pass the threshold for every crown of their size.")
        )
        raise Wrong(f"{measured}\n{why}", *_worst(answer, counts.float()))
    if fit < 0.5:
        why = "Many of the positives were claimed in a tie, and their IoU is far under the threshold."
        if rule.fg_thresh < 0.5:
            why = f"At {rule.fg_thresh:g} the threshold lets too many poor matches pass."
        raise Wrong(f"{measured}\n{why}", *_worst(answer, counts.float()))


def _areas():
    boxes = torch.cat([target["boxes"] for target in crowns()])
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def _worst(assignment, badness):
    """How to draw the crown where `badness` is highest, in its tile, and the crown itself."""
    sizes = [len(target["boxes"]) for target in crowns()]
    number = int(badness.argmax())
    image = next(i for i in range(len(sizes)) if number < sum(sizes[: i + 1]))
    boxes = crowns()[image]["boxes"]
    crown = boxes[number - sum(sizes[:image])]

    def draw():
        figure, (ax,) = plot.figure(height=4.6)
        plot.scene(ax, (128, 128), boxes, title="the worst crown and its anchors")
        own = assignment.gt[image] == number - sum(sizes[:image])
        plot.boxes(ax, crown, "good", fill=True)
        plot.points(ax, NET.centers[own], "positive")
        x, y = ((crown[:2] + crown[2:]) / 2).tolist()
        ax.set(xlim=(x - 32, x + 32), ylim=(y + 32, y - 32))
        plot.legend(ax, "gt", "positive", good="the worst crown")
        return figure

    return draw, {"crown": crown, "image": image}


# --- 05.8 -----------------------------------------------------------------------------------------------------------


def _padded(case, rows, answer):
    """`rows`: for each image its rows of five numbers."""
    annotations = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), -1, 5)
    want = []
    for image in annotations.tolist():
        kept = [row for row in image if row[4] != -1]
        want.append({
            "boxes": torch.tensor([row[:4] for row in kept]).reshape(-1, 4),
            "labels": torch.tensor([int(row[4]) for row in kept], dtype=torch.int64),
        })  # fmt: skip
    got = answer(annotations)
    if not isinstance(got, list | tuple) or len(got) != len(want):
        many = f"a {type(got).__name__}" + (f" of {len(got)}" if hasattr(got, "__len__") else "")
        shown = f"    annotations = {annotations.tolist()}"
        raise Wrong(f"{case}.\n{shown}\nA batch of B images needs a list of length B; your answer is {many}.")
    for image, (mine, right) in enumerate(zip(got, want, strict=True)):
        compare(f"{case}; target {image}", {"annotations[image]": annotations[image]}, mine, right)


NOTHING = [-1.0] * 5


def padding_at_the_end(answer):
    case = "One image with two objects and a padding row: the boxes stay floats, and the labels become int64"
    _padded(case, [[[1.0, 2, 9, 8, 3], [4, 4, 7, 9, 1], NOTHING]], answer)


def class_zero_is_an_object(answer):
    _padded("A row of class 0 is an object, and not background", [[[1.0, 2, 9, 8, 0], NOTHING]], answer)


def a_gap_between_rows(answer):
    case = "A padding row comes first, and another one leaves a gap before the last object"
    _padded(case, [[NOTHING, [1.0, 2, 9, 8, 2], NOTHING, [4, 4, 7, 9, 0]]], answer)


def padding_with_coordinates(answer):
    case = "A padding row still has coordinates, and an object is partly outside the image: the class alone decides"
    _padded(case, [[[3.0, 3, 9, 9, -1], [-6.0, -8, 2, 1, 1], [-1, 2, 6, 8, 0]]], answer)


def an_empty_image_in_the_batch(answer):
    rows = [[[1.0, 2, 9, 8, 2], [4, 4, 7, 9, 1]], [NOTHING, NOTHING], [[0, 0, 3, 5, 4], NOTHING]]
    _padded("Three images, of which the second has no object", rows, answer)


def a_batch_without_rows(answer):
    _padded("Two images, and no row for either", [[], []], answer)


def _targets(annotations, keep=lambda rows: rows[:, 4] >= 0, label=lambda column: column.long(), columns=4):
    return [{"boxes": rows[keep(rows), :columns], "labels": label(rows[keep(rows), 4])} for rows in annotations]


def _stops_at_the_first(annotations):
    targets = []
    for rows in annotations:
        end = next((i for i, row in enumerate(rows) if row[4] < 0), len(rows))
        targets.append({"boxes": rows[:end, :4], "labels": rows[:end, 4].long()})
    return targets


EXERCISES = (
    Exercise(
        id="05.5",
        kind="P",
        title="A tenth stricter",
        difficulty=2,
        minutes=4,
        hints=(
            "Look at the picture of the sliding anchor. How many pixels wide is the top of the curve at 0.5, at 0.6 "
            "and at 0.7? An anchor can miss in two directions at once.",
        ),
        tests=(stricter,),
        mutants={
            "proportional": (_guess(1.6, 50, 1.4, 70), "not proportional"),
            "nothing happens to the share": (_guess(1.0, 39, 0.6, 39), "had only one positive"),
            "all gone": (_guess(0.6, 60, 0.0, 100), "nearly perfectly"),
            "more at a higher threshold": (_guess(2.2, 45, 1.0, 60), "only take positives away"),
            "the share falls": (_guess(0.8, 30, 0.3, 20), "cannot fall"),
            "the same step twice": (_guess(1.0, 55, 0.6, 75), "second step"),
            "shares as fractions": (_guess(0.8, 0.55, 0.24, -0.78), "percentages"),
            "too few lost": (_guess(0.8, 45, 0.24, 60), "“% without at 0.6” is too small"),
        },
    ),
    Exercise(
        id="05.2",
        title="Class targets",
        difficulty=2,
        minutes=8,
        hints=(
            "Start with zeros, since most anchors are background. Then write the two other kinds over them.",
            "labels[gt] with a gt of -1 takes the LAST label. Select the positives first, with positive = gt >= 0.",
            "targets = torch.zeros_like(gt); targets[gt == IGNORED] = -1; "
            "targets[positive] = labels[gt[positive]] + 1.",
        ),
        tests=(one_of_each, class_zero, several_objects, nothing_in_the_image),
        mutants={
            "index -1 wraps around": (_wraps_around, "a negative and an ignored anchor"),
            "no + 1": (lambda gt, labels: _background(gt, labels, -1, 0), "of class 4"),
            "ignored as background": (lambda gt, labels: _background(gt, labels, 0, 1), "ignored anchor"),
            "ignored keeps its code": (lambda gt, labels: _background(gt, labels, -2, 1), "ignored anchor"),
            "index for class": (lambda gt, labels: torch.where(gt >= 0, gt + 1, -1 - gt), "of class 4"),
            "looks up without labels": (_looks_up_before_it_asks, "index"),
            "all background without labels": (_no_objects_no_ignored, "all the same"),
        },
    ),
    Exercise(
        id="05.4",
        title="The whole rule",
        difficulty=4,
        minutes=15,
        provides="max_iou",
        adapt=_stand_in,
        hints=(
            "There are three steps. The table is iou(priors.boxes[:, None], gt_boxes), with one row per anchor. The "
            "thresholds look along its rows, the claims down its columns. Keep the argmax of every row before you "
            "overwrite anything, because the last step needs it again.",
            "An anchor is claimed if any object claims it: claims.any(dim=1), where claims compares the table with "
            "table.amax(dim=0). A claimed anchor gets back the argmax of its row, whatever the thresholds said.",
            "best, own = table.max(dim=1); label = own.clone(); label[best < fg_thresh] = IGNORED; the same with "
            "bg_thresh and NEGATIVE; claimed = ((table == table.amax(dim=0)) & (table > 0)).any(dim=1); "
            "label[claimed] = own[claimed]. Without objects, return all NEGATIVE.",
        ),
        tests=(
            a_fitting_object,
            only_thresholds_met_exactly,
            a_tiny_object,
            two_tiny_objects,
            a_claim_over_a_threshold,
            a_small_one_inside,
            a_claim_on_a_neighbours_anchor,
            proposals,
            one_outside,
            empty_image,
        ),
        mutants={
            "no low-quality rule": (_claims_first_thresholds_after, "A tiny object"),
            "upper threshold open": (_loose(over=torch.gt), "exactly 0.5"),
            "first of the ties": (_loose(ties="first"), "several tie"),
            "owner gt, as in mmdet": (_loose(owner="gt"), "inside a large one"),
            "owner gt below the thresholds": (_loose(owner="gt if negative"), "overlaps the large one more"),
            "claims without overlap": (_loose(floor=-1), "overlaps nothing"),
            "claims from 0.1 only": (_loose(floor=0.1), "A tiny object"),
            "claims for the first object": (_loose(owner="object 0"), "is not the other's"),
            "thresholds not used": (_fixed_thresholds, "ignored band"),
            "crashes without objects": (_no_guard_for_empty_images, "max()"),
        },
    ),
    Exercise(
        id="05.6",
        kind="B",
        title="The rescue that rescues nobody",
        difficulty=3,
        minutes=10,
        hints=(
            "Call it for one tiny object. Which anchors are claimed, and what is written into them?",
            "Print own at the claimed anchors, once before the two thresholds are applied and once after.",
            "own = label gives the same tensor a second name, so the thresholds overwrite it too. Let own be a copy: "
            "label.clone().",
        ),
        tests=(
            a_fitting_object,
            a_tiny_object,
            two_tiny_objects,
            a_small_one_inside,
            a_claim_on_a_neighbours_anchor,
            one_outside,
            empty_image,
        ),
        mutants={
            "given": (GIVEN, "A tiny object"),
            "the copy comes too late": (_copies_too_late, "A tiny object"),
            "argmax": (_repaired(ties="first"), "several tie"),
            "owner is the claimer": (_repaired(owner="gt if negative"), "overlaps the large one more"),
            "last claimer keeps it": (_repaired(owner="gt"), "inside a large one"),
            "claimed for the first object": (_repaired(owner="object 0"), "is not the other's"),
            "no > 0": (_repaired(floor=-1), "overlaps nothing"),
        },
    ),
    Exercise(
        id="05.7",
        kind="C",
        title="Buy it with the threshold?",
        difficulty=3,
        minutes=8,
        hints=(
            "Three quantities pull at each other: a lower fg_thresh gives more crowns a positive, more positives per "
            "crown, and worse ones. Which setting adds a positive only where there was none?",
            "The low-quality rule does, and its ties decide how many anchors it adds for a small crown.",
        ),
        tests=(within_the_limits,),
        also_right=(
            {"fg_thresh": 0.6, "bg_thresh": 0.4, "low_quality_ties": "nearest"},
            {"fg_thresh": 0.55, "bg_thresh": 0.4, "low_quality_ties": "nearest"},
            {"fg_thresh": 0.5, "bg_thresh": 0.4, "low_quality_ties": "first", "low_quality_owner": "gt"},
        ),
        mutants={
            "default": ({"fg_thresh": 0.5, "bg_thresh": 0.4, "low_quality_ties": "all"}, "3.4 positives per crown"),
            "no low quality": ({"allow_low_quality_matches": False}, "38.8%"),
            "bought with the threshold": (
                {"fg_thresh": 0.1, "bg_thresh": 0.1, "allow_low_quality_matches": False},
                "28.6 positives per crown",
            ),
            "first tie": ({"low_quality_ties": "first"}, "5.8%"),
            "higher, all ties": ({"fg_thresh": 0.6, "low_quality_ties": "all"}, "IoU is 0.405"),
            "upside down": ({"fg_thresh": 0.3, "bg_thresh": 0.4}, "must not exceed"),
            "another argument": ({"k": 3}, "some of the keys"),
        },
    ),
    Exercise(
        id="05.8",
        title="Padded batches",
        difficulty=2,
        minutes=8,
        hints=(
            "Go through the images one by one. Which rows of an image are objects?",
            "keep = rows[:, 4] >= 0 marks them, wherever they are. The box is rows[keep, :4], and .long() makes whole "
            "numbers of the labels.",
            "For each image append {'boxes': rows[keep, :4], 'labels': rows[keep, 4].long()}. An image without objects "
            "needs no special case: its mask keeps nothing.",
        ),
        tests=(
            padding_at_the_end,
            class_zero_is_an_object,
            a_gap_between_rows,
            padding_with_coordinates,
            an_empty_image_in_the_batch,
            a_batch_without_rows,
        ),
        mutants={
            "float labels": (lambda a: _targets(a, label=lambda column: column), "int64"),
            "drops class 0": (lambda a: _targets(a, keep=lambda rows: rows[:, 4] > 0), "class 0"),
            "stops at the first -1": (_stops_at_the_first, "a gap"),
            "drops an empty image": (lambda a: [t for t in _targets(a) if len(t["labels"])], "length B"),
            "keeps the padding": (lambda a: _targets(a, keep=lambda rows: rows[:, 4] > -2), "a padding row"),
            "judges by the coordinates": (lambda a: _targets(a, keep=lambda rows: rows.sum(dim=1) > 0), "class alone"),
            "any -1 is padding": (lambda a: _targets(a, keep=lambda rows: (rows != -1).all(dim=1)), "class alone"),
            "five columns": (lambda a: _targets(a, columns=5), "a padding row"),
            "classes moved by one": (lambda a: _targets(a, label=lambda column: column.long() + 1), "a padding row"),
        },
    ),
)
