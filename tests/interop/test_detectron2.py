"""Detectron2's (matches, labels): held against loops, and against its own Matcher where the package is installed."""

import pytest
import torch
from hypothesis import given, settings

from labelkit import IGNORED, Priors
from labelkit.assigners import MaxIoU
from labelkit.interop import to_detectron2
from labelkit.similarity import iou
from tests import strategies


@settings(max_examples=12, deadline=None)
@given(strategies.batches("boxes"))
def test_matches_and_labels_are_those_of_the_loop(batch):
    assignment = MaxIoU()(batch.priors, batch.targets)
    matches, labels = to_detectron2(assignment)
    assert matches.dtype == torch.int64 and labels.dtype == torch.int8 and matches.shape == assignment.gt.shape
    for image, target in enumerate(batch.targets):
        found = zip(assignment.gt[image].tolist(), matches[image].tolist(), labels[image].tolist(), strict=True)
        for owner, match, label in found:
            assert label == (1 if owner >= 0 else -1 if owner == IGNORED else 0)
            assert match == owner if owner >= 0 else 0 <= match < max(len(target["boxes"]), 1)
        alone = to_detectron2(assignment[image])
        assert torch.equal(alone[0], matches[image]) and torch.equal(alone[1], labels[image])


def test_the_same_as_their_matcher():
    theirs = pytest.importorskip("detectron2.modeling.matcher", reason="detectron2 is not installed")
    priors = Priors.anchors((200, 300), (8, 16, 32), ((20,), (45,), (90,)))
    pick = torch.Generator().manual_seed(0)
    corner, size = torch.rand(30, 2, generator=pick) * 200, 5 + 80 * torch.rand(30, 2, generator=pick)
    boxes = torch.cat((corner, corner + size), dim=1)
    target = {"boxes": boxes, "labels": torch.zeros(30, dtype=torch.int64)}
    want = theirs.Matcher([0.4, 0.5], [0, -1, 1], allow_low_quality_matches=True)(iou(boxes[:, None], priors.boxes))
    matches, labels = to_detectron2(MaxIoU(low_quality_owner="argmax", low_quality_ties="all")(priors, target))
    assert torch.equal(labels, want[1]) and torch.equal(matches[labels == 1], want[0][labels == 1])
