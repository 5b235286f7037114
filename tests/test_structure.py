"""The house, drawn from its imports: they go downwards, nowhere in a circle, and every room keeps to its purpose."""

import ast
import re
from graphlib import TopologicalSorter
from itertools import chain

import pytest

from labelkit_course.paths import ROOT

# From the ground up. What stands on one line does not import its neighbours.
FLOORS = (
    ("checks", "counts", "cuts", "extras", "display", "devices", "modes", "once", "place", "tiling", "uncompiled"),
    ("lazy", "boxes", "grid", "neighbours", "network_input"),
    ("assignment", "losses", "priors", "similarity"),
    ("nms", "receptive_field", "scenes"),
    ("plot",),
    ("search",),
    ("assigners",),
    ("evaluation", "detectors", "datasets"),
    ("training", "audit"),
    ("interop", "explore"),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
BELOW = ("windows", "buckets", "reach", "plausible", "elementwise", "order", "matching")
UNDERNEATH = tuple(f"labelkit.search.{name}" for name in BELOW)
LONGEST = 310  # lines: "about 300"
SCREEN = 60  # lines of a function in JavaScript
FRONT = sorted((ROOT / "labelkit" / "explore" / "front").glob("*.js"))


def modules() -> dict[str, ast.Module]:
    """Every module of the library and the course by its dotted name."""
    found = {}
    for path in chain((ROOT / "labelkit").rglob("*.py"), (ROOT / "labelkit_course").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of this repository that a module imports, anywhere in its text but for type checkers alone."""
    found: set[str] = set()
    pending: list[ast.AST] = [MODULES[name]]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else node.module for one in inner}
        pending += ast.iter_child_nodes(node)
    return (found & MODULES.keys()) - {name}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


LIBRARY = sorted(name for name in MODULES if name.startswith("labelkit.") and name != "labelkit.__main__")


def test_no_import_goes_in_a_circle():
    # A package's own face (its __init__) names what stands in it; its modules do not import the face.
    list(TopologicalSorter({name: imports(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("name", LIBRARY)
def test_imports_go_downwards(name):
    for other in imports(name):
        assert not other.startswith("labelkit_course"), f"{name} knows the course"
        if other == "labelkit" or room(other) == room(name):
            continue
        assert FLOOR[room(other)] < FLOOR[room(name)], f"{name} imports {other}, which is no floor below"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nobody_reaches_below_the_candidates(name):
    if not name.startswith("labelkit.search"):
        assert not imports(name) & set(UNDERNEATH)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("labelkit.assigners.")))
def test_assigners_import_candidates_and_choosing_only(name):
    search = {other for other in imports(name) if other.startswith("labelkit.search")}
    assert search <= {f"labelkit.search.{name}" for name in ("candidates", "choosing")}


def test_a_file_is_one_room():
    files = [path for top in ("labelkit", "labelkit_course") for path in (ROOT / top).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if "exercises" not in path.parts and (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert not long
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{path} does not say what it is for"


@pytest.mark.parametrize("path", FRONT, ids=lambda path: path.name)
def test_a_script_of_the_front_end_is_one_room(path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= LONGEST
    assert re.match(r"/\* .+ \*/$|// ", lines[0]), f"{path} does not say what it is for"
    assert [line for line in lines if len(line) > 120] == []
    functions = re.finditer(r"^( *)(?:async )?function (\w+)\(.*?^\1}$", text, re.MULTILINE | re.DOTALL)
    size = {found[2]: found[0].count("\n") + 1 for found in functions}
    assert size and not [name for name, long in size.items() if long > SCREEN]
    # `labelkit.explore.parts.code` leaves out the lines that begin as comments, and knows nothing of others.
    assert [line for line in lines if line.lstrip().startswith("/*") and not line.endswith("*/")] == []
