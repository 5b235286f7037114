"""What a recipe says beside the rule: losses, heads, a second head, a rule to begin with; each of them resumes."""

from dataclasses import replace

import pytest
import torch

from labelkit.assigners import ATSS, TopK
from labelkit.detectors import LOSSES, LossRule, progressive_weights
from labelkit.detectors.assigned_retinanet import BOX_LOSSES, DELTA_LOSSES
from labelkit.detectors.heads import PointHead
from labelkit.detectors.loss_rule import CHOICES, METHODS
from labelkit.detectors.second_head import TwoHeads
from labelkit.training import Training, load_detector, recipe, resume, runs
from labelkit.training.measuring import positives_by_size
from labelkit.training.recipe import Recipe
from labelkit.training.weights import start_from_file
from tests.squares import TINY, run, squares

DUAL = replace(TINY, assigner="topk", second_assigner="topk", second_args={"k": 1}, second_weights="progressive")
WARM = replace(TINY, assigner="topk", warmup_assigner="max_iou", warmup_share=0.5)


def rows(folder):
    head, *lines = (folder / runs.METRICS).read_text().splitlines()
    return [dict(zip(head.split(","), map(float, line.split(",")), strict=True)) for line in lines]


def test_the_names_that_a_recipe_knows_without_torch_are_those_there_are():
    assert set(recipe.LOSSES) == {None, *LOSSES} and set(recipe.BOX_LOSSES) == {*DELTA_LOSSES, *BOX_LOSSES}
    assert {*recipe.QUALITIES} - {"none"} == {*CHOICES["quality"]}
    assert set(recipe.ARGUMENTS_OF) | set(recipe.ARGUMENTS_OF.values()) <= {*vars(Recipe())}


def test_a_recipe_says_which_loss_and_which_head():
    assert Recipe(loss="vfl").build(1).loss_rule == LOSSES["vfl"]
    assert Recipe(assigner="hambox", loss="focal").build(1).loss_rule == LossRule()
    assert Recipe(assigner="hambox").build(1).loss_rule == METHODS["hambox", None]
    gfl = Recipe(detector="fcos", assigner="atss", loss="qfl", bins=17).build(1)
    assert isinstance(gfl.head, PointHead) and gfl.head.regression_head.bins == 17 and not gfl.head.scored
    with_iou = Recipe(detector="fcos", loss="qfl", quality="iou").build(1)
    assert with_iou.loss_rule == replace(LOSSES["qfl"], quality="iou") and not isinstance(with_iou.head, PointHead)
    assert not Recipe(detector="fcos", quality="none").build(1).head.scored
    assert Recipe(detector="fcos").build(1).loss_rule == LossRule()


def test_suppression_is_the_detectors_the_recipes_or_none_for_a_head_that_answers_one_to_one():
    assert TINY.build(1).nms_thresh == 0.5 and Recipe(nms_thresh=0.7).build(1).nms_thresh == 0.7
    assert DUAL.build(1).nms_thresh == 1.0 and replace(DUAL, nms_thresh=0.6).build(1).nms_thresh == 0.6
    for name in ("poto", "hungarian"):
        assert Recipe(assigner=name).build(1).nms_thresh == 1.0
        assert Recipe(assigner=name, nms_thresh=0.5).build(1).nms_thresh == 0.5
    assert Recipe(assigner="hungarian", assigner_args={"repeat": 4}).build(1).nms_thresh == 0.5


def test_one_command_gives_a_method_its_head_and_loss():
    for name, scored in (("simota", True), ("tal", False), ("paa", True), ("dsl", False), ("poto", False)):
        built = Recipe(detector="fcos", assigner=name).build(1)
        assert built.loss_rule == METHODS[name, None] and getattr(built.head, "scored", True) is scored
        bias = built.head.regression_head.bbox_ctrness.bias.item() if scored else None
        assert bias == (pytest.approx(-4.595, abs=1e-3) if name == "simota" else 0.0 if scored else None)
        assert Recipe(assigner=name).build(1).loss_rule == METHODS[name, None]


def test_two_heads_train_resume_are_measured_and_come_back(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run(DUAL, whole)
    step = Training.training_step

    def stops(self, batch, batch_idx):
        if batch_idx == 7:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "training_step", stops)
        run(DUAL, broken)
    resume(broken, data=(squares(), squares(4, seed=1)), progress=False, accelerator="cpu")
    ours, theirs = (runs.load_checkpoint(folder / runs.LAST)["state_dict"] for folder in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and rows(broken) == rows(whole)
    assert any(not torch.equal(ours[n], ours[n.replace("second", "first")]) for n in ours if "head.second." in n)
    for index, row in enumerate(rows(whole)):
        first, second = progressive_weights(index, DUAL.steps)
        total = sum(
            value * (second if name.startswith("second_") else first) * (2.0 if "bbox" in name else 1.0)
            for name, value in row.items()
            if name not in ("step", "lr", "loss")
        )
        assert row["loss"] == pytest.approx(total, rel=1e-5)
    detector, _ = load_detector(whole)
    assert isinstance(detector.head, TwoHeads) and detector.nms_thresh == 1.0
    assert detector.second_assigner == TopK(k=1) and detector.assigner == TopK()
    assert result["positives"] == positives_by_size(detector, squares())  # of the first head, whose rule it is
    assert result["scores"]["AP"] >= 0


def test_a_rule_to_begin_with_gives_way_at_its_step_also_after_an_interruption(tmp_path):
    seen = []
    step = Training.training_step

    def watch(self, batch, batch_idx, stop=None):
        if batch_idx == stop:
            raise KeyboardInterrupt
        loss = step(self, batch, batch_idx)
        seen.append((batch_idx, type(self.detector.assigner).__name__))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "training_step", watch)
        result = run(WARM, tmp_path / "whole")
    assert seen == [(index, "MaxIoU" if index < 6 else "TopK") for index in range(12)]
    for stop in (5, 9):  # the last checkpoints are of steps 4 and 8: one on each side
        seen.clear()
        folder = tmp_path / str(stop)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(
                Training, "training_step", lambda self, batch, index, stop=stop: watch(self, batch, index, stop)
            )
            run(WARM, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Training, "training_step", watch)
            resume(folder, data=(squares(), squares(4, seed=1)), progress=False, accelerator="cpu")
        assert dict(seen) == {index: "MaxIoU" if index < 6 else "TopK" for index in range(12)}
        ours, theirs = (runs.load_checkpoint(path / runs.LAST)["state_dict"] for path in (folder, tmp_path / "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    detector, _ = load_detector(tmp_path / "whole")
    assert detector.assigner == TopK() and result["positives"] == positives_by_size(detector, squares())


def test_the_rule_to_begin_with_has_its_own_loss_on_the_heads_that_there_are():
    settings = {"detector": "fcos", "assigner": "topk", "loss": None, "quality": "iou", "warmup_assigner": "hambox"}
    module = Training(replace(TINY, **settings), squares(), squares(2))
    module._teach(warming_up=True)
    assert module.detector.loss_rule == replace(METHODS["hambox", None], quality="iou")
    module._teach(warming_up=False)
    assert module.detector.loss_rule == LossRule(quality="iou") and module.detector.assigner == TopK()
    field = replace(TINY, assigner="rfla", warmup_assigner="atss", warmup_share=0.3)
    module = Training(field, squares(), squares(2))
    assert module.detector.assignment_priors is not None
    module._teach(warming_up=True)
    assert module.detector.assignment_priors is None and module.detector.assigner == ATSS()
    module._teach(warming_up=False)
    assert module.detector.assignment_priors is not None


def test_a_run_that_ends_while_it_warms_up_ends_with_its_own_rule(tmp_path):
    module = Training(replace(WARM, steps=1), squares(), squares(2))
    module._teach(module.recipe.warms_up(0))
    assert type(module.detector.assigner).__name__ == "MaxIoU"
    module.on_train_end()
    assert module.detector.assigner == TopK()


def test_weights_from_a_file_fit_other_heads_and_two_heads_give_the_one_that_answers(tmp_path):
    def build(seed, **options):
        torch.manual_seed(seed)
        return Recipe(detector="fcos", **options).build(1)

    source = build(1)
    torch.save(source.state_dict(), tmp_path / "plain.pt")
    for options in ({"bins": 7}, {"quality": "none"}, {"loss": "qfl", "bins": 7}):
        fresh, loaded = build(2, **options), build(2, **options, weights=str(tmp_path / "plain.pt"))
        kept, own = loaded.state_dict(), fresh.state_dict()
        anew = {
            name
            for name in kept
            if name not in source.state_dict() or not torch.equal(kept[name], source.state_dict()[name])
        }
        assert anew == (
            {f"head.regression_head.bbox_reg.{kind}" for kind in ("weight", "bias")} if "bins" in options else set()
        )
        assert all(kept[name].shape == own[name].shape for name in own)
        torch.save(loaded.state_dict(), tmp_path / "other.pt")
        back = build(3, weights=str(tmp_path / "other.pt")).state_dict()
        trunk = "head.regression_head.conv.0.weight"
        assert torch.equal(back[trunk], source.state_dict()[trunk])
    dual = build(4, second_assigner="topk")
    with torch.no_grad():
        dual.head.second.classification_head.cls_logits.bias.add_(1)
    torch.save(dual.state_dict(), tmp_path / "dual.pt")
    single = build(5, weights=str(tmp_path / "dual.pt")).state_dict()
    assert all(torch.equal(single[name], value) for name, value in dual.to_torchvision().state_dict().items())
    again = build(6, weights=str(tmp_path / "dual.pt"), second_assigner="topk")
    second = dual.head.second.classification_head.cls_logits.bias
    assert torch.equal(again.head.first.classification_head.cls_logits.bias, second)
    with pytest.raises(ValueError, match="does not fit the detector"):
        start_from_file(Recipe(anchor_scale=2.0).build(1), tmp_path / "plain.pt")
