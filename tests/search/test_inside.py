"""Inside: the centres in a ground truth, its short sides floored, within a radius of its centre; on every path."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelkit.search.candidates import floored, inside
from tests.assigners.paths import PATHS, path
from tests.oracles import least_distances
from tests.strategies import scenes


@pytest.mark.parametrize("way", PATHS)
@settings(deadline=None, max_examples=100)
@given(scene=scenes(), min_side=st.sampled_from([None, 1.0, 8.0, 30.0]), radius=st.sampled_from([None, 0.5, 1.5, 2.5]))
def test_equals_the_slow_loop(way, scene, min_side, radius):
    with path(way, scene.priors) as priors:
        pairs = inside(priors, scene.boxes, min_side, radius)
    least = least_distances(scene.priors.centers, scene.boxes, min_side)
    middle = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
    offsets = (middle[None] - scene.priors.centers[:, None]).abs().amax(2).tolist()
    expected = {
        (p, g): least[p][g]
        for p, level in enumerate(scene.priors.levels.tolist())
        for g in range(len(scene.boxes))
        if least[p][g] > 0 and (radius is None or offsets[p][g] < radius * scene.level_strides[level])
    }
    found = dict(zip(zip(pairs.prior.tolist(), pairs.gt.tolist(), strict=True), pairs.value.tolist(), strict=True))
    assert len(found) == len(pairs) and found == expected


def test_only_short_sides_are_floored():
    boxes = torch.tensor([[10.0, 10, 12, 40], [0.1, 0.2, 16.3, 16.4]])
    assert floored(boxes, None) is boxes
    assert floored(boxes, 16).tolist() == [[3, 10, 19, 40], boxes[1].tolist()]
