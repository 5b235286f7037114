"""Links that the build sets: chapters and papers named in the text, neighbours at both ends."""

import re

import pytest

from labelkit_course import build, chapter, linking, paths

SEVEN = chapter.source_of("07")


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("see chapter 5.", "see [chapter 5](05_retinanet.ipynb)."),
        ("Chapter 10 asks", "[Chapter 10](10_hambox.ipynb) asks"),
        ("chapters 5, 6 or 8", "chapters [5](05_retinanet.ipynb), [6](06_fcos.ipynb) or [8](08_topk.ipynb)"),
        ("chapters 1\nand 3", "chapters [1](01_boxes_and_iou.ipynb)\nand [3](03_anchors_and_points.ipynb)"),
        ("in arXiv 1912.02424, section 3", "in [arXiv 1912.02424](https://arxiv.org/abs/1912.02424), section 3"),
        ("arXiv\n1912.02424", "[arXiv\n1912.02424](https://arxiv.org/abs/1912.02424)"),
        ("chapter 7 is this one", "chapter 7 is this one"),
        ("chapter 99 is none", "chapter 99 is none"),
        ("# Before chapter 5\nchapter 5", "# Before chapter 5\n[chapter 5](05_retinanet.ipynb)"),
        ("`chapter 5` and $chapter 5$", "`chapter 5` and $chapter 5$"),
        ("```\nchapter 5\n```", "```\nchapter 5\n```"),
        ("[chapter 5](elsewhere.ipynb)", "[chapter 5](elsewhere.ipynb)"),
        (
            "in [this\nscene][scene],\n\n[scene]: explorer.html#a=9&rules=rka\n\nchapter 5",
            'in <a href="/files/explorer.html#a=9&amp;rules=rka">this\nscene</a>,\n\n[chapter 5](05_retinanet.ipynb)',
        ),
    ],
)  # fmt: skip
def test_what_a_text_names_is_linked(text, linked):
    assert linking.linked(text, SEVEN) == linked


def test_neighbours_stand_at_both_ends():
    book = build.notebook(SEVEN)
    first, last = book.cells[0], book.cells[-1]
    assert first.source == last.source == linking.navigation(SEVEN)
    assert first.metadata.tags == ["navigation"] and first.id != last.id
    targets = re.findall(r"\]\(([^)]+)\)", first.source)
    assert targets == ["06_fcos.ipynb", "00_start_here.ipynb", linking.GLOSSARY, "08_topk.ipynb"]
    assert "[08 · " in first.source


def test_the_first_and_the_last_chapter_have_one_neighbour():
    first, *_, last = chapter.sources()
    assert "←" not in linking.navigation(first) and "→" in linking.navigation(first)
    assert "→" not in linking.navigation(last) and "←" in linking.navigation(last)


@pytest.mark.parametrize("path", chapter.sources(), ids=lambda path: path.stem)
def test_every_link_of_a_built_chapter_leads_somewhere(path):
    text = "\n".join(cell.source for cell in build.notebook(path).cells if cell.cell_type == "markdown")
    targets = set(re.findall(r"\]\(([^)\s]+)\)", text))
    local = {target for target in targets if not target.startswith(("https://", "#"))}
    assert {target for target in local if not (paths.chapters() / target).is_file()} == set()
