"""What a training step costs for each image, counted and not timed: bytes kept and multiplications, on any device.

    python benchmarks/training_cost.py

A step holds the weights, their gradients, AdamW's two moments, and what the forward pass saves for the backward pass.
The last grows with the images; it is counted here by autograd's own hook, each storage once, parameters left out. The
allocator's reserve and a convolution's workspace come on top and are the device's. Operations are those of forward and
backward pass that `torch.utils.flop_counter` knows (convolutions and matrix products), a multiplication and an addition
each counted.
"""

import argparse
from contextlib import nullcontext

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from labelkit.training.recipe import Recipe

# (name, recipe, height, width): torchvision's detector on COCO's and AI-TOD's pictures, the course's on its own.
CASES = (
    ("resnet50_fpn, COCO at 800 x 1344", Recipe(backbone="resnet50_fpn", assigner="atss"), 800, 1344),
    ("resnet50_fpn, AI-TOD at 800 x 800", Recipe(backbone="resnet50_fpn", assigner="rka"), 800, 800),
    ("small, 800 x 800", Recipe(assigner="rka"), 800, 800),
    ("small, 128 x 128", Recipe(assigner="atss"), 128, 128),
)


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

    corner = torch.rand(20, 2) * torch.tensor([width - 80.0, height - 80.0])
    boxes = torch.cat((corner, corner + 8 + 60 * torch.rand(20, 2)), dim=1)
    target = {"boxes": boxes, "labels": torch.zeros(20, dtype=torch.int64)}
    mixed = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(keep, lambda tensor: tensor), mixed:
            losses = detector([torch.rand(3, height, width)], [target])
        sum(losses.values()).backward()
    image = sum(size for size, _ in kept.values())
    return sum(p.nbytes for p in detector.parameters()), image, counter.get_total_flops()


def main() -> None:
    """A line for each case and precision."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
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
