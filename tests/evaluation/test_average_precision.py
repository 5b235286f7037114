"""The evaluator against pycocotools, number for number, and oLRP against its definition."""

from __future__ import annotations

import contextlib
import io
import itertools
import math

import numpy as np
import pytest
import torch

from labelkit.evaluation import PRESETS, Preset, evaluate, size_index, starvation_by_size
from labelkit.evaluation.olrp import match, olrp


def boxes_of_size(generator: torch.Generator, number: int, smallest: float, largest: float) -> torch.Tensor:
    corner = torch.rand(number, 2, generator=generator) * 200
    size = smallest + torch.rand(number, 2, generator=generator) * (largest - smallest)
    return torch.cat((corner, corner + size), dim=1)


def scene(seed: int, images: int = 6, classes: int = 3) -> tuple[list[dict], list[dict]]:
    """Random ground truths, crowds and exact borders among them; detections jittered, doubled, missed, wrong, tied."""
    generator = torch.Generator().manual_seed(seed)
    predictions, targets = [], []
    for image in range(images):
        number = int(torch.randint(0, 12, (1,), generator=generator))
        boxes = boxes_of_size(generator, number, 2, 50)
        if number > 1:
            boxes[0] = torch.tensor([10.0, 10, 18, 18])  # area exactly 64
            boxes[1] = torch.tensor([30.0, 30, 46, 46])  # area exactly 256
        labels = torch.randint(0, classes, (number,), generator=generator)
        crowd = (torch.rand(number, generator=generator) < 0.15).long()
        target = {"boxes": boxes, "labels": labels, "iscrowd": crowd}
        if image % 2:
            target["area"] = (boxes[:, 2:] - boxes[:, :2]).prod(1) * 0.7
        targets.append(target)
        seen = torch.rand(number, generator=generator) < 0.8
        near = (boxes + torch.randn(number, 4, generator=generator)).repeat(3, 1)
        near[number:] += torch.randn(2 * number, 4, generator=generator) * 2
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2])
        exact = seen & (torch.rand(number, generator=generator) < 0.5)
        found = torch.cat((boxes[exact], near[seen.repeat(3)], boxes_of_size(generator, 10, 2, 40)))
        scores = (torch.rand(len(found), generator=generator) * 20).round() / 20  # with ties
        guess = torch.randint(0, classes, (10,), generator=generator)
        guess = torch.cat((labels[exact], labels[seen].repeat(3), guess))
        predictions.append({"boxes": found, "scores": scores, "labels": guess})
    return predictions, targets


def pycocotools_evaluator(predictions, targets, preset: Preset):
    """pycocotools on the same boxes, built from the tensors directly."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def records(images, scored):
        found = []
        for image_id, one in enumerate(images):
            boxes = one["boxes"].double()
            for row in range(len(boxes)):
                x1, y1, x2, y2 = boxes[row].tolist()
                area = one["area"][row].item() if "area" in one else (x2 - x1) * (y2 - y1)
                extra = {"score": one["scores"][row].item()} if scored else {"iscrowd": one["iscrowd"][row].item()}
                found.append(
                    {"id": len(found) + 1, "image_id": image_id, "category_id": one["labels"][row].item()}
                    | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": 0}
                    | extra
                )
        return found

    ground, found = COCO(), COCO()
    base = {"images": [{"id": i} for i in range(len(targets))], "categories": [{"id": i} for i in range(3)]}
    ground.dataset = base | {"annotations": records(targets, scored=False)}
    found.dataset = base | {"annotations": records(predictions, scored=True)}
    with contextlib.redirect_stdout(io.StringIO()):
        ground.createIndex()
        found.createIndex()
        evaluator = COCOeval(ground, found, "bbox")
        ranges = dict([preset.headline, *preset.areas.items()])
        evaluator.params.areaRng = [list(limits) for limits in ranges.values()]
        evaluator.params.areaRngLbl = list(ranges)
        evaluator.params.maxDets = sorted({*preset.max_dets, preset.ap_max_dets})
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def mean(values: np.ndarray) -> float:
    return float(values[values > -1].mean()) if (values > -1).any() else math.nan


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_and_recall_equal_pycocotools(name, seed):
    predictions, targets = scene(seed)
    preset = PRESETS[name]
    result = evaluate(predictions, targets, name)
    peer = pycocotools_evaluator(predictions, targets, preset)
    precision, recall = peer.eval["precision"], peer.eval["recall"]  # [T, R, K, A, M] and [T, K, A, M]
    most, largest = peer.params.maxDets.index(preset.ap_max_dets), peer.params.maxDets.index(max(preset.max_dets))

    def close(key, values):
        # The peer's mean runs over all classes at once, ours over classes of means: equal up to rounding, when every
        # class has the same number of entries, which COCO's 101 recall points and 10 thresholds make sure of.
        assert result[key] == pytest.approx(mean(values), abs=1e-12, nan_ok=True), key

    close("AP", precision[:, :, :, 0, most])
    close("AP50", precision[0, :, :, 0, most])
    close("AP75", precision[5, :, :, 0, most])
    close("AR", recall[:, :, 0, largest])
    for index, k in enumerate(peer.params.maxDets):
        close(f"AR@{k}", recall[:, :, 0, index])
    for index, size in enumerate(preset.areas, start=1):
        close(f"AP_{size}", precision[:, :, :, index, most])
        close(f"AP50_{size}", precision[0, :, :, index, most])
        close(f"AR_{size}", recall[:, :, index, largest])


# Sides in pixels at which a benchmark's sizes begin and end, detections per image that AR is given for, and AP's:
# pycocotools' Params, AI-TOD's aitodpycocotools, SODA-D's evaluator (its largest object is 40 x 50), the course.
PUBLISHED = {
    "coco": ((0, 32, 96, 1e5), (1, 10, 100), 100),
    "aitod": ((0, 8, 16, 32, 1e5), (1, 100, 1500), 1500),
    "soda_d": ((0, 12, 20, 32, 2000**0.5), (100, 300, 1000), 100),
    "course": ((0, 8, 16, 1e5), (300,), 300),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_and_limits_are_the_published_ones(name):
    sides, recalled, precise = PUBLISHED[name]
    preset = PRESETS[name]
    assert [side for low, high in preset.areas.values() for side in (low**0.5, high**0.5)] == pytest.approx(
        [side for pair in itertools.pairwise(sides) for side in pair]
    )
    assert (preset.max_dets, preset.ap_max_dets) == (recalled, precise)


def test_max_dets_bind():
    """With fewer allowed detections than there are, the numbers must still be the peer's (and differ from the free)."""
    predictions, targets = scene(2)
    tight = Preset({"small": (0, 1024)}, (2, 9), ap_max_dets=5)
    peer = pycocotools_evaluator(predictions, targets, tight)
    result = evaluate(predictions, targets, tight)
    assert result["AP"] == pytest.approx(mean(peer.eval["precision"][:, :, :, 0, 1]), abs=1e-12)
    assert result["AR@2"] == pytest.approx(mean(peer.eval["recall"][:, :, 0, 0]), abs=1e-12)
    assert result["AP"] < evaluate(predictions, targets, "coco")["AP"]


def iou(a: list[float], b: list[float], crowd: bool) -> float:
    common = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])) * max(
        0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    )
    return common / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - common)


@pytest.mark.parametrize("name", ["aitod", "soda_d", "course"])
def test_olrp_equals_its_definition_on_pycocotools_matches(name):
    """Take pycocotools' matches image by image, and minimise LRP over all prefixes by brute force."""
    predictions, targets = scene(3)
    preset = PRESETS[name]
    result = evaluate(predictions, targets, name, per_class=True)
    peer = pycocotools_evaluator(predictions, targets, preset)
    most = max(peer.params.maxDets)
    for label in range(3):
        row = result["per_class"][str(label)]
        for size, limits in zip(["", *(f"_{n}" for n in preset.areas)], peer.params.areaRng, strict=True):
            scored, num_gts = [], 0
            for image in range(len(targets)):
                with contextlib.redirect_stdout(io.StringIO()):
                    one = peer.evaluateImg(image, label, limits, most)
                if one is None:
                    continue
                num_gts += int((np.array(one["gtIgnore"]) == 0).sum())
                for det, gt, ignored, score in zip(
                    one["dtIds"][: preset.ap_max_dets], one["dtMatches"][0], one["dtIgnore"][0], one["dtScores"],
                    strict=False,
                ):  # fmt: skip
                    if not ignored:
                        found = peer.cocoDt.anns[det]["bbox"]
                        truth = peer.cocoGt.anns.get(int(gt))
                        scored.append((score, iou(found, truth["bbox"], False) if truth else 0.0))
            scored.sort(key=lambda pair: -pair[0])
            if num_gts == 0:
                assert math.isnan(row[f"oLRP{size}"]) and row[f"num_gts{size}"] == 0
                continue
            best = (1.0, math.nan, math.nan, 1.0)
            for prefix in range(1, len(scored) + 1):
                true = [value for _, value in scored[:prefix] if value > 0]
                false, misses = prefix - len(true), num_gts - len(true)
                error = (sum((1 - value) / 0.5 for value in true) + false + misses) / (prefix + misses)
                if true and error < best[0] - 1e-12:
                    best = (error, sum(1 - value for value in true) / len(true), false / prefix, misses / num_gts)
            assert row[f"oLRP{size}"] == pytest.approx(best[0], abs=1e-9)
            assert row[f"num_gts{size}"] == num_gts
            if not size:
                parts = [row[key] for key in ("oLRP_Loc", "oLRP_FP", "oLRP_FN")]
                assert parts == pytest.approx(best[1:], abs=1e-9, nan_ok=True)


def perfect(targets: list[dict]) -> list[dict]:
    return [
        {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.ones(len(target["boxes"]))}
        for target in targets
    ]


def nothing(number: int) -> list[dict]:
    return [
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64), "scores": torch.empty(0)}
        for _ in range(number)
    ]


def test_a_perfect_detector_and_one_that_finds_nothing():
    _, targets = scene(4)
    targets = [{"boxes": target["boxes"], "labels": target["labels"]} for target in targets]
    best = evaluate(perfect(targets), targets, "aitod")
    assert best["AP"] == pytest.approx(1) and best["AR"] == pytest.approx(1)
    assert [best[key] for key in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")] == pytest.approx([0, 0, 0, 0])
    worst = evaluate(nothing(len(targets)), targets, "aitod")
    assert worst["AP"] == worst["AP50_tiny"] == worst["AR"] == 0
    assert worst["oLRP"] == worst["oLRP_FN"] == 1 and math.isnan(worst["oLRP_Loc"]) and math.isnan(worst["oLRP_FP"])


def test_an_area_of_exactly_64_counts_as_very_tiny_and_as_tiny():
    target = [{"boxes": torch.tensor([[10.0, 10, 18, 18]]), "labels": torch.tensor([0])}]
    result = evaluate(perfect(target), target, "aitod")
    assert result["num_gts_verytiny"] == result["num_gts_tiny"] == 1 and result["num_gts_small"] == 0
    assert result["AP_verytiny"] == result["AP_tiny"] == pytest.approx(1) and math.isnan(result["AP_small"])
    # For counting in tables every box has one place: the upper one.
    assert size_index(target[0]["boxes"], "aitod").tolist() == [1]


def test_soda_speaks_of_small_objects_only():
    target = [{"boxes": torch.tensor([[0.0, 0, 10, 10], [50, 50, 90, 90]]), "labels": torch.tensor([0, 0])}]
    found = [{key: value[:1] for key, value in perfect(target)[0].items()}]
    assert evaluate(found, target, "soda_d")["AP"] == pytest.approx(1)
    assert evaluate(found, target, "soda_d")["num_gts"] == 1
    assert evaluate(found, target, "coco")["AP"] < 0.6


def test_empty_inputs_are_defined():
    none = [{"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)}]
    for predictions, targets in (([], []), (nothing(1), none)):
        result = evaluate(predictions, targets)
        assert math.isnan(result["AP"]) and math.isnan(result["oLRP"]) and result["num_gts"] == 0
    _, targets = scene(0)
    full = evaluate(perfect(targets), targets)
    assert result.keys() == full.keys()
    # Detections in an image without ground truths are false positives, an empty one beside it changes nothing.
    one = [{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0])}]
    low = perfect(one)[0] | {"scores": torch.tensor([0.5])}
    assert evaluate([low, *nothing(1)], one + none)["AP"] == pytest.approx(1)
    assert evaluate([low, perfect(one)[0]], one + none)["AP"] == pytest.approx(0.5)


def test_only_crowds_means_nothing_to_find():
    target = [{"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([1])}]
    result = evaluate(perfect(target), target)
    assert math.isnan(result["AP"]) and math.isnan(result["oLRP"]) and result["num_gts"] == 0


def test_per_class_names_and_means():
    predictions, targets = scene(5)
    result = evaluate(predictions, targets, classes=("a", "b", "c"), per_class=True)
    rows = result["per_class"]
    assert list(rows) == ["a", "b", "c"]
    assert result["AP"] == pytest.approx(np.mean([row["AP"] for row in rows.values()]))
    assert result["num_gts"] == sum(row["num_gts"] for row in rows.values())
    assert 0 <= rows["a"]["oLRP_score"] <= 1 and "oLRP_score" not in result


def test_inputs_on_a_device_and_in_half_precision_are_taken_and_left_alone(device):
    predictions, targets = scene(6)
    moved = [[{key: value.to(device) for key, value in one.items()} for one in side] for side in (predictions, targets)]
    before = [one["boxes"].clone() for one in moved[0]]
    assert evaluate(*moved, "aitod") == pytest.approx(evaluate(predictions, targets, "aitod"), nan_ok=True)
    assert all(torch.equal(a, one["boxes"]) for a, one in zip(before, moved[0], strict=True))
    half = [one | {"scores": one["scores"].half()} for one in predictions]
    assert evaluate(half, targets)["AP"] == pytest.approx(evaluate(predictions, targets)["AP"])


def bad(side: str, **values) -> tuple[list[dict], list[dict]]:
    predictions, targets = scene(0, images=2)
    {"predictions": predictions, "targets": targets}[side][1].update(values)
    return predictions, targets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            bad("targets", boxes=torch.tensor([[0.0, 0, 0, 5]]), labels=torch.tensor([0])),
            r"targets\[1\]\['boxes'\]\[0\] must have x1 < x2",
        ),
        (bad("predictions", scores=torch.tensor([0.5])), r"predictions\[1\]\['scores'\] must have shape"),
        (
            bad("predictions", boxes=torch.ones(1, 4), labels=torch.zeros(1).long(), scores=torch.tensor([math.nan])),
            r"predictions\[1\]\['scores'\]\[0\] must be finite, got nan",
        ),
        (
            bad("predictions", boxes=torch.ones(1, 4), labels=torch.zeros(1), scores=torch.ones(1)),
            r"predictions\[1\]\['labels'\] must be integers",
        ),
        (
            bad("predictions", boxes=torch.ones(1, 4), labels=torch.tensor([-1]), scores=torch.ones(1)),
            r"predictions\[1\]\['labels'\]\[0\] must not be negative, got -1",
        ),
        ((scene(0)[0], scene(0)[1][:-1]), "one length, got 6 and 5"),
        (bad("targets", labels=None), r"targets\[1\] must have 'labels', got \['boxes', 'iscrowd', 'area'\]"),
        (bad("predictions", scores=None), r"predictions\[1\] must have 'scores'"),
        (
            bad("targets", boxes=torch.ones(1, 4).cumsum(1), labels=torch.tensor([0]), area=torch.tensor([math.inf])),
            r"targets\[1\]\['area'\]\[0\] must be finite, got inf",
        ),
        (
            bad(
                "targets", boxes=torch.ones(1, 4).cumsum(1), labels=torch.tensor([0]), iscrowd=None, area=-torch.ones(1)
            ),
            r"targets\[1\]\['area'\]\[0\] must not be negative, got -1",
        ),
        (bad("predictions", boxes=[[0, 1], [2]]), r"predictions\[1\]\['boxes'\] must be a tensor.*expected sequence"),
        (bad("predictions", scores=["high"]), r"predictions\[1\]\['scores'\] must be a tensor.*'str'"),
        (bad("targets", labels=["cat"]), r"targets\[1\]\['labels'\] must be a tensor.*'str'"),
        (([None], scene(0)[1][:1]), r"predictions\[0\] must be a dictionary of tensors, got NoneType"),
        (
            bad("targets", boxes=torch.ones(1, 4).cumsum(1), labels=torch.tensor([0]), area=None),
            r"targets\[1\]\['iscrowd'\] must have shape \[1\]",
        ),
    ],
)
def test_bad_input_is_named(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        evaluate(*arguments)


def test_bad_options_are_named():
    predictions, targets = scene(0)
    with pytest.raises(ValueError, match="preset must be one of coco, aitod.*'voc'"):
        evaluate(predictions, targets, "voc")
    with pytest.raises(ValueError, match="below the number of classes, 2, got 2"):
        evaluate(predictions, targets, classes=("a", "b"))
    with pytest.raises(ValueError, match=r"classes must have names of which no two are equal, got \['a', 'b', 'a'\]"):
        evaluate(predictions, targets, classes=("a", "b", "a"), per_class=True)
    for most in ((), (0,)):
        with pytest.raises(ValueError, match="max_dets and ap_max_dets must be 1 or more"):
            Preset({}, most, ap_max_dets=100)


def test_a_size_may_have_the_name_of_the_headline():
    predictions, targets = scene(0)
    sizes, limits = {"small": (0, 256), "large": (256, 1e10)}, {"max_dets": (100,), "ap_max_dets": 100}
    own = evaluate(predictions, targets, Preset(sizes, headline=("small", (0, 256)), **limits))
    usual = evaluate(predictions, targets, Preset(sizes, **limits))
    assert own["AP"] == own["AP_small"] == usual["AP_small"] != usual["AP"]
    assert own["AP_large"] == usual["AP_large"] and own["num_gts_large"] == usual["num_gts_large"]


def test_starvation_takes_any_preset_and_a_number_for_each_box(unchecked):
    boxes = torch.tensor([[0.0, 0, 3, 3], [0, 0, 20, 20]])
    found = starvation_by_size(boxes, torch.tensor([0, 4]), Preset({"all": (0, 1e10)}, (100,), 100))
    assert found == {"all": {"gts": 2, "positives": 2.0, "starved": 0.5}}
    with pytest.raises(ValueError, match="positives must be one for each of 2 boxes, got 1"):
        starvation_by_size(boxes, torch.tensor([1]))


def test_size_index_has_one_place_for_each_box():
    boxes = torch.tensor([[0.0, 0, 7.9, 8], [0, 0, 8, 8], [0, 0, 10, 10], [0, 0, 16, 16], [0, 0, 300, 300]])
    assert size_index(boxes, "course").tolist() == [0, 1, 1, 2, 2]
    assert size_index(boxes, "soda_d").tolist() == [0, 0, 0, 1, -1]


def test_match_prefers_what_counts_and_never_uses_up_a_crowd():
    ious = np.array([[0.9, 0.6], [0.9, 0.6], [0.9, 0.0]])
    matched, on_ignored = match(ious, np.array([True, False]), np.array([True, False]), 0.5)
    assert matched.tolist() == [0.6, 0.9, 0.9] and on_ignored.tolist() == [False, True, True]
    matched, _ = match(np.array([[0.7, 0.7], [0.7, 0.7]]), np.zeros(2, dtype=bool), np.zeros(2, dtype=bool), 0.5)
    assert matched.tolist() == [0.7, 0.7]


def test_olrp_stops_where_false_positives_begin():
    """Two of three found with IoU 0.75 and 1, then two false: LRP = (0.25 / 0.5 + 1) / 3 at the second detection."""
    best = olrp(np.array([0.2, 0.9, 0.8, 0.1]), np.array([0.0, 0.75, 1.0, 0.0]), num_gts=3)
    assert best.value == pytest.approx(0.5) and best.loc == pytest.approx(0.125)
    assert best.fp == 0 and best.fn == pytest.approx(1 / 3) and best.score == 0.8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.int32])
def test_boxes_areas_and_scores_of_any_dtype_give_the_same_numbers(dtype):
    predictions, targets = scene(7)
    for one in predictions + targets:
        one["boxes"] = one["boxes"].round()
        one["boxes"][:, 2:] = torch.maximum(one["boxes"][:, 2:], one["boxes"][:, :2] + 1)
    expected = evaluate(predictions, targets, "aitod")
    cast = [[one | {"boxes": one["boxes"].to(dtype)} for one in side] for side in (predictions, targets)]
    for one in cast[1]:
        one["iscrowd"] = one["iscrowd"].bool()
    assert evaluate(*cast, "aitod") == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_box_that_float32_cannot_hold_is_refused(dtype):
    """Thin in float64 and empty in float32: no detector could learn it, so it is no object here either."""
    thin = torch.tensor([[63.9999999, 5, 64, 14]], dtype=dtype)
    target = [{"boxes": thin, "labels": torch.tensor([0])}]
    with pytest.raises(ValueError, match=r"targets\[0\]\['boxes'\]\[0\] must have x1 < x2"):
        evaluate(perfect(target), target)


def test_regions_may_be_named_iscrowd_or_ignore_and_none_is_absent():
    predictions, targets = scene(8)
    expected = evaluate(predictions, targets)
    named = [target | {"ignore": target["iscrowd"].bool(), "iscrowd": None} for target in targets]
    assert evaluate(predictions, named) == pytest.approx(expected, nan_ok=True)
    split = [target | {"ignore": target["iscrowd"] * (torch.arange(len(target["iscrowd"])) % 2)} for target in targets]
    for target in split:
        target["iscrowd"] = target["iscrowd"] - target["ignore"]
    assert evaluate(predictions, split) == pytest.approx(expected, nan_ok=True)
    without = [target | {"iscrowd": None, "area": None} for target in targets]
    bare = [{key: target[key] for key in ("boxes", "labels")} for target in targets]
    assert evaluate(predictions, without) == pytest.approx(evaluate(predictions, bare), nan_ok=True)
    assert evaluate(predictions, bare)["num_gts"] > expected["num_gts"]


def test_an_image_without_objects_needs_no_dtype_and_no_shape():
    predictions, targets = scene(9)
    expected = evaluate(predictions + nothing(1), [*targets, {"boxes": torch.empty(0, 4), "labels": torch.empty(0)}])
    empty = {"boxes": torch.tensor([]), "labels": torch.tensor([])}
    assert evaluate([*predictions, empty | {"scores": torch.tensor([])}], [*targets, empty]) == pytest.approx(
        expected, nan_ok=True
    )


def test_what_is_undefined_is_nan_and_never_none():
    predictions, targets = scene(10)
    for result in (evaluate([], []), evaluate(nothing(len(targets)), targets), evaluate(predictions, targets)):
        assert all(isinstance(value, float | int) for value in result.values())
    none = evaluate(nothing(len(targets)), targets)
    assert none["AP"] == 0 and math.isnan(none["oLRP_Loc"]) and math.isnan(none["oLRP_FP"])


def test_a_tracked_score_is_taken_as_it_is():
    predictions, targets = scene(11)
    tracked = [one | {"scores": one["scores"].clone().requires_grad_()} for one in predictions]
    assert evaluate(tracked, targets) == pytest.approx(evaluate(predictions, targets), nan_ok=True)
