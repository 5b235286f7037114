"""`labelkit compare`: rules side by side on one's own data, over several seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labelkit.cli.output import INTERRUPTED, AsJson, Quiet, percent, plain_errors, print_json, say, speaks
from labelkit.training.naming import data_name
from labelkit.training.recipe import Recipe
from labelkit.training.spoken import parse_rule

if TYPE_CHECKING:
    from labelkit.training.compare import Comparison

Option = typer.Option


def compare(
    data: Annotated[str, typer.Argument(help="What train --data takes: a folder, or digits, trees:K, sky.")],
    assigner: Annotated[
        list[str], Option(help='A rule, with its arguments behind it: atss, "topk k=3"; once for each rule.')
    ],
    seeds: Annotated[int, Option(help="How many seeds of every rule; below 3 nothing is claimed.")] = 3,
    first_seed: Annotated[int, Option(help="The lowest seed; --seeds 6 --first-seed 3 are the seeds 3 to 8.")] = 0,
    baseline: Annotated[str | None, Option(help="The rule that the others are compared with; the first.")] = None,
    preset: Annotated[str, Option(help="Sizes and limits of the measuring: coco, aitod, soda_d or course.")] = "coco",
    out: Annotated[Path | None, Option(help="Folder of the comparison; runs/compare-DATA by default.")] = None,
    val: Annotated[str | None, Option(help="Folder to measure on, if not DATA/val.")] = Recipe.val,
    detector: Annotated[str, Option(help="retinanet or fcos.")] = Recipe.detector,
    backbone: Annotated[str, Option(help="small or resnet50_fpn.")] = Recipe.backbone,
    weights: Annotated[str | None, Option(help="imagenet or coco (for resnet50_fpn), or a file.")] = Recipe.weights,
    loss: Annotated[str | None, Option(help="focal, qfl, vfl, mal or ia_bce, for all rules.")] = Recipe.loss,
    min_size: Annotated[int | None, Option(help="Shorter side that images are resized to.")] = Recipe.min_size,
    anchor_scale: Annotated[float, Option(help="Side of the small retinanet's anchors, in strides.")] = (
        Recipe.anchor_scale
    ),
    detections: Annotated[int | None, Option(help="Most detections of an image.")] = Recipe.detections,
    flip: Annotated[bool, Option("--flip", help="Mirror half of the training images.")] = Recipe.flip,
    tile: Annotated[
        int | None, Option(help="Train and measure in tiles of so many pixels, for pictures that don't fit.")
    ] = Recipe.tile,
    overlap: Annotated[int | None, Option(help="Pixels that neighbouring tiles share; TILE / 4 by default.")] = (
        Recipe.overlap
    ),
    images: Annotated[int, Option(help="How many images are generated, of digits and trees.")] = Recipe.images,
    steps: Annotated[int, Option(help="Batches of each training.")] = Recipe.steps,
    batch_size: Annotated[int, Option(help="Images in a batch.")] = Recipe.batch_size,
    lr: Annotated[float, Option(help="Highest learning rate.")] = Recipe.lr,
    workers: Annotated[int, Option(help="Processes that read images.")] = Recipe.workers,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train several rules on the same data with several seeds, and say which differences can be told from chance."""
    with plain_errors():
        from labelkit.training.compare import compare as train_and_compare
        from labelkit.training.devices import trainer_device

        base = Recipe(
            data=data, val=val, detector=detector, backbone=backbone, weights=weights, loss=loss, min_size=min_size,
            anchor_scale=anchor_scale, detections=detections, flip=flip, tile=tile, overlap=overlap,
            images=images, steps=steps, batch_size=batch_size, lr=lr, workers=workers,
        )  # fmt: skip
        rules = recipes(assigner, base)
        folder = out or Path("runs") / f"compare-{data_name(data)}"
        talks = not (quiet or as_json)
        try:
            comparison = train_and_compare(
                rules,
                folder,
                seeds,
                first_seed=first_seed,
                preset=preset,
                baseline=baseline,
                told=_teller(seeds * len(rules)) if talks else lambda *_: None,
                progress=talks,
                **trainer_device(device),
            )
        except KeyboardInterrupt:
            say(f"Stopped. The same command goes on; {folder} holds what is trained.")
            raise typer.Exit(INTERRUPTED) from None
        comparison.write(folder)
        if as_json:
            print_json({"folder": str(folder)} | comparison.as_dict())
        elif not quiet:
            _print(comparison)
            say(f"{folder} holds the table, the picture and every run.")


def recipes(rules: Sequence[str], base: Recipe) -> dict[str, Recipe]:
    """["atss", "topk k=3"] as recipes by their names."""
    found: dict[str, Recipe] = {}
    for words in rules:
        rule = parse_rule(words)
        if rule.label in found:
            raise ValueError(f"--assigner must name every rule once, got {rule.label!r} twice")
        found[rule.label] = replace(base, assigner=rule.name, assigner_args=rule.arguments)
    return found


def _teller(whole: int) -> Callable[[str, int, dict], None]:
    """Says a line for each run as it comes."""
    numbers = count(1)

    def tell(name: str, seed: int, entry: dict) -> None:
        ap, without = entry["scores"]["AP"], entry["scores_no_nms"]["AP"]
        say(f"[{next(numbers)}/{whole}] {name}, seed {seed}: AP {percent(ap)}, without NMS {percent(without)}")

    return tell


def _print(comparison: "Comparison") -> None:
    """The rows as a table of the terminal, and what they mean."""
    from rich.console import Console
    from rich.table import Table

    if not speaks():
        return
    head, lines = comparison.rows()
    chart = Table(*head)
    for line in lines:
        chart.add_row(*(f"[bold]{cell.strip('*')}[/bold]*" if cell.startswith("**") else cell for cell in line))
    Console().print(chart)
    Console().print(comparison.words().replace("In bold:", "In bold, with a star:"))
