"""Rewrites a chapter's assertions so that they note both sides of every comparison instead of stopping the run."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from assertions import claim

NAME = "__margins__"  # what the rewritten code calls the ledger


class Recorder(ast.NodeTransformer):
    """Rewrites a cell's assertions into calls of an object called `__margins__`, which is a `Ledger`."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        links: list[str] = []
        test = self._note(node.test, ast.unparse(node.test), links)
        return self._statement(node, "holds", [ast.Constant(ast.unparse(node.test)), test])

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        text = claim(node)
        if text is None or not isinstance(node.value, ast.Call):
            return node
        return self._statement(node, "close", [ast.Constant(text), *node.value.args], node.value.keywords)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return node  # an assertion inside an answer is the answer's own

    def _statement(self, node: ast.stmt, method: str, arguments: list[ast.expr], keywords=()) -> ast.stmt:
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(_call(method, arguments, keywords)), node))

    def _note(self, node: ast.expr, text: str, links: list[str]) -> ast.expr:
        """The same truth value, with every comparison that must hold noted on the way."""
        if isinstance(node, ast.Compare):
            return self._compare(node, text, links)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return _all(ast.List([self._note(value, text, links) for value in node.values], ast.Load()))
        if isinstance(node, ast.Call):
            each = node.args[0] if node.args else None
            if isinstance(each, ast.GeneratorExp) and ast.unparse(node.func) == "all":
                return _all(ast.ListComp(self._note(each.elt, text, links), each.generators))
            reduced = node.func if isinstance(node.func, ast.Attribute) and each is None else None
            if reduced is not None and reduced.attr == "all" and isinstance(reduced.value, ast.Compare):
                return self._compare(reduced.value, text, links)
            if reduced is not None and reduced.attr == "any":
                return self._link("any", text, links, [ast.unparse(node)], [reduced.value])
        return self._link("truth", text, links, [ast.unparse(node)], [node])

    def _compare(self, node: ast.Compare, text: str, links: list[str]) -> ast.expr:
        """One call for a chain: each side is computed once."""
        sides = [node.left, *node.comparators]
        pairs = zip(sides[:-1], node.ops, sides[1:], strict=True)
        parts = [ast.unparse(ast.Compare(left, [operator], [right])) for left, operator, right in pairs]
        operators = " ".join(type(operator).__name__ for operator in node.ops)
        return self._link("compare", text, links, parts, [ast.List(sides, ast.Load()), ast.Constant(operators)])

    def _link(self, method: str, text: str, links: list[str], parts: list[str], arguments: list[ast.expr]) -> ast.expr:
        """The number in front tells apart what an assertion says twice."""
        names = [f"{number}: {part}" for number, part in enumerate(parts, len(links) + 1)]
        links.extend(names)
        named = ast.parse(repr(names), mode="eval").body
        return _call(method, [ast.Constant(text), named, *arguments])


def _all(values: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("all", ast.Load()), [values], [])


def _call(method: str, arguments: list[ast.expr], keywords: Iterable[ast.keyword] = ()) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load()), arguments, list(keywords))


class Ledger:
    """What one run noted: by assertion whether it held, and for each of its comparisons the smallest margin.

    A margin is the distance to failing in the comparison's own units, negative where it failed; None where there is
    no distance (an equality, a membership). `sides` are the two sides at the smallest margin, for a reader.
    """

    def __init__(self) -> None:
        self.held: dict[str, bool] = {}
        self.links: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)

    def holds(self, text: str, truth: Any) -> None:
        self.held[text] = bool(truth) and self.held.get(text, True)

    def close(self, text: str, actual: Any, expected: Any, *, rtol: float = 1.3e-6, atol: float = 1e-5) -> None:
        actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
        margin = (atol + rtol * expected.abs() - (actual - expected).abs()).min().item()
        self._keep(text, "1: " + text, margin, ["", ""])
        self.holds(text, margin >= 0)

    def compare(self, text: str, links: list[str], sides: list, operators: str) -> bool:
        answer = True
        for link, left, operator, right in zip(links, sides[:-1], operators.split(), sides[1:], strict=True):
            margin, truth = _distance(left, operator, right)
            self._keep(text, link, margin, [left, right])
            answer = answer and truth
        return answer

    def any(self, text: str, links: list[str], value: torch.Tensor) -> bool:
        """Half a case from failing when a single one is left."""
        self._keep(text, links[0], int(value.sum()) - 0.5, [int(value.sum()), 0])
        return bool(value.any())

    def truth(self, text: str, links: list[str], value: Any) -> bool:
        answer = bool(value.all() if hasattr(value, "all") else value)
        self._keep(text, links[0], None, [answer, True])
        return answer

    def _keep(self, text: str, link: str, margin: float | None, sides: list) -> None:
        there = self.links[text].get(link)
        if there is None or there["margin"] is None or (margin is not None and margin < there["margin"]):
            self.links[text][link] = {"margin": margin, "sides": [_shown(side) for side in sides]}


def _distance(left: Any, operator: str, right: Any) -> tuple[float | None, bool]:
    """Signed distance to failing (None where there is none), and whether the comparison holds."""
    if operator in ("Lt", "LtE", "Gt", "GtE"):
        try:
            apart = torch.as_tensor(right).double() - torch.as_tensor(left).double()
        except (TypeError, ValueError, RuntimeError):  # sets, for one
            apart = None
        if apart is not None:
            apart = apart if operator.startswith("L") else -apart
            strict = not operator.endswith("E")
            holds = bool((apart > 0).all() if strict else (apart >= 0).all())
            return (apart.min().item() if apart.numel() else None), holds
    compare = {"Eq": "==", "NotEq": "!=", "In": "in", "NotIn": "not in", "Is": "is", "IsNot": "is not",
               "Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">="}[operator]  # fmt: skip
    truth = eval(f"left {compare} right", {"left": left, "right": right})
    return None, bool(truth.all() if hasattr(truth, "all") else truth)


def _shown(side: Any) -> Any:
    """A number as it is, a tensor as its range, anything else as the start of its text."""
    if isinstance(side, torch.Tensor):
        side = side.item() if side.numel() == 1 else (f"{side.min():.4g} to {side.max():.4g}" if side.numel() else "")
    if hasattr(side, "item"):
        side = side.item()
    return side if isinstance(side, bool | int | float | str) and len(str(side)) < 40 else repr(side)[:60]
