"""Images with objects, torchvision's own model beside a detector, and assigners that remember what they saw."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet

from labelkit.assignment import IGNORED, NEGATIVE, Assignment
from labelkit.detectors import AssignedRetinaNet
from labelkit.detectors.loss_rule import LossRule


def batch(sizes, counts, classes=3, seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for (height, width), count in zip(sizes, counts, strict=True):
        images.append(torch.rand(3, height, width, generator=generator).to(device))
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
        size = 4 + torch.rand(count, 2, generator=generator) * min(height, width) * 0.4
        labels = torch.randint(classes, (count,), generator=generator)
        targets.append({"boxes": torch.cat((corner, corner + size), dim=1).to(device), "labels": labels.to(device)})
    return images, targets


def torchvisions(detector, **options):
    """The same modules in torchvision's own class."""
    kind = RetinaNet if isinstance(detector, AssignedRetinaNet) else FCOS
    generator = detector.anchor_generator.generator
    model = kind(detector.backbone, 1, anchor_generator=generator, head=detector.head, **options)
    model.transform = detector.transform
    return model.train(detector.training)


def losses_and_gradients(model, images, targets):
    model.zero_grad()
    losses = model(images, targets)
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@dataclass(frozen=True)
class Fixed:
    """Gives the same labels whatever it sees, and remembers what it saw."""

    gt: Tensor
    score_target: Tensor
    weight: Tensor
    seen: list
    needs_predictions: bool = True
    loss_rule: LossRule = LossRule()

    def __call__(self, priors, targets, predictions=None):
        self.seen.append((priors, targets, predictions))
        return Assignment(self.gt, (self.gt >= 0).float(), self.score_target, self.weight)


def fixed(num_priors, **options):
    """Prior 0 is half a positive of weight 3, prior 1 a full one, prior 2 ignored, the others background."""
    gt = torch.full((1, num_priors), NEGATIVE)
    gt[0, :3] = torch.tensor([1, 0, IGNORED])
    score_target, weight = torch.zeros(1, num_priors), torch.ones(1, num_priors)
    score_target[0, :2] = torch.tensor([0.5, 1.0])
    weight[0, 0] = 3.0
    return Fixed(gt, score_target, weight, [], **options)


@dataclass(frozen=True)
class Recorder:
    """Labels as `rule` does, and remembers the priors and targets it was asked about."""

    rule: object
    seen: list
    needs_predictions: bool = False

    def __call__(self, priors, targets, predictions=None):
        self.seen.append((priors, targets))
        return self.rule(priors, targets)
