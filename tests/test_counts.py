"""Counts are refused below one, and one is said in the singular."""

import pytest

from labelkit.counts import at_least_one, counted


def test_one_is_said_in_the_singular():
    assert [counted(n, "picture") for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert [counted(n, "box is", "boxes are") for n in (1, 3)] == ["1 box is", "3 boxes are"]
    assert counted(1234, "object", form=",") == "1,234 objects"


def test_a_count_below_one_is_refused_by_its_name():
    at_least_one(tile=1, detections=None)
    with pytest.raises(ValueError, match="detections must be at least 1, got 0"):
        at_least_one(tile=1, detections=0)
