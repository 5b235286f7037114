"""The priors of a detector follow the images' size, are drawn once a size, and can be exchanged for the assigner."""

import copy
import math

import pytest
import torch
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from labelkit.assigners import ATSS, RFLA, MaxIoU
from labelkit.detectors import AssignedRetinaNet, SmallPyramid, fcos, receptive_field_view, retinanet
from labelkit.detectors.anchors import KEPT_SIZES, CachedAnchors
from labelkit.priors import Priors
from labelkit.receptive_field import receptive_fields, rf_priors
from tests.detectors.scenes import Recorder, batch, fixed


def test_anchors_are_torchvisions_and_the_cache_is_bounded():
    generator = AnchorGenerator(((16, 21), (40, 50)), ((0.5, 1.0, 2.0),) * 2)
    cached = CachedAnchors(generator)
    for width in range(32, 32 + 32 * (KEPT_SIZES + 3), 32):
        images = ImageList(torch.zeros(2, 3, 64, width), [(64, width)] * 2)
        features = [torch.zeros(2, 8, 16, width // 4), torch.zeros(2, 8, 8, width // 8)]
        expected = generator(images, features)
        torch.testing.assert_close(cached(images, features), expected, rtol=0, atol=0)
        half = [feature.bfloat16() for feature in features]
        torch.testing.assert_close(cached(images, half), expected, rtol=0, atol=0)
    assert len(cached._known) == KEPT_SIZES
    first = cached.priors
    assert cached(images, features)[0] is first.boxes


@pytest.mark.parametrize(
    ("image", "maps"),
    [((64, 96), ((16, 24), (8, 12))), ((64, 112), ((16, 24), (8, 12))), ((64, 96), ((16, 24), (4, 6)))],
)
def test_what_is_remembered_is_the_image_size_with_the_sizes_of_its_maps(image, maps):
    generator = AnchorGenerator(((16,), (40,)), ((1.0,),) * 2)
    cached = CachedAnchors(generator)

    def asked(of, image, maps):
        images = ImageList(torch.zeros(1, 3, *image), [image])
        return of(images, [torch.zeros(1, 8, *size) for size in maps])

    first = asked(cached, (64, 96), ((16, 24), (8, 12)))  # the first case: known by now
    torch.testing.assert_close(asked(cached, image, maps), asked(generator, image, maps), rtol=0, atol=0)
    assert len(cached.priors) == sum(rows * columns for rows, columns in maps)
    again = asked(cached, (64, 96), ((16, 24), (8, 12)))  # the priors are again those of the size asked last
    assert again[0] is first[0] is cached.priors.boxes


def test_the_size_left_out_is_the_oldest():
    cached = CachedAnchors(AnchorGenerator(((16,),), ((1.0,),)))
    widths = range(32, 32 * (KEPT_SIZES + 2), 32)
    drawn = {}
    for width in widths:
        (drawn[width],) = cached(
            ImageList(torch.zeros(1, 3, 32, width), [(32, width)]), [torch.zeros(1, 8, 8, width // 4)]
        )
    for width in reversed(widths):
        (boxes,) = cached(ImageList(torch.zeros(1, 3, 32, width), [(32, width)]), [torch.zeros(1, 8, 8, width // 4)])
        assert (boxes is drawn[width]) == (width != widths[0])


def test_without_an_image_there_are_no_priors_and_the_error_says_why():
    with pytest.raises(ValueError, match="priors follow the size of the images"):
        retinanet(1).anchor_generator.priors  # noqa: B018


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_a_mirrored_image_has_mirrored_labels(build):
    """The small detectors' anchors stand in the middle of their cells, as all of the course's do. On corners, where
    torchvision puts them, a mirrored image has other labels."""
    ((image,), (target,)) = batch([(64, 96)], [5])
    mirrored = target["boxes"][:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([96, 0, 96, 0])
    detector = build(3, assigner=ATSS()).train()
    labels = []
    for boxes in (target["boxes"], mirrored):
        detector([image], [target | {"boxes": boxes}])
        sizes = [(16, 24), (8, 12), (4, 6)]
        levels = detector.last_assignment.gt[0].split([rows * columns for rows, columns in sizes])
        labels.append([level.view(size) for level, size in zip(levels, sizes, strict=True)])
    assert all(torch.equal(one.flip(1), other) for one, other in zip(*labels, strict=True))
    assert sum(int((level >= 0).sum()) for level in labels[0]) > 5


def test_receptive_fields_can_stand_in_for_the_anchors():
    fields = receptive_fields(SmallPyramid.layers)
    assert fields == (15, 39, 87)
    priors = Priors.from_torchvision(retinanet(1).anchor_generator.generator, (64, 96), [(16, 24), (8, 12), (4, 6)])
    view, wanted = receptive_field_view(fields)(priors), rf_priors((64, 96), (4, 8, 16), fields)
    torch.testing.assert_close(view.boxes, wanted.boxes)
    torch.testing.assert_close(view.grid.width, wanted.grid.width)

    rule = fixed(len(priors))
    detector = retinanet(3, assigner=rule, assignment_priors=receptive_field_view(fields)).train()
    detector(*batch([(64, 96)], [2]))
    torch.testing.assert_close(rule.seen[0][0].boxes, wanted.boxes)
    torch.testing.assert_close(detector.anchor_generator.priors.boxes, priors.boxes)
    wrong = retinanet(3, assigner=rule, assignment_priors=lambda priors: Priors.from_boxes(priors.boxes[:5])).train()
    with pytest.raises(ValueError, match="assignment_priors must return 504 priors, got 5"):
        wrong(*batch([(64, 96)], [2]))


def test_fields_that_fit_no_pyramid_are_named():
    priors = Priors.points((32, 32), (8, 16))
    for fields in ((15,), (15, 39, 87)):
        with pytest.raises(ValueError, match=rf"fields must be one for each of the 2 levels, got {len(fields)}"):
            receptive_field_view(fields)(priors)
    for fields, fraction in (((), 0.5), ((15, math.nan), 0.5), ((15, -1), 0.5), ((15, 39), 0.0)):
        with pytest.raises(ValueError, match="fields and fraction must be positive and finite, got "):
            receptive_field_view(fields, fraction)


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_rfla_on_anchors_that_nobody_said_are_fields_is_refused(build):
    """It runs on any boxes, and labels wrongly where they are no receptive fields."""
    words = r"RFLA assigns .*the detector's own priors: give assignment_priors=receptive_field_view\(fields\)"
    with pytest.raises(ValueError, match=words):
        type(build(3)).from_torchvision(build(3).to_torchvision(), RFLA(k=2))
    detector = build(3, assigner=MaxIoU() if build is retinanet else ATSS())
    before = detector.assigner
    with pytest.raises(ValueError, match=words):
        detector.use_assigner(RFLA())
    assert detector.assigner is before
    with pytest.raises(ValueError, match="RFLA assigns .* give another rule for the second head"):
        detector.use_second_head(RFLA())
    view = receptive_field_view(receptive_fields(SmallPyramid.layers))
    assert build(3, assigner=RFLA(), assignment_priors=view).assigner == RFLA()


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_the_builders_know_the_fields_of_their_backbone(build):
    images, targets = batch([(64, 96)], [3])
    view, detector = receptive_field_view(receptive_fields(SmallPyramid.layers)), build(3, assigner=RFLA()).train()
    detector(images, targets)
    want = RFLA()(view(detector.anchor_generator.priors), targets)
    assert want.positive.any() and torch.equal(detector.last_assignment.gt, want.gt)


def test_anchors_that_are_fields_are_said_to_be():
    """Squares of half a receptive field as the detector's own anchors: whoever has them says so by the identity."""
    sides = [field / 2 for field in receptive_fields(SmallPyramid.layers)]
    anchors = AnchorGenerator(tuple((side,) for side in sides), ((1.0,),) * 3)
    model = RetinaNet(SmallPyramid(), 3, anchor_generator=anchors, min_size=64, max_size=96)
    detector = AssignedRetinaNet.from_torchvision(model, RFLA(), lambda priors: priors).train()
    detector(*batch([(64, 96)], [3]))
    want = RFLA()(detector.anchor_generator.priors, batch([(64, 96)], [3])[1])
    assert want.positive.any() and torch.equal(detector.last_assignment.gt, want.gt)


@pytest.mark.parametrize("sizes", [[(64, 96), (96, 64), (64, 96)], [(64, 64), (96, 96), (64, 64)]])
def test_assignment_priors_follow_the_size_of_the_images(sizes):
    """Two of the sizes have as many priors as each other, so only what the assigner saw tells them apart."""
    fields, rule = receptive_fields(SmallPyramid.layers), Recorder(MaxIoU(), [])
    detector = retinanet(3, assigner=rule, assignment_priors=receptive_field_view(fields)).train()
    for size in sizes:
        detector(*batch([size], [2]))
        wanted = rf_priors(size, (4, 8, 16), fields)
        torch.testing.assert_close(rule.seen[-1][0].boxes, wanted.boxes)


def test_assignment_priors_are_made_once_a_size_and_anew_for_another_assigner():
    made = []

    def view(priors):
        made.append(priors)
        return priors

    detector = retinanet(3, assigner=Recorder(MaxIoU(), []), assignment_priors=view).train()
    for _ in range(2):
        detector(*batch([(64, 64)], [2]))
    assert len(made) == 1
    rule = Recorder(MaxIoU(), [])
    detector.use_assigner(rule, receptive_field_view((8, 16, 32)))
    detector(*batch([(64, 64)], [2]))
    assert len(made) == 1 and rule.seen[0][0].boxes[0].tolist() == [0, 0, 4, 4]


def test_another_assigner_keeps_the_detectors_strides_and_its_generator():
    """torchvision's FCOS takes its anchors' side for the stride, also where the points are spaced otherwise."""
    detector = fcos(3)
    generator, strides = detector.anchor_generator.generator, detector.anchor_generator.strides
    detector.use_assigner(MaxIoU())
    assert detector.anchor_generator.generator is generator
    assert detector.anchor_generator.strides == strides == (4, 8, 16)
    assert copy.deepcopy(detector).anchor_generator.strides == strides
