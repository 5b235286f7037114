"""Reads a chapter's source (percent format) and turns it into its two forms.

A solution stands between `# BEGIN SOLUTION 05.2` and `# END SOLUTION`. The exercise form has
`course.todo("05.2")` there instead; the solution form keeps the code and drops the marks.

Where the reader is given something to start from (code with a bug in it, `answer = {"A": ..., "B": ...}`), it stands
before the solution, after `# BEGIN GIVEN`, each line a comment. The exercise form has it, uncommented, in place of all.
"""

from __future__ import annotations

import ast
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelkit_course import paths

if TYPE_CHECKING:
    from nbformat import NotebookNode

REGION = re.compile(
    r"(?:^[ \t]*# BEGIN GIVEN[ \t]*\n(?P<given>(?:^[ \t]*#.*\n)+?))?"
    r"^(?P<indent>[ \t]*)# BEGIN SOLUTION (?P<id>\d\d\.\d+)[ \t]*\n"
    r"(?P<code>.*?)"
    r"^[ \t]*# END SOLUTION[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


def sources(directory: Path | None = None) -> list[Path]:
    """The chapters' sources, in order."""
    return sorted((directory or paths.chapters()).glob("[0-9][0-9]_*.py"))


def source_of(number: str) -> Path:
    for path in sources():
        if path.name.startswith(f"{number}_"):
            return path
    raise ValueError(f"Chapter {number} is not in {paths.chapters()}.")


@cache
def _parse(text: str) -> NotebookNode:
    import jupytext  # takes seconds, and a notebook's kernel needs it only for `solution`

    # comment_magics would turn a comment such as "# less than 0.4" into a shell command.
    return jupytext.reads(text, fmt={"extension": ".py", "format_name": "percent", "comment_magics": False})


def cells(path: Path) -> list[NotebookNode]:
    """The cells of a source, as written."""
    return _parse(path.read_text(encoding="utf-8")).cells


def text(path: Path) -> str:
    """All that the text cells of a source say."""
    return "\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def exercise_form(code: str) -> str:
    return REGION.sub(_start, code)


def _start(region: re.Match[str]) -> str:
    """What the reader finds in place of a solution."""
    if region["given"] is None:
        return f'{region["indent"]}course.todo("{region["id"]}")  # your code here'
    return re.sub(r"^([ \t]*)# ?", r"\1", region["given"], flags=re.MULTILINE).rstrip("\n")


def solution_form(code: str) -> str:
    return REGION.sub(lambda m: m["code"].rstrip("\n"), code)


def solution_text(exercise_id: str) -> str:
    """The answer as a reader sees it: the lines of the region, without their indentation."""
    regions = REGION.finditer(answering_cell(exercise_id))
    return next(textwrap.dedent(one["code"]).rstrip() for one in regions if one["id"] == exercise_id)


def reference(exercise_id: str) -> Any:
    """The answer of the solution form: a function, or a value."""
    return run(exercise_id, solution_form(answering_cell(exercise_id)))


def stub(exercise_id: str) -> Any:
    """The answer of the exercise form, as a learner first meets it."""
    return run(exercise_id, exercise_form(answering_cell(exercise_id)))


def answering_cell(exercise_id: str) -> str:
    """The text of the code cell in which an exercise is answered, as it stands in the source."""
    for cell in cells(source_of(exercise_id.split(".")[0])):
        if any(region["id"] == exercise_id for region in REGION.finditer(cell.source)):
            return cell.source
    raise ValueError(f"No chapter holds a solution {exercise_id}.")


def run(exercise_id: str, code: str) -> Any:
    """Run an answer's code alone, after what `surroundings` allows it, and return the function or value it defines."""
    namespace = surroundings(exercise_id)
    exec(compile(code, f"<{exercise_id}>", "exec"), namespace)
    return namespace[answer_name(code)]


def answer_name(code: str) -> str:
    """The last function or class that a cell defines, perhaps with helpers before it; or else its last variable."""
    body = ast.parse(code).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    names = names or [target.id for target in targets if isinstance(target, ast.Name)]
    if not names:
        raise ValueError("An exercise's cell must define a function, or give a name to a value.")
    return names[-1]


def surroundings(exercise_id: str) -> dict[str, Any]:
    """What an answer may use: imports, plain constants and functions of the cells above it, without other answers.

    Nothing else of the chapter runs, so an answer stands on its own and its proofs cost no chapter.
    """
    path, answer = source_of(exercise_id.split(".")[0]), answering_cell(exercise_id)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells(path):
        if cell.source == answer:
            break
        if cell.cell_type != "code" or REGION.search(cell.source):
            continue
        kept = [node for node in ast.parse(cell.source).body if _is_definition(node)]
        exec(compile(ast.Module(kept, []), path.name, "exec"), namespace)
    return namespace


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
        return True
    if not isinstance(node, ast.Assign):
        return False
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True
