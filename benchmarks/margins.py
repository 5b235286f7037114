"""How far every assertion on a trained number is from failing, over instruction sets and seeds.

    python benchmarks/margins.py [NN ...] [--seeds 3] [--sets default,avx2,best] [--work folder] [--measured]

Runs the solution form of the chapters as a script in a process of its own, once per instruction set with the chapter's
own seed, and on the best set with the training seed shifted by 1, 2, ...; a run takes a minute or two. What was run
stays in the work folder, so that a stopped measurement goes on, and a changed assertion costs no new training. Writes
data/results/margins.json, which tests/chapters/test_margins.py reads. Returns 1 where an assertion is too thin.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import assertions

from labelkit_course import chapter

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "data" / "results" / "margins.json"
# What ATen and oneDNN may use at most.
SETS: dict[str, dict[str, str]] = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "best": {},
}


class Run(NamedTuple):
    number: str
    instructions: str
    shift: int

    def path(self, work: Path) -> Path:
        text = "".join(ast.unparse(tree) for _, tree in assertions.code_cells(chapter.source_of(self.number)))
        return work / f"{self.number}-{self.instructions}-{self.shift}-{_hash(text + _library())}.json"


def _hash(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:12]


def wanted(number: str, sets: list[str], seeds: int) -> list[Run]:
    """The runs of a chapter; one that trains nothing has no seed to shift."""
    shifts = range(1, seeds) if assertions.trained(chapter.source_of(number)) else ()
    return [Run(number, name, 0) for name in sets] + [Run(number, "best", shift) for shift in shifts]


def perform(run: Run, work: Path) -> dict[str, Any]:
    """What a run noted; from the work folder where it is there, else in a new process."""
    path = run.path(work)
    if not path.is_file():
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ATEN_", "ONEDNN_"))}
        environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "LABELKIT_EXPECT": "pass"}
        environment |= SETS[run.instructions]
        with tempfile.TemporaryDirectory() as folder:
            environment["LABELKIT_WORK"] = folder
            command = [sys.executable, __file__, "--work", str(work), "--one", *map(str, run)]
            subprocess.run(command, env=environment, cwd=ROOT / "chapters", check=True, stdout=subprocess.DEVNULL)
    return json.loads(path.read_text(encoding="utf-8"))


def one(run: Run, work: Path) -> None:
    """Run a chapter in this process, cell by cell, and write what its assertions noted."""
    import recorder
    import torch

    import labelkit.training
    from labelkit import plot

    path = run.path(work)
    plot.show = lambda fig, alt, dpi=0: None
    vars(labelkit.training)["train"] = _Remembered(run, work, labelkit.training.train)
    ledger, outputs, began, error = recorder.Ledger(), {}, time.perf_counter(), None
    namespace = {"__name__": "__main__", recorder.NAME: ledger}
    for number, (tags, tree) in enumerate(assertions.code_cells(chapter.source_of(run.number))):
        code = compile(ast.fix_missing_locations(recorder.Recorder().visit(tree)), f"<cell {number}>", "exec")
        with redirect_stdout(io.StringIO()) as printed:
            try:
                exec(code, namespace)
            except Exception as problem:  # a chapter may fail in any way; the rest of it is then not measured
                error = f"cell {number}: {type(problem).__name__}: {problem}"
                break
        if "nbval-check-output" in tags:
            outputs[str(number)] = printed.getvalue()
    content = {
        "cpu": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__, "error": error,
        "seconds": round(time.perf_counter() - began), "held": ledger.held, "links": ledger.links, "outputs": outputs,
    }  # fmt: skip
    path.with_suffix(".part").write_text(json.dumps(content, indent=1, default=float), encoding="utf-8")
    path.with_suffix(".part").replace(path)


class _Remembered:
    """`train` with the seed shifted, and kept in the work folder: a changed assertion costs no new training."""

    def __init__(self, run: Run, work: Path, train: Callable[..., dict[str, Any]]):
        self.run, self.work, self.train = run, work, train

    def __call__(self, recipe: Any, folder: Any, *, data: Any, callbacks: Sequence = (), **options: Any) -> Any:
        import torch

        recipe = replace(recipe, seed=recipe.seed + self.run.shift)
        kept = self.work / f"trained-{self.run.instructions}-{self._facts(recipe, data, callbacks)}"
        if (kept / "state").is_file():
            shutil.copytree(kept / "run", folder, dirs_exist_ok=True)
            result, generator, observed = pickle.loads((kept / "state").read_bytes())
            torch.set_rng_state(generator)
            for callback, state in zip(callbacks, observed, strict=True):
                vars(callback).update(state)
            return result
        result = self.train(recipe, folder, data=data, callbacks=list(callbacks), **options)
        shutil.copytree(folder, kept / "run", dirs_exist_ok=True)
        state = result, torch.get_rng_state(), [vars(callback) for callback in callbacks]
        (kept / "state").write_bytes(pickle.dumps(state))
        return result

    def _facts(self, recipe: Any, data: Any, callbacks: Sequence) -> str:
        """What a training depends on: configuration, data by length and first image, observers, library."""
        trees = [tree for _, tree in assertions.code_cells(chapter.source_of(self.run.number))]
        classes = [ast.unparse(node) for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
        shown = [(len(part), _hash(part[0][0].numpy().tobytes())) for part in data]
        return _hash(repr((recipe.as_dict(), shown, classes if callbacks else [], _library())))


@cache
def _library() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "labelkit").rglob("*.py")))


def summary(number: str, runs: dict[Run, dict[str, Any]]) -> dict[str, Any]:
    """One chapter's part of margins.json: its assertions that hang on a network, or that came out differently."""
    trained = assertions.trained(chapter.source_of(number))
    texts = list(dict.fromkeys(text for content in runs.values() for text in content["held"]))
    entries = {text: _entry(text, runs) for text in texts}
    by_set = [content["outputs"] for run, content in runs.items() if run.shift == 0]
    return {
        "runs": [f"{run.instructions}, seed {run.shift}" for run in runs],
        "errors": [content["error"] for content in runs.values() if content["error"]],
        "outputs that differ": sorted(
            {cell for outputs in by_set for cell in outputs if outputs[cell] != by_set[0].get(cell)}, key=int
        ),
        "assertions": [
            {"text": text, "trained": text in trained, **entry}
            for text, entry in entries.items()
            if text in trained or any(link["all runs"] for link in entry["comparisons"])
        ],
    }


def _entry(text: str, runs: dict[Run, dict[str, Any]]) -> dict[str, Any]:
    """An assertion over all runs. A comparison without a distance, such as an equality, has no margin."""
    failed = [f"{run.instructions}, seed {run.shift}" for run, content in runs.items() if not content["held"].get(text)]
    comparisons = []
    for link in next(content["links"][text] for content in runs.values() if text in content["links"]):
        noted = {
            run: content["links"][text][link] for run, content in runs.items() if link in content["links"].get(text, {})
        }
        margins = {run: note["margin"] for run, note in noted.items() if note["margin"] is not None}
        by_set = [margin for run, margin in margins.items() if run.shift == 0]
        sides = [_range([note["sides"][side] for note in noted.values()]) for side in (0, 1)]
        worst, spread = (min(margins.values()), max(by_set) - min(by_set)) if margins else (None, None)
        comparisons.append({
            "text": link.partition(": ")[2],
            "sides": sides,
            "margin": _digits(worst),
            "spread": _digits(spread),
            "ratio": _digits(worst / spread) if spread else None,
            "all runs": _digits(max(margins.values()) - worst) if margins else None,
        })  # fmt: skip
    return {"failed": failed, "comparisons": comparisons}


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _range(values: list[Any]) -> Any:
    """One value where all runs agree, else the smallest and the largest."""
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, int | float) for value in values):
        return f"{min(values):.4g} to {max(values):.4g}"
    return "differs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="chapters by number; all of them by default")
    parser.add_argument("--seeds", type=int, default=3, help="how many training seeds on the best instruction set")
    parser.add_argument("--sets", default=",".join(SETS), help="instruction sets, by comma")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "labelkit-margins")
    parser.add_argument("--measured", action="store_true", help="take what the work folder holds; run nothing")
    parser.add_argument("--one", nargs=3, metavar=("NN", "SET", "SHIFT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one:
        one(Run(options.one[0], options.one[1], int(options.one[2])), options.work)
        return 0
    thin = False
    for number in options.numbers or [path.name[:2] for path in chapter.sources()]:
        runs = {}
        for run in wanted(number, options.sets.split(","), options.seeds):
            if options.measured and not run.path(options.work).is_file():
                continue
            runs[run] = perform(run, options.work)
            print(f"{number}: {run.instructions}, seed {run.shift}: {runs[run]['seconds']} s", flush=True)
            _store(number, summary(number, runs))
        for fault in assertions.faults(summary(number, runs)):
            print(f"    {fault}", flush=True)
            thin = True
    return int(thin)


def _store(number: str, part: dict[str, Any]) -> None:
    """Put a chapter's part into margins.json; the others stay as they are."""
    content = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    content = dict(sorted((content | {number: part}).items()))
    RESULT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
