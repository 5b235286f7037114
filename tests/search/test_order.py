"""The first k of many groups, beside a sort of everything."""

import pytest
import torch

from labelkit.search import order


@pytest.mark.parametrize("criteria", [1, 2])
def test_the_first_k_of_many_pairs_with_ties(criteria):
    """More pairs than are sorted outright; among pairs that tie in everything the earlier ones come first."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(order.FEW).repeat_interleave(3) % 60
    keys = [torch.randint(0, 20, (len(group),), generator=generator).float() for _ in range(criteria)]
    chosen = order.first_k(group, 60, 7, *keys)
    for one in range(60):
        own = (group == one).nonzero().squeeze(1).tolist()
        wanted = sorted(own, key=lambda i: (*(float(key[i]) for key in keys), i))[:7]
        assert chosen[own].nonzero().squeeze(1).tolist() == sorted(own.index(i) for i in wanted)
