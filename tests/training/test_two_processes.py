"""Two processes with half the batch each compute the gradients of one process with the whole batch."""

import os
from functools import partial

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from labelkit import assigners
from labelkit.detectors import LOSSES, fcos, retinanet


def two_heads(classes):
    detector = fcos(classes, assigner=assigners.ATSS(), loss_rule=LOSSES["qfl"], bins=8)
    detector.use_second_head(assigners.POTO())
    return detector


BUILD = {
    "retinanet": retinanet,
    "fcos": fcos,
    "divided by targets": partial(retinanet, assigner=assigners.TaskAligned()),
    "objectness": partial(fcos, assigner=assigners.SimOTA()),
    "divided by scores, two heads": two_heads,
}


def scene(kind):
    """A detector and four images whose halves differ in their number of objects; one image has none."""
    torch.manual_seed(0)
    detector = BUILD[kind](2).train()
    images, targets = [], []
    for count in (9, 4, 0, 2):
        corner = torch.rand(count, 2) * 40
        boxes = torch.cat((corner, corner + 6 + torch.rand(count, 2) * 20), dim=1)
        images.append(torch.rand(3, 64, 64))
        targets.append({"boxes": boxes, "labels": torch.arange(count) % 2})
    return detector, images, targets


def gradients(model, images, targets):
    sum(model(images, targets).values()).backward()
    module = model.module if isinstance(model, DistributedDataParallel) else model
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    for kind in BUILD:
        detector, images, targets = scene(kind)
        result = gradients(DistributedDataParallel(detector), images[half], targets[half])
        if rank == 0:
            torch.save(result, os.path.join(folder, f"{kind}.pt"))
    dist.destroy_process_group()


def test_two_gloo_processes_give_the_gradients_of_one_on_the_doubled_batch(tmp_path):
    mp.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    for kind in BUILD:
        detector, images, targets = scene(kind)
        expected = gradients(detector, images, targets)
        result = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        assert set(result) == set(expected) and any(gradient.abs().max() > 0 for gradient in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(result[name], gradient, rtol=1e-3, atol=1e-6)
