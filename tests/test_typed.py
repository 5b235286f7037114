"""A user's program as a type checker sees it: `make lint` puts this file to mypy, as it does the library."""

from typing import assert_type

import pytest
import torch

import labelkit
from labelkit.assigners import ATSS, TopK
from labelkit.assignment import Assignment
from labelkit.datasets import BoxDataset
from labelkit.detectors import AssignedRetinaNet, retinanet
from labelkit.nms import nms
from labelkit.priors import Priors
from labelkit.similarity import iou


def test_public_names_have_types() -> None:
    target = {"boxes": torch.tensor([[4.0, 4.0, 12.0, 12.0]]), "labels": torch.tensor([1])}
    priors = assert_type(Priors.anchors((32, 32), (8,), ((16.0,),)), Priors)
    assert_type(TopK(k=3)(priors, target), Assignment)
    assert_type(ATSS()(priors, [target, target]), Assignment)
    assert_type(iou(target["boxes"], target["boxes"]), torch.Tensor)
    assert_type(nms(target["boxes"], torch.ones(1), 0.5), torch.Tensor)
    assert_type(retinanet(num_classes=2, backbone="small", assigner=ATSS()), AssignedRetinaNet)


def test_the_explorer_is_called_by_its_package() -> None:
    pytest.importorskip("anywidget")
    assert labelkit.explore().scene


def first(dataset: BoxDataset) -> torch.Tensor:
    image, target = dataset[0]
    return target["boxes"] + assert_type(image, torch.Tensor).mean()
