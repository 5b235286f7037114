"""`labelkit train`: one run from the options, or on from its last checkpoint."""

import os
import shlex
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from subprocess import list2cmdline
from typing import Annotated, Any

import typer

from labelkit.cli.output import AsJson, Quiet, plain_errors, print_json, print_positives, print_scores, say, speaks
from labelkit.training.naming import run_folder
from labelkit.training.recipe import ARGUMENTS_OF, Recipe
from labelkit.training.spoken import parse_arguments

Option = typer.Option


def train(
    context: typer.Context,
    assigner: Annotated[
        str, Option(help="Registry name: max_iou, fcos, atss, ...; or package.module:Name of your own.")
    ] = Recipe.assigner,
    assigner_args: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="Argument of the assigner: k=3, similarity=nwd (or module:name), similarity.constant=12.8.",
        ),
    ] = None,
    detector: Annotated[str, Option(help="retinanet or fcos.")] = Recipe.detector,
    backbone: Annotated[str, Option(help="small or resnet50_fpn.")] = Recipe.backbone,
    weights: Annotated[
        str | None, Option(help="imagenet or coco (for resnet50_fpn), or a file: of torchvision, or a run's last.ckpt.")
    ] = Recipe.weights,
    box_loss: Annotated[str, Option(help="For retinanet: l1, smooth_l1, giou, diou or ciou.")] = Recipe.box_loss,
    plain_loss: Annotated[
        bool, Option("--plain-loss", help="The detector's own loss, without what the rule's paper says of it.")
    ] = Recipe.plain_loss,
    loss: Annotated[
        str | None, Option(help="focal, qfl, vfl, mal or ia_bce, for all rules; what a rule's paper says by default.")
    ] = Recipe.loss,
    quality: Annotated[
        str | None, Option(help="For fcos, what its third branch learns: centerness, iou, objectness, or none.")
    ] = Recipe.quality,
    bins: Annotated[int | None, Option(help="For fcos: a distribution over so many bins a side.")] = Recipe.bins,
    second_assigner: Annotated[
        str | None, Option(help="Rule of a second head, on detached features, that answers without suppression.")
    ] = Recipe.second_assigner,
    second_args: Annotated[list[str] | None, Option("--second-set", help="Argument of the second rule.")] = None,
    second_weights: Annotated[str, Option(help="Of the two heads' losses: equal or progressive.")] = (
        Recipe.second_weights
    ),
    warmup_assigner: Annotated[str | None, Option(help="Rule to begin with.")] = Recipe.warmup_assigner,
    warmup_args: Annotated[list[str] | None, Option("--warmup-set", help="Argument of the rule to begin with.")] = None,
    warmup_share: Annotated[float, Option(help="Share of the steps that it is for.")] = Recipe.warmup_share,
    assign_on: Annotated[
        str | None,
        Option(help="cpu: the rule works there while the GPU computes the network; for rules that never ask it."),
    ] = Recipe.assign_on,
    nms_thresh: Annotated[
        float | None, Option(help="Overlap above which a detection is suppressed; 1: none is.")
    ] = Recipe.nms_thresh,
    anchor_scale: Annotated[float, Option(help="Side of the small retinanet's anchors, in strides.")] = (
        Recipe.anchor_scale
    ),
    min_size: Annotated[int | None, Option(help="Shorter side that images are resized to.")] = Recipe.min_size,
    detections: Annotated[
        int | None, Option(help="Most detections of an image; enough for the fullest image by default.")
    ] = Recipe.detections,
    topk_candidates: Annotated[
        int | None, Option(help="Most candidates of a level before NMS; enough for DETECTIONS by default.")
    ] = Recipe.topk_candidates,
    data: Annotated[
        str, Option(help="digits, trees, trees:K, sky, or a COCO-format folder, or one that holds train and val.")
    ] = Recipe.data,
    val: Annotated[str | None, Option(help="Folder to measure on, if not DATA/val.")] = Recipe.val,
    images: Annotated[int, Option(help="How many images are generated, of digits and trees.")] = Recipe.images,
    flip: Annotated[
        bool, Option("--flip", help="Mirror half of the training images, of sky or a folder.")
    ] = Recipe.flip,
    tile: Annotated[
        int | None,
        Option(help="Train and measure in tiles of so many pixels, for pictures of a folder that don't fit."),
    ] = Recipe.tile,
    overlap: Annotated[
        int | None, Option(help="Pixels that neighbouring tiles share, as the largest object; TILE / 4 by default.")
    ] = Recipe.overlap,
    strict: Annotated[bool, Option("--strict", help="Stop at the first faulty annotation file.")] = Recipe.strict,
    steps: Annotated[int, Option(help="Batches to train on.")] = Recipe.steps,
    batch_size: Annotated[int, Option(help="Images in a batch, over all processes.")] = Recipe.batch_size,
    lr: Annotated[float, Option(help="Highest learning rate.")] = Recipe.lr,
    weight_decay: Annotated[float, Option(help="AdamW's weight decay.")] = Recipe.weight_decay,
    warmup: Annotated[float, Option(help="Share of the steps until the highest learning rate.")] = Recipe.warmup,
    clip: Annotated[float, Option(help="Largest norm of the gradient; 0: no limit.")] = Recipe.clip,
    box_weight: Annotated[float, Option(help="Weight of the box loss in the sum of losses.")] = Recipe.box_weight,
    seed: Annotated[int, Option(help="Of images, weights and order.")] = Recipe.seed,
    precision: Annotated[str, Option(help="32-true, bf16-mixed or 16-mixed.")] = Recipe.precision,
    workers: Annotated[int, Option(help="Processes that load images.")] = Recipe.workers,
    checkpoint_every: Annotated[int, Option(help="Steps between two checkpoints.")] = Recipe.checkpoint_every,
    evaluate_every: Annotated[int, Option(help="Measure every so many steps, keep the best; 0: at the end.")] = (
        Recipe.evaluate_every
    ),
    out: Annotated[
        Path | None, Option(help="Folder of the run; runs/DATA-ASSIGNER-ARGUMENTS-seedSEED by default.")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in OUT; its own settings hold.")] = False,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a detector with a rule. For several GPUs or nodes: torchrun --nproc-per-node N -m labelkit train ..."""
    with plain_errors("Stopped. The same command with --resume goes on from the last checkpoint."):
        # Every option of a recipe bears the name of its field.
        values = {field.name: context.params[field.name] for field in fields(Recipe)}
        for name in ARGUMENTS_OF.values():
            values[name] = parse_arguments(values[name] or [], option_name(name))
        recipe, given = Recipe(**values), _given(context)

        from labelkit import training
        from labelkit.training.devices import trainer_device
        from labelkit.training.folder import holds_run

        folder = out or run_folder(data, assigner, recipe.assigner_args, seed)
        if resume and (holds_run(folder) or ((folder / "config.json").is_file() and not given)):
            recipe = _own(folder, recipe, given)
        options = trainer_device(device) | {"progress": not (quiet or as_json)}
        result = training.train(recipe, folder, resume=resume, **options)
        if as_json:
            print_json({"run": str(folder)} | result)
        elif not quiet:
            from labelkit.evaluation import PRESETS

            title = f"{folder} ({result['seconds']['training']:.0f} s)"
            print_scores(result["scores"], title, list(PRESETS["course"].areas))
            print_positives(result["positives"])
            _print_next(recipe, folder, result.get("pictures"))


def _print_next(recipe: Recipe, folder: Path, pictures: str | None) -> None:
    """Where the logs lie, and the commands that go on from this run."""
    if not speaks():
        return
    from labelkit.training.trainer import LOGS

    tensorboard = f"; tensorboard --logdir {folder / LOGS}" if find_spec("tensorboard") else ""
    print(f"Logs: {folder / LOGS}{tensorboard}\nNext:")
    for command in (
        ["evaluate", str(folder)],
        ["predict", str(folder), pictures or "IMAGES"],
        ["audit", recipe.data, "--run", str(folder)],
    ):
        print(f"  labelkit {list2cmdline(command) if os.name == 'nt' else shlex.join(command)}")


def _given(context: typer.Context) -> list[str]:
    """The fields of the recipe that stand on the command line."""
    sources = {field.name: context.get_parameter_source(field.name) for field in fields(Recipe)}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _own(folder: Path, wanted: Recipe, given: list[str]) -> Recipe:
    """The configuration of the run in `folder`; says which of the options given it leaves aside."""
    from labelkit.training import read_recipe

    there = read_recipe(folder)
    asked, holds = vars(wanted), there.as_dict()
    ignored = [_option(name, asked[name]) for name in given if _differs(asked[name], holds[name])]
    if ignored:
        say(f"{folder} goes on with its own settings; ignored: {', '.join(ignored)}")
    return there


def _differs(asked: Any, holds: Any) -> bool:
    """Of a rule's arguments only those that were given are compared."""
    return holds | asked != holds if isinstance(asked, dict) else asked != holds


def option_name(field: str) -> str:
    """The option of a recipe's field."""
    named = {"assigner_args": "--set", "second_args": "--second-set", "warmup_args": "--warmup-set"}
    return named.get(field, f"--{field.replace('_', '-')}")


def _option(field: str, value: Any) -> str:
    """As it would stand on the command line."""
    name = option_name(field)
    return " ".join(f"{name} {k}={v}" for k, v in value.items()) if isinstance(value, dict) else f"{name} {value}"
