"""`labelkit audit`: why objects are not found, in one's own data: the output, the anchors, the rule."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from labelkit.cli.arguments import parse_arguments
from labelkit.cli.output import AsJson, Quiet, plain_errors, print_json, say, speaks

DETECTORS = ("retinanet", "retinanet-v2", "fcos", "faster-rcnn", "ssd300", "small")
CONDITION = re.compile(r"(starved|reachable|ceiling)\s*([<>])\s*([0-9.]+)\s*(%?)")
FAILED = 3  # the exit status where --fail-if holds
Option = typer.Option


def audit(
    data: Annotated[str, typer.Argument(help="digits, trees, sky, or a folder or file in a layout that train reads.")],
    images: Annotated[Path | None, Option(help="The folder of the images, where it is not the layout's own.")] = None,
    split: Annotated[
        str | None, Option(help="train, val or test, where the data has several; train by default.")
    ] = None,
    detector: Annotated[str, Option(help=f"{', '.join(DETECTORS)}: torchvision's, as it comes.")] = "retinanet",
    run: Annotated[Path | None, Option(help="The detector and the rule of a run, in place of DETECTOR.")] = None,
    min_size: Annotated[int | None, Option(help="Shorter side at the input; the detector's own by default.")] = None,
    max_size: Annotated[int | None, Option(help="Longest side at the input; the detector's own by default.")] = None,
    sizes: Annotated[
        str | None,
        Option(help="Own anchors: sides in pixels, levels by a comma, several on one by a +: 16+20,32."),
    ] = None,
    ratios: Annotated[str, Option(help="Height over width of own anchors: 0.5,1,2.")] = "1",
    detections: Annotated[int | None, Option(help="Most detections of a picture; the detector's by default.")] = None,
    assigner: Annotated[
        list[str] | None,
        Option(help="Rule, by registry name or package.module:Name, once or more. The detector's own by default."),
    ] = None,
    assigner_args: Annotated[list[str] | None, Option("--set", help="Argument of all of these rules: k=3.")] = None,
    what_if: Annotated[bool, Option(help="Work out what other settings would change.")] = True,
    out: Annotated[Path | None, Option(help="Write audit.json there as well.")] = None,
    fail_if: Annotated[
        str | None, Option(help='Exit with 3 where it holds: "starved>5%", "reachable<80%", "ceiling<0.95".')
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Why are objects not found? Three causes with their shares, and what would change them. Nothing is trained."""
    with plain_errors():
        condition = _parse(fail_if)
        from rich.console import Console
        from rich.progress import track

        from labelkit.audit import Front
        from labelkit.audit import audit as examine
        from labelkit.audit.result import shares
        from labelkit.training.rules import build_assigner

        arguments = parse_arguments(assigner_args or [])
        rules = {name: build_assigner(name, arguments) for name in assigner or []}
        for name, rule in rules.items():
            if not hasattr(rule, "explain"):
                raise ValueError(f"--assigner {name} must be a labelkit.assigners.Assigner: it is asked to explain")
        if arguments and not rules:
            raise ValueError("--set is for the rules that --assigner names, and none is named")
        model = _detector(detector, run, {"min_size": min_size, "max_size": max_size}, sizes, ratios)
        front = Front(model) if detections is None else _with_detections(model, detections)
        dataset = _open(data, images, split)
        hidden = quiet or as_json or not speaks()
        found = examine(
            dataset,
            front,
            rules,
            what_if=what_if,
            progress=lambda pictures: track(
                pictures, "pictures", console=Console(stderr=True), transient=True, disable=hidden
            ),
        )
        numbers = found.to_json()
        if numbers["faults"]:
            say(f"Faults in the annotations: {numbers['faults']}")
        if out is not None:
            _write(out, numbers)
        if as_json:
            print_json(numbers)
        elif not quiet and speaks():
            print(found)
    if condition is not None and _holds(condition, shares(numbers)):
        say(f"{fail_if} holds")
        raise typer.Exit(FAILED)


def _parse(text: str | None) -> tuple[str, str, float] | None:
    if text is None:
        return None
    found = CONDITION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'--fail-if must be like "starved>5%", "reachable<80%" or "ceiling<0.95", got {text!r}')
    name, sign, number, per_cent = found.groups()
    return name, sign, float(number) / (100 if per_cent else 1)


def _holds(condition: tuple[str, str, float], values: dict[str, float | None]) -> bool:
    name, sign, limit = condition
    value = values[name]
    return value is not None and (value > limit if sign == ">" else value < limit)


def _open(data: str, images: Path | None, split: str | None) -> Any:
    """The training part, or the split that was asked for; the course's data is made by its name."""
    from labelkit.datasets.layouts import find_layout, open_split
    from labelkit.training.recipe import COURSE_DATA, Recipe

    if data.partition(":")[0] in COURSE_DATA:
        if images is not None:
            raise ValueError(f"--images is for files, {data} is made in memory")
        recipe = Recipe(data=data)
        return recipe.val_set() if split in ("val", "test") else recipe.train_set()
    layout = find_layout(data, images)
    return open_split(layout, split if split or len(layout.splits) == 1 else "train")


def _detector(name: str, run: Path | None, sides: dict[str, int | None], sizes: str | None, ratios: str) -> Any:
    """torchvision's, labelkit's small one, or that of a run; with another input size, other anchors."""
    given = {key: value for key, value in sides.items() if value is not None}
    for key, value in given.items():
        if value < 1:
            raise ValueError(f"{key} must be at least 1, got {value}")
    if run is not None:
        if given or sizes:
            raise ValueError("--run has its own input size and anchors; leave --min-size, --max-size, --sizes out")
        from labelkit.training import load_detector

        return load_detector(run, "last")[0]
    if name not in DETECTORS:
        raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {name!r}")
    if name == "ssd300" and given:
        raise ValueError("an SSD300 has an input of 300 x 300; leave --min-size and --max-size out")
    if sizes is not None and name not in ("retinanet", "faster-rcnn"):
        raise ValueError(f"--sizes is for retinanet and faster-rcnn, not {name}")
    return _build(name, given, None if sizes is None else _anchors(sizes, ratios))


def _build(name: str, options: dict[str, Any], anchors: Any) -> Any:
    from torchvision.models import detection

    from labelkit.detectors import retinanet

    if name == "small":
        return retinanet(1, **options)
    if anchors is not None:
        options = options | {("rpn_anchor_generator" if name == "faster-rcnn" else "anchor_generator"): anchors}
    build = {
        "retinanet": detection.retinanet_resnet50_fpn,
        "retinanet-v2": detection.retinanet_resnet50_fpn_v2,
        "fcos": detection.fcos_resnet50_fpn,
        "faster-rcnn": detection.fasterrcnn_resnet50_fpn,
        "ssd300": detection.ssd300_vgg16,
    }[name]
    return build(weights=None, weights_backbone=None, **options)


def _anchors(sizes: str, ratios: str) -> Any:
    """ "16+20,32,64" as an anchor generator of three levels."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    try:
        levels = tuple(tuple(float(side) for side in level.split("+")) for level in sizes.split(","))
        shapes = tuple(float(ratio) for ratio in ratios.split(","))
    except ValueError:
        raise ValueError(f"--sizes and --ratios must be numbers, got {sizes!r} and {ratios!r}") from None
    if min((*(side for level in levels for side in level), *shapes)) <= 0:
        raise ValueError(f"--sizes and --ratios must be positive, got {sizes!r} and {ratios!r}")
    return AnchorGenerator(levels, (shapes,) * len(levels))


def _with_detections(model: Any, detections: int) -> Any:
    from labelkit.audit import Front

    if detections < 1:
        raise ValueError(f"detections must be at least 1, got {detections}")
    getattr(model, "roi_heads", model).detections_per_img = detections
    return Front(model)


def _write(folder: Path, numbers: dict[str, Any]) -> None:
    from labelkit.training import runs

    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "audit.json", numbers)
