"""The explorer's answers are the library's labels, on the priors that detectors have; what is refused is explained."""

import json

import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.retinanet import _default_anchorgen

from labelkit import Priors
from labelkit.assigners import ASSIGNERS, ATSS, RFLA, RKA
from labelkit.detectors import fcos, retinanet
from labelkit.detectors.fields import view_of
from labelkit.explore import opening
from labelkit.explore.presets import PRESETS, Own, levels_of, priors_of
from labelkit.explore.question import answer, rule_of
from labelkit.explore.state import DEFAULTS, checked, read_state, write_state
from labelkit.scenes import SCENES
from labelkit.similarity import nwd
from tests.squares import in_folders
from tests.strategies import target_of

CROWD = SCENES["crowd"].boxes
OWN = {"strides": [4, 8], "scale": 3, "ratios": [0.5, 1]}


def asked(**fields):
    return {"size": [128, 160], "priors": "course-anchors", "objects": CROWD.tolist(), "rules": ["atss"], **fields}


class Backbone(nn.Module):
    out_channels = 32


def test_presets_are_the_anchors_of_torchvision_and_of_the_small_detectors():
    size, padded = (100, 150), (128, 160)
    maps = [(-(-padded[0] // s), -(-padded[1] // s)) for s in (8, 16, 32, 64, 128)]
    generators = {"retinanet": _default_anchorgen(), "fcos": FCOS(Backbone(), 2).anchor_generator}
    for name, generator in generators.items():
        expected = Priors.from_torchvision(generator, padded, maps)
        assert torch.equal(priors_of(name, size).boxes, expected.boxes)
        assert priors_of(name, size).level_strides == (8, 16, 32, 64, 128)
    for name, detector in (("course-anchors", retinanet(1)), ("course-points", fcos(1))):
        expected = Priors.from_detector(detector, size)
        assert torch.equal(priors_of(name, size).boxes, expected.boxes)
        assert priors_of(name, size).level_strides == (4, 8, 16)


@pytest.mark.parametrize("preset", [*PRESETS, Own((4.0, 8.0), 3.0, (0.5, 1.0)), Own((5.0,))])
def test_levels_say_where_every_prior_stands(preset):
    size, made = (90, 70), []
    for level in levels_of(preset, size):
        assert level["first"] == len(made)
        for row in range(level["rows"]):
            for column in range(level["columns"]):
                x, y = (
                    level["offset"] * level["stride"] + at * step
                    for at, step in zip((column, row), level["spacing"], strict=True)
                )
                made += [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in level["sizes"]]
    torch.testing.assert_close(torch.tensor(made), priors_of(preset, size).boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("preset", [*PRESETS, OWN])
def test_labels_are_those_of_the_assigners(preset):
    rules = [name for name, kind in ASSIGNERS.items() if not kind.needs_predictions]
    rules = [name for name in rules if name != "rfla" or isinstance(preset, str)]
    found = json.loads(json.dumps(answer(asked(priors=preset, rules=rules, chosen=3, panel_rule="max_iou"))))
    priors = priors_of(preset if isinstance(preset, str) else Own((4.0, 8.0), 3.0, (0.5, 1.0)), (128, 160))
    assert found["priors"]["count"] == len(priors) and found["rules"].keys() == set(rules)
    for name in rules:
        rule = RKA(similarity=lambda a, b: nwd(a, b, 12.8)) if name == "rka" else ASSIGNERS[name]()
        seen = (
            view_of(rule, "small" if str(preset).startswith("course") else "resnet50_fpn")(priors)
            if name == "rfla"
            else priors
        )
        expected = rule(seen, target_of(CROWD))
        prior, gt = expected.pairs()
        assert found["rules"][name]["positive"] == [
            list(pair) for pair in zip(prior.tolist(), gt.tolist(), strict=True)
        ]
        assert found["rules"][name]["ignored"] == expected.ignored.nonzero().squeeze(1).tolist()
        assert found["rules"][name]["per_object"] == expected.positives_per_gt(len(CROWD)).tolist()


def test_the_panels_are_what_explain_says():
    found = answer(asked(rules=["fcos", "atss k=5"], chosen=4, panel_rule="atss k=5"))["panels"]
    told = ATSS(k=5).explain(priors_of("course-anchors", (128, 160)), target_of(CROWD))
    own, lost = told.chosen.gt == 4, told.losers.gt == 4
    assert [prior for prior, _ in found["chosen"]] == told.chosen.prior[own].tolist()
    assert [value for _, value in found["chosen"]] == told.chosen.value[own].tolist()
    assert len(found["candidates"]) == int((told.candidates.gt == 4).sum()) > len(found["chosen"])
    assert found["winners"] == told.winners.prior[told.winners.gt == 4].tolist()
    assert found["losers"] == [
        list(two) for two in zip(told.losers.prior[lost].tolist(), told.taken_by[lost].tolist(), strict=True)
    ]
    assert found["bar"] == float(told.bar[4]) and found["story"] == told.story(4)
    contested = answer(asked(priors="fcos", rules=["topk"], chosen=4, panel_rule="topk"))["panels"]["losers"]
    assert contested and all(0 <= rival < len(CROWD) and rival != 4 for _, rival in contested)
    far = answer(asked(objects=[[-900, -900, -890, -890]], rules=["topk"], chosen=0, panel_rule="topk"))
    assert far["panels"]["bar"] is None and far["rules"]["topk"]["per_object"] == [0]


def test_a_shift_is_the_object_moved_and_asked_again():
    shift = {"object": 2, "axis": "y", "offsets": [-7, 0, 3.5]}
    found = answer(asked(rules=["max_iou", "fcos"], shift=shift))["shift"]
    for index, offset in enumerate(shift["offsets"]):
        moved = CROWD.clone()
        moved[2, 1::2] += offset
        again = answer(asked(rules=["max_iou", "fcos"], objects=moved.tolist()))["rules"]
        assert {rule: counts[index] for rule, counts in found.items()} == {
            rule: labels["per_object"][2] for rule, labels in again.items()
        }
    assert len(set(found["fcos"])) > 1


def test_heat_is_the_similarity_of_every_prior_with_the_chosen_object():
    priors = priors_of("course-anchors", (128, 160))
    found = torch.tensor(answer(asked(chosen=1, heat="nwd"))["heat"])
    torch.testing.assert_close(found, nwd(priors.boxes, CROWD[1], 12.8), rtol=0, atol=6e-6)
    assert answer(asked(heat="nwd"))["heat"] is None


def test_constants_may_be_left_out_and_may_be_said():
    assert rule_of("rka").similarity.keywords == {"constant": 12.8}
    assert rule_of("rka k=2 similarity=dotd similarity.constant=7").similarity.keywords == {"constant": 7}
    assert rule_of("topk similarity=simd").similarity.keywords == {"m": 6.13, "n": 4.59}


def test_no_object_and_no_rule_are_answers_too():
    found = answer(asked(objects=[], rules=["max_iou", "fcos"]))
    assert found["rules"]["fcos"] == {"positive": [], "ignored": [], "per_object": []}
    assert answer(asked(rules=[]))["rules"] == {}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"size": [128]}, r"size must be \[height, width\]"),
        ({"size": [128, 1e9]}, r"size\[1\] must be a number from 1 to 2048"),
        ({"size": [128, True]}, r"size\[1\] must be a number"),
        ({"priors": "yolo"}, "priors must be one of retinanet, fcos"),
        ({"priors": {"strides": []}}, "strides must be a list of 1 to 8"),
        ({"priors": {"strides": [0]}}, r"strides\[0\] must be a number from 1"),
        ({"size": [2048, 2048], "priors": {"strides": [1]}}, "priors must be at most 400000"),
        (
            {"size": [600, 600], "priors": {"strides": [1]}, "objects": [[0, 0, 5, 5]] * 100},
            "objects must be at most 88",
        ),
        ({"objects": "all"}, "objects must be a list"),
        ({"objects": [[0, 0, 5]]}, r"objects\[0\] must be \[x1, y1, x2, y2\]"),
        ({"objects": [[0, 0, 5, 0]]}, r"objects\[0\] must have x1 < x2"),
        ({"objects": [[0, 0, 5, float("nan")]]}, r"objects\[0\]\[3\] must be a number"),
        ({"objects": [[0, 0, 5, 5]] * 201}, "objects must be a list of 0 to 200"),
        ({"rules": ["atss", "atss"]}, "every rule once"),
        ({"rules": ["at"]}, "did you mean 'atss'"),
        ({"rules": ["atss k"]}, "must be NAME=VALUE"),
        ({"rules": ["atss k=0"]}, "k must be a whole number"),
        ({"rules": ["atss size=3"]}, "atss takes"),
        ({"rules": ["atss k=99999999999999999999"]}, "k must be int"),
        ({"rules": ["os:system"]}, "registered rules"),
        ({"rules": ["topk similarity=os:getcwd"]}, "registered rules"),
        ({"rules": ["simota"]}, "asks for a network's predictions"),
        ({"rules": ["rfla"], "priors": OWN}, "rfla assigns receptive fields"),
        ({"chosen": 15}, "chosen must be null or an object's index below 15"),
        ({"panel_rule": "fcos"}, "panel_rule must be one of the rules"),
        ({"heat": "likeness"}, "heat must be one of"),
        ({"shift": {"object": 0, "axis": "z", "offsets": [0]}}, "shift.axis must be"),
        ({"shift": {"object": None, "axis": "x", "offsets": [0]}}, "shift.object must be"),
        ({"shift": {"object": 0, "axis": "x", "offsets": [0] * 66}}, "offsets must be a list of 1 to 65"),
        ({"id": [1]}, "id must be"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        answer(asked(**fields))


def test_a_question_is_an_object():
    with pytest.raises(ValueError, match="a question must be an object"):
        answer([])


def test_an_address_and_a_scene_are_the_same_thing():
    text = "#size=128,96&priors=4,8x4:0.5,1&objects=1,2,8,9.5;30,30,40,44"
    text += "&rules=max_iou;rka+k=5&chosen=1&panel_rule=rka+k=5&heat=nwd"
    scene = read_state(text)
    assert scene == {
        "size": [128, 96],
        "priors": {"strides": [4, 8], "scale": 4, "ratios": [0.5, 1]},
        "objects": [[1, 2, 8, 9.5], [30, 30, 40, 44]],
        "rules": ["max_iou", "rka k=5"],
        "chosen": 1,
        "panel_rule": "rka k=5",
        "heat": "nwd",
    }
    assert f"#{write_state(scene)}" == text
    points = read_state("priors=4,8")
    assert (
        points == checked({"priors": {"strides": [4, 8], "scale": None, "ratios": [1]}})
        and points["size"] == DEFAULTS["size"]
    )
    assert read_state(write_state(points)) == points
    with pytest.raises(ValueError, match="objects must be numbers"):
        read_state("objects=1,2,x,4")
    for text, sentence in (
        ("size=inf,9", r"size\[0\] must be a number from 1 to 2048, got inf"),
        ("size=9,9.5", r"size\[1\] must be a whole number, got 9.5"),
        ("chosen=inf&objects=1,1,3,3", "chosen must be null or an object's index below 1, got inf"),
        ("chosen=0.5&objects=1,1,3,3", "chosen must be null or an object's index below 1, got 0.5"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_state(text)


@pytest.mark.parametrize("wrong", [5, "atss", ("atss",), None])
def test_rules_that_are_no_list_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match="rules must be a list of 0 to 8 entries, got"):
        checked({"rules": wrong})


def test_a_scene_that_is_changed_changes_no_other():
    for make in (opening.opened, lambda: read_state("size=64,64")):
        made = make()
        for field in ("size", "objects", "rules"):
            made[field].append("more") if isinstance(made, dict) else made.scene[field].append("more")
        again = make()
        assert "more" not in str(again)


def test_an_explorer_opens_names_addresses_and_pixels():
    assert opening.opened("crowd").scene["objects"] == CROWD.tolist()
    first = answer(opening.opened().scene)["rules"]
    assert [first[rule]["per_object"][0] for rule in ("max_iou", "fcos", "atss", "rka")] == [1, 0, 0, 3]
    assert opening.opened("thin", rules=["fcos"]).scene["rules"] == ["fcos"]
    assert opening.opened("size=64,64&objects=1,1,9,9").scene["objects"] == [[1, 1, 9, 9]]
    large = opening.opened(image=torch.rand(3, 400, 1600), boxes=[[10, 20, 30, 60]])
    assert large.scene["size"] == [200, 800] and large.scene["objects"] == [[5, 10, 15, 30]]
    assert large.picture.startswith(b"\x89PNG") and "1600 x 400 px are shown as 800 x 200" in large.notes[0]
    with pytest.raises(ValueError, match="scene must be one of one big"):
        opening.opened("everything")
    with pytest.raises(ValueError, match=r"image must be a file, or pixels of shape \[3, H, W\]"):
        opening.opened(image=torch.rand(4, 3))
    with pytest.raises(ValueError, match=r"of shape \[3, H, W\], got shape \[3, 0, 4\]"):
        opening.opened(image=torch.rand(3, 0, 4))
    with pytest.raises(ValueError, match=r"of shape \[3, H, W\], got object"):
        opening.opened(image=object())
    for pixels, found in (
        (torch.full((3, 4, 4), 255), "int64 from 255"),
        (torch.full((3, 4, 4), 9.0), "float32 from 9"),
    ):
        with pytest.raises(ValueError, match=rf"uint8, or floats in 0\.\.1, got torch\.{found}"):
            opening.opened(image=pixels)


def test_annotations_bring_the_boxes_of_a_picture(tmp_path):
    folder = in_folders(tmp_path) / "train"
    coco = json.loads((folder / "annotations.json").read_text())
    second = coco["images"][1]
    own = [one["bbox"] for one in coco["annotations"] if one["image_id"] == second["id"]]
    (picture,) = folder.rglob(second["file_name"])
    found = opening.from_files(picture, folder / "annotations.json")
    assert found.scene["objects"] == [[x, y, x + w, y + h] for x, y, w, h in own]
    assert found.scene["size"] == [second["height"], second["width"]] and found.picture
    assert f"{len(own)} objects" in found.notes[0]
    first = opening.from_files(None, folder / "annotations.json")
    assert first.scene["objects"] != found.scene["objects"]
    with pytest.raises(ValueError, match="holds no image of the name"):
        opening.from_files(tmp_path / "other.png", folder / "annotations.json")


def test_rfla_sees_receptive_fields():
    assert isinstance(rule_of("rfla"), RFLA)
    boxes = priors_of("course-points", (64, 64))
    fields = view_of(RFLA(), "small")(boxes)
    expected = RFLA()(fields, target_of(CROWD[:1])).pairs()[0].tolist()
    found = answer(asked(size=[64, 64], priors="course-points", objects=CROWD[:1].tolist(), rules=["rfla"]))
    assert [prior for prior, _ in found["rules"]["rfla"]["positive"]] == expected
