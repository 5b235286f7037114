"""A run whose rule works on the CPU beside the network: the same run, and its targets stay where they are."""

from dataclasses import replace

import pytest
import torch
from torch.distributed.utils import _recursive_to

from labelkit.training import Training, load_detector, read_recipe, runs
from labelkit.training.recipe import Recipe
from tests.squares import TINY, run, squares
from tests.training.stopped import Stop

BESIDE = replace(TINY, assigner="atss", warmup_assigner="max_iou", second_assigner="topk", assign_on="cpu")


def test_a_run_with_it_is_the_run_without_it_and_so_is_one_that_was_stopped(tmp_path):
    run(replace(BESIDE, assign_on=None), tmp_path / "plain")
    with pytest.raises(KeyboardInterrupt):
        run(BESIDE, tmp_path / "beside", callbacks=[Stop(6)])
    run(BESIDE, tmp_path / "beside", resume=True)
    plain, beside = ((tmp_path / name / runs.METRICS).read_text() for name in ("plain", "beside"))
    assert plain == beside and plain.count("\n") == 13
    ours, theirs = (runs.load_checkpoint(tmp_path / name / runs.LAST)["state_dict"] for name in ("beside", "plain"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (runs.read_json(tmp_path / name / runs.RESULT) for name in ("beside", "plain"))
    assert ours["positives"] == theirs["positives"] and ours["scores"] == theirs["scores"]
    assert read_recipe(tmp_path / "beside").assign_on == "cpu" and read_recipe(tmp_path / "plain").assign_on is None
    assert load_detector(tmp_path / "beside")[0].assign_on == "cpu"
    with pytest.raises(ValueError, match="another configuration: assign_on='cpu'"):
        run(replace(BESIDE, assign_on=None), tmp_path / "beside", resume=True)


def test_every_step_is_taken_on_the_cpu_also_after_the_warm_up(tmp_path, monkeypatch):
    step, places = Training.training_step, []

    def told(self, batch, batch_idx):
        places.append((type(self.detector.assigner).__name__, self.detector.assign_on))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", told)
    run(replace(BESIDE, steps=3), tmp_path / "run")
    assert places == [("MaxIoU", "cpu"), ("ATSS", "cpu"), ("ATSS", "cpu")]


def test_targets_stay_and_images_move_whoever_moves_the_batch():
    images, targets = [torch.rand(3, 8, 8)], [{"boxes": torch.zeros(1, 4), "labels": torch.zeros(1, dtype=torch.int64)}]

    def moved(recipe):
        """By Lightning to the device of a process, and then by DDP, which moves what is not there."""
        module = Training(recipe, squares(2), squares(2))
        batch = module.transfer_batch_to_device((images, targets), torch.device("meta"), 0)
        return _recursive_to(batch, torch.device("meta"), False)[0]

    there, kept = moved(BESIDE)
    assert there[0].is_meta and len(kept) == 1 and kept[0] is targets[0] and [*kept] == targets
    there, kept = moved(TINY)
    assert there[0].is_meta and kept[0]["boxes"].is_meta and kept[0]["labels"].is_meta


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"assigner": "tal"}, "assigner TaskAligned needs them"),
        ({"assigner": "atss", "second_assigner": "poto"}, "second_assigner POTO needs them"),
        ({"assigner": "atss", "warmup_assigner": "hambox"}, "warmup_assigner HAMBox needs them"),
    ],
)
def test_a_recipe_with_a_rule_that_needs_predictions_is_refused_before_data_are_loaded(options, wrong):
    with pytest.raises(ValueError, match=f"assign_on='cpu' is for rules that need no predictions, .* {wrong}"):
        Recipe(assign_on="cpu", **options).rules()


def test_another_place_is_refused():
    with pytest.raises(ValueError, match="assign_on must be one of cpu, got 'gpu'"):
        Recipe(assign_on="gpu")
