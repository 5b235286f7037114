"""The assertions of a chapter: which of them hang on a network's numbers, and what was wrong with them when measured.

`trained` follows names through a chapter's code, from the calls that train or build a network to the assertions.
"""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Iterable, Iterator
from typing import Any

from labelkit_course import chapter

# Calls that return a network or what a network said: imported names, and Recipe's method.
SOURCES = {"train", "load_detector", "detect", "retinanet", "SmallPyramid", ".build"}
UNTRAINED = {"anchor_generator"}  # parts of a detector that no training changes
ENOUGH = 2.0  # spreads over the instruction sets that lie between an assertion's worst run and its failing


def code_cells(path) -> Iterator[tuple[list[str], ast.Module]]:
    """Tags and solution form of each code cell of a chapter."""
    for cell in chapter.cells(path):
        if cell.cell_type == "code":
            yield chapter.tags(cell), ast.parse(chapter.solution_form(cell.source))


def claim(node: ast.stmt) -> str | None:
    """The text of an assertion, or of a call of `torch.testing.assert_close`; None for another statement."""
    if isinstance(node, ast.Assert):
        return ast.unparse(node.test)
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.testing.assert_close":
        return ast.unparse(call)
    return None


def trained(path) -> list[str]:
    """The texts of the assertions of a chapter whose operands hang on a network, in order."""
    flow = _Flow()
    for _, tree in code_cells(path):
        flow.run(tree.body)
    return list(flow.claims)


class _Flow:
    """Which names hold something that came from a network, statement by statement."""

    def __init__(self) -> None:
        self.tainted: set[str] = set()
        self.functions: dict[str, ast.AST] = {}
        self.observers: set[str] = set()  # objects of the chapter's own classes: a callback is filled while training
        self.imported: set[str] = {".build"}
        self.claims: dict[str, None] = {}

    def run(self, body: Iterable[ast.stmt], under: bool = False) -> None:
        """`under`: whether a condition or loop around the statements hangs on a network."""
        for node in body:
            self._statement(node, under)

    def _statement(self, node: ast.stmt, under: bool) -> None:
        text = claim(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imported |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.functions[node.name] = node
            self.tainted.discard(node.name)
        elif text is not None:
            if under or self.hangs(node):
                self.claims[text] = None
        elif isinstance(node, ast.For | ast.While | ast.If | ast.With):
            self._block(node, under)
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            self._assign(node, under)
        elif isinstance(node, ast.Expr):
            self._filled(node.value, under)

    def _block(self, node: ast.For | ast.While | ast.If | ast.With, under: bool) -> None:
        if isinstance(node, ast.With):
            for item in node.items:
                if item.optional_vars is not None:
                    self._bind(item.optional_vars, self.hangs(item.context_expr))
            return self.run(node.body, under)
        condition = self.hangs(node.iter if isinstance(node, ast.For) else node.test)
        for _ in range(1 if isinstance(node, ast.If) else 2):  # twice: what one turn taints, the next one reads
            if isinstance(node, ast.For):
                self._bind(node.target, condition)
            self.run(node.body, under or (condition and not isinstance(node, ast.For)))
        self.run(node.orelse, under or condition)

    def _assign(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign, under: bool) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                hang = [under or self.hangs(value) for value in node.value.elts]
                for one, answer in zip(target.elts, hang, strict=True):
                    self._bind(one, answer)
            else:
                grows = isinstance(node, ast.AugAssign) and self.hangs(target)
                self._bind(target, under or grows or (node.value is not None and self.hangs(node.value)))
        made_by = _called(node.value.func) if isinstance(node.value, ast.Call) else ""
        if isinstance(self.functions.get(made_by.removesuffix("()")), ast.ClassDef):
            self.observers |= {target.id for target in targets if isinstance(target, ast.Name)}
        self._filled(node.value, under)

    def _filled(self, value: ast.expr | None, under: bool) -> None:
        """`rows.append(x)` fills rows; a training run fills the callbacks that it is given."""
        for call in ast.walk(value) if value is not None else ():
            if not isinstance(call, ast.Call) or not (under or self.hangs(call)):
                continue
            given = [arg.id for arg in ast.walk(call) if isinstance(arg, ast.Name)]
            self.tainted |= self.observers & set(given)
            if _called(call.func) == "train()":  # the second argument is the folder, which the run fills
                self.tainted |= {arg.id for arg in ast.walk(call.args[1]) if isinstance(arg, ast.Name)}
            if isinstance(call.func, ast.Attribute):
                self._bind(call.func.value, True)

    def _bind(self, target: ast.expr, hangs: bool) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for one in target.elts:
                self._bind(one, hangs)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, hangs)
        elif isinstance(target, ast.Name) and hangs:
            self.tainted |= {target.id} - self.imported
        elif isinstance(target, ast.Name):
            self.tainted.discard(target.id)
        elif isinstance(target, ast.Subscript | ast.Attribute) and hangs:
            self._bind(target.value, True)

    def hangs(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
        """Whether an expression reads a tainted name, directly or through the chapter's functions."""
        for name in _free_names(node):
            if name in self.tainted or (name.endswith("()") and name[:-2] in SOURCES & self.imported):
                return True
            if name in self.functions and name not in seen and self.hangs(self.functions[name], seen | {name}):
                return True
        return False


class _Fixed(ast.NodeTransformer):
    """Takes out the parts of a detector that hang on no training."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Constant(None) if node.attr in UNTRAINED else self.generic_visit(node)


def _free_names(node: ast.AST) -> set[str]:
    """Names that code reads from outside; `name()` or `.name()` stands for a call."""
    node = ast.fix_missing_locations(_Fixed().visit(copy.deepcopy(node)))
    calls = {_called(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    text = ast.unparse(node)
    table = symtable.symtable(f"({text}\n)" if isinstance(node, ast.expr) else text, "<chapter>", "exec")
    return _globals(table, top=True) | calls


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return f".{function.attr}()"
    return f"{function.id}()" if isinstance(function, ast.Name) else ""


def _globals(table: symtable.SymbolTable, top: bool = False) -> set[str]:
    names = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return names.union(*(_globals(child) for child in table.get_children()))


def faults(part: dict[str, Any]) -> list[str]:
    """What is wrong with a chapter's part of margins.json, by the assertion."""
    found = list(part["errors"])
    found += [f"the compared output of cell {cell} hangs on the processor" for cell in part["outputs that differ"]]
    for entry in part["assertions"]:
        if entry["failed"]:
            found.append(f"{entry['text']} failed ({'; '.join(entry['failed'])})")
        for link in entry["comparisons"]:
            if link["ratio"] is not None and link["ratio"] < ENOUGH and not entry["failed"]:
                found.append(
                    f"{entry['text']}: {link['text']} has a margin of {link['margin']}, with a spread of "
                    f"{link['spread']} over the instruction sets"
                )
    return found
