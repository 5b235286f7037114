"""The code in docs/library.md does what the page says of it."""

import re
import sys
from pathlib import Path

import torch
from torch import nn

from labelkit import Priors
from labelkit.assigners import RKA
from labelkit.boxes import decode_ltrb
from labelkit.similarity import iou
from tests.squares import squares
from tests.strategies import target_of, without_grid

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")


def block(heading, number=0):
    """A block of Python below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)[number]


def test_the_loop_learns():
    torch.manual_seed(0)
    layers = [nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 2), (32, 32, 1))]
    network = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())), nn.Conv2d(32, 5, 1))
    nn.init.constant_(network[-1].bias[4:], -3.0)
    data, test = squares(32), squares(8, seed=1)
    batches = []
    for step in range(80):
        images, targets = zip(*(data[(4 * step + i) % 32] for i in range(4)), strict=True)
        batches.append((torch.stack(images), [dict(target) for target in targets]))
    exec(block("A loop of your own"), {"network": network, "batches": batches})
    points, found = Priors.points((64, 64), strides=(8,)), []
    for image, target in (test[i] for i in range(8)):
        out = network(image[None]).flatten(2).transpose(1, 2)[0]
        boxes = decode_ltrb(out[:, :4].exp() * points.strides[:, None], points.centers)
        best = boxes[out[:, 4].argmax()]
        found.append(float(iou(best.detach(), target["boxes"].as_subclass(torch.Tensor)).max()))
    assert sorted(found)[2] > 0.5  # the surest box of six pictures in eight, or more, lies on an object


def test_the_ten_line_rule_is_a_rule_and_the_reach_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "page_rules.py").write_text(block("A rule of your own", 0) + block("A rule of your own", 1))
    monkeypatch.syspath_prepend(tmp_path)
    import page_rules

    priors = Priors.anchors((256, 256), (4, 8), ((16.0,), (32.0,)))
    corner = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 220
    target = target_of(torch.cat((corner, corner + 20), dim=1))
    assert page_rules.NearestK(k=3)(priors, target).positive.any()
    rule, free = RKA(k=3, similarity=page_rules.near), without_grid(priors, (4, 8))
    assert torch.equal(rule(priors, target).gt, rule(free, target).gt)
    del sys.modules["page_rules"]
