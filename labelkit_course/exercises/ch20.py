"""The exercises of chapter 20: what chance does to equal rules, six comparisons, a method that weighs everybody."""

import random
import statistics
from functools import cache

import torch

from labelkit import Priors, datasets
from labelkit_course import Exercise, Wrong, board, compare, expect

# --- 20.1 -----------------------------------------------------------------------------------------------------------

SCATTER, NAMES, SEEDS = 1.3, 21, 3


@cache
def _equals():
    """(how many of 20 agree in all three seeds, the best's lead over the middle), the mean of many boards."""
    draw = random.Random(1)
    agreeing, leads = [], []
    for _ in range(3000):
        rows = [[draw.gauss(0, SCATTER) for _ in range(SEEDS)] for _ in range(NAMES)]
        signs = [{one > other for one, other in zip(rows[0], row, strict=True)} for row in rows[1:]]
        agreeing.append(sum(len(sign) == 1 for sign in signs))
        means = sorted(statistics.mean(row) for row in rows)
        leads.append(means[-1] - statistics.median(means))
    return {"all three": statistics.mean(agreeing), "lead": statistics.mean(leads)}


def twenty_one_equals(guess):
    clues = [
        ({"all three": lambda n: 0 < n < 1}, "Of 20 rules how many: that is a number, not a share."),
        ({"all three": lambda n: n < 4}, "Three seeds can agree by luck in two ways: think of three coins."),
        ({"all three": lambda n: n >= 9}, "One seed decides a coin. Three have to fall on the same side."),
        ({"all three": lambda n: n < 9 and n > 6}, "Three coins fall on the same side less often than that."),
        ({"lead": lambda lead: lead <= 0.97}, "The best of 21 is not a typical one: it has been chosen for its luck."),
        ({"lead": lambda lead: lead > 1.9}, "A mean of three seeds scatters less than one seed does."),
    ]
    expect(guess, _equals(), within={"all three": 1, "lead": 0.4}, clues=clues)


# --- 20.2 -----------------------------------------------------------------------------------------------------------

PAIRS = {
    "RKA over all ties": ("rka", "max_iou, all ties"),
    "k = 3 over k = 9": ("topk, k=3", "topk, k=9"),
    "ATSS over all ties": ("atss", "max_iou, all ties"),
    "RKA over ATSS": ("rka", "atss"),
    "RFLA over all ties": ("rfla", "max_iou, all ties"),
    "varifocal over focal": ("atss, varifocal", "atss"),
}


@cache
def _verdicts():
    """What the board's own rule says of each pair: a bold gain is "yes"."""
    there = board.read(datasets.data_dir() / "board", "digits", "full")
    told = {name: board.difference(there[one], there[other]) for name, (one, other) in PAIRS.items()}
    return {name: "yes" if text.startswith("**+") else "open" for name, text in told.items()}


def six_sentences(answer):
    clues = [
        ({"RKA over all ties": "open"}, "RKA over all ties: look at the three signs, and work out their mean."),
        ({"k = 3 over k = 9": "open"}, "k = 3 over k = 9: all seeds say the same, and the mean is not small."),
        (
            {"ATSS over all ties": "open"},
            "ATSS over all ties: the three differ much, and that is not asked. Are both conditions met?",
        ),
        ({"RKA over ATSS": "yes"}, "RKA over ATSS: seed 0 is one of three. What do the other two say?"),
        ({"RFLA over all ties": "yes"}, "RFLA over all ties: one sign in all three, but the mean is 1.5."),
        (
            {"varifocal over focal": "yes"},
            "varifocal over focal: it is the highest row of the board. Work out the mean.",
        ),
    ]  # fmt: skip
    expect(answer, _verdicts(), among=("yes", "open"), clues=clues)


SIX = dict.fromkeys(list(PAIRS)[:3], "yes") | dict.fromkeys(list(PAIRS)[3:], "open")


# --- 20.3 -----------------------------------------------------------------------------------------------------------

DW = {
    "who": "points inside",
    "how": "score and overlap",
    "chosen": "everybody, by weight",
    "wins": "nobody: it serves several",
}
PHRASES = {
    "who": ("points inside", "the nearest of each level", "every point"),
    "how": ("overlap of the prior", "overlap of the prediction", "score and overlap"),
    "chosen": ("the k best", "those above a threshold", "everybody, by weight"),
    "wins": ("the highest score", "the smallest object", "nobody: it serves several"),
}


def dw_in_words(answer):
    if isinstance(answer, dict):
        for key, phrases in PHRASES.items():
            if answer.get(key) in {phrase for other in PHRASES.values() for phrase in other} - set(phrases):
                raise Wrong(f"{answer[key]!r} stands in another line of the list than {key!r}.")
            if key in answer and answer[key] is not ... and answer[key] not in phrases:
                raise ValueError(f"it[{key!r}] should be one of {', '.join(map(repr, phrases))}.")
    clues = [
        ({"who": "every point"}, "Sentence 2 leaves some points out."),
        ({"who": "the nearest of each level"}, "Sentence 2 names a region, and no distance."),
        ({"how": "overlap of the prior"}, "Sentence 3 asks what the point predicts, and a point has no size."),
        ({"how": "overlap of the prediction"}, "Sentence 3 multiplies two things: only one is about the box."),
        ({"chosen": "the k best"}, "No sentence counts to k. Whose weight is 0, by sentence 4?"),
        ({"chosen": "those above a threshold"}, "Where would the threshold be? By sentence 4 no weight is 0."),
        ({"wins": "the highest score"}, "Sentence 6: a point may lie in two boxes, and what does it do then?"),
        ({"wins": "the smallest object"}, "That is FCOS. In sentence 6 a point in two boxes need not decide."),
    ]
    among = tuple(phrase for phrases in PHRASES.values() for phrase in phrases)
    expect(answer, DW, among=among, clues=clues)


# --- 20.4 -----------------------------------------------------------------------------------------------------------

SHRUNK, ETA, SCALE = 0.4, 2.0, 4.0
PYRAMID = Priors.points((64, 64), (4, 8, 16))


def _by_hand(priors, gt_boxes):
    """FoveaBox's labels, a point and an object at a time."""
    labels = []
    for (x, y), stride in zip(priors.centers.tolist(), priors.strides.tolist(), strict=True):
        owner, smallest = -1, float("inf")
        for index, (x1, y1, x2, y2) in enumerate(gt_boxes.tolist()):
            area = (x2 - x1) * (y2 - y1)
            low, high = (SCALE * stride / ETA) ** 2, (SCALE * stride * ETA) ** 2
            across = abs(x - (x1 + x2) / 2) <= SHRUNK * (x2 - x1) / 2
            along = abs(y - (y1 + y2) / 2) <= SHRUNK * (y2 - y1) / 2
            if low <= area <= high and across and along and area < smallest:
                owner, smallest = index, area
        labels.append(owner)
    return torch.tensor(labels, dtype=torch.int64)


def _fovea(case, boxes, answer, priors=PYRAMID):
    gt_boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    compare(case, {"priors": priors, "gt_boxes": gt_boxes}, answer(priors, gt_boxes), _by_hand(priors, gt_boxes))


def one_square(answer):
    _fovea(
        "One object of 20 by 20 px: its fovea is 8 px wide, and strides 4 and 8 serve it", [[21, 21, 41, 41]], answer
    )


def long_object(answer):
    _fovea("An object of 60 by 6 px: its side is the root of its area", [[2, 30, 62, 36]], answer)


def at_the_ends(answer):
    case = "An object of exactly 16 by 16 px: it is at the lower end of stride 8 and in the middle of stride 4"
    _fovea(case, [[22, 22, 38, 38]], answer)


def at_the_upper_end(answer):
    case = "An object of exactly 32 by 32 px: three levels serve it, two of them at an end of their range"
    _fovea(case, [[14, 14, 46, 46]], answer)


def too_small(answer):
    _fovea("An object of 7 by 7 px is served by no level, though points lie in it", [[20, 20, 27, 27]], answer)


def on_the_border(answer):
    case = "Points stand exactly on the border of the fovea, which belongs to it"
    _fovea(case, [[16, 16, 36, 36]], answer, Priors.points((64, 64), (4,)))


def nested(answer):
    case = "A small object lies in the middle of a large one, and takes the points of its own fovea only"
    _fovea(case, [[27, 27, 37, 37], [17, 17, 47, 47]], answer)


def twins(answer):
    _fovea("Two objects have the same box: the first of equal ones wins", [[20, 20, 40, 40], [20, 20, 40, 40]], answer)


def nobody(answer):
    _fovea("There are no objects, so every point is background", [], answer)


def without_a_grid(answer):
    loose = Priors.from_boxes(PYRAMID.boxes[::3], strides=(4,))
    _fovea("Points without a grid, all of one level", [[20, 20, 40, 40]], answer, loose)


def random_scenes(answer):
    generator = torch.Generator().manual_seed(3)
    for scene in range(300):
        count = int(torch.randint(1, 7, (), generator=generator))
        corner = torch.rand(count, 2, generator=generator) * 44
        size = 4 + torch.rand(count, 2, generator=generator) * 44
        boxes = torch.cat([corner, (corner + size).clamp(max=64)], dim=1)
        want, got = _by_hand(PYRAMID, boxes), answer(PYRAMID, boxes)
        compare(f"Random scene {scene} of 300", {"priors": PYRAMID, "gt_boxes": boxes}, got, want)


def _foveal(
    priors, gt_boxes, *, scale=SCALE, inset=False, on_area=False, best_only=False, last=False, ends=True, border=True
):
    """The rule with one thing changed."""
    size = gt_boxes[:, 2:] - gt_boxes[:, :2]
    areas = size.prod(dim=1)
    side = areas if on_area else areas.sqrt()
    wanted = scale * priors.strides[:, None]
    served = (side >= wanted / ETA) & (side <= wanted * ETA)
    if not ends:
        served = (side > wanted / ETA) & (side < wanted * ETA)
    if best_only and len(gt_boxes):
        gap = (side.log2() - wanted.log2()).abs()
        served &= gap == gap.amin(dim=0)
    half = size / 2 - SHRUNK * size / 2 if inset else SHRUNK * size / 2
    away = (priors.centers[:, None] - (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2).abs()
    inside = (away <= half if border else away < half).all(dim=2) & served
    label = torch.full((len(priors),), -1)
    order = range(len(gt_boxes)) if last else reversed(areas.argsort(stable=True).tolist())
    for index in order:
        label[inside[:, index]] = index
    return label


def _crashes_without_objects(priors, gt_boxes):
    gt_boxes.amax(dim=0)
    return _foveal(priors, gt_boxes)


EXERCISES = (
    Exercise(
        id="20.1",
        kind="P",
        title="Twenty-one equals",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(twenty_one_equals,),
        mutants={
            "nobody by luck": ({"all three": 0, "lead": 1.4}, "three coins"),
            "a share": ({"all three": 0.25, "lead": 1.4}, "not a share"),
            "one in eight": ({"all three": 2.5, "lead": 1.4}, "two ways"),
            "half of them": ({"all three": 10, "lead": 1.4}, "same side"),
            "a third": ({"all three": 7, "lead": 1.4}, "less often"),
            "no lead": ({"all three": 5, "lead": 0}, "chosen for its luck"),
            "one point": ({"all three": 5, "lead": 0.9}, "chosen for its luck"),
            "of one seed": ({"all three": 5, "lead": 2.5}, "scatters less"),
        },
    ),
    Exercise(
        id="20.2",
        kind="M",
        title="Six sentences",
        difficulty=3,
        minutes=8,
        hints=(
            "Two conditions, for each pair by itself: one sign in all seeds, and a mean of 2.5 AP or more.",
            "The size of the scatter is not one of the conditions, and neither is the row's place on the board.",
        ),
        tests=(six_sentences,),
        mutants={
            "RKA is open": (SIX | {"RKA over all ties": "open"}, "RKA over all ties"),
            "k is open": (SIX | {"k = 3 over k = 9": "open"}, "not small"),
            "wide is open": (SIX | {"ATSS over all ties": "open"}, "that is not asked"),
            "by seed 0": (SIX | {"RKA over ATSS": "yes"}, "one of three"),
            "small and always": (SIX | {"RFLA over all ties": "yes"}, "the mean is 1.5"),
            "the first of the board": (SIX | {"varifocal over focal": "yes"}, "highest row"),
        },
    ),
    Exercise(
        id="20.3",
        kind="L",
        title="Everybody, by weight",
        difficulty=2,
        minutes=6,
        hints=("Sentence 2 answers one question, sentence 3 the next, sentences 4 and 6 the others.",),
        tests=(dw_in_words,),
        mutants={
            "every point": (DW | {"who": "every point"}, "leaves some points out"),
            "the nearest": (DW | {"who": "the nearest of each level"}, "no distance"),
            "the prior": (DW | {"how": "overlap of the prior"}, "no size"),
            "the box alone": (DW | {"how": "overlap of the prediction"}, "only one is about the box"),
            "the k best": (DW | {"chosen": "the k best"}, "counts to k"),
            "a threshold": (DW | {"chosen": "those above a threshold"}, "no weight is 0"),
            "the highest": (DW | {"wins": "the highest score"}, "two boxes"),
            "as FCOS": (DW | {"wins": "the smallest object"}, "That is FCOS"),
            "another line": (DW | {"wins": "the k best"}, "another line"),
        },
    ),
    Exercise(
        id="20.4",
        kind="X",
        title="From the paper alone",
        difficulty=4,
        minutes=30,
        hints=(
            "Write two tables of points and objects, [P, G] each: does the level serve the object, and does the point "
            "lie in its fovea? Both together say who may have which point.",
            "Half the width of the fovea is 0.4 of half the width of the box. A point is in it if its distance to the "
            "object's centre is at most that, in x and in y.",
            "Go through the objects from the largest to the smallest, and write each one's index on its points: the "
            "smallest writes last. Among equal areas the first has to write last.",
        ),
        tests=(
            one_square,
            long_object,
            at_the_ends,
            at_the_upper_end,
            too_small,
            on_the_border,
            nested,
            twins,
            nobody,
            without_a_grid,
            random_scenes,
        ),
        mutants={
            "range on areas": (lambda p, g: _foveal(p, g, on_area=True), "20 by 20"),
            "inset by 0.4": (lambda p, g: _foveal(p, g, inset=True), "8 px wide"),
            "best level only": (lambda p, g: _foveal(p, g, best_only=True), "strides 4 and 8"),
            "r is two strides": (lambda p, g: _foveal(p, g, scale=2.0), "20 by 20"),
            "last wins": (lambda p, g: _foveal(p, g, last=True), "in the middle of a large one"),
            "ends left out": (lambda p, g: _foveal(p, g, ends=False), "exactly 16 by 16"),
            "border left out": (lambda p, g: _foveal(p, g, border=False), "border of the fovea"),
            "no objects": (_crashes_without_objects, "amax"),
        },
    ),
)
