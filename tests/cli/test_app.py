"""The command line: one command trains on a folder of one's own, and an error is a sentence."""

import json
import re

import pytest
from typer.testing import CliRunner

from labelkit.cli.app import app
from labelkit.cli.arguments import parse_arguments
from labelkit.training import read_recipe
from tests.squares import squares

TINY = ["--steps", "2", "--batch-size", "2"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set as a user has it: train and val, each with annotations.json and images."""
    root = tmp_path_factory.mktemp("mine")
    squares(4).to_coco(root / "train")
    squares(2, seed=1).to_coco(root / "val")
    return root


def test_one_command_trains_measures_and_resumes(folder, tmp_path):
    out = tmp_path / "run"
    trained = call("train", "--data", folder, "--assigner", "topk", "--set", "k=3", *TINY, "--out", out)
    assert trained.exit_code == 0, trained.output
    assert "AP50" in trained.output and read_recipe(out).assigner_args == {"k": 3, "similarity": "iou"}
    again = call("train", "--out", out, "--resume")
    assert again.exit_code == 0, again.output
    measured = call("evaluate", out, "--preset", "aitod")
    assert measured.exit_code == 0 and "AP50 verytiny" in measured.output
    elsewhere = call("evaluate", out, "--data", folder / "train", "--which", "last")
    assert elsewhere.exit_code == 0, elsewhere.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--assigner", "atts"], "assigner must be one of max_iou, fcos, .* got 'atts'; did you mean 'atss'?"),
        (["--assigner", "topk", "--set", "n=3"], r"topk takes .*k.*unexpected keyword argument 'n'"),
        (["--assigner", "rka", "--set", "similarity=ndw"], "similarity must be one of .* did you mean 'nwd'?"),
        (["--assigner", "topk", "--set", "k"], "--set must be NAME=VALUE, got 'k'"),
        (["--data", "no/such/folder"], "there is no folder 'no/such/folder'"),
        (["--data", "trees:3"], "data must be trees, trees:0, trees:1 or trees:2, got 'trees:3'"),
        (["--detector", "yolo"], "detector must be one of retinanet, fcos, got 'yolo'"),
        (["--weights", "coco"], "weights must be None for the small backbone"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing_to_resume(tmp_path, arguments, message):
    out = tmp_path / "run"
    small = [] if "--data" in arguments else ["--data", tmp_path]
    if not any(word in arguments for word in ("--data", "--steps", "--detector", "--assigner")):
        squares(2).to_coco(tmp_path)
    result = call("train", *small, *arguments, "--out", out)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert re.search(message, result.output.replace("\n", " ")), result.output


def test_a_broken_annotation_file_is_counted_or_refused(folder, tmp_path):
    squares(3).to_coco(tmp_path / "train")
    path = tmp_path / "train" / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][0]["bbox"] = [10, 10, 0, 5]
    path.write_text(json.dumps(coco))
    common = ["train", "--data", tmp_path, "--val", folder / "val", *TINY]
    strict = call(*common, "--strict", "--out", tmp_path / "strict")
    assert strict.exit_code == 1 and "annotation id 1" in strict.output and "[10, 10, 0, 5]" in strict.output
    counted = call(*common, "--out", tmp_path / "counted")
    assert counted.exit_code == 0, counted.output
    assert "kept 3 of 3 images, 5 of 6 annotations" in counted.output
    path.write_text(path.read_text()[:200])
    cut = call(*common, "--out", tmp_path / "cut")
    assert cut.exit_code == 1 and "annotations.json: not JSON" in cut.output


def test_a_folder_without_a_run_is_named(tmp_path):
    result = call("evaluate", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.output


def test_arguments_are_plain_values():
    pairs = ["k=3", "similarity=nwd", "similarity.constant=12.8", "rescue=true", "center_radius=none", "variant=paper"]
    assert parse_arguments(pairs) == {
        "k": 3,
        "similarity": {"name": "nwd", "constant": 12.8},
        "rescue": True,
        "center_radius": None,
        "variant": "paper",
    }
    other_order = parse_arguments(["similarity.constant=5", "similarity=dotd"])
    assert other_order["similarity"] == {"name": "dotd", "constant": 5}
