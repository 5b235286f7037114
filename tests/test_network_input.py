"""What a detector makes of a picture: as torchvision does it, without a forward pass."""

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.ssd import SSD

from labelkit import Priors, detectors
from labelkit.network_input import NetworkInput

SMALL = {"weights": None, "weights_backbone": None, "min_size": 64, "max_size": 120}
MODELS = {
    "retinanet": lambda: detection.retinanet_resnet50_fpn(**SMALL),
    "fcos": lambda: detection.fcos_resnet50_fpn(**SMALL),
    "faster-rcnn": lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(**SMALL),
    "ssd": lambda: detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None),
    "small retinanet": lambda: detectors.retinanet(1),
    "small fcos": lambda: detectors.fcos(1),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]()


def anchors_of_a_forward_pass(model, image):
    """What the generator gives, and the input's shape and picture size."""
    kept = {}

    def keep(module, given, made):
        kept.update(boxes=made[0], padded=tuple(given[0].tensors.shape[-2:]), size=given[0].image_sizes[0])
        kept["features"] = tuple(tuple(one.shape[-2:]) for one in given[1])

    hook = getattr(model, "rpn", model).anchor_generator.register_forward_hook(keep)
    with torch.no_grad():
        model.eval()([image])
    hook.remove()
    return kept


@pytest.mark.parametrize("size", [(75, 100), (131, 40)])
def test_priors_and_shapes_are_those_of_a_forward_pass(model, size):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        seen, priors = NetworkInput.of(model, size), Priors.from_detector(model, size)
        assert model.training == training
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    kept = anchors_of_a_forward_pass(model, torch.rand(3, *size))
    assert torch.equal(priors.boxes, kept["boxes"])
    assert (seen.size, seen.padded, seen.feature_sizes) == (tuple(kept["size"]), kept["padded"], kept["features"])
    assert sum(priors.level_sizes) == len(priors) and len(priors.level_sizes) == len(seen.feature_sizes)
    assert isinstance(model, SSD) == (priors.grid is None)


def test_boxes_go_to_the_input_as_the_pictures_do(model):
    size, boxes = (75, 100), torch.tensor([[10.0, 5, 60, 30]])
    _, [moved] = model.eval().transform([torch.rand(3, *size)], [{"boxes": boxes, "labels": torch.ones(1).long()}])
    torch.testing.assert_close(NetworkInput.of(model, size).at_input(boxes), moved["boxes"])


def test_the_strides_that_rules_ask_for():
    fcos = MODELS["fcos"]()
    assert Priors.from_detector(fcos, (75, 100)).level_strides == (8, 16, 32, 64, 128)
    # A map of one cell has the spacing of its picture, 96 px.
    assert Priors.from_detector(MODELS["retinanet"](), (75, 100)).level_strides == (8, 16, 32, 64, 96)
    assert Priors.from_detector(fcos, (75, 100), strides=(1, 2, 3, 4, 5)).level_strides == (1, 2, 3, 4, 5)


def test_the_count_of_the_sky_at_800_px():
    """torchvision's own numbers for 1000 x 872: 800 x 917 after the resize, 139,284 anchors."""
    model = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    seen = NetworkInput.of(model, (872, 1000))
    assert (seen.size, seen.padded) == ((800, 917), (800, 928)) and len(
        Priors.from_detector(model, (872, 1000))
    ) == 139284


def test_what_is_no_detector_is_refused(unchecked):
    with pytest.raises(TypeError, match="a Linear without transform"):
        NetworkInput.of(nn.Linear(1, 1), (10, 10))
    with pytest.raises(ValueError, match=r"image_size must be .* got \(0, 10\)"):
        NetworkInput.of(detectors.retinanet(1), (0, 10))
    with pytest.raises(ValueError, match=r"image_size must be .* got \(3, 10, 10\)"):
        NetworkInput.of(detectors.retinanet(1), (3, 10, 10))
