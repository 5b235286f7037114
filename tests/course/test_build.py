"""The two forms of a chapter, what the build refuses, and what counts as drift. No kernel runs here."""

import nbformat
import pytest

from labelkit_course import build, chapter

SOURCE = '''# %% [markdown]
# # A chapter

# %%
import labelkit_course as course

SIDE = 4
table = [print("never run when an answer is extracted")]


def helper(x):
    return x * SIDE


# %%
def my_answer(x):
    """Four times x."""
    if x:
        # BEGIN SOLUTION 00.1
        result = helper(x)
        return result + 0 * SIDE  # a second line, so that it is long enough to be seen as a leak
        # END SOLUTION

# %%
course.check("00.1", my_answer)

# %% tags=["nbval-check-output"]
print(1)

# %%
print(1)

# %%
print(1)
'''


@pytest.fixture
def path(tmp_path, monkeypatch):
    folder = tmp_path / "chapters"
    folder.mkdir()
    monkeypatch.setattr(chapter.paths, "ROOT", tmp_path)
    file = folder / "00_small.py"
    file.write_text(SOURCE)
    return file


def written(path, book):
    """Commit a notebook as if it had been executed."""
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
        if "tags" in cell.metadata:
            cell.outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(book, path.with_suffix(".ipynb"))
    return code


def own(book):
    """The chapter's own cells, without the lines of links at both ends."""
    first, *cells, last = book.cells
    assert first.metadata.tags == last.metadata.tags == ["navigation"]
    return cells


def test_the_forms_differ_in_the_region_only(path):
    exercise, solution = build.notebook(path), build.solution_notebook(path)
    differing = [i for i, (a, b) in enumerate(zip(own(exercise), own(solution), strict=True)) if a.source != b.source]
    assert differing == [2]
    assert own(exercise)[2].source.endswith('    if x:\n        course.todo("00.1")  # your code here')
    assert "        result = helper(x)\n" in own(solution)[2].source
    assert "SOLUTION" not in nbformat.writes(exercise) + nbformat.writes(solution)


GIVEN = '''
# %%
# BEGIN GIVEN
# def their_sum(values):
#     """The sum."""
#     # the last one too
#     return sum(values[:-1])
# BEGIN SOLUTION 00.2
def their_sum(values):
    """The sum."""
    return sum(values)
# END SOLUTION

# %%
# BEGIN GIVEN
# my_guess = {"A": ..., "B": ...}
# BEGIN SOLUTION 00.3
my_guess = {"A": 2, "B": 4}
# END SOLUTION
'''


def test_given_text_stands_in_place_of_the_solution(path):
    path.write_text(SOURCE + GIVEN)
    assert build.source_problems(path) == []
    exercise, solution = build.notebook(path), build.solution_notebook(path)
    given = 'def their_sum(values):\n    """The sum."""\n    # the last one too\n    return sum(values[:-1])'
    assert [cell.source for cell in own(exercise)[-2:]] == [given, 'my_guess = {"A": ..., "B": ...}']
    assert own(solution)[-1].source == 'my_guess = {"A": 2, "B": 4}'
    assert "GIVEN" not in nbformat.writes(exercise) + nbformat.writes(solution)
    written(path, exercise)
    assert build.drift(path) == []


def test_given_text_inside_a_function_keeps_its_place(path):
    given = (
        "        # BEGIN GIVEN\n        # if x > 9:\n        #     x = 9\n        # return x\n        # BEGIN SOLUTION"
    )
    path.write_text(SOURCE.replace("        # BEGIN SOLUTION", given))
    code = own(build.notebook(path))[2].source
    assert code.endswith("    if x:\n        if x > 9:\n            x = 9\n        return x")
    assert chapter.stub("00.1")(20) == 9 and chapter.reference("00.1")(3) == 12


def test_an_answer_may_be_a_value(path):
    path.write_text(SOURCE + GIVEN)
    assert chapter.reference("00.3") == {"A": 2, "B": 4} and chapter.stub("00.3") == {"A": ..., "B": ...}
    assert chapter.reference("00.2")([1, 2]) == 3 and chapter.stub("00.2")([1, 2]) == 1
    assert chapter.solution_text("00.3") == 'my_guess = {"A": 2, "B": 4}'


def test_a_short_value_repeated_in_another_cell_is_a_leak(path):
    path.write_text(SOURCE + GIVEN + '\n# %%\nagain = my_guess = {"A": 2, "B": 4}\n')
    written(path, build.notebook(path))
    assert any("the answer of 00.3 can be read" in fault for fault in build.drift(path))


def test_ids_come_from_content_and_twins_are_told_apart(path):
    first, second = build.notebook(path), build.notebook(path)
    ids = [cell.id for cell in own(first)]
    assert nbformat.writes(first) == nbformat.writes(second)
    assert len(set(ids)) == len(ids) and ids[-2:] == [f"{ids[-3]}-2", f"{ids[-3]}-3"]
    path.write_text(SOURCE.replace("# # A chapter", "# # Another"))
    assert [cell.id for cell in own(build.notebook(path))][1:] == ids[1:]
    nbformat.validate(first)


def test_the_reference_and_the_stub_run_without_the_chapter(path, capsys):
    assert chapter.reference("00.1")(3) == 12
    with pytest.raises(NotImplementedError):
        chapter.stub("00.1")(3)
    assert capsys.readouterr().out == ""
    assert chapter.solution_text("00.1").startswith("result = helper(x)\nreturn")


def test_a_comment_that_reads_like_a_command_stays_a_comment(path):
    path.write_text(SOURCE + "\n# %%\n# less than 0.4: background\nx = 1\n")
    assert own(build.notebook(path))[-1].source == "# less than 0.4: background\nx = 1"


def test_a_notebook_as_built_has_not_drifted(path):
    written(path, build.notebook(path))
    assert build.drift(path) == [] and build.is_current(path)


@pytest.mark.parametrize(
    ("old", "new", "clue"),
    [
        ("# # A chapter", "# # A title", "source is not the source's"),
        ("print(1)", "print(2)", "source is not the source's"),
        ("helper(x)\n", "helper(x) \n", "metadata is not the build's"),
        ("tags=", "id=", "metadata is not the source's"),
    ],
)
def test_a_source_changed_after_the_build_has_drifted(path, old, new, clue):
    written(path, build.notebook(path))
    path.write_text(SOURCE.replace(old, new, 1))
    assert any(clue in fault for fault in build.drift(path))
    assert not build.is_current(path)


def spoil_source(book, code):
    code[0].source += "\n# by hand"


def spoil_text(book, code):
    book.cells[1].source = "# Another title"


def spoil_id(book, code):
    code[0].id = "abc"


def never_executed(book, code):
    code[3].execution_count = None


def executed_out_of_order(book, code):
    code[0].execution_count, code[1].execution_count = 2, 1


def ends_in_an_error(book, code):
    code[0].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]


def writes_to_stderr(book, code):
    code[0].outputs = [nbformat.v4.new_output("stream", name="stderr", text="a warning")]


def picture_without_alt_text(book, code):
    data = {"image/png": "aaaa", "text/plain": "<Figure size 400x400>"}
    code[0].outputs = [nbformat.v4.new_output("display_data", data=data)]


def compared_without_an_output(book, code):
    code[3].outputs = []


def lost_cell(book, code):
    del book.cells[-1]


def metadata_by_hand(book, code):
    book.metadata["author"] = "someone"


def solution_form(book, code):
    code[1].source = chapter.solution_form(SOURCE[SOURCE.index("def my_answer") : SOURCE.index("\n# %%\ncourse.check")])


@pytest.mark.parametrize(
    ("spoil", "clue"),
    [
        (spoil_source, "cell 2 (import labelkit_course as course): source"),
        (spoil_text, "cell 1 (# A chapter): source"),
        (spoil_id, "id is not the source's"),
        (never_executed, "execution count None"),
        (executed_out_of_order, "not run in order"),
        (ends_in_an_error, "ends in ValueError"),
        (writes_to_stderr, "writes to stderr"),
        (picture_without_alt_text, "without alt text"),
        (compared_without_an_output, "compared, but without an output"),
        (lost_cell, "8 cells, the source has 9"),
        (metadata_by_hand, "metadata is not the build's"),
        (solution_form, "the answer of 00.1 can be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_notebook_changed_by_hand_has_drifted(path, spoil, clue):
    book = build.notebook(path)
    code = written(path, book)
    spoil(book, code)
    nbformat.write(book, path.with_suffix(".ipynb"))
    assert any(clue in fault for fault in build.drift(path)), build.drift(path)


def test_an_answer_repeated_in_another_cell_is_a_leak(path):
    path.write_text(
        SOURCE.replace(
            "# %%\nprint(1)\n",
            "# %%\ndef again(x):\n  result = helper(x)\n  return result + 0 * SIDE"
            "  # a second line, so that it is long enough to be seen as a leak\n",
            1,
        )
    )
    written(path, build.notebook(path))
    assert any("the answer of 00.1 can be read" in fault for fault in build.drift(path))


@pytest.mark.parametrize(
    ("cell", "clue"),
    [
        ("# %%\n\n# %%\nx = 1\n", "empty"),
        ("# %%\n!ls\n", "not plain Python"),
        ("# %%\n%matplotlib inline\n", "not plain Python"),
        ("# %%\n" + "x = 1\n" * 36, "longer than 35 lines"),
        ('# %% tags=["nbval-skip"]\nx = 1\n', "has the tag nbval-skip"),
        ('# %% tags=["raises-exception"]\nx = 1\n', "has the tag raises-exception"),
        ("# %%\n# NBVAL_IGNORE_OUTPUT\nx = 1\n", "NBVAL comment"),
        ("# %%\n# BEGIN SOLUTION 00.2\nx = 1\n", "without its partner"),
        ("# %%\n# BEGIN GIVEN\nx = 2\n# BEGIN SOLUTION 00.2\nx = 1\n# END SOLUTION\n", "BEGIN GIVEN that no comments"),
        ("# %%\n# BEGIN GIVEN\n# x = = 2\n# BEGIN SOLUTION 00.2\nx = 1\n# END SOLUTION\n", "not plain Python"),
        ("# %%\n# BEGIN SOLUTION 0.2\nx = 1\n# END SOLUTION\n", "without its partner"),
    ],
)
def test_the_build_refuses_a_source(path, cell, clue):
    path.write_text(SOURCE + "\n" + cell)
    faults = build.source_problems(path)
    assert any(clue in fault for fault in faults), faults
    with pytest.raises(ValueError, match="00_small"):
        build.build(path)
    assert not path.with_suffix(".ipynb").exists()


def executed(path, monkeypatch):
    """Commit the notebook of the source as it stands; a kernel that prints another number waits for the next build."""
    written(path, build.notebook(path))
    runs = []

    def execute(book, folder):
        runs.append(folder)
        for count, cell in enumerate((cell for cell in book.cells if cell.cell_type == "code"), 1):
            cell.execution_count = count
            cell.outputs = [nbformat.v4.new_output("stream", text="2\n")]

    monkeypatch.setattr(build, "execute", execute)
    return runs


def outputs(path):
    book = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    return [[output.text for output in cell.outputs] for cell in book.cells if cell.cell_type == "code"]


def test_new_text_keeps_the_outputs_and_runs_nothing(path, monkeypatch, capsys):
    runs = executed(path, monkeypatch)
    before, raw = outputs(path), path.with_suffix(".ipynb").read_text()
    assert (
        build.rewrite(path) and build._text(nbformat.reads(raw, as_version=4)) == path.with_suffix(".ipynb").read_text()
    )
    path.write_text(SOURCE.replace("# # A chapter", "# # Another\n#\n# With a sentence.\n\n# %% [markdown]\n# More."))
    assert build.run([]) == 0
    assert runs == [] and outputs(path) == before and build.drift(path) == []
    assert "its outputs are kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("print(1)", "print(1 + 0)"),
        ("SIDE = 4", "SIDE = 5"),
        ('tags=["nbval-check-output"]', 'tags=["show-input"]'),
        ("# %%\nprint(1)", "# %%\n0\n\n# %%\nprint(1)"),
    ],
)
def test_changed_code_is_executed(path, old, new, monkeypatch):
    runs = executed(path, monkeypatch)
    path.write_text(SOURCE.replace(old, new, 1).replace("# # A chapter", "# # Another"))
    assert build.run([]) == 0
    assert runs == [path.parent] and outputs(path)[0] == ["2\n"]


def test_a_chapter_that_is_named_is_executed(path, monkeypatch):
    """The library may have changed, of which its source says nothing."""
    runs = executed(path, monkeypatch)
    path.write_text(SOURCE.replace("# # A chapter", "# # Another"))
    assert build.run(["00"]) == 0 and len(runs) == 1
    assert build.run([], everything=True) == 0 and len(runs) == 2


@pytest.mark.parametrize("spoil", [never_executed, executed_out_of_order, ends_in_an_error, compared_without_an_output])
def test_outputs_that_are_no_run_of_the_code_are_not_kept(path, spoil):
    book = build.notebook(path)
    spoil(book, written(path, book))
    nbformat.write(book, path.with_suffix(".ipynb"))
    before = path.with_suffix(".ipynb").read_text()
    path.write_text(SOURCE.replace("# # A chapter", "# # Another"))
    assert not build.rewrite(path) and path.with_suffix(".ipynb").read_text() == before


def test_new_text_with_a_fault_is_refused(path, monkeypatch, capsys):
    runs = executed(path, monkeypatch)
    path.write_text(SOURCE.replace("# # A chapter", "# # Another") + "\n# %%\n!ls\n")
    assert build.run([]) == 1 and runs == []
    assert "not plain Python" in capsys.readouterr().err
