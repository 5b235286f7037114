"""Whose folder it is: a failed start leaves it free, what is written is what ran, and old configurations still read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labelkit.training import Training, read_recipe, resume, runs, train
from labelkit.training.recipe import Recipe
from tests.squares import TINY, run, squares

RESULTS = sorted((Path(__file__).parents[2] / "data" / "results").glob("*-seed0.json"))
SHORT = replace(TINY, steps=2, checkpoint_every=2)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(data="nope"), "no folder 'nope'"),
        (Recipe(assigner="atts"), "did you mean 'atss'"),
        (Recipe(assigner="topk", assigner_args={"n": 3}), "topk takes"),
        (Recipe(weights="nope.pth"), "there is no file 'nope.pth'"),
        (Recipe(precision="12-bit"), "12-bit"),
    ],
)
def test_a_failed_start_leaves_no_folder(tmp_path, recipe, message):
    data = None if recipe.data == "nope" else (squares(2), squares(2))
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", data=data, progress=False, accelerator="cpu")
    assert not (tmp_path / "run").exists()


def test_an_empty_training_set_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="the training set holds no image"):
        train(SHORT, tmp_path / "run", data=(squares(0), squares(2)), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_free(tmp_path, monkeypatch):
    step = Training.training_step
    monkeypatch.setattr(Training, "training_step", lambda self, batch, i: step(self, batch, i) * float("nan"))
    with pytest.raises(FloatingPointError):
        run(replace(SHORT, lr=0.1), tmp_path)
    assert read_recipe(tmp_path).lr == 0.1
    monkeypatch.undo()
    run(SHORT, tmp_path)
    assert read_recipe(tmp_path).lr == SHORT.lr
    with pytest.raises(ValueError, match="already holds a run"):
        run(SHORT, tmp_path)
    (tmp_path / runs.LAST).unlink()  # a result alone is something to lose
    with pytest.raises(ValueError, match="already holds a run"):
        run(SHORT, tmp_path)


def test_the_configuration_holds_every_argument_of_the_rule(tmp_path):
    run(replace(SHORT, assigner="rka"), tmp_path)
    recipe = runs.read_json(tmp_path / runs.CONFIG)["recipe"]
    assert recipe["assigner_args"] == {"k": 3, "similarity": {"name": "nwd", "constant": 12.8}, "bg_thresh": 1.0}
    assert (recipe["detections"], recipe["topk_candidates"]) == (300, 1000)
    assert runs.load_checkpoint(tmp_path / runs.LAST)["labelkit"]["recipe"] == recipe


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_configuration_of_the_first_edition_still_reads(path):
    old = json.loads(path.read_text())["recipe"]
    recipe = Recipe.from_dict(old)
    written = recipe.as_dict()
    again = Recipe.from_dict(json.loads(json.dumps(written)))
    assert again.as_dict() == written and repr(again.rule()) == repr(recipe.rule())
    assert {name: written[name] for name in old if name != "assigner_args"} == {
        name: value for name, value in old.items() if name != "assigner_args"
    }
    assert old["assigner_args"].items() <= written["assigner_args"].items()


def test_a_run_of_the_first_edition_goes_on(tmp_path):
    recipe = replace(SHORT, assigner="rka", steps=4)

    class Stop(Exception):
        pass

    def stops(self, batch, batch_idx):
        if batch_idx == 2:
            raise Stop
        return step(self, batch, batch_idx)

    step = Training.training_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Training, "training_step", stops)
        run(recipe, tmp_path)
    config = runs.read_json(tmp_path / runs.CONFIG)
    later = ("loss", "quality", "bins", "second_assigner", "second_args", "second_weights", "warmup_assigner")
    later += ("warmup_args", "warmup_share", "nms_thresh")
    for name in ("detections", "topk_candidates", "plain_loss", *later):
        del config["recipe"][name]
    runs.write_json(tmp_path / runs.CONFIG, config | {"recipe": config["recipe"] | {"assigner_args": {}}})
    result = resume(tmp_path, data=(squares(), squares(4, seed=1)), progress=False, accelerator="cpu")
    assert result["scores"]["AP"] >= 0 and runs.load_checkpoint(tmp_path / runs.LAST)["global_step"] == 4
    with pytest.raises(ValueError, match=r"another configuration: assigner_args=\{'k': 3"):
        run(replace(recipe, assigner_args={"k": 9}), tmp_path, resume=True)
