"""Folded inputs: what imports, draws or asserts, and defines nothing that a visible cell needs."""

import pytest

from labelkit_course.hiding import hidden

DRAWS = "fig, (ax,) = plot.figure()\nplot.show(fig, alt='a box')"


def fold(*codes, tags=()):
    return hidden([(code, tags) for code in codes])


@pytest.mark.parametrize(
    "code",
    [
        "import torch\nfrom labelkit import plot",
        DRAWS,
        "course.stage('atss')",
        "assert 1 < 2\nassert 2 < 3",
        "for a, b in pairs:\n    table = iou(a, b)\n    assert table > 0",
        "with quiet():\n    for a in b:\n        assert a",
    ],
)
def test_plumbing_is_folded(code):
    assert fold(code) == [True]


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "print(answer)\nassert answer == 3",
        "import torch\nx = torch.zeros(3)",
        "for a in b:\n    print(a)\n    assert a",
        "for a in b:\n    assert a\n    total += a",
        "course.check('01.1', my_area)",
        "def show():\n    plot.show(fig, alt='a box')\ncourse.predict('01.6', guess, show)",
        "",
    ],
)
def test_the_rest_stays_in_sight(code):
    assert fold(code) == [False]


def test_a_drawing_cell_that_names_something_for_later_stays_in_sight():
    assert fold(f"scene = 3\n{DRAWS}", "print(scene)") == [False, False]
    assert fold(f"scene = 3\n{DRAWS}", "scene = 4\nprint(scene)") == [True, False]
    assert fold(f"scene = 3\n{DRAWS}", f"print(scene)\n{DRAWS}") == [True, True]
    assert fold(f"scene = 3\n{DRAWS}", "scene += 1") == [False, False]


def test_names_that_functions_read_count_and_their_own_do_not():
    assert fold(f"scene = 3\n{DRAWS}", "def f(x):\n    return scene + x") == [False, False]
    assert fold(f"x = 3\n{DRAWS}", "def f(x):\n    return x") == [True, False]
    assert fold(f"i = 3\n{DRAWS}", "print([i for i in range(3)])") == [True, False]
    assert fold(f"i = 3\n{DRAWS}", "for i in range(3):\n    print(i)") == [True, False]


def test_imports_are_folded_though_all_need_them():
    assert fold("import torch", "torch.zeros(1)") == [True, False]


def test_tags():
    assert fold(DRAWS, tags=["show-input"]) == [False]
    assert fold(DRAWS, tags=["nbval-check-output"]) == [False], "its printed numbers are the lesson"
    assert fold("assert 1 < 2", tags=["show-input"]) == [False]
    assert hidden([("def f():\n    return 1", ["hide-input"]), ("print(f())", [])]) == [True, False]
