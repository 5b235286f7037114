"""`labelkit audit`: why objects are not found, in one's own data: the output, the anchors, the rule."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from labelkit.audit.building import DETECTORS
from labelkit.cli.output import INTERRUPTED, AsJson, Quiet, plain_errors, print_json, say, speaks
from labelkit.counts import at_least_one
from labelkit.training.spoken import parse_arguments

CONDITION = re.compile(r"(starved|reachable|ceiling)\s*([<>])\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(%?)")
FAILED = 3  # the exit status where --fail-if holds
MANY = 2000  # pictures, from which on several processes count
Option = typer.Option


def audit(
    data: Annotated[str, typer.Argument(help="digits, trees, sky, or a folder or file in a layout that train reads.")],
    images: Annotated[Path | None, Option(help="The folder of the images, where it is not the layout's own.")] = None,
    split: Annotated[
        str | None, Option(help="train, val or test, where the data has several; train by default.")
    ] = None,
    detector: Annotated[str, Option(help=f"{', '.join(DETECTORS)}: torchvision's, as it comes.")] = "retinanet",
    run: Annotated[
        Path | None, Option(help="The detector, the rule and the tiles of a run, in place of DETECTOR.")
    ] = None,
    min_size: Annotated[int | None, Option(help="Shorter side at the input; the detector's own by default.")] = None,
    max_size: Annotated[int | None, Option(help="Longest side at the input; the detector's own by default.")] = None,
    strides: Annotated[str | None, Option(help="Own strides of the levels, in pixels of the input: 4,8,16.")] = None,
    sizes: Annotated[
        str | None,
        Option(help="Own anchors: sides in pixels, levels by a comma, several on one by a +: 16+20,32."),
    ] = None,
    ratios: Annotated[str | None, Option(help="Height over width of own anchors: 0.5,1,2; 1 by default.")] = None,
    tile: Annotated[
        int | None,
        Option(help="Cut the pictures into squares of so many pixels, each an input; as RUN by default, 0: whole."),
    ] = None,
    overlap: Annotated[int | None, Option(help="Pixels that they share; a quarter of the tile by default.")] = None,
    detections: Annotated[int | None, Option(help="Most detections of a picture; the detector's by default.")] = None,
    assigner: Annotated[
        list[str] | None,
        Option(help="Rule, by registry name or package.module:Name, once or more. The detector's own by default."),
    ] = None,
    assigner_args: Annotated[list[str] | None, Option("--set", help="Argument of all of these rules: k=3.")] = None,
    what_if: Annotated[bool, Option(help="Work out what other settings would change.")] = True,
    workers: Annotated[
        int | None, Option(help="Processes that count; as many as there are cores where the pictures are many.")
    ] = None,
    out: Annotated[Path | None, Option(help="Write audit.json and audit.html there as well.")] = None,
    fail_if: Annotated[
        str | None, Option(help='Exit with 3 where it holds: "starved>5%", "reachable<80%", "ceiling<0.95".')
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Why are objects not found? Three causes with their shares, and what would change them. Nothing is trained."""
    with plain_errors(), _may_be_stopped():
        condition = _parse(fail_if)
        from rich.console import Console
        from rich.progress import track

        from labelkit.audit import audit as examine
        from labelkit.audit.front import Anchors, Front
        from labelkit.audit.provenance import made_by
        from labelkit.audit.result import shares
        from labelkit.datasets.box_table import BoxTable
        from labelkit.training import runs
        from labelkit.training.rules import build_assigner

        arguments = parse_arguments(assigner_args or [])
        rules = {name: build_assigner(name, arguments) for name in assigner or []}
        for name, rule in rules.items():
            if not hasattr(rule, "explain"):
                raise ValueError(f"--assigner {name} must be a labelkit.assigners.Assigner: it is asked to explain")
        if arguments and not rules:
            raise ValueError("--set is for the rules that --assigner names, and none is named")
        model, trained = _detector(detector, run, {"min_size": min_size, "max_size": max_size}, sizes or strides)
        if detections is not None:
            at_least_one(detections=detections)
            getattr(model, "roi_heads", model).detections_per_img = detections
        own = None
        if sizes or strides or ratios:
            own = Anchors(*_levels(strides, sizes, ratios))
        front = Front(model, anchors=own, tiles=_tiles(tile, overlap, trained))
        hidden = quiet or as_json or not speaks()
        if out is not None:
            runs.check_writable(out)
        console = Console(stderr=True)
        with console.status(f"reading {data}") if not hidden else nullcontext():
            dataset = _open(data, images, split)
            table = BoxTable.of(dataset)
        if table.report.problems or table.report.notes:
            say(table.report.summary(first=5))
        found = examine(
            dataset,
            front,
            rules,
            what_if=what_if,
            workers=workers or (_cores() if len(table) >= MANY else 1),
            progress=lambda pictures: track(pictures, "pictures", console=console, transient=True, disable=hidden),
        )
        command = shlex.join(["labelkit", *sys.argv[1:]])
        numbers = found.to_json() | {"made_by": made_by(found.table_of_boxes.file, command)}
        if out is not None:
            _write(out, found, numbers, command)
        if as_json:
            print_json(numbers)
        elif not quiet and speaks():
            print(found)
    if numbers["partial"]:
        raise typer.Exit(INTERRUPTED)
    with plain_errors():
        holds = condition is not None and _holds(condition, shares(numbers))
    if holds:
        say(f"{fail_if} holds")
        raise typer.Exit(FAILED)


@contextmanager
def _may_be_stopped() -> Iterator[None]:
    """Ctrl-C while pictures are counted leaves a report; before and after that it just ends."""
    try:
        yield
    except KeyboardInterrupt:
        say("Stopped: nothing was reported.")
        raise typer.Exit(INTERRUPTED) from None


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
    if value is None:
        raise ValueError(f"--fail-if {name}{sign}{limit:g} can't be told: there is no object, or no anchor")
    return value > limit if sign == ">" else value < limit


def _open(data: str, images: Path | None, split: str | None) -> Any:
    """The training part, or the split that was asked for; the course's data is made by its name."""
    from labelkit.datasets.box_table import BoxTable
    from labelkit.training.recipe import Recipe, of_course

    if of_course(data):
        if images is not None:
            raise ValueError(f"--images is for files, {data} is made in memory")
        if split not in (None, "train", "val", "test"):
            raise ValueError(f"--split must be train, val or test, got {split!r}")
        recipe = Recipe(data=data)
        return recipe.val_set() if split in ("val", "test") else recipe.train_set()
    return BoxTable.read(data, images, split)


def _detector(name: str, run: Path | None, sides: dict[str, int | None], own_anchors: str | None) -> tuple[Any, Any]:
    """torchvision's, labelkit's small one, or that of a run; with another input size. And how the run cut pictures."""
    from labelkit.audit.building import build_detector

    given = {key: value for key, value in sides.items() if value is not None}
    if run is None:
        return build_detector(name, **given), None
    if given or own_anchors:
        raise ValueError(
            "--run has its own input size and anchors; leave --min-size, --max-size, --strides, --sizes out"
        )
    from labelkit.training.folder import load_trained

    found = load_trained(run, "last")
    return found.detector, found.recipe.tiling


def _levels(strides: str | None, sizes: str | None, ratios: str | None) -> tuple[Any, Any, Any]:
    """ "4,8", "16+20,32" and "0.5,1" as ([4, 8], [[16, 20], [32]], [0.5, 1])."""
    if ratios and not sizes:
        raise ValueError("--ratios is for the anchors that --sizes names")
    try:
        levels = [[float(side) for side in level.split("+")] for level in sizes.split(",")] if sizes else None
        steps = [float(stride) for stride in strides.split(",")] if strides else None
        return steps, levels, [float(ratio) for ratio in (ratios or "1").split(",")]
    except ValueError:
        raise ValueError(
            f"--strides, --sizes and --ratios must be numbers, got {strides!r}, {sizes!r}, {ratios!r}"
        ) from None


def _tiles(side: int | None, overlap: int | None, trained: Any) -> Any:
    """Those that are asked for, or those of the run, as predict takes them; a side of 0: none."""
    from labelkit.audit import Tiles

    if side is None and trained is not None:
        side, overlap = trained.tile, trained.overlap if overlap is None else overlap
    if not side:
        if overlap is not None:
            raise ValueError("--overlap is for the tiles that --tile asks for")
        return None
    return Tiles(side, side // 4 if overlap is None else overlap)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(folder: Path, found: Any, numbers: dict[str, Any], command: str) -> None:
    from labelkit.training import runs

    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "audit.json", numbers)
    text = found.html(command=command)
    runs.write_whole(folder / "audit.html", lambda file: file.write(text.encode()))
    say(f"wrote {folder / 'audit.json'} and {folder / 'audit.html'}")
