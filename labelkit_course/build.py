"""Builds a chapter's notebooks from its source, and says where a committed one has drifted from it.

    python -m labelkit_course.build [--check] [--all] [NN ...]

The exercise form is executed and stands beside its source; the solution form is built on demand (`solution_notebook`).
A build is byte-stable: ids come from content, metadata is fixed, timings and version numbers are left out.
"""

import argparse
import ast
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labelkit_course import chapter, linking, times
from labelkit_course.hiding import FOLDED, code_cells

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
CELL_SECONDS = 300
LONGEST_CELL = 35
LARGEST_NOTEBOOK = 1_000_000
# Tags with which nbval would pass over a cell, or accept an exception that is not the one meant.
REFUSED_TAGS = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}


def source_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def notebook(path: Path, form: Callable[[str], str] = chapter.exercise_form) -> NotebookNode:
    """A chapter as a notebook without outputs; `form` turns the code of a cell into the exercise or solution form."""
    folded = (fold for _, fold in code_cells(path))
    neighbours = linking.navigation(path)
    cells: list[NotebookNode] = []
    seen: Counter[str] = Counter()

    def add(kind: str, text: str, metadata: dict[str, Any]) -> None:
        key = hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()[:12]
        seen[key] += 1
        name = key if seen[key] == 1 else f"{key}-{seen[key]}"
        new = new_code_cell if kind == "code" else new_markdown_cell
        cells.append(new(text, id=name, metadata=metadata))

    add("markdown", neighbours, {"tags": ["navigation"]})
    for cell in chapter.cells(path):
        if cell.cell_type == "code":
            add("code", form(cell.source), _metadata(chapter.tags(cell), fold=next(folded)))
        else:
            add("markdown", linking.linked(cell.source, path), _metadata(chapter.tags(cell)))
    add("markdown", neighbours, {"tags": ["navigation"]})
    metadata = {"kernelspec": KERNEL, "language_info": LANGUAGE, "labelkit": {"source": source_hash(path)}}
    return nbformat.from_dict(new_notebook(cells=cells, metadata=metadata))


def _metadata(tags: list[str], fold: bool = False) -> dict[str, Any]:
    """A folded input is hidden by JupyterLab (`jupyter`) and by the book (`hide-input`), one click away in both."""
    tags = [*tags, FOLDED] if fold and FOLDED not in tags else tags
    return ({"tags": tags} if tags else {}) | ({"jupyter": {"source_hidden": True}} if fold else {})


def solution_notebook(path: Path) -> NotebookNode:
    return notebook(path, chapter.solution_form)


def execute(book: NotebookNode, folder: Path) -> None:
    """Run a notebook in place, in `folder`, on this environment's kernel. An error names its cell."""
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    metadata = book.metadata
    client = NotebookClient(
        book, timeout=CELL_SECONDS, kernel_name=KERNEL["name"], record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}}, extra_arguments=["--IPKernelApp.log_level=40"],
    )  # fmt: skip
    client.execute()
    book.metadata = nbformat.from_dict({**metadata, "language_info": LANGUAGE, "kernelspec": KERNEL})
    for cell in book.cells:
        for output in cell.get("outputs", []):
            output.pop("transient", None)


def build(path: Path) -> None:
    """Build, execute and write the exercise form of one chapter. Its checks must read blank."""
    book = _unexecuted(path)
    before = os.environ.get("LABELKIT_EXPECT")
    os.environ["LABELKIT_EXPECT"] = "blank"
    try:
        execute(book, path.parent)
    finally:
        os.environ.pop("LABELKIT_EXPECT")
        if before is not None:
            os.environ["LABELKIT_EXPECT"] = before
    _write(book, path)


def rewrite(path: Path) -> bool:
    """Write one chapter's text around the outputs that its notebook has. False, and nothing is written, where these are
    not the outputs of its code: a code cell has changed, or was not executed in its place."""
    if not path.with_suffix(".ipynb").exists():
        return False
    committed, book = nbformat.read(path.with_suffix(".ipynb"), as_version=4), _unexecuted(path)
    had, has = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (committed, book))
    if [(cell.source, cell.metadata) for cell in had] != [(cell.source, cell.metadata) for cell in has]:
        return False
    if output_problems(committed):
        return False
    for old, new in zip(had, has, strict=True):
        new.outputs, new.execution_count = old.outputs, old.execution_count
    _write(book, path)
    return True


def _unexecuted(path: Path) -> NotebookNode:
    """The exercise form, of a source that has no fault."""
    faults = source_problems(path)
    if faults:
        raise ValueError(f"{path.name}: " + "; ".join(faults))
    return notebook(path)


def _write(book: NotebookNode, path: Path) -> None:
    nbformat.validate(book)
    path.with_suffix(".ipynb").write_text(_text(book), encoding="utf-8")


def _text(book: NotebookNode) -> str:
    return nbformat.writes(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def is_current(path: Path) -> bool:
    """Whether the committed notebook was built from the source as it stands."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return False
    return nbformat.read(target, as_version=4).metadata.get("labelkit", {}).get("source") == source_hash(path)


def source_problems(path: Path) -> list[str]:
    """What a chapter's source may not contain, by cell."""
    faults = list(filter(None, [times.problem(path)]))
    for number, cell in enumerate(chapter.cells(path)):
        if cell.cell_type != "code":
            continue
        where = f"cell {number} ({_first_line(cell.source)})"
        if not cell.source.strip():
            faults.append(f"{where} is empty")
            continue
        forms = {chapter.exercise_form(cell.source), chapter.solution_form(cell.source)}
        for form in forms:
            try:
                ast.parse(form)
            except SyntaxError as error:
                faults.append(f"{where} is not plain Python (no magics, no !): {error.msg}")
        if max(len(form.splitlines()) for form in forms) > LONGEST_CELL:
            faults.append(f"{where} is longer than {LONGEST_CELL} lines")
        for tag in REFUSED_TAGS & set(chapter.tags(cell)):
            faults.append(f"{where} has the tag {tag}")
        if "NBVAL_" in cell.source:
            faults.append(f"{where} has an NBVAL comment: mark a compared cell with the tag nbval-check-output")
        marks = cell.source.count("# BEGIN SOLUTION"), cell.source.count("# END SOLUTION")
        regions = list(chapter.REGION.finditer(cell.source))
        if marks != (len(regions),) * 2:
            faults.append(f"{where} has a solution mark without its partner")
        if cell.source.count("# BEGIN GIVEN") != sum(region["given"] is not None for region in regions):
            faults.append(f"{where} has a BEGIN GIVEN that no comments and BEGIN SOLUTION follow")
    return faults


def drift(path: Path) -> list[str]:
    """How the committed notebook differs from what its source builds, apart from outputs; and faults of its outputs."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return [f"{target.name} is not there: make notebooks"]
    raw = target.read_text(encoding="utf-8")
    committed, built = nbformat.reads(raw, as_version=4), notebook(path)
    faults = source_problems(path)
    if committed.metadata != built.metadata:
        faults.append("the notebook's metadata is not the build's; was the source changed without make notebooks?")
    for number, (old, new) in enumerate(zip(committed.cells, built.cells, strict=False)):
        for field in ("cell_type", "source", "id", "metadata"):
            if old[field] != new[field]:
                faults.append(f"cell {number} ({_first_line(new.source)}): {field} is not the source's")
                break
    if len(committed.cells) != len(built.cells):
        faults.append(f"{len(committed.cells)} cells, the source has {len(built.cells)}")
    if len(raw.encode()) > LARGEST_NOTEBOOK:
        faults.append(f"{len(raw.encode())} bytes; the most is {LARGEST_NOTEBOOK}")
    return faults + leaks(path, raw) + output_problems(committed)


def leaks(path: Path, raw: str) -> list[str]:
    """Solutions that can be read in the exercise form: a mark left over, or a whole answer standing in some cell."""
    marks = ("BEGIN SOLUTION", "BEGIN GIVEN")
    faults = ["a solution mark is left in the notebook"] if any(mark in raw for mark in marks) else []
    visible = "\n".join(cell.source for cell in nbformat.reads(raw, as_version=4).cells)
    visible = _squeezed(visible)
    for cell in chapter.cells(path):
        for match in chapter.REGION.finditer(cell.source):
            answer = _squeezed(match["code"])
            if (len(answer) > 60 or match["given"]) and answer in visible:
                faults.append(f"the answer of {match['id']} can be read in the notebook")
    return faults


def _squeezed(text: str) -> str:
    return "".join(text.split())


def output_problems(book: NotebookNode) -> list[str]:
    """Outputs that a committed notebook may not hold. A cell that was never executed would pass nbval unseen."""
    faults, count = [], 0
    for number, cell in enumerate(book.cells):
        if cell.cell_type != "code":
            continue
        count += 1
        where = f"cell {number} ({_first_line(cell.source)})"
        if cell.execution_count != count:
            faults.append(f"{where}: execution count {cell.execution_count}, not {count}; it was not run in order")
        if "nbval-check-output" in chapter.tags(cell) and not cell.outputs:
            faults.append(f"{where}: compared, but without an output")
        for output in cell.outputs:
            if output.output_type == "error":
                faults.append(f"{where}: ends in {output.ename}")
            elif output.output_type == "stream" and output.name == "stderr":
                faults.append(f"{where}: writes to stderr: {output.text[:80]!r}")
            elif _is_picture(output) and output.data.get("text/plain", "<").startswith("<"):
                faults.append(f"{where}: a picture without alt text; show it with plot.show(figure, alt=...)")
    return faults


def _is_picture(output: NotebookNode) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def _first_line(source: str) -> str:
    return (source.strip().splitlines() or [""])[0][:50]


def say_times(numbers: list[str]) -> int:
    """Print the minutes of the chapters of these numbers, or of all and their sums. Returns 0."""
    paths = [chapter.source_of(number) for number in numbers] or chapter.sources()
    counted = [times.minutes(path) for path in paths]
    for path, (reading, solving) in zip(paths, counted, strict=True):
        print(f"{path.stem}: {reading} minutes to read and {solving} to solve the exercises")
    if len(paths) > 1:
        print(f"together: {sum(r for r, _ in counted) / 60:.1f} and {sum(s for _, s in counted) / 60:.1f} hours")
    return 0


def run(numbers: list[str], *, check: bool = False, everything: bool = False) -> int:
    """Build (or check) the chapters of these numbers, or those whose source has changed; one whose text alone has
    changed keeps its outputs, unless it is named or `everything` is. Returns 1 if one failed or has drifted, else 0."""
    paths = [chapter.source_of(number) for number in numbers] or chapter.sources()
    if check:
        drifted = [_report(path) for path in paths]
        return int(any(drifted))
    stale = [path for path in paths if everything or numbers or not is_current(path)]
    if not stale:
        print("Every notebook is current.")
    failed = [_build_and_report(path, anew=bool(everything or numbers)) for path in stale]
    return int(any(failed))


def _report(path: Path) -> bool:
    """Print what has drifted; whether anything has."""
    faults = drift(path)
    print(f"{path.stem}: {'has drifted' if faults else 'as built'}")
    for fault in faults:
        print(f"    {fault}")
    return bool(faults)


def _build_and_report(path: Path, anew: bool) -> bool:
    began = time.perf_counter()
    try:
        kept = not anew and rewrite(path)
        if not kept:
            build(path)
    except (ValueError, CellExecutionError) as error:
        print(f"{path.stem}: FAILED\n{error}", file=sys.stderr)
        return True
    how = "its text is new, its outputs are kept" if kept else f"built in {time.perf_counter() - began:.1f} s"
    print(f"{path.stem}: {how}")
    return _report(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m labelkit_course.build", description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="chapters by number; all of them by default")
    parser.add_argument("--check", action="store_true", help="build nothing; say what has drifted")
    parser.add_argument("--all", action="store_true", dest="everything", help="rebuild those that are current, too")
    return run(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
