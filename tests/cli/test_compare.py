"""`labelkit compare`: one command for several rules, resumable, with a table, a picture and JSON."""

import json
from importlib import import_module

import pytest

from labelkit.cli.compare import recipes
from labelkit.training.recipe import Recipe
from tests.cli.calling import call
from tests.squares import in_folders

TINY = ["--steps", "2", "--batch-size", "2", "--device", "cpu", "--seeds", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return in_folders(tmp_path_factory.mktemp("mine"))


def test_rules_with_their_arguments_become_recipes():
    base = Recipe(steps=3)
    found = recipes(["atss", "rka  similarity=dotd k=2", "hungarian weights=[2,0,2]"], base)
    assert list(found) == ["atss", "rka similarity=dotd k=2", "hungarian weights=[2,0,2]"]
    assert found["rka similarity=dotd k=2"] == Recipe(
        steps=3, assigner="rka", assigner_args={"similarity": "dotd", "k": 2}
    )
    assert found["hungarian weights=[2,0,2]"].assigner_args == {"weights": [2, 0, 2]}
    with pytest.raises(ValueError, match="'atss' twice"):
        recipes(["atss", "atss "], base)
    with pytest.raises(ValueError, match="--assigner must be NAME=VALUE, got 'k'"):
        recipes(["topk k"], base)


def test_one_command_trains_compares_and_goes_on(folder, tmp_path):
    words = ["compare", folder, "--assigner", "max_iou", "--assigner", "topk k=2", *TINY, "--out", tmp_path / "out"]
    first = call(*words)
    assert first.exit_code == 0, first.output
    assert "[2/2] topk k=2, seed 0: AP" in first.output and "3 or more" in first.output
    assert (tmp_path / "out" / "comparison.md").is_file() and (tmp_path / "out" / "comparison.png").is_file()
    again = call(*words, "--json")
    told = json.loads(again.stdout)
    assert set(told["rules"]) == {"max_iou", "topk k=2"} and told["baseline"] == "max_iou" and told["limit"] is None
    assert told["rules"]["topk k=2"]["seeds"]["0"]["recipe"]["assigner_args"]["k"] == 2
    assert call(*words, "--quiet").output == ""


def test_rules_are_compared_in_tiles(folder, tmp_path):
    words = ["compare", folder, "--assigner", "atss", "--assigner", "topk", *TINY, "--out", tmp_path / "out", "--json"]
    tiled = call(*words, "--tile", 40, "--overlap", 24)
    assert tiled.exit_code == 0, tiled.output
    for name, rule in json.loads(tiled.stdout)["rules"].items():
        recipe = rule["seeds"]["0"]["recipe"]
        assert (recipe["assigner"], recipe["tile"], recipe["overlap"]) == (name, 40, 24)
    whole = call(*words)
    assert whole.exit_code == 1 and "another configuration: tile=40, overlap=24" in whole.output


def test_the_first_seed_can_be_named(folder, tmp_path, monkeypatch):
    entry = {
        "preset": "coco",
        "scores": {"AP": 0.3, "AP50": 0.4},
        "scores_no_nms": {"AP": 0.1},
        "positives": {"0-8": {"gts": 2, "positives": 1.0, "starved": 0.5}},
        "seconds": {"training": 1.0},
    }
    monkeypatch.setattr(import_module("labelkit.training.compare"), "_entry", lambda *_: entry)
    result = call("compare", folder, "--assigner", "atss", *TINY, "--first-seed", "7", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "[1/1] atss, seed 7: AP 30.0" in result.output


def test_what_is_wrong_is_one_line(folder, tmp_path):
    for words, told in (
        (["--assigner", "nothing"], "nothing"),
        (["--assigner", "atss", "--baseline", "topk"], "baseline must be one of atss, got 'topk'"),
        (["--assigner", "atss k=0"], "k"),
        (["--assigner", "atss", "--overlap", 4], "overlap is that of tiles, and there is no tile: got 4"),
    ):
        result = call("compare", folder, *words, *TINY, "--out", tmp_path / "none")
        assert result.exit_code == 1 and result.output.startswith("Error: ") and told in result.output
        assert len(result.output.splitlines()) == 1 and not (tmp_path / "none").exists()


def test_ctrl_c_says_how_to_go_on(folder, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("labelkit.training.compare"), "train", stopped)
    result = call("compare", folder, "--assigner", "atss", *TINY, "--out", tmp_path / "out")
    assert result.exit_code == 130 and "The same command goes on" in result.output
