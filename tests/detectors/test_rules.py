"""Without an assigner a detector labels as torchvision's model with the same arguments; what contradicts is refused."""

from functools import partial

import pytest
import torch
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import Matcher, SSDMatcher
from torchvision.models.detection.anchor_utils import AnchorGenerator

from labelkit import assigners
from labelkit.detectors import AssignedFCOS, AssignedRetinaNet, SmallPyramid, fcos, retinanet
from labelkit.detectors.assigned_retinanet import AssignedRetinaNet as ByItsModule
from tests.detectors.scenes import batch, losses_and_gradients, torchvisions

ANCHORS = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
POINTS = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
UNEVEN = AnchorGenerator(((4,), (6,), (20,)), ((1.0,),) * 3)  # torchvision's ranges: 0 to 32, 24 to 48, 80 and up


@pytest.mark.parametrize(
    ("kind", "generator", "options"),
    [
        (RetinaNet, ANCHORS, {"fg_iou_thresh": 0.7, "bg_iou_thresh": 0.3}),
        (RetinaNet, ANCHORS, {"proposal_matcher": Matcher(0.6, 0.2)}),  # without low-quality matches
        (RetinaNet, ANCHORS, {"proposal_matcher": Matcher(0.9, 0.1, allow_low_quality_matches=True)}),
        (FCOS, POINTS, {"center_sampling_radius": 3}),
        (FCOS, POINTS, {"center_sampling_radius": 0.75}),
        (FCOS, UNEVEN, {"center_sampling_radius": 1.5}),
    ],
)
def test_losses_and_gradients_equal_those_of_a_model_with_arguments_of_its_own(kind, generator, options):
    torch.manual_seed(1)
    model = kind(SmallPyramid(), 3, anchor_generator=generator, min_size=128, **options).train()
    images, targets = batch([(128, 128), (128, 160)], [20, 9])
    theirs = losses_and_gradients(model, images, targets)
    wrap = AssignedRetinaNet if kind is RetinaNet else AssignedFCOS
    torch.testing.assert_close(
        losses_and_gradients(wrap.from_torchvision(model), images, targets), theirs, rtol=1e-5, atol=1e-6
    )
    same = wrap(model.backbone, 3, anchor_generator=generator, head=model.head, min_size=128, **options).train()
    torch.testing.assert_close(losses_and_gradients(same, images, targets), theirs, rtol=1e-5, atol=1e-6)
    default = {"center_sampling_radius": 1.5} if kind is FCOS else {"fg_iou_thresh": 0.5}
    usual = kind(model.backbone, 3, anchor_generator=POINTS if kind is FCOS else ANCHORS, head=model.head, **default)
    usual.transform = model.transform
    assert usual.train()(images, targets)["bbox_regression"] != theirs[0]["bbox_regression"]  # the argument matters


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (retinanet, {"fg_iou_thresh": 0.7, "bg_iou_thresh": 0.3}),
        (retinanet, {"proposal_matcher": Matcher(0.6, 0.2)}),
        (fcos, {"center_sampling_radius": 3}),
    ],
)
def test_the_builders_hand_the_arguments_on(build, options):
    torch.manual_seed(2)
    detector = build(3, **options).train()
    images, targets = batch([(128, 128)] * 2, [20, 9])
    ours = losses_and_gradients(detector, images, targets)
    theirs = losses_and_gradients(torchvisions(detector, **options), images, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_rule_is_that_of_the_model_and_can_be_read():
    assert retinanet(1).assigner == assigners.MaxIoU(0.5, 0.4, True, "argmax", "all")
    assert retinanet(1, fg_iou_thresh=0.9).assigner.fg_thresh == 0.9
    assert fcos(1).assigner == assigners.FCOS(center_radius=1.5, closed_ranges=False)
    assert fcos(1, center_sampling_radius=3).assigner.center_radius == 3
    detector = retinanet(1, assigner=assigners.ATSS())
    detector.use_assigner(None)
    assert detector.assigner == retinanet(1).assigner


MATCHER = Matcher(0.5, 0.4)
BOTH = [
    (retinanet, {"fg_iou_thresh": 0.9}, "fg_iou_thresh"),
    (retinanet, {"bg_iou_thresh": 0.3}, "bg_iou_thresh"),
    (retinanet, {"proposal_matcher": MATCHER}, "proposal_matcher"),
    (fcos, {"center_sampling_radius": 3}, "center_sampling_radius"),
    (partial(retinanet, backbone="resnet50_fpn"), {"fg_iou_thresh": 0.9}, "fg_iou_thresh"),
    (partial(AssignedRetinaNet, SmallPyramid()), {"fg_iou_thresh": 0.9}, "fg_iou_thresh"),
    (partial(AssignedFCOS, SmallPyramid()), {"center_sampling_radius": 3}, "center_sampling_radius"),
]


@pytest.mark.parametrize(("build", "options", "name"), BOTH)
def test_an_assigner_and_an_argument_that_says_the_same_are_a_type_error_that_names_both(build, options, name):
    with pytest.raises(TypeError, match=f"assigner and {name} both say who is positive"):
        build(num_classes=3, assigner=assigners.ATSS(), **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"center_sampling_radius": 3}, "center_sampling_radius"),
        ({"fg_iou_treshold": 0.9}, "fg_iou_treshold"),
        ({"trainable_backbone_layers": 2}, "trainable_backbone_layers"),  # torchvision's builder knows it, for ResNet
    ],
)
def test_arguments_that_nobody_knows_are_not_swallowed(options, name):
    with pytest.raises(TypeError, match=f"AssignedRetinaNet got an unexpected keyword argument '{name}'"):
        retinanet(3, **options)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        AssignedRetinaNet(SmallPyramid(), 3, **options)


def test_arguments_of_the_builder_and_of_the_transform_arrive():
    detector = retinanet(3, "resnet50_fpn", trainable_backbone_layers=5, size_divisible=64, image_mean=[0.1, 0.2, 0.3])
    assert detector.transform.size_divisible == 64 and detector.transform.image_mean == [0.1, 0.2, 0.3]
    assert fcos(3, size_divisible=16).transform.size_divisible == 16


@pytest.mark.parametrize("options", [{"max_size": 48}, {"fixed_size": (48, 48)}, {"min_size": 48}])
def test_a_size_given_to_the_small_detector_is_not_swallowed(options):
    for build in (retinanet, fcos):
        images, targets = batch([(96, 96)], [3])
        detector = build(3, **options).train()
        detector(images, targets)
        assert detector.anchor_generator.priors.boxes.max() <= 64 + 24  # the padded image, and a box beyond it
        kept = build(3).train()
        kept(images, targets)
        assert len(kept.anchor_generator.priors) > len(detector.anchor_generator.priors)


def test_a_matcher_whose_rule_cannot_be_read_asks_for_an_assigner():
    with pytest.raises(ValueError, match="assigner must be given: proposal_matcher is a SSDMatcher"):
        retinanet(3, proposal_matcher=SSDMatcher(0.5))
    model = RetinaNet(SmallPyramid(), 3, anchor_generator=ANCHORS, proposal_matcher=SSDMatcher(0.5))
    assert ByItsModule.from_torchvision(model, assigners.ATSS()).assigner == assigners.ATSS()


@pytest.mark.parametrize(
    ("assigner", "message"),
    [
        (assigners.ATSS, "assigner must be an assigner, got the class ATSS: call it"),
        ("atss", r"assigner must be an assigner, got 'atss': take labelkit.assigners.ASSIGNERS\['atss'\]"),
        ("adaptive", "assigner must be an assigner, got 'adaptive'$"),
        (800, "assigner must be an assigner, got 800"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_assigner_is_refused_at_once(assigner, message):
    model = RetinaNet(SmallPyramid(), 3, anchor_generator=ANCHORS)
    for build in (
        lambda: retinanet(3, assigner=assigner),
        lambda: fcos(3, assigner=assigner),
        lambda: AssignedRetinaNet(SmallPyramid(), 3, assigner),
        lambda: AssignedRetinaNet.from_torchvision(model, assigner),
        lambda: retinanet(3).use_assigner(assigner),
    ):
        with pytest.raises(TypeError, match=message):
            build()
