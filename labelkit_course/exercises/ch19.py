"""The exercises of chapter 19: the ceiling of an output, anchors that reach, where to look first, mending the sky,
and mending a data set."""

from collections.abc import Mapping
from functools import cache
from itertools import chain

import torch
from torchvision import tv_tensors
from torchvision.models.detection import retinanet_resnet50_fpn

from labelkit import Priors, best_prior, datasets
from labelkit.assigners import MaxIoU
from labelkit.audit import Front, audit
from labelkit.boxes import area
from labelkit.detectors import retinanet
from labelkit.similarity import iou
from labelkit_course import Exercise, Wrong, broken, compare, expect
from labelkit_course.exercises.crowns import crowns

# --- 19.1 -----------------------------------------------------------------------------------------------------------


def _ceiling(case, counts, limit, answer):
    total = sum(counts)
    want = sum(min(count, limit) for count in counts) / total if total else 1.0
    got = answer(counts, limit)
    if not isinstance(got, int | float):
        raise Wrong(f"{case}: your function should return a plain number, and it returned a {type(got).__name__}.")
    compare(case, {"counts": counts, "limit": limit}, float(got), want)


def enough_room(answer):
    case = "Every picture holds fewer objects than the limit: all of them can be reported, which is a share of 1"
    _ceiling(case, [3, 5], 10, answer)


def one_full_picture(answer):
    _ceiling("One picture with 8 objects, of which 2 can be reported", [8], 2, answer)


def limits_are_per_image(answer):
    case = "What one picture leaves unused does not help another: the limit holds for each by itself"
    _ceiling(case, [0, 12], 6, answer)


def objects_count(answer):
    case = "The share is one of objects, and a picture with many of them weighs more than one with few"
    _ceiling(case, [1, 1, 1, 97], 10, answer)


def nothing_to_report(answer):
    _ceiling("There are no objects, so none is lost, and the share is 1", [0, 0], 5, answer)


def _no_objects(counts):
    return not sum(counts)


def _of_means(counts, limit):
    return 1.0 if _no_objects(counts) else min(1.0, limit / (sum(counts) / len(counts)))


def _of_images(counts, limit):
    return sum(count <= limit for count in counts) / len(counts)


def _mean_of_shares(counts, limit):
    full = [min(count, limit) / count for count in counts if count]
    return sum(full) / len(full) if full else 1.0


def _pooled(counts, limit):
    """Right but where a picture leaves room that another could use, up to twice the limit."""
    total = sum(min(count, 2 * limit if 0 in counts else limit) for count in counts)
    return 1.0 if _no_objects(counts) else total / sum(counts)


def _unlimited(counts, limit):
    return 1.0 if _no_objects(counts) else limit * len(counts) / sum(counts)


def _divides_by_zero(counts, limit):
    return sum(min(count, limit) for count in counts) / sum(counts)


# --- 19.3 -----------------------------------------------------------------------------------------------------------

MOST_ANCHORS, REACH = 2600, 0.85
ANCHOR_KEYS = ("strides", "sizes", "ratios")


def reaching_anchors(answer):
    if not isinstance(answer, dict) or set(answer) != set(ANCHOR_KEYS):
        raise ValueError(f"it should be a dict with the keys {', '.join(sorted(ANCHOR_KEYS))}.")
    for key in ANCHOR_KEYS:
        if not isinstance(answer[key], tuple | list):
            raise ValueError(f"{key} should be a tuple, such as (1,).")
    levels = [level if isinstance(level, tuple | list) else (level,) for level in answer["sizes"]]
    if len(levels) != len(answer["strides"]):
        raise ValueError("sizes should hold one tuple for each stride.")
    count = sum(n * n for n in (-(-128 // stride) for stride in answer["strides"]))
    if count > MOST_ANCHORS:
        raise Wrong(
            f"Your levels have {count:,} cells, so that there are too many anchors even with one in each cell. "
            "Which stride is too fine?"
        )
    priors = Priors.anchors((128, 128), answer["strides"], levels, answer["ratios"])
    if len(priors) > MOST_ANCHORS:
        raise Wrong(
            f"These are {len(priors):,} anchors a tile. A level has one for each cell, size and ratio, and the "
            f"{count:,} cells are taken {len(priors) / count:.1f} times here. Which of them do you need?"
        )
    best = torch.cat([best_prior(priors, target["boxes"])[0] for target in crowns()])
    reached = (best >= 0.5).float().mean().item()
    if reached >= REACH:
        return
    boxes = torch.cat([target["boxes"] for target in crowns()])
    side = area(boxes).sqrt()
    lost = side[best < 0.5]
    smallest, largest = min(chain(*levels)), max(chain(*levels))
    why = f"The others are {lost.median():.0f} px wide in the median, and your anchors {smallest:g} to {largest:g} px."
    if smallest <= 11 and answer["strides"][0] > 4:
        why = (
            f"Your smallest anchors fit, and they stand {answer['strides'][0]} px apart: a crown that falls between "
            "two of them overlaps both by less than half."
        )
    raise Wrong(f"{reached:.0%} of the crowns reach 0.5, with {len(priors):,} anchors a tile. {why}")


# --- 19.2 -----------------------------------------------------------------------------------------------------------

CAUSES = ("output", "anchors", "rule", "none")


@cache
def _defaults():
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2)


@cache
def _causes():
    """The cause that the audit's last sentence names, for each data set of the chapter."""
    sky, tiles, trees = (
        datasets.deep_field("whole"),
        datasets.deep_field("test"),
        datasets.neon_trees("test", fold=None),
    )
    mended = Front(_defaults()).changed(enlarge=2, smaller=4, finer=2)
    proposals = {"max_iou": MaxIoU(0.7, 0.3, allow_low_quality_matches=False)}
    audits = {
        "sky": audit(sky, mended, what_if=False),
        "tiles": audit(tiles, _defaults(), what_if=False),
        "crowns": audit(trees, _defaults(), what_if=False),
        "crowns, 0.7": audit(trees, retinanet(1, min_size=256), proposals, what_if=False),
    }
    return {name: _cause(str(one).splitlines()[-1]) for name, one in audits.items()}


def _cause(sentence):
    return next((cause for cause in CAUSES if f"at the {cause}" in sentence), "none")


def first_causes(guess):
    expect(
        guess,
        _causes(),
        among=CAUSES,
        clues=[
            ({"sky": "rule"}, "In the sky nobody is without a positive, so the rule has lost no galaxy."),
            ({"sky": "anchors"}, "In the sky 92 % reach 0.5. Compare the fullest picture with what is kept."),
            ({"sky": "none"}, "Compare the number of galaxies in the sky with the detections that are kept of it."),
            ({"tiles": "output"}, "No tile holds more galaxies than the detections that are kept."),
            ({"tiles": "rule"}, "In the tiles the rule leaves nobody out. Look at what it has to give."),
            ({"tiles": "none"}, "In the tiles more than half of the galaxies have no anchor that fits."),
            ({"crowns": "rule"}, "Of the crowns not one is without a positive."),
            ({"crowns": "anchors"}, "Nearly every crown reaches 0.5."),
            ({"crowns": "output"}, "No tile holds more crowns than the detections that are kept."),
            (
                {"crowns, 0.7": "output"},
                "The tiles of the last row hold as many crowns as before, and all can be kept.",
            ),
            (
                {"crowns, 0.7": "anchors"},
                "In the last row nine of ten crowns reach 0.5, and more are without a positive.",
            ),
            (
                {"crowns, 0.7": "none"},
                "In the last row many crowns have no positive. Is that because of their anchors?",
            ),
        ],
    )


def _guess(**changed):
    right = {"sky": "output", "tiles": "anchors", "crowns": "none", "crowns, 0.7": "rule"}
    return right | {name.replace("_07", ", 0.7"): cause for name, cause in changed.items()}


# --- 19.4 -----------------------------------------------------------------------------------------------------------

CHOICES = {"input": (1, 2, 4), "anchors from": (32, 16, 8), "stride": (8, 4)}
AS_IT_IS, MOST = 139_284, 600_000


@cache
def _sky_under(enlarge, smaller, finer):
    return audit(
        datasets.deep_field("whole"),
        Front(_defaults()).changed(enlarge=enlarge, smaller=smaller, finer=finer),
        what_if=False,
    )


def a_mended_detector(answer):
    keys = [*CHOICES, "detections"]
    if not isinstance(answer, dict) or set(answer) != set(keys):
        raise ValueError(f"it should be a dict with the keys {', '.join(keys)}.")
    for key, known in CHOICES.items():
        if answer[key] not in known:
            raise ValueError(f"it[{key!r}] should be one of {', '.join(map(str, known))}.")
    if not isinstance(answer["detections"], int | float):
        raise ValueError("it['detections'] should be a number.")
    enlarge, smaller, finer = answer["input"], 32 // answer["anchors from"], 8 // answer["stride"]
    if AS_IT_IS * (enlarge * finer) ** 2 > 1.05 * MOST:
        times = (enlarge * finer) ** 2
        raise Wrong(
            f"That is {times} times as many anchors as before, {times * AS_IT_IS / 1e6:.2f} million. Twice the input "
            "has four times the cells, and so has half the stride."
        )
    found = _sky_under(enlarge, smaller, finer)
    ceiling, starved = found.ceiling(int(answer["detections"])), found.starved("max_iou")
    if ceiling < 0.6:
        raise Wrong(
            f"The output keeps {answer['detections']} detections of a picture with {len(found.objects)} galaxies: at "
            f"most {ceiling:.2%} can be found, whatever the anchors are."
        )
    if found.reachable < 0.3:
        raise Wrong(
            f"Only {found.reachable:.1%} of the galaxies reach 0.5. "
            + ("They have grown, and the smallest anchor is still too large for most." if enlarge > 1 else "")
            + ("Anchors that are small and far apart miss what lies between." if enlarge == 1 and smaller > 1 else "")
            + ("A rule can only give out what is there." if enlarge == smaller == 1 else "")
        )
    if starved > 0.02:
        raise Wrong(f"{starved:.1%} of the galaxies have no positive under RetinaNet's own rule.")


def _detector(enlarge=1, anchors=8, stride=4, detections=1300):
    return {"input": enlarge, "anchors from": anchors, "stride": stride, "detections": detections}


# --- 19.5 -----------------------------------------------------------------------------------------------------------

HIDDEN = (1951, 1952, 1953, 1954, 1955)
CORNER_OF = (36, 41)  # of these tiles one of the clean sets keeps the upper left quarter
FAULTS = {
    "half": "boxes of a tile at half scale",
    "corners": "boxes with corners where sizes belong",
    "duplicate": "crowns that were annotated twice",
    "speck": "specks under 1 px",
}
FALSE_ALARMS, EACH, ALL, EXTRA, POINT = 3, 0.8, 0.9, 3, 0.01


@cache
def _spoilt(seed):
    return broken.broken(seed)


@cache
def _sound():
    return broken.clean(), broken.clean(CORNER_OF)


def _mended(answer, coco):
    """What the learner's function returns, its form checked: the faults by kind, and boxes [G, 4] by image."""
    given = answer(coco)
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(isinstance(one, Mapping) for one in given):
        raise ValueError("your function should return two dicts, the faults and the mended data set.")
    faults, mended = given
    if not isinstance(mended.get("annotations"), list):
        raise ValueError('the mended data set needs its list of "annotations".')
    known = {one["id"] for one in coco["annotations"]}
    for name, kind in faults.items():
        if name not in known:
            raise ValueError(f"no annotation has the id {name!r}.")
        if kind not in FAULTS:
            raise ValueError(f"the fault of annotation {name} should be one of {', '.join(FAULTS)}, not {kind!r}.")
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in coco["images"]}
    for one in mended["annotations"]:
        x, y, width, height = (float(value) for value in one["bbox"])
        boxes[one["image_id"]].append([x, y, x + width, y + height])
    named = {kind: [name for name, its in faults.items() if its == kind] for kind in FAULTS}
    return named, {image: torch.tensor(rows).reshape(-1, 4) for image, rows in boxes.items()}


def _best(truth, boxes):
    """The highest IoU that each true crown of each image has with a mended box, by image."""
    best = {}
    for image, true in truth.crowns.items():
        real, there = torch.as_tensor(true, dtype=torch.float32), boxes[image]
        best[image] = iou(real[:, None], there[None]).amax(dim=1) if len(there) else torch.zeros(len(real))
    return best


def _hits(truth, kind, named):
    """How many faults of a kind there are, and how many of them are named: either one of two annotations will do."""
    real = {name for name, its in truth.kinds.items() if its == kind}
    first = {twin: name for name, twin in truth.twins.items()} if kind == "duplicate" else {}
    return len(real), len(real & {first.get(name, name) for name in named})


def _f1(real, named, hits):
    return 2 * hits / (real + named) if real + named else 1.0


def sound_data(answer):
    for truth in _sound():
        named, boxes = _mended(answer, truth.coco)
        false = {kind: len(ids) for kind, ids in named.items() if ids}
        if sum(false.values()) > FALSE_ALARMS:
            kind = max(false, key=lambda one: false[one])
            why = {
                "duplicate": "Crowns that touch overlap too, and less than two annotations of one crown do.",
                "half": "It is a clean tile, though its crowns stand in one quarter. How large are they?",
                "speck": "Both sides of a speck are under 1 px.",
                "corners": "On a tile with corners all its boxes are such, and not some of them only.",
            }
            raise Wrong(
                f"In a data set without any fault your function names {false[kind]} {FAULTS[kind]}. {why.get(kind, '')}"
            )
        elsewhere = "Either its box was left out, or it stands elsewhere: bbox is [x, y, width, height]."
        _nobody_is_lost("a data set without any fault", truth, boxes, elsewhere)


def every_kind(answer):
    for seed in HIDDEN:
        truth = _spoilt(seed)
        named, _ = _mended(answer, truth.coco)
        counts = {kind: _hits(truth, kind, ids) for kind, ids in named.items()}
        for kind, (real, hits) in counts.items():
            if _f1(real, len(named[kind]), hits) < EACH:
                every, found = len(truth.kinds), sum(hits for _, hits in counts.values())
                raise Wrong(
                    f"Of the {FAULTS[kind]} your function finds {hits} of {real}, and it names {len(named[kind])} as "
                    f"such. Of all faults it finds {found} of {every} (a hidden seed)."
                )
        real, hits = (sum(column) for column in zip(*counts.values(), strict=True))
        score = _f1(real, sum(map(len, named.values())), hits)
        if score < ALL:
            raise Wrong(f"Over all kinds F1 is {score:.2f}, with {hits} of {real} faults found (a hidden seed).")


def _nobody_is_lost(where, truth, boxes, why):
    best = _best(truth, boxes)
    lost = {image: int((overlap < 0.5).sum()) for image, overlap in best.items()}
    if sum(lost.values()):
        image = max(lost, key=lambda one: lost[one])
        raise Wrong(
            f"In {where} the mended annotations have {sum(lost.values())} crowns lost, {lost[image]} of them on one "
            f"tile: a crown has no box there that overlaps it by half. {why}"
        )
    extra = sum(map(len, boxes.values())) - sum(map(len, truth.crowns.values()))
    if extra > EXTRA:
        raise Wrong(f"In {where} your function kept {extra} boxes more than there are crowns.")


def nobody_lost(answer):
    for seed in HIDDEN:
        truth = _spoilt(seed)
        _, boxes = _mended(answer, truth.coco)
        _nobody_is_lost("one of the hidden data sets", truth, boxes, "Its box was left out, or not put right.")


def boxes_put_right(answer):
    for seed in HIDDEN:
        truth = _spoilt(seed)
        _, boxes = _mended(answer, truth.coco)
        best = _best(truth, boxes)
        of_image = {one["id"]: one["image_id"] for one in truth.coco["annotations"]}
        for kind in ("half", "corners"):
            image = next(of_image[name] for name, its in truth.kinds.items() if its == kind)
            if best[image].min() < 0.95:
                raise Wrong(
                    f"After mending, the {FAULTS[kind]} overlap their crowns by {best[image].min():.2f} at worst. "
                    "What exactly was done to them can be undone."
                )


def the_audit_agrees(answer):
    rule = {"max_iou": MaxIoU(allow_low_quality_matches=False)}
    small = Front(retinanet(1))
    for seed in HIDDEN[:2]:
        truth = _spoilt(seed)
        _, boxes = _mended(answer, truth.coco)
        real = {image: torch.as_tensor(one, dtype=torch.float32) for image, one in truth.crowns.items()}
        after, before = (audit(_targets(each), small, rule, what_if=False).starved("max_iou") for each in (boxes, real))
        if abs(after - before) > POINT:
            raise Wrong(
                f"The audit finds {after:.1%} of the mended boxes without a positive at a threshold of 0.5, and "
                f"{before:.1%} of the crowns."
            )


def _targets(boxes):
    size = (broken.TILE, broken.TILE)
    return [{"boxes": tv_tensors.BoundingBoxes(one, format="XYXY", canvas_size=size)} for one in boxes.values()]


def _mending(coco, *, above=0.6, exact=False, valid_only=False, drop=(), any_small=False, keep_all=False, late=False):
    """The faults and the mended data, with one thing done wrong."""
    records: dict[int, list[dict]] = {image["id"]: [] for image in coco["images"]}
    for one in coco["annotations"]:
        records[one["image_id"]].append(one)
    usual = torch.tensor([one["bbox"] for one in coco["annotations"]])[:, 2:].prod(dim=1).sqrt().median()
    faults: dict[int, str] = {}
    kept = []
    for rows in records.values():
        corner, size = torch.tensor([one["bbox"] for one in rows]).reshape(-1, 4).split(2, dim=1)
        ends, kind = corner + size, ""
        if valid_only:
            bad = ((ends > broken.TILE) | (size <= 0)).any(dim=1).tolist()
            faults |= {one["id"]: "corners" for one, is_bad in zip(rows, bad, strict=True) if is_bad}
            kept += rows
            continue
        if len(rows) and (size > corner).all() and (ends > broken.TILE).any():
            kind, size = "corners", size - corner
        elif (ends <= broken.TILE / 2).all() and (any_small or size.prod(dim=1).sqrt().median() < 0.75 * usual):
            kind, corner, size = "half", corner * 2, size * 2
        boxes = torch.cat([corner, corner + size], dim=1)
        taken: list[int] = []
        for index, one in enumerate(rows):
            same = iou(boxes[index], boxes[taken]) if taken else boxes.new_zeros(0)
            double = (same == 1).any() if exact else (same > above).any()
            its = kind or ("speck" if area(boxes[index]) < 1 else "duplicate" if double else "")
            if its:
                faults[one["id"]] = its
            if keep_all or (its in ("", "half", "corners") and its not in drop):
                taken.append(index)
                box = one["bbox"] if late else [*corner[index].tolist(), *size[index].tolist()]
                kept.append(one | {"bbox": box})
    return faults, coco | {"annotations": kept}


EXERCISES = (
    Exercise(
        id="19.1",
        title="The ceiling",
        difficulty=1,
        minutes=4,
        hints=(
            "Of one picture the smaller of two numbers can be reported. Which two?",
            "Add that number up over the pictures, and divide by the number of all objects.",
            "sum(min(count, limit) for count in counts) / sum(counts), and 1.0 where there are no objects.",
        ),
        tests=(enough_room, one_full_picture, objects_count, limits_are_per_image, nothing_to_report),
        mutants={
            "limit over the mean": (_of_means, "weighs more"),
            "share of images": (_of_images, "8 objects, of which 2"),
            "mean of shares": (_mean_of_shares, "weighs more"),
            "what one leaves another takes": (_pooled, "for each by itself"),
            "over 1": (_unlimited, "a share of 1"),
            "0 / 0": (_divides_by_zero, "zero"),
            "a tensor": (lambda counts, limit: torch.tensor(0.5), "plain number"),
        },
    ),
    Exercise(
        id="19.3",
        kind="C",
        title="Anchors for trees",
        difficulty=3,
        minutes=8,
        hints=(
            "Half of the crowns are 9 to 16 px wide, and a fifth are under 8 px. Two squares that are concentric "
            "overlap by half if their sides differ by a factor of 1.4.",
            "A level of stride 4 has 1,024 cells, one of stride 8 has 256. A second size costs as much as the first.",
        ),
        tests=(reaching_anchors,),
        also_right=(
            {"strides": (4, 8), "sizes": ((7, 11), (16, 22)), "ratios": (1,)},
            {"strides": [4, 8], "sizes": [[8, 11], [16, 23]], "ratios": [1]},
        ),
        mutants={
            "RetinaNet's": (
                {
                    "strides": (8, 16, 32),
                    "sizes": ((32, 40, 51), (64, 81, 102), (128, 161, 203)),
                    "ratios": (0.5, 1, 2),
                },
                "3,024 anchors",
            ),
            "the small detector's": (
                {"strides": (4, 8, 16), "sizes": ((16,), (32,), (64,)), "ratios": (1,)},
                "61% of the crowns",
            ),
            "three ratios": (
                {"strides": (4, 8), "sizes": ((8, 11), (16, 23)), "ratios": (0.5, 1, 2)},
                "7,680 anchors",
            ),
            "stride 2": ({"strides": (2,), "sizes": ((12,),), "ratios": (1,)}, "too fine"),
            "a stride that is no tuple": ({"strides": 4, "sizes": ((8, 11),), "ratios": (1,)}, "strides should be"),
            "stride 8": ({"strides": (8, 16), "sizes": ((8, 11), (16, 23)), "ratios": (1,)}, "8 px apart"),
            "a little too small": ({"strides": (4, 8), "sizes": ((6, 9), (13, 19)), "ratios": (1,)}, "81%"),
        },
    ),
    Exercise(
        id="19.4",
        kind="C",
        title="Mend the sky",
        difficulty=3,
        minutes=8,
        hints=(
            "The causes have an order, and so have the mends: what must the output have room for? 60 % of 2,023.",
            "The table above has a row for the anchors: which one reaches 30 % with fewer than 600,000?",
        ),
        tests=(a_mended_detector,),
        also_right=(_detector(detections=2023), _detector(detections=1214)),
        mutants={
            "as it is": (_detector(1, 32, 8, 300), "at most 14.83%"),
            "300 kept": (_detector(detections=300), "at most 14.83%"),
            "the output alone": (_detector(1, 32, 8, 2500), "0.9%"),
            "twice the input": (_detector(2, 32, 8, 2500), "8.1%"),
            "both": (_detector(2, 8, 4, 2500), "2.23 million"),
            "far apart": (_detector(1, 8, 8, 2500), "14.0%"),
            "a number in quotes": (_detector(detections="2023"), "should be a number"),
        },
    ),
    Exercise(
        id="19.2",
        kind="P",
        title="Where would you look first?",
        difficulty=2,
        minutes=5,
        hints=(),
        tests=(first_causes,),
        mutants={
            "the rule everywhere": (dict.fromkeys(_guess(), "rule"), "has lost no galaxy"),
            "the sky's anchors": (_guess(sky="anchors"), "what is kept"),
            "the sky is fine": (_guess(sky="none"), "detections that are kept of it"),
            "the tiles are fine": (_guess(tiles="none"), "no anchor that fits"),
            "the tiles' rule": (_guess(tiles="rule"), "what it has to give"),
            "the crowns' rule": (_guess(crowns="rule"), "not one"),
            "anchors at 0.7": (_guess(crowns_07="anchors"), "nine of ten"),
            "a fine rule at 0.7": (_guess(crowns_07="none"), "Is that because"),
        },
    ),
    Exercise(
        id="19.5",
        kind="X",
        title="Audit and mend a data set",
        difficulty=5,
        minutes=60,
        hints=(
            "Take the annotations tile by tile. Two of the faults are those of a whole tile, and no single box shows "
            "them: what holds for all boxes of such a tile, and for no other tile?",
            "On a tile with corners every width is larger than its x, and some box passes the border. On a tile at "
            "half scale everything stands in the upper left quarter and is small besides. The other two faults are "
            "those of a box: its size, and its IoU with the boxes that you have kept.",
            "Put the boxes of the tile right first: width minus x, or everything times two. Then go through them. "
            "Under 1 px: a speck. IoU above 0.6 with a box that was kept: a duplicate. All others are kept.",
        ),
        tests=(sound_data, every_kind, nobody_lost, boxes_put_right, the_audit_agrees),
        mutants={
            "validity only": (lambda coco: _mending(coco, valid_only=True), "at half scale your function finds 0"),
            "exact duplicates": (lambda coco: _mending(coco, exact=True), "twice your function finds 0 of 12"),
            "IoU over 0.3": (lambda coco: _mending(coco, above=0.3), "Crowns that touch"),
            "a tile deleted": (lambda coco: _mending(coco, drop=("half",)), "crowns lost"),
            "every small tile doubled": (lambda coco: _mending(coco, any_small=True), "a clean tile"),
            "nothing": (lambda coco: ({}, coco), "finds 0 of"),
            "nothing thrown away": (lambda coco: _mending(coco, keep_all=True), "boxes more than there are"),
            "named, not mended": (lambda coco: _mending(coco, late=True), "crowns lost"),
            "one answer": (lambda coco: coco, "two dicts"),
        },
    ),
)
