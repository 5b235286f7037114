"""`labelkit evaluate`: a run measured on its own data or other, under a preset that sees what it counts."""

import json

import pytest

from labelkit.training import train
from labelkit.training.recipe import Recipe
from tests.cli.calling import call
from tests.squares import in_folders


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the folder of a short run, the data that it was trained on)"""
    root = tmp_path_factory.mktemp("evaluate")
    in_folders(root / "mine")
    recipe = Recipe(data=str(root / "mine"), steps=2, batch_size=2)
    train(recipe, root / "run", progress=False, accelerator="cpu")
    return root / "run", root / "mine"


def scores(*arguments):
    result = call("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["scores"]


def test_a_table_or_json_or_nothing(run):
    shown = call("evaluate", run[0], "--preset", "aitod")
    assert shown.exit_code == 0 and "AP50 verytiny" in shown.output
    assert call("evaluate", run[0], "--quiet").output == ""
    result = json.loads(call("evaluate", run[0], "--preset", "aitod", "--json").stdout)
    assert set(result) == {"run", "preset", "scores"} and result["scores"]["AP_verytiny"] is None


def test_train_and_evaluate_take_the_same_data(run):
    folder, mine = run
    own = scores(folder)
    assert own["num_gts"] == 4 and scores(folder, "--data", mine) == scores(folder, "--data", mine / "val") == own
    assert scores(folder, "--data", mine / "train", "--which", "last")["num_gts"] == 8


def test_the_detector_sees_what_the_preset_counts(run, monkeypatch):
    limits = []

    def detect(detector, dataset, batch_size, tiling):
        assert tiling is None
        limits.append((detector.detections_per_img, detector.topk_candidates))
        nothing = {"boxes": dataset.targets[0]["boxes"][:0], "scores": [], "labels": dataset.targets[0]["labels"][:0]}
        return [nothing] * len(dataset)

    monkeypatch.setattr("labelkit.training.measuring.detect", detect)
    for arguments in ([], ["--preset", "aitod"], ["--preset", "coco"], ["--detections", "5"]):
        call("evaluate", run[0], *arguments)
    assert limits == [(300, 1000), (1500, 5000), (300, 1000), (5, 1000)]


def test_a_ceiling_is_named(run):
    low = call("evaluate", run[0], "--detections", "1")
    assert low.exit_code == 0 and "holds 2 objects, more than the 1 that the detector returns" in low.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "typo"], "preset must be one of coco, aitod, soda_d, course, got 'typo'"),
        (["--which", "first"], "which must be 'best' or 'last', got 'first'"),
        (["--device", "gpu"], "device must be auto, cpu"),
        (["--detections", "0"], "detections must be at least 1, got 0"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["--data", "nope"], "there is no folder 'nope'"),
    ],
)
def test_errors_come_before_the_work(run, arguments, message, monkeypatch):
    monkeypatch.setattr("labelkit.training.measuring.detect", lambda *_: pytest.fail("worked first"))
    result = call("evaluate", run[0], *arguments)
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output


def test_a_folder_without_a_run_is_named(tmp_path):
    result = call("evaluate", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.output
