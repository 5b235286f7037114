"""A detector with a mind of its own, a picture, and what a training step shows its rule: an oracle for predictions."""

import torch

from labelkit import Predictions, Priors
from labelkit.assigners import MaxIoU
from labelkit.detectors import fcos, retinanet
from labelkit.training.measuring import assigned

SIZE = (96, 120)
BOXES = torch.tensor([[10.0, 12, 30, 30], [50, 20, 57, 29], [70, 40, 110, 90], [20, 60, 24, 66]])
LABELS = torch.tensor([2, 0, 1, 2])


def picture(size=SIZE):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(3))


def opinionated(build=retinanet, classes=3, **options):
    """A small detector whose scores and boxes differ from prior to prior, as a trained one's do."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        detector = build(classes, **options).eval()
        for name, parameter in detector.head.named_parameters():
            if name.endswith(("cls_logits.weight", "bbox_reg.weight")):
                parameter.copy_((0.5 if "cls" in name else 0.2) * torch.randn(parameter.shape))
            if name.endswith("cls_logits.bias"):
                parameter.zero_()
    return detector


class Listening:
    """A rule that keeps what a training step shows it, and then labels by IoU."""

    needs_predictions = True

    def __call__(self, priors, target, predictions):
        self.priors, self.predictions = priors, predictions
        return MaxIoU()(priors, target)


def told_in_training(detector, image) -> tuple[Priors, Predictions]:
    """The priors and predictions of one image as a training step of the detector shows them to its rule."""
    heard, rule, losses = Listening(), detector.assigner, detector.loss_rule
    detector.assigner = heard
    try:
        assigned(detector, [image], [{"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([0])}])
    finally:
        detector.assigner, detector.loss_rule = rule, losses
    return heard.priors, Predictions(heard.predictions.boxes[0], heard.predictions.scores[0])


BUILDERS = {"retinanet": retinanet, "fcos": fcos}
