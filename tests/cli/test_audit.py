"""`labelkit audit`: the report, its keys, its exit status, and what it says of input that it can't take."""

import hashlib
import json
import sys

import pytest

from labelkit.training import train
from labelkit.training.recipe import Recipe
from tests.cli import calling
from tests.squares import in_folders


def call(*arguments):
    return calling.call("audit", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train and val."""
    return in_folders(tmp_path_factory.mktemp("audit"))


def numbers(*arguments):
    result = call(*arguments, "--json", "--no-what-if")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_keys_that_others_read(data, tmp_path):
    result = call(data, "--detector", "small", "--json", "--out", tmp_path / "new" / "out")
    found = json.loads(result.stdout)
    assert json.loads((tmp_path / "new" / "out" / "audit.json").read_text()) == found
    assert found["objects"] == 8 and found["images"] == 4
    assert found["output"].keys() >= {"detections_per_image", "recall_ceiling", "recall_ceiling_coco"}
    assert found["anchors"].keys() == {"count", "reachable_50", "median_best_iou"}
    assert found["rules"]["max_iou"].keys() >= {"starved", "positives_per_object"}
    assert found["sizes"][0].keys() == {"from", "to", "objects", "best_iou", "reachable_50", "rules"}
    assert found["what_if"][0].keys() >= {"change", "anchors", "reachable_50", "starved"}
    assert [row["change"] for row in found["what_if"]][:2] == ["as it is", "anchors from 8 px"]


def test_the_page_stands_beside_the_numbers(data, tmp_path):
    result = call(data, "--min-size", 32, "--max-size", 32, "--no-what-if", "--quiet", "--out", tmp_path)
    page = (tmp_path / "audit.html").read_text()
    made = json.loads((tmp_path / "audit.json").read_text())["made_by"]
    assert result.exit_code == 0 and made["sha256"] in page and made["file"] in page
    assert made["sha256"] == hashlib.sha256((data / "train" / "annotations.json").read_bytes()).hexdigest()
    assert page.count("data:image/jpeg") == 4  # boxes of 5 to 12 px at the input are beyond its anchors


def test_tiles_and_strides_are_other_inputs_and_other_anchors(data):
    tiled = numbers(data, "--detector", "small", "--tile", 32, "--overlap", 8)
    whole = numbers(data, "--detector", "small")
    assert tiled["tiles"] == {"side": 32, "overlap": 8} and tiled["objects"] == whole["objects"]
    assert tiled["anchors"]["count"] == 9 * whole["anchors"]["count"] / 4  # 3 x 3 tiles of a quarter of the picture
    finer = numbers(data, "--detector", "small", "--strides", "2,4,8", "--workers", 2)
    assert finer["anchors"]["count"] == 4 * whole["anchors"]["count"]


def test_broken_entries_are_named_and_the_rest_is_audited(data, tmp_path):
    content = json.loads((data / "train" / "annotations.json").read_text())
    content["annotations"][3]["bbox"] = [1, 2, 3, -4]
    content["annotations"].append({"id": 77, "image_id": 1, "category_id": 99, "bbox": [1, 1, 5, 5]})
    file = tmp_path / "own.json"
    file.write_text(json.dumps(content))
    result = call(file, "--detector", "small", "--no-what-if", "--json")
    found = json.loads(result.stdout)
    assert found["objects"] == 7 and found["faults"] == {
        "annotation: zero-size box": 1,
        "annotation: unknown category": 1,
    }
    for said in (
        f"{file}: annotation id 4: bbox must have a positive width and height, got [1, 2, 3, -4]",
        "annotation id 77",
    ):
        assert said in result.stderr and any(said in problem for problem in found["data"]["problems"])
    assert "with the sizes that the file states" in result.stderr  # no picture beside it


def test_an_interrupt_writes_what_was_seen_and_ends_with_130(data, tmp_path, monkeypatch):
    def stopped(pictures, *_, **__):
        yield from pictures[:1]
        raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.track", stopped)
    monkeypatch.setattr("labelkit.audit.work.FEW", 1)
    monkeypatch.setattr("labelkit.audit.work.PORTIONS", 4)
    result = call(data, "--detector", "small", "--out", tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    assert result.exit_code == 130 and found["partial"] and found["images"] == 1
    assert "stopped: the rest was not looked at" in result.output and "stopped" in (tmp_path / "audit.html").read_text()


def test_the_report_names_the_three_causes(data):
    said = call(data, "--detector", "small", "--no-what-if").output
    assert all(cause in said for cause in ("1. OUTPUT", "2. ANCHORS", "3. RULE", "ook")) and "side at input" in said
    assert call(data, "--detector", "small", "--no-what-if", "--quiet").output == ""


def test_which_pictures_which_detector_which_rule(data):
    assert numbers(data, "--detector", "small", "--split", "val")["objects"] == 4
    assert numbers(data / "val", "--detector", "small", "--detections", 1)["output"]["detections_per_image"] == 1
    given = ["--set", "k=1", "--set", "similarity=nwd", "--set", "similarity.constant=8"]
    found = numbers(data, "--detector", "small", "--assigner", "topk", "--assigner", "rka", *given)
    assert {name: rule["positives_per_object"] for name, rule in found["rules"].items()} == {"topk": 1, "rka": 1}
    larger = numbers(data, "--min-size", 64, "--max-size", 64, "--sizes", "4,8,16,32,64")
    assert larger["anchors"]["count"] == 64 + 16 + 4 + 1 + 1
    assert numbers(data, "--detector", "fcos", "--min-size", 64)["anchors"]["reachable_50"] is None


def test_a_run_brings_its_detector_and_its_rule(data, tmp_path):
    recipe = Recipe(data=str(data), steps=1, batch_size=2, assigner="topk", assigner_args={"k": 2})
    train(recipe, tmp_path / "run", progress=False, accelerator="cpu")
    found = numbers(data, "--run", tmp_path / "run")
    assert found["detector"] == "AssignedRetinaNet" and found["rules"]["topk"]["rule"] == "TopK(k=2)"
    assert found["tiles"] is None


def test_a_run_brings_its_tiles(data, tmp_path):
    """As it was trained, and as `predict` cuts: another overlap of the same tiles, other tiles, none."""
    run = tmp_path / "run"
    train(Recipe(data=str(data), steps=1, batch_size=2, tile=40, overlap=24), run, progress=False, accelerator="cpu")
    found = numbers(data, "--run", run)
    assert found["tiles"] == {"side": 40, "overlap": 24}
    assert found == numbers(data, "--run", run, "--tile", 40, "--overlap", 24) | {"made_by": found["made_by"]}
    for words, tiles in (
        (["--overlap", 4], {"side": 40, "overlap": 4}),
        (["--tile", 32], {"side": 32, "overlap": 8}),
        (["--tile", 0], None),
    ):
        assert numbers(data, "--run", run, *words)["tiles"] == tiles
    result = call(data, "--run", run, "--tile", 0, "--overlap", 4)
    assert result.exit_code == 1 and "--overlap is for the tiles" in result.output


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("ceiling<1%", 0),
        ("ceiling>.5", 3),
        ("ceiling<2.", 3),
        ("ceiling > 0.5", 3),
        ("starved>100%", 0),
        ("reachable<101%", 3),
        ("starved<0.01", 3),
    ],
)
def test_fail_if_is_the_exit_status(data, condition, status):
    result = call(data, "--detector", "small", "--no-what-if", "--quiet", "--fail-if", condition)
    assert result.exit_code == status
    assert (f"{condition} holds" in result.output) == (status == 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--detector", "yolo"], "detector must be one of retinanet, "),
        (["--fail-if", "hungry>5%"], "--fail-if must be like"),
        (["--fail-if", "starved>1.2.3"], "--fail-if must be like"),
        (["--fail-if", "starved>."], "--fail-if must be like"),
        (["--set", "k=3"], "none is named"),
        (["--assigner", "simota"], "asks a network for its predictions"),
        (["--min-size", "0"], "min_size must be at least 1, got 0"),
        (["--detections", "0"], "detections must be at least 1, got 0"),
        (["--sizes", "8,x"], "--sizes and --ratios must be numbers, got None, '8,x', None"),
        (["--sizes", "8,-1"], "sizes and ratios must be positive"),
        (["--sizes", "8,nan"], "sizes and ratios must be positive and finite"),
        (["--detector", "small", "--sizes", "8"], "sizes must have one entry for each level, got 1 for 3 strides"),
        (["--detector", "small", "--ratios", "2"], "--ratios is for the anchors that --sizes names"),
        (["--detector", "fcos", "--sizes", "8,16,32,64,128"], "begins from points"),
        (["--detector", "ssd300", "--strides", "8"], "hang on its input's size"),
        (["--tile", "40", "--overlap", "40"], "overlap must be at least 0 and below the tile of 40 px, got 40"),
        (["--overlap", "4"], "--overlap is for the tiles that --tile asks for"),
        (["--workers", "-1"], "workers must be at least 1, got -1"),
        (["--detector", "ssd300", "--min-size", "10"], "an SSD300 has an input of 300 x 300"),
        (["--split", "test"], "there is no 'test' split"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_1(data, arguments, said):
    result = call(data, *arguments)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


def test_the_courses_data_has_no_folder_of_images(tmp_path):
    result = call("sky", "--images", tmp_path)
    assert result.exit_code == 1 and "sky is made in memory" in result.output


def test_the_courses_data_has_the_splits_that_files_have():
    result = call("digits", "--split", "typo")
    assert result.exit_code == 1 and "--split must be train, val or test, got 'typo'" in result.output


def test_a_rule_and_a_similarity_of_ones_own(data, tmp_path, monkeypatch):
    text = "from labelkit.assigners import TopK\nfrom labelkit.similarity import iou\n"
    text += "class Mine(TopK):\n    pass\n"
    text += "class Plain(TopK):\n    def __init__(self):\n        super().__init__(k=2)\n"
    text += "def rule(priors, targets, predictions):\n    return TopK()(priors, targets)\n"
    text += "def alike(prior, gt, share=1.0):\n    return share * iou(prior, gt)\n"
    (tmp_path / "audited.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    words = ["--set", "k=2", "--set", "similarity=audited:alike"]
    found = numbers(data, "--detector", "small", "--assigner", "audited:Mine", *words)
    theirs = numbers(data, "--detector", "small", "--assigner", "topk", "--set", "k=2")
    assert found["rules"].keys() == {"audited:Mine"}
    wanted = theirs["rules"]["topk"]["positives_per_object"]
    assert found["rules"]["audited:Mine"]["positives_per_object"] == wanted
    plain = numbers(data, "--detector", "small", "--assigner", "audited:Plain")
    assert plain["rules"]["audited:Plain"]["positives_per_object"] == wanted
    for name, message in (
        ("audited:Mien", "audited has no 'Mien'"),
        ("audited:rule", "must be a labelkit.assigners.Assigner"),
    ):
        result = call(data, "--detector", "small", "--assigner", name)
        assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output
