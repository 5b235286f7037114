"""No id is ever used for another task: a learner's progress file would mark that passed.

FIRST holds the exercises of the first edition under today's numbers. One that goes is added to registry.RETIRED; a
title that changes for the same task is changed here too, on purpose. An edition that appears adds its own.
"""

import pytest

from labelkit_course import registry

FIRST = {
    "00.1": "The centres of boxes",
    "01.1": "From the centre to the corners",
    "01.2": "IoU of many pairs",
    "01.3": "GIoU",
    "01.4": "How much error is allowed?",
    "02.1": "Strike out",
    "02.2": "The coordinate trick",
    "02.3": "Soft suppression",
    "02.4": "Count what went wrong",
    "02.5": "Dominoes",
    "02.6": "All at once",
    "03.1": "The points of a level",
    "03.2": "The shapes of a cell",
    "03.3": "From a row of the output to its prior",
    "03.4": "Decode",
    "04.1": "From labels to targets",
    "04.2": "Focal loss",
    "04.3": "The first score",
    "04.4": "Who wins?",
    "05.1": "Two thresholds",
    "05.2": "Class targets",
    "05.3": "Who is claimed",
    "05.4": "The whole rule",
    "06.1": "The points of one level",
    "06.2": "Inside and in range",
    "06.3": "Centre-ness",
    "06.4": "FCOS",
    "07.1": "Which detections count",
    "07.2": "Precision and recall",
    "07.3": "AP at 101 points",
    "07.4": "Who got nothing",
    "08.1": "Own thresholds",
    "08.2": "The k best, ties included",
    "08.3": "Who wins?",
    "08.4": "TopK",
    "09.1": "The nearest of one level",
    "09.2": "Mean plus standard deviation",
    "09.3": "ATSS",
    "09.4": "Say why",
    "10.1": "Where did it come from?",
    "10.2": "Who makes up for it?",
    "10.3": "HAMBox",
    "10.4": "Two sums, two counts",
    "11.1": "The n best, each to its own",
    "11.2": "Label and weight of the paper",
    "11.3": "Four corners of the code",
    "11.4": "Focal loss for soft labels",
    "16.1": "Count by size class",
    "16.2": "Whose positives are they?",
    "16.3": "Missed by the grid",
    "16.4": "Fill up",
    "17.1": "NWD",
    "17.2": "SimD",
    "17.3": "How small is too small?",
    "17.4": "RKA",
    "18.1": "How much does it see?",
    "18.2": "RFD",
    "18.3": "HLA",
    "18.4": "The rescue",
}


def test_an_id_of_the_first_edition_is_the_same_task_or_retired():
    now = {exercise.id: exercise.title for exercise in registry.every()}
    assert {name: now.get(name, title) for name, title in FIRST.items()} == FIRST
    assert set(FIRST) <= set(now) | registry.RETIRED


def test_a_retired_id_is_not_declared():
    assert registry.RETIRED.isdisjoint(exercise.id for exercise in registry.every())


@pytest.mark.parametrize(
    ("ids", "retired"),
    [(["05.1", "05.2"], ()), (["05.3", "05.2"], ("05.1",)), (["05.2", "05.1"], ("04.2",)), ([], ("05.1",))],
)
def test_every_id_is_declared_or_retired(ids, retired):
    registry._check_ids("05", ids, frozenset(retired))


@pytest.mark.parametrize(
    ("ids", "retired"),
    [
        (["05.1", "05.3"], ()),  # 05.2 went without being retired
        (["05.1", "05.1"], ()),
        (["05.1", "05.2"], ("05.2",)),  # a retired id again
        (["05.2"], ()),
        (["06.1"], ()),
    ],
)
def test_an_id_left_out_or_used_again_is_an_error(ids, retired):
    with pytest.raises(ValueError, match=r"ch05\.py declares"):
        registry._check_ids("05", ids, frozenset(retired))
