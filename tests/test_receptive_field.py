import pytest
import torch
from torchvision.models import resnet18, resnet50

from labelkit.receptive_field import receptive_fields, resnet_stages, rf_priors


def test_the_published_table_of_resnet50_is_computed():
    with torch.device("meta"):
        stages = resnet_stages(resnet50(weights=None))
    assert receptive_fields(stages) == (35, 91, 267, 427, 555, 811)


def test_strided_convolutions_would_give_smaller_extra_levels():
    with torch.device("meta"):
        stages = resnet_stages(resnet50(weights=None), extra_levels=0)
    assert receptive_fields([*stages, [(3, 2, 1)], [(3, 2, 1)]])[4:] == (491, 619)


def test_another_network_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="model must be a ResNet .* got a Linear"):
        resnet = resnet18(weights=None)
        resnet.conv1 = torch.nn.Linear(2, 2)
        resnet_stages(resnet)


def test_a_dilated_layer_sees_further():
    assert receptive_fields([[(3, 1, 1)], [(3, 2, 2)], [(3, 1, 1)]]) == (3, 7, 11)


@pytest.mark.parametrize("depth", [resnet18, resnet50])
def test_the_gradient_of_one_feature_reaches_exactly_its_receptive_field(depth):
    """Independent of the arithmetic: with positive weights every pixel that is seen has a gradient."""
    model = depth(weights=None).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    image = torch.ones(1, 3, 224, 224, dtype=torch.float64, requires_grad=True)
    # A max-pool passes the gradient to one pixel only; on a flat image that hides the others, so average instead.
    x = torch.nn.AvgPool2d(3, 2, 1)(model.relu(model.bn1(model.conv1(image))))
    seen = []
    for stage in (model.layer1, model.layer2):
        x = stage(x)
        middle = x.shape[-1] // 2
        (gradient,) = torch.autograd.grad(x[0, 0, middle, middle], image, retain_graph=True)
        columns = gradient[0].abs().sum(dim=(0, 1)).nonzero().flatten()
        seen.append(int(columns.max() - columns.min()) + 1)
    assert tuple(seen) == receptive_fields(resnet_stages(model, extra_levels=0))[:2]


def test_rf_priors_have_half_the_field_as_side():
    priors = rf_priors((64, 64), strides=(4, 8), fields=(35, 91))
    side = priors.boxes[:, 2] - priors.boxes[:, 0]
    assert len(priors) == 16 * 16 + 8 * 8
    torch.testing.assert_close(side[priors.levels == 0], torch.full((256,), 17.5))
    torch.testing.assert_close(side[priors.levels == 1], torch.full((64,), 45.5))
    assert priors.centers[0].tolist() == [2.0, 2.0]


def test_rf_priors_keep_the_area_over_ratios():
    priors = rf_priors((8, 8), strides=(8,), fields=(35,), ratios=(0.5, 1, 2), offset=0)
    size = priors.boxes[:, 2:] - priors.boxes[:, :2]
    torch.testing.assert_close(size.prod(dim=1), torch.full((3,), 17.5**2))


def test_fields_and_strides_go_together():
    with pytest.raises(ValueError, match="fields must have one entry for each of the 2 strides, got 1"):
        rf_priors((64, 64), strides=(4, 8), fields=(35,))
