"""The `labelkit` command. Other packages join in by the entry-point group `labelkit.commands`, as the course does."""

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

import labelkit
from labelkit.cli.convert import convert

app = typer.Typer(help="Label assignment in object detection.", no_args_is_help=True, add_completion=False)

COMMANDS = "labelkit.commands"  # entry points of this group are Typer apps, added under their names

RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]
ALWAYS = ("AP", "AP50", "AP75", "AR", "oLRP")


@app.command()
def version() -> None:
    """Print the version."""
    print(labelkit.__version__)


@app.command()
def train(
    assigner: Annotated[str, typer.Option(help="Registry name: max_iou, fcos, atss, ...")] = "max_iou",
    argument: Annotated[
        list[str] | None,
        typer.Option("--set", help="Argument of the assigner, as k=3, similarity=nwd, similarity.constant=12.8."),
    ] = None,
    detector: Annotated[str, typer.Option(help="retinanet or fcos.")] = "retinanet",
    backbone: Annotated[str, typer.Option(help="small or resnet50_fpn.")] = "small",
    weights: Annotated[str | None, typer.Option(help="For resnet50_fpn: imagenet or coco.")] = None,
    data: Annotated[str, typer.Option(help="digits, trees, trees:K, or a COCO-format folder.")] = "digits",
    val: Annotated[str | None, typer.Option(help="COCO-format folder to measure on, if not DATA/val.")] = None,
    steps: Annotated[int, typer.Option(help="Batches to train on.")] = 750,
    batch_size: Annotated[int, typer.Option(help="Images in a batch, over all processes.")] = 8,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    min_size: Annotated[int | None, typer.Option(help="Shorter side that images are resized to.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the training images of a folder.")] = False,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    evaluate_every: Annotated[int, typer.Option(help="Measure every so many steps, keep the best; 0: at the end.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 50,
    workers: Annotated[int, typer.Option(help="Processes that load images.")] = 0,
    seed: Annotated[int, typer.Option(help="Of images, weights and order.")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first faulty annotation file.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATA-ASSIGNER-seedSEED by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT; its own settings hold.")] = False,
) -> None:
    """Train a detector with a rule. For several GPUs or nodes: torchrun --nproc-per-node N -m labelkit train ..."""
    with plain_errors():
        from labelkit import training
        from labelkit.training.recipe import Recipe

        folder = out or Path("runs") / f"{Path(data).name.replace(':', '-')}-{assigner}-seed{seed}"
        if resume and (folder / "config.json").is_file():
            result = training.resume(folder)
        else:
            recipe = Recipe(
                assigner=assigner, assigner_args=parse_arguments(argument or []), detector=detector,
                backbone=backbone, weights=weights, data=data, val=val, steps=steps, batch_size=batch_size, lr=lr,
                min_size=min_size, flip=flip, precision=precision, evaluate_every=evaluate_every,
                checkpoint_every=checkpoint_every, workers=workers, seed=seed, strict=strict,
            )  # fmt: skip
            recipe.rule()  # a wrong name or argument shows before data is loaded
            result = training.train(recipe, folder)
        _print_scores(result["scores"], f"{folder} ({result['seconds']['training']:.0f} s)")


@app.command()
def evaluate(
    run: RunFolder,
    data: Annotated[str | None, typer.Option(help="Measure on this COCO-format folder instead of the run's.")] = None,
    preset: Annotated[str, typer.Option(help="Sizes and limits: course, aitod, soda_d or coco.")] = "course",
    which: Annotated[str, typer.Option(help="Checkpoint: best or last.")] = "best",
) -> None:
    """Measure the detector of a run."""
    with plain_errors():
        from dataclasses import replace

        from labelkit.evaluation import evaluate as compare
        from labelkit.training import load_detector, read_recipe
        from labelkit.training.measuring import detect

        recipe = read_recipe(run)
        dataset = (replace(recipe, data=data, val=data) if data else recipe).val_set()
        detector, classes = load_detector(run, which)
        if tuple(classes) != tuple(dataset.classes):
            raise ValueError(f"the run knows the classes {classes}, the data has {list(dataset.classes)}")
        _print_scores(compare(detect(detector, dataset), dataset.targets, preset), f"{run}, {preset}", preset)


app.command()(convert)


def parse_arguments(pairs: list[str]) -> dict[str, Any]:
    """["k=3", "similarity=nwd", "similarity.constant=12.8"] as {"k": 3, "similarity": {"name": "nwd", ...}}."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"--set must be NAME=VALUE, got {pair!r}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
        name, dot, constant = key.partition(".")
        if dot:
            inner = arguments.get(name, {})
            arguments[name] = (inner if isinstance(inner, dict) else {"name": inner}) | {constant: value}
        elif isinstance(arguments.get(key), dict):
            arguments[key] = {"name": value} | arguments[key]
        else:
            arguments[key] = value
    return arguments


def _print_scores(scores: dict[str, float | None], title: str, preset: str = "course") -> None:
    from rich.console import Console
    from rich.table import Table

    from labelkit.evaluation import PRESETS

    if os.environ.get("RANK", "0") != "0":  # one of several processes speaks
        return
    chart = Table("", "in %", title=title)
    for name in (*ALWAYS, *(f"AP50_{size}" for size in PRESETS[preset].areas)):
        value = scores[name]
        chart.add_row(name.replace("_", " "), "-" if value is None or math.isnan(value) else f"{100 * value:.1f}")
    Console().print(chart)


@contextmanager
def plain_errors() -> Iterator[None]:
    """What a user can put right is one message, not a traceback; warnings are one line each."""
    warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr)
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        print("Stopped. The same command with --resume goes on from the last checkpoint.", file=sys.stderr)
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line with everything that is installed beside it."""
    for point in entry_points(group=COMMANDS):
        app.add_typer(point.load(), name=point.name)
    app()
