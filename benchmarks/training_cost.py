"""What a training step costs for each image, counted and not timed: bytes kept and multiplications, on any device.

    python benchmarks/training_cost.py [--waits]

A step holds the weights, their gradients, AdamW's two moments, and what the forward pass saves for the backward pass.
The last grows with the images; it is counted here by autograd's own hook, each storage once, parameters left out. The
allocator's reserve and a convolution's workspace come on top and are the device's. Operations are those of forward and
backward pass that `torch.utils.flop_counter` knows (convolutions and matrix products), a multiplication and an addition
each counted.

--waits: what the forward pass and the losses of two images ask of a GPU, counted on a pretended one (`pretended.py`),
with the assigner where the network is and with assign_on="cpu". Counted is a second step with images of that size. The
backward pass is not counted: it asks nothing of an assigner.
"""

import argparse
from contextlib import nullcontext
from dataclasses import replace

import torch
from pretended import DEVICE, Device, pretended_device
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from labelkit.training.recipe import Recipe

# (name, recipe, height, width): torchvision's detector on COCO's and AI-TOD's pictures, the course's on its own.
CASES = (
    ("resnet50_fpn, COCO at 800 x 1344", Recipe(backbone="resnet50_fpn", assigner="atss"), 800, 1344),
    ("resnet50_fpn, AI-TOD at 800 x 800", Recipe(backbone="resnet50_fpn", assigner="rka"), 800, 800),
    ("small, 800 x 800", Recipe(assigner="rka"), 800, 800),
    ("small, 128 x 128", Recipe(assigner="atss"), 128, 128),
)
WAITING = (
    ("resnet50_fpn, 800 x 800", Recipe(backbone="resnet50_fpn", assigner="max_iou"), 800, 800),
    ("small, 800 x 800", Recipe(assigner="atss"), 800, 800),
    ("small, 800 x 800", Recipe(assigner="rka"), 800, 800),
    ("small fcos, 800 x 800", Recipe(detector="fcos", assigner="fcos"), 800, 800),
)


def target(height: int, width: int) -> dict[str, torch.Tensor]:
    """Twenty objects."""
    corner = torch.rand(20, 2) * torch.tensor([width - 80.0, height - 80.0])
    boxes = torch.cat((corner, corner + 8 + 60 * torch.rand(20, 2)), dim=1)
    return {"boxes": boxes, "labels": torch.zeros(20, dtype=torch.int64)}


def cost(recipe: Recipe, height: int, width: int, half: bool) -> tuple[int, int, int]:
    """(bytes of parameters, bytes that one image's forward pass and losses save, operations forward and backward)."""
    torch.manual_seed(0)
    detector = recipe.build(1 if recipe.backbone == "small" else 80).train()
    parameters = {p.untyped_storage().data_ptr() for p in detector.parameters()}
    kept: dict[int, tuple[int, torch.UntypedStorage]] = {}  # the storage is held, so that its address stays its own

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes(), storage
        return tensor

    mixed = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
            losses = detector([torch.rand(3, height, width)], [target(height, width)])
        sum(losses.values()).backward()
    image = sum(size for size, _ in kept.values())
    return sum(p.nbytes for p in detector.parameters()), image, counter.get_total_flops()


def waits(device: Device, recipe: Recipe, height: int, width: int) -> tuple[int, int, int]:
    """(launches, waits, the waits that are torchvision's own) of a step's forward pass and losses."""
    torch.manual_seed(0)
    detector = recipe.build(1).train()
    weights = {name: one.detach().to(DEVICE) for name, one in [*detector.named_parameters(), *detector.named_buffers()]}
    images = [torch.rand(3, height, width).to(DEVICE) for _ in range(2)]
    targets = [target(height, width) for _ in images]
    if recipe.assign_on is None:
        targets = [{key: value.to(DEVICE) for key, value in one.items()} for one in targets]
    for _ in range(2):
        device.reset()
        with torch.no_grad():
            functional_call(detector, weights, (images, targets))
    return device.counts.launches, device.counts.synchronisations, device.waiters["torchvision"]


def show_waits() -> None:
    """A line for each case."""
    print("| detector and pictures | rule | launches, waits | beside the network | waits of torchvision's own |")
    print("| --- | --- | --- | --- | --- |")
    with pretended_device() as device:
        for name, recipe, height, width in WAITING:
            launches, waited, _ = waits(device, recipe, height, width)
            fewer, left, own = waits(device, replace(recipe, assign_on="cpu"), height, width)
            print(f"| {name} | {recipe.assigner} | {launches}, {waited} | {fewer}, {left} | {own} |", flush=True)


def main() -> None:
    """A line for each case and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", action="store_true", help="launches and waits instead, on a pretended GPU")
    if parser.parse_args().waits:
        show_waits()
        return
    print("| detector and picture | precision | weights | with gradients and moments | an image saves | operations |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, recipe, height, width in CASES:
        for half in (False, True):
            weights, image, operations = cost(recipe, height, width, half)
            words = f"{weights / 2**20:.1f} MiB | {4 * weights / 2**20:.0f} MiB | {image / 2**20:.0f} MiB"
            words += f" | {operations / 1e9:.0f} G"
            print(f"| {name} | {'bf16-mixed' if half else '32-true'} | {words} |", flush=True)


if __name__ == "__main__":
    main()
