"""What holds for every assigner: errors that name what is wrong, empty inputs, unchanged inputs, devices, dtypes."""

import math
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from labelkit import NEGATIVE, Predictions, Priors
from labelkit.assigners import ASSIGNERS, RKA, MaxIoU, TopK, base
from labelkit.assigners.ground_truths import collect
from labelkit.similarity import iou, nwd

ARGUMENTS = {
    "hambox": {"k": 3, "decoded_thresh": 0.5},
    "hungarian": {"image_size": (64, 64)},
    "rka": {"similarity": partial(nwd, constant=12.8)},
}
every = pytest.mark.parametrize("name", ASSIGNERS)


def build(name: str):
    return ASSIGNERS[name](**ARGUMENTS.get(name, {}))


def anchors() -> Priors:
    return Priors.anchors((64, 64), (8, 16), ((16.0,), (32.0,)))


def predictions(priors: Priors, images: int | None = None) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    lead = () if images is None else (images,)
    shift = torch.rand((*lead, len(priors), 4), generator=generator)
    scores = torch.rand((*lead, len(priors), 4), generator=generator)
    return Predictions((priors.boxes.cpu() + shift).to(priors.device), scores.to(priors.device))


def target(*rows, labels=None, device="cpu") -> dict[str, torch.Tensor]:
    labels = [0] * len(rows) if labels is None else labels
    boxes = torch.tensor(rows, dtype=torch.float32, device=device).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64, device=device)}


GOOD = (10.0, 10, 30, 30)


@every
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (target(GOOD, (5, 5, 5, 9)), r"target\[1\]\['boxes'\]\[1\].*\[5.0, 5.0, 5.0, 9.0\].*zero size"),
        (target(GOOD, (9, 5, 5, 9)), r"target\[1\]\['boxes'\]\[1\].*inverted"),
        (target((0, 0, math.nan, 9)), r"target\[1\]\['boxes'\]\[0\] must be finite.*nan"),
        (target((0, 0, math.inf, 9)), r"target\[1\]\['boxes'\]\[0\] must be finite.*inf"),
        (target(GOOD, labels=[-1]), r"target\[1\]\['labels'\]\[0\] must be a class counted from 0, got -1"),
        (target(GOOD, labels=[0, 1]), r"target\[1\]\['labels'\] must have shape \[1\].*got \[2\]"),
        ({"boxes": torch.ones(2, 5), "labels": torch.zeros(2).long()}, r"target\[1\]\['boxes'\] must have shape"),
        ({"boxes": torch.tensor([GOOD]), "labels": torch.zeros(1)}, r"target\[1\]\['labels'\] must .* whole numbers"),
        ({"labels": torch.zeros(1).long()}, r"target\[1\] must be a dict with 'boxes'"),
        (
            {"boxes": torch.zeros(1, 4, device="meta"), "labels": torch.zeros(1).long()},
            r"target\[1\]\['boxes'\] is on meta, the priors are on cpu",
        ),
    ],
)
def test_bad_input_is_named(name, bad, words, unchecked):
    priors = anchors()
    with pytest.raises(ValueError, match=words):
        build(name)(priors, [target(GOOD), bad], predictions(priors, 2))


@every
def test_priors_of_another_kind_are_refused(name, unchecked):
    with pytest.raises(ValueError, match=r"priors must be a labelkit.Priors"):
        build(name)(torch.zeros(3, 4), target(GOOD))


@every
def test_no_ground_truth_is_all_background(name, device):
    priors = anchors().to(device)
    answer = build(name)(priors, target(device=device), predictions(priors))
    assert answer.gt.shape == (len(priors),)
    assert (answer.gt == NEGATIVE).all() and (answer.similarity == 0).all() and (answer.weight == 1).all()
    batch = build(name)(priors, [target(device=device), target(GOOD, device=device)], predictions(priors, 2))
    assert (batch.gt[0] == NEGATIVE).all() and (batch.gt[1] == 0).any()


@every
@pytest.mark.parametrize("boxes", [torch.zeros(0, 4), torch.empty(0), torch.tensor([])])
@pytest.mark.parametrize("labels", [torch.tensor([]), torch.empty(0), torch.zeros(0).long(), torch.zeros(0).bool()])
def test_an_empty_image_needs_no_dtype_and_no_shape(name, boxes, labels):
    """As data sets write it: torch.tensor([]) is float32 and has one dimension."""
    priors = anchors()
    empty = {"boxes": boxes, "labels": labels, "iscrowd": torch.tensor([])}
    assert build(name)(priors, empty, predictions(priors)).negative.all()
    assert build(name)(priors, [empty, target(GOOD)], predictions(priors, 2)).positive[1].any()


@every
def test_every_field_is_a_tensor_of_its_own(name):
    """A weight set for the positives is not set for the rest."""
    priors = anchors()
    answer = build(name)(priors, target(GOOD), predictions(priors))
    for field in ("gt", "similarity", "score_target", "weight"):
        value = getattr(answer, field)
        before = value[~answer.positive].clone()
        value[answer.positive] = 2
        assert torch.equal(value[~answer.positive], before), field


NO_PRIORS = [
    Priors.from_boxes(torch.zeros(0, 4), strides=(8,)),
    Priors.anchors((64, 64), (8, 16), ((), ())),  # a grid without a row
]


@every
@pytest.mark.parametrize("priors", NO_PRIORS, ids=["no grid", "grid"])
def test_no_priors(name, priors):
    assert build(name)(priors, target(GOOD), predictions(priors)).gt.shape == (0,)
    assert build(name)(priors, [target(GOOD), target()], predictions(priors, 2)).gt.shape == (2, 0)


@every
def test_an_empty_batch(name):
    priors = anchors()
    assert build(name)(priors, [], predictions(priors, 0)).gt.shape == (0, len(priors))


@every
def test_inputs_are_never_changed_and_nothing_asks_for_gradients(name):
    priors = anchors()
    boxes, wish = priors.boxes.clone(), target(GOOD, (3, 3, 8, 8), (40, 2, 63, 60))
    copy = {key: value.clone() for key, value in wish.items()}
    wish["boxes"].requires_grad_()
    said = predictions(priors)
    said_copy = (said.boxes.clone(), said.scores.clone())
    answer = build(name)(priors, wish, said)
    assert torch.equal(priors.boxes, boxes)
    assert all(torch.equal(wish[key], copy[key]) for key in copy)
    assert torch.equal(said.boxes, said_copy[0]) and torch.equal(said.scores, said_copy[1])
    assert not answer.similarity.requires_grad


@every
def test_the_answer_stays_on_the_device(name, device):
    priors = anchors().to(device)
    answer = build(name)(priors, target(GOOD, (3, 3, 8, 8), device=device), predictions(priors))
    on_cpu = build(name)(anchors(), target(GOOD, (3, 3, 8, 8)), predictions(anchors()))
    assert answer.gt.device.type == device.type
    assert torch.equal(answer.gt.cpu(), on_cpu.gt)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_any_number_type_comes_in(name, dtype):
    priors = anchors()
    wish = target(GOOD, (3, 3, 8, 8))
    other = {"boxes": wish["boxes"].to(dtype), "labels": wish["labels"].int()}
    answers = [build(name)(priors, given, predictions(priors)) for given in (other, wish)]
    assert torch.equal(answers[0].gt, answers[1].gt)


@every
def test_a_ground_truth_outside_or_huge_is_no_exception(name):
    priors = anchors()
    far = target((5000, 5000, 5010, 5010), (-1e6, -1e6, 1e6, 1e6), GOOD)
    assert build(name)(priors, far, predictions(priors)).gt.shape == (len(priors),)


@every
def test_it_shows_its_arguments_and_cannot_be_changed(name):
    assigner = build(name)
    assert type(assigner).__name__ in repr(assigner)
    assert assigner == build(name)
    with pytest.raises(AttributeError):
        assigner.k = 5


@every
def test_a_rule_by_overlap_refuses_points(name):
    """No prior overlaps anything: without a word every object would be background."""
    points = Priors.points((64, 64), (8, 16))
    # centres, NWD and decoded boxes know points, ATSS asks for no overlap
    if name in ("fcos", "rka", "atss", "ota", "tal", "simota", "dsl", "hungarian", "poto"):
        assert build(name)(points, target(GOOD), predictions(points)).positive.any()
        return
    with pytest.raises(ValueError, match=r"priors must have a positive size somewhere for (iou|rfd|gjsd)"):
        build(name)(points, target(GOOD), predictions(points))


@pytest.mark.parametrize("rule", [MaxIoU, TopK, partial(RKA, 3)])
def test_a_similarity_that_is_not_elementwise_is_refused_by_name(rule):
    with pytest.raises(ValueError, match="similarity must be elementwise.*box_iou"):
        rule(similarity=box_iou)(anchors(), target(GOOD))
    with pytest.raises(ValueError, match="similarity must be finite, got nan"):
        rule(similarity=lambda prior, gt: iou(prior, gt) * math.nan)(anchors(), target(GOOD))


FLAGGED = target(GOOD, (0, 0, 12, 12), (30, 30, 62, 60)) | {"iscrowd": torch.tensor([0, 1, 0])}
BATCH = [target(GOOD, (3, 3, 8, 8)), target(), FLAGGED, target((40, 2, 63, 60), labels=[3]), target(GOOD, GOOD)]


@every
@pytest.mark.parametrize("images", [1, 2])
def test_a_batch_in_parts_is_the_batch(name, images, monkeypatch):
    """So are its explanations; a part without objects or regions is no exception."""
    priors, rule = anchors(), build(name)
    seen = predictions(priors, len(BATCH))
    whole, told = rule(priors, BATCH, seen), rule.explain(priors, BATCH, seen)
    monkeypatch.setattr(base, "SLOTS", images * len(priors) + 1)
    assert len(base.parts(collect(BATCH, priors))) == -(-len(BATCH) // images)
    answer, again = rule(priors, BATCH, seen), rule.explain(priors, BATCH, seen)
    for field in ("gt", "similarity", "score_target", "weight"):
        torch.testing.assert_close(getattr(answer, field), getattr(whole, field), rtol=1e-6, atol=1e-6)
        assert all(
            torch.equal(getattr(one.assignment, field), getattr(answer, field)[i]) for i, one in enumerate(again)
        )
    assert torch.equal(answer.gt, whole.gt) and len(again) == len(BATCH)
    for one, other in zip(again, told, strict=True):
        assert torch.equal(one.candidates.prior, other.candidates.prior) and len(one.bar) == len(other.bar)


PREDICTED = [name for name, rule in ASSIGNERS.items() if rule.needs_predictions]
READING = [name for name in PREDICTED if name != "hambox"]  # its scores are the loss's affair


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("images", [1, 5])
def test_a_score_that_is_read_is_a_probability(name, images, monkeypatch):
    """The image is named by its place in the batch, whatever part of it is labelled together."""
    priors = anchors()
    monkeypatch.setattr(base, "SLOTS", images * len(priors))
    logits = predictions(priors, len(BATCH))
    logits.scores[3] = 1.5
    with pytest.raises(
        ValueError, match=r"predictions.scores must be probabilities in \[0, 1\], got values from .* to 1.5"
    ):
        build(name)(priors, BATCH, logits)
    logits.scores[3] = math.nan
    with pytest.raises(ValueError, match=r"predictions.scores\[3, 0, 0\] must be finite, got nan"):
        build(name)(priors, BATCH, logits)


def test_a_score_that_nobody_reads_is_nobodys_affair():
    priors = anchors()
    seen = predictions(priors)
    wanted = build("hambox")(priors, BATCH[0], seen)
    assert torch.equal(build("hambox")(priors, BATCH[0], Predictions(seen.boxes, seen.scores * math.nan)).gt, wanted.gt)


@pytest.mark.parametrize("name", PREDICTED)
def test_short_predictions_are_read_in_float32(name):
    priors = anchors()
    seen = predictions(priors)
    short = Predictions(seen.boxes.bfloat16(), seen.scores.bfloat16())
    wide = Predictions(short.boxes.float(), short.scores.float())
    answer, wanted = (build(name)(priors, BATCH[0], given) for given in (short, wide))
    assert torch.equal(answer.gt, wanted.gt) and torch.equal(answer.score_target, wanted.score_target)


@pytest.mark.parametrize("name", PREDICTED)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": [[0.0, 0, 8, 8]]}, "predictions.boxes must be a tensor, got list"),
        ({"scores": None}, "predictions.scores must be a tensor, got NoneType"),
        ({"boxes": torch.zeros(79, 4)}, r"predictions.boxes must have shape \[80, 4\], got \[79, 4\]"),
        ({"boxes": torch.zeros(80, 5)}, r"predictions.boxes must have shape \[80, 4\], got \[80, 5\]"),
        ({"boxes": torch.zeros(1, 80, 4)}, r"predictions.boxes must have shape \[80, 4\], got \[1, 80, 4\]"),
        ({"scores": torch.zeros(80)}, r"predictions.scores must have shape \[80, classes\], got \[80\]"),
        ({"scores": torch.zeros(79, 4)}, r"predictions.scores must have shape \[80, classes\], got \[79, 4\]"),
        ({"scores": torch.tensor(0.5)}, r"predictions.scores must have shape \[80, classes\], got \[\]"),
    ],
)
def test_predictions_of_another_shape_are_named_as_they_came(name, change, words, unchecked):
    priors = anchors()
    assert len(priors) == 80
    seen = predictions(priors)
    with pytest.raises(ValueError, match=words):
        build(name)(priors, target(GOOD), Predictions(**(vars(seen) | change)))


def test_predictions_of_a_batch_are_named_with_its_dimension():
    priors = anchors()
    with pytest.raises(ValueError, match=r"predictions.boxes must have shape \[2, 80, 4\], got \[80, 4\]"):
        build("poto")(priors, [target(GOOD)] * 2, predictions(priors))


@pytest.mark.parametrize("name", PREDICTED)
@pytest.mark.parametrize("far", [torch.finfo(torch.float32).max, 1e300])
def test_a_box_that_runs_away_is_a_bad_box_and_no_more(name, far):
    """Its area overflows, and by GIoU it was no number: one of them spoilt the labels of all others."""
    priors = anchors()
    seen = predictions(priors)
    boxes = seen.boxes.to(torch.float64 if far > 1e38 * 4 else torch.float32)
    boxes[::3] = torch.tensor([-far, -far, far, far], dtype=boxes.dtype)
    there = boxes.clamp(-1e18, 1e18)
    wish = target(GOOD, (12, 8, 40, 36), labels=[0, 1])
    answer, wanted = (build(name)(priors, wish, Predictions(given, seen.scores)) for given in (boxes, there))
    assert torch.equal(answer.gt, wanted.gt) and torch.equal(answer.similarity, wanted.similarity)
    assert answer.score_target.isfinite().all() and wanted.positive.any()


@pytest.mark.parametrize("name", PREDICTED)
def test_without_objects_there_may_be_no_class_at_all(name):
    priors = anchors()
    nothing = Predictions(priors.boxes, torch.zeros(len(priors), 0))
    assert build(name)(priors, target(), nothing).negative.all()
    with pytest.raises(ValueError, match=r"target\[0\]\['labels'\]\[0\] must be below the 0 classes"):
        build(name)(priors, target(GOOD), nothing)


NUMBERS = [
    (name, field.name)
    for name, rule in ASSIGNERS.items()
    if name not in ("max_iou", "fcos")
    for field in fields(rule)
    if field.type in ("float", "float | None")
]


@pytest.mark.parametrize(("name", "argument"), [*NUMBERS, ("hungarian", "weights"), ("hungarian", "image_size")])
@pytest.mark.parametrize("value", ["0.5", math.nan, True, (1,), torch.tensor(0.5)], ids=str)
def test_an_argument_that_is_no_number_is_named(name, argument, value, unchecked):
    with pytest.raises(ValueError, match=f"^{argument} must"):
        ASSIGNERS[name](**ARGUMENTS.get(name, {}) | {argument: value})


@every
def test_numpys_numbers_are_numbers(name, unchecked):
    asked = {field.name: field.default for field in fields(ASSIGNERS[name])} | ARGUMENTS.get(name, {})
    numbers = {key: value for key, value in asked.items() if type(value) in (int, float)}
    of_numpy = {key: (np.int64 if type(value) is int else np.float64)(value) for key, value in numbers.items()}
    one, other = (ASSIGNERS[name](**ARGUMENTS.get(name, {}) | given) for given in (numbers, of_numpy))
    given = (anchors(), target(GOOD, (0, 0, 20, 40)), *[predictions(anchors())] * one.needs_predictions)
    assert torch.equal(one(*given).gt, other(*given).gt)
