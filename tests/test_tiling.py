"""Where tiles stand: they cover the picture, have one size, share the overlap, and show every small object whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelkit.tiling import Tiling


@st.composite
def cut(draw):
    """(tiling, height, width)"""
    tile = draw(st.integers(1, 20))
    return Tiling(tile, draw(st.integers(0, tile - 1))), draw(st.integers(1, 60)), draw(st.integers(1, 60))


@given(cut())
def test_tiles_cover_the_picture_and_nothing_else(given):
    tiling, height, width = given
    windows = tiling.windows(height, width)
    seen = {(x, y) for x1, y1, x2, y2 in windows for x in range(x1, x2) for y in range(y1, y2)}
    assert seen == {(x, y) for x in range(width) for y in range(height)}
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in windows} == {(min(tiling.tile, width), min(tiling.tile, height))}
    assert len(set(windows)) == len(windows) and windows == sorted(windows, key=lambda window: (window[1], window[0]))


@given(cut())
def test_neighbours_share_the_overlap_and_no_tile_is_to_spare(given):
    tiling, height, width = given
    starts = sorted({window[0] for window in tiling.windows(height, width)})
    steps = [right - left for left, right in zip(starts, starts[1:], strict=False)]
    assert all(step == tiling.tile - tiling.overlap for step in steps[:-1])
    assert all(0 < step <= tiling.tile - tiling.overlap for step in steps[-1:])


@given(cut(), st.data())
def test_an_object_no_larger_than_the_overlap_is_whole_somewhere(given, data):
    tiling, height, width = given
    w, h = (data.draw(st.integers(0, min(tiling.overlap, side))) for side in (width, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    windows = tiling.windows(height, width)
    assert any(x1 <= x and y1 <= y and x + w <= x2 and y + h <= y2 for x1, y1, x2, y2 in windows)


def test_by_hand():
    assert Tiling(6, 2).windows(6, 13) == [(0, 0, 6, 6), (4, 0, 10, 6), (7, 0, 13, 6)]
    assert [Tiling(6, 2).starts(length) for length in (6, 7, 14)] == [[0], [0, 1], [0, 4, 8]]
    assert Tiling(6, 2).windows(5, 6) == [(0, 0, 6, 5)] == Tiling(6, 0).windows(5, 6)
    assert Tiling.of(None) is None and Tiling.of(10) == Tiling(10, 2) and Tiling.of(10, 0) == Tiling(10, 0)
    assert str(Tiling(6, 2)) == "tiles of 6 x 6 px that share 2 px"


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (0, None, "tile must be at least 1, got 0"),
        (8, 8, r"overlap must lie in 0 \.\.\. tile - 1 = 7, got 8"),
        (8, -1, "got -1"),
        (8.5, 2, "tile must be a whole number of pixels, got 8.5"),
        (8, "2", "overlap must be a whole number of pixels, got '2'"),
        (True, 0, "tile must be a whole number of pixels, got True"),
        (None, 4, "overlap is that of tiles, and there is no tile: got 4"),
    ],
)
def test_what_is_no_tiling_is_named(tile, overlap, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Tiling.of(tile, overlap)
