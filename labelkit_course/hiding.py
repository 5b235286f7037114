"""Which code cells a reader of a built chapter sees folded: those that only import, only draw, or only assert.

A cell that gives a name to something which a later visible cell uses stays in sight, so that nobody meets a name that
was never defined before their eyes. The tag `show-input` keeps a cell in sight whose drawing code is the lesson, and
`hide-input` folds one that prepares the first picture, where the text then says what it has prepared, or one whose
assertions need names of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labelkit_course import chapter

if TYPE_CHECKING:
    from nbformat import NotebookNode

DRAWING = {("plot", "show"), ("course", "stage")}
ASKING = {("course", name) for name in ("check", "predict", "preview", "todo")}
SHOWN, FOLDED, COMPARED = "show-input", "hide-input", "nbval-check-output"
_BLOCKS = (ast.For, ast.If, ast.With)
_SCOPES = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def code_cells(path: Path) -> Iterator[tuple[NotebookNode, bool]]:
    """The code cells of a chapter's source, each with whether its input is folded; in both forms alike."""
    cells = [cell for cell in chapter.cells(path) if cell.cell_type == "code"]
    codes = [(chapter.exercise_form(cell.source), chapter.tags(cell)) for cell in cells]
    return zip(cells, hidden(codes), strict=True)


def hidden(codes: Sequence[tuple[str, Sequence[str]]]) -> list[bool]:
    """For each code cell (its text, its tags), in order: whether its input is folded."""
    folded = []
    wanted: set[str] = set()  # names that visible cells further down read before they define them
    for code, tags in reversed(codes):
        body = _statements(code)
        reads, defines = _names(body)
        plumbing = _only_imports(body) or _only_asserts(body) or (draws(code) and COMPARED not in tags)
        free = _only_imports(body) or not wanted & defines
        folded.append(FOLDED in tags or (plumbing and free and SHOWN not in tags))
        if not folded[-1]:
            wanted = (wanted - defines) | reads
    return folded[::-1]


def _statements(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except SyntaxError:  # the build refuses it, by cell
        return []


def _only_imports(body: list[ast.stmt]) -> bool:
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def _only_asserts(body: list[ast.stmt]) -> bool:
    """Asserts, and loops and blocks that end in one."""
    return bool(body) and all(isinstance(node, ast.Assert) or _asserting_block(node) for node in body)


def _asserting_block(node: ast.stmt) -> bool:
    if not isinstance(node, _BLOCKS) or not (isinstance(node.body[-1], ast.Assert) or _asserting_block(node.body[-1])):
        return False
    return all(isinstance(inner, ast.Assert | ast.Assign) or _asserting_block(inner) for inner in node.body)


def draws(code: str) -> bool:
    """Whether it shows a picture, and asks the reader nothing."""
    called = {call for node in _statements(code) for call in _calls(node)}
    return bool(called & DRAWING) and not called & ASKING


def _calls(tree: ast.AST) -> set[tuple[str, str]]:
    """The functions called by a module's name: ("plot", "show")."""
    functions = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        (function.value.id, function.attr)
        for function in functions
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    }


def _names(body: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """The names that statements take from before them, and those that they leave behind."""
    reads: set[str] = set()
    defines: set[str] = set()
    for node in body:
        bound, taken = _bound(node), _taken(node)
        # `x = x + 1` takes x from before; a loop's own variable is bound before its body reads it.
        reads |= taken - defines - (bound if isinstance(node, _BLOCKS) else set())
        defines |= bound
    return reads, defines


def _bound(node: ast.AST) -> set[str]:
    """Names that a statement binds in the notebook's own scope."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, _SCOPES):
        return set()
    own = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()
    return own.union(*(_bound(child) for child in ast.iter_child_nodes(node)))


def _taken(tree: ast.AST) -> set[str]:
    """Names that a statement reads, without those that only its own functions and comprehensions bind."""
    if isinstance(tree, _SCOPES):
        parts = [_taken(child) for child in ast.iter_child_nodes(tree)]
        return set().union(*parts) - _local(tree)
    own = {tree.id} if isinstance(tree, ast.Name) and isinstance(tree.ctx, ast.Load) else set()
    if isinstance(tree, ast.AugAssign) and isinstance(tree.target, ast.Name):
        own = {tree.target.id}
    return own.union(*(_taken(child) for child in ast.iter_child_nodes(tree)))


def _local(scope: ast.AST) -> set[str]:
    """Names that are bound inside a function or comprehension: arguments and variables."""
    found = {node.arg for node in ast.walk(scope) if isinstance(node, ast.arg)}
    return found | {
        node.id for node in ast.walk(scope) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
