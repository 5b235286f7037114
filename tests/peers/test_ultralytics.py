"""Against Ultralytics' own TaskAlignedAssigner, where the package is installed: last run with 8.4.190.

    YOLO_CONFIG_DIR=$(mktemp -d) pytest tests/peers/test_ultralytics.py

What is different on purpose is filtered out: their positives of metric 0 have target 0; 1e-9 in their targets; and a
contested prior goes to the highest overlap of all ground truths around it there, of those that chose it here.
"""

import pytest
import torch

from labelkit import Predictions, Priors
from labelkit.assigners import ATSS, SimOTA, TaskAligned
from labelkit.detectors import receptive_field_view
from labelkit.interop import UltralyticsAssigner
from labelkit.similarity import ciou

tal = pytest.importorskip("ultralytics.utils.tal", reason="ultralytics is not installed")

STRIDES, CLASSES = (8, 16, 32), 3
POINTS = Priors.points((320, 416), STRIDES)


def scene(seed: int, apart: bool) -> tuple[dict[str, torch.Tensor], Predictions]:
    """Objects of 3 to 60 px, in a lattice of 80 px or anywhere; boxes around the points, about as large as objects."""
    pick = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=pick)

    cell = torch.cartesian_prod(torch.arange(5.0), torch.arange(4.0)) * 80
    size = 3 * 20 ** uniform(len(cell), 2)
    corner = cell + (75 - size).clamp(min=0) * uniform(len(cell), 2) + 2
    if not apart:
        corner = uniform(len(cell), 2) * torch.tensor([340.0, 240.0])
    labels = torch.randint(CLASSES, (len(cell),), generator=pick)
    middle, half = POINTS.centers + 8 * (uniform(len(POINTS), 2) - 0.5), 4 + 26 * uniform(len(POINTS), 2)
    boxes, scores = torch.cat((middle - half, middle + half), dim=1), 0.01 + 0.98 * uniform(len(POINTS), CLASSES)
    return {"boxes": torch.cat((corner, corner + size), dim=1), "labels": labels}, Predictions(boxes, scores)


def theirs(target, seen: Predictions, k: int, k_final: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The ground truth of every point and its target; -1 where the target is 0."""
    rule = tal.TaskAlignedAssigner(
        topk=k, num_classes=CLASSES, alpha=0.5, beta=6.0, stride=list(STRIDES), topk2=k_final
    )
    boxes, labels = target["boxes"][None], target["labels"][None, :, None]
    mask = torch.ones(1, boxes.shape[1], 1)
    _, _, scores, positive, owner = rule(seen.scores[None], seen.boxes[None], POINTS.centers, labels, boxes, mask)
    worth = scores[0].amax(dim=1)
    return torch.where(positive[0].bool() & (worth > 0), owner[0], -1), worth


def ours(k: int, k_final: int | None) -> TaskAligned:
    return TaskAligned(k=k, alpha=0.5, beta=6.0, overlap=ciou, min_side=16, k_final=k_final)


@pytest.mark.parametrize(("k", "k_final"), [(10, None), (1, None), (7, 1)])
@pytest.mark.parametrize("seed", range(10))
def test_the_same_labels_where_objects_stand_apart(k, k_final, seed):
    target, seen = scene(seed, apart=True)
    answer, (owner, worth) = ours(k, k_final)(POINTS, target, seen), theirs(target, seen, k, k_final)
    sure = answer.gt >= 0
    metric = seen.scores[sure, target["labels"][answer.gt[sure]]] ** 0.5 * answer.similarity[sure] ** 6
    best = torch.zeros(len(target["boxes"])).scatter_reduce(0, answer.gt[sure], metric, "amax")[answer.gt[sure]]
    assert torch.equal(answer.gt, owner) and sure.sum() >= 10
    torch.testing.assert_close(worth[sure], answer.score_target[sure] * best / (best + 1e-9), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("seed", range(10))
def test_where_they_overlap_only_contested_points_differ(seed):
    target, seen = scene(seed, apart=False)
    answer, (owner, _) = ours(10, None)(POINTS, target, seen), theirs(target, seen, 10, None)
    found = ours(10, None).explain(POINTS, target, seen)
    around = torch.bincount(found.chosen.prior, minlength=len(POINTS))
    differ = answer.gt != owner
    assert differ.sum() < 0.1 * answer.positive.sum() and (around[differ] >= 2).all()
    for point in differ.nonzero().flatten().tolist():
        overlap = ciou(seen.boxes[point], target["boxes"])
        assert overlap[owner[point]] >= overlap[answer.gt[point]]


@pytest.mark.parametrize("seed", range(3))
def test_the_module_answers_as_theirs_does(seed):
    scenes = [scene(2 * seed + image, apart=True) for image in range(2)]
    count = len(scenes[0][0]["boxes"])
    boxes, labels, mask = torch.zeros(2, count + 3, 4), torch.zeros(2, count + 3, 1), torch.zeros(2, count + 3, 1)
    for image, (target, _) in enumerate(scenes):
        real = slice(0, count - 4 * image)
        boxes[image, real], labels[image, real, 0] = target["boxes"][real], target["labels"][real].float()
        mask[image, real] = 1
    scores, decoded = (torch.stack([getattr(seen, name) for _, seen in scenes]) for name in ("scores", "boxes"))
    settings = {"topk": 10, "num_classes": CLASSES, "alpha": 0.5, "beta": 6.0, "stride": list(STRIDES)}
    theirs_too = tal.TaskAlignedAssigner(**settings, eps=1e-20)
    args = scores, decoded, POINTS.centers, labels, boxes, mask
    want, found = theirs_too(*args), UltralyticsAssigner(ours(10, None), STRIDES)(*args)
    for name, one, other in zip(("labels", "boxes", "scores", "mask", "index"), found, want, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype, name
    sure = found[3]
    assert torch.equal(sure, want[3] & (want[2].amax(dim=2) > 0)) and sure.sum() >= 10
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one[sure], other[sure], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rule", [TaskAligned(k=10, alpha=0.5, overlap=ciou, min_side=16), SimOTA(), ATSS()])
def test_their_loss_trains_with_it(rule):
    tasks = pytest.importorskip("ultralytics.nn.tasks", reason="ultralytics is not installed", exc_type=ImportError)
    torch.manual_seed(0)
    model = tasks.DetectionModel("yolov8n.yaml", nc=CLASSES, verbose=False)
    model.args = pytest.importorskip("ultralytics.utils").DEFAULT_CFG
    loss = model.init_criterion()
    view = receptive_field_view((32, 64, 128), fraction=1.0) if isinstance(rule, ATSS) else None
    loss.assigner = UltralyticsAssigner(rule, model.stride.tolist(), view)
    batch = {
        "img": torch.rand(2, 3, 128, 160),
        "batch_idx": torch.tensor([0.0, 0, 1]),
        "cls": torch.tensor([[0.0], [2], [1]]),
        "bboxes": torch.tensor([[0.3, 0.4, 0.3, 0.4], [0.7, 0.6, 0.2, 0.3], [0.5, 0.5, 0.6, 0.6]]),
    }
    total = loss(model.train()(batch["img"]), batch)[0].sum()
    total.backward()
    assert torch.isfinite(total) and any(
        float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.grad is not None
    )
