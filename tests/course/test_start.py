"""What chapter 00 and the glossary say of all the other chapters is what these say of themselves."""

import ast
import re
from graphlib import TopologicalSorter

import pytest

from labelkit_course import chapter, times

PATHS = {int(path.name[:2]): path for path in chapter.sources()}
START = PATHS[0].read_text(encoding="utf-8")
GLOSSARY = (PATHS[0].parent / "glossary.md").read_text(encoding="utf-8")


def everything_needed(needs: dict[int, set[int]]) -> dict[int, set[int]]:
    """With each chapter also what its own needs need."""
    whole: dict[int, set[int]] = {}
    for number in TopologicalSorter(needs).static_order():
        whole[number] = set().union(needs[number], *(whole[one] for one in needs[number]))
    return whole


def stated(path) -> set[int]:
    """The chapters that the line "You need" names."""
    line = re.search(r"\*\*You need\*\*(.*?)\.[\s#]", path.read_text(encoding="utf-8"), re.DOTALL)
    words = re.sub(r"\([^)]*\)|\d+\s+(?:#\s+)?minutes.*", "", line[1], flags=re.DOTALL)
    return {int(number) for number in re.findall(r"\b\d\d?\b", words)}


def literal(name: str) -> dict:
    """A dict that a cell of chapter 00 writes out."""
    for node in ast.walk(ast.parse(START)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"chapter 00 has no {name}")


def test_the_map_is_what_the_chapters_need():
    needs = {number: stated(path) for number, path in PATHS.items() if number}
    drawn: dict[int, set[int]] = {number: set() for number in literal("chapters")}
    for number, others in literal("needed_by").items():
        for other in others:
            drawn[other].add(number)
    assert everything_needed(drawn) == everything_needed(needs)


def test_no_arrow_is_drawn_that_others_imply():
    needed_by = {number: set(others) for number, others in literal("needed_by").items()}
    after = everything_needed({number: needed_by.get(number, set()) for number in literal("chapters")})
    for number, others in needed_by.items():
        assert not any(one in after[other] for one in others for other in others), number


def test_no_arrow_passes_over_another_chapter():
    places = {number: complex(column, row) for number, (column, row, _) in literal("chapters").items()}
    for number, others in literal("needed_by").items():
        for other in others:
            way = places[other] - places[number]
            for third in places.keys() - {number, other}:
                apart = (places[third] - places[number]) / way  # along the arrow from 0 to 1, and beside it
                beside = apart - min(max(apart.real, 0), 1)
                assert abs(beside * way) > 0.3, (number, other, third)


def test_every_chapter_has_a_row():
    assert [int(number) for number in re.findall(r"^# \| \[(\d\d) ", START, re.MULTILINE)] == sorted(PATHS)[1:]


@pytest.mark.parametrize(
    "row",
    re.findall(r"^# \| ([^|]+\w) \| (\d[^|]*) \| (\d+) \| (\d+) \|$", START, re.MULTILINE),
    ids=lambda row: row[0],
)
def test_the_hours_of_a_path(row):
    _, words, *hours = row
    numbers: list[int] = []
    for first, last in re.findall(r"\b(\d+) to (\d+)", words):
        numbers += range(int(first), int(last) + 1)
    numbers += [int(one) for one in re.findall(r"(?<!to )\b(\d+)\b(?! to)", words)]
    counted = [sum(minutes) / 60 for minutes in zip(*(times.minutes(PATHS[one]) for one in numbers), strict=True)]
    assert counted == pytest.approx([float(hour) for hour in hours], abs=0.75)


def test_there_are_four_paths():
    assert len(re.findall(r"^# \| [^|]+\w \| \d[^|]* \| \d+ \| \d+ \|$", START, re.MULTILINE)) == 4


def test_the_glossary_is_alphabetical_and_its_links_lead_somewhere():
    terms = re.findall(r"^- \*\*([^*]+)\*\*", GLOSSARY, re.MULTILINE)
    assert terms == sorted(terms, key=lambda term: re.sub(r"[^a-z0-9]", "", term.lower()))
    assert f"These are {len(terms)} terms" in GLOSSARY
    links = re.findall(r"\[(\d\d)\]\(([^)]+)\)", GLOSSARY)
    assert len(links) == len(terms)
    assert set(links) <= {(f"{number:02}", f"{path.stem}.ipynb") for number, path in PATHS.items()}
