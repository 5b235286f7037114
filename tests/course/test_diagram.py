"""The diagram of a detector's parts must be readable where it is smallest: on a phone, 360 px across."""

from itertools import combinations

import labelkit_course as course


def test_letters_are_large_enough_and_apart_on_a_phone():
    figure = course.pipeline()
    figure.canvas.draw()
    words = [text for text in figure.axes[0].texts if text.get_text()]
    per_point = 360 / (72 * figure.get_figwidth())
    assert min(text.get_fontsize() for text in words) * per_point > 10.5
    extents = {text.get_text(): text.get_window_extent() for text in words}
    assert {"backbone", "assigner", "loss"} <= set(extents)
    for (one, left), (other, right) in combinations(extents.items(), 2):
        assert not left.overlaps(right), f"{one!r} and {other!r} overlap"
