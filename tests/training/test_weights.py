"""Training that begins with the weights of a file: torchvision's detector, its backbone, or a run's checkpoint."""

from dataclasses import replace

import pytest
import torch
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from labelkit.training import load_detector, runs
from labelkit.training.recipe import Recipe
from tests.squares import TINY, run

REAL = Recipe(backbone="resnet50_fpn", detector="fcos", assigner="fcos")


def real(**settings):
    """Of the real detector: a few seconds a build, so as few as can be."""
    torch.manual_seed(0)
    return replace(REAL, **settings).build(3)


def test_a_runs_checkpoint_starts_another_run(tmp_path):
    run(replace(TINY, steps=2), tmp_path / "first")
    recipe = replace(TINY, steps=1, lr=1e-30, weights=str(tmp_path / "first" / runs.LAST))
    trained, _ = load_detector(tmp_path / "first")
    torch.manual_seed(7)
    same, other = recipe.build(1), recipe.build(4)
    for name, value in trained.state_dict().items():
        assert torch.equal(same.state_dict()[name], value)
        assert name.startswith("head.classification_head.cls_logits.") or torch.equal(other.state_dict()[name], value)
    assert other.head.classification_head.num_classes == 4
    run(recipe, tmp_path / "second")
    (tmp_path / "first" / runs.LAST).unlink()  # a trained detector needs the file no more
    detector, _ = load_detector(tmp_path / "second")
    assert all(torch.allclose(value, trained.state_dict()[name]) for name, value in detector.state_dict().items())


def test_torchvisions_detector_and_backbone_start_frozen_as_when_downloaded(tmp_path):
    source = real()
    for norm in (module for module in source.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(), norm.running_var.uniform_()
    torch.save(source.state_dict(), tmp_path / "detector.pth")
    detector = real(weights=str(tmp_path / "detector.pth"))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in detector.modules())
    mean = detector.backbone.body.layer4[2].bn3.running_mean
    assert isinstance(detector.backbone.body.layer4[2].bn3, FrozenBatchNorm2d)
    assert torch.equal(mean, source.backbone.body.layer4[2].bn3.running_mean)
    frozen = {name.split(".")[2] for name, p in detector.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}
    image = [torch.rand(3, 64, 64)]
    one, two = (model.eval().backbone.body(image[0][None]) for model in (source, detector))
    torch.testing.assert_close(one, two)

    body = resnet50()
    torch.save(body.state_dict(), tmp_path / "backbone.pth")
    detector = real(weights=str(tmp_path / "backbone.pth"))
    assert torch.equal(detector.backbone.body.layer3[0].conv1.weight, body.layer3[0].conv1.weight)
    fresh = real().state_dict()
    assert all(torch.equal(v, fresh[n]) for n, v in detector.state_dict().items() if n.startswith("head."))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "weights must be imagenet, coco or a file, and there is no file"),
        (b"PK no zip", "cannot be read as a state dict"),
        ({"a": 1}, "holds no state dict, which names tensors"),
        ({}, "holds no state dict"),
        ({"other.weight": torch.zeros(2)}, "does not fit the detector: these weights are of another detector: missing"),
    ],
)
def test_a_file_that_will_not_do_is_named(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as raised:
        Recipe(weights=str(path)).build(1)
    assert "weights.pth" in str(raised.value)


def test_a_layer_of_another_shape_is_named(tmp_path):
    state = Recipe().build(1).state_dict()
    torch.save(state | {"backbone.stem.0.weight": torch.zeros(1, 3, 3, 3)}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth does not fit the detector: .*size mismatch for backbone\.stem"):
        Recipe(weights=str(tmp_path / "odd.pth")).build(1)
