"""The exercises of chapter 20: what chance does to equal rules, six comparisons, a method that weighs everybody,
a rule from its paper, a claim with a plan before it (confirm.py), and a rule of the reader's own."""

import random
import statistics
import traceback
from dataclasses import dataclass
from functools import cache

import torch

from labelkit import Assignment, Priors, datasets
from labelkit.assigners import FCOS, Assigner, MaxIoU, TopK
from labelkit.assigners.explanation import Steps
from labelkit.boxes import area
from labelkit.search.candidates import Pairs, inside, plausible
from labelkit.search.choosing import best_first, best_per_prior, first_of, top_k
from labelkit.similarity import iou
from labelkit.training.rules import build_assigner
from labelkit_course import Exercise, Wrong, board, compare, expect
from labelkit_course.exercise import Blank
from labelkit_course.exercises import confirm
from labelkit_course.exercises.crowns import crowns

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


# --- 20.6 -----------------------------------------------------------------------------------------------------------

BRIEFS = ("crowns", "strips", "one each")
STRIDES = {"strips": (8, 16, 32, 64, 128)}
ANCHORED = (4, 8, 16)  # each with an anchor of four strides
STARVED, POSITIVES, OVERLAP = 0.01, 2.2, 0.5


def _pyramid(brief):
    """The priors on which a rule for this brief is tried."""
    if brief == "strips":
        return Priors.points((512, 512), STRIDES[brief])
    return Priors.anchors((128, 128), ANCHORED, tuple((4.0 * stride,) for stride in ANCHORED))


def _one_prior(brief):
    if brief == "strips":
        return Priors.points((16, 16), (16,))
    return Priors.anchors((16, 16), (16,), ((16.0,),))


def _scene(brief, seed, count, room=32.0):
    """Objects of sixteenths of a pixel, so that a shift by whole pixels is exact, in the middle of the pyramid."""
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator)
    corner, size = 40 + corner * room, 4 + size * 12
    if brief == "strips":
        corner, size = 60 + corner, torch.where(size > size.flip(1), 9 * size, size + 10)
    return (torch.cat([corner, corner + size], dim=1) * 16).round() / 16


def _made(answer):
    """The learner's rule and its brief: a class, a function that makes one, or where it stands, "my_rules:Mine"."""
    if isinstance(getattr(answer, "answer", answer), Assigner):
        raise ValueError("give the class itself and no object of it, as in course.check('20.6', MyAssigner).")
    rule = build_assigner(answer) if isinstance(answer, str) else answer()
    brief = getattr(rule, "brief", None)
    if brief not in BRIEFS:
        raise ValueError(f"its brief should be one of {', '.join(BRIEFS)}, and it is {brief!r}.")
    if not callable(rule) or not hasattr(rule, "explain"):
        raise ValueError("it should be an assigner, which can be called and can explain.")
    if getattr(rule, "needs_predictions", False):
        raise ValueError("a rule that asks for predictions cannot be tried here: there is no network.")
    return rule, brief


def _target(boxes):
    return {"boxes": boxes.clone(), "labels": torch.zeros(len(boxes), dtype=torch.int64)}


def _run(case, call, priors, *images):
    """Call a rule or its `explain`; what goes wrong is told together with the case."""
    targets, before = [_target(boxes) for boxes in images], priors.boxes.clone()
    try:
        given = call(priors, targets[0] if len(targets) == 1 else targets)
    except (Blank, Wrong):
        raise
    except Exception:
        raise Wrong(f"{case}: your rule stopped.\n{traceback.format_exc(limit=-3)}") from None
    changed = not torch.equal(before, priors.boxes)
    if changed or not all(torch.equal(one["boxes"], boxes) for one, boxes in zip(targets, images, strict=True)):
        raise Wrong(f"{case}: your rule changed {'the priors' if changed else 'the objects'} that it was given.")
    return given


def _labels(case, rule, priors, *images):
    """The labels [P], or [B, P] of several images."""
    given = _run(case, rule, priors, *images)
    shape = (len(priors),) if len(images) == 1 else (len(images), len(priors))
    if not isinstance(given, Assignment) or given.gt.shape != shape:
        raise Wrong(f"{case}: your rule should return an Assignment with labels of shape {shape}.")
    return given.gt


def some_objects(answer):
    rule, brief = _made(answer)
    boxes = _scene(brief, 1, 3)
    labels = _labels("Three objects", rule, _pyramid(brief), boxes)
    if not (labels >= 0).any():
        sides = area(boxes).sqrt()
        raise Wrong(
            f"Three objects with sides of {sides.min():.0f} to {sides.max():.0f} px: no prior is positive.",
            inputs={"boxes": boxes},
        )


def next_to_nothing(answer):
    rule, brief = _made(answer)
    priors, boxes, one = _pyramid(brief), _scene(brief, 1, 3), _one_prior(brief)
    if (_labels("There are no objects", rule, priors, boxes[:0]) >= 0).any():
        raise Wrong("There are no objects, and your rule makes a prior positive.")
    nothing = Priors(priors.boxes[:0], (0,) * len(priors.level_sizes), priors.level_strides)
    _labels("There are no priors", rule, nothing, boxes)
    many = torch.tensor([[0.0, 0, 16, 16], [1, 1, 15, 15], [2, 2, 14, 14]])
    _labels("There is one prior for three objects, fewer than any k", rule, one, many)


def any_order(answer):
    rule, brief = _made(answer)
    priors = _pyramid(brief)
    for seed in range(20):
        boxes = _scene(brief, seed, 8)
        order = torch.randperm(8)
        told = _run("Eight objects", rule.explain, priors, boxes)
        if twice := len(told.winners) - len(told.winners.prior.unique()):
            raise Wrong(
                f"Eight objects: Steps.winners gives {twice} priors to a second object. Who wins?",
                inputs={"boxes": boxes},
            )
        labels = _labels("The objects in some order", rule, priors, boxes)
        again = _labels("The objects in another order", rule, priors, boxes[order])
        back = torch.where(again >= 0, order[again.clamp(min=0)], again)
        if not torch.equal(back, labels):
            wrong = int((back != labels).sum())
            raise Wrong(
                f"Eight objects, permuted: {wrong} priors serve another object than before. An object's place in the "
                "list should not matter, not even where two different boxes have the same value at a prior.",
                inputs={"boxes": boxes, "order": order},
            )


def whole_strides(answer):
    rule, brief = _made(answer)
    priors = _pyramid(brief)
    shift = max(STRIDES.get(brief, ANCHORED))
    for seed in range(10):
        boxes = _scene(brief, seed, 5)
        here = _labels("Five objects", rule, priors, boxes).split(priors.level_sizes)
        there = _labels("Five objects", rule, priors, boxes + shift).split(priors.level_sizes)
        for stride, one, other in zip(priors.known_strides(), here, there, strict=True):
            side, cells = int(len(one) ** 0.5), int(shift / stride)
            one, other = one.view(side, side)[:-cells, :-cells], other.view(side, side)[cells:, cells:]
            if not torch.equal(one, other):
                raise Wrong(
                    f"Five objects, shifted by {shift} px in x and y, a whole number of strides on each level: on the "
                    f"level of stride {stride:g} their priors should shift with them, and some do not.",
                    inputs={"boxes": boxes},
                )


def two_of_one_box(answer):
    rule, brief = _made(answer)
    priors, box = _pyramid(brief), _scene(brief, 4, 1)
    alone = (_labels("One object", rule, priors, box) == 0).sum()
    labels = _labels("Twins", rule, priors, box.repeat(2, 1))
    first, second = ((labels == gt).sum() for gt in (0, 1))
    if first < second or (alone and not first):
        raise Wrong(
            f"Twins: two objects have the same box. The first gets {first} positives and the second {second}, and "
            "among equal ones the lower index should go first."
        )


def one_image_or_three(answer):
    rule, brief = _made(answer)
    priors = _pyramid(brief)
    images = _scene(brief, 5, 6), _scene(brief, 6, 0), _scene(brief, 7, 3)
    together = _labels("A batch of three images", rule, priors, *images)
    for number, boxes in enumerate(images):
        if not torch.equal(together[number], _labels("An image alone", rule, priors, boxes)):
            raise Wrong(
                f"In a batch of three images, image {number} ({len(boxes)} objects) gets other labels than alone. What "
                "is counted or compared over all objects of the batch mixes the images."
            )


def with_and_without_a_grid(answer):
    rule, brief = _made(answer)
    priors = _pyramid(brief)
    loose = Priors(priors.boxes, priors.level_sizes, priors.level_strides)
    for seed in range(5):
        boxes = _scene(brief, seed, 5)
        case = "The same priors without a grid"
        if not torch.equal(_labels(case, rule, loose, boxes), _labels("Five objects", rule, priors, boxes)):
            raise Wrong(f"{case} get other labels.", inputs={"boxes": boxes})


def who_took_it(answer):
    rule, brief = _made(answer)
    pair = torch.tensor([[0.0, 0, 16, 16], [1, 1, 15, 15]])
    crowded = [(_pyramid(brief), _scene(brief, seed, 10, room=8.0)) for seed in range(5)]
    for priors, boxes in [(_one_prior(brief), pair), *crowded]:
        labels = _labels("Objects close together", rule, priors, boxes)
        told = _run("explain, of objects close together", rule.explain, priors, boxes)
        for gt in set(range(len(boxes))) - set(labels.tolist()):
            alone = _labels("One object alone", rule, priors, boxes[gt : gt + 1])
            if (alone >= 0).any() and not (told.taken_by[told.losers.gt == gt] >= 0).any():
                raise Wrong(
                    f"Object {gt} of {len(boxes)} has no positive, and alone it would have one. explain says:\n    "
                    + told.story(gt).replace("\n", "\n    ")
                    + "\nand names nobody who took its prior. What an object had chosen belongs into Steps.chosen, "
                    "also where it lost.",
                    inputs={"boxes": boxes},
                )


def the_brief(answer):
    rule, brief = _made(answer)
    {"crowns": _for_crowns, "strips": _for_strips, "one each": _one_for_each}[brief](rule)


def _on_crowns(rule, *more):
    """The boxes of each tile, and of images of more objects, with their positives: the priors and whom they serve."""
    images = [target["boxes"] for target in crowns()] + list(more)
    labels = _labels("The test tiles", rule, _pyramid("crowns"), *images)
    for boxes, gt in zip(images, labels, strict=True):
        prior = (gt >= 0).nonzero().squeeze(1)
        yield boxes, prior, gt[prior]


def _for_crowns(rule):
    priors, counts, overlaps = _pyramid("crowns"), [], []
    for boxes, prior, gt in _on_crowns(rule):
        counts.append(torch.bincount(gt, minlength=len(boxes)))
        overlaps.append(iou(priors.boxes[prior], boxes[gt]))
    count, overlap = torch.cat(counts), torch.cat(overlaps)
    starved, each, mean = (count == 0).double().mean(), count.double().mean(), overlap.mean()
    said = f"{starved:.1%} of the crowns starved, {each:.2f} positives per crown, mean IoU {mean:.2f}"
    if starved > STARVED:
        raise Wrong(f"Brief crowns: {said}. At most 1 % may be without a positive.")
    if each < POSITIVES:
        raise Wrong(f"Brief crowns: {said}. At least 2.2 positives per crown are asked for.")
    if mean < OVERLAP:
        raise Wrong(f"Brief crowns: {said}. The mean IoU of the positives should be 0.5 or more.")


def _for_strips(rule):
    generator, priors = torch.Generator().manual_seed(20), _pyramid("strips")
    size = torch.tensor([[300.0, 20.0], [20.0, 300.0]]).repeat(100, 1)
    corner = torch.rand(200, 2, generator=generator) * (512 - size)
    strips = torch.cat([corner, corner + size], dim=1)
    labels = _labels("200 strips, one in each image", rule, priors, *strips[:, None])
    image, prior = (labels >= 0).nonzero(as_tuple=True)
    there = torch.cat([priors.centers[prior] - strips[image, :2], strips[image, 2:] - priors.centers[prior]], dim=1)
    outside = int((there.amin(dim=1) < 0).sum())
    if outside:
        raise Wrong(f"Brief strips: {outside} positive points lie outside their strip, where there is background.")
    starved = 1 - len(image.unique()) / len(strips)
    if starved > STARVED:
        raise Wrong(f"Brief strips: {starved:.0%} of the strips have no positive point, and 1 % are allowed.")


def _one_for_each(rule):
    priors = _pyramid("one each")
    crowded = [_scene("one each", seed, 12, room=8.0) for seed in range(10)]
    for number, (boxes, prior, gt) in enumerate(_on_crowns(rule, *crowded)):
        where = f"on tile {number}" if number < len(crowns()) else "in a crowd of 12 objects"
        count = torch.bincount(gt, minlength=len(boxes))
        if len(count) and count.max() > 1:
            raise Wrong(f"Brief one each: {where} an object has {int(count.max())} positives.")
        for starved in (count == 0).nonzero().squeeze(1).tolist():
            could = (iou(priors.boxes, boxes[starved]) > 0).nonzero().squeeze(1)
            free = set(could.tolist()) - set(prior.tolist())
            if free:
                raise Wrong(
                    f"Brief one each: {where} object {starved} has no positive, and {len(free)} priors that overlap "
                    "it are free.",
                    inputs={"boxes": boxes},
                )


@dataclass(frozen=True)
class _Rule(Assigner):
    """A rule for each brief, with one thing done wrong."""

    brief: str = "crowns"
    wrong: str = ""

    def assign(self, priors, gts):
        if self.brief == "strips":
            pairs = inside(priors, gts.boxes)
            smallest = first_of(gts.slot(pairs), gts.slots, area(gts.boxes)[pairs.gt], pairs.gt)
            return Steps(pairs, pairs, pairs[smallest])
        if self.wrong == "no objects":
            gts.boxes.amax(dim=0)
        if self.wrong == "grid":
            priors.known_grid()
        if self.wrong == "in place":
            priors.boxes.clamp_(min=0)
        floor = 1e-6 if self.brief == "one each" else 0.5
        pairs = plausible(priors, gts.boxes, iou, floor=floor, k=9)
        chosen = pairs[(pairs.value >= 0.5) | top_k(pairs, len(gts), 9)] if self.brief == "crowns" else pairs
        if self.wrong == "place":
            chosen = chosen[chosen.prior % 5 > 0]
        if self.wrong == "of all":
            chosen = chosen[chosen.value.argsort(descending=True, stable=True).argsort() < 9]
        first = chosen[best_first(chosen, gts.slot(chosen), gts.slots, torch.ones(len(gts), dtype=torch.int64))]
        left = chosen[~gts.mark(first)[gts.slot(chosen)] & (chosen.value >= 0.5)]
        rest = left[best_per_prior(left, gts.slot(left), gts.slots)]
        winners = first if self.brief == "one each" else Pairs.join((first, rest))
        if self.wrong == "index":
            winners = chosen[first_of(gts.slot(chosen), gts.slots, chosen.gt)]
        if self.wrong == "last":
            winners = chosen[first_of(gts.slot(chosen), gts.slots, -chosen.value, -chosen.gt)]
        return Steps(pairs, winners if self.wrong == "silent" else chosen, winners)


def _with(rule, brief, **arguments):
    """A rule of the library that claims to serve a brief."""
    return lambda: type("Named", (rule,), {"brief": brief})(**arguments)


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
    Exercise(
        id="20.5",
        kind="X",
        title="Confirm or overturn",
        difficulty=5,
        minutes=60,
        hints=(
            "The folder has one folder for each row, in it one for each seed, and there compared.json with `scores`. "
            "Take the differences seed by seed, in the direction of the claim, in percent.",
            "itertools.product((1, -1), repeat=6) gives all 64 ways to sign six differences. Yours is one of them, and "
            "its opposite another: p is never less than 2 / 64.",
            "p = the mean of [abs(sum(s * d for s, d in zip(signs, differences))) >= abs(sum(differences)) - 1e-9 for "
            "signs in product(...)]. Then the table of verdicts, with the `matters` of the plan.",
        ),
        tests=(
            confirm.kept_to_the_plan,
            confirm.equal_but_for_the_rule,
            confirm.new_seeds,
            confirm.p_value,
            confirm.verdict,
        ),
        also_right=(
            confirm.answer(confirm.UP, confirm.P_SURE, "confirmed"),
            confirm.answer(confirm.DOWN, 0.031, "overturned"),
            confirm.answer(confirm.SMALL, confirm.P_SURE, "open"),
            confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", first_seed=0),  # at 100 steps the board has none
        ),
        mutants={
            "stored seeds": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", first_seed=0, steps=750),
                "they chose the claim",
            ),
            "a run left out": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", confirm.without(5, rows=["atss"])),
                "no measured run of seed 5",
            ),
            "a pair left out": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", confirm.without(5)),
                "no measured run of seed 5",
            ),
            "unpaired": (confirm.answer(confirm.UP, confirm.P_UNPAIRED, "open"), "seed's own effect"),
            "one-sided": (confirm.answer(confirm.UP, confirm.P_HALF, "confirmed"), "two-sided"),
            "p made smaller": (confirm.answer(confirm.UNSURE, 0.04, "open"), "too small"),
            "stopped early": (
                confirm.answer((*confirm.UP, 1, 1), confirm.P_SURE, "confirmed", confirm.without(9, 10), seeds=8),
                "breaks the stop rule",
            ),
            "went on": (confirm.answer((*confirm.UP, 1), confirm.P_HALF, "confirmed"), "until it fits"),
            "at the first success": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", stop="at the first success"),
                "p holds for one look",
            ),
            "five seeds": (confirm.answer(confirm.UP[:5], 0.0625, "open", seeds=5), "below 0.0625"),
            "another step count": (
                confirm.answer(
                    confirm.UP, confirm.P_SURE, "confirmed", settings={"rka": {"steps": 200}, "atss": {"steps": 200}}
                ),
                "another claim",
            ),
            "another learning rate": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", settings={"rka": {"lr": 0.004}}),
                "more than the rule: lr",
            ),
            "a plan changed": (
                confirm.answer(confirm.SMALL, confirm.P_SURE, "confirmed", changed={"matters": 0.3}),
                "not sealed",
            ),
            "a plan afterwards": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", confirm.an_hour_old),
                "older than the plan",
            ),
            "a third row": (
                confirm.answer(confirm.UP, confirm.P_SURE, "confirmed", confirm.a_third_row),
                "not in the plan",
            ),
            "claimed at p = .2": (confirm.answer(confirm.UNSURE, confirm.P_UNSURE, "confirmed"), "in 22 of 100"),
            "overturned at p = .2": (confirm.answer(confirm.UNSURE, confirm.P_UNSURE, "overturned"), "in 22 of 100"),
            "too small to matter": (confirm.answer(confirm.SMALL, confirm.P_SURE, "confirmed"), "a difference matters"),
            "kept open": (confirm.answer(confirm.DOWN, confirm.P_SURE, "open"), "what follows"),
        },
    ),
    Exercise(
        id="20.6",
        kind="X",
        title="Capstone: design an assigner",
        difficulty=5,
        minutes=240,
        hints=(
            "Write the four questions as comments into assign, and one line of code under each. Which question does "
            "your brief make difficult? In the crowns it is the last: who has chosen is not who wins.",
            "labelkit.search.candidates finds pairs: plausible (the most similar ones) and inside (points in objects). "
            "labelkit.search.choosing marks pairs: top_k, best_per_prior, first_of and best_first.",
            "best_first with room 1 gives each object one prior, the best pair first. What is left can be given away "
            "by best_per_prior. Use gts.slot(pairs) and gts.slots, which keep the images of a batch apart.",
        ),
        tests=(
            some_objects,
            with_and_without_a_grid,
            next_to_nothing,
            any_order,
            whole_strides,
            two_of_one_box,
            one_image_or_three,
            who_took_it,
            the_brief,
        ),
        also_right=(lambda: _Rule("strips"), lambda: _Rule("one each"), f"{__name__}:_Rule"),
        mutants={
            "index order": (lambda: _Rule(wrong="index"), "permuted"),
            "global k": (lambda: _Rule(wrong="of all"), "batch"),
            "every fifth prior": (lambda: _Rule(wrong="place"), "shifted by 16 px"),
            "the last twin": (lambda: _Rule(wrong="last"), "Twins"),
            "no objects": (lambda: _Rule(wrong="no objects"), "There are no objects"),
            "needs a grid": (lambda: _Rule(wrong="grid"), "without a grid"),
            "losers left out": (lambda: _Rule(wrong="silent"), "names nobody"),
            "in place": (lambda: _Rule(wrong="in place"), "changed the priors"),
            "TopK, k = 3": (_with(TopK, "crowns", k=3), "mean IoU 0.47"),
            "nearest tie": (_with(MaxIoU, "crowns", low_quality_ties="nearest"), "of the crowns starved"),
            "FCOS for strips": (_with(FCOS, "strips"), "of the strips have no positive"),
            "one best anchor": (_with(TopK, "one each", k=1), "are free"),
            "several for one": (_with(TopK, "one each", k=2), "an object has 2 positives"),
            "no brief": (lambda: TopK(), "brief should be one of"),
        },
    ),
)
