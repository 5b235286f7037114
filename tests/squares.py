"""A data set and a recipe that train in a second: bright squares on noise."""

import torch

from labelkit.datasets import DetectionDataset, make_target
from labelkit.training import train
from labelkit.training.recipe import Recipe

TINY = Recipe(steps=12, batch_size=2, checkpoint_every=4, lr=2e-3)


def squares(count=10, seed=0, transforms=None):
    """64 x 64 noise with bright squares of 10 to 24 px."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 80, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    targets = []
    for index in range(count):
        corner = torch.randint(0, 40, (2, 2), generator=generator)
        boxes = torch.cat((corner, corner + torch.randint(10, 24, (2, 1), generator=generator)), dim=1)
        for x1, y1, x2, y2 in boxes.tolist():
            images[index, :, y1:y2, x1:x2] = 220
        targets.append(make_target(boxes.clamp(max=64), torch.zeros(2, dtype=torch.int64), index, (64, 64)))
    return DetectionDataset(images, targets, ("square",), transforms)


def in_folders(root, train=4, val=2):
    """A data set as a user has it: below `root` train and val, each with annotations.json and images. Returns root."""
    squares(train).to_coco(root / "train")
    squares(val, seed=1).to_coco(root / "val")
    return root


def run(recipe, folder, **options):
    return train(recipe, folder, data=(squares(), squares(4, seed=1)), progress=False, accelerator="cpu", **options)
