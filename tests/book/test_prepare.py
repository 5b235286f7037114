"""What Sphinx is given: notebooks with descriptions, addresses, hints and answers; documents whose links hold."""

import re

import nbformat
import pytest

from book import folding, notebooks, prepare
from labelkit_course import chapter, registry
from labelkit_course.paths import ROOT, chapters

COMMITTED = chapters() / "05_retinanet.ipynb"
MARKDOWN = "\n".join(
    cell.source for path in sorted(chapters().glob("*.ipynb")) for cell in nbformat.read(path, 4).cells
    if cell.cell_type == "markdown"
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared():
    return notebooks.prepared(COMMITTED)


def test_a_picture_carries_its_description_and_its_width_to_where_they_are_read(prepared):
    shown = [
        cell for cell in prepared.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(shown) > 5
    for cell in shown:
        image = cell.metadata["mystnb"]["image"]
        assert len(image["alt"]) > 20 and re.fullmatch(r"\d{3,4}px", image["width"])


def test_a_scene_is_linked_where_the_book_has_the_explorer(prepared):
    links = re.findall(r'<a href="([^"#]*)#', "\n".join(cell.source for cell in prepared.cells))
    assert links == ["../explorer.html"]


def test_a_second_picture_of_a_cell_would_have_no_description():
    (cell,) = (
        cell for cell in nbformat.read(COMMITTED, 4).cells if "IoU of a sliding anchor" in str(cell.get("outputs"))
    )
    cell.outputs *= 2
    with pytest.raises(ValueError, match="shows 2 pictures"):
        notebooks.describe_picture(cell)


def test_every_exercise_has_its_address_hints_and_answer_in_place_of_the_blank_check(prepared):
    text = [cell.source for cell in prepared.cells]
    for exercise in registry.of_chapter("05"):
        number = exercise.id.replace(".", "-")
        assert sum(f"(exercise-{number})=\n### Exercise {exercise.id}:" in source for source in text) == 1
        (place,) = (i for i, cell in enumerate(prepared.cells) if cell.get("id") == f"folded-{number}")
        assert f'("{exercise.id}"' in text[place - 1]
        assert (
            text[place].count("{dropdown} Hint") == len(exercise.hints)
            and text[place].count("{dropdown} Solution") == 1
        )
        code = re.search(r"```python\n(.*?)```", text[place], re.DOTALL)[1]
        compile(code, "answer", "exec")
        for line in chapter.solution_text(exercise.id).split("\n"):
            assert line.strip() in code
    assert "blank" not in str([cell.get("outputs") for cell in prepared.cells])


def test_every_exercise_of_the_course_has_its_folds_once_after_its_last_check():
    ids = [cell.id for path in chapters().glob("*.ipynb") for cell in notebooks.prepared(path).cells]
    folds = sorted(name for name in ids if name.startswith("folded-"))
    assert folds == sorted(f"folded-{exercise.id.replace('.', '-')}" for exercise in registry.every())


def test_a_check_that_shows_a_mistake_stays():
    said = [str(cell.get("outputs")) for cell in notebooks.prepared(chapters() / "00_start_here.ipynb").cells]
    assert any("not yet" in text for text in said)


def test_the_lines_of_navigation_are_left_to_the_book(prepared):
    assert prepared.cells[0].source.startswith("# 05 ·")
    assert not any("[glossary](glossary.md)" in cell.source for cell in prepared.cells)


def test_no_text_of_a_notebook_stays_raw_html():
    assert MARKDOWN.count("<details>") > 50
    assert set(re.findall(r"</?[a-z]+>", folding.details(MARKDOWN))) == {"</a>"}  # of a scene's link, which is no block


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a * b_1 costs $5 [here]", r"a \* b\_1 costs \$5 \[here\]"),
        ("take `a * b`", "take `a * b`"),
        ("one\n  two", "one\\\n&nbsp;&nbsp;two"),
    ],
)
def test_a_hint_is_shown_as_it_stands(text, shown):
    assert folding.literally(text) == shown


def test_the_title_of_a_fold_is_one_line_without_entities():
    folded = folding.details("<details><summary>Is a &lt;\nb?</summary>\n\nYes.\n</details>")
    assert folded.startswith("::::::{dropdown} Is a < b?\n\nYes.\n::::::")


def test_a_document_links_to_what_the_book_holds_and_to_nothing_else(tmp_path):
    prepare.source(ROOT, tmp_path)
    board, library = ((tmp_path / "docs" / f"{name}.md").read_text("utf-8") for name in ("board", "library"))
    assert "](../chapters/17_metrics_for_small_objects.ipynb)" in board and "](../data/board/digits-full.png)" in board
    assert " ± " not in board and "46.0\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}2.0" in board  # a cell is one line
    assert "](../data/board)" not in board and "[README](../index.md)" in library
    assert "](../tests/" not in (tmp_path / "docs" / "scale.md").read_text("utf-8")
    assert {path.name for path in tmp_path.glob("chapters/*")} == {
        "glossary.md", *(path.name for path in chapters().glob("*.ipynb"))
    }  # fmt: skip


def test_the_first_page_begins_with_the_picture_of_the_readme_and_the_explorer():
    readme = (ROOT / "README.md").read_text("utf-8")
    page = prepare.landing(readme)
    assert page.index("](data/sky.png)") < page.index("explorer.html") < page.index("05_retinanet.ipynb")
    assert "@" not in page
    picture, caption = re.search(r"!\[([^]]*)\]\(data/sky\.png\)\n\n(.*?)\n:::", page, re.DOTALL).groups()
    assert set(re.findall(r"\d+", picture)) == set(re.findall(r"\d+", caption)) != set()
    with pytest.raises(ValueError, match=r"README\.md has no picture"):
        prepare.landing("# labelkit")
