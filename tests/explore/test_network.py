"""With a detector the explorer's answers are those of a rule that is shown the detector's priors and predictions."""

import random

import pytest
import torch
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit import Predictions, Priors
from labelkit.assigners import ASSIGNERS, POTO, RFLA, Assigner, SimOTA
from labelkit.detectors import SmallPyramid
from labelkit.detectors.fields import view_of
from labelkit.explore import checks, network
from labelkit.explore.network import Network
from labelkit.explore.opening import opened
from labelkit.explore.question import answer, rule_of
from labelkit.explore.server import options
from tests.explore.network import BOXES, BUILDERS, LABELS, SIZE, opinionated, picture, told_in_training

ASKING = [name for name, kind in ASSIGNERS.items() if kind.needs_predictions]
NOTHING = torch.empty(0, 4), torch.empty(0, dtype=torch.int64)


@pytest.fixture(scope="module")
def begun():
    return opened(image=picture(), boxes=BOXES, labels=LABELS, detector=opinionated())


def asked(**fields):
    return {"size": list(SIZE), "priors": "detector", "objects": BOXES.tolist(), "rules": ["simota"], **fields}


def scattered(seed):
    """Objects on whole pixels, of 3 to 60 px; none of them overlaps nothing of the annotated ones by rule."""
    pick, boxes = random.Random(seed), []
    for _ in range(pick.randint(1, 9)):
        w, h = (round(2 ** pick.uniform(1.6, 5.9)) for _ in "xy")
        x, y = pick.randint(0, SIZE[1] - w), pick.randint(0, SIZE[0] - h)
        boxes.append([x, y, x + w, y + h])
    return torch.tensor(boxes, dtype=torch.float32)


def expected_class(box, predictions, priors):
    """By the documents: that of the annotated object it overlaps most, else the best score of a prior in it."""
    area = lambda one: (one[2] - one[0]) * (one[3] - one[1])  # noqa: E731
    best, found = 0.0, None
    for known, label in zip(BOXES.tolist(), LABELS.tolist(), strict=True):
        w, h = (min(box[i + 2], known[i + 2]) - max(box[i], known[i]) for i in (0, 1))
        shared = max(w, 0) * max(h, 0)
        if shared / (area(box) + area(known) - shared) > best:
            best, found = shared / (area(box) + area(known) - shared), label
    if found is not None:
        return found
    inside = [i for i, (x, y) in enumerate(priors.centers.tolist()) if box[0] <= x <= box[2] and box[1] <= y <= box[3]]
    if not inside:
        at = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        away = [(x - at[0]) ** 2 + (y - at[1]) ** 2 for x, y in priors.centers.tolist()]
        inside = [away.index(min(away))]
    return max((max(predictions.scores[i]).item(), predictions.scores[i].argmax().item()) for i in inside)[1]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("rule", [None, SimOTA()])
def test_the_predictions_are_those_of_a_training_step(build, rule):
    """SimOTA has FCOS learn objectness, which is then part of the score that a rule is told."""
    detector = opinionated(BUILDERS[build], assigner=rule)
    found = Network.of(detector, picture(), *NOTHING)
    priors, predictions = told_in_training(detector, picture())
    assert torch.equal(found.priors.boxes, priors.boxes) and found.priors.level_strides == priors.level_strides
    assert torch.equal(found.predictions.boxes, predictions.boxes)
    assert torch.equal(found.predictions.scores, predictions.scores) and predictions.scores.std() > 0.02


def test_of_two_heads_the_one_that_answers_is_asked():
    detector = opinionated()
    detector.use_second_head(POTO())
    with torch.no_grad():
        detector.head.second.classification_head.cls_logits.bias.add_(1)
    of_second = Network.of(detector, picture(), *NOTHING).predictions.scores
    detector.head.answers = "first"
    of_first = Network.of(detector, picture(), *NOTHING).predictions.scores
    assert torch.equal(of_first, told_in_training(detector, picture())[1].scores)
    assert (of_second >= of_first).all() and of_second.mean() > of_first.mean() + 0.02


@pytest.mark.parametrize("name", ASKING)
def test_labels_and_panels_are_those_of_the_rule_that_is_asked_directly(name, begun):
    priors, predictions = told_in_training(opinionated(), picture())
    rule = rule_of(name, SIZE)
    assert isinstance(rule, Assigner) and rule.needs_predictions
    positives = 0
    for seed in range(4):
        boxes = scattered(seed)
        labels = torch.tensor([expected_class(box, predictions, priors) for box in boxes.tolist()])
        told = rule.explain(priors, {"boxes": boxes, "labels": labels}, predictions)
        chosen = seed % len(boxes)
        found = answer(asked(objects=boxes.tolist(), rules=[name], chosen=chosen, panel_rule=name), begun.network)
        prior, gt = told.assignment.pairs()
        assert found["rules"][name] == {
            "positive": [list(pair) for pair in zip(prior.tolist(), gt.tolist(), strict=True)],
            "ignored": told.assignment.ignored.nonzero().squeeze(1).tolist(),
            "per_object": told.assignment.positives_per_gt(len(boxes)).tolist(),
        }
        panels, own = found["panels"], told.candidates[told.candidates.gt == chosen]
        assert panels["candidates"] == [list(pair) for pair in zip(own.prior.tolist(), own.value.tolist(), strict=True)]
        assert panels["winners"] == told.winners.prior[told.winners.gt == chosen].tolist()
        assert panels["story"] == told.story(chosen)
        plain = answer(asked(objects=boxes.tolist(), rules=[name]), begun.network)
        assert plain["rules"] == found["rules"] and plain["panels"] is None
        positives += len(prior)
    assert positives > 0


def test_classes_are_the_annotations_or_what_the_network_sees(begun):
    priors, predictions = told_in_training(opinionated(), picture())
    boxes = torch.cat((BOXES, *(scattered(seed) for seed in range(20, 30)), torch.tensor([[90.0, 1, 91, 2]])))
    expected = [expected_class(box, predictions, priors) for box in boxes.tolist()]
    assert begun.network.classes_of(boxes).tolist() == expected and expected[:4] == LABELS.tolist()
    bare = Network.of(opinionated(), picture(), *NOTHING).classes_of(BOXES).tolist()
    assert bare != LABELS.tolist() and len(set(expected[4:])) == 3


def test_a_class_decides_for_rules_that_read_scores(begun):
    """The same boxes under other classes have other labels, so the classes arrive at the rule."""
    other = opened(image=picture(), boxes=BOXES, labels=(LABELS + 1) % 3, detector=opinionated())
    first, second = (answer(asked(rules=["tal"]), one.network)["rules"]["tal"] for one in (begun, other))
    assert first["positive"] != second["positive"]


def test_a_shift_is_the_object_moved_and_asked_again(begun, monkeypatch):
    """Its class too is that of the place where it then is, which decides for PAA."""
    shift, rules = {"object": 3, "axis": "x", "offsets": [-9, 0, 20, 30]}, ["paa", "hungarian", "atss"]
    expected = {rule: [] for rule in rules}
    for offset in shift["offsets"]:
        moved = BOXES.clone()
        moved[3, 0::2] += offset
        again = answer(asked(rules=rules, objects=moved.tolist()), begun.network)["rules"]
        for rule in rules:
            expected[rule].append(again[rule]["per_object"][3])
    assert answer(asked(rules=rules, shift=shift), begun.network)["shift"] == expected
    monkeypatch.setattr("labelkit.explore.question.SLOTS", 1)  # one offset at a time
    assert answer(asked(rules=rules, shift=shift), begun.network)["shift"] == expected
    assert len(set(expected["paa"])) > 1


@pytest.mark.parametrize("build", BUILDERS)
def test_rules_without_predictions_see_the_detectors_priors(build):
    detector = opinionated(BUILDERS[build])
    found = Network.of(detector, picture(), *NOTHING)
    priors = Priors.from_detector(detector, SIZE)
    plain = [name for name in ASSIGNERS if name not in ASKING]
    answers = answer(asked(rules=plain[:8]), found)
    assert answers["priors"]["count"] == len(priors)
    target = {"boxes": BOXES, "labels": LABELS}
    for name in plain[:8]:
        seen = view_of(RFLA(), "small")(priors) if name == "rfla" else priors
        assert answers["rules"][name]["per_object"] == rule_of(name)(seen, target).positives_per_gt(4).tolist()
    assert "rfla" in plain[:8] and {"max_iou", "fcos", "atss"} <= set(plain)


def laid(levels):
    """The boxes that a front end draws from an answer's levels."""
    made = []
    for level in levels:
        for row in range(level["rows"]):
            for column in range(level["columns"]):
                x = level["offset"] * level["stride"] + column * level["spacing"][0]
                y = level["offset"] * level["stride"] + row * level["spacing"][1]
                made += [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in level["sizes"]]
    return torch.tensor(made)


def test_a_picture_is_shown_as_large_as_the_network_sees_it():
    """torchvision's RetinaNet makes it larger; nine anchors a cell, on a padded grid, RFLA on ResNet's fields."""
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=120, max_size=400)
    model.train()
    before, generator = dict(vars(model)), model.anchor_generator
    found = opened(image=picture((60, 70)), boxes=[[10, 20, 30, 50]], labels=[3], detector=model)
    assert found.network.known.tolist() == [[20, 40, 60, 100]] and found.network.labels.tolist() == [3]
    assert found.scene["size"] == [120, 140] and found.scene["objects"] == [[20, 40, 60, 100]]
    assert found.scene["priors"] == "detector" and "140 x 120 px" in found.notes[0]
    expected = Priors.from_detector(model, (60, 70))
    assert torch.equal(found.network.priors.boxes, expected.boxes)
    torch.testing.assert_close(laid(found.network.levels), expected.boxes, rtol=0, atol=1e-3)
    assert model.anchor_generator is generator and model.training and vars(model).keys() == before.keys()
    assert torch.equal(found.network.fields.boxes, view_of(RFLA(), "resnet50_fpn")(expected).boxes)
    predicted = answer(found.scene, found.network)["rules"]
    assert predicted.keys() == {"max_iou", "atss", "simota", "tal"} and predicted["simota"]["per_object"] != [0]
    with torch.no_grad():
        logits = model.eval().head([*model.backbone(model.transform([picture((60, 70))])[0].tensors).values()])
    assert torch.equal(found.network.predictions.scores, logits["cls_logits"][0].sigmoid())


@pytest.mark.parametrize("build", BUILDERS)
def test_levels_say_where_every_prior_stands(build):
    found = Network.of(opinionated(BUILDERS[build]), picture((90, 70)), *NOTHING)
    torch.testing.assert_close(laid(found.levels), found.priors.boxes, rtol=0, atol=1e-4)


def test_the_network_is_asked_once():
    detector, heard = opinionated(), []
    detector.head.register_forward_hook(lambda *_: heard.append(1))
    found = opened(image=picture(), boxes=BOXES, detector=detector)
    for seed in range(3):
        answer(asked(objects=scattered(seed).tolist(), rules=["tal", "ota"]), found.network)
    assert heard == [1] and not detector.training


def test_modes_are_left_as_they_were():
    detector = opinionated().train()
    detector.backbone.stem.eval()
    Network.of(detector, picture(), *NOTHING)
    assert detector.training and detector.head.training and not detector.backbone.stem.training


def test_predicted_rules_are_offered_with_a_detector_alone(begun):
    plain, full = options(None), options(begun.network)
    assert not set(plain["rules"]) & set(ASKING) and "detector" not in plain["priors"]
    assert full["rules"] == list(ASSIGNERS) and full["priors"] == [*plain["priors"], "detector"]
    assert plain["files"] and plain["scenes"] and not full["files"] and not full["scenes"]
    assert begun.scene["rules"] == ["max_iou", "atss", "simota", "tal"]
    assert opened(image=picture(), detector=opinionated(), rules=["dsl"], scene="heat=nwd").scene["rules"] == ["dsl"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"priors": "course-anchors"}, 'simota asks for the network\'s predictions.* choose the priors "detector"'),
        ({"priors": {"strides": [4]}, "rules": ["tal k=3"]}, "tal k=3 asks for the network's predictions"),
        ({"size": [96, 96]}, r"a picture of 120 x 96 px, .* size must be \[96, 120\], got \[96, 96\]"),
        ({"priors": "yolo"}, "priors must be one of .*course-points, detector, or"),
        ({"rules": ["hambox k=0"]}, "k must be"),
    ],
)
def test_what_a_detector_cannot_answer_is_refused_with_a_sentence(fields, sentence, begun):
    with pytest.raises(ValueError, match=sentence):
        answer(asked(**fields), begun.network)


def test_without_a_detector_its_priors_and_its_rules_are_refused():
    with pytest.raises(ValueError, match="priors must be one of retinanet, fcos, course-anchors, course-points, or"):
        answer(asked())
    for rule in ("simota", "hambox", "hungarian"):
        with pytest.raises(ValueError, match=f"{rule} asks for a network's predictions.*open it with a detector"):
            answer(asked(priors="fcos", rules=[rule]))


def test_what_cannot_be_opened_is_refused_with_a_sentence(monkeypatch):
    detector = opinionated()
    for arguments, sentence in (
        ({"detector": detector}, "a detector must be given a picture"),
        ({"image": picture(), "labels": [1]}, "give boxes and detector too"),
        (
            {"image": picture(), "boxes": BOXES, "labels": [1], "detector": detector},
            "one for each of the 4 boxes, got 1",
        ),
        (
            {"image": picture(), "boxes": BOXES, "labels": [0, 3, 0, 0], "detector": detector},
            r"labels\[1\] must be one of the detector's 3 classes, got 3",
        ),
        ({"image": picture((8, 2100)), "detector": detector}, "2100 x 8 px, and the explorer shows at most 2048 px"),
    ):
        with pytest.raises(ValueError, match=sentence):
            opened(**arguments)
    monkeypatch.setattr(network, "MOST_PRIORS", 300)
    with pytest.raises(ValueError, match="and 504 priors, and the explorer shows 300") as said:
        opened(image=picture((64, 96)), detector=detector)
    assert "96 x 64 px" in str(said.value) and checks.MOST_PRIORS == 400_000
    with pytest.raises(TypeError, match="detector must be a RetinaNet or an FCOS.*got a Linear"):
        opened(image=picture(), detector=torch.nn.Linear(1, 1))


def test_anchors_that_cannot_be_drawn_and_fields_that_nobody_knows():
    generator = AnchorGenerator(((16.0,), (32.0,), (64.0,)), ((1.0, 2.0),) * 3)
    backbone = torch.nn.Sequential(SmallPyramid())
    backbone.out_channels = 32
    model = RetinaNet(backbone, 2, anchor_generator=generator, min_size=64, max_size=96).eval()
    found = opened(image=picture((64, 96)), detector=model)
    with pytest.raises(ValueError, match="nobody knows those of this detector"):
        answer(found.scene | {"rules": ["rfla"], "panel_rule": None}, found.network)
    model.anchor_generator.cell_anchors[1][0] += 7
    with pytest.raises(ValueError, match="those of level 1 do not"):
        opened(image=picture((64, 96)), detector=model)


def test_what_a_rule_leaves_out_comes_from_the_course_or_the_picture(begun):
    hambox, hungarian = rule_of("hambox", SIZE), rule_of("hungarian", SIZE)
    assert (hambox.k, hambox.decoded_thresh, hungarian.image_size) == (5, 0.5, SIZE)
    assert rule_of("hungarian image_size=[8,9]", SIZE).image_size == (8, 9)
    nothing = {"positive": [], "ignored": [], "per_object": []}
    found = answer(asked(objects=[], rules=["tal", "hambox", "hungarian"]), begun.network)["rules"]
    assert list(found.values()) == [nothing] * 3


def test_a_batch_of_predictions_is_the_same_for_every_picture(begun):
    told = begun.network.told(3)
    assert isinstance(told, Predictions) and told.boxes.shape[0] == told.scores.shape[0] == 3
    assert torch.equal(told.scores[2], begun.network.predictions.scores)
