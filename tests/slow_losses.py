"""Losses as their papers write them, one number at a time: for elements, and for a detector's whole batch."""

from math import exp, sqrt

import torch


def one(name, z, t):
    """The loss of one logit and one target, tensors both; what a paper calls a constant is detached."""
    p, constant = 1 / (1 + torch.exp(-z)), torch.Tensor.detach

    def entropy(target):
        return -target * p.log() - (1 - target) * (1 - p).log()

    if name == "focal":
        return -t * 0.25 * (1 - p) ** 2 * p.log() - (1 - t) * 0.75 * p**2 * (1 - p).log()
    if name == "qfl":
        return (t - p).abs() ** 2 * entropy(t)
    if name == "vfl":
        return t * entropy(t) if t > 0 else 0.75 * p**2 * entropy(0)
    if name == "mal":
        return entropy(t**1.5) if t > 0 else constant(p) ** 1.5 * entropy(0)
    if name == "ia_bce":
        aligned = max(float(constant(p) ** 0.25 * t**0.75), 0.01)
        return entropy(aligned) if t > 0 else p**2 * entropy(0)
    assert name == "bce"
    return entropy(t)


def of_bins(logits, distance):
    """The distribution focal loss of one side: its logits over the bins, its distance in strides."""
    y = min(max(float(distance), 0.0), len(logits) - 1.1)
    left, shares = int(y), logits.softmax(0)
    return -((left + 1 - y) * shares[left].log() + (y - left) * shares[left + 1].log())


def overlap_and_giou(a, b):
    """IoU and generalised IoU of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return (shared / union if union > 0 else 0.0), shared / union - (hull - union) / hull


def decoded(numbers, anchor, points):
    """FCOS: distances in sides of the anchor from its centre. RetinaNet: deltas."""
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    if points:
        left, top, right, bottom = numbers
        return x - left * w, y - top * h, x + right * w, y + bottom * h
    dx, dy, dw, dh = numbers
    x, y, w, h = x + dx * w, y + dy * h, exp(dw) * w, exp(dh) * h
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def centerness(anchor, box):
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def of_detector(name, rule, outputs, assignment, targets, anchors, points):
    """The losses of a batch from the outputs of the head: GIoU on boxes, the class loss of this name.

    points: FCOS, one divisor for the batch; else RetinaNet, where positives are counted image by image.
    """
    outputs = {key: value.detach().double() for key, value in outputs.items()}
    scored = points and "bbox_ctrness" in outputs
    objectness = scored and rule.quality == "objectness"
    images = []
    for b, target in enumerate(targets):
        sums = dict.fromkeys(("class", "box", "quality", "bins", "positives", "targets", "weights"), 0.0)
        for p, anchor in enumerate(anchors.double().tolist()):
            gt, weight = int(assignment.gt[b, p]), float(assignment.weight[b, p])
            logits, column, wanted = outputs["cls_logits"][b, p], -1, 0.0
            if gt == -2:
                continue
            if objectness:
                sums["quality"] += float(one("bce", outputs["bbox_ctrness"][b, p, 0], float(gt >= 0)))
            if gt >= 0:
                truth = target["boxes"][gt].tolist()
                box = decoded(outputs["bbox_regression"][b, p].tolist(), anchor, points)
                overlap, giou = overlap_and_giou(box, truth)
                column = int(target["labels"][gt])
                wanted = float(assignment.score_target[b, p]) if rule.target == "assigned" else max(overlap, 1e-6)
                factors = {"target": wanted, "iou": overlap, "score": max(logits.sigmoid().tolist()), None: 1.0}
                of_box = weight * factors[rule.box_weight]
                sums["positives"] += 1
                sums["targets"] += wanted
                sums["weights"] += of_box
                sums["box"] += of_box * (1 - giou)
                if scored and not objectness:
                    expected = overlap if rule.quality == "iou" else centerness(anchor, truth)
                    sums["quality"] += weight * float(one("bce", outputs["bbox_ctrness"][b, p, 0], expected))
                if "bbox_distribution" in outputs:
                    x, y, side = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2, anchor[2] - anchor[0]
                    sides = (x - truth[0], y - truth[1], truth[2] - x, truth[3] - y)
                    each = [of_bins(outputs["bbox_distribution"][b, p, i], d / side) for i, d in enumerate(sides)]
                    sums["bins"] += of_box * float(sum(each)) / 4
            if gt >= 0 or not objectness:
                for c, z in enumerate(logits):
                    t = torch.tensor(wanted if c == column else 0.0, dtype=torch.float64)
                    sums["class"] += weight * float(one(name, z, t))
        images.append(sums)
    total = {key: sum(sums[key] for sums in images) for key in images[0]}

    def share(key, by):
        if by == "positives" and not points:
            return sum(sums[key] / max(sums["positives"], 1) for sums in images) / len(images)
        return total[key] / max(total[by], 1)

    by_boxes = "positives" if rule.box_weight is None else "weights"
    losses = {"classification": share("class", rule.class_divisor), "bbox_regression": share("box", by_boxes)}
    if scored:
        losses["bbox_ctrness"] = rule.quality_weight * share("quality", "positives")
    if "bbox_distribution" in outputs:
        losses["bbox_distribution"] = rule.distribution_weight * share("bins", by_boxes)
    return losses
